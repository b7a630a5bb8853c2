//! `device batch --output …` and `device export`: what comes out is opened by the programs it is
//! meant for; killed, the same command goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::project::{Project, quiet, tool};

fn list(count: usize) -> String {
    let mut text = "serial\n".to_owned();
    for n in 0..count {
        writeln!(text, "SN-{n:05}").unwrap();
    }
    text
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Device and certificate id of everything the ledger has issued.
fn issued(project: &Project) -> BTreeMap<String, String> {
    let all = project.ok(&["device", "list", "--state", "issued"]);
    let mut found = BTreeMap::new();
    for device in all["devices"].as_array().unwrap() {
        let text = |key: &str| device[key].as_str().unwrap().to_owned();
        assert!(found.insert(text("device"), text("id")).is_none());
    }
    found
}

/// Every device once, with the ledger's certificate and a key that belongs to it.
#[track_caller]
fn assert_whole(project: &Project, found: &[(String, Vec<u8>, Vec<u8>)], count: usize) {
    use nameplate::core::cert::Certificate;
    use nameplate::core::key::KeyFile;
    use nameplate::effects::keys::RingKeys;
    use nameplate::ports::Keygen;
    let known = issued(project);
    assert_eq!(known.len(), count);
    let mut names = BTreeSet::new();
    for (name, key, certificate) in found {
        assert!(names.insert(name), "{name} is there twice");
        let leaf = Certificate::all_from_pem(certificate)
            .unwrap()
            .swap_remove(0);
        assert_eq!(Some(&leaf.id().as_str().to_owned()), known.get(name));
        let KeyFile::Clear(key) = KeyFile::parse(key).unwrap() else {
            panic!("encrypted")
        };
        let public = RingKeys::default().public_of(&key).unwrap();
        assert_eq!(public.bits(), leaf.public_key.bits());
    }
    assert_eq!(names.len(), count);
    let intended = project.ok(&["device", "list", "--state", "intended"]);
    assert_eq!(intended["devices"].as_array().unwrap().len(), 0);
    assert_eq!(project.ok(&["ledger", "verify"])["broken"], Value::Null);
}

/// Unpacks an archive; name, key and certificate of each folder.
fn unpacked(project: &Project, archive: &str) -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let folder = project.path("unpacked");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    let archive = format!("../{archive}");
    tool("tar", &["-xf", &archive], &folder);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let read = |name| std::fs::read(entry.path().join(name)).unwrap();
        assert!(!read("chain.pem").is_empty() && !read("ca.pem").is_empty());
        let name = entry.file_name().into_string().unwrap();
        found.push((name, read("device.key.pem"), read("device.crt.pem")));
    }
    found
}

fn from_lines(lines: &[Value]) -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    lines
        .iter()
        .map(|line| {
            let key = text(line, "private_key_pem").into_bytes();
            let certificate = text(line, "certificate_pem").into_bytes();
            (text(line, "name"), key, certificate)
        })
        .collect()
}

/// The manifest's last line is what the CA signed, and its hash is that of the lines before.
#[track_caller]
fn assert_signed(project: &Project, manifest: &str, count: usize) {
    let script = format!(
        "set -e; openssl x509 -in ca/factory/cert.pem -pubkey -noout > ca.pub
         tail -n 1 {manifest} | openssl dgst -sha256 -verify ca.pub -signature {manifest}.sig
         head -n -1 {manifest} | sha256sum | cut -d' ' -f1"
    );
    let said = tool("sh", &["-c", &script], project.root());
    let all = lines(&project.path(manifest));
    assert_eq!(all.len(), count + 1);
    let seal = &all[count];
    assert_eq!(
        said.trim(),
        format!("Verified OK\n{}", seal["sha256"].as_str().unwrap())
    );
    assert_eq!(seal["devices"], count);
    let known = issued(project);
    for line in &all[..count] {
        assert_eq!(
            line["certificate_id"],
            known[line["name"].as_str().unwrap()][..]
        );
    }
}

#[test]
fn tar_zstd_and_json_streams_are_read_by_others_and_grow() {
    let project = Project::with_ca();
    let long = "x".repeat(128);
    std::fs::write(project.path("a.csv"), format!("serial\nA\n{long}\n")).unwrap();
    for (shape, extension) in [("tar", "tar"), ("tar.zst", "tar.zst"), ("ndjson", "ndjson")] {
        let name = |n: usize| format!("{shape}-{n}");
        let subject = format!("CN={shape}");
        let mut text = "serial\n".to_owned();
        let out = format!("{extension}-out.{extension}");
        for count in [0_usize, 3, 3, 5] {
            for n in text.lines().count() - 1..count {
                writeln!(text, "{}", name(n).replace('.', "-")).unwrap();
            }
            if count == 0 {
                continue;
            }
            std::fs::write(project.path("list.csv"), &text).unwrap();
            let args = ["device", "batch", "list.csv", "--output", shape, "-o", &out];
            let said = project.ok(&[&args[..], &["--subject", &subject]].concat());
            assert_eq!(said["devices"], count);
        }
        let found = if shape == "ndjson" {
            from_lines(&lines(&project.path(&out)))
        } else {
            unpacked(&project, &out)
        };
        assert_eq!(found.len(), 5);
        assert_eq!(
            lines(&project.path(&format!("{out}.manifest.ndjson"))).len(),
            6
        );
    }
    // A name too long for tar's first field, and a stream to stdout.
    let output = project.run(&[
        "device",
        "batch",
        "a.csv",
        "--subject",
        "CN=x",
        "--output",
        "tar",
        "-o",
        "-",
    ]);
    assert!(output.status.success(), "{output:?}");
    std::fs::write(project.path("stdout.tar"), output.stdout).unwrap();
    let mut names: Vec<String> = unpacked(&project, "stdout.tar")
        .into_iter()
        .map(|(name, ..)| name)
        .collect();
    names.sort();
    assert_eq!(names, ["A", &long]);
    let mode = std::fs::metadata(project.path("unpacked/A/device.key.pem")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
        0o600
    );
}

