//! `--cert-profile` and its companions: what a profile says stands in the certificate, and a wrong
//! one is placed.

use std::process::Command;

use crate::project::Project;

/// `openssl x509 -text` of an identity's certificate.
fn text(project: &Project, device: &str) -> String {
    let path = project.path("devices").join(device).join("device.crt.pem");
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-text", "-in"])
        .arg(path)
        .output()
        .expect("openssl is installed");
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn built_in_profiles_decide_usage_names_and_length() {
    let project = Project::with_ca();
    for (profile, usage, name, hours) in [
        ("device", "TLS Web Client Authentication", None, 365 * 24),
        (
            "server",
            "TLS Web Server Authentication",
            Some("DNS:device-server"),
            90 * 24,
        ),
        ("ci", "TLS Web Client Authentication", None, 1),
    ] {
        let device = format!("device-{profile}");
        let issued = project.ok(&["device", "issue", &device, "--cert-profile", profile]);
        let text = text(&project, &device);
        assert!(text.contains(usage), "{text}");
        assert_eq!(text.contains("Subject Alternative Name"), name.is_some());
        assert!(name.is_none_or(|name| text.contains(name)), "{text}");
        let at = |key: &str| -> nameplate::core::time::UtcTime {
            issued[key].as_str().unwrap().parse().unwrap()
        };
        let length = at("not_after").unix() - at("not_before").unix();
        let backdate = if profile == "ci" { 300 } else { 3_600 };
        // A new CA's beginning may cut the backdating short.
        assert!(
            (hours * 3_600..=hours * 3_600 + backdate).contains(&length),
            "{length}"
        );
    }
}

#[test]
fn a_file_takes_values_and_flags_go_before_it() {
    let project = Project::with_ca();
    let toml = "subject = 'CN={name},OU={model}'\nalternative_names = ['URI:urn:{model}']\n\
                key = 'p384'\npurpose = 'both'\nvalidity = '2d'\n";
    std::fs::write(project.path("pump.toml"), toml).unwrap();
    let issue = |device: &str, more: &[&str]| {
        let args = ["device", "issue", device, "--cert-profile", "pump.toml"];
        project.ok(&[&args, more].concat())
    };
    let issued = issue("pump-1", &["--set", "model=P7,O=x", "--san", "10.0.0.1"]);
    assert_eq!(issued["subject"], "CN=pump-1, OU=P7\\,O=x");
    let printed = text(&project, "pump-1");
    for part in [
        "URI:urn:P7,O=x",
        "IP Address:10.0.0.1",
        "TLS Web Client Authentication, TLS Web Server Authentication",
        "secp384r1",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let short = issue("pump-2", &["--set=model=P7", "--ttl=1h", "--curve=p256"]);
    assert!(short["not_after"].as_str() < issued["not_after"].as_str());
    assert!(text(&project, "pump-2").contains("prime256v1"));
    let config = project.path("nameplate.toml");
    let configured = std::fs::read_to_string(&config).unwrap();
    let configured = configured.replace("[issue]\n", "[issue]\nprofile = 'pump.toml'\n");
    std::fs::write(&config, configured).unwrap();
    project.ok(&["device", "issue", "pump-3", "--set", "model=P8"]);
    assert!(text(&project, "pump-3").contains("URI:urn:P8"));
}

#[test]
fn slips_are_told_and_nothing_is_left() {
    let project = Project::with_ca();
    for (toml, place) in [
        ("subjekt = 'CN=a'", "line 1, column 1"),
        ("key = 'p256'\nvalidity = '90'", "line 2, column 12"),
        ("alternative_names = ['IP:pump']", "line 1, column 22"),
        ("purpose = 'ca'", "line 1, column 11"),
        ("key = ", "line 1, column"),
    ] {
        std::fs::write(project.path("wrong.toml"), toml).unwrap();
        let output = project.run(&["device", "issue", "a", "--cert-profile", "wrong.toml"]);
        assert_eq!(output.status.code(), Some(3), "{toml}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("error[profile.invalid]"), "{stderr}");
        assert!(stderr.contains(&format!("wrong.toml, {place}")), "{stderr}");
    }
    for (flags, code, error) in [
        (&["--cert-profile", "devise"][..], 3, "profile.unknown"),
        (&["--set", "model=x"], 2, "profile.set"),
        (
            &["--san", "IP:{x}", "--set", "x=y"],
            3,
            "draft.alternative-name",
        ),
        (&["--san", "{x}"], 3, "pattern.unknown"),
        (&["--ttl", "0s"], 2, "--ttl"),
        (&["--set", "name=b"], 2, "--set"),
    ] {
        let output = project.run(&[&["device", "issue", "a"], flags].concat());
        assert_eq!(output.status.code(), Some(code), "{flags:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(error), "{stderr}");
    }
    assert!(!project.path("devices/a").exists());
}

#[test]
fn a_shell_takes_the_exports_and_json_holds_no_key() {
    let project = Project::with_ca();
    let folder = project.path("it's here");
    let folder = folder.to_str().unwrap();
    let args = ["device", "issue", "ci-1", "--cert-profile", "ci", "--env"];
    let output = project.run(&[&args[..], &["--out", folder]].concat());
    assert!(output.status.success());
    let mut script = String::from_utf8(output.stdout).unwrap();
    script += "cat \"$NAMEPLATE_CERT\" \"$NAMEPLATE_KEY\" \"$NAMEPLATE_CHAIN\" >/dev/null || exit\n\
               printf %s \"$NAMEPLATE_IDENTITY\"";
    let shell = Command::new("sh").args(["-euc", &script]).output().unwrap();
    assert!(shell.status.success(), "{shell:?}");
    assert_eq!(String::from_utf8(shell.stdout).unwrap(), folder);
    let issued = project.ok(&["device", "issue", "ci-2", "--ttl", "1h"]);
    for (key, file) in [
        ("certificate_pem", "device.crt.pem"),
        ("chain_pem", "chain.pem"),
        ("ca_pem", "ca.pem"),
    ] {
        let there = std::fs::read_to_string(project.path("devices/ci-2").join(file)).unwrap();
        assert_eq!(issued[key].as_str().unwrap(), there, "{key}");
    }
    assert!(!issued.to_string().contains("PRIVATE KEY"));
}
