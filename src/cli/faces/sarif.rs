//! SARIF 2.1.0 (OASIS), as code scanning takes it.

use serde_json::{Value, json};

use crate::cli::report::Linting;
use crate::core::finding::{Checked, Placed, Severity};
use crate::core::ids::hex;
use crate::core::rules::{self, Rule};

/// Draws the findings; each rule that found something is described.
pub(in crate::cli) fn draw(linting: &Linting<'_>) -> Result<String, serde_json::Error> {
    let mut ids: Vec<&str> = linting
        .files
        .iter()
        .flat_map(|checked| checked.findings.iter().map(|placed| placed.finding.rule))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let results: Vec<Value> = linting
        .files
        .iter()
        .flat_map(|checked| {
            checked
                .findings
                .iter()
                .map(|placed| result(checked, placed, &ids))
        })
        .collect();
    let artifacts: Vec<Value> = linting
        .files
        .iter()
        .map(|checked| json!({ "location": { "uri": uri(&checked.artifact) } }))
        .collect();
    serde_json::to_string_pretty(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "nameplate",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": ids.iter().map(|id| rule(id)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "invocations": [{ "executionSuccessful": true }],
            "artifacts": artifacts,
            "results": results,
        }],
    }))
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

fn rule(id: &str) -> Value {
    let Some(rule) = rules::find(id) else {
        return json!({ "id": id });
    };
    json!({
        "id": id,
        "shortDescription": { "text": rule.what },
        "fullDescription": { "text": sentences(&[&rule.what, &rule.why]) },
        "help": {
            "text": sentences(&[&rule.why, &rule.remedy, rule.source]),
            "markdown": markdown(rule),
        },
        "defaultConfiguration": { "level": level(rule.level()) },
        "properties": { "tags": [rule.topic], "source": rule.source },
    })
}

fn sentences(parts: &[&str]) -> String {
    let said: Vec<&str> = parts
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    said.join(" ")
}

fn markdown(rule: &Rule) -> String {
    format!(
        "**{}**\n\n{}\n\n{}\n\n{}\n\nSource: {}",
        rule.id, rule.what, rule.why, rule.remedy, rule.source
    )
}

fn result(checked: &Checked, placed: &Placed, ids: &[&str]) -> Value {
    let finding = &placed.finding;
    let index = ids.iter().position(|id| *id == finding.rule);
    let whose = placed
        .subject
        .as_ref()
        .map_or_else(String::new, |subject| format!(" (`{subject}`)"));
    let mut region = json!({ "startLine": placed.line.unwrap_or(1) });
    if let Some(column) = placed.column {
        region["startColumn"] = column.into();
    }
    let mut result = json!({
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": level(finding.severity),
        "message": { "text": format!("{}{whose}", finding.message) },
        "locations": [{
            "physicalLocation": {
                "artifactLocation": { "uri": uri(&checked.artifact) },
                "region": region,
            },
            "logicalLocations": [{ "fullyQualifiedName": finding.path, "kind": "member" }],
        }],
        "partialFingerprints": { "nameplate/v1": fingerprint(checked, placed) },
    });
    if let Some(reason) = &placed.suppressed {
        result["suppressions"] = json!([{ "kind": "external", "justification": reason }]);
    }
    result
}

/// The same from run to run, wherever in the file the thing stands.
fn fingerprint(checked: &Checked, placed: &Placed) -> String {
    let place = placed.id.as_deref().unwrap_or(&checked.artifact);
    let field = placed.finding.path.rsplit('.').next().unwrap_or_default();
    let text = format!("{}\n{place}\n{field}", placed.finding.rule);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    hex(&digest.as_ref()[..16])
}

/// A path as a URI reference (RFC 3986 §4.1): what may not stand in one is written in per cent.
fn uri(artifact: &str) -> String {
    let keeps = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:@!$&'()*+,;=[]".contains(&byte);
    let text = match artifact {
        "-" => "stdin",
        other => other.strip_prefix("./").unwrap_or(other),
    };
    text.bytes()
        .map(|byte| match byte {
            byte if keeps(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
