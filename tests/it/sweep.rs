//! `sweep`: what has expired goes, here and at the target, and nothing else does.

use std::process::Command;

use crate::project::Project;

fn issue(project: &Project, name: &str, until: &str) {
    let end = format!("--not-after={until}");
    let mut args = vec!["device", "issue", name, "--not-before=-2h", &end];
    if until.starts_with('-') {
        assert_eq!(project.fails(&args), (5, "lifetime.over".into()));
        args.push("--flaw=expired");
    }
    project.ok(&args);
}

/// A project whose CA reaches into the past, so that its devices can be over already.
fn project() -> Project {
    let project = Project::new();
    project.ok(&["ca", "create", "factory", "--not-before=-1d"]);
    project
}

fn swept(project: &Project, more: &[&str]) -> Vec<serde_json::Value> {
    let answer = project.ok(&[&["sweep"], more].concat());
    answer["swept"].as_array().unwrap().clone()
}

fn state(project: &Project, device: &str) -> String {
    let shown = project.ok(&["device", "show", device]);
    let state = &shown["certificates"][0]["state"];
    state.as_str().unwrap().to_owned()
}

#[test]
fn only_what_has_expired_goes_and_only_our_files() {
    let project = project();
    issue(&project, "job-1", "-1h");
    issue(&project, "job-2", "-1h");
    issue(&project, "pump-1", "+90d");
    std::fs::write(project.path("devices/job-2/notes"), "mine").unwrap();
    let folder = |name: &str| project.path("devices").join(name);

    assert_eq!(swept(&project, &["--dry-run"]).len(), 2);
    assert!(folder("job-1").join("device.key.pem").exists());
    assert_eq!(swept(&project, &["--expired-for", "2h"]).len(), 0);
    assert_eq!(swept(&project, &["--batch", "b1"]).len(), 0);
    assert_eq!(swept(&project, &["--lifetime", "10m"]).len(), 0);

    let gone = swept(&project, &["--ci"]);
    assert_eq!(gone.len(), 2);
    let local = |name: &str| {
        let one = gone.iter().find(|one| one["device"] == name).unwrap();
        one["local"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (local("job-1"), local("job-2")),
        ("removed".into(), "kept".into())
    );
    assert!(!folder("job-1").exists());
    let left: Vec<_> = std::fs::read_dir(folder("job-2"))
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(folder("pump-1").join("device.key.pem").exists());
    assert_eq!(
        (state(&project, "job-1"), state(&project, "pump-1")),
        ("swept".into(), "issued".into())
    );

    assert_eq!(swept(&project, &[]).len(), 0);
    project.ok(&["ledger", "verify"]);
    // The name is free again.
    issue(&project, "job-1", "-1h");
    assert_eq!(swept(&project, &[]).len(), 1);
}

#[test]
fn a_folder_with_another_certificate_is_left() {
    let project = project();
    issue(&project, "job-1", "-1h");
    issue(&project, "pump-1", "+90d");
    for name in ["device.crt.pem", "device.key.pem"] {
        std::fs::copy(
            project.path("devices/pump-1").join(name),
            project.path("devices/job-1").join(name),
        )
        .unwrap();
    }
    let gone = swept(&project, &["--local"]);
    assert_eq!(
        (&gone[0]["local"], &gone[0]["target"]),
        (&"kept".into(), &"skipped".into())
    );
    assert!(project.path("devices/job-1/device.key.pem").exists());
    // The target is still to be swept.
    assert_eq!(state(&project, "job-1"), "deactivated");
    assert_eq!(swept(&project, &[]).len(), 1);
    assert_eq!(state(&project, "job-1"), "swept");
}

/// Registered, with policy and thing, by the AWS CLI; swept; and gone there.
#[test]
fn the_target_forgets_certificate_and_thing() {
    let project = project();
    let venv =
        std::env::var("NAMEPLATE_TEST_VENV").unwrap_or_else(|_| ".nameplate-test/venv".to_owned());
    let aws = std::path::absolute(std::path::Path::new(&venv).join("bin/aws")).unwrap();
    issue(&project, "job-1", "-1h");
    issue(&project, "job-2", "-1h");
    let script = r#"
set -eu
aws() { AWS_PAGER= "$AWS" --output text iot "$@"; }
aws create-policy --policy-name p --policy-document '{"Version":"2012-10-17","Statement":[]}' >&2
for name in job-1 job-2; do
    arn=$(aws register-certificate-without-ca --status ACTIVE --query certificateArn \
        --certificate-pem "file://devices/$name/device.crt.pem")
    aws create-thing --thing-name $name >&2
    aws attach-thing-principal --thing-name $name --principal "$arn"
    aws attach-policy --policy-name p --target "$arn"
done
other=$(aws register-certificate-without-ca --status ACTIVE --query certificateArn \
    --certificate-pem file://ca/factory/cert.pem)
aws attach-thing-principal --thing-name job-2 --principal "$other"
"$NAMEPLATE" --format json sweep --things --dry-run
"$NAMEPLATE" --format json sweep --things
"$NAMEPLATE" --format json sweep --things
aws list-things --query 'things[].thingName'
aws list-certificates --query 'length(certificates)'
aws list-targets-for-policy --policy-name p --query 'length(targets)'
"#;
    std::fs::write(project.path("script"), script).unwrap();
    let output: std::process::Output = project
        .command(&["sandbox", "run", "--at=-90m", "--", "sh", "script"])
        .env("AWS", aws)
        .env("NAMEPLATE", env!("CARGO_BIN_EXE_nameplate"))
        .env("PATH", std::env::var("PATH").unwrap())
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let json = |line: usize| serde_json::from_str::<serde_json::Value>(lines[line]).unwrap();
    for line in [0, 1] {
        let swept = json(line)["swept"].as_array().unwrap().clone();
        assert_eq!(swept.len(), 2, "{text}");
        for one in swept {
            let thing = if one["device"] == "job-1" {
                "removed"
            } else {
                "kept"
            };
            assert_eq!(
                (&one["target"], &one["thing"]),
                (&"removed".into(), &thing.into())
            );
        }
    }
    assert_eq!(json(2)["swept"].as_array().unwrap().len(), 0);
    assert_eq!(&lines[3..], ["job-2", "1", "0"]);
}

#[test]
fn aws_wants_a_yes() {
    let project = project();
    issue(&project, "job-1", "-1h");
    let output = Command::new("sh")
        .args([
            "-c",
            "exec \"$0\" --target aws --region eu-west-1 sweep --endpoint-url http://127.0.0.1:9",
        ])
        .arg(env!("CARGO_BIN_EXE_nameplate"))
        .current_dir(project.root())
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "x")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .unwrap();
    // Nothing answers there; and nothing was touched before the question.
    assert!(!output.status.success());
    assert!(project.path("devices/job-1/device.key.pem").exists());
    assert_eq!(state(&project, "job-1"), "issued");
}
