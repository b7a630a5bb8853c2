//! `device rotate` and `device revoke` as a user runs them, against a running sandbox.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nameplate::core::cert::Certificate;
use serde_json::Value;

use crate::project::{Project, quiet, tool};

/// A project with a CA and a template in a sandbox that runs.
struct Lab {
    project: Project,
    server: Server,
}

/// A `sandbox serve` that ends with its owner.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(project: &Project) -> Server {
    let any = "127.0.0.1:0";
    let mut command = project.command(&["sandbox", "serve", "--control", any, "--mqtt", any]);
    command.args(["--jitp-delay", "0s"]);
    let server = Server(quiet(&mut command).spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(30);
    let running = || project.run(&["sandbox", "status"]).status.success();
    while !(project.path("sandbox/running.json").exists() && running()) {
        assert!(Instant::now() < deadline, "the sandbox does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

impl Lab {
    fn new() -> Self {
        let project = Project::new();
        project.ok(&["ca", "create", "factory", "--unencrypted"]);
        let server = serve(&project);
        project.ok(&["template", "new", "jitp"]);
        let register = ["template", "register", "jitp.json", "--name", "pump"];
        project.ok(&[&register[..], &["--policy", "jitp-policy.json"]].concat());
        project.ok(&["ca", "register", "factory", "--template", "pump"]);
        Self { project, server }
    }

    fn issue(&self, name: &str) {
        let subject = format!("CN={name},serialNumber={name}");
        let issue = ["device", "issue", name, "--subject", &subject];
        self.project.ok(&issue);
    }

    /// A device that has connected for the first time.
    fn provisioned(&self, name: &str) {
        self.issue(name);
        assert!(self.connects(name, "30s"));
    }

    fn info(&self) -> Value {
        let text = std::fs::read(self.project.path("sandbox/running.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Whether the identity in `devices/FOLDER` is let in.
    fn connects(&self, folder: &str, timeout: &str) -> bool {
        let info = self.info();
        let (host, port) = (info["mqtt_host"].as_str().unwrap(), &info["mqtt_port"]);
        let endpoint = format!("{host}:{port}");
        let folder = format!("devices/{folder}");
        let ca = info["ca_file"].as_str().unwrap();
        let args = ["connect", "--identity", &folder, "--endpoint", &endpoint];
        let more = ["--server-ca", ca, "--timeout", timeout];
        self.project
            .run(&[&args[..], &more].concat())
            .status
            .success()
    }

    fn leaf(&self, folder: &str) -> String {
        leaf_in(&self.project.path("devices").join(folder)).unwrap()
    }

    /// The AWS CLI's answer from the sandbox.
    fn aws(&self, args: &[&str]) -> Value {
        let venv = std::env::var("NAMEPLATE_TEST_VENV")
            .unwrap_or_else(|_| ".nameplate-test/venv".to_owned());
        let info = self.info();
        let url = info["control_url"].as_str().unwrap();
        let script = "exec env -i AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x AWS_PAGER= \"$@\"";
        let aws = PathBuf::from(venv).join("bin/aws");
        let aws = std::path::absolute(aws).unwrap();
        let front = ["-c", script, "sh", aws.to_str().unwrap(), "--endpoint-url"];
        let region = info["region"].as_str().unwrap();
        let middle = [url, "--region", region, "--output", "json", "iot"];
        let answer = tool(
            "sh",
            &[&front[..], &middle, args].concat(),
            self.project.root(),
        );
        serde_json::from_str(&answer).unwrap()
    }

    fn status_of(&self, id: &str) -> String {
        let answer = self.aws(&["describe-certificate", "--certificate-id", id]);
        let status = &answer["certificateDescription"]["status"];
        status.as_str().unwrap().to_owned()
    }

    fn arn(&self, id: &str) -> String {
        let info = self.info();
        let (region, account) = (&info["region"], &info["account"]);
        let (region, account) = (region.as_str().unwrap(), account.as_str().unwrap());
        format!("arn:aws:iot:{region}:{account}:cert/{id}")
    }

    /// The ids of all ACTIVE certificates at the target.
    fn active(&self) -> Vec<String> {
        let answer = self.aws(&["list-certificates"]);
        let all = answer["certificates"].as_array().unwrap().iter();
        all.filter(|one| one["status"] == "ACTIVE")
            .map(|one| one["certificateId"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The certificates of a thing.
    fn principals(&self, thing: &str) -> Vec<String> {
        let answer = self.aws(&["list-thing-principals", "--thing-name", thing]);
        strings(&answer["principals"])
    }

    fn policies(&self, id: &str) -> Vec<String> {
        let answer = self.aws(&["list-attached-policies", "--target", &self.arn(id)]);
        let policies = answer["policies"].as_array().unwrap();
        let name = |policy: &Value| policy["policyName"].as_str().unwrap().to_owned();
        policies.iter().map(name).collect()
    }

    /// The ids of the device's certificates that the ledger calls live.
    fn live(&self, name: &str) -> Vec<String> {
        let shown = self.project.ok(&["device", "show", name]);
        let mut live = Vec::new();
        collect_live(&shown, &mut live);
        live
    }
}

fn collect_live(value: &Value, live: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let id = fields.get("id").and_then(Value::as_str);
            if let (Some(Value::Bool(true)), Some(id)) = (fields.get("live"), id) {
                live.push(id.to_owned());
            }
            fields.values().for_each(|field| collect_live(field, live));
        }
        Value::Array(all) => all.iter().for_each(|one| collect_live(one, live)),
        _ => {}
    }
}

fn strings(value: &Value) -> Vec<String> {
    let all = value.as_array().unwrap().iter();
    all.map(|one| one.as_str().unwrap().to_owned()).collect()
}

fn leaf_in(folder: &Path) -> Option<String> {
    let text = std::fs::read(folder.join("device.crt.pem")).ok()?;
    let all = Certificate::all_from_pem(&text).ok()?;
    Some(all.first()?.id().to_string())
}

#[test]
fn a_rotated_device_connects_with_its_new_identity_only() {
    let lab = Lab::new();
    lab.provisioned("p1");
    let first = lab.leaf("p1");
    let report = lab.project.ok(&["device", "rotate", "p1"]);
    let second = lab.leaf("p1");
    assert_ne!(first, second);
    assert_eq!(report["old_id"], first.as_str());
    assert_eq!(report["new_id"], second.as_str());
    assert_eq!(report["resumed"], false);
    assert_eq!(lab.leaf("p1.old"), first);
    assert!(lab.connects("p1", "10s"));
    assert!(!lab.connects("p1.old", "1s"));
    assert_eq!(lab.status_of(&first), "INACTIVE");
    assert_eq!(lab.status_of(&second), "ACTIVE");
    assert_eq!(lab.policies(&second), lab.policies(&first));
    assert_eq!(lab.policies(&second), ["nameplate-device"]);
    assert!(lab.principals("p1").contains(&lab.arn(&second)));
    assert_eq!(lab.live("p1"), std::slice::from_ref(&second));

    lab.project.ok(&["device", "rotate", "p1"]);
    assert_eq!(lab.leaf("p1.old"), first);
    let kept = format!("p1.old-{}", &second[..12]);
    assert_eq!(lab.leaf(&kept), second);
    assert!(lab.connects("p1", "10s"));
    lab.project.ok(&["ledger", "verify"]);
}

#[test]
fn a_successor_keeps_purpose_names_and_curve() {
    let lab = Lab::new();
    let profile = "subject = 'CN={name},serialNumber={name}'\nkey = 'p384'\npurpose = 'both'\n\
                   alternative_names = ['DNS:{name}.example', 'URI:urn:{name}']\n";
    std::fs::write(lab.project.path("both.toml"), profile).unwrap();
    let args = ["device", "issue", "p1", "--cert-profile", "both.toml"];
    lab.project
        .ok(&[&args[..], &["--san", "10.1.2.3"]].concat());
    assert!(lab.connects("p1", "30s"));
    let read = || {
        let text = std::fs::read(lab.project.path("devices/p1/device.crt.pem")).unwrap();
        Certificate::all_from_pem(&text).unwrap().remove(0)
    };
    let old = read();
    lab.project.ok(&["device", "rotate", "p1"]);
    let new = read();
    assert_ne!(old.id(), new.id());
    assert_eq!(old.extended_key_usage.as_ref().map(Vec::len), Some(2));
    assert_eq!(old.extended_key_usage, new.extended_key_usage);
    assert_eq!(old.key_usage, new.key_usage);
    assert_eq!(old.alternative_names.len(), 3);
    assert_eq!(old.alternative_names, new.alternative_names);
    assert_eq!(old.subject_der, new.subject_der);
    assert_eq!(old.key_algorithm(), new.key_algorithm());
    assert_ne!(old.public_key, new.public_key);
}

#[test]
fn what_nameplate_registered_reads_back_with_the_aws_cli() {
    let lab = Lab::new();
    lab.provisioned("p1");
    let id = lab.leaf("p1");
    let shown = lab.project.ok(&["ca", "show", "factory"]);
    let ca = shown["id"].as_str().unwrap();
    let answer = lab.aws(&["describe-ca-certificate", "--certificate-id", ca]);
    let described = &answer["certificateDescription"];
    assert_eq!(described["status"], "ACTIVE");
    assert_eq!(described["autoRegistrationStatus"], "ENABLE");
    assert_eq!(described["certificateMode"], "DEFAULT");
    assert_eq!(answer["registrationConfig"]["templateName"], "pump");

    let answer = lab.aws(&["describe-provisioning-template", "--template-name", "pump"]);
    assert_eq!(answer["type"], "JITP");
    assert_eq!(answer["enabled"], true);
    let body: Value = serde_json::from_str(answer["templateBody"].as_str().unwrap()).unwrap();
    let text = std::fs::read(lab.project.path("jitp.json")).unwrap();
    assert_eq!(body, serde_json::from_slice::<Value>(&text).unwrap());

    let thing = lab.aws(&["describe-thing", "--thing-name", "p1"]);
    assert_eq!(thing["attributes"]["serialNumber"], "p1");
    assert_eq!(lab.principals("p1"), [lab.arn(&id)]);
    assert_eq!(lab.policies(&id), ["nameplate-device"]);
    assert_eq!(lab.status_of(&id), "ACTIVE");
}

#[test]
fn a_proof_that_fails_leaves_the_old_identity_and_the_next_run_goes_on_with_the_same_new_one() {
    let lab = Lab::new();
    lab.provisioned("p1");
    let old = lab.leaf("p1");
    let closed = "127.0.0.1:1";
    let rotate = [
        "device",
        "rotate",
        "p1",
        "--timeout",
        "1s",
        "--endpoint",
        closed,
    ];
    let (exit, code) = lab.project.fails(&rotate);
    assert_eq!(exit, 4, "{code}");
    assert_eq!(lab.leaf("p1"), old);
    assert_eq!(lab.status_of(&old), "ACTIVE");
    assert!(lab.connects("p1", "10s"));
    let next = lab.leaf("p1.next");
    lab.project.fails(&rotate);
    assert_eq!(lab.leaf("p1.next"), next);
    let report = lab.project.ok(&["device", "rotate", "p1"]);
    assert_eq!(report["resumed"], true);
    assert_eq!(report["new_id"], next.as_str());
    assert_eq!(lab.leaf("p1"), next);
    assert!(!lab.project.path("devices/p1.next").exists());
    assert_eq!(lab.principals("p1").len(), 2);
}

#[test]
fn what_cannot_be_rotated_says_so_and_changes_nothing() {
    let lab = Lab::new();
    lab.issue("new");
    let rotate = |name: &str| lab.project.fails(&["device", "rotate", name]);
    assert_eq!(rotate("new"), (3, "rotate.not-active".into()));
    assert_eq!(rotate("nobody"), (3, "rotate.no-identity".into()));
    let bad = ["device", "issue", "bad", "--flaw", "missing-eku"];
    lab.project.ok(&bad);
    assert_eq!(rotate("bad"), (5, "rotate.flawed".into()));
    let make = [
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ];
    let files = [
        "-nodes", "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=own",
    ];
    tool("openssl", &[&make[..], &files].concat(), lab.project.root());
    lab.project.ok(&["device", "sign", "own.csr"]);
    assert_eq!(rotate("own"), (3, "rotate.no-key".into()));
    assert!(!lab.project.path("devices/new.next").exists());
    lab.provisioned("p1");
    let old = lab.leaf("p1");
    let Lab { project, server } = lab;
    drop(server);
    let rotate = ["device", "rotate", "p1"];
    assert_eq!(project.fails(&rotate), (4, "rotate.not-running".into()));
    let named = [&rotate[..], &["--endpoint", "127.0.0.1:1"]].concat();
    assert_eq!(project.fails(&named), (4, "rotate.not-running".into()));
    assert!(!project.path("devices/p1.next").exists());
    let lab = Lab {
        server: serve(&project),
        project,
    };
    assert_eq!(lab.leaf("p1"), old);
    let report = lab.project.ok(&rotate);
    assert_eq!(report["resumed"], false);
}

#[test]
fn a_revoked_device_stays_out() {
    let lab = Lab::new();
    lab.provisioned("p1");
    let id = lab.leaf("p1");
    let revoke = ["device", "revoke", "p1", "--reason", "keyCompromise"];
    assert_eq!(lab.project.fails(&revoke), (5, "revoke.confirm".into()));
    assert_eq!(lab.status_of(&id), "ACTIVE");
    assert!(lab.connects("p1", "10s"));
    let sure = [&revoke[..], &["--yes"]].concat();
    let report = lab.project.ok(&sure);
    assert_eq!(report["certificates"][0]["was_revoked_here"], false);
    assert_eq!(report["certificates"][0]["at_target"], true);
    assert_eq!(lab.status_of(&id), "REVOKED");
    assert!(!lab.connects("p1", "1s"));
    assert!(lab.live("p1").is_empty());
    assert_eq!(report["certificates"][0]["reason"], "keyCompromise");
    let again = lab.project.ok(&["device", "revoke", "p1", "--yes"]);
    assert_eq!(again["certificates"][0]["reason"], "keyCompromise");
    assert_eq!(
        again["certificates"][0]["at"],
        report["certificates"][0]["at"]
    );
    assert_eq!(again["certificates"][0]["was_revoked_here"], true);
    let nobody = ["device", "revoke", "nobody", "--yes"];
    assert_eq!(lab.project.fails(&nobody), (3, "revoke.none".into()));
    let rotate = ["device", "rotate", "p1"];
    assert_eq!(lab.project.fails(&rotate), (3, "rotate.no-identity".into()));
    lab.project.ok(&["ledger", "verify"]);
}

#[test]
fn a_rotation_killed_at_any_moment_is_finished_by_the_same_command() {
    let lab = Lab::new();
    lab.provisioned("p1");
    let begun = Instant::now();
    lab.project.ok(&["device", "rotate", "p1"]);
    let whole = begun.elapsed();
    for n in 1..=12 {
        let before = lab.leaf("p1");
        let mut command = lab.project.command(&["device", "rotate", "p1"]);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(whole * n / 13);
        child.kill().unwrap();
        let finished = child.wait().unwrap().success();
        let here = leaf_in(&lab.project.path("devices/p1")).expect("an identity at any moment");
        assert!(lab.active().contains(&here), "kill {n}");
        lab.project.ok(&["device", "rotate", "p1"]);
        let after = lab.leaf("p1");
        assert!(after != before, "kill {n}, finished: {finished}");
        assert_eq!(lab.live("p1"), std::slice::from_ref(&after), "kill {n}");
        assert!(lab.connects("p1", "10s"), "kill {n}");
        assert_eq!(lab.active(), [after], "kill {n}");
        assert!(!lab.project.path("devices/p1.next").exists(), "kill {n}");
    }
    lab.project.ok(&["ledger", "verify"]);
}
