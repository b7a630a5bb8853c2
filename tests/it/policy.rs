//! `policy simulate` and `policy lint`, and what AWS's documentation says of policies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use nameplate::core::cert::Certificate;
use nameplate::core::ids::Place;
use nameplate::core::policy::simulate::{Device, DeviceThing, Question, simulate};
use nameplate::core::policy::{Action, Document, NamedPolicy, Outcome};
use nameplate::explain::Explain;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What `R` stands for in the vectors.
const PLACE: &str = "arn:aws:iot:us-east-1:123456789012";

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.map(|one| one.as_str().unwrap().to_owned()).collect()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The case's document, with `R` replaced.
fn document(case: &Value) -> String {
    if let Some(text) = case["text"].as_str() {
        return text.to_owned();
    }
    let whole = match &case["document"] {
        Value::Null => json!({ "Version": "2012-10-17", "Statement": case["statements"] }),
        document => document.clone(),
    };
    whole.to_string().replace("\"R:", &format!("\"{PLACE}:"))
}

fn device(case: &Value) -> Device {
    let given = &case["device"];
    let things = given["things"].as_array().into_iter().flatten();
    let attributes = |thing: &Value| -> BTreeMap<String, String> {
        let all = thing["attributes"].as_object().into_iter().flatten();
        all.map(|(name, value)| (name.clone(), text(value).unwrap()))
            .collect()
    };
    let context = given["context"].as_object().into_iter().flatten();
    Device {
        client_id: text(&given["client_id"]),
        things: things
            .map(|thing| DeviceThing {
                name: text(&thing["name"]).unwrap(),
                type_name: text(&thing["type"]),
                attributes: attributes(thing),
                exclusive: thing["exclusive"] == true,
                policies: Vec::new(),
            })
            .collect(),
        context: context
            .map(|(key, values)| (key.clone(), texts(values)))
            .collect(),
        certificate: text(&given["certificate"]).map(|name| {
            let pem = fs::read(vectors().join(name)).unwrap();
            Certificate::all_from_pem(&pem).unwrap().remove(0)
        }),
        ..Device::default()
    }
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/policy")
}

fn question(ask: &Value) -> Question {
    Question {
        action: Action::parse(ask["action"].as_str().unwrap()).unwrap(),
        resource: text(&ask["resource"]).unwrap(),
        client_id: text(&ask["client_id"]),
        retain: ask["retain"] == true,
        persistent: ask["persistent"] == true,
        will_topic: text(&ask["will_topic"]),
        will_retain: ask["will_retain"] == true,
    }
}

fn run(case: &Value) {
    let rule = &case["rule"];
    let document = match (Document::parse(&document(case)), case["refused"].as_str()) {
        (Ok(document), None) => document,
        (Err(error), Some(code)) => return assert_eq!(error.code(), code, "{rule}"),
        (found, _) => panic!("{rule}: {found:?}"),
    };
    let policies = [NamedPolicy {
        name: "p".into(),
        document: Arc::new(document),
    }];
    let place = Place {
        account: "123456789012".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
    };
    for ask in case["asks"].as_array().unwrap() {
        let answers = simulate(&policies, &device(case), &question(ask), &place);
        let outcomes: Vec<&str> = answers
            .iter()
            .map(|answer| match answer.outcome {
                Outcome::Allowed => "allowed",
                Outcome::ExplicitDeny => "explicit",
                Outcome::ImplicitDeny => "implicit",
            })
            .collect();
        let expected = match &ask["is"] {
            Value::Array(_) => texts(&ask["is"]),
            one => vec![text(one).unwrap()],
        };
        assert_eq!(outcomes, expected, "{rule}: {ask}");
        if !ask["missing"].is_null() {
            assert_eq!(answers[0].missing, texts(&ask["missing"]), "{rule}: {ask}");
        }
    }
}

#[test]
fn what_aws_documents_is_so() {
    let folder = vectors();
    let mut asked = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|found| found != "json") {
            continue;
        }
        let vectors: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for key in ["page", "as_of"] {
            assert!(vectors[key].is_string(), "{}: {key}", path.display());
        }
        for case in vectors["cases"].as_array().unwrap() {
            run(case);
            asked += case["asks"].as_array().map_or(1, Vec::len);
        }
    }
    assert!(asked > 200, "{asked}");
}

