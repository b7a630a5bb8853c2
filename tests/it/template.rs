//! Provisioning templates: AWS's documented examples and our own vectors, `template lint`, `plan` and
//! `diff`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use nameplate::core::finding::Severity;
use nameplate::core::ids::ThingName;
use nameplate::core::template::{
    CertificatePlan, Conflict, ExistingThing, Plan, Template, TemplateError, Usage,
    jitp_parameters, status_change, thing_change,
};
use nameplate::explain::Explain;
use serde_json::Value;

use crate::project::Project;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// The page that says so, and when it was read.
    source: String,
    usage: String,
    template: Option<Value>,
    text: Option<String>,
    subject: Option<String>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    /// A part of the plan.
    plan: Option<Value>,
    error: Option<Value>,
    /// The paths of grammar errors.
    refused: Option<Vec<String>>,
    place: Option<(usize, usize)>,
    said: Option<String>,
    findings: Option<Vec<(String, String)>>,
    existing: Option<Value>,
    after: Option<Value>,
    status: Option<String>,
    status_after: Option<String>,
    conflict: Option<String>,
}

/// Whether every part of `wanted` is in `found`.
fn holds(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| found.get(key).is_some_and(|found| holds(found, value))),
        _ => found == wanted,
    }
}

impl Case {
    fn usage(&self) -> Usage {
        match &self.usage[..] {
            "JITP" => Usage::Jitp,
            "FLEET_PROVISIONING" => Usage::FleetProvisioning,
            "RegisterThing" => Usage::RegisterThing,
            other => panic!("{other}"),
        }
    }

    fn values(&self) -> BTreeMap<String, String> {
        let id = "ab".repeat(32).parse().unwrap();
        match &self.subject {
            Some(subject) => jitp_parameters(&subject.parse().unwrap(), &id),
            None => self.parameters.clone(),
        }
    }

    fn check(&self) {
        assert!(!self.source.is_empty());
        let text = match (&self.template, &self.text) {
            (Some(template), None) => template.to_string(),
            (None, Some(text)) => text.clone(),
            _ => panic!("either template or text"),
        };
        let template = match (Template::parse(&text), &self.refused) {
            (Ok(template), None) => template,
            (Err(error), Some(paths)) => return self.check_refused(&error, paths),
            (parsed, refused) => panic!("{:?}, {refused:?}", parsed.err()),
        };
        self.check_findings(&template);
        let values = self.values();
        let rendered = template.render(self.usage(), &values);
        if let Some(wanted) = &self.error {
            let error = rendered.unwrap_err();
            let reason = template.reason(&error, &values);
            assert_eq!(wanted["code"], error.code(), "{reason:?}");
            if let Some(path) = wanted.get("path") {
                assert_eq!(path, &reason.path);
            }
            return;
        }
        let wants_plan = self.plan.is_some() || self.existing.is_some() || self.status.is_some();
        if !wants_plan {
            return;
        }
        let plan = rendered.unwrap();
        if let Some(wanted) = &self.plan {
            let found = serde_json::to_value(&plan).unwrap();
            assert!(holds(&found, wanted), "{found:#}");
        }
        self.check_existing(&plan);
        self.check_status(&plan.certificate);
    }

    fn check_refused(&self, error: &TemplateError, paths: &[String]) {
        let problems = error.problems();
        let found: Vec<&str> = problems.iter().map(|problem| &problem.path[..]).collect();
        assert_eq!(found, paths, "{error}");
        if let Some(place) = self.place {
            assert_eq!((problems[0].line, problems[0].column), place, "{error}");
        }
        let said = self.said.as_deref().unwrap_or_default();
        assert!(error.to_string().contains(said), "{error}");
    }

    fn check_findings(&self, template: &Template) {
        let findings = template.lint(self.usage());
        let found: BTreeSet<(String, String)> = findings
            .iter()
            .map(|finding| (finding.rule.to_owned(), finding.severity.to_string()))
            .collect();
        for wanted in self.findings.iter().flatten() {
            assert!(found.contains(wanted), "{wanted:?}: {findings:#?}");
        }
        if self.findings.is_none() && self.plan.is_some() {
            let error = findings.iter().find(|one| one.severity == Severity::Error);
            assert!(error.is_none(), "{error:?}");
        }
    }

