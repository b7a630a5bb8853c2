//! A build without PKCS#11 says so.

use std::path::PathBuf;
use std::sync::Arc;

use crate::core::cert::Certificate;
use crate::core::key_uri::Pkcs11Uri;
use crate::explain::{Failure, Kind};
use crate::ports::{Signer, Tokens};

/// No token at all.
#[expect(dead_code, reason = "what names a token is read, and then refused")]
pub(in crate::cli) struct DeviceTokens {
    pub(super) module: Option<PathBuf>,
    pub(super) pin_file: Option<PathBuf>,
    pub(super) configured_pin_file: Option<PathBuf>,
}

impl Tokens for DeviceTokens {
    fn key(&self, _: &Pkcs11Uri) -> Result<Arc<dyn Signer + Send + Sync>, Failure> {
        Err(not_built())
    }

    fn certificates(&self, _: &Pkcs11Uri) -> Result<Vec<Certificate>, Failure> {
        Err(not_built())
    }
}

fn not_built() -> Failure {
    let message = "this nameplate was built without `pkcs11`";
    Failure::new(Kind::Input, "key-uri.not-built", message).hint(
        "build it with `--features device,pkcs11`; `nameplate version --verbose` lists what is in it",
    )
}