#[test]
fn a_stream_killed_at_random_moments_is_finished_by_the_same_command() {
    const COUNT: usize = 1_500;
    for shape in ["tar", "ndjson"] {
        let project = Project::with_ca();
        std::fs::write(project.path("list.csv"), list(COUNT)).unwrap();
        let args = [
            "device", "batch", "list.csv", "--output", shape, "-o", "out",
        ];
        let mut state = 0x2545_f491_u32;
        for _ in 0..8 {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let mut child = quiet(&mut project.command(&args)).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(u64::from(state % 500)));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let last = project.ok(&args);
        let sum = ["issued", "skipped"].map(|part| last[part].as_u64().unwrap());
        assert_eq!(sum.iter().sum::<u64>(), COUNT as u64);
        let found = match shape {
            "tar" => unpacked(&project, "out"),
            _ => from_lines(&lines(&project.path("out"))),
        };
        assert_whole(&project, &found, COUNT);
        assert_signed(&project, "out.manifest.ndjson", COUNT);
    }
}

#[test]
fn other_outputs_are_not_touched() {
    let project = Project::with_ca();
    std::fs::write(project.path("list.csv"), "serial\nA\n").unwrap();
    std::fs::write(project.path("mine.tar"), "precious").unwrap();
    let batch = |more: &[&str]| project.fails(&[&["device", "batch", "list.csv"], more].concat());
    let tar = ["--output", "tar", "-o"];
    assert_eq!(
        batch(&[&tar[..], &["mine.tar"]].concat()),
        (5, "file.exists".into())
    );
    assert_eq!(
        batch(&[&tar[..], &["ca"]].concat()),
        (2, "output.shape".into())
    );
    assert_eq!(batch(&["-o", "-"]), (2, "output.shape".into()));
    assert_eq!(batch(&["--output", "p12"]), (2, "output.password".into()));
    assert_eq!(
        std::fs::read(project.path("mine.tar")).unwrap(),
        b"precious"
    );
    assert!(issued(&project).is_empty());

    let args = [
        "device", "batch", "list.csv", "--output", "tar", "-o", "cut.tar",
    ];
    project.ok(&args);
    std::fs::write(project.path("cut.tar"), "cut").unwrap();
    std::fs::write(project.path("list.csv"), "serial\nA\nB\n").unwrap();
    assert_eq!(project.fails(&args), (5, "output.short".into()));
    // Taken away whole, with its manifest, the next devices begin a new one.
    for name in [
        "cut.tar",
        "cut.tar.manifest.ndjson",
        "cut.tar.manifest.ndjson.sig",
    ] {
        std::fs::remove_file(project.path(name)).unwrap();
    }
    assert_eq!(project.ok(&args)["issued"], 1);
    assert_eq!(unpacked(&project, "cut.tar").len(), 1);
}

