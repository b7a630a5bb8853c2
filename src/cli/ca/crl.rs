//! `ca crl`

use std::fmt;
use std::path::{Path, PathBuf};

use super::super::args_issue::{PassphraseArgs, ca_chain, load_ca};
use super::super::report::{Output, Report, count};
use super::super::settings::Settings;
use super::super::wire::factory::{Factory, shown};
use crate::core::crl::Crl;
use crate::core::record::CrlRecord;
use crate::core::time::{Span, UtcTime};
use crate::explain::{Failure, Kind};
use crate::flows::ca_crl::{CaCrl, Due, Place};
use crate::ports::Clock;

/// Sign a CA's certificate revocation list (CRL)
///
/// Names every certificate of this CA that is revoked in the ledger and has not expired. Each list
/// has a greater number than the one before, and replaces the file. Only who signed a certificate
/// lists it: revoke devices with `device revoke`.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The CA's name
    name: String,
    /// The list's file, replaced; `-` is stdout [default: crl.pem or crl.der in the CA's folder]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// When the next list comes at the latest
    #[arg(long, value_name = "SPAN", default_value = "7d")]
    next_update: Span,
    /// DER rather than PEM
    #[arg(long)]
    der: bool,
    /// Sign nothing; exit code 1 when a new list is due: none yet, its time is over, something was
    /// revoked since, or the file is not the last list (`--out -` leaves the file out)
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

/// The last list.
#[derive(serde::Serialize)]
pub(super) struct Listed {
    ca: String,
    number: Option<u64>,
    this_update: Option<UtcTime>,
    next_update: Option<UtcTime>,
    revoked: usize,
    out: PathBuf,
    due: Option<Due>,
    checked: bool,
    #[serde(skip)]
    now: UtcTime,
}

impl Args {
    pub(super) fn run(self, settings: &Settings, output: Output) -> Result<Listed, Failure> {
        let path = self.path(settings)?;
        if path == Path::new("-") && !self.check && !output.is_text() {
            let message = "stdout holds the CRL, so --format must be text";
            return Err(Failure::new(Kind::Usage, "output.shape", message)
                .hint("name a file with --out, or leave --format out"));
        }
        let factory = Factory::open(settings)?;
        let flow = CaCrl {
            clock: &factory.clock,
            files: &factory.files,
            ledger: &*factory.ledger,
            streams: &factory.streams,
        };
        if self.check {
            let ca = ca_chain(&self.name, (settings, &factory))?.swap_remove(0);
            let due = flow.due(&ca, &path)?;
            let last = factory.ledger.last_crl(ca.id())?;
            return self.report(last.as_ref(), (&path, due), factory.clock.now());
        }
        let ca = load_ca(&self.name, &self.passphrase, (settings, &factory))?;
        let place = Place {
            path,
            der: self.der,
        };
        let made = flow.run(&ca.issuer(), self.next_update, &place)?;
        self.report(Some(&made), (&place.path, None), factory.clock.now())
    }

    fn path(&self, settings: &Settings) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.out {
            return Ok(path.clone());
        }
        let file = if self.der { "crl.der" } else { "crl.pem" };
        Ok(settings.ca_dir()?.join(&self.name).join(file))
    }

    fn report(
        self,
        last: Option<&CrlRecord>,
        (path, due): (&Path, Option<Due>),
        now: UtcTime,
    ) -> Result<Listed, Failure> {
        let crl = last.map(|last| Crl::from_der(&last.der)).transpose()?;
        Ok(Listed {
            ca: self.name,
            number: last.map(|last| last.number),
            this_update: last.map(|last| last.this_update),
            next_update: last.map(|last| last.next_update),
            revoked: crl.map_or(0, |crl| crl.len()),
            out: shown(path),
            due,
            checked: self.check,
            now,
        })
    }
}

impl Report for Listed {
    fn exit_code(&self) -> u8 {
        u8::from(self.due.is_some())
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to_stdout = self.out == Path::new("-");
        // Stdout holds the list itself.
        if to_stdout && !self.checked {
            return Ok(());
        }
        match self.due {
            Some(Due::None) => return write!(f, "due: CA {} has signed no CRL yet", self.ca),
            Some(Due::Over) => write!(f, "due: its time is over: ")?,
            Some(Due::Revoked) => write!(f, "due: a certificate was revoked since: ")?,
            Some(Due::File) => write!(f, "due: {} is not this one: ", self.out.display())?,
            None => {}
        }
        let (Some(number), Some(next)) = (self.number, self.next_update) else {
            return Ok(());
        };
        let all = count(self.revoked as u64, "certificate");
        writeln!(f, "CRL {number} of CA {}: {all} revoked", self.ca)?;
        let left = if self.now > next {
            format!("{} ago", self.now.since(next))
        } else {
            format!("in {}", next.since(self.now))
        };
        writeln!(f, "  next update  {next} ({left})")?;
        if to_stdout {
            return Ok(());
        }
        write!(f, "  file         {}", self.out.display())
    }
}
