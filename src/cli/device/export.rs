//! `device export`

use std::fmt;
use std::path::{Path, PathBuf};

use super::super::report::{Output, Report};
use super::super::settings::Settings;
use super::super::wire::factory::{Factory, shown};
use super::handover::HandoverArgs;
use crate::core::ids::CertificateId;
use crate::explain::Failure;
use crate::flows::device_export::{DeviceExport, Request};

/// Hand an identity over in another shape
///
/// Reads the identity from the folder it was issued into, which stays as it is.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The device
    name: String,
    #[command(flatten)]
    handover: HandoverArgs,
    /// A folder that is not there yet, or the stream's file; `-` is stdout [default: the device's
    /// name in the present folder, with the shape's extension]
    #[arg(long, short, value_name = "PATH")]
    out: Option<PathBuf>,
}

/// What was written.
#[derive(serde::Serialize)]
pub(super) struct Exported {
    device: String,
    certificate_id: CertificateId,
    out: PathBuf,
}

impl Args {
    pub(super) fn run(self, settings: &Settings, output: Output) -> Result<Exported, Failure> {
        let out = match &self.out {
            Some(path) => path.clone(),
            None => self.handover.default_name(&self.name).into(),
        };
        self.handover.check(out == Path::new("-"), output)?;
        let factory = Factory::open(settings)?;
        let password = self.handover.password(&factory.files)?;
        let flow = DeviceExport {
            files: &factory.files,
            folders: &factory.folders,
            streams: &factory.streams,
            ledger: &*factory.ledger,
        };
        let certificate_id = flow.run(&Request {
            device: &self.name,
            shape: self.handover.shape(),
            out: &out,
            password: password.as_ref().map(|text| &text[..]),
        })?;
        Ok(Exported {
            device: self.name,
            certificate_id,
            out: shown(&out),
        })
    }
}

impl Report for Exported {}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Stdout holds the identity itself.
        if self.out == Path::new("-") {
            return Ok(());
        }
        write!(f, "{}: {}", self.device, self.out.display())
    }
}