/// Each shape of a folder, from the batch and from `device export`, opened by what it is for.
#[test]
fn folders_of_each_shape_are_opened_by_what_they_are_for() {
    let project = Project::with_ca();
    std::fs::write(project.path("list.csv"), "serial\nA\n").unwrap();
    std::fs::write(project.path("p12pw"), "secret\n").unwrap();
    project.ok(&["device", "batch", "list.csv", "-o", "pem"]);
    for shape in ["p12", "der", "c-header", "esp-nvs-csv", "tar.zst"] {
        let args = ["device", "export", "A", "--output", shape, "-o", shape];
        project.ok(&[&args[..], &["--p12-password-file", "p12pw"]].concat());
        assert_eq!(project.fails(&args).0, if shape == "p12" { 2 } else { 5 });
    }
    let sh = |script: &str| tool("sh", &["-ec", script], project.root());
    let same = "cmp key.txt expected.txt && cmp crt.txt expected-crt.txt";
    sh(
        "openssl pkey -in pem/A/device.key.pem -outform DER -out expected.txt
        openssl x509 -in pem/A/device.crt.pem -outform DER -out expected-crt.txt",
    );
    let from_p12 = "openssl pkcs12 -in p12/device.p12 -passin file:p12pw -nodes -nocerts |
        openssl pkey -outform DER -out key.txt
        openssl pkcs12 -in p12/device.p12 -passin file:p12pw -nokeys -clcerts |
        openssl x509 -outform DER -out crt.txt";
    sh(&format!("{from_p12}; {same}"));
    let from_der = "openssl pkey -inform DER -in der/device.key.der -outform DER -out key.txt
        cp der/device.crt.der crt.txt";
    sh(&format!("{from_der}; {same}"));
    sh("openssl x509 -inform DER -in der/ca.der -noout
        printf '#include \"c-header/nameplate_identity.h\"\\nint main(void){return !nameplate_ca_pem[0]
        + !nameplate_device_key_pem[0] + !nameplate_device_chain_pem[0];}' > t.c
        cc -Wall -Werror -o t t.c && ./t");
    let nvs = "import csv
rows = list(csv.DictReader(open('esp-nvs-csv/nvs.csv', newline='')))
assert rows[0] == dict(key='nameplate', type='namespace', encoding='', value=''), rows[0]
got = {r['key']: r['value'] for r in rows[1:]}
assert all(r['type'] == 'data' and r['encoding'] == 'string' and len(r['key']) < 16 for r in rows[1:])
assert got['thing_name'] == 'A'
assert got['device_key'] == open('pem/A/device.key.pem').read()
assert got['device_cert'] == open('pem/A/chain.pem').read()
assert got['ca_cert'] == open('pem/A/ca.pem').read()";
    tool("python3", &["-c", nvs], project.root());
    std::fs::rename(project.path("tar.zst"), project.path("one.tar.zst")).unwrap();
    assert_eq!(unpacked(&project, "one.tar.zst").len(), 1);
    assert_eq!(
        project.fails(&["device", "export", "B"]),
        (3, "export.none".into())
    );

    std::fs::write(project.path("list.csv"), "serial\nB\n").unwrap();
    let args = [
        "device",
        "batch",
        "list.csv",
        "--output",
        "der",
        "-o",
        "batch-der",
    ];
    project.ok(&[&args[..], &["--manifest", "der.ndjson"]].concat());
    tool(
        "openssl",
        &[
            "x509",
            "-inform",
            "DER",
            "-in",
            "batch-der/B/device.crt.der",
            "-noout",
        ],
        project.root(),
    );
    assert_eq!(lines(&project.path("der.ndjson")).len(), 2);
}

#[test]
fn processes_that_share_a_list_and_a_ledger_issue_each_device_once() {
    const COUNT: usize = 1_500;
    let project = Project::with_ca();
    std::fs::write(project.path("list.csv"), list(COUNT)).unwrap();
    let batch = |n: usize| {
        let out = format!("part-{n}.ndjson");
        let mut command = project.command(&[
            "device", "batch", "list.csv", "--output", "ndjson", "--out", &out,
        ]);
        quiet(&mut command).spawn().unwrap()
    };
    let mut racers: Vec<_> = (0..4).map(batch).collect();
    // One dies on the way; the others take over what it had claimed.
    std::thread::sleep(Duration::from_millis(400));
    let _ = racers[0].kill();
    for (n, racer) in racers.iter_mut().enumerate() {
        let status = racer.wait().unwrap();
        assert!(n == 0 || status.success(), "{n}: {status}");
    }
    // Its own output is cut to what the ledger vouches for by the same command.
    assert!(batch(0).wait().unwrap().success());
    let parts: Vec<Value> = (0..4)
        .flat_map(|n| lines(&project.path(&format!("part-{n}.ndjson"))))
        .collect();
    assert_whole(&project, &from_lines(&parts), COUNT);
    let runs = std::fs::read_dir(project.path("ledger.sqlite.runs")).unwrap();
    assert_eq!(runs.count(), 0, "a run that is over leaves no lock");
}

#[test]
fn what_a_killed_run_had_placed_and_not_confirmed_is_made_anew() {
    for (shape, more) in [("der", None), ("c-header", None), ("p12", Some("pw"))] {
        let project = Project::with_ca();
        std::fs::write(project.path("l.csv"), "name\np1\np2\n").unwrap();
        let mut batch = vec![
            "device", "batch", "l.csv", "--out", "out", "--output", shape,
        ];
        batch.extend(
            more.into_iter()
                .flat_map(|file| ["--p12-password-file", file]),
        );
        assert_eq!(project.ok(&batch)["issued"], 2);
        // As a kill between placing p1 and confirming it leaves it.
        rusqlite::Connection::open(project.path("ledger.sqlite"))
            .unwrap()
            .execute_batch(
                "DELETE FROM seals WHERE nr = (SELECT nr FROM entries WHERE device = 'p1'); \
                 UPDATE entries SET state = 'intended' WHERE device = 'p1'",
            )
            .unwrap();
        let again = project.ok(&batch);
        assert_eq!(
            (&again["issued"], &again["skipped"]),
            (&1.into(), &1.into()),
            "{again}"
        );
        // A stranger's folder is still left alone.
        std::fs::create_dir(project.path("out/p3")).unwrap();
        std::fs::write(project.path("l.csv"), "name\np3\n").unwrap();
        assert_eq!(project.fails(&batch), (5, "file.exists".into()), "{shape}");
    }
}
