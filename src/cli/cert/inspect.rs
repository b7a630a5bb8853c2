//! `cert inspect`

use std::fmt;

use serde_json::{Value, json};

use super::gather::{Places, time};
use crate::cli::report::{Report, count};
use crate::cli::settings::Settings;
use crate::cli::wire_device::Machine;
use crate::core::inspect::Inspected;
use crate::core::intake::{Item, Thing};
use crate::core::time::{UtcTime, Validity};
use crate::explain::Failure;
use crate::flows::cert_gather::Artifact;
use crate::ports::Clock;

/// Show what certificates say: names, window, key, usages, extensions, and the id AWS shows
///
/// Keys, requests and revocation lists that are met are named for what they are. `--format json`
/// has every certificate's PEM inside; `--format ndjson` prints one certificate a line.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    places: Places,
    /// As seen at this time (RFC 3339, or `+90d`) [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

/// What was found, place by place.
#[derive(serde::Serialize)]
pub(super) struct Shown {
    at: UtcTime,
    /// How many certificates.
    count: usize,
    certificates: Vec<One>,
    /// What is no certificate.
    others: Vec<Other>,
}

#[derive(serde::Serialize)]
struct One {
    source: String,
    /// Its place in the source, from 0.
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(flatten)]
    certificate: Inspected,
}

#[derive(serde::Serialize)]
struct Other {
    source: String,
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    what: String,
    about: String,
    unreadable: bool,
}

impl Args {
    pub(super) fn run(self, _settings: &Settings) -> Result<Shown, Failure> {
        let machine = Machine::default();
        let at = time(self.at.as_deref(), machine.clock.now())?;
        let mut shown = Shown {
            at,
            count: 0,
            certificates: Vec::new(),
            others: Vec::new(),
        };
        for artifact in self.places.gather(&machine)? {
            shown.take(&artifact);
        }
        shown.count = shown.certificates.len();
        Ok(shown)
    }
}

impl Shown {
    fn take(&mut self, artifact: &Artifact) {
        for (index, item) in artifact.items.iter().enumerate() {
            let source = artifact.name.clone();
            match other(item) {
                None => self
                    .certificates
                    .extend(item.certificate().map(|found| One {
                        source,
                        index,
                        line: item.line,
                        certificate: Inspected::of(found, self.at),
                    })),
                Some((what, about, unreadable)) => self.others.push(Other {
                    source,
                    index,
                    line: item.line,
                    what,
                    about,
                    unreadable,
                }),
            }
        }
    }
}

fn other(item: &Item) -> Option<(String, String, bool)> {
    match &item.thing {
        Thing::Certificate { trailing: 0, .. } => None,
        Thing::Certificate { trailing, .. } => {
            let about = format!("{trailing} bytes follow its end");
            Some(("a certificate with something behind it".into(), about, true))
        }
        Thing::Unreadable(why) => Some(("no certificate".into(), why.clone(), true)),
        Thing::Other { what, about } => Some(((*what).to_owned(), about.clone(), false)),
    }
}

impl Report for Shown {
    /// Something that should be a certificate and is none is an answer of no.
    fn exit_code(&self) -> u8 {
        let unreadable = self.others.iter().any(|other| other.unreadable);
        u8::from(unreadable || self.certificates.is_empty())
    }

    fn lines(&self) -> Option<Vec<Value>> {
        let certificates = self.certificates.iter().map(|one| json!(one));
        Some(
            certificates
                .chain(self.others.iter().map(|other| json!(other)))
                .collect(),
        )
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.certificates {
            write_one(f, one, self.at)?;
        }
        for other in &self.others {
            let place = place(&other.source, other.line);
            writeln!(f, "{place}: {}: {}", other.what, other.about)?;
        }
        match self.certificates.len() {
            1 if self.others.is_empty() => Ok(()),
            all => write!(f, "{}", count(all as u64, "certificate")),
        }
    }
}

fn place(source: &str, line: Option<usize>) -> String {
    line.map_or_else(|| source.to_owned(), |line| format!("{source}:{line}"))
}

