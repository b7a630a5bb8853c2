//! `clock`

mod check;
mod set;
mod view;
mod wait;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::identity::in_project;
use super::report::Output;
use super::settings::Settings;
use super::wire_device::Machine;
use crate::core::time::Validity;
use crate::explain::Failure;
use crate::flows::identity::{self, Paths};
use crate::ports::Files;

/// Know the time, wait for it, set the clock
#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    Check(check::Args),
    Set(set::Args),
    Wait(wait::Args),
}

impl Command {
    pub(super) fn run(self, settings: &Settings, output: Output) -> ExitCode {
        match self {
            Self::Check(args) => output.finish(args.run(settings)),
            Self::Set(args) => output.finish(args.run(settings)),
            Self::Wait(args) => output.finish(args.run(settings)),
        }
    }
}

/// Whose windows count.
#[derive(clap::Args, Debug)]
struct WindowArgs {
    /// An identity's folder, whose certificates must be valid now [config: device.identity]
    #[arg(long, value_name = "DIR", env = "NAMEPLATE_IDENTITY")]
    identity: Option<PathBuf>,
    /// A file of certificates that must be valid now, PEM; may be given several times
    #[arg(long, value_name = "FILE", env = "NAMEPLATE_CERT")]
    cert: Vec<PathBuf>,
}

impl WindowArgs {
    /// Every window, with what it is.
    fn windows(
        &self,
        settings: &Settings,
        machine: &Machine,
    ) -> Result<Vec<(String, Validity)>, Failure> {
        let configured = || {
            let folder = settings.file.device.identity.clone()?;
            Some(in_project(settings, folder))
        };
        let folder = self.identity.clone();
        let folder = if self.cert.is_empty() {
            folder.or_else(configured)
        } else {
            folder
        };
        let mut files = self.cert.clone();
        if let Some(folder) = folder {
            let paths = Paths::in_folder(&folder);
            files.push(paths.certificate);
            files.extend(paths.chain.filter(|path| machine.files.exists(path)));
        }
        let mut windows: Vec<(String, Validity)> = Vec::new();
        for file in &files {
            for window in of_file(machine, file)? {
                if !windows.contains(&window) {
                    windows.push(window);
                }
            }
        }
        Ok(windows)
    }
}

fn of_file(machine: &Machine, file: &Path) -> Result<Vec<(String, Validity)>, Failure> {
    let certificates = identity::certificates(&machine.files, file)?;
    let named = certificates
        .into_iter()
        .map(|certificate| (format!("`{}`", certificate.subject), certificate.validity));
    Ok(named.collect())
}
