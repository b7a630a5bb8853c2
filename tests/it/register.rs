//! `ca register` and `template …`, run as a user would, and read back by the AWS CLI.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::project::{Project, quiet};
use crate::sandbox_rest::aws;

/// A `sandbox serve` of the project; killed when dropped.
struct Served {
    child: Child,
    url: String,
}

impl Served {
    fn start(project: &Project) -> Self {
        let args = [
            "sandbox",
            "serve",
            "--control",
            "127.0.0.1:0",
            "--mqtt",
            "127.0.0.1:0",
        ];
        let mut command = project.command(&args);
        let child = quiet(&mut command).stdin(Stdio::null()).spawn().unwrap();
        let mut served = Self {
            child,
            url: String::new(),
        };
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let text = std::fs::read(project.path("sandbox/running.json")).unwrap_or_default();
            if let Ok(info) = serde_json::from_slice::<serde_json::Value>(&text) {
                info["control_url"]
                    .as_str()
                    .unwrap()
                    .clone_into(&mut served.url);
                return served;
            }
            assert!(Instant::now() < deadline, "the sandbox does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const REGISTER: [&str; 7] = [
    "template",
    "register",
    "jitp.json",
    "--name",
    "pumps",
    "--policy",
    "jitp-policy.json",
];

fn with_template() -> Project {
    let project = Project::with_ca();
    project.ok(&["template", "new", "jitp"]);
    project
}

#[test]
fn the_aws_cli_reads_back_what_was_registered() {
    let project = with_template();
    let served = Served::start(&project);
    let template = project.ok(&REGISTER);
    assert_eq!(template["target"]["reached"], "running");
    let ca = project.ok(&["ca", "register", "factory", "--template", "pumps"]);
    assert_eq!(ca["outcome"], "registered");
    let id = ca["id"].as_str().unwrap();
    // Each Region is a place of its own, as at AWS: the one of the sandbox's own.
    let line = "describe-ca-certificate --region us-east-1 --certificate-id @";
    let described = aws(&served.url, line, &[id]);
    let description = &described["certificateDescription"];
    assert_eq!(description["status"], "ACTIVE");
    assert_eq!(description["autoRegistrationStatus"], "ENABLE");
    assert_eq!(description["certificateMode"], "DEFAULT");
    assert_eq!(described["registrationConfig"]["templateName"], "pumps");
    let line = "describe-provisioning-template --region us-east-1 --template-name pumps";
    let described = aws(&served.url, line, &[]);
    assert_eq!(described["type"], "JITP");
    assert_eq!(described["enabled"], true);
    let policy = aws(
        &served.url,
        "get-policy --region us-east-1 --policy-name nameplate-device",
        &[],
    );
    assert_eq!(policy["defaultVersionId"], "1");
}

#[test]
fn a_second_run_changes_nothing_and_a_difference_needs_yes() {
    let project = with_template();
    assert_eq!(project.ok(&REGISTER)["target"]["reached"], "in-process");
    assert_eq!(project.ok(&REGISTER)["steps"], serde_json::json!([]));
    let register = ["ca", "register", "factory", "--template", "pumps"];
    assert_eq!(project.ok(&register)["outcome"], "registered");
    // Nothing has to be proved again, so the passphrase is not needed.
    std::fs::remove_file(project.path("pw")).unwrap();
    assert_eq!(project.ok(&register)["outcome"], "nothing-to-change");
    let inactive = [&register[..], &["--inactive"]].concat();
    let refused = (5, "ca-register.differs".to_owned());
    assert_eq!(project.fails(&inactive), refused);
    let dry = [&inactive[..], &["--dry-run"]].concat();
    assert_eq!(project.ok(&dry)["outcome"], "would-change");
    let changed = project.ok(&[&inactive[..], &["--yes"]].concat());
    assert_eq!(changed["changes"][0]["to"], "INACTIVE");
    let edited = std::fs::read_to_string(project.path("jitp.json")).unwrap();
    std::fs::write(
        project.path("jitp.json"),
        edited.replace("\"MERGE\"", "\"REPLACE\""),
    )
    .unwrap();
    let refused = (5, "template-register.differs".to_owned());
    assert_eq!(project.fails(&REGISTER), refused);
    let changed = project.ok(&[&REGISTER[..], &["--yes"]].concat());
    assert_eq!(changed["steps"][0]["step"], "new-version");
    let copy = std::fs::read_to_string(project.path("templates/pumps.json")).unwrap();
    assert!(copy.contains("REPLACE"));
}

#[test]
fn sni_only_needs_no_key_and_a_ca_keeps_its_mode() {
    let project = Project::with_ca();
    std::fs::remove_file(project.path("pw")).unwrap();
    let register = ["ca", "register", "factory", "--mode", "sni-only"];
    assert_eq!(project.ok(&register)["mode"], "SNI_ONLY");
    let refused = (5, "ca-register.mode".to_owned());
    assert_eq!(project.fails(&["ca", "register", "factory"]), refused);
}

#[test]
fn wrong_input_is_refused_before_anything_is_registered() {
    let project = with_template();
    let cases: [(&[&str], i32, &str); 4] = [
        (
            &["ca", "register", "factory", "--template", "nobody"],
            3,
            "ca-register.no-template",
        ),
        (&["ca", "register", "nobody"], 3, "ca.unknown"),
        (&["template", "show", "nobody"], 3, "template.unknown"),
        (&["template", "new", "jitp"], 5, "file.exists"),
    ];
    for (args, exit, code) in cases {
        assert_eq!(project.fails(args), (exit, code.to_owned()), "{args:?}");
    }
    std::fs::write(project.path("pw"), "wrong\n").unwrap();
    let wrong = project.fails(&["ca", "register", "factory"]);
    assert_eq!(wrong, (3, "key.passphrase".to_owned()));
    let dead = ["--endpoint-url", "http://127.0.0.1:1"];
    let gone = project.fails(&[&dead[..], &["ca", "register", "factory"]].concat());
    assert_eq!(gone, (4, "cloud.unavailable".to_owned()));
    std::fs::write(project.path("bad.json"), r#"{"Resources":{}}"#).unwrap();
    let lint = project.run(&["--format", "json", "template", "lint", "bad.json"]);
    assert_eq!(lint.status.code(), Some(1));
    let bad = [
        "template", "register", "bad.json", "--name", "x", "--kind", "jitp",
    ];
    let refused = (3, "template-register.lint".to_owned());
    assert_eq!(project.fails(&bad), refused);
}
