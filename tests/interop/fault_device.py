"""Provisions and renews devices under faults, against a sandbox, and checks after each that the
device holds a working identity or its claim, that the next run finishes, and that there is one identity and not
two. Checks without nameplate, by `cryptography` and the control plane."""

import argparse
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

CALLS = ("write", "fsync", "fdatasync", "rename", "renameat2", "mkdir", "unlink", "unlinkat", "rmdir", "flock")
FAULTS = ("error=EIO", "signal=KILL")
PARTS = ("provision", "renew")

TEMPLATE = {
    "Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
    "Resources": {
        "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "SerialNumber"}},
                  "OverrideSettings": {"AttributePayload": "MERGE"}},
        "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {
            "CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "device"}},
    },
}


def policy(connect):
    topics = ["$aws/certificates/create*", "$aws/provisioning-templates/fleet/provision/*"]
    arns = lambda kind: [f"arn:aws:iot:*:*:{kind}/{topic}" for topic in topics]
    return json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": f"arn:aws:iot:*:*:client/{connect}"},
        {"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"], "Resource": arns("topic")},
        {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": arns("topicfilter")},
    ]})


class Lab:
    def __init__(self, binary, sandbox, folder):
        self.binary, self.folder, self.wrong, self.count = str(Path(binary).resolve()), folder, [], 0
        state = folder / "state"
        self.server = subprocess.Popen(
            [str(Path(sandbox).resolve()), "sandbox", "serve", "--state", state, "--control", "127.0.0.1:0",
             "--mqtt", "127.0.0.1:0"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not (state / "running.json").exists():
            assert time.monotonic() < deadline and self.server.poll() is None, "the sandbox does not start"
            time.sleep(0.05)
        running = json.loads((state / "running.json").read_text())
        self.iot = boto3.client("iot", endpoint_url=running["control_url"], region_name=running["region"],
                                aws_access_key_id="x", aws_secret_access_key="x")
        self.iot.create_policy(policyName="claim", policyDocument=policy("claim-*"))
        self.iot.create_policy(policyName="device", policyDocument=policy("${iot:Connection.Thing.ThingName}"))
        self.iot.create_provisioning_template(
            templateName="fleet", templateBody=json.dumps(TEMPLATE), enabled=True,
            provisioningRoleArn="arn:aws:iam::123456789012:role/Provisioning")
        made = self.iot.create_keys_and_certificate(setAsActive=True)
        self.iot.attach_policy(policyName="claim", target=made["certificateArn"])
        self.claim = folder / "claim"
        self.claim.mkdir()
        (self.claim / "device.crt.pem").write_text(made["certificatePem"])
        (self.claim / "device.key.pem").write_text(made["keyPair"]["PrivateKey"])
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder),
                    "NAMEPLATE_ENDPOINT": f"localhost:{running['mqtt_port']}",
                    "NAMEPLATE_SERVER_CA": str(state / "server-ca.pem")}

    def stop(self):
        self.server.kill()
        self.server.wait()

    def start(self, words, front=()):
        return subprocess.Popen([*front, self.binary, *words], cwd=self.folder, env=self.env,
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def run(self, words, front=()):
        child = self.start(words, front)
        _, said = child.communicate(timeout=120)
        return child.returncode, said

    def fail(self, what):
        self.wrong.append(what)
        print(f"WRONG: {what}", file=sys.stderr)


class Device:
    def __init__(self, lab, name):
        self.lab, self.name, self.folder = lab, name, lab.folder / name

    def provision(self):
        return ["provision", "--claim", str(self.lab.claim), "--identity", str(self.folder), "--template", "fleet",
                "--param", f"SerialNumber={self.name}"]

    def renew(self):
        return ["device", "renew", "--identity", str(self.folder), "--force"]

    def leaf(self):
        """The certificate of a folder that holds a whole identity; None where there is no folder."""
        if not self.folder.exists():
            return None
        leaf = x509.load_pem_x509_certificate((self.folder / "device.crt.pem").read_bytes())
        key = serialization.load_pem_private_key((self.folder / "device.key.pem").read_bytes(), None)
        assert key.public_key() == leaf.public_key(), f"{self.name}: key and certificate are not a pair"
        mode = stat.S_IMODE((self.folder / "device.key.pem").stat().st_mode)
        assert mode == 0o600, f"{self.name}: the key's mode is {mode:o}"
        return leaf.fingerprint(hashes.SHA256()).hex()

    def works(self):
        code, said = self.lab.run(["connect", "--identity", str(self.folder), "--attempts", "2"])
        assert code == 0, f"{self.name}: its identity does not connect: {said}"

    def certificates(self):
        """The ACTIVE certificates of the thing at the target."""
        try:
            arns = self.lab.iot.list_thing_principals(thingName=self.name)["principals"]
        except self.lab.iot.exceptions.ResourceNotFoundException:
            return []
        ids = [arn.rpartition("/")[2] for arn in arns]
        status = lambda one: self.lab.iot.describe_certificate(certificateId=one)["certificateDescription"]["status"]
        return [one for one in ids if status(one) == "ACTIVE"]


def check_provision(device, said):
    """Right after a fault: whole and working, or not there. Then the next run finishes, with one identity."""
    if device.leaf():
        device.works()
    code, again = device.lab.run(device.provision())
    assert code == 0, f"{device.name}: the next run ended with {code}: {again}\nbefore: {said}"
    mine = device.leaf()
    assert device.certificates() == [mine], f"{device.name}: {device.certificates()} and not {mine} alone"
    device.works()
    assert not device.folder.with_name(f"{device.name}.provision").exists(), f"{device.name}: work is left"
    shutil.rmtree(device.folder)


def check_renew(device, said):
    """Right after a fault: there is an identity, and it works. Then the next run finishes what is begun."""
    assert device.leaf(), f"{device.name}: there is no identity\nbefore: {said}"
    device.works()
    work = device.folder.with_name(f"{device.name}.renewal")
    before = device.leaf()
    if (work / "journal.json").exists():
        code, again = device.lab.run(device.renew())
        assert code == 0, f"{device.name}: the next run ended with {code}: {again}\nbefore: {said}"
        old = device.folder.with_name(f"{device.name}.old")
        assert old.exists(), f"{device.name}: the old identity is not kept ({before})"
        device.works()
    code, _ = device.lab.run(["device", "renew", "--identity", str(device.folder)])
    assert code == 0 and not work.exists(), f"{device.name}: work is left"


def sweep(lab, part, calls, faults):
    """Each fault at each call in turn, until a run comes through untouched."""
    done = 0
    keeper = provisioned(lab, f"{part}-sweep") if part == "renew" else None
    for call in calls:
        for fault in faults:
            for n in range(1, 400):
                device = keeper or Device(lab, f"p-{call}-{fault.rpartition(chr(61))[2]}-{n}")
                log = lab.folder / "strace"
                front = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}", "-e",
                         f"inject={call}:{fault}:when={n}"]
                words = device.provision() if part == "provision" else device.renew()
                code, said = lab.run(words, front)
                # Killed, the tracer ends as its child does, without a line about it.
                touched = "INJECTED" in log.read_text() or code in (-9, 137)
                try:
                    (check_provision if part == "provision" else check_renew)(device, said)
                except AssertionError as error:
                    lab.fail(f"{part}: {call} {fault} {n}: {error}")
                if not touched:
                    break
                done += 1
    print(f"{part}: sweep: {done} injected faults")


