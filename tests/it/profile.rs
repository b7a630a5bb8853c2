//! `--cert-profile` and its companions: what a profile says stands in the certificate, and a wrong
//! one is placed.

use std::path::{Path, PathBuf};
use std::process::Command;

use nameplate::core::cert::Certificate;

use crate::project::{Project, tool};

fn read(project: &Project, path: &str) -> Certificate {
    let text = std::fs::read(project.path(path)).unwrap();
    Certificate::all_from_pem(&text).unwrap().remove(0)
}

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
            Some("DNS:broker.example"),
            90 * 24,
        ),
        ("ci", "TLS Web Client Authentication", None, 1),
    ] {
        let device = format!("device-{profile}");
        let mut args = vec!["device", "issue", &device, "--cert-profile", profile];
        if profile == "server" {
            assert_eq!(project.fails(&args), (3, "pattern.unknown".into()));
            args.extend(["--set", "host=broker.example"]);
        }
        let issued = project.ok(&args);
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
    let whole = project.ok(&["device", "issue", "ci-3", "--ttl", "1h", "--include-key"]);
    let key = std::fs::read_to_string(project.path("devices/ci-3/device.key.pem")).unwrap();
    assert_eq!(whole["key_pem"].as_str(), Some(&key[..]));
    let text = project.run(&["device", "issue", "ci-4", "--include-key"]);
    assert_eq!(text.status.code(), Some(2));
    assert!(!project.path("devices/ci-4").exists());
}

#[test]
fn a_batch_fills_its_columns_into_the_profile() {
    let project = Project::with_ca();
    let profile = "subject = 'CN={name},OU={model},O={org}'\nkey = 'p384'\npurpose = 'both'\n\
                   alternative_names = ['DNS:{host}', 'URI:urn:pumps:{model}']\nvalidity = '2d'\n";
    std::fs::write(project.path("pump.toml"), profile).unwrap();
    let list = "name,host,model\np1,p1.example,P7\np2,p2.example,P8\n";
    std::fs::write(project.path("list.csv"), list).unwrap();
    let batch = ["device", "batch", "list.csv", "--cert-profile", "pump.toml"];
    assert_eq!(project.fails(&batch), (3, "pattern.unknown".into()));
    let twice = ["--set", "org=a", "--set", "model=b"];
    let twice = [&batch[..], &twice].concat();
    assert_eq!(project.fails(&twice), (2, "profile.set".into()));
    let batch = [&batch[..], &["--set", "org=Acme"]].concat();
    let report = project.ok(&batch);
    assert_eq!(report["issued"], 2);
    for (device, model) in [("p1", "P7"), ("p2", "P8")] {
        let leaf = read(&project, &format!("devices/{device}/device.crt.pem"));
        let subject = format!("CN={device}, OU={model}, O=Acme");
        assert_eq!(leaf.subject.to_string(), subject);
        let names = [
            format!("DNS:{device}.example"),
            format!("URI:urn:pumps:{model}"),
        ];
        assert_eq!(leaf.alternative_names, names);
        assert_eq!(leaf.extended_key_usage.as_ref().map(Vec::len), Some(2));
        assert_eq!(leaf.key_algorithm().to_string(), "EC P-384");
        assert!(leaf.is_signed_by(&read(&project, "ca/factory/cert.pem")));
    }
    // The same for every device: part of what is encoded once.
    let args = "device batch - --cert-profile server --set host=broker.example --ttl 1h";
    let args: Vec<&str> = args.split(' ').collect();
    let mut child = project
        .command(&args)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"name\nbroker-1\nbroker-2\n").unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    let leaf = read(&project, "devices/broker-2/device.crt.pem");
    assert_eq!(leaf.alternative_names, ["DNS:broker.example"]);
    assert!(leaf.allows_usage(nameplate::core::cert::SERVER_AUTH));
    assert!(!leaf.allows_usage(nameplate::core::cert::CLIENT_AUTH));
    // A wrong row is named.
    std::fs::write(project.path("bad.csv"), "name,host,model\np3,p3 x,P7\n").unwrap();
    let bad: Vec<&str> = batch
        .iter()
        .map(|arg| arg.replace("list", "bad").leak() as &str)
        .collect();
    let output = project.run(&bad);
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("line 2: `DNS:p3 x` is not an alternative name"),
        "{stderr}"
    );
    assert!(!project.path("devices/p3").exists());
    project.ok(&["ledger", "verify"]);
}

