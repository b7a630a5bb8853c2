//! Flags that issuing commands share: the CA and its passphrase, the window, the key.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use zeroize::Zeroizing;

use super::args_key::TokenArgs;
use super::report::note;
use super::settings::Settings;
use super::wire::factory::{Factory, passphrases, shown, signer_of};
use crate::core::cert::Certificate;
use crate::core::flaw::CaFlaw;
use crate::core::key::KeyAlgorithm;
use crate::core::lifetime::{Lifetime, OnCaExpiry};
use crate::core::record::{AuthorityRecord, Origin};
use crate::core::time::Span;
use crate::explain::{Failure, Kind};
use crate::flows::ca_create::{CERTIFICATE, CHAIN, KEY, KEY_URI, read_key, read_key_uri};
use crate::flows::issuer::Issuer;
use crate::ports::{Files, PassphraseSource, PassphraseUse, Passphrases, Signer};

/// How a CA's key is opened: its passphrase, or the token that holds it. No secret in argv.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct PassphraseArgs {
    /// A file that holds the CA key's passphrase [config: issue.passphrase_file]
    #[arg(long, value_name = "FILE", env = "NAMEPLATE_PASSPHRASE_FILE")]
    pub(super) passphrase_file: Option<PathBuf>,
    /// An open file descriptor to read the passphrase from; goes before --passphrase-file
    #[arg(long, value_name = "N")]
    pub(super) passphrase_fd: Option<u32>,
    #[command(flatten)]
    pub(super) token: TokenArgs,
}

/// A secret that is cleared when dropped.
pub(super) type Secret = Zeroizing<Vec<u8>>;

impl PassphraseArgs {
    /// The passphrase, if it is given anywhere; asks when stdin is a terminal.
    pub(super) fn resolve(
        &self,
        settings: &Settings,
        ask: &Ask<'_>,
    ) -> Result<Option<Secret>, Failure> {
        let configured = || {
            let path = settings.file.issue.passphrase_file.as_ref()?;
            Some(
                settings
                    .project
                    .as_ref()
                    .map_or(path.clone(), |p| p.join(path)),
            )
        };
        self.read(self.passphrase_file.clone().or_else(configured), ask)
    }

    /// The passphrase from the flags alone, whatever the configuration says of the CA's; asks when
    /// stdin is a terminal.
    pub(super) fn resolve_alone(&self, ask: &Ask<'_>) -> Result<Option<Secret>, Failure> {
        self.read(self.passphrase_file.clone(), ask)
    }

    fn read(&self, file: Option<PathBuf>, ask: &Ask<'_>) -> Result<Option<Secret>, Failure> {
        let source = match (self.passphrase_fd, file) {
            (Some(descriptor), _) => PassphraseSource::Descriptor(descriptor),
            (None, Some(path)) => PassphraseSource::File(path),
            (None, None) => PassphraseSource::Ask,
        };
        let wanted = if ask.new {
            PassphraseUse::Protect
        } else {
            PassphraseUse::Open
        };
        Ok(passphrases().read(&source, ask.what, wanted)?)
    }
}

/// What to ask for on a terminal.
pub(super) struct Ask<'a> {
    /// `CA "factory"`.
    pub(super) what: &'a str,
    /// A new passphrase is asked for twice.
    pub(super) new: bool,
}

/// Which CA signs.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct CaArgs {
    /// The CA that signs [config: issue.ca] [default: the only one that has no CA below it]
    #[arg(long, value_name = "NAME", env = "NAMEPLATE_CA")]
    pub(super) ca: Option<String>,
    #[command(flatten)]
    pub(super) passphrase: PassphraseArgs,
}

/// A CA with its key opened.
pub(super) struct CaHandle {
    pub(super) name: String,
    /// This CA first, then those above it, up to the root when it is known.
    pub(super) chain: Vec<Certificate>,
    pub(super) signer: Box<dyn Signer>,
    /// It is wrong on purpose.
    pub(super) flawed: bool,
}

impl CaHandle {
    /// As flows take it.
    pub(super) fn issuer(&self) -> Issuer<'_> {
        Issuer {
            name: &self.name,
            chain: &self.chain,
            signer: &*self.signer,
            flawed: self.flawed,
        }
    }
}

impl CaArgs {
    /// Opens the CA named by flag, environment or configuration.
    pub(super) fn load(&self, settings: &Settings, factory: &Factory) -> Result<CaHandle, Failure> {
        let name = self.name(settings, factory)?;
        load_ca(&name, &self.passphrase, (settings, factory))
    }

    /// The same, also one that is wrong on purpose.
    pub(super) fn load_any(
        &self,
        settings: &Settings,
        factory: &Factory,
    ) -> Result<CaHandle, Failure> {
        let name = self.name(settings, factory)?;
        load_any_ca(&name, &self.passphrase, (settings, factory))
    }