def provisioned(lab, name):
    device = Device(lab, name)
    code, said = lab.run(device.provision())
    assert code == 0, said
    return device


def kills(lab, part, count, chance):
    """SIGKILL at random moments of a run."""
    device = provisioned(lab, f"{part}-kill") if part == "renew" else None
    begin = time.monotonic()
    whole = device or Device(lab, "p-whole")
    lab.run(whole.provision() if part == "provision" else whole.renew())
    span = (time.monotonic() - begin) * 1.1
    hit = 0
    for n in range(count):
        one = device or Device(lab, f"p-kill-{n}")
        child = lab.start(one.provision() if part == "provision" else one.renew())
        time.sleep(chance.uniform(0, span))
        child.kill()
        _, said = child.communicate()
        hit += child.returncode == -9
        try:
            (check_provision if part == "provision" else check_renew)(one, said)
        except AssertionError as error:
            lab.fail(f"{part}: kill {n}: {error}")
    print(f"{part}: kill: {hit} of {count} runs killed")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the program on the device")
    parser.add_argument("--sandbox", help="the program that serves the sandbox, where it is another")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--calls", default=",".join(CALLS))
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        lab = Lab(given.binary, given.sandbox or given.binary, Path(name))
        try:
            for part in given.only.split(","):
                if given.calls:
                    sweep(lab, part, given.calls.split(","), given.faults.split(","))
                if given.kills:
                    kills(lab, part, given.kills, chance)
        finally:
            lab.stop()
    print(f"{len(lab.wrong)} wrong")
    sys.exit(1 if lab.wrong else 0)


main()
