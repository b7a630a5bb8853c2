//! `preflight` in depth: modes that it sets right, a time on the shelf, tokens, chains, and the
//! contracts that other programs build on.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::device_lab::{CLIENT, Lab, SERVER, Said, command, nameplate, set_mode};
use crate::project::tool;

const NOW: &str = "@2026-11-02 00:00:00";

fn preflight(fake_time: Option<&str>, identity: &str, more: &[&str]) -> Said {
    let base = ["preflight", "--format", "json", "--identity", identity];
    let offline = ["--offline", "--trust-clock", "1m"];
    nameplate(fake_time, &[&base[..], &offline, more].concat())
}

fn mode(path: &str) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn modes_are_set_right_where_that_is_certain_and_told_of() {
    let lab = Lab::new();
    let good = lab.good();
    let (key, cert) = (
        format!("{good}/device.key.pem"),
        format!("{good}/device.crt.pem"),
    );
    set_mode(key.as_ref(), 0o644);
    set_mode(cert.as_ref(), 0o666);
    set_mode(good.as_ref(), 0o777);
    let said = preflight(None, &good, &[]);
    assert_eq!(
        (said.code, &said.cause()[..]),
        (1, "identity.key-mode"),
        "{said}"
    );
    for id in [
        "identity.key-mode",
        "identity.folder-mode",
        "identity.file-mode",
    ] {
        assert_eq!(said.status(id), "fail", "{id}: {said}");
    }
    assert_eq!(
        (mode(&key), mode(&cert), mode(&good)),
        (0o644, 0o666, 0o777)
    );
    let said = preflight(None, &good, &["--fix"]);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(
        (mode(&key), mode(&cert), mode(&good)),
        (0o600, 0o644, 0o755)
    );
    let fixed = said.json()["fixed"].as_array().unwrap().clone();
    assert_eq!(fixed.len(), 3, "{said}");
    assert_eq!(
        (&fixed[0]["from"], &fixed[0]["to"]),
        (&"0644".into(), &"0600".into()),
        "{said}"
    );
    // A second run finds nothing to do.
    assert!(preflight(None, &good, &["--fix"]).json()["fixed"].is_null());
    set_mode(key.as_ref(), 0o604);
    let args = [
        "preflight",
        "--identity",
        &good,
        "--offline",
        "--trust-clock",
        "1m",
        "--fix",
    ];
    let text = nameplate(None, &args);
    assert!(text.stdout.contains("mode 0604 is 0600 now"), "{text}");
}

#[test]
fn what_a_person_must_decide_is_left_alone() {
    let lab = Lab::new();
    let good = lab.good();
    let key = format!("{good}/device.key.pem");
    // A service's group may read the key on purpose.
    set_mode(key.as_ref(), 0o644);
    std::os::unix::fs::chown(&key, None, Some(12_345)).unwrap();
    let said = preflight(None, &good, &["--fix"]);
    assert_eq!(
        (said.code, &said.cause()[..]),
        (1, "identity.key-mode"),
        "{said}"
    );
    assert_eq!(mode(&key), 0o640, "{said}");
    // A link may lead anywhere.
    std::os::unix::fs::chown(&key, None, Some(0)).unwrap();
    let elsewhere = lab.text("elsewhere.pem");
    fs::rename(&key, &elsewhere).unwrap();
    symlink(&elsewhere, &key).unwrap();
    let said = preflight(None, &good, &["--fix"]);
    assert_eq!((said.code, mode(&elsewhere)), (1, 0o640), "{said}");
    // Another owner is told of and not changed.
    fs::remove_file(&key).unwrap();
    fs::rename(&elsewhere, &key).unwrap();
    std::os::unix::fs::chown(&key, Some(12_345), Some(0)).unwrap();
    let said = preflight(None, &good, &["--fix"]);
    assert_eq!(
        (said.code, &said.status("identity.key-owner")[..]),
        (0, "warn"),
        "{said}"
    );
    assert_eq!(
        (mode(&key), fs::metadata(&key).unwrap().uid()),
        (0o600, 12_345)
    );
}

