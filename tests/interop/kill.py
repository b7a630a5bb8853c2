"""What the sandbox has acknowledged is there after `kill -9`: it is killed at random moments while everything that
it keeps is made, changed and removed, started again, and asked. Arguments: the program, an empty folder, how
many kills, a seed. Prints `ok` and counts at the end; fails by assertion."""

import datetime
import json
import os
import pathlib
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import Future

import boto3
import paho.mqtt.client as mqtt
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROGRAM, FOLDER, KILLS, SEED = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
STATE, BUCKETS = FOLDER / "state", FOLDER / "buckets"
ROLE = "arn:aws:iam::123456789012:role/Provisioning"
WIDE = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}'
NARROW = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}'
chance = random.Random(SEED)


def template(source):
    """A template whose thing is named by `source`, and whose certificate by `AWS::IoT::Certificate::Id`."""
    return json.dumps({
        "Parameters": {source: {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
        "Resources": {
            "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": source}}},
            "certificate": {"Type": "AWS::IoT::Certificate",
                            "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
            "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "wide"}},
        },
    })


BY_REQUEST = json.dumps({
    "Parameters": {"Name": {"Type": "String"}, "CSR": {"Type": "String"}},
    "Resources": {
        "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Name"}}},
        "certificate": {"Type": "AWS::IoT::Certificate",
                        "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}, "Status": "ACTIVE"}},
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "wide"}},
    },
})
BY_NAME = json.dumps({
    "Parameters": {"Name": {"Type": "String"}},
    "Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Name"}}}},
})


class Key:
    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())

    def pem(self):
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption()).decode()

    def csr(self, name):
        request = x509.CertificateSigningRequestBuilder().subject_name(subject(name))
        return text(request.sign(self.key, hashes.SHA256()))


def subject(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def text(made):
    return made.public_bytes(serialization.Encoding.PEM).decode()


class Authority:
    """A CA of the user's own."""

    def __init__(self, name):
        self.name, self.own = name, Key()
        self.pem = self.sign(name, self.own, x509.BasicConstraints(ca=True, path_length=None))

    def sign(self, name, key, basic=x509.BasicConstraints(ca=False, path_length=None)):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(subject(name)).issuer_name(subject(self.name))
        builder = builder.public_key(key.key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=30)).add_extension(basic, critical=True)
        return text(builder.sign(self.own.key, hashes.SHA256()))


class Sandbox:
    def start(self):
        self.process = subprocess.Popen(
            [PROGRAM, "sandbox", "serve", "--control", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--jitp-delay", "0s",
             "--s3", str(BUCKETS), "--state", str(STATE)],
            env={**os.environ, "NAMEPLATE_REGION": "eu-west-1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while True:
            try:
                info = json.loads((STATE / "running.json").read_text())
                if info["pid"] == self.process.pid:
                    break
            except (OSError, ValueError):
                pass
            assert self.process.poll() is None and time.monotonic() < end, "the sandbox does not start"
            time.sleep(0.01)
        self.port = info["mqtt_port"]
        config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=5)
        common = dict(endpoint_url=info["control_url"], config=config, region_name="eu-west-1",
                      aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="x")
        self.iot, self.data = boto3.client("iot", **common), boto3.client("iot-data", **common)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Link:
    """One MQTT connection."""

    def __init__(self, files, client_id, clean=True, expect=None):
        self.answers, self.subscribed, self.connected, self.heard = {}, Future(), Future(), []
        self.lock, self.expect, self.complete = threading.Lock(), expect, threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, clean_session=clean,
                                  protocol=mqtt.MQTTv311, reconnect_on_failure=False)
        context = ssl.create_default_context(cafile=str(STATE / "server-ca.pem"))
        context.load_cert_chain(*files)
        self.client.tls_set_context(context)
        self.client.on_connect = lambda _c, _d, flags, code, _p: self.settle(self.connected, (code, flags))
        self.client.on_disconnect = lambda *_: self.settle(self.connected, None)
        self.client.on_subscribe = lambda *_: self.settle(self.subscribed, True)
        self.client.on_message = self.message
        self.client.connect("localhost", box.port)
        self.client.loop_start()
        done = self.connected.result(5)
        if done is None:
            self.close()
            raise ConnectionError("not let in")
        self.present = done[1].session_present

    @staticmethod
    def settle(future, value):
        if not future.done():
            future.set_result(value)

    def message(self, _client, _data, message):
        if message.topic in self.answers:
            return self.settle(self.answers[message.topic], message.payload)
        with self.lock:
            self.heard.append((message.topic, message.payload.decode()))
            if self.expect is not None and self.expect <= set(self.heard):
                self.complete.set()

    def subscribe(self, *topics):
        self.subscribed = Future()
        self.client.subscribe([(topic, 1) for topic in topics])
        self.subscribed.result(5)

    def ask(self, topic, body):
        """An operation's answer: which ending, and what."""
        both = {ending: f"{topic}/json/{ending}" for ending in ("accepted", "rejected")}
        self.answers = {topic: Future() for topic in both.values()}
        self.subscribe(*both.values())
        self.client.publish(f"{topic}/json", json.dumps(body), 1)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            for ending, topic_of in both.items():
                if self.answers[topic_of].done():
                    return ending, json.loads(self.answers[topic_of].result())
            time.sleep(0.005)
        raise ConnectionError("no answer")

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