#[test]
fn a_ca_has_its_profile_too() {
    let project = Project::new();
    project.ok(&["ca", "create", "root", "--cert-profile", "root-ca"]);
    let below = ["ca", "create", "line", "--parent", "root", "--cert-profile"];
    project.ok(&[&below[..], &["intermediate-ca"]].concat());
    let root = read(&project, "ca/root/cert.pem");
    let line = read(&project, "ca/line/cert.pem");
    assert_eq!((root.path_len, line.path_len), (Some(1), Some(0)));
    assert!(line.is_signed_by(&root));
    let mine = "subject = 'CN={name},O={org}'\nkey = 'p384'\nvalidity = '90d'\n\
                purpose = 'root-ca'\nbackdate = '0s'\n";
    std::fs::write(project.path("mine.toml"), mine).unwrap();
    let create = ["ca", "create", "wide", "--cert-profile", "mine.toml"];
    project.ok(&[&create[..], &["--set", "org=Acme, Inc"]].concat());
    let wide = read(&project, "ca/wide/cert.pem");
    assert_eq!(wide.subject.to_string(), "CN=wide, O=Acme\\, Inc");
    assert_eq!(wide.path_len, None);
    let length = wide.validity.not_after.unix() - wide.validity.not_before.unix();
    assert_eq!(length, 90 * 86_400);
    assert_eq!(wide.key_algorithm().to_string(), "EC P-384");
    let narrow = [
        "ca",
        "create",
        "narrow",
        "--cert-profile",
        "mine.toml",
        "--curve",
        "p256",
    ];
    let narrow = [
        &narrow[..],
        &["--path-len", "3", "--subject", "CN=n", "--days", "5"],
    ]
    .concat();
    project.ok(&narrow);
    let narrow = read(&project, "ca/narrow/cert.pem");
    assert_eq!(
        (narrow.path_len, narrow.subject.to_string()),
        (Some(3), "CN=n".into())
    );
    for args in [
        "ca create x --cert-profile device",
        "ca create x --cert-profile intermediate-ca",
        "ca create x --parent root --cert-profile root-ca",
        "device issue x --ca line --cert-profile root-ca",
        "device batch nowhere.csv --cert-profile mine.toml",
        "device sign nowhere.csr --cert-profile intermediate-ca",
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        assert_eq!(
            project.fails(&args),
            (3, "profile.purpose".into()),
            "{args:?}"
        );
    }
    assert!(!project.path("ca/x").exists());
}

/// Another's program in the Python environment.
fn python(name: &str) -> String {
    let venv = std::env::var_os("NAMEPLATE_TEST_VENV").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(".nameplate-test/venv"),
        PathBuf::from,
    );
    let path = venv.join("bin").join(name);
    assert!(path.exists(), "{} is missing", path.display());
    path.to_string_lossy().into_owned()
}

/// Verifies leaf `argv[3]` below root `argv[1]` and intermediate `argv[2]` by Python's cryptography.
const VERIFY: &str = "
import sys
from cryptography import x509
from cryptography.x509 import verification
root, middle, leaf = [x509.load_pem_x509_certificate(open(p, 'rb').read()) for p in sys.argv[1:4]]
middle.verify_directly_issued_by(root)
leaf.verify_directly_issued_by(middle)
for one in (root, middle, leaf):
    list(one.extensions)
";

// pkilint takes no URN, whatever RFC 8141 says; a URL stands in for the URIs.
#[test]
fn others_find_no_error_in_a_certificate_of_any_profile() {
    let project = Project::new();
    let own = "subject = 'C=DE,O={org},OU={model},CN={name},serialNumber=4711'\n\
               extended_key_usage = ['serverAuth', 'clientAuth', '1.3.6.1.4.1.99999.2']\n\
               key_usage = ['nonRepudiation', 'digitalSignature']\n\
               alternative_names = ['DNS:{host}', 'URI:https://pumps.example/{model}', 'IP:::1', \
               'email:{name}@pumps.example']\n[[extensions]]\noid = '1.3.6.1.4.1.99999.1'\n\
               text = 'line 7'\n[[extensions]]\noid = '1.3.6.1.4.1.99999.3'\nder = '020107'\n";
    std::fs::write(project.path("own.toml"), own).unwrap();
    for args in [
        "genrsa -out rsa.key 2048",
        "ecparam -name secp384r1 -genkey -noout -out ec.key",
    ] {
        tool(
            "openssl",
            &args.split(' ').collect::<Vec<_>>(),
            project.root(),
        );
    }
    for curve in ["p256", "p384"] {
        let (root, line) = (format!("root-{curve}"), format!("line-{curve}"));
        let create = format!("ca create {root} --cert-profile root-ca --curve {curve}");
        project.ok(&create.split(' ').collect::<Vec<_>>());
        let create = format!(
            "ca create {line} --parent {root} --cert-profile intermediate-ca --curve {curve}"
        );
        project.ok(&create.split(' ').collect::<Vec<_>>());
        let (root, below) = (format!("ca/{root}/cert.pem"), format!("ca/{line}/cert.pem"));
        for path in [&root, &below] {
            clean(&project, path);
        }
        for profile in ["ci", "device", "own.toml", "server"] {
            for key in [
                "--curve=p256",
                "--curve=p384",
                "--key=rsa.key",
                "--key=ec.key",
            ] {
                let word = key.trim_start_matches('-').replace(['=', '.'], "-");
                let name = format!("{}-{word}-{curve}", profile.replace('.', "-"));
                let mut args = vec!["device", "issue", &name, "--ca", &line, key];
                args.extend(["--cert-profile", profile]);
                if profile == "own.toml" {
                    args.extend(["--set=org=Pumps", "--set=model=P7"]);
                }
                if matches!(profile, "own.toml" | "server") {
                    args.push("--set=host=broker.example");
                }
                project.ok(&args);
                checked(&project, (&root, &below), (&name, profile));
            }
        }
    }
}

