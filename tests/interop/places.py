"""Two accounts in two Regions each, side by side in one sandbox: devices are provisioned in their own
place, connect there and nowhere else, and hear nothing of the others. Arguments: `set-up` or `again`,
the control plane's URL, the MQTT port, the port that belongs to account 222222222222 in us-east-1 alone,
the server CA's file, a folder. Prints `ok` at the end; fails by assertion."""

import datetime
import json
import os
import queue
import socket
import sys
import time
from types import SimpleNamespace

import boto3
import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from paho.mqtt.enums import CallbackAPIVersion

WHAT, URL, PORT, OWN_PORT, CA, FOLDER = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6]
WAIT = 15
ROLE = "arn:aws:iam::123456789012:role/Provisioning"
WIDE = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}'
PARAMETERS = ("CommonName", "CertificateId")
JITP = {
    "Parameters": {f"AWS::IoT::Certificate::{name}" if name != "CertificateId" else "AWS::IoT::Certificate::Id": {"Type": "String"} for name in PARAMETERS},
    "Resources": {
        "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"}}},
        "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "wide"}},
    },
}
FLEET = {
    "Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
    "Resources": {
        "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "SerialNumber"}}},
        "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "wide"}},
    },
}

# This machine's resolver may not know that names below `localhost` are its own (RFC 6761 6.3).
lookup = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **named: lookup("127.0.0.1" if str(host).endswith(".localhost") else host, *more, **named)


