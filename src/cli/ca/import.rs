//! `ca import`

use std::fmt;
use std::path::PathBuf;

use super::super::args_issue::{Ask, PassphraseArgs};
use super::super::report::Report;
use super::super::settings::Settings;
use super::super::wire::factory::{Factory, signer_of};
use super::view::{CaView, KeyAtRest, check_name};
use crate::explain::{Failure, Kind};
use crate::flows::ca_create::PASSPHRASE_HINT;
use crate::flows::ca_import::{CaImport, Request};
use crate::ports::Clock;

/// Take in a CA that was made elsewhere
///
/// Checks that the key belongs to the certificate and that the certificate may sign others. The
/// copy of the key is encrypted; an encrypted key may bring a passphrase of its own.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// Name in this project; also the folder's name
    name: String,
    /// The CA's certificate, PEM or DER
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// The CA's private key, PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The CAs above it up to the root, PEM
    #[arg(long, value_name = "FILE")]
    chain: Option<PathBuf>,
    /// A file that holds the passphrase of --key [default: the same passphrase]
    #[arg(long, value_name = "FILE")]
    key_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Leave the copy of the key unencrypted; a passphrase is then that of --key
    #[arg(long)]
    unencrypted: bool,
}

/// What was taken in.
#[derive(serde::Serialize)]
pub(super) struct Imported {
    #[serde(flatten)]
    ca: CaView,
    #[serde(skip)]
    name: String,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Imported, Failure> {
        check_name(&self.name)?;
        let factory = Factory::open(settings)?;
        let what = format!("CA `{}`", self.name);
        let ask = Ask {
            what: &what,
            new: false,
        };
        let secret = if self.unencrypted {
            None
        } else {
            self.passphrase.resolve(settings, &ask)?
        };
        if secret.is_none() && !self.unencrypted {
            let message = "the CA's key is to be encrypted, and no passphrase was given";
            return Err(Failure::new(Kind::Input, "ca.passphrase-missing", message)
                .hint(format!("{PASSPHRASE_HINT}; or pass --unencrypted")));
        }
        let own = self.key_passphrase_file.clone().map(|file| PassphraseArgs {
            passphrase_file: Some(file),
            passphrase_fd: None,
        });
        let key_secret = match own {
            Some(args) => args.resolve(settings, &ask)?,
            None if self.unencrypted && KeyAtRest::of(&self.key) == KeyAtRest::Encrypted => {
                self.passphrase.resolve(settings, &ask)?
            }
            None => secret.clone(),
        };
        let flow = CaImport {
            clock: &factory.clock,
            entropy: &factory.entropy,
            files: &factory.files,
            ledger: &*factory.ledger,
            signer_of: &signer_of,
        };
        let authority = flow.run(&Request {
            name: &self.name,
            folder: settings.ca_dir()?.join(&self.name),
            certificate: self.cert,
            key: self.key,
            chain: self.chain,
            key_passphrase: key_secret.as_ref().map(|s| &s[..]),
            passphrase: secret.as_ref().map(|s| &s[..]),
        })?;
        Ok(Imported {
            ca: CaView::new(&authority, factory.clock.now()),
            name: self.name,
        })
    }
}

impl Report for Imported {}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CA {} taken in\n{}", self.name, self.ca)
    }
}
