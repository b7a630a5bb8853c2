//! `cert inspect`, `cert lint`, `explain`, and findings as SARIF and JUnit.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn nameplate(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nameplate"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env_remove("NAMEPLATE_FORMAT")
        .output()
        .unwrap()
}

#[track_caller]
fn done(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = nameplate(folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {stdout}{said}"
    );
    stdout
}

#[track_caller]
fn json(folder: &Path, arguments: &[&str], code: i32) -> Value {
    let all = [arguments, &["--format", "json"]].concat();
    serde_json::from_str(&done(folder, &all, code)).unwrap()
}

/// A project with a root, a CA below it and one identity.
fn project() -> TempDir {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    done(at, &["init", "."], 0);
    done(at, &["ca", "create", "root", "--unencrypted"], 0);
    done(
        at,
        &["ca", "create", "line", "--parent", "root", "--unencrypted"],
        0,
    );
    done(at, &["device", "issue", "pump-1"], 0);
    folder
}

#[track_caller]
fn run(folder: &Path, program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// A certificate by OpenSSL that is no good for AWS IoT in several ways.
fn bad(folder: &Path) {
    run(
        folder,
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:1024",
            "-nodes",
            "-keyout",
            "bad.key",
            "-out",
            "bad.pem",
            "-subj",
            "/O=Example Corp/CN=pump one",
            "-sha1",
            "-days",
            "3650",
            "-addext",
            "extendedKeyUsage=serverAuth,clientAuth",
        ],
    );
}

fn rules_of(report: &Value) -> Vec<String> {
    let files = report["files"].as_array().unwrap();
    let findings = files
        .iter()
        .flat_map(|file| file["findings"].as_array().unwrap());
    findings
        .map(|finding| finding["rule"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_inspect_says_is_what_openssl_says() {
    let folder = project();
    let at = folder.path();
    let report = json(at, &["cert", "inspect", "devices/pump-1"], 0);
    let leaf = &report["certificates"][0];
    assert_eq!(report["count"], 2);
    assert_eq!(leaf["subject"], "CN=pump-1");
    assert_eq!(leaf["thing_name"], "pump-1");
    assert_eq!(leaf["key_usage"][0], "digitalSignature");
    for (option, field) in [("-sha256", "id"), ("-sha1", "sha1")] {
        let file = "devices/pump-1/device.crt.pem";
        let said = run(
            at,
            "openssl",
            &["x509", "-in", file, "-noout", "-fingerprint", option],
        );
        let said = String::from_utf8(said).unwrap();
        let print = said
            .trim()
            .rsplit('=')
            .next()
            .unwrap()
            .replace(':', "")
            .to_lowercase();
        assert_eq!(leaf[field], print.as_str());
    }
    let pem = fs::read_to_string(at.join("devices/pump-1/device.crt.pem")).unwrap();
    assert_eq!(leaf["pem"], pem.as_str());
}

#[test]
fn certificates_are_found_in_every_wrapping() {
    let folder = project();
    let at = folder.path();
    run(
        at,
        "openssl",
        &[
            "x509",
            "-in",
            "devices/pump-1/device.crt.pem",
            "-outform",
            "DER",
            "-out",
            "leaf.der",
        ],
    );
    let pem = fs::read_to_string(at.join("devices/pump-1/device.crt.pem")).unwrap();
    let described = serde_json::json!({ "certificateDescription": { "certificatePem": pem } });
    fs::write(at.join("aws.json"), described.to_string()).unwrap();
    let own = done(at, &["--format", "ndjson", "cert", "inspect", "devices"], 0);
    assert_eq!(own.lines().count(), 2);
    fs::write(at.join("own.ndjson"), own).unwrap();
    for (place, count) in [
        ("leaf.der", 1),
        ("aws.json", 1),
        ("own.ndjson", 2),
        ("devices", 2),
        ("ca", 5),
        ("devices/pump-1/ca.pem", 2),
    ] {
        let report = json(at, &["cert", "inspect", place], 0);
        let found = report["certificates"].as_array().unwrap().len();
        assert!(
            found == count || place == "ca" && found > 2,
            "{place}: {found}"
        );
    }
    let report = json(at, &["cert", "inspect", "devices/pump-1/device.key.pem"], 1);
    assert_eq!(report["others"][0]["what"], "a private key");
    run(
        at,
        "openssl",
        &[
            "req",
            "-new",
            "-key",
            "devices/pump-1/device.key.pem",
            "-subj",
            "/CN=a",
            "-out",
            "a.csr",
        ],
    );
    let report = json(at, &["cert", "inspect", "a.csr"], 1);
    assert_eq!(report["others"][0]["what"], "a certificate signing request");
    assert_eq!(
        report["others"][0]["about"],
        "for `CN=a`; its signature is good"
    );
    let broken = pem.replace("MII", "MIJ");
    fs::write(at.join("broken.pem"), format!("{broken}{pem}")).unwrap();
    let report = json(at, &["cert", "inspect", "broken.pem"], 1);
    assert_eq!(report["others"][0]["unreadable"], true);
    assert_eq!(report["certificates"].as_array().unwrap().len(), 1);
}

#[test]
fn a_server_shows_its_chain_without_being_trusted() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    bad(at);
    run(
        at,
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "s.key",
            "-out",
            "s.pem",
            "-subj",
            "/CN=localhost",
            "-days",
            "9",
        ],
    );
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let accept = format!("127.0.0.1:{port}");
    let mut server = Command::new("openssl")
        .args([
            "s_server", "-accept", &accept, "-cert", "s.pem", "-key", "s.key", "-quiet",
        ])
        .current_dir(at)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let place = format!("tls://{accept}");
    let shown = (0..100).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let output = nameplate(at, &["cert", "inspect", &place, "--format", "json"]);
        output.status.success().then_some(output.stdout)
    });
    let linted = nameplate(
        at,
        &[
            "cert",
            "lint",
            "--endpoint",
            &accept,
            "--as",
            "server",
            "--format",
            "json",
        ],
    );
    server.kill().unwrap();
    server.wait().unwrap();
    let report: Value = serde_json::from_slice(&shown.unwrap()).unwrap();
    assert_eq!(report["certificates"][0]["subject"], "CN=localhost");
    assert_eq!(report["certificates"][0]["source"], place.as_str());
    let rules = rules_of(&serde_json::from_slice(&linted.stdout).unwrap());
    assert!(
        rules.contains(&"cert.alt-name-missing".to_owned()),
        "{rules:?}"
    );
}