fn nameplate(folder: &Path, arguments: &[&str], stdin: &str) -> Output {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_nameplate"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env_remove("NAMEPLATE_FORMAT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

/// What a command prints, once its exit code is as expected.
#[track_caller]
fn said(folder: &Path, arguments: &[&str], stdin: &str, code: i32) -> String {
    let output = nameplate(folder, arguments, stdin);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {out}{error}"
    );
    out + &error
}

#[track_caller]
fn parsed(folder: &Path, arguments: &[&str], stdin: &str, code: i32) -> Value {
    let all = [arguments, &["--format", "json"]].concat();
    serde_json::from_str(said(folder, &all, stdin, code).trim()).unwrap()
}

const POLICY: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "Go",
      "Effect": "Allow",
      "Action": "iot:Connect",
      "Resource": "arn:aws:iot:eu-west-1:210987654321:client/${iot:Connection.Thing.ThingName}",
      "Condition": { "Bool": { "iot:Connection.Thing.IsAttached": "true" } }
    },
    {
      "Effect": "Allow",
      "Action": ["iot:Publish", "iot:Receive"],
      "Resource": "arn:aws:iot:eu-west-1:210987654321:topic/d/${iot:Connection.Thing.ThingName}/*"
    }
  ]
}
"#;

fn folder(policy: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("p.json"), policy).unwrap();
    folder
}

#[test]
fn simulate_says_who_decides_and_what_has_no_value() {
    let folder = folder(POLICY);
    let at = folder.path();
    let base = [
        "policy", "simulate", "--policy", "p.json", "--thing", "pump-1",
    ];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    let text = said(at, &with(&["--action", "connect"]), "", 0);
    for wanted in [
        "ALLOWED  iot:Connect on arn:aws:iot:eu-west-1:210987654321:client/pump-1",
        "p.json:4:5: statement 0 (Go) allows it",
        "${iot:Connection.Thing.ThingName} = pump-1",
    ] {
        assert!(text.contains(wanted), "{text}\nlacks {wanted}");
    }
    let text = said(at, &with(&["--action", "connect", "--not-attached"]), "", 1);
    assert!(
        text.contains("has no value: the certificate is attached to no thing"),
        "{text}"
    );
    assert!(text.contains("IMPLICIT_DENY"), "{text}");
    let wildcard = ["--action", "connect", "--client-id", "x", "--exclusive"];
    let text = said(at, &with(&wildcard), "", 1);
    assert!(text.contains("= pump-1"), "{text}");

    let report = parsed(
        at,
        &with(&[
            "--action",
            "publish",
            "--resource",
            "d/pump-1/t",
            "--retain",
        ]),
        "",
        1,
    );
    assert_eq!(report["allowed"], false);
    let [first, second] = &report["authResults"].as_array().unwrap()[..] else {
        panic!("{report}")
    };
    assert_eq!(first["authDecision"], "ALLOWED");
    assert_eq!(first["authInfo"]["actionType"], "PUBLISH");
    assert_eq!(
        first["authInfo"]["resources"][0],
        "arn:aws:iot:eu-west-1:210987654321:topic/d/pump-1/t"
    );
    assert_eq!(first["allowed"]["policies"][0]["policyName"], "p.json");
    assert_eq!(first["denied"]["explicitDeny"]["policies"], json!([]));
    assert_eq!(first["missingContextValues"], json!([]));
    assert_eq!(first["detail"]["statements"][0]["line"], 11);
    assert_eq!(second["authInfo"]["actionType"], "RETAIN_PUBLISH");
    assert_eq!(second["authDecision"], "IMPLICIT_DENY");
}

#[test]
fn simulate_reads_requests_of_three_shapes() {
    let folder = folder(POLICY);
    let base = [
        "policy",
        "simulate",
        "--policy",
        "p.json",
        "--thing",
        "pump-1",
        "--requests",
        "-",
    ];
    let arn = "arn:aws:iot:eu-west-1:210987654321:topic/d/pump-1/t";
    let lines =
        "{\"action\":\"publish\",\"resource\":\"d/pump-1/t\"}\n\n{\"action\":\"Connect\"}\n";
    let list =
        format!(r#"[{{"action":"iot:Receive","resource":"{arn}"}}, {{"action":"connect"}}]"#);
    let call = format!(
        r#"{{"principal":"arn:x","authInfos":[{{"actionType":"PUBLISH","resources":["{arn}"]}},
            {{"actionType":"CONNECT","resources":["pump-1"]}}]}}"#
    );
    for requests in [lines, &list, &call] {
        let report = parsed(folder.path(), &base, requests, 0);
        assert_eq!(
            report["authResults"].as_array().unwrap().len(),
            2,
            "{requests}"
        );
    }
    for (requests, wanted) in [
        ("", "it is empty"),
        ("{}", "line 1"),
        (
            "{\"action\":\"publish\"}",
            "request 1: iot:Publish needs a resource",
        ),
        ("{\"action\":\"connect\"}\nx", "line 2"),
        ("[{\"action\":\"connect\",\"more\":1}]", "unknown field"),
        (
            "{\"action\":\"publih\",\"resource\":\"a\"}",
            "did you mean iot:Publish?",
        ),
    ] {
        let text = said(folder.path(), &base, requests, 3);
        assert!(text.contains(wanted), "{text}\nlacks {wanted}");
    }
}