#[test]
fn a_time_on_the_shelf_is_foretold() {
    let lab = Lab::new();
    let good = lab.good();
    let at = Some("@2026-11-20 00:00:00");
    for (shelf, code, words) in [
        ("6mo", 0, "all within the window"),
        ("18mo", 1, "is over since 2027-11-02"),
    ] {
        let said = preflight(at, &good, &["--shelf", shelf, "--drift-ppm", "50"]);
        assert_eq!(said.code, code, "{shelf}: {said}");
        let fact = said.check("shelf.window")["fact"].to_string();
        assert!(fact.contains(words), "{fact}");
        assert_eq!(said.status("shelf.battery"), "warn", "{said}");
    }
    let said = preflight(at, &good, &["--shelf", "18mo"]);
    let longest = said.json()["verdict"]["shelf"]["longest_s"]
        .as_i64()
        .unwrap();
    let (fits, over) = (format!("{}s", longest - 200), format!("{}s", longest + 200));
    assert_eq!(preflight(at, &good, &["--shelf", &fits]).code, 0);
    assert_eq!(preflight(at, &good, &["--shelf", &over]).code, 1);
    // On a desk, with the facts that a device kept.
    let kept = lab.text("facts.json");
    fs::write(&kept, preflight(at, &good, &[]).stdout).unwrap();
    let replay =
        |shelf: &str| nameplate(None, &["preflight", "--facts", &kept, "--shelf", shelf]).code;
    assert_eq!((replay("6mo"), replay("18mo")), (0, 1));
}

#[test]
fn a_chain_is_complete_in_order_and_signed() {
    let lab = Lab::new();
    let extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n";
    lab.leaf("inter", "inter", "ca", extensions, NOW);
    let device = lab.identity("pump-1", "inter", CLIENT, NOW);
    let read = |name: &str| fs::read_to_string(lab.path(name)).unwrap();
    let (leaf, inter, root) = (read("pump-1.pem"), read("inter.pem"), read("ca.pem"));
    let ca = lab.text("ca.pem");
    for (name, chain, code, cause, words) in [
        (
            "whole",
            format!("{leaf}{inter}"),
            0,
            "chain.complete",
            "2 certificates",
        ),
        (
            "with the root",
            format!("{leaf}{inter}{root}"),
            0,
            "chain.complete",
            "3 certificates",
        ),
        (
            "issuers alone",
            inter.clone(),
            0,
            "chain.order",
            "leaf first",
        ),
        (
            "wrong order",
            format!("{leaf}{root}{inter}"),
            1,
            "chain.order",
            "not signed by the next",
        ),
        (
            "issuer first",
            format!("{inter}{leaf}"),
            0,
            "chain.order",
            "leaf first",
        ),
        (
            "no intermediate",
            leaf.clone(),
            1,
            "chain.complete",
            "is not among the files",
        ),
    ] {
        fs::write(format!("{device}/chain.pem"), chain).unwrap();
        let said = preflight(None, &device, &["--ca", &ca]);
        let expected = if name == "no intermediate" {
            "chain.trust"
        } else {
            cause
        };
        assert_eq!(said.code, code, "{name}: {said}");
        assert!(code == 0 || said.cause() == expected, "{name}: {said}");
        assert!(
            said.check(cause)["fact"].to_string().contains(words),
            "{name}: {said}"
        );
    }
}

#[test]
fn another_server_may_take_what_aws_refuses() {
    let lab = Lab::new();
    let device = lab.good();
    let folder = Path::new(&device);
    tool(
        "openssl",
        &["genrsa", "-traditional", "-out", "weak", "1024"],
        folder,
    );
    let to_pkcs8 = [
        "pkcs8",
        "-topk8",
        "-nocrypt",
        "-in",
        "weak",
        "-out",
        "device.key.pem",
    ];
    tool("openssl", &to_pkcs8, folder);
    let request = [
        "req",
        "-new",
        "-key",
        "weak",
        "-subj",
        "/CN=pump-1",
        "-out",
        "csr",
    ];
    tool("openssl", &request, folder);
    let (ca, ca_key) = (lab.text("ca.pem"), lab.text("ca.key"));
    fs::write(folder.join("ext"), CLIENT).unwrap();
    let sign = [
        "x509",
        "-req",
        "-in",
        "csr",
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-days",
        "9",
        "-extfile",
        "ext",
        "-out",
        "device.crt.pem",
    ];
    tool("openssl", &sign, folder);
    fs::copy(folder.join("device.crt.pem"), folder.join("chain.pem")).unwrap();
    let said = preflight(None, &device, &[]);
    assert_eq!(said.status("identity.algorithm"), "fail", "{said}");
    let said = preflight(None, &device, &["--allow-unsupported"]);
    assert_eq!(said.status("identity.algorithm"), "warn", "{said}");
}

