//! The ledger notices what is changed behind its back, and lets no two identities be live.

use crate::batch::Mount;
use crate::project::{Project, quiet, tool};

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
    let lines = project.run(&["--format", "ndjson", "device", "list"]);
    let lines = String::from_utf8(lines.stdout).unwrap();
    let devices: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|one| one["device"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(devices, ["late", "soon"]);
}

#[test]
fn certificates_are_taken_into_a_fresh_ledger() {
    let project = Project::with_ca();
    std::fs::write(project.path("list.csv"), "name\np1\np2\n").unwrap();
    project.ok(&["device", "batch", "list.csv"]);
    project.ok(&["device", "issue", "p3"]);
    // The ledger is lost; keys, certificates and the CA's folder are not.
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = std::fs::remove_file(project.path(name));
    }
    std::fs::rename(project.path("ca/factory"), project.path("old-ca")).unwrap();
    let early = project.run(&["ledger", "import", "--certificates", "devices"]);
    assert_eq!(early.status.code(), Some(1), "{early:?}");
    let said = String::from_utf8_lossy(&early.stdout).into_owned();
    assert!(said.contains("no CA of this ledger signed it"), "{said}");
    assert!(
        said.ends_with("0 taken in, 0 known before, 3 left out\n"),
        "{said}"
    );
    let (cert, key) = ("old-ca/cert.pem", "old-ca/key.pem");
    project.ok(&["ca", "import", "factory", "--cert", cert, "--key", key]);
    let take = [
        "ledger",
        "import",
        "--certificates",
        "devices",
        "--batch",
        "old",
    ];
    let taken = project.ok(&take);
    assert_eq!(
        (&taken["adopted"], &taken["left"]),
        (&3.into(), &0.into()),
        "{taken}"
    );
    let again = project.ok(&take);
    assert_eq!(
        (&again["adopted"], &again["known"]),
        (&0.into(), &3.into()),
        "{again}"
    );
    assert_eq!(project.ok(&["ledger", "verify"])["certificates"], 3);
    // They are devices like all others: not issued for twice, shown with their folder, revoked.
    let batch = project.ok(&["device", "batch", "list.csv"]);
    assert_eq!(batch["issued"], 0, "{batch}");
    let listed = project.ok(&["device", "list", "--batch", "old"]);
    assert_eq!(listed["devices"].as_array().unwrap().len(), 3, "{listed}");
    project.ok(&["device", "export", "p1", "--output", "der"]);
    let odd = [
        "device",
        "issue",
        "p4",
        "--subject",
        "CN=two words",
        "--out",
        "odd",
    ];
    project.ok(&odd);
    let left = project.run(&["ledger", "import", "--certificates", "odd"]);
    assert_eq!(left.status.code(), Some(1));
    let said = String::from_utf8_lossy(&left.stdout).into_owned();
    assert!(said.contains("its common name is no thing name"), "{said}");
    project.ok(&["device", "revoke", "p1", "--local", "--yes"]);
}

#[test]
fn a_file_that_is_no_whole_ledger_is_refused() {
    let project = Project::with_ca();
    project.ok(&["ledger", "export", "whole.ndjson"]);
    let twice = ["ledger", "export", "whole.ndjson"];
    assert_eq!(project.fails(&twice), (5, "file.exists".into()));
    let whole = std::fs::read_to_string(project.path("whole.ndjson")).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let into = |text: &str| {
        std::fs::write(project.path("bad.ndjson"), text).unwrap();
        project.fails(&["ledger", "import", "bad.ndjson", "--ledger", "new.sqlite"])
    };
    assert_eq!(into(""), (3, "ledger-file.short".into()));
    assert_eq!(
        into(&lines[..2].join("\n")),
        (3, "ledger-file.short".into())
    );
    assert_eq!(
        into("{\"kind\":\"ledger\"}"),
        (3, "ledger-file.line".into())
    );
    assert_eq!(into("serial,name\n"), (3, "ledger-file.line".into()));
    let changed = whole.replace("ca/factory", "ca/FACTORY");
    assert_eq!(into(&changed), (3, "ledger-file.changed".into()));
    let own = project.fails(&["ledger", "import", "whole.ndjson"]);
    assert_eq!(own, (5, "ledger.not-empty".into()));
    let folder = project.fails(&["ledger", "import", "ca"]);
    assert_eq!(folder, (3, "ledger-file.folder".into()));
    let missing = project.fails(&["ledger", "import", "nowhere"]);
    assert_eq!(missing, (3, "file.missing".into()));
    let both = project.fails(&["ledger", "export"]);
    assert_eq!(both, (2, "output.shape".into()));
}

#[test]
fn a_full_disk_leaves_no_part_of_an_export() {
    let project = Project::with_ca();
    for name in ["a", "b", "c", "d"] {
        project.ok(&["device", "issue", name]);
    }
    std::fs::create_dir(project.path("small")).unwrap();
    let small = project.path("small");
    let target = small.to_str().unwrap();
    // This needs root, as CI has; elsewhere it fails rather than pass untested.
    tool(
        "mount",
        &["-t", "tmpfs", "-o", "size=4k", "tmpfs", target],
        project.root(),
    );
    let mount = Mount(small.clone());
    let args = ["ledger", "export", "small/whole.ndjson"];
    assert_eq!(project.fails(&args), (4, "file.disk-full".into()));
    assert_eq!(std::fs::read_dir(&small).unwrap().count(), 0);
    tool("mount", &["-o", "remount,size=1M", target], project.root());
    project.ok(&args);
    assert_eq!(std::fs::read_dir(&small).unwrap().count(), 1);
    drop(mount);
}
