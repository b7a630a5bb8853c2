//! `init`, `ca create`, `ca import`, `ca list`, `ca show`, against OpenSSL, GnuTLS and a terminal.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A project in a folder of its own, with a passphrase in `pw` and another in `pw2`.
struct Project {
    folder: tempfile::TempDir,
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Project {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pw"), "correct horse\n").unwrap();
        fs::write(folder.path().join("pw2"), "battery staple\n").unwrap();
        let project = Self { folder };
        project.ok("init");
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// nameplate with these arguments, stdin no terminal, and nothing of the caller's environment.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nameplate"));
        command
            .args(line.split_whitespace())
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Ran {
        self.command(line).output().unwrap().into()
    }

    fn ok(&self, line: &str) -> String {
        let Ran { code, out, err } = self.run(line);
        assert_eq!(code, 0, "{line}\n{out}{err}");
        out
    }

    /// Fails with this exit code and error code; what stood on stderr.
    fn fails(&self, line: &str, exit: i32, code: &str) -> String {
        let Ran {
            code: got,
            out,
            err,
        } = self.run(line);
        assert_eq!(got, exit, "{line}\n{out}{err}");
        assert!(err.starts_with(&format!("error[{code}]")), "{line}\n{err}");
        assert!(out.is_empty(), "{out}");
        err
    }

    /// Another's program in the project's folder; it must succeed.
    fn other(&self, program: &str, arguments: &str) -> String {
        let output = Command::new(program)
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{program} is needed: {error}"));
        let ran = Ran::from(output);
        assert_eq!(ran.code, 0, "{program} {arguments}\n{}{}", ran.out, ran.err);
        ran.out
    }

    fn openssl(&self, arguments: &str) -> String {
        self.other("openssl", arguments)
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    /// A CA made by OpenSSL: `NAME.crt` over a fresh EC key in SEC1 form, `NAME.key`.
    fn foreign_ca(&self, name: &str) {
        self.openssl(&format!(
            "ecparam -name prime256v1 -genkey -noout -out {name}.key"
        ));
        self.openssl(&format!(
            "req -x509 -new -key {name}.key -subj /O=Works/CN={name} -days 30 -out {name}.crt \
             -addext keyUsage=critical,keyCertSign"
        ));
    }
}

#[test]
fn init_keeps_what_is_there() {
    let project = Project::new();
    fs::write(project.path("nameplate.toml"), "# mine\n").unwrap();
    fs::write(project.path(".gitignore"), "# mine too\n").unwrap();
    let out = project.ok("init");
    assert!(out.contains("nothing changed"), "{out}");
    for name in ["nameplate.toml", ".gitignore"] {
        let text = fs::read_to_string(project.path(name)).unwrap();
        assert!(text.starts_with("# mine"), "{name}: {text}");
    }
    assert_eq!(project.mode("ca"), 0o700);
    assert_eq!(project.mode("ledger.sqlite"), 0o600);
}

#[test]
fn the_project_file_that_init_writes_is_read_whole() {
    let project = Project::new();
    let text = fs::read_to_string(project.path("nameplate.toml")).unwrap();
    // Every commented key, as if the user had taken the `#` away.
    let live: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.contains(" = ") && !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    fs::write(project.path("nameplate.toml"), live).unwrap();
    project.ok("version");
}

#[test]
fn others_verify_what_we_make_and_open_its_keys() {
    let project = Project::new();
    for (curve, bits) in [("p256", "256 bit"), ("p384", "384 bit")] {
        let root = format!("root-{curve}");
        let below = format!("below-{curve}");
        project.ok(&format!(
            "ca create {root} --curve {curve} --subject DC=example,DC=com,CN=Root \
             --passphrase-file pw"
        ));
        project.ok(&format!(
            "ca create {below} --parent {root} --curve {curve} --passphrase-file pw2 \
             --parent-passphrase-file pw"
        ));
        project.openssl(&format!(
            "verify -x509_strict -check_ss_sig -CAfile ca/{root}/cert.pem ca/{below}/cert.pem"
        ));
        project.other(
            "certtool",
            &format!(
                "--verify --load-ca-certificate ca/{root}/cert.pem --infile ca/{below}/chain.pem"
            ),
        );
        let key = project.openssl(&format!(
            "pkey -in ca/{below}/key.pem -passin file:pw2 -noout -text"
        ));
        assert!(key.contains(bits), "{key}");
        let chain = fs::read_to_string(project.path(&format!("ca/{below}/chain.pem"))).unwrap();
        assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    }
    let root = project.openssl("x509 -in ca/root-p256/cert.pem -noout -text");
    for fact in [
        "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:1",
        "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign",
        "Subject: DC = example, DC = com, CN = Root",
    ] {
        assert!(root.contains(fact), "{fact}\n{root}");
    }
    let below = project.openssl("x509 -in ca/below-p256/cert.pem -noout -text");
    assert!(below.contains("CA:TRUE, pathlen:0"), "{below}");
}

#[test]
fn keys_are_private_and_encrypted_from_the_start() {
    let project = Project::new();
    project.ok("ca create a --passphrase-file pw");
    project.ok("ca create b --unencrypted");
    for name in ["ca", "ca/a", "ca/b"] {
        assert_eq!(project.mode(name), 0o700, "{name}");
    }
    for name in ["ca/a/key.pem", "ca/b/key.pem"] {
        assert_eq!(project.mode(name), 0o600, "{name}");
    }
    let text = |name: &str| fs::read_to_string(project.path(name)).unwrap();
    assert!(text("ca/a/key.pem").starts_with("-----BEGIN ENCRYPTED PRIVATE KEY"));
    assert!(text("ca/b/key.pem").starts_with("-----BEGIN PRIVATE KEY"));
    let list = project.ok("ca list");
    assert!(list.contains("ca/a, key encrypted"), "{list}");
    assert!(list.contains("ca/b, key NOT encrypted"), "{list}");
}

#[test]
fn a_passphrase_comes_from_where_it_is_said() {
    let project = Project::new();
    let from = |line: &str, variable: Option<&str>, config: Option<&str>| -> Ran {
        let text = config.map_or(String::new(), |file| {
            format!("[issue]\npassphrase_file = \"{file}\"\n")
        });
        fs::write(project.path("nameplate.toml"), text).unwrap();
        let mut command = project.command(line);
        if let Some(file) = variable {
            command.env("NAMEPLATE_PASSPHRASE_FILE", file);
        }
        command.output().unwrap().into()
    };
    let opens = |name: &str, file: &str| {
        project.openssl(&format!(
            "pkey -in ca/{name}/key.pem -passin file:{file} -noout"
        ));
    };
    // Flag before variable before configuration.
    assert_eq!(
        from("ca create a --passphrase-file pw", Some("pw2"), Some("pw2")).code,
        0
    );
    opens("a", "pw");
    assert_eq!(from("ca create b", Some("pw"), Some("pw2")).code, 0);
    opens("b", "pw");
    assert_eq!(from("ca create c", None, Some("pw2")).code, 0);
    opens("c", "pw2");
    // A variable that is set does not stand in the way of another choice.
    assert_eq!(from("ca create d --unencrypted", Some("pw"), None).code, 0);
    let mut command = project.command("ca create e --passphrase-fd 0");
    command.env("NAMEPLATE_PASSPHRASE_FILE", "pw2");
    command.stdin(fs::File::open(project.path("pw")).unwrap());
    assert!(command.output().unwrap().status.success());
    opens("e", "pw");
}

#[test]
fn a_bad_passphrase_is_said_and_nothing_is_made() {
    let project = Project::new();
    project.ok("ca create root --passphrase-file pw");
    let err = project.fails("ca create x", 3, "ca.passphrase-missing");
    for way in [
        "--passphrase-file",
        "--passphrase-fd",
        "NAMEPLATE_PASSPHRASE_FILE",
        "issue.passphrase_file",
        "--unencrypted",
    ] {
        assert!(err.contains(way), "{way}\n{err}");
    }
    let err = project.fails(
        "ca create x --parent root --passphrase-file pw2",
        3,
        "key.passphrase",
    );
    assert!(err.contains("ca/root/key.pem"), "{err}");
    fs::write(project.path("empty"), "\n").unwrap();
    project.fails("ca create x --passphrase-file empty", 3, "passphrase.empty");
    fs::write(project.path("two"), "a\nb\n").unwrap();
    project.fails("ca create x --passphrase-file two", 3, "passphrase.lines");
    project.fails(
        "ca create x --passphrase-file nowhere",
        3,
        "passphrase.read",
    );
    project.fails("ca create x --passphrase-fd 77", 3, "passphrase.read");
    assert!(!project.path("ca/x").exists());
}

#[test]
fn what_exists_is_never_made_again() {
    let project = Project::new();
    project.ok("ca create root --passphrase-file pw");
    let before = fs::read(project.path("ca/root/key.pem")).unwrap();
    project.fails("ca create root --passphrase-file pw", 5, "ca.exists");
    project.foreign_ca("old");
    project.fails(
        "ca import root --cert old.crt --key old.key --passphrase-file pw",
        5,
        "ca.exists",
    );
    assert_eq!(fs::read(project.path("ca/root/key.pem")).unwrap(), before);
    let err = project.fails(
        "ca create x --parent rot --passphrase-file pw",
        3,
        "ca.unknown",
    );
    assert!(err.contains("the CAs here are `root`"), "{err}");
}

#[test]
fn a_killed_run_is_finished_with_its_own_key() {
    let project = Project::new();
    project.ok("ca create whole --passphrase-file pw");
    // What a run leaves that was killed after it claimed the key.
    fs::create_dir(project.path("ca/cut")).unwrap();
    fs::rename(
        project.path("ca/whole/key.pem"),
        project.path("ca/cut/key.pem"),
    )
    .unwrap();
    let key = fs::read(project.path("ca/cut/key.pem")).unwrap();
    project.fails("ca create cut --passphrase-file pw2", 3, "key.passphrase");
    let out = project.ok("ca create cut --passphrase-file pw");
    assert!(
        out.starts_with("finished what an earlier run began"),
        "{out}"
    );
    assert_eq!(fs::read(project.path("ca/cut/key.pem")).unwrap(), key);
    // The key is the certificate's.
    project.ok("ca create below --parent cut --passphrase-file pw");
}

#[test]
fn a_window_lies_inside_the_parents() {
    let project = Project::new();
    project.ok("ca create root --unencrypted --days 100");
    let err = project.fails(
        "ca create x --parent root --unencrypted --days 200",
        3,
        "lifetime.after-ca",
    );
    assert!(err.contains("--on-ca-expiry clamp"), "{err}");
    project.ok("ca create x --parent root --unencrypted --days 200 --on-ca-expiry clamp");
    // A length that nobody asked for gives way by itself.
    project.ok("ca create z --parent root --unencrypted");
    let end = |name: &str| project.openssl(&format!("x509 -in ca/{name}/cert.pem -noout -enddate"));
    assert_eq!(end("x"), end("root"));
    assert_eq!(end("z"), end("root"));
    project.fails("ca create y --parent x --unencrypted", 3, "ca.path-length");
    project.fails(
        "ca create y --parent root --unencrypted --not-before -2d --days 5",
        3,
        "lifetime.before-ca",
    );
    project
        .ok("ca create far --unencrypted --not-before 2026-01-01 --not-after 2050-01-01T00:00:00Z");
    let dates = project.openssl("x509 -in ca/far/cert.pem -noout -dates");
    assert_eq!(
        dates,
        "notBefore=Jan  1 00:00:00 2026 GMT\nnotAfter=Jan  1 00:00:00 2050 GMT\n"
    );
}

#[test]
fn foreign_keys_are_read_in_every_usual_form() {
    let project = Project::new();
    let import = |name: &str, key: &str| {
        format!(
            "ca import {name} --cert {name}.crt --key {key} --passphrase-file pw \
             --key-passphrase-file pw2"
        )
    };
    project.foreign_ca("sec1");
    project.ok(&import("sec1", "sec1.key"));
    project.foreign_ca("pbkdf2");
    project.openssl(
        "pkcs8 -topk8 -in pbkdf2.key -v2 aes-256-cbc -v2prf hmacWithSHA256 \
         -passout file:pw2 -out pbkdf2.enc",
    );
    project.ok(&import("pbkdf2", "pbkdf2.enc"));
    project.foreign_ca("scrypt");
    project.openssl("pkcs8 -topk8 -in scrypt.key -scrypt -passout file:pw2 -out scrypt.enc");
    project.ok(&import("scrypt", "scrypt.enc"));
    project.openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout rsa8.key -subj /CN=rsa -days 30 -out rsa.crt",
    );
    project.openssl("rsa -in rsa8.key -traditional -out rsa.key");
    project.ok(&import("rsa", "rsa.key"));
    for name in ["sec1", "pbkdf2", "scrypt", "rsa"] {
        // Encrypted again, with the project's passphrase, and it signs.
        project.openssl(&format!(
            "pkey -in ca/{name}/key.pem -passin file:pw -noout"
        ));
        assert_eq!(project.mode(&format!("ca/{name}/key.pem")), 0o600);
        project.ok(&format!(
            "ca create under-{name} --parent {name} --days 5 --passphrase-file pw"
        ));
        project.openssl(&format!(
            "verify -CAfile ca/{name}/cert.pem ca/under-{name}/cert.pem"
        ));
    }
}

#[test]
fn a_foreign_ca_that_cannot_serve_is_refused_and_leaves_nothing() {
    let project = Project::new();
    project.foreign_ca("good");
    project.foreign_ca("other");
    let import = |cert: &str, key: &str| {
        format!("ca import x --cert {cert} --key {key} --passphrase-file pw")
    };
    project.fails(&import("good.crt", "other.key"), 3, "ca.key-mismatch");
    project.other(
        "faketime",
        "2020-01-01 openssl req -x509 -new -key good.key -subj /CN=Old -days 30 -out old.crt",
    );
    project.fails(&import("old.crt", "good.key"), 3, "ca.expired");
    project.openssl(
        "req -x509 -new -key good.key -subj /CN=Leaf -days 30 -out leaf.crt \
         -addext basicConstraints=CA:FALSE",
    );
    project.fails(&import("leaf.crt", "good.key"), 3, "draft.issuer");
    project.openssl(
        "req -x509 -new -key good.key -subj /CN=NoSign -days 30 -out nosign.crt \
         -addext keyUsage=digitalSignature",
    );
    project.fails(&import("nosign.crt", "good.key"), 3, "draft.issuer");
    project.openssl("pkcs8 -topk8 -in good.key -passout file:pw2 -out good.enc");
    project.fails(&import("good.crt", "good.enc"), 3, "key.passphrase");
    fs::write(project.path("rubbish"), "hello").unwrap();
    project.fails(&import("rubbish", "good.key"), 3, "pem.none");
    project.fails(&import("good.crt", "nowhere"), 3, "file.missing");
    assert!(!project.path("ca/x").exists());
    project.ok(&import("good.crt", "good.key"));
    let err = project.fails(
        "ca import y --cert good.crt --key good.key --passphrase-file pw",
        5,
        "ca.exists",
    );
    assert!(err.contains("as `x`"), "{err}");
    assert!(!project.path("ca/y").exists());
}

#[test]
fn an_expired_ca_signs_nothing() {
    let project = Project::new();
    project.ok("ca create root --unencrypted --days 30");
    let output = Command::new("faketime")
        .args(["-f", "+40d", env!("CARGO_BIN_EXE_nameplate")])
        .args("ca create x --parent root --unencrypted --days 1".split(' '))
        .current_dir(project.folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("faketime is needed");
    let ran = Ran::from(output);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.starts_with("error[ca.expired]"), "{}", ran.err);
}

#[test]
fn a_key_that_others_can_read_is_warned_of() {
    let project = Project::new();
    project.ok("ca create root --unencrypted");
    let key = project.path("ca/root/key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let ran = project.run("ca create x --parent root --unencrypted --days 9");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("chmod 600 ca/root/key.pem"), "{}", ran.err);
}

#[test]
fn json_has_it_all() {
    let project = Project::new();
    project.ok("ca create root --passphrase-file pw");
    let out = project.ok("ca show root --format json");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let id = project.openssl("x509 -in ca/root/cert.pem -outform der -fingerprint -sha256 -noout");
    let id = id
        .trim()
        .rsplit('=')
        .next()
        .unwrap()
        .replace(':', "")
        .to_lowercase();
    assert_eq!(json["id"], id);
    assert_eq!(json["key_at_rest"], "encrypted");
    assert_eq!(json["path_len"], 1);
    assert_eq!(json["folder"], "ca/root");
    let pem = fs::read_to_string(project.path("ca/root/cert.pem")).unwrap();
    assert_eq!(json["certificate_pem"], pem);
    let list: serde_json::Value =
        serde_json::from_str(&project.ok("ca list --format json")).unwrap();
    assert_eq!(list["cas"].as_array().unwrap().len(), 1);
}

/// Types into a pseudo-terminal: Python's `pty` is a real one. Says what the terminal showed, the
/// exit code, and whether echo was on again afterwards.
const TYPIST: &str = r#"
import os, pty, sys, termios, time
program, typed = sys.argv[1], sys.argv[2].encode().decode("unicode_escape").encode("latin-1")
parent, child = pty.openpty()
pid = os.fork()
if pid == 0:
    os.setsid()
    os.dup2(child, 0); os.dup2(child, 2); os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    os.execv(program, [program] + sys.argv[3:])
shown = b""
for line in typed.split(b"|"):
    while b": " not in shown.rsplit(b"\n", 1)[-1]:
        shown += os.read(parent, 1024)
    os.write(parent, line)
    shown += b"\n"
status = os.waitpid(pid, 0)[1]
echo = termios.tcgetattr(child)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
whole = echo == termios.ECHO | termios.ICANON | termios.ISIG
os.set_blocking(parent, False)
try:
    shown += os.read(parent, 4096)
except OSError:
    pass
print(os.waitstatus_to_exitcode(status), whole, shown.decode())
"#;

fn typed(project: &Project, keys: &str, line: &str) -> String {
    let output = Command::new("python3")
        .args(["-c", TYPIST, env!("CARGO_BIN_EXE_nameplate"), keys])
        .args(line.split_whitespace())
        .current_dir(project.folder.path())
        .env_remove("NAMEPLATE_PASSPHRASE_FILE")
        .output()
        .expect("python3 is needed");
    let ran = Ran::from(output);
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out
}

#[test]
fn a_person_is_asked_twice_in_silence_and_gets_the_terminal_back() {
    let project = Project::new();
    // A slip of the finger is taken back.
    let shown = typed(
        &project,
        "correct horsf\\x7fe\\r|correct horse\\r",
        "ca create root",
    );
    assert!(shown.starts_with("0 True"), "{shown}");
    assert!(!shown.contains("correct"), "{shown}");
    project.openssl("pkey -in ca/root/key.pem -passin file:pw -noout");
    let shown = typed(&project, "one\\r|two\\r", "ca create x");
    assert!(shown.starts_with("3 True"), "{shown}");
    assert!(shown.contains("passphrase.differ"), "{shown}");
    let shown = typed(&project, "sec\\x03", "ca create x");
    assert!(shown.starts_with("4 True"), "{shown}");
    assert!(shown.contains("passphrase.interrupted"), "{shown}");
    assert!(!Path::new(&project.path("ca/x")).exists());
}
