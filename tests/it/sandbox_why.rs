//! The sandbox says why it refused, lets things go wrong when told to, and keeps what it answered.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::project::{Project, quiet};

/// A project with a registered CA in a sandbox that runs.
pub(crate) struct Lab {
    pub(crate) project: Project,
    server: Server,
}

pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn serve(project: &Project, flags: &[&str]) -> Server {
    let any = "127.0.0.1:0";
    let mut command = project.command(&["sandbox", "serve", "--control", any, "--mqtt", any]);
    command.args(["--jitp-delay", "0s"]).args(flags);
    let mut server = Server(quiet(&mut command).spawn().unwrap());
    let pid = server.0.id();
    wait_for("the sandbox runs", || {
        assert!(server.0.try_wait().unwrap().is_none(), "the sandbox ended");
        let text = std::fs::read_to_string(project.path("sandbox/running.json"));
        let running: Option<Value> = serde_json::from_str(&text.unwrap_or_default()).ok();
        running.is_some_and(|running| running["pid"] == pid)
    });
    server
}

#[track_caller]
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Lab {
    pub(crate) fn new(flags: &[&str]) -> Self {
        let project = Project::new();
        project.ok(&["ca", "create", "factory", "--unencrypted"]);
        let server = serve(&project, flags);
        project.ok(&["template", "new", "jitp"]);
        let register = ["template", "register", "jitp.json", "--name", "pump"];
        project.ok(&[&register[..], &["--policy", "jitp-policy.json"]].concat());
        project.ok(&["ca", "register", "factory", "--template", "pump"]);
        Self { project, server }
    }

    pub(crate) fn issue(&self, name: &str, flags: &[&str]) {
        let subject = format!("CN={name},serialNumber={name}");
        let issue = ["device", "issue", name, "--subject", &subject];
        self.project.ok(&[&issue[..], flags].concat());
    }

    pub(crate) fn running(&self) -> Value {
        let text = std::fs::read_to_string(self.project.path("sandbox/running.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("localhost:{}", self.running()["mqtt_port"])
    }

    /// Connects as a device; whether it got in.
    pub(crate) fn connect(&self, name: &str, flags: &[&str]) -> bool {
        self.connecting(name, flags)
            .output()
            .unwrap()
            .status
            .success()
    }

    pub(crate) fn connecting(&self, name: &str, flags: &[&str]) -> Command {
        let (identity, endpoint) = (format!("devices/{name}"), self.endpoint());
        let mut command = self.project.command(&["connect", "--identity", &identity]);
        command.args([
            "--endpoint",
            &endpoint,
            "--server-ca",
            "sandbox/server-ca.pem",
        ]);
        command.args(flags);
        command
    }

    /// The refusals so far.
    pub(crate) fn refusals(&self) -> Vec<Value> {
        let logs = ["--format", "ndjson", "sandbox", "logs", "--why"];
        let output = self.project.run(&logs);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// What was refused while something was done: waits for one, and expects no second.
    pub(crate) fn refused(&self, act: impl FnOnce()) -> Value {
        let before = self.refusals().len();
        act();
        wait_for("a refusal is recorded", || self.refusals().len() > before);
        let mut new = self.refusals().split_off(before);
        assert_eq!(new.len(), 1, "{new:#?}");
        new.remove(0)
    }
}

/// One request to the control plane: status and body.
pub(crate) fn rest(lab: &Lab, method: &str, path: &str, body: &str) -> (u16, String) {
    let url = lab.running()["control_url"].as_str().unwrap().to_owned();
    let signed = "AWS4-HMAC-SHA256 Credential=123456789012/20261128/us-east-1/iot/aws4_request, \
                  SignedHeaders=host, Signature=0";
    http(&url, method, path, &[("authorization", signed)], body)
}

pub(crate) fn http(
    url: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let is_named = headers.iter().any(|(name, _)| *name == "host");
    let host: &[_] = if is_named { &[] } else { &[("host", host)] };
    let lines: Vec<String> = (host.iter().chain(headers))
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let lines = lines.concat();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nconnection: close\r\n{lines}content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or(0), answer)
}

#[test]
fn what_tls_cannot_agree_on_is_told_apart() {
    let lab = Lab::new(&[]);
    let port = lab.running()["mqtt_port"].to_string();
    let at = format!("127.0.0.1:{port}");
    let s_client = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &at]).args(arguments);
        quiet(command.stdin(Stdio::null())).status().unwrap();
    };
    let name = ["-servername", "localhost"];
    for (arguments, rule) in [
        (vec!["-servername", "example.com"], "tls.server-name"),
        (vec!["-noservername"], "tls.no-server-name"),
        (
            [&name[..], &["-tls1_2"]].concat(),
            "tls.no-client-certificate",
        ),
        (
            [&name[..], &["-tls1_1", "-cipher", "ALL@SECLEVEL=0"]].concat(),
            "tls.version",
        ),
    ] {
        let record = lab.refused(|| s_client(&arguments));
        assert_eq!(record["why"]["rule"], rule, "{record:#}");
        assert_eq!(record["why"]["stage"], "tls");
    }
    let record = lab.refused(|| {
        let mut plain = TcpStream::connect(&at).unwrap();
        plain
            .write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01x")
            .unwrap();
        let _ = plain.read(&mut [0; 16]);
    });
    assert_eq!(record["why"]["rule"], "tls.not-tls", "{record:#}");
}