box = Sandbox()
numbers = iter(range(1, 1 << 30))
# What must hold, by what it is about; and what may hold instead, where no answer came.
known, maybe = {}, {}
queued = []
acknowledged = {}


def step(about, call, check=None, **arguments):
    """Calls; what is to hold afterwards is known when the answer is there."""
    kind = about.split("/")[0]
    if check is not None:
        maybe[about] = check
    answer = call(**arguments)
    acknowledged[kind] = acknowledged.get(kind, 0) + 1
    if check is not None:
        known[about] = check
        del maybe[about]
    return answer


def gone(call, **arguments):
    def check():
        try:
            call()(**arguments)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ResourceNotFoundException", error
            return
        raise AssertionError(f"{arguments} is still there")
    return check


def equal(look, wanted):
    def check():
        found = look()
        assert found == wanted, (found, wanted)
    return check


def certificate(active=True):
    made = box.iot.create_certificate_from_csr(certificateSigningRequest=Key().csr("device"), setAsActive=active)
    return made["certificateId"], made["certificateArn"]


def status(id):
    return lambda: box.iot.describe_certificate(certificateId=id)["certificateDescription"]["status"]


def things(n):
    name, about = f"thing-{n}", f"thing/{n}"
    attributes = lambda: (lambda one: (one["attributes"], one["version"]))(box.iot.describe_thing(thingName=name))
    step(about, box.iot.create_thing, equal(attributes, ({"n": "1"}, 1)),
         thingName=name, attributePayload={"attributes": {"n": "1"}})
    step(about, box.iot.update_thing, equal(attributes, ({"n": "1", "m": "2"}, 2)),
         thingName=name, attributePayload={"attributes": {"m": "2"}, "merge": True})
    if n % 3 == 0:
        step(about, box.iot.delete_thing, gone(lambda: box.iot.describe_thing, thingName=name), thingName=name)


def certificates(n):
    id, _ = certificate(False)
    about = f"certificate/{n}"
    known[about] = equal(status(id), "INACTIVE")
    step(about, box.iot.update_certificate, equal(status(id), "ACTIVE"), certificateId=id, newStatus="ACTIVE")
    if n % 2:
        step(about, box.iot.update_certificate, equal(status(id), "REVOKED"), certificateId=id, newStatus="REVOKED")
        step(about, box.iot.delete_certificate, gone(lambda: box.iot.describe_certificate, certificateId=id),
             certificateId=id)


