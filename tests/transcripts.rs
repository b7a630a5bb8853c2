//! What a user sees: each file under `tests/cli` is one command with its streams and exit code.

#[test]
fn transcripts() {
    trycmd::TestCases::new()
        .env("NO_COLOR", "1")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .case("tests/cli/**/*.toml");
}
