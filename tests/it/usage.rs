//! Command lines that do not parse.

use crate::project::Project;

#[test]
fn a_command_line_that_does_not_parse_is_told_in_the_format_asked_for() {
    let project = Project::new();
    for args in [
        &["--format", "json", "device", "list", "--nonsense"][..],
        &["device", "list", "--nonsense", "--format=json"],
        &["--format", "ndjson", "device", "issue"],
        &["--format", "json", "devic"],
        &["--format", "json"],
    ] {
        let output = project.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let told: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(told["error"], "usage", "{args:?}");
        assert_eq!(told["exit_code"], 2);
        let message = told["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.contains("error:"), "{told}");
    }
    let output = project.run(&["--format", "json", "device", "list", "--nonsense"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(told["message"], "unexpected argument '--nonsense' found");
    assert!(
        told["hint"]
            .as_str()
            .unwrap()
            .contains("nameplate device list"),
        "{told}"
    );
    // Text for people, and for a format that does not exist.
    for args in [&["device", "list", "--nonsense"][..], &["--format", "yaml"]] {
        let output = project.run(args);
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("error: "), "{text}");
    }
    let help = project.run(&["--format", "json", "--help"]);
    assert!(help.status.success() && help.stdout.starts_with(b"Gives every device"));
}