#[test]
fn a_failed_template_is_told_at_once_with_its_parameter() {
    let lab = Lab::new(&[]);
    lab.project.ok(&["device", "issue", "plain"]);
    let start = Instant::now();
    let output = lab.connecting("plain", &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("error[connect.provisioning]"), "{text}");
    assert!(
        text.contains("AWS::IoT::Certificate::SerialNumber"),
        "{text}"
    );
    let refusals = lab.refusals();
    let why = &refusals.last().unwrap()["why"];
    assert_eq!(why["stage"], "provisioning");
    assert_eq!(why["template"], "pump");
    assert_eq!(why["parameter"], "AWS::IoT::Certificate::SerialNumber");
}

#[test]
fn faults_and_the_clock_are_set_while_it_runs() {
    let lab = Lab::new(&["--fault", "template-delay=10ms"]);
    let set = |fault: &str| lab.project.ok(&["sandbox", "fault", "set", fault]);
    let clear = || lab.project.ok(&["sandbox", "fault", "clear", "--all"]);
    assert_eq!(
        lab.project.ok(&["sandbox", "fault", "list"])["faults"][0],
        "template-delay=10ms"
    );
    lab.issue("pump-1", &[]);
    assert!(lab.connect("pump-1", &[]));
    // What is wrong with the server is seen by the device, and each is gone with its fault.
    for (fault, code) in [
        ("server-cert-expired", "dial.server-expired"),
        ("server-cert-not-yet-valid", "dial.server-not-yet-valid"),
        ("server-cert-wrong-name", "dial.server-name"),
        ("server-cert-untrusted", "dial.server-untrusted"),
    ] {
        set(fault);
        let output = lab
            .connecting("pump-1", &["--attempts", "1"])
            .output()
            .unwrap();
        assert!(!output.status.success(), "{fault} ({code})");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("error["), "{fault}: {text}");
        clear();
    }
    for fault in [
        "server-cert-oversized",
        "tls-fragments=64",
        "connection-delay=200ms",
    ] {
        set(fault);
        assert!(lab.connect("pump-1", &["--attempts", "1"]), "{fault}");
        clear();
    }
    for (fault, rule) in [
        ("connection-drop", "fault.connection-drop"),
        ("connect-throttle=0", "fault.connect-throttle"),
    ] {
        set(fault);
        let record = lab.refused(|| assert!(!lab.connect("pump-1", &["--attempts", "1"])));
        assert_eq!(record["why"]["rule"], rule);
        clear();
    }
    set("connection-cut=300ms");
    let held = lab
        .connecting("pump-1", &["--hold", "10s"])
        .output()
        .unwrap();
    assert_eq!(held.status.code(), Some(1), "{held:?}");
    clear();
    wait_for("the connection is forgotten", || {
        let status = lab.project.ok(&["sandbox", "status"]);
        status["now"]["connections"].as_array().unwrap().is_empty()
    });
    // A revoked device is still let in until the change has reached the connections.
    set("propagation-delay=3s");
    assert!(lab.connect("pump-1", &["--attempts", "1"]));
    let certificates = rest(&lab, "GET", "/certificates", "").1;
    let id = certificates.split("\"certificateId\":\"").nth(1).unwrap()[..64].to_owned();
    let path = format!("/certificates/{id}?newStatus=INACTIVE");
    assert_eq!(rest(&lab, "PUT", &path, "").0, 200);
    assert!(lab.connect("pump-1", &["--attempts", "1"]));
    wait_for("the change arrives", || {
        !lab.connect("pump-1", &["--attempts", "1"])
    });
    clear();
    let path = format!("/certificates/{id}?newStatus=ACTIVE");
    assert_eq!(rest(&lab, "PUT", &path, "").0, 200);
    wait_for("the change is there at once", || {
        lab.connect("pump-1", &["--attempts", "1"])
    });
    set("rest-throttle=0");
    assert_eq!(rest(&lab, "GET", "/things", "").0, 400);
    clear();
    assert_eq!(rest(&lab, "GET", "/things", "").0, 200);
    let (code, error) = lab.project.fails(&["sandbox", "fault", "set", "no-such"]);
    assert_eq!((code, &error[..]), (3, "sandbox.change"));

    let time = lab
        .project
        .ok(&["sandbox", "clock", "set", "fixed=2040-01-01T00:00:00Z"]);
    assert_eq!(time["time"], "2040-01-01T00:00:00Z");
    let record = lab.refused(|| assert!(!lab.connect("pump-1", &["--attempts", "1"])));
    assert_eq!(record["timestamp"], "2040-01-01 00:00:00.000");
    lab.project.ok(&["sandbox", "clock", "set", "real"]);
    assert!(lab.connect("pump-1", &["--attempts", "1"]));
}