#[test]
fn an_older_report_is_judged_too() {
    let lab = Lab::new();
    let said = preflight(None, &lab.good(), &[]);
    let mut facts = said.json()["facts"].clone();
    facts["facts_version"] = 1.into();
    let map = facts.as_object_mut().unwrap();
    for new in ["servers", "shelf", "thing", "allow_unsupported"] {
        map.remove(new);
    }
    map.insert("server".into(), Value::Null);
    let file = lab.text("old.json");
    fs::write(&file, facts.to_string()).unwrap();
    let again = nameplate(None, &["preflight", "--format", "json", "--facts", &file]);
    assert_eq!(
        (again.code, again.cause()),
        (said.code, said.cause()),
        "{again}"
    );
    facts["facts_version"] = 3.into();
    fs::write(&file, facts.to_string()).unwrap();
    let newer = nameplate(None, &["preflight", "--facts", &file]);
    assert!(
        newer.code == 3 && newer.stderr.contains("version 3"),
        "{newer}"
    );
}

/// Every report that preflight can give keeps to the schema, and one that does not is told of.
#[test]
fn reports_keep_to_the_schema() {
    let lab = Lab::new();
    let good = lab.good();
    lab.leaf("right", "right", "ca", SERVER, NOW);
    let server = lab.s_server("right");
    let (ca, endpoint) = (lab.text("ca.pem"), format!("localhost:{}", server.port));
    let chronyd = lab.chronyd(None);
    let ntp = format!("127.0.0.1:{}", chronyd.port);
    set_mode(format!("{good}/device.key.pem").as_ref(), 0o644);
    let offline = ["--offline", "--trust-clock", "1m"];
    let online = [
        "--endpoint",
        &endpoint,
        "--server-ca",
        &ca,
        "--timeout",
        "1s",
    ];
    let reports = [
        preflight(None, &good, &["--shelf", "18mo", "--fix"]),
        preflight(Some("@2060-01-01 00:00:00"), &good, &[]),
        nameplate(
            None,
            &[
                &["preflight", "--format", "json", "--identity", &good][..],
                &online,
            ]
            .concat(),
        ),
        nameplate(
            None,
            &[
                &[
                    "preflight",
                    "--format",
                    "json",
                    "--identity",
                    &good,
                    "--connect",
                ][..],
                &online,
                &[
                    "--endpoint",
                    "localhost:1",
                    "--endpoint",
                    "no.invalid",
                    "--ntp",
                    &ntp,
                    "--ntp",
                    "localhost:1",
                ],
            ]
            .concat(),
        ),
        nameplate(
            None,
            &[
                &[
                    "preflight",
                    "--format",
                    "json",
                    "--identity",
                    "/nonexistent",
                ][..],
                &offline,
            ]
            .concat(),
        ),
    ];
    let texts: Vec<String> = reports.iter().map(|said| said.stdout.clone()).collect();
    assert!(texts.iter().all(|text| text.starts_with('{')), "{texts:?}");
    assert_eq!(validate(&texts), vec!["True"; texts.len()], "{texts:?}");
    let mut wrong = reports[0].json();
    wrong["verdict"]["answer"] = "maybe".into();
    let mut more = reports[0].json();
    more["facts"]["surprise"] = 1.into();
    let mut less = reports[0].json();
    less["verdict"].as_object_mut().unwrap().remove("checks");
    let broken = [wrong, more, less].map(|value| value.to_string());
    assert!(
        validate(&broken)
            .iter()
            .all(|said| said.starts_with("False"))
    );
}

