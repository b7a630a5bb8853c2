//! The ledger notices what is changed behind its back, and lets no two identities be live.

use crate::project::{Project, quiet};

#[test]
fn every_change_behind_its_back_is_found() {
    for (sql, named) in [
        ("UPDATE entries SET device = 'evil' WHERE nr = 1", "differs"),
        (
            "UPDATE seals SET der = x'00' WHERE nr = 1",
            "not the one of its id",
        ),
        (
            "DELETE FROM seals; DELETE FROM entries WHERE nr = 1",
            "is gone",
        ),
        ("UPDATE authorities SET folder = '/tmp'", "differs"),
        (
            "DROP TRIGGER events_are_not_changed; UPDATE events SET body = '{}' WHERE seq = 2",
            "hash",
        ),
        (
            "DROP TRIGGER events_are_not_removed; DELETE FROM events WHERE seq = 2",
            "missing",
        ),
    ] {
        let project = Project::with_ca();
        project.ok(&["device", "issue", "a"]);
        assert_eq!(
            project.ok(&["ledger", "verify"])["broken"],
            serde_json::Value::Null
        );
        let database = rusqlite::Connection::open(project.path("ledger.sqlite")).unwrap();
        database.execute_batch(sql).unwrap();
        let output = project.run(&["--format", "json", "ledger", "verify"]);
        assert_eq!(output.status.code(), Some(1), "{sql}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(named), "{sql}: {text}");
    }
}

#[test]
fn events_cannot_be_changed_or_removed() {
    let project = Project::with_ca();
    let database = rusqlite::Connection::open(project.path("ledger.sqlite")).unwrap();
    for sql in ["UPDATE events SET at = 0", "DELETE FROM events"] {
        let error = database.execute_batch(sql).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{error}");
    }
}

#[test]
fn processes_that_race_leave_one_live_identity() {
    let project = Project::with_ca();
    let racers: Vec<_> = (0..6)
        .map(|n| {
            let out = format!("out-{n}");
            let mut command = project.command(&["device", "issue", "pump", "--out", &out]);
            quiet(&mut command).spawn().unwrap()
        })
        .collect();
    let won = racers
        .into_iter()
        .map(|mut racer| racer.wait().unwrap().code().unwrap())
        .filter(|code| *code == 0)
        .count();
    assert_eq!(won, 1);
    let all = project.ok(&["device", "list"]);
    assert_eq!(all["devices"].as_array().unwrap().len(), 1);
}

#[test]
fn the_list_is_narrowed() {
    let project = Project::with_ca();
    project.ok(&["device", "issue", "soon", "--days", "1"]);
    project.ok(&["device", "issue", "late", "--days", "30"]);
    let names = |args: &[&str]| -> Vec<String> {
        let all = project.ok(&[&["device", "list"], args].concat());
        let devices = all["devices"].as_array().unwrap().iter();
        devices
            .map(|device| device["device"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&["--expiring-before", "+7d"]), ["soon"]);
    assert_eq!(names(&["--ca", "factory"]), ["late", "soon"]);
    assert!(names(&["--batch", "none"]).is_empty());
    let output = project.run(&["device", "list", "--ca", "nobody"]);
    assert_eq!(output.status.code(), Some(3));
}
