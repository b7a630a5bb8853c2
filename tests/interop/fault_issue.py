"""Issues batches under faults, then checks the result without nameplate: with sqlite3 or psql, and
`cryptography`. Every row of a list must end up with exactly one identity, whose key, certificate
and ledger row belong together."""

import argparse
import json
import os
import random
import re
import sqlite3
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

FAULTY = ("write", "pwrite64", "fsync", "fdatasync", "syncfs", "ftruncate", "renameat2", "mkdir")
PARTS = ("kill", "eio", "full", "race")
# The PostgreSQL client's runtime wakes itself through an eventfd, whose writes strace fails as well and
# which no disk is behind; such a run still has to leave what the next one finishes.
WAKE = "failed to wake I/O driver"
SHAPES = ("dir", "tar", "ndjson", "der")


class Postgres:
    """A server in a folder of its own; PostgreSQL refuses to be root's, so it runs as `nobody` then."""

    def __init__(self, folder):
        self.folder = folder
        self.user = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
        if self.user:
            subprocess.run(["chown", "nobody", str(folder)], check=True)
            folder.chmod(0o755)
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        self.path = f"{found[-1]}:" if found else ""
        self.count = 0
        self.run("initdb", "-D", "data", "-U", "keeper", "--auth=trust", "--no-sync")
        self.run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o",
                 f"-k {folder} -c listen_addresses= -c max_connections=50", "start")

    def run(self, *words):
        env = {**os.environ, "PATH": self.path + os.environ["PATH"]}
        subprocess.run([*self.user, *words], cwd=self.folder, env=env, check=True, stdout=subprocess.DEVNULL)

    def database(self):
        self.count += 1
        name = f"ledger{self.count}"
        self.run("createdb", "-h", str(self.folder), "-U", "keeper", name)
        return f"postgres://keeper@/{name}?host={self.folder}"

    def stop(self):
        self.run("pg_ctl", "-D", "data", "-m", "immediate", "stop")


class Lab:
    """One project, many batches, and what was wrong with them."""

    def __init__(self, binary, folder, url=None, shapes=SHAPES):
        self.binary = str(Path(binary).resolve())
        self.folder = folder
        self.count = 0
        self.wrong = []
        (folder / "pw").write_text("correct horse\n")
        self.env = {"PATH": os.environ["PATH"], "NAMEPLATE_PASSPHRASE_FILE": str(folder / "pw")}
        self.url, self.shapes = url, shapes
        if url:
            self.env["NAMEPLATE_LEDGER"] = url
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
        try:
            _, said = child.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return -1, "it does not end"
        return child.returncode, said.decode(errors="replace")

    def must(self, words):
        code, said = self.run(words)
        if code != 0:
            sys.exit(f"fault: nameplate {' '.join(words)} ended with {code}: {said}")

    def batch(self, rows):
        """A new list, and the command that issues it; each shape in turn."""
        self.count += 1
        shape = self.shapes[self.count % len(self.shapes)]
        names = [f"b{self.count}-{n:04}" for n in range(rows)]
        file = self.folder / f"list-{self.count}.csv"
        file.write_text("name\n" + "\n".join(names) + "\n")
        out = self.folder / f"out-{self.count}"
        words = ["device", "batch", file.name, "--out", out.name, "--output", shape]
        return Batch(self, names, out, shape, words)

    def rows(self, names):
        """The ledger's rows of these devices, read without nameplate."""
        if self.url:
            quoted = ",".join(f"'{name}'" for name in names)
            sql = "SELECT json_agg(json_build_array(device, state, live, id, encode(serial, 'hex'))) "
            sql += f"FROM certificates WHERE device IN ({quoted})"
            said = subprocess.run(["psql", self.url, "-qAtc", sql], check=True, capture_output=True)
            return json.loads(said.stdout or "[]")
        base = sqlite3.connect(self.folder / "ledger.sqlite")
        marks = ",".join("?" * len(names))
        sql = f"SELECT device, state, live, id, hex(serial) FROM certificates WHERE device IN ({marks})"
        found = base.execute(sql, names).fetchall()
        base.close()
        return found