def without_ca(n):
    pem = Authority(f"nobody-{n}").sign("device", Key())
    id = x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()
    step(f"certificate without CA/{n}", box.iot.register_certificate_without_ca, equal(status(id), "ACTIVE"),
         certificatePem=pem, status="ACTIVE")


def authorities(n):
    ca = Authority(f"line-{n}")
    id = x509.load_pem_x509_certificate(ca.pem.encode()).fingerprint(hashes.SHA256()).hex()
    about = f"CA/{n}"
    look = lambda: (lambda one: (one["status"], one["autoRegistrationStatus"]))(
        box.iot.describe_ca_certificate(certificateId=id)["certificateDescription"])
    step(about, box.iot.register_ca_certificate, equal(look, ("ACTIVE", "ENABLE")), caCertificate=ca.pem,
         certificateMode="SNI_ONLY", setAsActive=True, allowAutoRegistration=True)
    step(about, box.iot.update_ca_certificate, equal(look, ("INACTIVE", "DISABLE")), certificateId=id,
         newStatus="INACTIVE", newAutoRegistrationStatus="DISABLE")
    if n % 2:
        step(about, box.iot.delete_ca_certificate, gone(lambda: box.iot.describe_ca_certificate, certificateId=id),
             certificateId=id)


def policies(n):
    name, about = f"policy-{n}", f"policy/{n}"
    look = lambda: (lambda one: (one["policyDocument"], one["defaultVersionId"]))(box.iot.get_policy(policyName=name))
    step(about, box.iot.create_policy, equal(look, (WIDE, "1")), policyName=name, policyDocument=WIDE)
    step(about, box.iot.create_policy_version, equal(look, (NARROW, "2")), policyName=name, policyDocument=NARROW,
         setAsDefault=True)
    step(about, box.iot.set_default_policy_version, equal(look, (WIDE, "1")), policyName=name, policyVersionId="1")
    if n % 2:
        step(about, box.iot.delete_policy_version, equal(look, (WIDE, "1")), policyName=name, policyVersionId="2")
        step(about, box.iot.delete_policy, gone(lambda: box.iot.get_policy, policyName=name), policyName=name)


def attachments(n):
    _, arn = certificate()
    look = lambda: [one["policyName"] for one in box.iot.list_attached_policies(target=arn)["policies"]]
    step(f"policy attachment/{n}", box.iot.attach_policy, equal(look, ["wide"]), policyName="wide", target=arn)
    name = f"attached-{n}"
    box.iot.create_thing(thingName=name)
    look_thing = lambda: box.iot.list_thing_principals(thingName=name)["principals"]
    about = f"thing attachment/{n}"
    step(about, box.iot.attach_thing_principal, equal(look_thing, [arn]), thingName=name, principal=arn)
    if n % 2:
        step(about, box.iot.detach_thing_principal, equal(look_thing, []), thingName=name, principal=arn)
        step(f"policy attachment/{n}", box.iot.detach_policy, equal(look, []), policyName="wide", target=arn)


def groups(n):
    name, thing, about = f"group-{n}", f"member-{n}", f"thing group/{n}"
    described = lambda: box.iot.describe_thing_group(thingGroupName=name)["thingGroupProperties"]["thingGroupDescription"]
    step(about, box.iot.create_thing_group, equal(described, "a"), thingGroupName=name, parentGroupName="all",
         thingGroupProperties={"thingGroupDescription": "a"})
    step(about, box.iot.update_thing_group, equal(described, "b"), thingGroupName=name,
         thingGroupProperties={"thingGroupDescription": "b"})
    box.iot.create_thing(thingName=thing)
    members = lambda: box.iot.list_things_in_thing_group(thingGroupName=name)["things"]
    step(f"group member/{n}", box.iot.add_thing_to_thing_group, equal(members, [thing]), thingGroupName=name,
         thingName=thing)
    bill = f"bill-{n}"
    billed = lambda: box.iot.describe_billing_group(billingGroupName=bill)["version"]
    step(f"billing group/{n}", box.iot.create_billing_group, equal(billed, 1), billingGroupName=bill)
    inside = lambda: box.iot.list_things_in_billing_group(billingGroupName=bill)["things"]
    step(f"billed thing/{n}", box.iot.add_thing_to_billing_group, equal(inside, [thing]), billingGroupName=bill,
         thingName=thing)
    if n % 2:
        step(f"group member/{n}", box.iot.remove_thing_from_thing_group, equal(members, []), thingGroupName=name,
             thingName=thing)


