//! What only shows when many certificates are looked at together.

use std::collections::HashMap;

use super::{Board, Place, Unit};
use crate::core::cert::Certificate;
use crate::core::finding::Placed;

/// How many of one CA's serial numbers must follow one another to be called a count.
const RUN: usize = 3;

struct Seen<'a> {
    unit: usize,
    index: usize,
    line: Option<usize>,
    certificate: &'a Certificate,
}

impl<'a> Seen<'a> {
    fn at(&self, field: &str) -> Place<'a> {
        Place {
            index: self.index,
            line: self.line,
            path: format!("$.certificates[{}].{field}", self.index),
            certificate: Some(self.certificate),
        }
    }
}

/// Adds to each unit's findings what is wrong with it beside the others.
pub(super) fn judge(units: &[Unit<'_>], findings: &mut [Vec<Placed>]) {
    let mut all: Vec<Seen<'_>> = Vec::new();
    let mut ids = std::collections::HashSet::new();
    for (number, unit) in units.iter().enumerate() {
        for (index, item) in unit.items.iter().enumerate() {
            let Some(certificate) = item.certificate() else {
                continue;
            };
            // The same certificate in several files is one certificate.
            if ids.insert(certificate.id().clone()) {
                all.push(Seen {
                    unit: number,
                    index,
                    line: item.line,
                    certificate,
                });
            }
        }
    }
    keys(&all, findings);
    serials(&all, findings);
}

fn tell(findings: &mut [Vec<Placed>], seen: &Seen<'_>, rule: &'static str, told: (&str, String)) {
    let (field, message) = told;
    let mut board = Board::default();
    board.add(rule, &seen.at(field), message);
    findings[seen.unit].append(&mut board.findings);
}

fn keys(all: &[Seen<'_>], findings: &mut [Vec<Placed>]) {
    let mut first: HashMap<&[u8], &Seen<'_>> = HashMap::new();
    for seen in all {
        let certificate = seen.certificate;
        let Some(other) = first.get(certificate.public_key.spki()) else {
            first.insert(certificate.public_key.spki(), seen);
            continue;
        };
        let other = other.certificate;
        let (rule, whose) = if other.subject_der == certificate.subject_der {
            (
                "cert.key-reused",
                "an earlier certificate of the same subject",
            )
        } else {
            ("cert.key-shared", "a certificate of another subject")
        };
        let message = format!(
            "the key is also that of `{}` ({}), {whose}",
            other.subject,
            &other.id().as_str()[..16]
        );
        tell(findings, seen, rule, ("key", message));
    }
}

fn serials(all: &[Seen<'_>], findings: &mut [Vec<Placed>]) {
    let mut by_issuer: HashMap<&[u8], Vec<&Seen<'_>>> = HashMap::new();
    for seen in all {
        let issuer = &seen.certificate.issuer_der[..];
        by_issuer.entry(issuer).or_default().push(seen);
    }
    for issued in by_issuer.values_mut() {
        issued.sort_by(|a, b| number(a.certificate).cmp(&number(b.certificate)));
        let mut run = 1;
        for pair in issued.windows(2) {
            let (before, after) = (pair[0].certificate, pair[1].certificate);
            if before.serial == after.serial {
                let message = format!(
                    "{} is also the serial number of `{}`",
                    after.serial_hex(),
                    before.subject
                );
                tell(
                    findings,
                    pair[1],
                    "cert.serial-duplicate",
                    ("serial", message),
                );
                continue;
            }
            run = if next(&before.serial).as_ref() == Some(&after.serial) {
                run + 1
            } else {
                1
            };
            if run == RUN {
                let message = format!(
                    "{} is the third in a row from `{}`",
                    after.serial_hex(),
                    after.issuer
                );
                tell(
                    findings,
                    pair[1],
                    "cert.serial-sequential",
                    ("serial", message),
                );
            }
        }
    }
}

/// Orders big-endian numbers without leading zeros.
fn number(certificate: &Certificate) -> (usize, &[u8]) {
    (certificate.serial.len(), &certificate.serial)
}

/// The number after this one; `None` when it would be longer.
fn next(serial: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = serial.to_vec();
    for byte in bytes.iter_mut().rev() {
        let (sum, carried) = byte.overflowing_add(1);
        *byte = sum;
        if !carried {
            return Some(bytes);
        }
    }
    None
}
