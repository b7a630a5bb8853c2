//! Tokens that are opened when something in them is asked for.

use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::core::cert::Certificate;
use crate::core::key_uri::Pkcs11Uri;
use crate::effects::passphrase::UserPassphrases;
use crate::effects::pkcs11::{Pkcs11Error, Pkcs11Signer, TokenAccess, certificates};
use crate::explain::Failure;
use crate::ports::{PassphraseError, PassphraseSource, PassphraseUse, Passphrases, Signer, Tokens};

/// The tokens of this machine.
pub(in crate::cli) struct DeviceTokens {
    pub(super) module: Option<PathBuf>,
    pub(super) pin_file: Option<PathBuf>,
    pub(super) configured_pin_file: Option<PathBuf>,
}

impl DeviceTokens {
    fn with<T>(
        &self,
        uri: &Pkcs11Uri,
        act: impl FnOnce(&TokenAccess<'_>) -> Result<T, Pkcs11Error>,
    ) -> Result<T, Failure> {
        let pin = |token: &str| self.pin(token, uri);
        Ok(act(&TokenAccess {
            module: self.module.as_deref(),
            pin: &pin,
        })?)
    }

    /// Flag, environment, the URI's own `pin-source`, configuration. Nobody is asked on a device.
    fn pin(
        &self,
        token: &str,
        uri: &Pkcs11Uri,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, PassphraseError> {
        let environment = || {
            std::env::var("NAMEPLATE_PIN")
                .ok()
                .filter(|pin| !pin.is_empty())
        };
        let path = match (&self.pin_file, environment()) {
            (Some(path), _) => Some(path),
            (None, Some(pin)) => return Ok(Some(Zeroizing::new(pin.into_bytes()))),
            (None, None) => uri
                .pin_source
                .as_ref()
                .or(self.configured_pin_file.as_ref()),
        };
        let Some(path) = path else {
            return Ok(None);
        };
        let what = format!("token `{token}`");
        UserPassphrases.read(
            &PassphraseSource::File(path.clone()),
            &what,
            PassphraseUse::Pin,
        )
    }
}

impl Tokens for DeviceTokens {
    fn key(&self, uri: &Pkcs11Uri) -> Result<Arc<dyn Signer + Send + Sync>, Failure> {
        let signer = self.with(uri, |access| Pkcs11Signer::open(uri, access))?;
        Ok(Arc::new(signer))
    }

    fn certificates(&self, uri: &Pkcs11Uri) -> Result<Vec<Certificate>, Failure> {
        self.with(uri, |access| certificates(uri, access))
    }
}
