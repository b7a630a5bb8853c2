//! `ca create`

use std::fmt;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::super::args_issue::{Ask, CaHandle, Curve, LifetimeArgs, PassphraseArgs, load_ca};
use super::super::args_profile::CaProfileArgs;
use super::super::report::{Report, note};
use super::super::settings::Settings;
use super::super::wire::factory::{Factory, signer_of};
use super::super::wire::keys::OpenedKey;
use super::view::{CaView, check_name};
use crate::core::draft::Purpose;
use crate::core::flaw::CaFlaw;
use crate::core::key::KeyAlgorithm;
use crate::core::key_uri::KeyUri;
use crate::core::lifetime::{Lifetime, OnCaExpiry};
use crate::core::profile::Profile;
use crate::core::time::Span;
use crate::explain::{Failure, Kind};
use crate::flows::ca_create::{CaCreate, CaCreateError, PASSPHRASE_HINT, Request};
use crate::ports::Clock;

/// Make a root or an intermediate CA
///
/// Writes key.pem (mode 0600, encrypted), cert.pem and chain.pem into ca/NAME. A root is valid for
/// 3650 days and may have one CA level below it; an intermediate (--parent) for 1825 days, or
/// until its parent ends, and none. With --key the key stays in a PKCS#11 token or in AWS KMS, and
/// ca.key.uri says where.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// Name in this project; also the folder's name
    name: String,
    /// Make an intermediate below this CA [default: make a root]
    #[arg(long, value_name = "CA")]
    parent: Option<String>,
    #[command(flatten)]
    profile: CaProfileArgs,
    #[command(flatten)]
    lifetime: LifetimeArgs,
    /// How many CA levels may follow below [default: the profile's, or 1 for a root and 0 for an
    /// intermediate]
    #[arg(long, value_name = "N")]
    path_len: Option<u8>,
    /// Curve of the new key [default: the profile's, or p256]
    #[arg(long, value_enum)]
    curve: Option<Curve>,
    /// Use the key in a token or in KMS: pkcs11:token=T;object=LABEL or awskms:alias/NAME
    #[arg(long, value_name = "URI", conflicts_with = "unencrypted")]
    key: Option<KeyUri>,
    /// Make the key that --key names, in the token or in KMS; it never leaves
    #[arg(long, requires = "key")]
    generate_key: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// A file that holds the parent key's passphrase [default: the same passphrase]
    #[arg(long, value_name = "FILE", requires = "parent")]
    parent_passphrase_file: Option<PathBuf>,
    /// Make the CA wrong on purpose, for tests; the ledger remembers it
    #[arg(long, value_name = "FLAW", value_parser = flaws())]
    flaw: Option<CaFlaw>,
    /// Leave the new key unencrypted; a passphrase is then the parent's
    #[arg(long)]
    unencrypted: bool,
}

fn flaws() -> impl TypedValueParser<Value = CaFlaw> {
    let word = |flaw: &CaFlaw| PossibleValue::new(flaw.word()).help(flaw.what());
    PossibleValuesParser::new(CaFlaw::ALL.iter().map(word))
        .try_map(|word| CaFlaw::from_word(&word).ok_or("no such flaw"))
}

/// What was made.
#[derive(serde::Serialize)]
pub(super) struct Created {
    #[serde(flatten)]
    ca: CaView,
    encrypted: bool,
    #[serde(skip)]
    elsewhere: bool,
    finished_earlier_run: bool,
    #[serde(skip)]
    name: String,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Created, Failure> {
        check_name(&self.name)?;
        let factory = Factory::open(settings)?;
        let profile = self.profile.load(self.parent.is_none())?;
        let subject = self.profile.subject(&profile, &self.name)?;
        let secret = self.secret(settings)?;
        let parent = self.load_parent(settings, &factory)?;
        let (lifetime, path_len) = self.defaults(settings, &profile)?;
        let key = self.open_key(&profile, (settings, &factory))?;
        let request = Request {
            name: &self.name,
            folder: settings.ca_dir()?.join(&self.name),
            subject,
            lifetime,
            path_len,
            algorithm: self.algorithm(&profile),
            elsewhere: key.as_ref().map(OpenedKey::elsewhere),
            passphrase: secret.as_ref().map(|secret| &secret[..]),
            parent: parent.as_ref().map(|ca| ca.issuer()),
            flaw: self.flaw,
        };
        let flow = CaCreate {
            clock: &factory.clock,
            entropy: &factory.entropy,
            files: &factory.files,
            keygen: &factory.keygen,
            ledger: &*factory.ledger,
            signer_of: &signer_of,
        };
        let created = flow.run(&request)?;
        if let Some(what) = self.flaw.map(CaFlaw::what) {
            note(format_args!(
                "warning: this CA is FLAWED on purpose: {what}"
            ));
        }
        Ok(Created {
            ca: CaView::new(&created.authority, factory.clock.now()),
            encrypted: secret.is_some(),
            elsewhere: key.is_some(),
            finished_earlier_run: created.finished,
            name: self.name,
        })
    }

