//! Flags that say in which shape identities are handed over.

use std::path::PathBuf;

use clap::ValueEnum;
use zeroize::Zeroizing;

use super::super::report::Output;
use crate::core::handover::Shape;
use crate::explain::{Failure, Kind};
use crate::ports::Files;

/// The most bytes of a password file.
const MAX_PASSWORD: u64 = 4_096;

/// How identities are handed over.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct HandoverArgs {
    /// The shape in which identities are handed over
    #[arg(long, value_enum, value_name = "SHAPE", default_value_t = ShapeArg::Dir)]
    output: ShapeArg,
    /// A file that holds the password of PKCS#12 files
    #[arg(long, value_name = "FILE", env = "NAMEPLATE_P12_PASSWORD_FILE")]
    p12_password_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ShapeArg {
    /// A folder of PEM files for each device
    Dir,
    /// One tar archive of those folders
    Tar,
    /// The same, compressed with zstd
    #[value(name = "tar.zst")]
    TarZst,
    /// One JSON object a line
    Ndjson,
    /// A folder for each device: input of ESP-IDF's nvs_partition_gen.py
    EspNvsCsv,
    /// A folder for each device: one PKCS#12 file
    P12,
    /// A folder for each device: DER files
    Der,
    /// A folder for each device: one C header
    CHeader,
}

impl HandoverArgs {
    pub(super) fn shape(&self) -> Shape {
        match self.output {
            ShapeArg::Dir => Shape::Dir,
            ShapeArg::Tar => Shape::Tar,
            ShapeArg::TarZst => Shape::TarZst,
            ShapeArg::Ndjson => Shape::Ndjson,
            ShapeArg::EspNvsCsv => Shape::EspNvsCsv,
            ShapeArg::P12 => Shape::P12,
            ShapeArg::Der => Shape::Der,
            ShapeArg::CHeader => Shape::CHeader,
        }
    }

    /// `devices`, `devices.tar`, …
    pub(super) fn default_name(&self, stem: &str) -> String {
        match self.output {
            ShapeArg::Tar => format!("{stem}.tar"),
            ShapeArg::TarZst => format!("{stem}.tar.zst"),
            ShapeArg::Ndjson => format!("{stem}.ndjson"),
            _ => stem.to_owned(),
        }
    }

    /// Whether the shape goes where it is to go.
    pub(super) fn check(&self, to_stdout: bool, output: Output) -> Result<(), Failure> {
        if to_stdout && !self.shape().is_stream() {
            let message = "only a stream can go to stdout";
            return Err(Failure::new(Kind::Usage, "output.shape", message)
                .hint("name a folder, or choose --output tar, tar.zst or ndjson"));
        }
        if to_stdout && !output.is_text() {
            let message = "stdout holds the identities, so --format must be text";
            return Err(Failure::new(Kind::Usage, "output.shape", message)
                .hint("name a file with --out, or leave --format out"));
        }
        Ok(())
    }

    /// The password of PKCS#12 files, when they are asked for.
    pub(super) fn password(&self, files: &dyn Files) -> Result<Option<Zeroizing<String>>, Failure> {
        if self.shape() != Shape::P12 {
            return Ok(None);
        }
        let Some(path) = &self.p12_password_file else {
            let message = "a PKCS#12 file needs a password";
            return Err(Failure::new(Kind::Usage, "output.password", message).hint(
                "name a file that holds it: --p12-password-file or NAMEPLATE_P12_PASSWORD_FILE",
            ));
        };
        let bytes = files.read(path, MAX_PASSWORD)?;
        let text = std::str::from_utf8(&bytes).map(|text| text.trim_end_matches(['\r', '\n']));
        match text {
            Ok(text) if !text.is_empty() => Ok(Some(Zeroizing::new(text.to_owned()))),
            _ => {
                let message = format!("`{}` holds no password in UTF-8", path.display());
                Err(Failure::new(Kind::Input, "output.password", message))
            }
        }
    }
}