    fn check_existing(&self, plan: &Plan) {
        let Some(existing) = &self.existing else {
            return;
        };
        let names = |value: &Value| -> BTreeSet<ThingName> {
            let all = value.as_array().into_iter().flatten();
            all.map(|name| name.as_str().unwrap().parse().unwrap())
                .collect()
        };
        let there = ExistingThing {
            type_name: existing["type_name"]
                .as_str()
                .map(|name| name.parse().unwrap()),
            attributes: serde_json::from_value(existing["attributes"].clone()).unwrap(),
            groups: names(&existing["groups"]),
            billing_group: None,
        };
        let change = thing_change(plan.thing.as_ref().unwrap(), &there);
        if let Some(property) = &self.conflict {
            let Err(Conflict::Thing {
                property: found, ..
            }) = change
            else {
                panic!("{change:?}")
            };
            assert_eq!(found, property);
            return;
        }
        let (after, wanted) = (change.unwrap().after, self.after.as_ref().unwrap());
        let type_name = after.type_name.as_ref().map(ThingName::as_str);
        assert_eq!(type_name, wanted["type_name"].as_str());
        if let Some(attributes) = wanted.get("attributes") {
            assert_eq!(
                &serde_json::to_value(&after.attributes).unwrap(),
                attributes
            );
        }
        if let Some(groups) = wanted.get("groups") {
            assert_eq!(after.groups, names(groups));
        }
    }

    fn check_status(&self, plan: &CertificatePlan) {
        let Some(before) = &self.status else { return };
        let change = status_change(plan, before.parse().unwrap());
        match &self.status_after {
            Some(after) => assert_eq!(change.unwrap().after.as_str(), after),
            None => assert!(matches!(change, Err(Conflict::Status(_))), "{change:?}"),
        }
    }
}

#[test]
fn the_engine_agrees_with_the_documented_examples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/template");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
        for case in cases {
            let begun = Instant::now();
            let checked = std::panic::catch_unwind(|| case.check());
            assert!(checked.is_ok(), "{}: {}", entry.path().display(), case.name);
            assert!(begun.elapsed() < Duration::from_secs(1), "{}", case.name);
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
}

/// Runs a command, expects this exit code, and reads the JSON that it prints.
fn json(project: &Project, args: &[&str], code: i32) -> Value {
    let output = project.run(&[&["--format", "json"], args].concat());
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn rules(report: &Value) -> BTreeSet<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .map(|finding| finding["rule"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_we_ship_is_written_linted_and_planned() {
    let project = Project::new();
    let list = project.ok(&["template", "list", "--shipped"]);
    let names = list["shipped"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let written = project.ok(&["template", "new", name, "--template-name", "pumps"]);
        let file = written["file"].as_str().unwrap();
        let mut policy = Vec::new();
        if let Some(path) = written["policy_file"].as_str() {
            policy.extend(["--policy", path]);
        }
        if let Some(path) = written["claim_policy_file"].as_str() {
            let claim = std::fs::read_to_string(project.path(path)).unwrap();
            assert!(
                claim.contains("provisioning-templates/pumps/provision"),
                "{claim}"
            );
        }
        let judge = [
            &["template", "lint", file, "--deny", "warnings"],
            &policy[..],
        ]
        .concat();
        let report = json(&project, &judge, 0);
        assert_eq!(report["warnings"], 0, "{report}");
        let device = [
            "--device",
            "pump-1",
            "--subject",
            "CN={name},serialNumber=SN7,O=Example,OU=Mark-2",
        ];
        let parameters = [
            "--parameter",
            "SerialNumber=7",
            "--parameter",
            "Site=austin",
        ];
        let tenant = ["--parameter", "Tenant=acme"];
        let given = if name.starts_with("jitp") {
            device.to_vec()
        } else {
            [&parameters[..], &tenant].concat()
        };
        let plan = [&["template", "plan", "-t", file], &given[..], &policy].concat();
        let report = json(&project, &plan, 0);
        assert_eq!(
            (&report["passes"], &report["access"]),
            (&true.into(), &"allowed".into())
        );
        assert_eq!(
            report["plan"]["certificate"]["source"]["id"],
            "<certificate id>"
        );
        // By its name alone, the shipped one is meant, with its policy.
        let plan = [&["template", "plan", "-t", name], &given[..]].concat();
        assert_eq!(json(&project, &plan, 0)["access"], "allowed");
        project.ok(&["template", "show", name, "--shipped"]);
        if let Some(path) = written["policy_file"].as_str() {
            isolated(&project, path);
        }
    }
}

/// The policy is clean, and keeps devices apart.
fn isolated(project: &Project, policy: &str) {
    json(
        project,
        &["policy", "lint", policy, "--deny", "warnings"],
        0,
    );
    let shared: &[&str] = match policy {
        "jitp-certificate-policy.json" => &["--same", "iot:Certificate.Subject.CommonName"],
        path if path.contains("tenant") => &["--shared-receive", "tenants/+/news"],
        _ => &[],
    };
    let isolate = [&["policy", "isolate", policy], shared].concat();
    assert_eq!(json(project, &isolate, 0)["proved"], true, "{policy}");
}

/// A template with a slip of every kind that is told before the first connect.
const DOUBTFUL: &str = r#"{
  "Parameters": {
    "AWS::IoT::Certificate::CommonName": { "Type": "String" },
    "AWS::IoT::Certificate::Country": { "Type": "String" },
    "AWS::IoT::Certificate::Organization": { "Type": "String" },
    "AWS::IoT::Certificate::Id": { "Type": "String" }
  },
  "Resources": {
    "thing": {
      "Type": "AWS::IoT::Thing",
      "Properties": {
        "ThingName": { "Ref": "AWS::IoT::Certificate::CommonName" },
        "AttributePayload": { "a": "1", "b": "2", "c": "3", "d": { "Ref": "AWS::IoT::Certificate::Organization" } },
        "ThingGroups": ["pumps"]
      },
      "OverrideSettings": { "ATTRIBUTE_PAYLOAD": "MERGE" }
    },
    "certificate": {
      "Type": "AWS::IoT::Certificate",
      "Properties": { "CertificateId": { "Ref": "AWS::IoT::Certificate::Id" }, "Status": "Active" }
    },
    "policy": {
      "Type": "AWS::IoT::Policy",
      "Properties": { "PolicyDocument": { "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:us-east-1:123456789012:client/pump" } ] } }
    }
  }
}"#;