#[test]
fn simulate_refuses_what_it_cannot_ask() {
    let folder = folder(POLICY);
    let at = folder.path();
    let long = "x".repeat(2049);
    for (arguments, code, wanted) in [
        (
            vec!["--action", "publish", "--resource", "a"],
            2,
            "policy.none",
        ),
        (
            vec!["--policy", "p.json", "--action", "publish"],
            2,
            "policy.resource",
        ),
        (
            vec!["--policy", "p.json", "--action", "connect"],
            2,
            "policy.resource",
        ),
        (
            vec![
                "--policy",
                "p.json",
                "--action",
                "publish",
                "--resource",
                &long,
            ],
            2,
            "1 to 2048",
        ),
        (
            vec!["--policy", "nope.json", "--action", "connect"],
            3,
            "file.missing",
        ),
        (
            vec![
                "--policy",
                "p.json",
                "--action",
                "connect",
                "--context",
                "x",
            ],
            2,
            "policy.pair",
        ),
        (
            vec![
                "--policy", "p.json", "--action", "connect", "--thing", "pump 1",
            ],
            2,
            "thing name",
        ),
    ] {
        let arguments = [&["policy", "simulate"], &arguments[..]].concat();
        let text = said(at, &arguments, "", code);
        assert!(text.contains(wanted), "{text}\nlacks {wanted}");
    }
    fs::write(at.join("bad.json"), POLICY.replace("Allow", "Permit")).unwrap();
    let bad = [
        "policy", "simulate", "--policy", "bad.json", "--action", "connect",
    ];
    let text = said(at, &bad, "", 3);
    assert!(
        text.contains("`bad.json`: the policy is malformed"),
        "{text}"
    );
}

