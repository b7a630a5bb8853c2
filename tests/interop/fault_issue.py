"""Issues batches under faults, then checks the result without nameplate: with sqlite3 and
`cryptography`. Every row of a list must end up with exactly one identity, whose key, certificate
and ledger row belong together."""

import argparse
import os
import random
import re
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

FAULTY = ("write", "pwrite64", "fsync", "fdatasync", "syncfs", "ftruncate", "renameat2", "mkdir")
PARTS = ("kill", "eio", "full", "race")


class Lab:
    """One project, many batches, and what was wrong with them."""

    def __init__(self, binary, folder):
        self.binary = str(Path(binary).resolve())
        self.folder = folder
        self.count = 0
        self.wrong = []
        (folder / "pw").write_text("correct horse\n")
        self.env = {"PATH": os.environ["PATH"], "NAMEPLATE_PASSPHRASE_FILE": str(folder / "pw")}
        for words in (["init", "."], ["ca", "create", "factory"]):
            self.must(words)
        self.ca = x509.load_pem_x509_certificate((folder / "ca/factory/cert.pem").read_bytes())

    def start(self, words, front=()):
        return subprocess.Popen(
            [*front, self.binary, *words],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def run(self, words, front=()):
        child = self.start(words, front)
        _, said = child.communicate()
        return child.returncode, said.decode(errors="replace")

    def must(self, words):
        code, said = self.run(words)
        if code != 0:
            sys.exit(f"fault: nameplate {' '.join(words)} ended with {code}: {said}")

    def batch(self, rows):
        """A new list, and the command that issues it."""
        self.count += 1
        names = [f"b{self.count}-{n:04}" for n in range(rows)]
        file = self.folder / f"list-{self.count}.csv"
        file.write_text("name\n" + "\n".join(names) + "\n")
        out = self.folder / f"out-{self.count}"
        return Batch(self, names, out, ["device", "batch", file.name, "--out", out.name])

    def rows(self, names):
        """The ledger's rows of these devices, read without nameplate."""
        base = sqlite3.connect(self.folder / "ledger.sqlite")
        marks = ",".join("?" * len(names))
        sql = f"SELECT device, state, live, id, serial FROM certificates WHERE device IN ({marks})"
        found = base.execute(sql, names).fetchall()
        base.close()
        return found


class Batch:
    """One list of devices."""

    def __init__(self, lab, names, out, words):
        self.lab, self.names, self.out, self.words = lab, names, out, words

    def complain(self, what):
        self.lab.wrong.append(f"{self.out.name}: {what}")

    def finish(self, after):
        """Runs it to its end: a fault may be followed by one that says "not now"."""
        for _ in range(200):
            code, said = self.lab.run(self.words)
            if code == 0:
                break
            if code != 4:
                self.complain(f"after {after}: ended with {code}: {said.strip()}")
                return
            time.sleep(0.02)
        self.check(after)

    def check(self, after):
        live, serials = {}, Counter()
        for device, state, is_live, identity, serial in self.lab.rows(self.names):
            serials[bytes(serial)] += 1
            if state == "issued" and is_live:
                if device in live:
                    self.complain(f"after {after}: {device} has two live identities")
                live[device] = identity
            elif state != "abandoned":
                self.complain(f"after {after}: {device} has a row that is {state}, live {is_live}")
        if any(times > 1 for times in serials.values()):
            self.complain(f"after {after}: a serial number was used twice")
        for name in self.names:
            if name not in live:
                self.complain(f"after {after}: {name} has no live row")
            else:
                problem = self.identity(self.out / name, live[name])
                if problem:
                    self.complain(f"after {after}: {name}: {problem}")
        there = {entry.name for entry in self.out.iterdir()}
        if there != set(self.names):
            self.complain(f"after {after}: not as listed: {sorted(there ^ set(self.names))}")
        code, said = self.lab.run(["ledger", "verify"])
        if code != 0:
            self.complain(f"after {after}: ledger verify: {said.strip()}")

    def identity(self, folder, identity):
        try:
            key_file = folder / "device.key.pem"
            if stat.S_IMODE(key_file.stat().st_mode) != 0o600:
                return "the key can be read by others"
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            leaf = x509.load_pem_x509_certificate((folder / "device.crt.pem").read_bytes())
            chain = x509.load_pem_x509_certificates((folder / "chain.pem").read_bytes())
            leaf.verify_directly_issued_by(self.lab.ca)
        except Exception as error:  # whatever it is, the identity cannot be used
            return repr(error)
        if leaf.public_key() != key.public_key():
            return "the key is not the certificate's"
        if leaf.fingerprint(hashes.SHA256()).hex() != identity:
            return "the certificate is not the ledger's"
        if chain[0] != leaf:
            return "the chain does not begin with it"
        return None


def kill(lab, options):
    """SIGKILL at random moments, over and over, until each list is done."""
    probe = lab.batch(options.rows)
    begin = time.monotonic()
    lab.run(probe.words)
    usual = time.monotonic() - begin
    probe.check("nothing")
    kills = 0
    while kills < options.kills:
        batch = lab.batch(options.rows)
        here = 0
        while kills < options.kills:
            child = lab.start(batch.words)
            try:
                child.communicate(timeout=random.uniform(0, usual))
                break
            except subprocess.TimeoutExpired:
                child.kill()
                child.communicate()
                kills += 1
                here += 1
        batch.finish(f"{here} kills")
    return f"{kills} kills in {lab.count - 1} batches of {options.rows}"


def eio(lab, options):
    """Each call that writes fails once, in turn; counted for each thread of its own."""
    rows = min(options.rows, 4)
    trace = lab.folder / "trace"
    probe = lab.batch(rows)
    front = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=" + ",".join(FAULTY)]
    lab.run(probe.words, front)
    probe.check("strace")
    each = Counter()
    for line in trace.read_text(errors="replace").splitlines():
        if match := re.match(r"(\d+) +(\w+)\(", line):
            each[match.groups()] += 1
    done, survived = 0, 0
    for call in FAULTY:
        most = max((n for (_, name), n in each.items() if name == call), default=0)
        for error in ("EIO", "ENOSPC"):
            for when in range(1, most + 1):
                batch = lab.batch(rows)
                inject = f"inject={call}:error={error}:when={when}"
                code, _ = lab.run(batch.words, ["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject])
                done += 1
                survived += code == 0
                if code == 0:
                    batch.check(f"{inject}, which it called done")
                elif code not in (3, 4):
                    batch.complain(f"{inject}: ended with {code}")
                batch.finish(inject)
    return f"{done} injected errors, {survived} of them of no effect"


def full(lab, options):
    """A disk with less room than a batch needs, at many sizes, then made larger."""
    if os.geteuid() != 0:
        sys.exit("fault: a full disk needs root for its tmpfs; leave it out with --only kill,eio,race")
    stopped = 0
    for step in range(options.disks):
        place = lab.folder / f"disk-{step}"
        place.mkdir()
        mount(place, "size=64m", "-t", "tmpfs", "none")
        try:
            stopped += full_once(lab, options, place, step)
        finally:
            subprocess.run(["umount", str(place)], check=True)
    return f"{options.disks} small disks, {stopped} of them too small"


def full_once(lab, options, place, step):
    """A whole project on the disk, which has a few pages left."""
    small = Lab(lab.binary, place)
    batch = small.batch(options.rows)
    space = os.statvfs(place)
    used = (space.f_blocks - space.f_bfree) * space.f_frsize
    mount(place, f"remount,size={used + 4096 * step * 4}")
    code, said = small.run(batch.words)
    if code not in (0, 4):
        batch.complain(f"on a full disk: ended with {code}: {said.strip()}")
    mount(place, "remount,size=64m")
    batch.finish("a full disk")
    lab.wrong += small.wrong
    return code != 0


def mount(place, options, *more):
    subprocess.run(["mount", *more, "-o", options, str(place)], check=True)


def race(lab, options):
    """Processes with the same list and the same ledger."""
    rounds = 0
    for processes in (2, 8):
        for _ in range(options.races):
            batch = lab.batch(options.rows)
            left = [lab.start(batch.words) for _ in range(processes)]
            while left:
                ended = [(child, child.communicate()[1]) for child in left]
                again = [child for child, _ in ended if child.returncode == 4]
                for child, said in ended:
                    if child.returncode not in (0, 4):
                        batch.complain(f"racing: ended with {child.returncode}: {said.decode()}")
                left = [lab.start(batch.words) for _ in again]
            batch.check(f"a race of {processes}")
            rounds += 1
    return f"{rounds} races"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--disks", type=int, default=20)
    parser.add_argument("--races", type=int, default=5)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    random.seed(options.seed)
    print(f"seed {options.seed}")
    chosen = [part for part in PARTS if part in options.only.split(",")]
    wrong = []
    for part in chosen:
        with tempfile.TemporaryDirectory(prefix="nameplate-fault-") as folder:
            lab = Lab(options.binary, Path(folder))
            begin = time.monotonic()
            said = globals()[part](lab, options)
            seconds = time.monotonic() - begin
            print(f"{part}: {said}, {len(lab.wrong)} violations, {seconds:.0f} s", flush=True)
            wrong += lab.wrong
    for line in wrong[:50]:
        print(f"violation: {line}")
    sys.exit(1 if wrong or not chosen else 0)


main()
