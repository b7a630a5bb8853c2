//! `scripts/ci`: a job's device and its workflow, run as a job runs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::crl::python;
use crate::project::{Project, tool};

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A job's step in a repository of its own: a project's certificates, our script, nothing else.
fn job(step: &mut Command, repository: &Path) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_nameplate"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    step.current_dir(repository)
        .env_clear()
        .env("PATH", path)
        .env("TMPDIR", repository)
        .output()
        .unwrap()
}

fn as_device(repository: &Path, words: &[&str]) -> Output {
    job(
        Command::new(source("scripts/ci/as-device")).args(words),
        repository,
    )
}

const CONNECT: &str = "set -e
mosquitto_sub -h $NAMEPLATE_MQTT_HOST -p $NAMEPLATE_MQTT_PORT --cafile $NAMEPLATE_SERVER_CA \
    --cert $NAMEPLATE_CHAIN --key $NAMEPLATE_KEY -i pump-7 -t devices/pump-7/hello -E
nameplate cert inspect $NAMEPLATE_CERT --format json
pwd";

#[test]
fn a_command_runs_as_a_device_that_is_a_thing() {
    let project = Project::new();
    let place = std::fs::canonicalize(project.root()).unwrap();
    let output = as_device(&place, &["--name", "pump-7", "sh", "-c", CONNECT]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let (inspected, place_said) = said.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(Path::new(place_said), place);
    let inspected: serde_json::Value = serde_json::from_str(inspected).unwrap();
    let validity = &inspected["certificates"][0];
    let at = |name: &str| -> nameplate::core::time::UtcTime {
        validity[name]
            .as_str()
            .unwrap_or_else(|| panic!("{validity}"))
            .parse()
            .unwrap()
    };
    let length = at("not_after").unix() - at("not_before").unix();
    assert!(length <= 3_900, "{length}");
    // Nothing of it stays.
    let left = std::fs::read_dir(&place).unwrap().flatten();
    assert!(
        left.map(|one| one.file_name())
            .all(|name| !name.to_string_lossy().contains("as-device"))
    );
}

#[test]
fn a_jobs_own_failure_is_its_exit_code_and_slips_are_told() {
    let project = Project::new();
    let code = |words: &[&str]| as_device(project.root(), words).status.code();
    assert_eq!(code(&["sh", "-c", "exit 9"]), Some(9));
    assert_eq!(code(&[]), Some(2));
    assert_eq!(code(&["--nmae", "x", "true"]), Some(2));
    assert_eq!(code(&["--template", "x.json", "true"]), Some(2));
    assert_eq!(code(&["--name", "no spaces", "true"]), Some(2));
}

#[test]
fn the_workflow_does_what_it_says() {
    let steps = "import sys, yaml
job = yaml.safe_load(open(sys.argv[1]))['jobs']['first-connect']
print('\\n'.join(step['run'] for step in job['steps'] if 'run' in step))";
    let file = source("scripts/ci/github-actions.yml");
    let words = ["-c", steps, file.to_str().unwrap()];
    let said = tool(&python("python3"), &words, Path::new("/"));
    let steps: Vec<&str> = said.lines().collect();
    let [install, lint, connect] = steps[..] else {
        panic!("{said}");
    };
    // The program under test stands for the one that this builds.
    assert_eq!(install, "cargo install --locked --path nameplate");
    let project = Project::with_ca();
    project.ok(&["device", "issue", "pump"]);
    let place = |name: &str| project.path(name);
    std::fs::create_dir_all(place("certificates")).unwrap();
    std::fs::copy(
        place("devices/pump/chain.pem"),
        place("certificates/pump.pem"),
    )
    .unwrap();
    std::fs::create_dir_all(place("scripts")).unwrap();
    std::os::unix::fs::symlink(source("scripts/ci"), place("scripts/ci")).unwrap();
    for step in [lint, connect] {
        let output = job(
            Command::new("bash").args(["-e", "-c", step]),
            project.root(),
        );
        assert!(output.status.success(), "{step}: {output:?}");
    }
    let sarif = std::fs::read(place("certificates.sarif")).unwrap();
    let sarif: serde_json::Value = serde_json::from_slice(&sarif).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
}