#[test]
fn what_nameplate_issues_has_no_findings() {
    let folder = project();
    let at = folder.path();
    let report = json(
        at,
        &["cert", "lint", "ca", "devices", "--fail-on", "note"],
        0,
    );
    assert_eq!(rules_of(&report), Vec::<String>::new());
    assert_eq!(report["failed"], false);
    // The CA that is expired is told of, and the time can be asked for.
    let report = json(at, &["cert", "lint", "ca", "devices", "--at", "+40y"], 1);
    assert!(
        rules_of(&report).iter().all(|rule| rule == "cert.expired"),
        "{report}"
    );
}

#[test]
fn the_threshold_and_the_role_decide() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    bad(at);
    let report = json(at, &["cert", "lint", "bad.pem", "--as", "device"], 1);
    let rules = rules_of(&report);
    for rule in [
        "cert.key-unsupported",
        "cert.signature-weak",
        "cert.name-thing",
        "cert.attribute-value",
        "cert.eku-mixed",
        "cert.ca-as-leaf",
        "cert.self-signed",
    ] {
        assert!(rules.contains(&rule.to_owned()), "{rule}: {rules:?}");
    }
    let report = json(at, &["cert", "lint", "bad.pem", "--as", "root"], 1);
    assert!(!rules_of(&report).contains(&"cert.ca-as-leaf".to_owned()));
    let project = project();
    let at = project.path();
    let soon = ["cert", "lint", "devices", "--margin", "9000d"];
    done(at, &soon, 0);
    done(at, &[&soon[..], &["--deny", "warnings"]].concat(), 1);
    done(at, &[&soon[..], &["--fail-on", "warning"]].concat(), 1);
    done(at, &["cert", "lint", "devices/pump-1/device.key.pem"], 3);
    done(at, &["cert", "lint"], 2);
    done(at, &["cert", "lint", "nowhere.pem"], 3);
    done(at, &["cert", "lint", "devices", "--margin", "soon"], 2);
}

#[test]
fn suppressions_end() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    bad(at);
    let suppress = |expires: &str| {
        let text = format!(
            "[[suppress]]\nrule = \"cert.*\"\nsubject = \"*CN=pump one*\"\n\
             reason = \"the test bench\"\nexpires = {expires}\n"
        );
        fs::write(at.join("nameplate-lint.toml"), text).unwrap();
    };
    suppress("2999-01-01");
    let report = json(at, &["cert", "lint", "bad.pem"], 0);
    assert!(report["suppressed"].as_u64().unwrap() > 2, "{report}");
    suppress("2020-01-01");
    let report = json(at, &["cert", "lint", "bad.pem"], 1);
    assert!(rules_of(&report).contains(&"suppression.expired".to_owned()));
    fs::write(
        at.join("nameplate-lint.toml"),
        "[[suppress]]\nrule = \"cert.version\"\n",
    )
    .unwrap();
    let output = nameplate(at, &["cert", "lint", "bad.pem"]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("nameplate-lint.toml`, line 1, column"),
        "{said}"
    );
}