    /// Lifetime and path length: flag, then profile, then what is usual.
    fn defaults(
        &self,
        settings: &Settings,
        profile: &Profile,
    ) -> Result<(Lifetime, Option<u8>), Failure> {
        let (usual, levels) = match self.parent {
            None => (Span::days(3_650), 1),
            Some(_) => (Span::days(1_825), 0),
        };
        let span = profile.validity.unwrap_or(usual);
        let mut lifetime = self.lifetime.lifetime(settings, span)?;
        lifetime.backdate = profile.backdate.unwrap_or(lifetime.backdate);
        let asked = self.lifetime.days.is_some() || self.lifetime.not_after.is_some();
        match (self.lifetime.on_ca_expiry, profile.on_ca_expiry) {
            (None, Some(rule)) => lifetime.on_ca_expiry = rule,
            // The usual length is a ceiling: the parent's end is as good.
            (None, None) if !asked => lifetime.on_ca_expiry = OnCaExpiry::Clamp,
            _ => {}
        }
        let of_profile = match profile.purpose {
            Some(Purpose::Root { path_len } | Purpose::Intermediate { path_len }) => path_len,
            _ => Some(levels),
        };
        Ok((lifetime, self.path_len.or(of_profile)))
    }

    fn algorithm(&self, profile: &Profile) -> KeyAlgorithm {
        let asked = self.curve.map(KeyAlgorithm::from);
        asked.or(profile.key).unwrap_or(KeyAlgorithm::EcP256)
    }

    /// The key in the token or in KMS. A new one is made only for a CA name that is free.
    fn open_key(
        &self,
        profile: &Profile,
        (settings, factory): (&Settings, &Factory),
    ) -> Result<Option<OpenedKey>, Failure> {
        let Some(uri) = &self.key else {
            return Ok(None);
        };
        let token = &self.passphrase.token;
        if !self.generate_key {
            return token.open(uri, settings).map(Some);
        }
        let known = factory.ledger.authorities()?;
        if known.iter().any(|ca| ca.name == self.name) {
            return Err(CaCreateError::Exists(self.name.clone()).into());
        }
        token
            .generate(uri, settings, self.algorithm(profile))
            .map(Some)
    }

    fn load_parent(
        &self,
        settings: &Settings,
        factory: &Factory,
    ) -> Result<Option<CaHandle>, Failure> {
        let Some(name) = &self.parent else {
            return Ok(None);
        };
        let passphrase = match &self.parent_passphrase_file {
            Some(path) => PassphraseArgs {
                passphrase_file: Some(path.clone()),
                passphrase_fd: None,
                token: self.passphrase.token.clone(),
            },
            None => self.passphrase.clone(),
        };
        load_ca(name, &passphrase, (settings, factory)).map(Some)
    }

    fn secret(
        &self,
        settings: &Settings,
    ) -> Result<Option<super::super::args_issue::Secret>, Failure> {
        if self.unencrypted || self.key.is_some() {
            return Ok(None);
        }
        let what = format!("the new CA `{}`", self.name);
        let ask = Ask {
            what: &what,
            new: true,
        };
        let secret = self.passphrase.resolve(settings, &ask)?;
        if secret.is_none() {
            let message = "the new CA's key is to be encrypted, and no passphrase was given";
            return Err(Failure::new(Kind::Input, "ca.passphrase-missing", message)
                .hint(format!("{PASSPHRASE_HINT}; or pass --unencrypted")));
        }
        Ok(secret)
    }
}

impl Report for Created {}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.finished_earlier_run {
            "finished what an earlier run began: "
        } else {
            ""
        };
        let rest = if self.elsewhere {
            "not on this disk"
        } else if self.encrypted {
            "encrypted"
        } else {
            "NOT encrypted at rest"
        };
        writeln!(f, "{how}CA {} made; its key is {rest}", self.name)?;
        self.ca.fmt(f)
    }
}