    fn name(&self, settings: &Settings, factory: &Factory) -> Result<String, Failure> {
        let named = self.ca.as_ref().or(settings.file.issue.ca.as_ref());
        match named {
            Some(name) => Ok(name.clone()),
            None => only_ca(factory),
        }
    }
}

/// The one CA that has no other below it: what signs devices when nobody says otherwise.
fn only_ca(factory: &Factory) -> Result<String, Failure> {
    let all = factory.ledger.authorities()?;
    let is_parent = |ca: &AuthorityRecord| {
        let others = all.iter();
        let mut sound = others.filter(|other| !matches!(other.origin, Origin::Flawed(_)));
        sound.any(|other| other.parent.as_ref() == Some(ca.certificate.id()))
    };
    let sound = |ca: &&AuthorityRecord| !matches!(ca.origin, Origin::Flawed(_));
    let lowest = all.iter().filter(sound).filter(|ca| !is_parent(ca));
    let lowest: Vec<&AuthorityRecord> = lowest.collect();
    match lowest[..] {
        [one] => Ok(one.name.clone()),
        [] => Err(
            Failure::new(Kind::Input, "ca.none", "there is no CA in this project")
                .hint("make one with `nameplate ca create NAME`"),
        ),
        _ => {
            let names: Vec<String> = lowest.iter().map(|ca| format!("`{}`", ca.name)).collect();
            let message = format!("several CAs could sign: {}", names.join(", "));
            Err(Failure::new(Kind::Input, "ca.ambiguous", message)
                .hint("name one with --ca, NAMEPLATE_CA, or issue.ca in nameplate.toml"))
        }
    }
}

/// Opens one CA: certificate, chain and key, checked against each other. One that is wrong on purpose
/// is refused.
pub(super) fn load_ca(
    name: &str,
    passphrase: &PassphraseArgs,
    (settings, factory): (&Settings, &Factory),
) -> Result<CaHandle, Failure> {
    match ca_flaw(name, factory)? {
        None => load_any_ca(name, passphrase, (settings, factory)),
        Some(flaw) => {
            let message = format!("the CA `{name}` is wrong on purpose: {}", flaw.what());
            Err(Failure::new(Kind::Refused, "ca.flawed", message)
                .hint("only `device issue` signs with it; name another CA"))
        }
    }
}

/// What is wrong with a CA on purpose.
pub(super) fn ca_flaw(name: &str, factory: &Factory) -> Result<Option<CaFlaw>, Failure> {
    let known = factory.ledger.authorities()?;
    let found = known.iter().find(|ca| ca.name == name);
    Ok(found.and_then(|ca| match ca.origin {
        Origin::Flawed(flaw) => Some(flaw),
        Origin::Created | Origin::Imported => None,
    }))
}

/// The same as [`load_ca`], also one that is wrong on purpose.
pub(super) fn load_any_ca(
    name: &str,
    passphrase: &PassphraseArgs,
    (settings, factory): (&Settings, &Factory),
) -> Result<CaHandle, Failure> {
    let chain = ca_chain(name, (settings, factory))?;
    let folder = settings.ca_dir()?.join(name);
    let uri_path = folder.join(KEY_URI);
    let signer = if factory.files.exists(&uri_path) {
        let uri = read_key_uri(&factory.files, &uri_path)?;
        passphrase.token.open(&uri, settings)?.signer
    } else {
        let what = format!("CA `{name}`");
        open_file(&folder.join(KEY), &what, passphrase, (settings, factory))?
    };
    let handle = CaHandle {
        name: name.to_owned(),
        chain,
        signer,
        flawed: ca_flaw(name, factory)?.is_some(),
    };
    handle.issuer().view()?;
    Ok(handle)
}

/// A signer over a key file, with its passphrase if it is encrypted.
fn open_file(
    key_path: &Path,
    what: &str,
    passphrase: &PassphraseArgs,
    (settings, factory): (&Settings, &Factory),
) -> Result<Box<dyn Signer>, Failure> {
    let text = factory
        .files
        .read(key_path, crate::core::pem::MAX_BYTES as u64)?;
    let encrypted = text.windows(9).any(|window| window == b"ENCRYPTED");
    let secret = if encrypted {
        passphrase.resolve(settings, &Ask { what, new: false })?
    } else {
        None
    };
    let key = read_key(&factory.files, key_path, secret.as_ref().map(|s| &s[..]))?;
    warn_of_loose_mode(key_path, &factory.files);
    Ok(signer_of(&key)?)
}

