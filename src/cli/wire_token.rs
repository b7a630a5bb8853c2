//! PKCS#11 tokens on the device: flags for module and PIN, and the adapter behind them.

#[cfg(feature = "pkcs11")]
mod tokens;
/// Without PKCS#11 every token is refused.
#[cfg(not(feature = "pkcs11"))]
#[path = "wire_token/no_tokens.rs"]
mod tokens;

use std::path::PathBuf;

use super::settings::Settings;
use tokens::DeviceTokens;

/// How to reach a token. The PIN never stands in argv.
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
    /// The adapter, with flag before configuration.
    pub(super) fn tokens(&self, settings: &Settings) -> DeviceTokens {
        let configured = &settings.file.pkcs11;
        let in_project = |path: &PathBuf| super::identity::in_project(settings, path.clone());
        DeviceTokens {
            module: self.pkcs11_module.clone().or(configured.module.clone()),
            pin_file: self.pin_file.clone(),
            configured_pin_file: configured.pin_file.as_ref().map(in_project),
        }
    }
}