fn write_one(f: &mut fmt::Formatter<'_>, one: &One, at: UtcTime) -> fmt::Result {
    let seen = &one.certificate;
    let window = Validity {
        not_before: seen.not_before,
        not_after: seen.not_after,
    };
    let empty = |text: &str| if text.is_empty() { "(empty)" } else { text }.to_owned();
    writeln!(f, "{}", place(&one.source, one.line))?;
    let mut line = |name: &str, value: String| write_line(f, name, &value);
    line("subject", empty(&seen.subject))?;
    let issuer = if seen.self_signed {
        "itself"
    } else {
        &seen.issuer
    };
    line("issuer", empty(issuer))?;
    line("valid", window.describe(at))?;
    line("id", seen.id.to_string())?;
    line("sha1", seen.sha1.clone())?;
    line("serial", seen.serial.clone())?;
    line("key", seen.key.to_string())?;
    line("signature", seen.signature.clone())?;
    line("CA", authority(seen))?;
    write_extensions(f, seen)?;
    let mut line = |name: &str, value: String| write_line(f, name, &value);
    line(
        "version",
        if seen.version == 3 {
            String::new()
        } else {
            seen.version.to_string()
        },
    )?;
    line("thing name", thing(seen))?;
    line("size", format!("{} bytes of DER", seen.size_bytes))
}

/// A line that says nothing is left out.
fn write_line(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    if value.is_empty() {
        Ok(())
    } else {
        writeln!(f, "  {name:<12}{value}")
    }
}

fn write_extensions(f: &mut fmt::Formatter<'_>, seen: &Inspected) -> fmt::Result {
    let mut line = |name: &str, value: String| write_line(f, name, &value);
    line(
        "keyUsage",
        with_criticality(seen, "keyUsage", &seen.key_usage.join(", ")),
    )?;
    let purposes = seen.extended_key_usage.join(", ");
    line(
        "extKeyUsage",
        with_criticality(seen, "extendedKeyUsage", &purposes),
    )?;
    let names = seen.alternative_names.join(", ");
    line("altNames", with_criticality(seen, "subjectAltName", &names))?;
    line("SKI", seen.subject_key_id.clone().unwrap_or_default())?;
    line("AKI", seen.authority_key_id.clone().unwrap_or_default())?;
    line("policies", seen.policies.join(", "))?;
    line("CRL", seen.crl_distribution_points.join(", "))?;
    line("AIA", seen.authority_information.join(", "))?;
    line("others", unknown(seen))
}

fn authority(seen: &Inspected) -> String {
    match (seen.ca, seen.path_len) {
        (Some(true), Some(0)) => "yes, for leaves only (pathLen 0)".into(),
        (Some(true), Some(length)) => format!("yes, with at most {length} below it (pathLen)"),
        (Some(true), None) => "yes, with any number below it".into(),
        (Some(false), _) => "no".into(),
        (None, _) => "not said (no basicConstraints)".into(),
    }
}

fn with_criticality(seen: &Inspected, name: &str, value: &str) -> String {
    let extension = seen.extensions.iter().find(|one| one.name == Some(name));
    match extension {
        Some(one) if one.critical => format!("{value} (critical)"),
        Some(_) => value.to_owned(),
        None => String::new(),
    }
}

/// The extensions that no line of their own shows.
fn unknown(seen: &Inspected) -> String {
    const SHOWN: [&str; 9] = [
        "authorityInfoAccess",
        "authorityKeyIdentifier",
        "basicConstraints",
        "cRLDistributionPoints",
        "certificatePolicies",
        "extendedKeyUsage",
        "keyUsage",
        "subjectAltName",
        "subjectKeyIdentifier",
    ];
    let rest = seen
        .extensions
        .iter()
        .filter(|one| one.name.is_none_or(|n| !SHOWN.contains(&n)));
    let one = |one: &crate::core::inspect::ExtensionSeen| {
        let name = one.name.map_or_else(String::new, |name| format!("{name} "));
        let critical = if one.critical { ", critical" } else { "" };
        format!("{name}{} ({} bytes{critical})", one.oid, one.size_bytes)
    };
    rest.map(one).collect::<Vec<_>>().join(", ")
}

fn thing(seen: &Inspected) -> String {
    match (&seen.thing_name, seen.ca) {
        (_, Some(true)) => String::new(),
        (Some(name), _) => format!("{name} (the common name)"),
        (None, _) => "none: the common name does not fit one".into(),
    }
}