/// Says so when others than the owner can reach a CA's key.
fn warn_of_loose_mode(key: &Path, files: &dyn Files) {
    let loose = files.mode(key).map(|mode| mode & 0o777);
    if let Some(mode) = loose.filter(|mode| mode & 0o077 != 0) {
        let path = shown(key);
        let path = path.display();
        note(format_args!(
            "warning: the CA key `{path}` has mode {mode:04o}, so others can reach it: \
             chmod 600 {path}"
        ));
    }
}

/// The error for a CA that the ledger does not know, with those that it does.
pub(super) fn unknown_ca(name: &str, known: &[AuthorityRecord]) -> Failure {
    let message = format!("there is no CA `{name}` in the ledger");
    let failure = Failure::new(Kind::Input, "ca.unknown", message);
    if known.is_empty() {
        return failure.hint(format!("make it with `nameplate ca create {name}`"));
    }
    let names: Vec<String> = known.iter().map(|ca| format!("`{}`", ca.name)).collect();
    failure.hint(format!("the CAs here are {}", names.join(", ")))
}

/// A CA's certificate and those above it, from its folder.
pub(super) fn ca_chain(
    name: &str,
    (settings, factory): (&Settings, &Factory),
) -> Result<Vec<Certificate>, Failure> {
    let folder = settings.ca_dir()?.join(name);
    let known = factory.ledger.authorities()?;
    let record = known
        .iter()
        .find(|ca| ca.name == name)
        .ok_or_else(|| unknown_ca(name, &known))?;
    let read = |file| -> Result<Vec<Certificate>, Failure> {
        let path = folder.join(file);
        let text = factory
            .files
            .read(&path, crate::core::pem::MAX_BYTES as u64)?;
        Certificate::all_from_pem(&text).map_err(|error| {
            let failure = Failure::from(error);
            let message = format!("`{}` cannot be used: {}", path.display(), failure.message);
            Failure { message, ..failure }
        })
    };
    let own = read(CERTIFICATE)?.swap_remove(0);
    if own.id() != record.certificate.id() {
        let message = format!(
            "`{}` is not the certificate in the ledger",
            folder.join(CERTIFICATE).display()
        );
        return Err(Failure::new(Kind::Input, "ca.certificate-changed", message)
            .hint("put the CA's own cert.pem back, or import the new CA under another name"));
    }
    let mut chain = vec![own];
    if factory.files.exists(&folder.join(CHAIN)) {
        chain.extend(read(CHAIN)?.into_iter().skip(1));
    }
    Ok(chain)
}

/// From when to when.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct LifetimeArgs {
    /// First valid second: RFC 3339, a date, or relative (+1d, -1h) [default: one hour ago]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(super) not_before: Option<String>,
    /// Last valid second: RFC 3339, a date, or relative (+90d)
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        conflicts_with = "days"
    )]
    pub(super) not_after: Option<String>,
    /// Length in days of 86 400 seconds, from --not-before or from now
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=2_921_000))]
    pub(super) days: Option<u32>,
    /// What to do when the CA ends first [default: fail]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(super) on_ca_expiry: Option<OnCaExpiryArg>,
}

/// What to do with a certificate that would outlive its CA.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum OnCaExpiryArg {
    /// Refuse
    Fail,
    /// Cut it to the CA's last second
    Clamp,
}

impl LifetimeArgs {
    /// With `default` as the length when nothing else is said.
    pub(super) fn lifetime(&self, settings: &Settings, default: Span) -> Result<Lifetime, Failure> {
        let backdate = match &settings.file.issue.backdate {
            Some(text) => text.parse()?,
            None => Span::seconds(3_600),
        };
        Ok(Lifetime {
            not_before: self.not_before.clone(),
            not_after: self.not_after.clone(),
            span: self
                .days
                .map_or(default, |days| Span::days(i64::from(days))),
            backdate,
            on_ca_expiry: match self.on_ca_expiry {
                None | Some(OnCaExpiryArg::Fail) => OnCaExpiry::Fail,
                Some(OnCaExpiryArg::Clamp) => OnCaExpiry::Clamp,
            },
        })
    }

    /// With the configured length of a device's certificate, or 365 days.
    pub(super) fn for_device(&self, settings: &Settings) -> Result<Lifetime, Failure> {
        let default = match &settings.file.issue.validity {
            Some(text) => text.parse()?,
            None => Span::days(365),
        };
        self.lifetime(settings, default)
    }
}

/// A length of time that is not nothing.
pub(super) fn positive_span(text: &str) -> Result<Span, String> {
    match text.parse::<Span>() {
        Ok(span) if span.as_seconds() == 0 => Err("it is no time at all".into()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

/// The curve of a new key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Curve {
    /// NIST P-256
    P256,
    /// NIST P-384
    P384,
}

impl From<Curve> for KeyAlgorithm {
    fn from(curve: Curve) -> Self {
        match curve {
            Curve::P256 => Self::EcP256,
            Curve::P384 => Self::EcP384,
        }
    }
}