def types_and_tags(n):
    name = f"type-{n}"
    look = lambda: box.iot.describe_thing_type(thingTypeName=name)["thingTypeMetadata"]["deprecated"]
    arn = step(f"thing type/{n}", box.iot.create_thing_type, equal(look, False), thingTypeName=name)["thingTypeArn"]
    tags = lambda: box.iot.list_tags_for_resource(resourceArn=arn)["tags"]
    step(f"tags/{n}", box.iot.tag_resource, equal(tags, [{"Key": "k", "Value": "v"}]), resourceArn=arn,
         tags=[{"Key": "k", "Value": "v"}])
    step(f"thing type/{n}", box.iot.deprecate_thing_type, equal(look, True), thingTypeName=name)
    step(f"tags/{n}", box.iot.untag_resource, equal(tags, []), resourceArn=arn, tagKeys=["k"])


def templates(n):
    name, about = f"template-{n}", f"provisioning template/{n}"
    look = lambda: (lambda one: (one["defaultVersionId"], one["enabled"]))(
        box.iot.describe_provisioning_template(templateName=name))
    step(about, box.iot.create_provisioning_template, equal(look, (1, True)), templateName=name, enabled=True,
         templateBody=template("SerialNumber"), provisioningRoleArn=ROLE)
    step(about, box.iot.create_provisioning_template_version, equal(look, (2, True)), templateName=name,
         templateBody=template("SerialNumber"), setAsDefault=True)
    step(about, box.iot.update_provisioning_template, equal(look, (1, False)), templateName=name, enabled=False,
         defaultVersionId=1)
    step(about, box.iot.delete_provisioning_template,
         gone(lambda: box.iot.describe_provisioning_template, templateName=name), templateName=name)


def whole(name):
    """A thing that a template has made is there with its certificate and that one's policy."""
    def check():
        [arn] = box.iot.list_thing_principals(thingName=name)["principals"]
        assert [one["policyName"] for one in box.iot.list_attached_policies(target=arn)["policies"]] == ["wide"]
        assert status(arn.rsplit("/", 1)[1])() == "ACTIVE"
    return check


def whole_or_none(name):
    def check():
        try:
            box.iot.describe_thing(thingName=name)
        except ClientError:
            return
        whole(name)()
    return check


def registered(n):
    name, about = f"registered-{n}", f"RegisterThing/{n}"
    known[about] = whole_or_none(name)
    step(about, box.iot.register_thing, whole(name), templateBody=BY_REQUEST,
         parameters={"Name": name, "CSR": Key().csr(name)})


def retained(n):
    topic, about = f"retained/{n}", f"retained message/{n}"
    look = lambda: box.data.get_retained_message(topic=topic)["payload"].decode()
    step(about, box.data.publish, equal(look, "one"), topic=topic, qos=1, retain=True, payload=b"one")
    step(about, box.data.publish, equal(look, "two"), topic=topic, qos=1, retain=True, payload=b"two")
    if n % 2:
        step(about, box.data.publish, gone(lambda: box.data.get_retained_message, topic=topic), topic=topic, qos=1,
             retain=True, payload=b"")


def messages(n):
    """For the session that nobody is connected to."""
    box.data.publish(topic=f"queue/{n}", qos=1, payload=str(n).encode())
    acknowledged["queued message"] = acknowledged.get("queued message", 0) + 1
    queued.append((f"queue/{n}", str(n)))