#[test]
fn the_lint_tells_what_would_fail_later_and_where() {
    let project = Project::new();
    std::fs::write(project.path("t.json"), DOUBTFUL).unwrap();
    let report = json(&project, &["template", "lint", "t.json"], 0);
    let expected = [
        "template.attribute-count",
        "template.override-key",
        "template.parameter-unused",
        "template.prerequisite",
        "template.status-case",
        "template.value-spaces",
    ];
    assert_eq!(rules(&report), expected.map(str::to_owned).into());
    let finding = |rule: &str| {
        let all = report["findings"].as_array().unwrap();
        all.iter().find(|one| one["rule"] == rule).unwrap().clone()
    };
    let unused = finding("template.parameter-unused");
    assert_eq!((&unused["line"], &unused["column"]), (&4.into(), &5.into()));
    json(
        &project,
        &["template", "lint", "t.json", "--deny", "warnings"],
        1,
    );

    std::fs::write(
        project.path("u.json"),
        DOUBTFUL.replace("\"a\": \"1\", ", ""),
    )
    .unwrap();
    let report = json(&project, &["template", "lint", "u.json"], 0);
    assert!(
        rules(&report).contains("template.policy-connect"),
        "{report}"
    );

    let profile = [
        "template",
        "lint",
        "t.json",
        "--subject",
        "CN={name},O=Example Pumps",
    ];
    let report = json(&project, &profile, 1);
    assert!(
        rules(&report).contains("template.parameter-unfilled"),
        "{report}"
    );
    let profile = [
        "template",
        "lint",
        "t.json",
        "--subject",
        "CN={name},C=DE,O=Example Pumps",
    ];
    let report = json(&project, &profile, 1);
    assert!(
        rules(&report).contains("template.profile-value"),
        "{report}"
    );

    let report = json(&project, &["template", "lint", "t.json", "--at-target"], 1);
    assert!(
        rules(&report).contains("template.prerequisite-missing"),
        "{report}"
    );
    assert_eq!(report["target"]["kind"], "sandbox");

    let text = "[[suppress]]\nrule = \"template.*\"\nreason = \"known\"\nexpires = 2099-01-01\n";
    std::fs::write(project.path("nameplate-lint.toml"), text).unwrap();
    let report = json(
        &project,
        &["template", "lint", "t.json", "--fail-on", "note"],
        0,
    );
    assert_eq!(report["suppressed"], 6, "{report}");
    for format in ["sarif", "junit"] {
        let output = project.run(&["template", "lint", "t.json", "--format", format]);
        assert!(String::from_utf8_lossy(&output.stdout).contains("template.attribute-count"));
    }
}

