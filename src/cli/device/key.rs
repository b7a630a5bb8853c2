//! Whose key an identity gets: a new one, one from a file, or one that stays on the device.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::super::args_csr::{RuleArgs, at, read_one};
use super::super::args_issue::{Ask, Curve, PassphraseArgs, Secret};
use super::super::args_key::TokenArgs;
use super::super::args_profile::Names;
use super::super::report::note;
use super::super::settings::Settings;
use super::super::wire::factory::Factory;
use crate::core::csr::rule::{self, Settled, Wanted};
use crate::core::flaw::Flaw;
use crate::core::ids::ThingName;
use crate::core::key::{KeyAlgorithm, KeyError, KeyFile, PrivateKey};
use crate::core::key_uri::KeyUri;
use crate::core::pem;
use crate::core::profile::Profile;
use crate::core::record::IdentityPurpose;
use crate::explain::{Failure, Kind};
use crate::flows::device_issue::KeySource;
use crate::ports::ledger::LedgerError;
use crate::ports::{Files, Keygen};

/// Where the key comes from.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct KeyArgs {
    /// Curve of the new key [default: the profile's, or p256]
    #[arg(long, value_enum)]
    curve: Option<Curve>,
    /// A certificate request, PEM or DER, from a device that keeps its key; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["curve", "key", "env"])]
    csr: Option<PathBuf>,
    #[command(flatten)]
    rules: RuleArgs,
    /// A private key that exists: a file, PEM or DER (P-256, P-384 or RSA; it is copied,
    /// unencrypted, and stays where it is), or one in a token: pkcs11:token=T;object=LABEL
    #[arg(long, value_name = "FILE|URI")]
    key: Option<KeyUri>,
    /// Make the key that --key names, in the token; it never leaves
    #[arg(long, requires = "key")]
    generate_key: bool,
    /// A file that holds the passphrase of --key
    #[arg(long, value_name = "FILE", requires = "key")]
    key_passphrase_file: Option<PathBuf>,
    /// Make the identity wrong on purpose, for tests; the ledger remembers it
    #[arg(long, value_name = "FLAW", conflicts_with_all = ["csr", "key"], value_parser = flaws())]
    flaw: Option<Flaw>,
}

fn flaws() -> impl TypedValueParser<Value = Flaw> {
    let word = |flaw: &Flaw| PossibleValue::new(flaw.word()).help(flaw.what());
    // That of its CA comes with the CA.
    let asked = Flaw::ALL.iter().filter(|flaw| **flaw != Flaw::FlawedCa);
    PossibleValuesParser::new(asked.map(word))
        .try_map(|word| Flaw::from_word(&word).ok_or("no such flaw"))
}

/// What reading a key may need.
pub(super) struct Access<'a> {
    pub(super) factory: &'a Factory,
    pub(super) settings: &'a Settings,
    pub(super) token: &'a TokenArgs,
}

/// Whose key it is, and what the certificate is to say of its holder.
pub(super) struct Holder {
    pub(super) key: KeySource,
    pub(super) settled: Settled,
    pub(super) flaw: Option<Flaw>,
}

impl Holder {
    /// Below a CA that may be wrong on purpose.
    pub(super) fn below(mut self, flawed: bool) -> Self {
        self.flaw = self.flaw.or(flawed.then_some(Flaw::FlawedCa));
        self
    }
}