/// The certificate of the developer guide's page on certificate variables, as far as OpenSSL makes
/// one.
fn certificate(folder: &Path) {
    let config = "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\n\
        C=US\nO=IoT Devices\n0.OU=One\n1.OU=Two\nST=WA\nCN=IoT Devices Primary\nGN=Primary\n\
        initials=XY\ndnQualifier=Example\nSN=SmartHome\ntitle=CA1\npseudonym=My\n\
        generationQualifier=2\nserialNumber=987\nL=Seattle\n[ext]\nsubjectAltName=email:d@example.com,\
        DNS:a.example.com,URI:urn:x:1,IP:192.0.2.7,dirName:other\n\
        issuerAltName=DNS:issuer.example.com\n[other]\nO=Other\nCN=Name\n";
    fs::write(folder.join("c.cnf"), config).unwrap();
    let done = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args([
            "-nodes", "-keyout", "c.key", "-out", "c.pem", "-days", "3650",
        ])
        .args(["-config", "c.cnf", "-set_serial", "0x921285cbb7a5e086"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn certificate_variables_are_those_of_the_certificate() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    certificate(at);
    let attributes = [
        ("DistinguishedNameQualifier", "Example"),
        ("Country", "US"),
        ("Organization", "IoT Devices"),
        ("OrganizationalUnit", "One"),
        ("OrganizationalUnit.0", "One"),
        ("OrganizationalUnit.1", "Two"),
        ("State", "WA"),
        ("CommonName", "IoT Devices Primary"),
        ("SerialNumber", "987"),
        ("Title", "CA1"),
        ("Surname", "SmartHome"),
        ("GivenName", "Primary"),
        ("Initials", "XY"),
        ("Pseudonym", "My"),
        ("GenerationQualifier", "2"),
    ];
    let mut expected: Vec<(String, &str)> = Vec::new();
    for (name, value) in attributes {
        expected.push((format!("iot:Certificate.Subject.{name}"), value));
        expected.push((format!("iot:Certificate.Issuer.{name}"), value));
    }
    for (name, value) in [
        ("Subject.AlternativeName.RFC822Name", "d@example.com"),
        ("Subject.AlternativeName.DNSName", "a.example.com"),
        (
            "Subject.AlternativeName.UniformResourceIdentifier",
            "urn:x:1",
        ),
        ("Subject.AlternativeName.IPAddress", "192.0.2.7"),
        ("Subject.AlternativeName.DirectoryName", "O=Other, CN=Name"),
        ("Issuer.AlternativeName.DNSName", "issuer.example.com"),
        ("SerialNumber", "10525622389124227206"),
    ] {
        expected.push((format!("iot:Certificate.{name}"), value));
    }
    let list = "iot:Certificate.Subject.OrganizationalUnit.List";
    let resources: Vec<String> = expected
        .iter()
        .map(|(name, _)| format!("*/${{{name}}}"))
        .collect();
    let receive = json!({ "Effect": "Allow", "Action": "iot:Receive", "Resource": "*",
        "Condition": {
            "ForAllValues:StringEquals": { list: ["One", "Two"] },
            "ForAnyValue:StringEquals": { "iot:Certificate.AvailableKeys":
                "iot:Certificate.Subject.AlternativeName.DNSName" } } });
    let publish = |resources: &[String]| json!({ "Effect": "Allow", "Action": "iot:Publish", "Resource": resources });
    let listed = format!("*/${{{list}}}");
    for (name, statements) in [
        ("a.json", json!([receive, publish(&[listed])])),
        ("b.json", json!([publish(&resources[..19])])),
        ("c.json", json!([publish(&resources[19..])])),
    ] {
        let policy = json!({ "Version": "2012-10-17", "Statement": statements });
        fs::write(at.join(name), policy.to_string()).unwrap();
    }
    let policies = ["a.json", "b.json", "c.json"].map(|name| ["--policy", name]);
    let asks = |action: &'static str| {
        let ask = ["--action", action, "--resource", "a/IoT Devices Primary"];
        [
            &["policy", "simulate", "--cert", "c.pem"],
            policies.as_flattened(),
            &ask,
        ]
        .concat()
    };
    let arguments = asks("publish");
    let report = parsed(at, &arguments, "", 0);
    let variables = &report["authResults"][0]["detail"]["variables"];
    for (name, value) in expected {
        assert_eq!(variables[&name]["value"], value, "{name}: {variables}");
    }
    assert!(
        variables[list]["missing"]
            .as_str()
            .unwrap()
            .contains("list")
    );
    assert!(report["principal"].as_str().unwrap().contains(":cert/"));
    parsed(at, &asks("receive"), "", 0);
}

#[test]
fn policies_and_things_of_the_target_are_asked() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    said(at, &["init", "."], "", 0);
    let text = said(
        at,
        &[
            "policy",
            "simulate",
            "--policy-name",
            "nope",
            "--action",
            "connect",
            "--client-id",
            "x",
        ],
        "",
        3,
    );
    assert!(text.contains("policy.unknown"), "{text}");
    certificate(at);
    let text = said(
        at,
        &[
            "policy",
            "simulate",
            "--attached",
            "--cert",
            "c.pem",
            "--action",
            "connect",
            "--client-id",
            "x",
        ],
        "",
        3,
    );
    assert!(text.contains("policy.certificate"), "{text}");
}

#[test]
fn a_provisioned_device_is_asked_about_as_it_stands_at_the_target() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    let program = env!("CARGO_BIN_EXE_nameplate");
    let subject = "CN=pump-2,serialNumber=2";
    for arguments in [
        &["init", "."][..],
        &["ca", "create", "root", "--unencrypted"],
        &["template", "new", "jitp"],
        &[
            "template",
            "register",
            "jitp.json",
            "--name",
            "jitp",
            "--policy",
            "jitp-policy.json",
            "--role-arn",
            "arn:aws:iam::123456789012:role/x",
        ],
        &["ca", "register", "root", "--template", "jitp"],
        &["device", "issue", "pump-2", "--subject", subject],
        &[
            "sandbox",
            "run",
            "--",
            program,
            "connect",
            "--identity",
            "devices/pump-2",
        ],
    ] {
        said(at, arguments, "", 0);
    }
    let asked = [
        "policy",
        "simulate",
        "--attached",
        "--cert",
        "devices/pump-2/device.crt.pem",
        "--action",
    ];
    let report = parsed(at, &[&asked[..], &["connect"]].concat(), "", 0);
    let policy = &report["authResults"][0]["allowed"]["policies"][0];
    assert_eq!(policy["policyName"], "nameplate-device");
    assert_eq!(
        policy["policyArn"],
        "arn:aws:iot:us-east-1:123456789012:policy/nameplate-device"
    );
    assert_eq!(report["authResults"][0]["detail"]["thing"], "pump-2");
    let other = ["publish", "--resource", "devices/pump-3/t"];
    parsed(at, &[&asked[..], &other].concat(), "", 1);
}