def files(name, pem, key):
    for ending, content in (("pem", pem), ("key", key)):
        (FOLDER / f"{name}.{ending}").write_text(content)
    return str(FOLDER / f"{name}.pem"), str(FOLDER / f"{name}.key")


def lets_in(pair, client_id):
    def check():
        Link(pair, client_id).close()
    return check


def just_in_time(n):
    name, key = f"jitp-{n}", Key()
    pair, about = files(name, LINE.sign(name, key), key.pem()), f"JITP/{n}"
    known[about] = whole_or_none(name)
    end = time.monotonic() + 5
    while True:
        try:
            Link(pair, name).close()
            break
        except ConnectionError:
            if box.process.poll() is not None:
                raise
            assert time.monotonic() < end, "JITP is too slow"
            time.sleep(0.02)
    acknowledged["JITP"] = acknowledged.get("JITP", 0) + 1
    # It has been let in: it is, from now on, at once.
    known[about] = lambda: (whole(name)(), lets_in(pair, name)())


def fleet(n):
    name, key = f"fleet-{n}", Key()
    claim = Link(CLAIM, f"claim-{n}")
    provision = "$aws/provisioning-templates/fleet/provision"
    ask = {"parameters": {"SerialNumber": name}}
    try:
        ending, made = claim.ask("$aws/certificates/create-from-csr", {"certificateSigningRequest": key.csr(name)})
        assert ending == "accepted", made
        about = f"ownership token/{n}"
        ask["certificateOwnershipToken"] = made["certificateOwnershipToken"]
        if n % 2:
            # Kept for after the kill.
            known[about] = lambda: use_token(about, ask)
            acknowledged["ownership token"] = acknowledged.get("ownership token", 0) + 1
            return
        known[f"fleet provisioning/{n}"] = whole_or_none(name)
        ending, done = claim.ask(provision, ask)
        assert ending == "accepted", done
        acknowledged["fleet provisioning"] = acknowledged.get("fleet provisioning", 0) + 1
        pair = files(name, made["certificatePem"], key.pem())
        known[f"fleet provisioning/{n}"] = lambda: (whole(name)(), lets_in(pair, name)())
        known[about] = lambda: replay(ask)
    finally:
        claim.close()


def use_token(about, ask):
    claim = Link(CLAIM, "claim-later")
    ending, done = claim.ask("$aws/provisioning-templates/fleet/provision", ask)
    claim.close()
    assert ending == "accepted", done
    known[about] = lambda: replay(ask)


def replay(ask):
    claim = Link(CLAIM, "claim-again")
    ending, said = claim.ask("$aws/provisioning-templates/fleet/provision", ask)
    claim.close()
    assert (ending, said["errorCode"]) == ("rejected", "InvalidCertificateOwnershipToken"), said


def claims(n):
    made = box.iot.create_provisioning_claim(templateName="fleet")
    pair = files(f"claim-{n}", made["certificatePem"], made["keyPair"]["PrivateKey"])
    over = time.monotonic() + 200
    # It lasts five minutes.
    known[f"provisioning claim/{n}"] = lambda: time.monotonic() > over or lets_in(pair, f"claimed-{n}")()
    acknowledged["provisioning claim"] = acknowledged.get("provisioning claim", 0) + 1


