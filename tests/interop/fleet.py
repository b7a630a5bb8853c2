"""Fleet provisioning as devices meet it: by the AWS IoT Device SDK's identity client, and by a plain
MQTT client that speaks JSON and CBOR. Arguments: the port, the server CA's file, a folder. Prints
`ok` at the end; fails by assertion."""

import json
import sys
import threading
import time
from concurrent.futures import Future

import boto3
import paho.mqtt.client as mqtt
from awscrt import cbor
from awscrt.mqtt import QoS
from awsiot import iotidentity, mqtt_connection_builder
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PORT, CA, FOLDER = int(sys.argv[1]), sys.argv[2], sys.argv[3]
ROLE = "arn:aws:iam::123456789012:role/Provisioning"
HOOK = "arn:aws:lambda:eu-west-1:123456789012:function:"
iot = boto3.client("iot")

TEMPLATE = {
    "Parameters": {
        "SerialNumber": {"Type": "String"},
        "Site": {"Type": "String", "Default": "a"},
        "AWS::IoT::Certificate::Id": {"Type": "String"},
    },
    "Mappings": {"Sites": {"a": {"Url": "https://a.example"}, "b": {"Url": "https://b.example"}}},
    "Resources": {
        "thing": {
            "Type": "AWS::IoT::Thing",
            "Properties": {
                "ThingName": {"Fn::Join": ["-", ["pump", {"Ref": "SerialNumber"}]]},
                "AttributePayload": {"site": {"Ref": "Site"}},
            },
            "OverrideSettings": {"AttributePayload": "REPLACE"},
        },
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"},
        },
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "device"}},
    },
    "DeviceConfiguration": {"Url": {"Fn::FindInMap": ["Sites", {"Ref": "Site"}, "Url"]}},
}
WIDE = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}'


def template(name, enabled=True, **more):
    iot.create_provisioning_template(
        templateName=name, templateBody=json.dumps(TEMPLATE), provisioningRoleArn=ROLE, enabled=enabled, **more
    )


def identity(name, made):
    for part, text in (("pem", made["certificatePem"]), ("key", made["keyPair"]["PrivateKey"])):
        with open(f"{FOLDER}/{name}.{part}", "w") as file:
            file.write(text)


class Plain:
    """A plain MQTT 3.1.1 client: asks, and waits for either answer."""

    def __init__(self, name, client_id):
        self.answers, self.subscribed, self.connected = {}, Future(), Future()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv311)
        self.client.tls_set(CA, f"{FOLDER}/{name}.pem", f"{FOLDER}/{name}.key")
        self.client.on_connect = lambda *_: self.connected.done() or self.connected.set_result(True)
        self.client.on_subscribe = lambda *_: self.subscribed.set_result(True)
        self.client.on_message = self.message
        self.client.connect("localhost", PORT)
        self.client.loop_start()
        self.connected.result(10)

    def message(self, _client, _data, message):
        self.answers[message.topic].set_result(message.payload)

    def ask(self, topic, payload):
        answer = Future()
        for ending in ("accepted", "rejected"):
            self.answers[f"{topic}/{ending}"] = Future()
            self.answers[f"{topic}/{ending}"].add_done_callback(
                lambda future, ending=ending: answer.set_result((ending, future.result()))
            )
        self.subscribed = Future()
        self.client.subscribe([(f"{topic}/accepted", 1), (f"{topic}/rejected", 1)])
        self.subscribed.result(10)
        self.client.publish(topic, payload, 1)
        return answer.result(20)

    def json(self, topic, body):
        ending, payload = self.ask(f"{topic}/json", json.dumps(body) if body is not None else b"")
        return ending, json.loads(payload)

    def cbor(self, topic, body):
        encoder = cbor.AwsCborEncoder()
        encoder.write_data_item(body)
        ending, payload = self.ask(f"{topic}/cbor", encoder.get_encoded_data())
        return ending, cbor.AwsCborDecoder(payload).pop_next_data_item()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def refused(answer, status, code):
    ending, body = answer
    assert ending == "rejected", answer
    assert (body["statusCode"], body["errorCode"]) == (status, code), body
    assert body["errorMessage"], body


def provision(name):
    return f"$aws/provisioning-templates/{name}/provision"


def csr(name):
    key = ec.generate_private_key(ec.SECP256R1())
    with open(f"{FOLDER}/{name}.key", "wb") as file:
        file.write(key.private_bytes(*(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                       serialization.NoEncryption())))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def may_connect(name, client_id):
    plain = Plain(name, client_id)
    plain.close()


