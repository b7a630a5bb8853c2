//! `template plan --csv --at-target`: each row's own thing, as a sandbox has it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::project::Project;
use crate::sandbox_rest::{aws, serve};
use nameplate::sandbox::server::StatePlace;

const TEMPLATE: &str = r#"{"Parameters":{"ThingName":{"Type":"String"},"Type":{"Type":"String"},
  "Group":{"Type":"String"},"Site":{"Type":"String"},"Csr":{"Type":"String"}},"Resources":{
  "t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"},
       "ThingTypeName":{"Ref":"Type"},"ThingGroups":[{"Ref":"Group"}],
       "AttributePayload":{"site":{"Ref":"Site"}}},
       "OverrideSettings":{"AttributePayload":"MERGE","ThingTypeName":"FAIL","ThingGroups":"FAIL"}},
  "c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"1"}}}}"#;

fn rows(output: &std::process::Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn each_rows_own_thing_is_looked_for_at_the_target() {
    let url = serve(StatePlace::Memory);
    for name in ["valve", "pump"] {
        aws(&url, "create-thing-type --thing-type-name @", &[name]);
    }
    for name in ["site-a", "site-b"] {
        aws(&url, "create-thing-group --thing-group-name @", &[name]);
    }
    for (name, kind) in [("p-2", "valve"), ("p-3", "pump"), ("p-5", "pump")] {
        let thing = "create-thing --thing-name @ --thing-type-name @ --attribute-payload @";
        aws(&url, thing, &[name, kind, r#"{"attributes":{"old":"1"}}"#]);
        let group = "add-thing-to-thing-group --thing-name @ --thing-group-name site-a";
        aws(&url, group, &[name]);
    }
    let project = Project::new();
    std::fs::write(project.path("t.json"), TEMPLATE).unwrap();
    let list = "ThingName,Type,Group,Site,Csr\n\
                p-1,pump,site-a,x,0\n\
                p-2,pump,site-a,x,0\n\
                p-3,pump,site-b,x,0\n\
                p-4,pomp,site-a,x,0\n\
                p-5,pump,site-a,x,0\n\
                p-1,pump,site-a,x,0\n\
                p-6,pump,site-a,x y,0\n";
    std::fs::write(project.path("l.csv"), list).unwrap();
    let plan = [
        "template",
        "plan",
        "-t",
        "t.json",
        "--kind",
        "bulk",
        "--csv",
        "l.csv",
        "--at-target",
        "--endpoint-url",
        &url,
        "--region",
        "eu-west-1",
    ];
    let ndjson = [&plan[..], &["--format", "ndjson"]].concat();
    let output = project.run(&ndjson);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let rows_ = rows(&output);
    let reason = |row: &Value| row["reason"]["rule"].as_str().unwrap_or("").to_owned();
    let told: Vec<(u64, String)> = rows_[..7]
        .iter()
        .map(|row| (row["line"].as_u64().unwrap(), reason(row)))
        .collect();
    let wanted = [
        (2, ""),
        (3, "template.conflict"),
        (4, "template.conflict"),
        (5, "template.prerequisite-missing"),
        (6, ""),
        (7, ""),
        (8, "template.attribute-value"),
    ];
    let wanted = wanted.map(|(line, rule)| (line, rule.to_owned()));
    assert_eq!(told, wanted, "{rows_:#?}");
    let merged = &rows_[4]["effects"][1];
    assert_eq!(merged["outcome"], "merged", "{rows_:#?}");
    assert!(rows_[0]["effects"].is_null(), "p-1 is not there");
    assert_eq!(rows_[7]["duplicate_of"], 2);
    let summary = &rows_[8];
    assert_eq!((&summary["pass"], &summary["fail"]), (&2.into(), &5.into()));
    assert_eq!(summary["target"]["kind"], "sandbox");

    let text = String::from_utf8(project.run(&plan).stdout).unwrap();
    assert!(
        text.contains("line 3, p-2: template.conflict: thing p-2 is there"),
        "{text}"
    );
    assert!(
        text.contains("7 rows (RegisterThing): 2 pass, 5 fail"),
        "{text}"
    );

    // Going on later in the list, at a pace.
    let begun = Instant::now();
    let later = [
        &ndjson[..],
        &["--from-line", "6", "--calls-per-second", "2"],
    ]
    .concat();
    let rows_ = rows(&project.run(&later));
    let lines: Vec<u64> = rows_
        .iter()
        .filter_map(|row| row["line"].as_u64())
        .collect();
    assert_eq!(lines, [6, 7, 8, 7], "{rows_:#?}");
    assert_eq!(rows_[4]["from_line"], 6);
    // Two things, groups of one, a type and a group, and the one that comes twice.
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );

    let wrong = [&plan[..], &["--calls-per-second", "0"]].concat();
    assert_eq!(project.run(&wrong).status.code(), Some(2));
    let gone = plan.map(|arg| {
        if arg == url {
            "http://127.0.0.1:9"
        } else {
            arg
        }
    });
    assert_eq!(project.fails(&gone), (4, "cloud.unavailable".to_owned()));
}