#[test]
fn a_template_that_cannot_be_read_is_told_with_its_place() {
    let project = Project::new();
    let bomb = "[".repeat(10_000);
    for (text, said) in [
        (
            "{\n \"Resources\": 7}",
            "bad.json:2:2: error[template.grammar]: $.Resources",
        ),
        (
            "{\"Resources\":{},\n\"Resources\":{}}",
            "bad.json:2:11: error[template.json]",
        ),
        (&bomb, "error[template.json]"),
    ] {
        std::fs::write(project.path("bad.json"), text).unwrap();
        let begun = Instant::now();
        let output = project.run(&["template", "lint", "bad.json"]);
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert_eq!(output.status.code(), Some(1));
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(shown.contains(said), "{shown}");
    }
    let refused = project.fails(&["template", "plan", "-t", "bad.json", "--device", "x"]);
    assert_eq!(refused, (3, "template.json".to_owned()));
    let none = project.fails(&["template", "plan", "-t", "nobody", "--device", "x"]);
    assert_eq!(none, (3, "template.unknown".to_owned()));
    let nobody = project.fails(&["template", "plan", "-t", "jitp"]);
    assert_eq!(nobody, (2, "template.plan-device".to_owned()));
}

#[test]
fn a_certificate_and_a_request_are_planned() {
    let project = Project::with_ca();
    let subject = "CN={name},serialNumber=SN-1";
    let issue = ["device", "issue", "pump-1", "--subject", subject];
    let issued = project.ok(&issue);
    let id = issued["id"].as_str().unwrap().to_owned();
    let certificate = project.path("devices/pump-1/device.crt.pem");
    let certificate = certificate.to_str().unwrap();
    let plan = ["template", "plan", "-t", "jitp", "--cert", certificate];
    let report = json(&project, &plan, 0);
    assert_eq!(report["plan"]["thing"]["name"], "pump-1");
    assert_eq!(report["plan"]["certificate"]["source"]["id"], id);
    let steps: Vec<&str> = report["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    let order = [
        "register-certificate",
        "create-thing",
        "attach-policy",
        "attach-thing",
        "set-status",
    ];
    assert_eq!(steps, order);

    let there =
        r#"{"thingName":"pump-1","attributes":{"colour":"red"},"certificateStatus":"INACTIVE"}"#;
    std::fs::write(project.path("there.json"), there).unwrap();
    let with = [&plan[..], &["--existing", "there.json"]].concat();
    let report = json(&project, &with, 0);
    let merged = &report["effects"][1];
    assert_eq!(merged["outcome"], "merged", "{report}");
    assert_eq!(report["steps"][1]["step"], "keep-thing");
    let body =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/jitp.json"));
    let body = body.unwrap().replace(
        "\"AttributePayload\": \"MERGE\"",
        "\"AttributePayload\": \"FAIL\"",
    );
    std::fs::write(project.path("fail.json"), body).unwrap();
    let with = [
        "template",
        "plan",
        "-t",
        "fail.json",
        "--cert",
        certificate,
        "--existing",
        "there.json",
    ];
    let report = json(&project, &with, 1);
    assert_eq!(report["reason"]["rule"], "template.conflict");
}

#[test]
fn a_list_is_planned_row_by_row() {
    let project = Project::new();
    let list = "name,serial\np-1,1\np-2,2\np-3,a b\np 4,4\np-1,9\n";
    std::fs::write(project.path("l.csv"), list).unwrap();
    let plan = [
        "template",
        "plan",
        "-t",
        "jitp",
        "--csv",
        "l.csv",
        "--subject",
        "CN={name},serialNumber={serial}",
    ];
    let report = json(&project, &plan, 1);
    let counts = ["rows", "pass", "fail", "duplicates"].map(|key| report[key].as_u64().unwrap());
    assert_eq!(counts, [5, 2, 3, 1], "{report}");
    let lines: Vec<u64> = report["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [4, 5, 6]);
    let text = project.run(&plan);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.starts_with("line 4, p-3: template.attribute-value: "),
        "{text}"
    );
    assert!(text.contains("SerialNumber is `a b`"), "{text}");
    let output = project.run(&[&plan[..], &["--format", "ndjson"]].concat());
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 7);

    std::fs::write(project.path("good.csv"), "name,serial\np-1,1\np-2,2\n").unwrap();
    let good: Vec<&str> = plan
        .iter()
        .map(|arg| if *arg == "l.csv" { "good.csv" } else { arg })
        .collect();
    assert_eq!(json(&project, &good, 0)["pass"], 2);
    let unknown = [&good[..7], &["CN={name},O={maker}"]].concat();
    assert_eq!(project.fails(&unknown), (3, "pattern.unknown".to_owned()));
    std::fs::write(project.path("none.csv"), "name\n").unwrap();
    let none: Vec<&str> = ["template", "plan", "-t", "jitp", "--csv", "none.csv"].to_vec();
    assert_eq!(project.fails(&none), (3, "list.empty".to_owned()));
}

