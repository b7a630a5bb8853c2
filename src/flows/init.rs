//! `init`: project file → CA folder → .gitignore. What is there stays as it is.

use std::path::{Path, PathBuf};

use crate::core::bundle::Secrecy;
use crate::ports::{FileError, Files};

/// The project file that a new project gets.
pub const PROJECT_FILE: &str = include_str!("nameplate.toml");
/// Its name.
pub const PROJECT_FILE_NAME: &str = "nameplate.toml";

/// What a new project keeps out of version control.
const GIT_IGNORE: &str = "\
# Secrets, and state that belongs to this machine.
*.key.pem
key.pem
passphrase*
/ledger.sqlite*
/sandbox/
";

/// A part of the project, and whether this run made it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Part {
    /// Where.
    pub path: PathBuf,
    /// What it is for.
    pub what: &'static str,
    /// `false` when it was there.
    pub made: bool,
}

/// Makes the project file and the CA folder where they are missing.
///
/// # Errors
/// `file.*`.
pub fn run(files: &dyn Files, folder: &Path) -> Result<Vec<Part>, FileError> {
    files.create_dir(folder)?;
    let project_file = folder.join(PROJECT_FILE_NAME);
    let made = !files.exists(&project_file);
    if made {
        files.write_new(&project_file, PROJECT_FILE.as_bytes(), Secrecy::Public)?;
    }
    let file = Part {
        path: project_file,
        what: "settings, every one commented",
        made,
    };
    let ca_dir = folder.join("ca");
    let made = !files.exists(&ca_dir);
    files.create_dir(&ca_dir)?;
    let cas = Part {
        path: ca_dir,
        what: "one folder for each CA",
        made,
    };
    let ignored = folder.join(".gitignore");
    let made = !files.exists(&ignored);
    if made {
        files.write_new(&ignored, GIT_IGNORE.as_bytes(), Secrecy::Public)?;
    }
    let ignored = Part {
        path: ignored,
        what: "keeps keys and the ledger out of git",
        made,
    };
    Ok(vec![file, cas, ignored])
}