def pem(thing):
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(serialization.Encoding.PEM)
    return thing.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def certificate(name, issuer=None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    by, signer = issuer or (None, key)
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(by.subject if by else subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    if by:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    return builder.sign(signer, hashes.SHA256()), key


def write(name, made):
    for part, thing in zip(("pem", "key"), made):
        with open(f"{FOLDER}/{name}.{part}", "wb") as file:
            file.write(thing if isinstance(thing, bytes) else pem(thing))


class Place:
    def __init__(self, account, region, protocol):
        self.account, self.region, self.protocol = account, region, protocol
        self.name = f"{account}-{region}"
        session = boto3.session.Session(aws_access_key_id=account, aws_secret_access_key="x", region_name=region)
        client = lambda service: session.client(service, endpoint_url=URL)
        self.iot, self.data, self.logs = client("iot"), client("iot-data"), client("logs")
        self.host = self.iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
        self.port = OWN_PORT if (account, region) == ("222222222222", "us-east-1") else PORT

    def set_up(self):
        self.iot.create_policy(policyName="wide", policyDocument=WIDE)
        self.iot.create_provisioning_template(templateName="jitp", type="JITP", templateBody=json.dumps(JITP), provisioningRoleArn=ROLE, enabled=True)
        self.iot.create_provisioning_template(templateName="fleet", templateBody=json.dumps(FLEET), provisioningRoleArn=ROLE, enabled=True)
        ca = certificate(f"CA of {self.name}")
        self.iot.register_ca_certificate(
            caCertificate=pem(ca[0]).decode(), certificateMode="SNI_ONLY", setAsActive=True, allowAutoRegistration=True, registrationConfig={"templateName": "jitp"}
        )
        write(self.name, certificate("pump", ca))

    def things(self):
        return [thing["thingName"] for thing in self.iot.list_things()["things"]]

    def failures(self):
        # The last ones, of this place alone.
        events = self.logs.filter_log_events(logGroupName="AWSIotLogsV2", filterPattern='{ $.status = "Failure" }')["events"]
        return [json.loads(event["message"]) for event in events]


def client(place, identity, client_id="pump", at=None):
    """A client with a place's identity at that place or another; `None` when it does not get in."""
    at = at or place
    happened, messages = queue.Queue(), queue.Queue()
    one = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=place.protocol, reconnect_on_failure=False)
    one.tls_set(ca_certs=CA, certfile=f"{FOLDER}/{identity}.pem", keyfile=f"{FOLDER}/{identity}.key")
    one.on_connect = lambda c, u, flags, code, properties: happened.put("in" if code == 0 else "out")
    one.on_disconnect = lambda *_: happened.put("out")
    one.on_subscribe = lambda *_: happened.put("subscribed")
    one.on_message = lambda c, u, message: messages.put((message.topic, message.payload))
    try:
        one.connect(at.host, at.port, keepalive=30)
    except OSError:
        return None
    one.loop_start()
    if happened.get(timeout=WAIT) != "in":
        one.loop_stop()
        return None
    one.messages, one.happened = messages, happened
    return one


def listen(one, topic):
    one.subscribe(topic, qos=1)
    assert one.happened.get(timeout=WAIT) == "subscribed"


def patiently(place, identity, **more):
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        one = client(place, identity, **more)
        if one:
            return one
        time.sleep(0.2)
    raise AssertionError(f"{identity} never got in at {place.host}")


def fleet(place):
    """A claim asks for a certificate, and is provisioned with it, in its own place."""
    claim = place.iot.create_provisioning_claim(templateName="fleet")
    write("claim", (claim["certificatePem"].encode(), claim["keyPair"]["PrivateKey"].encode()))
    one = client(place, "claim", client_id="claim")
    made = ask(one, "$aws/certificates/create/json", {})
    done = ask(one, "$aws/provisioning-templates/fleet/provision/json", {
        "certificateOwnershipToken": made["certificateOwnershipToken"], "parameters": {"SerialNumber": "fleet-1"},
    })
    assert done["thingName"] == "fleet-1", done
    write("fleet", (made["certificatePem"].encode(), made["privateKey"].encode()))
    assert client(place, "fleet", client_id="fleet-1"), "what was provisioned does not connect"


def ask(one, topic, body):
    for ending in ("accepted", "rejected"):
        listen(one, f"{topic}/{ending}")
    one.publish(topic, json.dumps(body), qos=1)
    heard, answer = one.messages.get(timeout=WAIT)
    assert heard == f"{topic}/accepted", (heard, answer)
    return json.loads(answer)


places = [
    Place(account, region, protocol)
    for account, region, protocol in (
        ("123456789012", "eu-west-1", mqtt.MQTTv311), ("123456789012", "us-east-1", mqtt.MQTTv5),
        ("222222222222", "eu-west-1", mqtt.MQTTv5), ("222222222222", "us-east-1", mqtt.MQTTv311),
    )
]
assert [place.host for place in places] == [
    "localhost", "123456789012-ats.iot.us-east-1.localhost", "222222222222-ats.iot.eu-west-1.localhost", "localhost",
]

if WHAT == "set-up":
    for place in places:
        place.set_up()
    for place in places:
        assert place.things() == []
        assert client(place, place.name) is None, "let in before it is known"
        patiently(place, place.name)
        assert place.things() == ["pump"], place.name
else:
    for place in places:
        assert client(place, place.name), f"{place.name} is forgotten"

# Nobody gets in where it is not registered, and nothing is made of it there.
for place in places:
    for other in places:
        if other is not place:
            assert client(place, place.name, at=other) is None, f"{place.name} got in at {other.name}"
            last = other.failures()[-1]
            assert last["accountId"] == other.account and last["reason"] == "AUTHORIZATION_FAILURE", last
            assert place.name in last["details"], last
            assert "pump" in other.things()

# One client id is connected in every place at once; each hears its own place alone.
ones = [client(place, place.name) for place in places]
for one in ones:
    listen(one, "t")
for place, one in zip(places, ones):
    one.publish("t", place.name, qos=1)
    place.data.publish(topic="t", qos=1, payload=f"from the cloud of {place.name}")
for place, one in zip(places, ones):
    heard = {one.messages.get(timeout=WAIT)[1].decode() for _ in range(2)}
    assert heard == {place.name, f"from the cloud of {place.name}"}, heard
    assert one.is_connected() and one.messages.empty()
    assert place.iot.get_thing_connectivity_data(thingName="pump")["connected"]

if WHAT == "set-up":
    fleet(places[1])
    assert ["fleet-1" in place.things() for place in places] == [False, True, False, False]

# A place that nobody has called has no endpoint.
nowhere = SimpleNamespace(host="333333333333-ats.iot.us-east-1.localhost", port=PORT)
assert client(places[0], places[0].name, at=nowhere) is None
assert "333333333333-ats.iot.us-east-1.localhost" in places[0].failures()[-1]["details"]
print("ok", flush=True)
os._exit(0)