class Batch:
    """One list of devices."""

    def __init__(self, lab, names, out, shape, words):
        self.lab, self.names, self.out, self.shape, self.words = lab, names, out, shape, words

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
            serials[serial] += 1
            if state == "issued" and is_live:
                if device in live:
                    self.complain(f"after {after}: {device} has two live identities")
                live[device] = identity
            elif state != "abandoned":
                self.complain(f"after {after}: {device} has a row that is {state}, live {is_live}")
        if any(times > 1 for times in serials.values()):
            self.complain(f"after {after}: a serial number was used twice")
        try:
            there = getattr(self, self.shape)()
        except Exception as error:  # whatever it is, the output cannot be used
            self.complain(f"after {after}: the output cannot be read: {error!r}")
            there = []
        if sorted(name for name, _ in there) != sorted(self.names):
            self.complain(f"after {after}: not as listed: {sorted(name for name, _ in there)}")
        for name, files in there:
            problem = self.identity(files, live.get(name))
            if problem:
                self.complain(f"after {after}: {name}: {problem}")
        for name in self.names:
            if name not in live:
                self.complain(f"after {after}: {name} has no live row")
        code, said = self.lab.run(["ledger", "verify"])
        if code != 0:
            self.complain(f"after {after}: ledger verify: {said.strip()}")

    def dir(self):
        """Name and files (name to bytes) of each identity."""
        all = []
        for folder in self.out.iterdir():
            if stat.S_IMODE((folder / "device.key.pem").stat().st_mode) != 0o600:
                self.complain(f"{folder.name}: the key can be read by others")
            all.append((folder.name, {file.name: file.read_bytes() for file in folder.iterdir()}))
        return all

    def der(self):
        """As `dir`, put into PEM."""
        all = []
        for folder in self.out.iterdir():
            key = serialization.load_der_private_key((folder / "device.key.der").read_bytes(), None)
            leaf = x509.load_der_x509_certificate((folder / "device.crt.der").read_bytes())
            form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            text = leaf.public_bytes(serialization.Encoding.PEM)
            files = {"device.key.pem": key.private_bytes(*form), "device.crt.pem": text, "chain.pem": text}
            all.append((folder.name, files))
        return all

    def tar(self):
        all = []
        with tarfile.open(self.out) as archive:
            for member in archive:
                if member.isdir():
                    all.append((member.name.strip("/"), {}))
                else:
                    name, file = member.name.split("/")
                    if name != all[-1][0] or file in all[-1][1]:
                        raise ValueError(f"{member.name} is not where it belongs")
                    all[-1][1][file] = archive.extractfile(member).read()
        return all

    def ndjson(self):
        all = []
        for line in self.out.read_text().splitlines():
            one = json.loads(line)
            parts = {"device.key.pem": "private_key_pem", "device.crt.pem": "certificate_pem", "chain.pem": "chain_pem"}
            all.append((one["name"], {file: one[key].encode() for file, key in parts.items()}))
        return all

    def identity(self, files, identity):
        try:
            key = serialization.load_pem_private_key(files["device.key.pem"], None)
            leaf = x509.load_pem_x509_certificate(files["device.crt.pem"])
            chain = x509.load_pem_x509_certificates(files["chain.pem"])
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
    front = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=" + ",".join(FAULTY)]
    each = Counter()
    for shape in lab.shapes:
        probe = lab.batch(rows)
        lab.run(probe.words, front)
        probe.check("strace")
        for line in trace.read_text(errors="replace").splitlines():
            if match := re.match(r"(\d+) +(\w+)\(", line):
                each[(shape, *match.groups())] += 1
    done, survived = 0, 0
    for call in options.calls.split(","):
        # A probe of each shape has said how many of these calls there are at most.
        most = max((n for (_, _, name), n in each.items() if name == call), default=0)
        for error in ("EIO", "ENOSPC"):
            for when in (when for when in range(1, most + 1) for _ in lab.shapes):
                batch = lab.batch(rows)
                inject = f"inject={call}:error={error}:when={when}"
                code, said = lab.run(batch.words, ["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject])
                done += 1
                survived += code == 0
                if code == 0:
                    batch.check(f"{inject}, which it called done")
                elif code != 4 and not (lab.url and WAKE in said):
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
    small = Lab(lab.binary, place, lab.url and lab.server.database(), (lab.shapes[step % len(lab.shapes)],))
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


def one_part(options, names, server, shapes):
    database, part = names
    with tempfile.TemporaryDirectory(prefix="nameplate-fault-") as folder:
        lab = Lab(options.binary, Path(folder), server and server.database(), shapes)
        lab.server = server
        begin = time.monotonic()
        said = globals()[part](lab, options)
        seconds = time.monotonic() - begin
        print(f"{database}: {part}: {said}, {len(lab.wrong)} violations, {seconds:.0f} s", flush=True)
        return lab.wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--disks", type=int, default=20)
    parser.add_argument("--races", type=int, default=5)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--calls", default=",".join(FAULTY))
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--databases", default="sqlite,postgres")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    random.seed(options.seed)
    print(f"seed {options.seed}")
    chosen = [part for part in PARTS if part in options.only.split(",")]
    wrong = []
    shapes = tuple(options.shapes.split(","))
    for database in options.databases.split(","):
        with tempfile.TemporaryDirectory(prefix="nameplate-fault-") as folder:
            server = Postgres(Path(folder)) if database == "postgres" else None
            try:
                for part in chosen:
                    wrong += one_part(options, (database, part), server, shapes)
            finally:
                if server:
                    server.stop()
    for line in wrong[:50]:
        print(f"violation: {line}")
    sys.exit(1 if wrong or not chosen else 0)


main()