fn clean(project: &Project, path: &str) {
    let lint = ["lint", "-s", "ERROR", path];
    let found = tool(&python("lint_pkix_cert"), &lint, project.root());
    assert_eq!(found.trim(), "", "{path}");
}

/// pkilint, OpenSSL, GnuTLS, cryptography and webpki.
fn checked(project: &Project, (root, below): (&str, &str), (name, profile): (&str, &str)) {
    let folder = format!("devices/{name}");
    let file = |name: &str| format!("{folder}/{name}");
    let (leaf, chain) = (file("device.crt.pem"), file("chain.pem"));
    clean(project, &leaf);
    let purposes: &[&str] = match profile {
        "server" => &["sslserver"],
        "own.toml" => &["sslclient", "sslserver"],
        _ => &["sslclient"],
    };
    for purpose in purposes {
        let args = [
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            root,
        ];
        let args = [&args[..], &["-untrusted", below, &leaf]].concat();
        tool("openssl", &args, project.root());
    }
    let args = [
        "--verify",
        "--load-ca-certificate",
        root,
        "--infile",
        &chain,
    ];
    tool("certtool", &args, project.root());
    tool(
        &python("python"),
        &["-c", VERIFY, root, below, &leaf],
        project.root(),
    );
    webpki_verifies(project, (root, below), &leaf);
}

fn webpki_verifies(project: &Project, (root, below): (&str, &str), leaf: &str) {
    let der =
        |path: &str| rustls_pki_types::CertificateDer::from(read(project, path).der().to_vec());
    let (root, below, leaf) = (der(root), der(below), der(leaf));
    let anchor = webpki::anchor_from_trusted_cert(&root).unwrap();
    let anchors = [anchor];
    let end = webpki::EndEntityCert::try_from(&leaf).unwrap();
    let now = rustls_pki_types::UnixTime::now();
    let usages = [
        webpki::KeyUsage::client_auth(),
        webpki::KeyUsage::server_auth(),
    ];
    let ok = usages.into_iter().any(|usage| {
        let middle = std::slice::from_ref(&below);
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        end.verify_for_usage(algorithms, &anchors, middle, now, usage, None, None)
            .is_ok()
    });
    assert!(ok, "webpki");
}

#[test]
fn usages_and_extensions_stand_in_every_way_of_issuing() {
    let project = Project::with_ca();
    let profile = "key_usage = ['digitalSignature', 'keyAgreement']\n\
                   extended_key_usage = ['clientAuth', '1.2.3.4']\n\
                   [[extensions]]\noid = '1.3.6.1.4.1.99999.1'\ncritical = true\ntext = 'line 7'\n";
    std::fs::write(project.path("p.toml"), profile).unwrap();
    let rsa = profile.replace("keyAgreement", "keyEncipherment");
    std::fs::write(project.path("rsa.toml"), rsa).unwrap();
    let wrong = ["device", "issue", "wrong", "--cert-profile", "rsa.toml"];
    assert_eq!(project.fails(&wrong), (3, "draft.key-usage".into()));
    assert!(!project.path("devices/wrong").exists());
    std::fs::write(project.path("list.csv"), "name\nbatched\n").unwrap();
    let make = "req -new -newkey rsa:2048 -nodes -keyout signed.key -out signed.csr \
                -subj /CN=signed -addext keyUsage=digitalSignature,keyEncipherment";
    tool(
        "openssl",
        &make.split_whitespace().collect::<Vec<_>>(),
        project.root(),
    );
    for args in [
        "device issue issued --cert-profile p.toml",
        "device batch list.csv --cert-profile p.toml",
        "device sign signed.csr --cert-profile rsa.toml",
    ] {
        project.ok(&args.split(' ').collect::<Vec<_>>());
    }
    for (device, usage) in [
        ("issued", "Digital Signature, Key Agreement"),
        ("batched", "Digital Signature, Key Agreement"),
        ("signed", "Digital Signature, Key Encipherment"),
    ] {
        let printed = text(&project, device);
        for part in [
            usage,
            "TLS Web Client Authentication, 1.2.3.4",
            "1.3.6.1.4.1.99999.1: critical\n                ..line 7",
        ] {
            assert!(printed.contains(part), "{part}: {printed}");
        }
    }
}