/// By Python's jsonschema, which nobody here wrote: `True`, or `False` and why, for each.
fn validate(reports: &[String]) -> Vec<String> {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/preflight.schema.json");
    let script = "import json, sys, jsonschema\n\
        schema = json.load(open(sys.argv[1]))\n\
        jsonschema.Draft202012Validator.check_schema(schema)\n\
        v = jsonschema.Draft202012Validator(schema)\n\
        for line in sys.stdin:\n    \
            errors = [e.json_path + ': ' + e.message[:200] for e in v.iter_errors(json.loads(line))]\n    \
            print(not errors, *errors)\n";
    let mut child = Command::new(crate::sandbox_rest::venv("python3"))
        .args(["-c", script])
        .arg(schema)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = reports.iter().map(|report| {
        let value: Value = serde_json::from_str(report).unwrap();
        format!("{value}\n")
    });
    let input: String = lines.collect();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_c_program_branches_on_the_exit_codes() {
    let lab = Lab::new();
    let good = lab.good();
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/device");
    let program = lab.text("ask.c");
    fs::write(
        &program,
        "#include \"nameplate.h\"\n#include <stdio.h>\n#include <stdlib.h>\n#include <sys/wait.h>\n\
         int main(int argc, char **argv) {\n\
         \tint status = argc > 1 ? system(argv[1]) : -1;\n\
         \tint code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;\n\
         \tprintf(\"%d %d %s\\n\", code, nameplate_retry(code), nameplate_meaning(code));\n\
         \treturn 0;\n}\n",
    )
    .unwrap();
    let include = format!("-I{}", header.display());
    for (compiler, standard) in [("cc", "-std=c99"), ("c++", "-std=c++11")] {
        let language = if compiler == "cc" { "c" } else { "c++" };
        let flags = [
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            standard,
            &include,
        ];
        let input = [
            "-x",
            language,
            &program,
            "-o",
            "ask",
            "-D_POSIX_C_SOURCE=200809L",
        ];
        tool(
            compiler,
            &[&flags[..], &input].concat(),
            lab.path("").as_path(),
        );
        let ask = |fake_time: Option<&str>, args: &str| {
            let mut ours = command(fake_time, &[]);
            let line = format!("{} {args} >/dev/null 2>&1", ours.get_program().display());
            let mut ask = Command::new(lab.path("ask"));
            ask.arg(line)
                .envs(ours.get_envs().filter_map(|(k, v)| Some((k, v?))));
            let _ = &mut ours;
            String::from_utf8(ask.output().unwrap().stdout).unwrap()
        };
        let preflight = format!("preflight --identity {good} --offline");
        for (args, words) in [
            (format!("{preflight} --trust-clock 1m"), "0 0 yes"),
            (
                format!("{preflight} --trust-clock 1m --thing other"),
                "1 0 no",
            ),
            ("preflight --nonsense".to_owned(), "2 0 usage"),
            ("preflight --facts /nonexistent".to_owned(), "3 0 input"),
            (preflight.clone() + " --no-ntp", "4 1 not now"),
        ] {
            // No evidence outweighs that the program was built later.
            let at = words.starts_with('4').then_some("@1970-01-02 00:00:00");
            let said = ask(at, &args);
            assert!(said.starts_with(words), "{args}: {said}");
        }
    }
}

#[test]
fn every_check_is_in_the_documentation() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documented = fs::read_to_string(here.join("docs/device.md")).unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(here.join("src/core/preflight"))
        .unwrap()
        .flatten()
    {
        let text = fs::read_to_string(entry.path()).unwrap();
        let literals = text.split('"').skip(1).step_by(2);
        let checks = literals.filter(|literal| {
            let (area, name) = literal.split_once('.').unwrap_or_default();
            ["identity", "chain", "server", "mqtt", "shelf"].contains(&area)
                && !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        });
        // Codes of what went wrong, from which checks are made.
        let codes = ["server.unreadable", "mqtt.client-id", "mqtt.protocol"];
        for check in checks.filter(|check| !codes.contains(check)) {
            assert!(
                documented.contains(&format!("`{check}`")),
                "docs/device.md lacks `{check}`"
            );
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen}");
}