impl KeyArgs {
    /// Reads what is named.
    pub(super) fn holder(
        &self,
        (device, names): (&ThingName, Names<'_>),
        profile: &Profile,
        access: &Access<'_>,
    ) -> Result<Holder, Failure> {
        let factory = access.factory;
        let wanted = names.wanted(profile);
        if let Some(path) = &self.csr {
            let csr = read_one(path, self.rules.keys(), factory)?;
            let settled = rule::settle(&csr, &wanted, self.rules.rules())
                .map_err(|error| at(&path.display().to_string(), error))?;
            let key = KeySource::Elsewhere(csr.public_key, None);
            return Ok(Holder {
                key,
                settled,
                flaw: None,
            });
        }
        let flawed = self.flaw.map(Flaw::key).transpose()?.flatten();
        let key = match (&self.key, flawed) {
            (_, Some((key, public))) => KeySource::Given(key, public),
            (Some(KeyUri::File(path)), None) => self.existing(path, factory)?,
            (Some(uri), None) => self.in_token((device, uri), profile, access)?,
            (None, None) => KeySource::New(self.algorithm(profile)),
        };
        Ok(Holder {
            key,
            settled: as_wanted(wanted),
            flaw: self.flaw,
        })
    }

    fn algorithm(&self, profile: &Profile) -> KeyAlgorithm {
        let asked = self.curve.map(KeyAlgorithm::from);
        asked.or(profile.key).unwrap_or(KeyAlgorithm::EcP256)
    }

    /// A key in a token stays there. None is made for a device that has an identity.
    fn in_token(
        &self,
        (device, uri): (&ThingName, &KeyUri),
        profile: &Profile,
        access: &Access<'_>,
    ) -> Result<KeySource, Failure> {
        let (token, settings) = (access.token, access.settings);
        let opened = if self.generate_key {
            let purpose = IdentityPurpose::Operational;
            let live = access.factory.ledger.live(&[device.as_str()], purpose)?;
            if let Some(record) = live.into_iter().find(|record| record.id.is_some()) {
                let device = record.device;
                return Err(LedgerError::Live { device, purpose }.into());
            }
            token.generate(uri, settings, self.algorithm(profile))?
        } else {
            token.open(uri, settings)?
        };
        let public = opened.signer.public().clone();
        Ok(KeySource::Elsewhere(public, Some(opened.uri)))
    }

    fn existing(&self, path: &Path, factory: &Factory) -> Result<KeySource, Failure> {
        let needless = [
            ("--curve", self.curve.is_some()),
            ("--generate-key", self.generate_key),
        ];
        if let Some((flag, _)) = needless.into_iter().find(|(_, given)| *given) {
            let message = format!(
                "{flag} is for a key that is made, and `{}` exists",
                path.display()
            );
            return Err(Failure::new(Kind::Usage, "key-uri.invalid", message)
                .hint("leave it out, or leave --key out"));
        }
        let named = |error: KeyError| at(&path.display().to_string(), error);
        let bytes = factory.files.read(path, pem::MAX_BYTES as u64)?;
        let key = match KeyFile::parse(&bytes).map_err(named)? {
            KeyFile::Clear(key) => key,
            KeyFile::Encrypted(der) => {
                let passphrase = self.passphrase(path)?;
                let key = PrivateKey::decrypt(&der, &passphrase).map_err(named)?;
                note("note: the copy of the key is not encrypted; its file has mode 0600");
                key
            }
        };
        let public = factory.keygen.public_of(&key).map_err(named)?;
        Ok(KeySource::Given(key, public))
    }

    fn passphrase(&self, path: &Path) -> Result<Secret, Failure> {
        let what = format!("the key `{}`", path.display());
        let ask = Ask {
            what: &what,
            new: false,
        };
        let own = PassphraseArgs {
            passphrase_file: self.key_passphrase_file.clone(),
            ..PassphraseArgs::default()
        };
        let passphrase = own.resolve_alone(&ask)?;
        passphrase.ok_or_else(|| {
            let message = format!("{what} is encrypted, and no passphrase was given");
            Failure::new(Kind::Input, "key.passphrase-missing", message)
                .hint("name a file that holds it: --key-passphrase-file FILE")
        })
    }
}

/// What flags and profile say, for a key that asks for nothing.
fn as_wanted(wanted: Wanted<'_>) -> Settled {
    Settled {
        subject: wanted.subject,
        purpose: wanted.purpose,
        extras: wanted.extras,
        alternative_names: wanted.alternative_names,
        left_out: Vec::new(),
    }
}