#[test]
fn lint_has_a_clean_policy_and_a_wide_one() {
    let folder = folder(POLICY);
    let at = folder.path();
    let report = parsed(
        at,
        &["policy", "lint", "p.json", "--deny", "warnings"],
        "",
        0,
    );
    assert_eq!(report["files"][0]["findings"], json!([]));
    let wide = POLICY.replace("client/${iot:Connection.Thing.ThingName}", "client/*");
    let report = parsed(at, &["policy", "lint", "p.json", "-"], &wide, 1);
    let finding = &report["files"][1]["findings"][0];
    assert_eq!(finding["rule"], "IOT_POLICY_OVERLY_PERMISSIVE_CHECK");
    assert_eq!(
        (&finding["line"], &finding["column"]),
        (&json!(8), &json!(7))
    );
    assert_eq!(finding["path"], "$.Statement[0].Resource");
    assert_eq!(finding["subject"], "Go");
    let text = said(
        at,
        &["explain", "IOT_POLICY_OVERLY_PERMISSIVE_CHECK"],
        "",
        0,
    );
    assert!(text.contains("stolen certificate"), "{text}");
    let region = [
        "policy",
        "lint",
        "p.json",
        "--region",
        "us-east-1",
        "--account",
        "123456789012",
    ];
    let report = parsed(at, &region, "", 1);
    assert_eq!(report["errors"], 4);
    let sarif = [&region[..], &["--format", "sarif"]].concat();
    let sarif: Value = serde_json::from_str(said(at, &sarif, "", 1).trim()).unwrap();
    let place = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!(place["region"], json!({ "startLine": 8, "startColumn": 7 }));
}

#[test]
fn lint_lets_stand_what_is_suppressed_and_does_not_mend_it() {
    let broken = POLICY.replace(
        "${iot:Connection.Thing.ThingName}/*",
        "${iot:Thing.ThingName}/*",
    );
    let folder = folder(&broken);
    let at = folder.path();
    let suppressions = "[[suppress]]\nrule = \"policy.variable-stale\"\nreason = \"old fleet\"\n\
                        expires = \"9999-01-01\"\n";
    fs::write(at.join("s.toml"), suppressions).unwrap();
    let base = ["policy", "lint", "p.json"];
    said(at, &base, "", 1);
    let report = parsed(
        at,
        &[&base[..], &["--suppressions", "s.toml", "--fix"]].concat(),
        "",
        0,
    );
    assert_eq!(report["suppressed"], 1);
    assert_eq!(fs::read_to_string(at.join("p.json")).unwrap(), broken);
    let text = said(at, &[&base[..], &["--fix"]].concat(), "", 0);
    assert!(text.contains("1 finding fixed, no findings"), "{text}");
    assert_eq!(fs::read_to_string(at.join("p.json")).unwrap(), POLICY);
}

#[test]
fn lint_writes_the_mended_document_where_it_is_told() {
    let broken = POLICY.replace("2012-10-17", "2008-10-17");
    let folder = folder(&broken);
    let at = folder.path();
    let output = nameplate(at, &["policy", "lint", "-", "--fix"], &broken);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), POLICY);
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 finding fixed"));
    said(
        at,
        &["policy", "lint", "p.json", "--fix", "-o", "q.json"],
        "",
        0,
    );
    assert_eq!(fs::read_to_string(at.join("q.json")).unwrap(), POLICY);
    assert_eq!(fs::read_to_string(at.join("p.json")).unwrap(), broken);
    let text = said(
        at,
        &["policy", "lint", "p.json", "--fix", "-o", "q.json"],
        "",
        5,
    );
    assert!(text.contains("file.exists"), "{text}");
    for arguments in [
        &["p.json", "q.json", "--fix", "-o", "r.json"][..],
        &["-", "-"],
    ] {
        said(at, &[&["policy", "lint"], arguments].concat(), "", 2);
    }
}
