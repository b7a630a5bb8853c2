"""Just-in-time registration and provisioning, with the CA's certificate in the chain and without.
Arguments: the port, the server CA's file, a folder. Prints `ok` at the end; fails by assertion."""

import datetime
import json
import sys
import time
from concurrent.futures import Future, TimeoutError

import boto3
import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PORT, CA, FOLDER = int(sys.argv[1]), sys.argv[2], sys.argv[3]
iot = boto3.client("iot")
WIDE = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}'
NOW = datetime.datetime.now(datetime.timezone.utc)


def certificate(name, issuer=None, ca=False):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer[0].subject if issuer else subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOW - datetime.timedelta(hours=1)).not_valid_after(NOW + datetime.timedelta(days=9))
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    made = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    return made, key


def pem(made):
    return made.public_bytes(serialization.Encoding.PEM).decode()


def identity(name, made, key, chain=()):
    with open(f"{FOLDER}/{name}.pem", "w") as file:
        file.write("".join(pem(one) for one in (made, *chain)))
    with open(f"{FOLDER}/{name}.key", "wb") as file:
        file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                     serialization.NoEncryption()))


def client(name, topic=None):
    connected, subscribed, messages = Future(), Future(), []
    made = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv311, reconnect_on_failure=False)
    made.tls_set(CA, f"{FOLDER}/{name}.pem", f"{FOLDER}/{name}.key")
    made.on_connect = lambda c, *_: (connected.done() or connected.set_result(1), topic and c.subscribe(topic, 1))
    made.on_subscribe = lambda *_: subscribed.done() or subscribed.set_result(1)
    made.on_message = lambda _c, _d, message: messages.append(message)
    return made, connected, subscribed, messages


def admitted(name):
    made, connected, _, _ = client(name)
    try:
        made.connect("localhost", PORT)
        made.loop_start()
        connected.result(1.5)
        return True
    except (TimeoutError, OSError):
        return False
    finally:
        made.loop_stop()
        made.disconnect()


def status(made):
    id = made.fingerprint(hashes.SHA256()).hex()
    return iot.describe_certificate(certificateId=id)["certificateDescription"]["status"]


iot.create_policy(policyName="wide", policyDocument=WIDE)
ears = iot.create_keys_and_certificate(setAsActive=True)
iot.attach_policy(policyName="wide", target=ears["certificateArn"])
with open(f"{FOLDER}/ears.pem", "w") as file:
    file.write(ears["certificatePem"])
with open(f"{FOLDER}/ears.key", "w") as file:
    file.write(ears["keyPair"]["PrivateKey"])
listener, _, subscribed, heard = client("ears", "$aws/events/certificates/registered/+")
listener.connect("localhost", PORT)
listener.loop_start()
subscribed.result(10)

# Registration only: the event tells whoever decides, and the device waits until they have.
jitr = certificate("JITR CA", ca=True)
ca_id = iot.register_ca_certificate(caCertificate=pem(jitr[0]), certificateMode="SNI_ONLY", setAsActive=True,
                                    allowAutoRegistration=True)["certificateId"]
leaf, key = certificate("pump-1", jitr)
identity("pump-1", leaf, key)
assert not admitted("pump-1")
assert status(leaf) == "PENDING_ACTIVATION"
for _ in range(100):
    if heard:
        break
    time.sleep(0.05)
event, id = json.loads(heard[0].payload), leaf.fingerprint(hashes.SHA256()).hex()
assert heard[0].topic == f"$aws/events/certificates/registered/{ca_id}", heard[0].topic
assert (event["certificateId"], event["caCertificateId"]) == (id, ca_id), event
assert (event["certificateStatus"], event["awsAccountId"]) == ("PENDING_ACTIVATION", "123456789012"), event
assert abs(event["timestamp"] / 1000 - time.time()) < 60
assert event["certificateRegistrationTimestamp"] == str(event["timestamp"]), event
count = len(heard)
assert not admitted("pump-1") and len(heard) > count
arn = iot.describe_certificate(certificateId=id)["certificateDescription"]["certificateArn"]
iot.attach_policy(policyName="wide", target=arn)
iot.update_certificate(certificateId=id, newStatus="ACTIVE")
assert admitted("pump-1")

# Provisioning: with the CA's certificate in the chain, and without it.
iot.create_provisioning_template(
    templateName="jitp", type="JITP", enabled=True, provisioningRoleArn="arn:aws:iam::123456789012:role/JITP",
    templateBody=json.dumps({
        "Parameters": {"AWS::IoT::Certificate::CommonName": {"Type": "String"},
                       "AWS::IoT::Certificate::Id": {"Type": "String"}},
        "Resources": {
            "thing": {"Type": "AWS::IoT::Thing",
                      "Properties": {"ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"}}},
            "certificate": {"Type": "AWS::IoT::Certificate",
                            "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
            "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "wide"}},
        },
    }))
jitp = certificate("JITP CA", ca=True)
iot.register_ca_certificate(caCertificate=pem(jitp[0]), certificateMode="SNI_ONLY", setAsActive=True,
                            allowAutoRegistration=True, registrationConfig={"templateName": "jitp"})
for name, chain in (("pump-2", (jitp[0],)), ("pump-3", ())):
    leaf, key = certificate(name, jitp)
    identity(name, leaf, key, chain)
    assert not admitted(name)
    for _ in range(100):
        if status(leaf) == "ACTIVE":
            break
        time.sleep(0.05)
    assert admitted(name), name
    assert len(iot.list_thing_principals(thingName=name)["principals"]) == 1
# One of the CA's name with another key is nobody.
impostor = certificate("JITP CA", ca=True)
leaf, key = certificate("pump-4", impostor)
identity("pump-4", leaf, key, (impostor[0],))
assert not admitted("pump-4")
listener.loop_stop()
print("ok")
