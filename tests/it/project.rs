//! A throwaway project and the program run in it, as a user would.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A temporary project folder with a passphrase file.
pub(crate) struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    /// An initialised project without a CA.
    pub(crate) fn new() -> Self {
        let project = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(project.path("pw"), "correct horse\n").unwrap();
        project.ok(&["init", "."]);
        project
    }

    /// With the CA `factory`, a root.
    pub(crate) fn with_ca() -> Self {
        let project = Self::new();
        project.ok(&["ca", "create", "factory"]);
        project
    }

    /// A path inside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The program, ready to run in the project.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nameplate"));
        command
            .args(args)
            .current_dir(self.root())
            .stdin(Stdio::null())
            .env_clear()
            .env("NAMEPLATE_PASSPHRASE_FILE", "pw");
        command
    }

    /// Runs it.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it and expects success; the JSON it prints.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> serde_json::Value {
        let args = [&["--format", "json"], args].concat();
        let output = self.run(&args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs it and expects failure: exit code and error code.
    #[track_caller]
    pub(crate) fn fails(&self, args: &[&str]) -> (i32, String) {
        let args = [&["--format", "json"], args].concat();
        let output = self.run(&args);
        let last = output
            .stderr
            .split(|b| *b == b'\n')
            .rev()
            .find(|l| !l.is_empty());
        let error: serde_json::Value = serde_json::from_slice(last.unwrap_or_default())
            .unwrap_or_else(|_| panic!("{args:?}: {output:?}"));
        let code = error["error"].as_str().unwrap().to_owned();
        (output.status.code().unwrap(), code)
    }
}

/// What it prints is of no interest.
pub(crate) fn quiet(command: &mut Command) -> &mut Command {
    command.stdout(Stdio::null()).stderr(Stdio::null())
}

/// Runs another program and expects success; its stdout.
#[track_caller]
pub(crate) fn tool(program: &str, args: &[&str], folder: &Path) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
