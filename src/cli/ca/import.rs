//! `ca import`

use std::fmt;
use std::path::{Path, PathBuf};

use super::super::args_issue::{Ask, PassphraseArgs, Secret};
use super::super::report::Report;
use super::super::settings::Settings;
use super::super::wire::factory::{Factory, signer_of};
use super::view::{CaView, KeyAtRest, check_name};
use crate::core::key_uri::KeyUri;
use crate::explain::{Failure, Kind};
use crate::flows::ca_create::PASSPHRASE_HINT;
use crate::flows::ca_import::{CaImport, KeySource, Request};
use crate::ports::Clock;

/// Take in a CA that was made elsewhere
///
/// Checks that the key belongs to the certificate and that the certificate may sign others. The
/// copy of the key is encrypted; an encrypted key may bring a passphrase of its own. A key in a
/// PKCS#11 token or in AWS KMS stays there, and ca.key.uri says where.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// Name in this project; also the folder's name
    name: String,
    /// The CA's certificate, PEM or DER
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// The CA's private key: a PEM file, pkcs11:token=T;object=LABEL or awskms:alias/NAME
    #[arg(long, value_name = "FILE|URI")]
    key: KeyUri,
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
        let elsewhere = match &self.key {
            KeyUri::File(_) => None,
            uri => Some(self.passphrase.token.open(uri, settings)?),
        };
        let what = format!("CA `{}`", self.name);
        let ask = Ask {
            what: &what,
            new: false,
        };
        let secrets = match &self.key {
            KeyUri::File(path) => self.secrets(path, settings, &ask)?,
            KeyUri::AwsKms(_) | KeyUri::Pkcs11(_) => Secrets::default(),
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
            key: match (&elsewhere, self.key) {
                (None, KeyUri::File(path)) => KeySource::File(path),
                (None, uri) => KeySource::File(uri.to_string().into()),
                (Some(key), _) => KeySource::Elsewhere(key.elsewhere()),
            },
            chain: self.chain,
            key_passphrase: secrets.opens.as_ref().map(|s| &s[..]),
            passphrase: secrets.protects.as_ref().map(|s| &s[..]),
        })?;
        Ok(Imported {
            ca: CaView::new(&authority, factory.clock.now()),
            name: self.name,
        })
    }
}

/// The passphrases of a key file and of its copy.
#[derive(Default)]
struct Secrets {
    opens: Option<Secret>,
    protects: Option<Secret>,
}

impl Args {
    fn secrets(&self, key: &Path, settings: &Settings, ask: &Ask<'_>) -> Result<Secrets, Failure> {
        let protects = if self.unencrypted {
            None
        } else {
            self.passphrase.resolve(settings, ask)?
        };
        if protects.is_none() && !self.unencrypted {
            let message = "the CA's key is to be encrypted, and no passphrase was given";
            return Err(Failure::new(Kind::Input, "ca.passphrase-missing", message)
                .hint(format!("{PASSPHRASE_HINT}; or pass --unencrypted")));
        }
        let own = self.key_passphrase_file.clone().map(|file| PassphraseArgs {
            passphrase_file: Some(file),
            ..PassphraseArgs::default()
        });
        let opens = match own {
            Some(args) => args.resolve(settings, ask)?,
            None if self.unencrypted && KeyAtRest::of(key) == KeyAtRest::Encrypted => {
                self.passphrase.resolve(settings, ask)?
            }
            None => protects.clone(),
        };
        Ok(Secrets { opens, protects })
    }
}

impl Report for Imported {}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CA {} taken in\n{}", self.name, self.ca)
    }
}
