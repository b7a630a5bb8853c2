//! What the README promises: `scripts/first-connect` does the whole job, and the commands of the
//! tour end as shown.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const NAMEPLATE: &str = env!("CARGO_BIN_EXE_nameplate");

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program that sees nothing of this machine's settings for nameplate or AWS.
fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env_clear();
    let path = std::env::var_os("PATH").expect("PATH is set");
    command.env("PATH", path).env("XDG_CONFIG_HOME", "/nowhere");
    command
}

/// Processes that work in a folder, whether it is still there or not.
fn working_in(folder: &Path) -> Vec<PathBuf> {
    let folder = folder.canonicalize().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read_link(process.path().join("cwd")).ok())
        .filter(|cwd| cwd.starts_with(&folder))
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn first_connect_does_the_whole_job_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let output = clean(repository("scripts/first-connect"))
        .env("NAMEPLATE", NAMEPLATE)
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", text(&output.stderr));
    assert_eq!(
        said.lines().last(),
        Some("== Done: 12 devices are things, one of them rotated")
    );
    let left: Vec<_> = fs::read_dir(temporary.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(working_in(temporary.path()).is_empty());
}

/// A command of the tour.
#[derive(Debug)]
struct Shown {
    command: String,
    exit_code: i32,
    output: Vec<String>,
}

/// The lines after `$ ` in the README's console blocks, with what stands below each.
fn tour() -> Vec<Shown> {
    let readme = fs::read_to_string(repository("README.md")).unwrap();
    let mut all: Vec<Shown> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            let exit_code = command.rsplit_once("# exit ").map_or("0", |(_, code)| code);
            all.push(Shown {
                command: command.to_owned(),
                exit_code: exit_code.trim().parse().unwrap(),
                output: Vec::new(),
            });
        } else if inside {
            all.last_mut().unwrap().output.push(line.to_owned());
        }
    }
    all
}

/// Runs all commands in one shell, as somebody who tries them would; each one's output goes to a
/// file, its exit code to `exit-codes`.
fn run(tour: &[Shown], folder: &Path) -> Output {
    let programs = folder.join("programs");
    fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(NAMEPLATE, programs.join("nameplate")).unwrap();
    let project = folder.join("project");
    fs::create_dir(&project).unwrap();
    let steps = tour.iter().enumerate().map(|(number, shown)| {
        // In braces, not in a subshell: what a command exports stays.
        format!(
            "{{ {}\n}} >../{number}.txt 2>&1\necho $? >>../exit-codes\n",
            shown.command
        )
    });
    let path = std::env::var("PATH").unwrap();
    clean("sh")
        .arg("-c")
        .arg(steps.collect::<String>())
        .current_dir(&project)
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("TMPDIR", folder)
        .output()
        .unwrap()
}

#[test]
fn the_tour_of_the_readme_ends_as_shown() {
    let tour = tour();
    assert!(tour.len() > 10, "{tour:?}");
    let folder = tempfile::tempdir().unwrap();
    let output = run(&tour, folder.path());
    assert!(output.status.success(), "{output:?}");
    let codes = fs::read_to_string(folder.path().join("exit-codes")).unwrap();
    let codes: Vec<i32> = codes.lines().map(|code| code.parse().unwrap()).collect();
    assert_eq!(codes.len(), tour.len());
    for (number, (shown, code)) in tour.iter().zip(codes).enumerate() {
        let said = fs::read_to_string(folder.path().join(format!("{number}.txt"))).unwrap();
        assert_eq!(code, shown.exit_code, "$ {}\n{said}", shown.command);
        // Times, ports and ids differ from run to run; a line without a digit does not.
        let fixed = |line: &&String| *line != "..." && !line.contains(|c: char| c.is_ascii_digit());
        for line in shown.output.iter().filter(fixed) {
            // The bars of the picture depend on the time.
            let bars = line.contains("===") || line.starts_with("  clock ");
            assert!(
                bars || said.contains(line.as_str()),
                "`{line}` is not in the output of\n$ {}\n{said}",
                shown.command
            );
        }
    }
}