#[test]
fn lists_of_parameters_are_planned_too() {
    let project = Project::new();
    let rows = "{\"SerialNumber\":\"1\",\"Tenant\":\"acme\"}\n{\"SerialNumber\":\"2\"}\n{\"SerialNumber\":\"3\",\"Tenant\":\"a b\"}\n";
    std::fs::write(project.path("l.ndjson"), rows).unwrap();
    let plan = [
        "template",
        "plan",
        "-t",
        "fleet-tenant",
        "--csv",
        "l.ndjson",
    ];
    let report = json(&project, &plan, 1);
    assert_eq!(
        (&report["pass"], &report["fail"]),
        (&1.into(), &2.into()),
        "{report}"
    );
    let reasons: Vec<&str> = report["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["reason"]["rule"].as_str().unwrap())
        .collect();
    assert_eq!(reasons, ["template.no-value", "template.name"]);
    let with = [&plan[..], &["--parameter", "Tenant=beta"]].concat();
    assert_eq!(json(&project, &with, 1)["pass"], 2);
    let absent = project.fails(&[&plan[..], &["--at-target"]].concat());
    assert_eq!(absent, (1, "template.prerequisite-missing".to_owned()));
    let one = [
        "--parameter",
        "SerialNumber=7",
        "--parameter",
        "Tenant=acme",
        "--at-target",
    ];
    let plan = [&["template", "plan", "-t", "fleet-tenant"], &one[..]].concat();
    let report = json(&project, &plan, 1);
    assert_eq!(report["reason"]["rule"], "template.prerequisite-missing");

    let bulk = r#"{"Parameters":{"CSR":{"Type":"String"}},"Resources":{
      "t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"a"}},
      "c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"}}}}}"#;
    std::fs::write(project.path("bulk.json"), bulk).unwrap();
    let plan = [
        "template",
        "plan",
        "-t",
        "bulk.json",
        "--parameter",
        "CSR=none",
    ];
    let report = json(&project, &plan, 1);
    assert_eq!(report["kind"], "RegisterThing");
    assert_eq!(report["reason"]["rule"], "template.certificate-source");
}

#[test]
fn a_template_is_compared_with_the_targets() {
    let project = Project::new();
    project.ok(&["template", "new", "jitp"]);
    let register = ["template", "register", "jitp.json", "--name", "pumps"];
    project.ok(&register);
    let diff = ["template", "diff", "jitp.json", "--name", "pumps"];
    assert_eq!(json(&project, &diff, 0)["same"], true);

    let text = std::fs::read_to_string(project.path("jitp.json")).unwrap();
    let spaced = text.replace('\n', "\n ");
    std::fs::write(project.path("jitp.json"), spaced).unwrap();
    assert_eq!(json(&project, &diff, 0)["same"], true);
    std::fs::write(
        project.path("jitp.json"),
        text.replace("\"MERGE\"", "\"REPLACE\""),
    )
    .unwrap();
    let report = json(&project, &diff, 1);
    let lines = report["differences"][0]["lines"].to_string();
    assert!(
        lines.contains("-         \\\"AttributePayload\\\": \\\"MERGE\\\""),
        "{lines}"
    );
    project.ok(&[&register[..], &["--yes"]].concat());
    let report = json(&project, &diff, 0);
    assert_eq!(report["version"], 2);
    let old = [&diff[..], &["--version", "1"]].concat();
    assert_eq!(json(&project, &old, 1)["version"], 1);
    let gone = [&diff[..], &["--version", "9"]].concat();
    assert_eq!(project.fails(&gone), (3, "template.version".to_owned()));
    let settings = [
        &diff[..],
        &[
            "--disabled",
            "--role-arn",
            "arn:aws:iam::1:role/x",
            "--description",
            "d",
            "--hook",
            "",
        ],
    ];
    let report = json(&project, &settings.concat(), 1);
    let named: Vec<&str> = report["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["setting"].as_str().unwrap())
        .collect();
    assert_eq!(named, ["enabled", "role", "description"]);
    let nobody = project.fails(&["template", "diff", "jitp.json"]);
    assert_eq!(nobody, (3, "template.unknown".to_owned()));
}