# By claim: the guide's way, with the SDK's identity client.
iot.create_policy(policyName="device", policyDocument=WIDE)
claim = iot.create_keys_and_certificate(setAsActive=True)
identity("claim", claim)
iot.attach_policy(policyName="device", target=claim["certificateArn"])
template("pumps")
connection = mqtt_connection_builder.mtls_from_path(
    endpoint="localhost", port=PORT, cert_filepath=f"{FOLDER}/claim.pem", pri_key_filepath=f"{FOLDER}/claim.key",
    ca_filepath=CA, client_id="sdk", clean_session=True,
)
connection.connect().result(10)
client = iotidentity.IotIdentityClient(connection)


def sdk(subscribe, publish, request_type, request):
    answer = Future()
    for kind in ("accepted", "rejected"):
        done, _ = getattr(client, f"subscribe_to_{subscribe}_{kind}")(
            request=request_type, qos=QoS.AT_LEAST_ONCE,
            callback=lambda response, kind=kind: answer.set_result((kind, response)))
        done.result(10)
    getattr(client, f"publish_{publish}")(request, QoS.AT_LEAST_ONCE).result(10)
    return answer.result(20)


kind, made = sdk("create_keys_and_certificate", "create_keys_and_certificate",
                 iotidentity.CreateKeysAndCertificateSubscriptionRequest(),
                 iotidentity.CreateKeysAndCertificateRequest())
assert kind == "accepted", made.__dict__
assert made.private_key.startswith("-----BEGIN RSA PRIVATE KEY-----"), made.private_key[:40]
assert len(made.certificate_ownership_token) <= 512
described = iot.describe_certificate(certificateId=made.certificate_id)["certificateDescription"]
assert described["status"] == "PENDING_ACTIVATION", described
kind, done = sdk("register_thing", "register_thing",
                 iotidentity.RegisterThingSubscriptionRequest(template_name="pumps"),
                 iotidentity.RegisterThingRequest(template_name="pumps",
                                                  certificate_ownership_token=made.certificate_ownership_token,
                                                  parameters={"SerialNumber": "1", "Site": "b"}))
assert kind == "accepted", done.__dict__
assert done.thing_name == "pump-1" and done.device_configuration == {"Url": "https://b.example"}, done.__dict__
identity("pump-1", {"certificatePem": made.certificate_pem, "keyPair": {"PrivateKey": made.private_key}})
may_connect("pump-1", "pump-1")
described = iot.describe_certificate(certificateId=made.certificate_id)["certificateDescription"]
assert described["status"] == "ACTIVE" and described["certificateMode"] == "DEFAULT", described
assert described["validity"]["notAfter"].isoformat().startswith("2049-12-31T23:59:59"), described
assert iot.list_thing_principals(thingName="pump-1")["principals"] == [described["certificateArn"]]
leaf = x509.load_pem_x509_certificate(made.certificate_pem.encode())
assert leaf.subject.rfc4514_string() == "CN=AWS IoT Certificate", leaf.subject
unit = "Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US"
assert [a.value for a in leaf.issuer] == [unit], leaf.issuer

# The same token again: refused, and nothing is made.
token = made.certificate_ownership_token
kind, again = sdk("register_thing", "register_thing",
                  iotidentity.RegisterThingSubscriptionRequest(template_name="pumps"),
                  iotidentity.RegisterThingRequest(template_name="pumps", certificate_ownership_token=token,
                                                   parameters={"SerialNumber": "2"}))
assert kind == "rejected" and again.error_code == "InvalidCertificateOwnershipToken", again.__dict__
assert again.status_code == 400
connection.disconnect().result(10)

# A plain client, in both formats, with a request of its own.
plain = Plain("claim", "plain")
for number, speak in (("3", plain.json), ("4", plain.cbor)):
    name = f"pump-{number}"
    ending, made = speak("$aws/certificates/create-from-csr", {"certificateSigningRequest": csr(name)})
    assert ending == "accepted" and "privateKey" not in made, made
    with open(f"{FOLDER}/{name}.pem", "w") as file:
        file.write(made["certificatePem"])
    ending, done = speak(provision("pumps"), {
        "certificateOwnershipToken": made["certificateOwnershipToken"], "parameters": {"SerialNumber": number}})
    assert (ending, done["thingName"]) == ("accepted", name), done
    assert done["deviceConfiguration"] == {"Url": "https://a.example"}, done
    may_connect(name, name)