def tasks(n):
    names = [f"task-{n}-{line}" for line in range(20)]
    (BUCKETS / "bulk").mkdir(exist_ok=True)
    (BUCKETS / f"bulk/{n}.json").write_text("".join(json.dumps({"Name": name}) + "\n" for name in names))
    try:
        id = box.iot.start_thing_registration_task(templateBody=BY_NAME, inputFileBucket="bulk",
                                                   inputFileKey=f"{n}.json", roleArn=ROLE)["taskId"]
    except box.iot.exceptions.InvalidRequestException:
        return
    acknowledged["registration task"] = acknowledged.get("registration task", 0) + 1
    look = lambda: box.iot.describe_thing_registration_task(taskId=id)

    def interrupted():
        task = look()
        assert task["status"] in ("Completed", "Failed"), task
        assert all(has_thing(name) for name in names[:task.get("successCount", 0)]), task

    known[f"registration task/{n}"] = interrupted
    while look()["status"] == "InProgress":
        time.sleep(0.01)

    def complete():
        task = look()
        assert (task["status"], task["successCount"]) == ("Completed", len(names)), task
        assert all(map(has_thing, names))
        [link] = box.iot.list_thing_registration_task_reports(taskId=id, reportType="RESULTS")["resourceLinks"]
        assert len(urllib.request.urlopen(link).read().splitlines()) == len(names)

    known[f"registration task/{n}"] = complete


def has_thing(name):
    return box.iot.describe_thing(thingName=name)["thingName"] == name


OPERATIONS = [things, certificates, without_ca, authorities, policies, attachments, groups, types_and_tags, templates,
              registered, retained, messages, messages, messages, just_in_time, fleet, fleet, claims, tasks]


def work(stopped):
    order = []
    while not stopped.is_set():
        order = order or chance.sample(OPERATIONS, len(OPERATIONS))
        try:
            order.pop()(next(numbers))
        except AssertionError:
            raise
        except Exception as error:  # The sandbox is gone, or going.
            if box.process.poll() is None and not stopped.wait(1):
                raise AssertionError(f"refused while it ran: {error!r}") from error


def verify():
    for about in list(known):
        try:
            known[about]()
        except AssertionError as error:
            if about not in maybe:
                raise AssertionError(f"{about}: {error}") from error
            # The change that got no answer was made all the same.
            maybe[about]()
            known[about] = maybe[about]
    maybe.clear()
    wanted = set(queued)
    session = Link(KEEPER, "keeper", clean=False, expect=wanted)
    assert session.present, "the session is lost"
    if wanted:
        assert session.complete.wait(15), f"{len(wanted - set(session.heard))} of {len(wanted)} messages are lost"
    heard = [one for one in dict.fromkeys(session.heard) if one in wanted]
    assert heard == queued, "the messages come in another order"
    session.close()
    queued.clear()


BUCKETS.mkdir()
box.start()
LINE = Authority("line")
box.iot.create_policy(policyName="wide", policyDocument=WIDE)
box.iot.create_thing_group(thingGroupName="all")
made = box.iot.create_keys_and_certificate(setAsActive=True)
box.iot.attach_policy(policyName="wide", target=made["certificateArn"])
KEEPER = CLAIM = files("keeper", made["certificatePem"], made["keyPair"]["PrivateKey"])
for name, kind, source in (("jitp", "JITP", "AWS::IoT::Certificate::CommonName"),
                           ("fleet", "FLEET_PROVISIONING", "SerialNumber")):
    box.iot.create_provisioning_template(templateName=name, type=kind, enabled=True, provisioningRoleArn=ROLE,
                                         templateBody=template(source))
box.iot.register_ca_certificate(caCertificate=LINE.pem, certificateMode="SNI_ONLY", setAsActive=True,
                                allowAutoRegistration=True, registrationConfig={"templateName": "jitp"})
code = box.iot.get_registration_code()["registrationCode"]
keeper = Link(KEEPER, "keeper", clean=False)
keeper.subscribe("queue/#")
keeper.close()

for _ in range(KILLS):
    stopped, failed = threading.Event(), []

    def worker():
        try:
            work(stopped)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=worker)
    thread.start()
    time.sleep(chance.uniform(0.2, 1.5))
    box.kill()
    stopped.set()
    thread.join()
    box.start()
    if failed:
        raise failed[0]
    verify()
    assert box.iot.get_registration_code()["registrationCode"] == code
box.kill()
print("ok", json.dumps(dict(sorted(acknowledged.items()))))
