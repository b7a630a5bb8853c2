//! What a provisioning template needs to know of an IoT policy's text.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::core::ids::hex;
use crate::core::policy::Document;

/// The name AWS IoT gives to a policy that a template writes out: upper-hex SHA-1 of the
/// document. That it is a hash is documented, which one is not; sample ARNs have 40 digits.
pub fn auto_policy_name(document: &str) -> String {
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, document.as_bytes()).as_ref()).to_ascii_uppercase()
}

/// Why AWS IoT refuses the text as a policy document; `None` when it takes it.
pub fn policy_problem(document: &str) -> Option<String> {
    Document::parse(document).err().map(|e| e.to_string())
}
