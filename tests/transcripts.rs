//! What a user sees: each file under `tests/cli` is one command with its streams and exit code.

#[test]
fn transcripts() {
    trycmd::TestCases::new()
        .env("NO_COLOR", "1")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        // Not `**`: the project files inside the `*.in` folders are no transcripts.
        .case("tests/cli/*.toml")
        .case("tests/cli/*/*.toml");
}
