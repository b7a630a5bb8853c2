//! Flags for keys that are not in a file: the PKCS#11 module and the token's PIN.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::settings::Settings;
use super::wire::factory::passphrases;
use super::wire::keys::{KeyAccess, OpenedKey};
use crate::core::key::KeyAlgorithm;
use crate::core::key_uri::KeyUri;
use crate::explain::Failure;
use crate::ports::{PassphraseError, PassphraseSource, PassphraseUse, Passphrases};

/// The environment variable that holds a PIN.
const PIN: &str = "NAMEPLATE_PIN";

/// How to reach a PKCS#11 token. The PIN never stands in argv.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct TokenArgs {
    /// A file that holds the PIN of the PKCS#11 token; NAMEPLATE_PIN holds the PIN itself
    /// [config: pkcs11.pin_file]
    #[arg(long, value_name = "FILE", env = "NAMEPLATE_PIN_FILE")]
    pin_file: Option<PathBuf>,
    /// The PKCS#11 module, a library [config: pkcs11.module]
    #[arg(long, value_name = "FILE", env = "NAMEPLATE_PKCS11_MODULE")]
    pkcs11_module: Option<PathBuf>,
}

impl TokenArgs {
    /// Opens a key that is not in a file.
    pub(super) fn open(&self, uri: &KeyUri, settings: &Settings) -> Result<OpenedKey, Failure> {
        self.reach(uri, settings, |access| access.open(uri))
    }

    /// Makes a key in a token or a key service.
    pub(super) fn generate(
        &self,
        uri: &KeyUri,
        settings: &Settings,
        algorithm: KeyAlgorithm,
    ) -> Result<OpenedKey, Failure> {
        self.reach(uri, settings, |access| access.generate(uri, algorithm))
    }

    fn reach(
        &self,
        uri: &KeyUri,
        settings: &Settings,
        act: impl FnOnce(&KeyAccess<'_>) -> Result<OpenedKey, Failure>,
    ) -> Result<OpenedKey, Failure> {
        let module = self.pkcs11_module.clone();
        let pin = |token: &str| self.pin(token, uri, settings);
        act(&KeyAccess {
            module: module.or_else(|| settings.file.pkcs11.module.clone()),
            pin: &pin,
            region: settings.region.clone(),
            profile: settings.profile.clone(),
        })
    }

    /// Flag, environment, the URI's own `pin-source`, configuration; then a person is asked.
    fn pin(
        &self,
        token: &str,
        uri: &KeyUri,
        settings: &Settings,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, PassphraseError> {
        let in_uri = match uri {
            KeyUri::Pkcs11(uri) => uri.pin_source.clone(),
            KeyUri::AwsKms(_) | KeyUri::File(_) => None,
        };
        let configured = || {
            let path = settings.file.pkcs11.pin_file.as_ref()?;
            let project = settings.project.as_ref();
            Some(project.map_or(path.clone(), |folder| folder.join(path)))
        };
        let source = match (&self.pin_file, pin_from_environment()) {
            (Some(path), _) => PassphraseSource::File(path.clone()),
            (None, Some(pin)) => return Ok(Some(pin)),
            (None, None) => in_uri
                .or_else(configured)
                .map_or(PassphraseSource::Ask, PassphraseSource::File),
        };
        let what = format!("token `{token}`");
        passphrases().read(&source, &what, PassphraseUse::Pin)
    }
}

fn pin_from_environment() -> Option<Zeroizing<Vec<u8>>> {
    let pin = std::env::var(PIN).ok().filter(|pin| !pin.is_empty())?;
    Some(Zeroizing::new(pin.into_bytes()))
}