ending, made = plain.json("$aws/certificates/create", None)
assert ending == "accepted", made
first = made["certificateOwnershipToken"]

# What is wrong is told, and the token stays good.
refused(plain.json(provision("pumps"), {"parameters": {}}), 400, "InvalidCertificateOwnershipToken")
refused(plain.json(provision("pumps"), {"certificateOwnershipToken": "x" * 128}), 400,
        "InvalidCertificateOwnershipToken")
refused(plain.json(provision("nothing"), {"certificateOwnershipToken": first}), 404, "ResourceNotFound")
refused(plain.json(provision("pumps"), {"certificateOwnershipToken": first}), 400, "InvalidParameters")
refused(plain.json(provision("pumps"), {"certificateOwnershipToken": first, "parameters": {"SerialNumber": 7}}),
        400, "InvalidParameters")
refused(plain.json("$aws/certificates/create-from-csr", {"certificateSigningRequest": "rubbish"}), 400, "InvalidCsr")
ending, payload = plain.ask("$aws/certificates/create/json", b"{nonsense")
assert ending == "rejected" and json.loads(payload)["errorCode"] == "InvalidPayload", payload
ending, payload = plain.ask("$aws/certificates/create/cbor", b"\xa1\x61")
assert ending == "rejected", payload
assert cbor.AwsCborDecoder(payload).pop_next_data_item()["errorCode"] == "InvalidPayload"
template("asleep", enabled=False)
refused(plain.json(provision("asleep"), {"certificateOwnershipToken": first}), 403, "AccessDenied")

# Hooks: one that allows and overrides, one that denies, rubbish, one that is too slow, one that is nowhere.
for name in ("allow", "deny", "rubbish", "slow", "nowhere", "web"):
    template(f"hook-{name}", preProvisioningHook={"payloadVersion": "2020-04-01", "targetArn": HOOK + name})
asked = {"certificateOwnershipToken": first, "parameters": {"SerialNumber": "5", "Site": "a"}}
for name in ("deny", "rubbish", "slow", "nowhere"):
    start = time.monotonic()
    refused(plain.json(provision(f"hook-{name}"), asked), 403, "AccessDenied")
    assert time.monotonic() - start < 8
ending, done = plain.json(provision("hook-allow"), asked)
assert (ending, done["thingName"]) == ("accepted", "pump-5"), done
assert done["deviceConfiguration"] == {"Url": "https://b.example"}, done
with open(f"{FOLDER}/event.json") as file:
    event = json.load(file)
assert event["parameters"] == asked["parameters"] and event["clientId"] == "plain", event
assert event["claimCertificateId"] == claim["certificateId"], event
assert event["templateArn"].endswith(":provisioningtemplate/hook-allow"), event
assert event["certificateId"] and event["certificatePem"].startswith("-----BEGIN CERTIFICATE-----")
ending, made = plain.json("$aws/certificates/create-from-csr", {"certificateSigningRequest": csr("pump-7")})
ending, done = plain.json(provision("hook-web"), {
    "certificateOwnershipToken": made["certificateOwnershipToken"], "parameters": {"SerialNumber": "7"}})
assert (ending, done["thingName"]) == ("accepted", "pump-7"), done
plain.close()

# By a trusted user: five minutes, one template, in no list.
before = {c["certificateId"] for c in iot.list_certificates(pageSize=250)["certificates"]}
user = iot.create_provisioning_claim(templateName="pumps")
left = user["expiration"].timestamp() - time.time()
assert 290 < left <= 301, left
identity("user", user)
assert {c["certificateId"] for c in iot.list_certificates(pageSize=250)["certificates"]} == before
trusted = Plain("user", "whoever")
ending, made = trusted.json("$aws/certificates/create", {})
assert ending == "accepted", made
ending, done = trusted.json(provision("pumps"), {
    "certificateOwnershipToken": made["certificateOwnershipToken"], "parameters": {"SerialNumber": "6"}})
assert (ending, done["thingName"]) == ("accepted", "pump-6"), done
gone = threading.Event()
trusted.client.on_disconnect = lambda *_: gone.set()
trusted.client.publish(provision("hook-allow") + "/json", "{}", 1)
assert gone.wait(10), "a claim may ask for its own template only"
trusted.close()
print("ok")
