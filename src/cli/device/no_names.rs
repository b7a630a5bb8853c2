//! The device image has no ledger to find names in.

use crate::cli::settings::Settings;
use crate::core::time::Validity;
use crate::explain::{Failure, Kind};

/// A device's live certificate.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) id: Option<String>,
    pub(super) subject: String,
    pub(super) validity: Validity,
}

/// Refuses every name.
pub(super) fn live(_: &Settings, names: Option<&[String]>) -> Result<Vec<Named>, Failure> {
    if names.is_some_and(<[String]>::is_empty) {
        return Ok(Vec::new());
    }
    let message = "this build of nameplate has no ledger to find names in";
    Err(Failure::new(Kind::Usage, "device.no-ledger", message)
        .hint("name a certificate's file or folder with --cert"))
}