#[test]
fn the_interface_wants_the_token_that_only_its_owner_reads() {
    let lab = Lab::new(&[]);
    let url = lab.running()["admin_url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    assert_eq!(http(&url, "GET", "/now", &[], "").0, 403);
    let wrong = [("authorization", "Bearer 00")];
    assert_eq!(http(&url, "GET", "/now", &wrong, "").0, 403);
    let file = lab.project.path("sandbox/admin-token");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = std::fs::read_to_string(&file).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    assert_eq!(
        http(&url, "GET", "/now", &[("authorization", &bearer)], "").0,
        200
    );
}

/// What was answered before the kill is there afterwards; nothing else is asked of the end.
#[test]
fn kill_9_loses_nothing_that_was_answered() {
    let Lab { project, server } = Lab::new(&[]);
    let lab = Lab { project, server };
    let url = lab.running()["control_url"].as_str().unwrap().to_owned();
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let url = url.clone();
            std::thread::spawn(move || {
                let mut answered = Vec::new();
                for n in 0.. {
                    let name = format!("thing-{writer}-{n}");
                    let host = url.strip_prefix("http://").unwrap();
                    let Ok(mut stream) = TcpStream::connect(host) else {
                        break;
                    };
                    let request = format!(
                        "POST /things/{name} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
                         authorization: AWS4-HMAC-SHA256 Credential=123456789012/20261128/\
                         us-east-1/iot/aws4_request, SignedHeaders=host, Signature=0\r\n\
                         content-length: 2\r\n\r\n{{}}"
                    );
                    let mut answer = String::new();
                    let sent = stream.write_all(request.as_bytes());
                    if sent.is_err() || stream.read_to_string(&mut answer).is_err() {
                        break;
                    }
                    if answer.starts_with("HTTP/1.1 200") {
                        answered.push(name);
                    }
                }
                answered
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(700));
    let Lab {
        project,
        mut server,
    } = lab;
    server.0.kill().unwrap();
    server.0.wait().unwrap();
    let answered: Vec<String> = writers
        .into_iter()
        .flat_map(|one| one.join().unwrap())
        .collect();
    assert!(answered.len() > 10, "{} answers", answered.len());
    drop(server);
    let server = serve(&project, &[]);
    let lab = Lab { project, server };
    let status = lab.project.ok(&["sandbox", "status"]);
    let things: Vec<&str> = status["things"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    for name in &answered {
        assert!(
            things.contains(&&name[..]),
            "{name} was answered and is lost"
        );
    }
}

#[test]
fn a_snapshot_is_taken_while_it_runs_and_put_back() {
    let lab = Lab::new(&[]);
    lab.issue("pump-1", &[]);
    assert!(lab.connect("pump-1", &[]));
    lab.project.ok(&["sandbox", "snapshot", "snap.tar"]);
    let (code, error) = lab.project.fails(&["sandbox", "snapshot", "snap.tar"]);
    assert_eq!((code, &error[..]), (5, "sandbox.snapshot-exists"));
    let (code, error) = lab
        .project
        .fails(&["sandbox", "restore", "snap.tar", "--yes"]);
    assert_eq!((code, &error[..]), (5, "sandbox.running"));
    let ca = std::fs::read(lab.project.path("sandbox/server-ca.pem")).unwrap();
    let Lab { project, server } = lab;
    drop(server);
    project.ok(&["sandbox", "reset", "--yes"]);
    project.ok(&["sandbox", "restore", "snap.tar"]);
    let (code, error) = project.fails(&["sandbox", "restore", "snap.tar"]);
    assert_eq!((code, &error[..]), (5, "sandbox.reset"));
    assert_eq!(
        std::fs::read(project.path("sandbox/server-ca.pem")).unwrap(),
        ca
    );
    let server = serve(&project, &[]);
    let lab = Lab { project, server };
    // The device is known: it gets in at the first try.
    assert!(lab.connect("pump-1", &["--attempts", "1"]));
}

#[test]
fn records_are_filtered_followed_and_shaped_as_cloudwatchs() {
    let lab = Lab::new(&[]);
    lab.issue("pump-1", &[]);
    let mut follow = lab
        .project
        .command(&["sandbox", "logs", "--follow", "--client", "pump-1"]);
    let mut follow = Server(follow.stdout(Stdio::piped()).spawn().unwrap());
    assert!(lab.connect("pump-1", &[]));
    let mut out = follow.0.stdout.take().unwrap();
    let mut text = String::new();
    while !text.contains("CLIENT_INITIATED_DISCONNECT") {
        let mut bytes = [0; 1024];
        let read = out.read(&mut bytes).unwrap();
        assert!(read > 0, "{text}");
        text += &String::from_utf8_lossy(&bytes[..read]);
    }
    assert!(text.contains("Connect pump-1"), "{text}");
    let output = lab.project.run(&["sandbox", "logs", "--cloudwatch"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().count() >= 3, "{text}");
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert!(
            record.get("why").is_none() && record["traceId"].is_string(),
            "{line}"
        );
    }
    let output = lab
        .project
        .run(&["sandbox", "logs", "--since", "2099-01-01T00:00:00Z"]);
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{output:?}"
    );
}

/// The page in a real browser: what came from outside is text, and what was decided is there.
#[test]
fn the_page_shows_things_and_decisions_in_chromium() {
    let lab = Lab::new(&["--ui=127.0.0.1:0"]);
    lab.issue("pump-1", &[]);
    assert!(lab.connect("pump-1", &[]));
    let script = "<script>document.title='broken'</script>";
    assert!(!lab.connect("pump-1", &["--attempts", "1", "--client-id", script]));
    let url = lab.running()["ui_url"].as_str().unwrap().to_owned();
    // Another site's name that leads here gets nothing.
    assert_eq!(
        http(&url, "GET", "/", &[("host", "evil.example")], "").0,
        421
    );
    let (status, page) = http(&url, "GET", "/?refresh=false", &[], "");
    assert_eq!(status, 200);
    assert!(
        page.contains("content-security-policy: default-src 'none'"),
        "{page}"
    );
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg("--disable-background-networking")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("{url}/?refresh=false"))
        .stderr(Stdio::null())
        .output()
        .expect("chromium must be installed");
    let dom = String::from_utf8_lossy(&output.stdout);
    for part in [
        "<title>nameplate sandbox</title>",
        "&lt;script&gt;",
        "policy.unresolved-variable",
        "To mend it: connect with the client id",
        "Things: 1",
        "Certificates: 1",
    ] {
        assert!(dom.contains(part), "{part} is not in\n{dom}");
    }
    let (code, error) = Project::new().fails(&[
        "sandbox",
        "serve",
        "--ui=0.0.0.0:0",
        "--control",
        "127.0.0.1:0",
        "--mqtt",
        "127.0.0.1:0",
    ]);
    assert_eq!((code, &error[..]), (3, "sandbox.page-open"));
}

/// The short form of `scripts/soak/sandbox`.
#[test]
fn storms_of_reconnects_and_faults_leave_nothing_lost_or_doubled() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/soak/sandbox");
    let output = Command::new("python3")
        .args([script, "10"])
        .env("NAMEPLATE", env!("CARGO_BIN_EXE_nameplate"))
        .output()
        .expect("python3 must be installed");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("figure sandbox.soak_accepted"), "{text}");
}