/// The properties that SARIF 2.1.0 (§3.13 to §3.27) requires, and that code scanning reads.
#[test]
fn sarif_has_what_its_readers_need() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    bad(at);
    fs::rename(at.join("bad.pem"), at.join("bad one.pem")).unwrap();
    fs::write(at.join("t.json"), "{\"Resources\": {}}").unwrap();
    for arguments in [
        &["cert", "lint", "bad one.pem"][..],
        &["template", "lint", "t.json"],
    ] {
        let text = done(at, &[arguments, &["--format", "sarif"]].concat(), 1);
        let sarif: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(sarif["version"], "2.1.0");
        let run = &sarif["runs"][0];
        assert_eq!(run["tool"]["driver"]["name"], "nameplate");
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        for rule in rules {
            assert!(
                rule["help"]["text"]
                    .as_str()
                    .is_some_and(|text| text.len() > 20),
                "{rule}"
            );
            assert!(rule["shortDescription"]["text"].is_string(), "{rule}");
        }
        let results = run["results"].as_array().unwrap();
        assert!(!results.is_empty());
        for result in results {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[index]["id"], result["ruleId"]);
            assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
            assert!(result["message"]["text"].is_string());
            let place = &result["locations"][0]["physicalLocation"];
            let uri = place["artifactLocation"]["uri"].as_str().unwrap();
            assert!(uri == "bad%20one.pem" || uri == "t.json", "{uri}");
            assert!(place["region"]["startLine"].as_u64().unwrap() > 0);
            assert!(result["partialFingerprints"]["nameplate/v1"].is_string());
        }
    }
}

#[test]
fn junit_is_xml_with_the_failures_counted() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    bad(at);
    let text = done(at, &["cert", "lint", "bad.pem", "--format", "junit"], 1);
    fs::write(at.join("junit.xml"), text).unwrap();
    let script = "import xml.etree.ElementTree as e; r=e.parse('junit.xml').getroot(); \
                  s=r.find('testsuite'); print(r.tag, s.get('name'), \
                  len(s.findall('testcase/failure'))==int(s.get('failures'))==2)";
    let said = run(at, "python3", &["-c", script]);
    assert_eq!(
        String::from_utf8(said).unwrap(),
        "testsuites bad.pem True\n"
    );
}

#[test]
fn only_linters_speak_sarif_and_junit() {
    let folder = TempDir::new().unwrap();
    for format in ["sarif", "junit"] {
        let output = nameplate(folder.path(), &["init", "new", "--format", format]);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            !folder.path().join("new").exists(),
            "nothing is done before it is refused"
        );
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("`cert lint`, `policy lint`"), "{said}");
    }
}

/// Every id that the linters and checks write in their code.
fn emitted(folder: &str, prefixes: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src")
        .join(folder);
    let mut ids = Vec::new();
    for entry in fs::read_dir(root).unwrap().flatten() {
        if entry.path().is_dir() || entry.path().ends_with("tests.rs") {
            continue;
        }
        let source = fs::read_to_string(entry.path()).unwrap();
        let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for prefix in prefixes {
            let opening = format!("\"{prefix}.");
            for rest in code.split(&opening).skip(1) {
                let tail = rest.split('"').next().unwrap();
                if tail.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
                    ids.push(format!("{prefix}.{tail}"));
                }
            }
        }
    }
    ids
}

#[test]
fn every_rule_and_check_is_explained_and_every_explained_one_exists() {
    let folder = TempDir::new().unwrap();
    let report = json(folder.path(), &["explain"], 0);
    let entries = report["rules"].as_array().unwrap();
    let explained = |topic: &str| -> Vec<String> {
        // Error codes have no source of their own.
        let rule = |entry: &&Value| entry["topic"] == topic && entry["source"] != "";
        let own = entries.iter().filter(rule);
        own.map(|entry| entry["id"].as_str().unwrap().to_owned())
            .collect()
    };
    for (folder, prefixes, topic) in [
        ("core/certlint", &["cert"][..], "certificates"),
        ("core/template", &["template"], "templates"),
        (
            "core/preflight",
            &["identity", "chain", "server", "mqtt", "shelf"],
            "preflight",
        ),
        ("core/clock", &["clock"], "preflight"),
    ] {
        let (known, used) = (explained(topic), emitted(folder, prefixes));
        for id in &used {
            let error_code = entries.iter().any(|entry| entry["id"] == id.as_str());
            assert!(known.contains(id) || error_code, "{id} is not explained");
        }
        for id in known
            .iter()
            .filter(|id| prefixes.iter().any(|p| id.starts_with(p)))
        {
            assert!(
                used.contains(id),
                "{id} is explained and not emitted in {folder}"
            );
        }
    }
    for id in explained("certificates") {
        done(folder.path(), &["explain", &id], 0);
    }
}

#[test]
fn the_page_on_certificates_has_every_rule() {
    let folder = TempDir::new().unwrap();
    let report = json(folder.path(), &["explain"], 0);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/certificates.md");
    let page = fs::read_to_string(page).unwrap();
    let mut rows = 0;
    for entry in report["rules"].as_array().unwrap() {
        if entry["topic"] == "certificates" && !entry["source"].as_str().unwrap().is_empty() {
            let [id, severity, what] =
                ["id", "severity", "what"].map(|key| entry[key].as_str().unwrap());
            let row = format!("| `{id}` | {severity} | {what} |\n");
            assert!(page.contains(&row), "docs/certificates.md lacks:\n{row}");
            rows += 1;
        }
    }
    assert_eq!(
        page.matches("| `cert.").count() + page.matches("| `suppression.").count(),
        rows
    );
}
