//! What a provisioning template needs to know of an IoT policy's text.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::core::ids::hex;
use crate::core::json;

/// The most characters of a policy document that are not white space (AWS IoT quota).
pub const MAX_POLICY_CHARACTERS: usize = 2_048;

/// The name AWS IoT gives to a policy that a template writes out: upper-hex SHA-1 of the
/// document. That it is a hash is documented, which one is not; sample ARNs have 40 digits.
pub fn auto_policy_name(document: &str) -> String {
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, document.as_bytes()).as_ref()).to_ascii_uppercase()
}

/// Why AWS IoT refuses the text as a policy document; `None` when it takes it.
pub fn policy_problem(document: &str) -> Option<String> {
    let characters = document.chars().filter(|c| !c.is_whitespace()).count();
    if characters > MAX_POLICY_CHARACTERS {
        return Some(format!(
            "the policy has {characters} characters without white space; at most 2048 are allowed"
        ));
    }
    let json = match json::parse(document, 16) {
        Ok(json) => json,
        Err(error) => return Some(format!("the policy is not JSON: {error}")),
    };
    let version = json.get("Version").and_then(serde_json::Value::as_str);
    if !matches!(version, Some("2012-10-17" | "2008-10-17")) {
        return Some("the policy's Version is not 2012-10-17".into());
    }
    let statements = match json.get("Statement") {
        Some(serde_json::Value::Array(all)) if !all.is_empty() => all.iter().collect(),
        Some(one @ serde_json::Value::Object(_)) => vec![one],
        _ => return Some("the policy has no Statement".into()),
    };
    statements.iter().enumerate().find_map(|(n, statement)| {
        statement_problem(statement).map(|problem| format!("$.Statement[{n}]: {problem}"))
    })
}

fn statement_problem(statement: &serde_json::Value) -> Option<&'static str> {
    let effect = statement.get("Effect").and_then(serde_json::Value::as_str);
    if !matches!(effect, Some("Allow" | "Deny")) {
        return Some("Effect is neither Allow nor Deny");
    }
    let texts = |key: &str| match statement.get(key) {
        Some(serde_json::Value::String(_)) => true,
        Some(serde_json::Value::Array(all)) => {
            !all.is_empty() && all.iter().all(serde_json::Value::is_string)
        }
        _ => false,
    };
    if texts("Action") == texts("NotAction") {
        return Some("exactly one of Action and NotAction is needed: a string or a list of them");
    }
    if texts("Resource") == texts("NotResource") {
        return Some("exactly one of Resource and NotResource is needed: a string or a list");
    }
    statement
        .get("Principal")
        .map(|_| "an IoT policy has no Principal: it is attached to one")
}
