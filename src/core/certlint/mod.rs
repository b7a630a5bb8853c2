//! What is wrong or doubtful in certificates, as device PKI and AWS IoT see it.
//!
//! Every rule is explained in `docs/rules/cert.md`, which also says how much it weighs. The rules
//! judge single certificates (`fields`, `names`, `usages`, `window`), the place of each in
//! its chain (`chain`), and all that were given at once (`set`).

mod chain;
mod der;
mod fields;
mod names;
mod set;
mod usages;
mod window;

#[cfg(test)]
mod tests;

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::core::cert::{CLIENT_AUTH, Certificate, SERVER_AUTH};
use crate::core::finding::{Finding, Placed};
use crate::core::intake::{Item, Thing};
use crate::core::rules;
use crate::core::time::{Span, UtcTime};

/// What a certificate is judged as.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A TLS client: a device.
    Device,
    /// A TLS server: an endpoint.
    Server,
    /// A CA that signs itself.
    Root,
    /// A CA below another.
    Intermediate,
}

impl Role {
    /// By what the certificate says of itself.
    pub fn of(certificate: &Certificate) -> Self {
        let signs = certificate
            .key_usage
            .is_some_and(|usage| usage.key_cert_sign);
        let usages = certificate
            .extended_key_usage
            .as_deref()
            .unwrap_or_default();
        let has = |oid: &str| usages.iter().any(|one| one == oid);
        match certificate.is_ca {
            Some(true) if certificate.is_self_issued() => Self::Root,
            Some(true) => Self::Intermediate,
            None if signs && certificate.is_self_issued() => Self::Root,
            _ if has(SERVER_AUTH) && !has(CLIENT_AUTH) => Self::Server,
            _ => Self::Device,
        }
    }

    fn is_ca(self) -> bool {
        matches!(self, Self::Root | Self::Intermediate)
    }
}

/// How to judge.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// As what; `None` is by what each certificate says of itself. Issuers in a chain are always
    /// judged as the CAs they are.
    pub role: Option<Role>,
    /// The time at which the certificates should be valid.
    pub at: UtcTime,
    /// How long before its end a certificate is told of.
    pub margin: Span,
}

/// One file, or what one server showed.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    /// What it holds, in order.
    pub items: &'a [Item],
    /// Issuers known from elsewhere.
    pub issuers: &'a [Certificate],
    /// Whether it is what is presented in TLS.
    pub presented: bool,
}

/// Findings as they are made, each with its rule's severity and remedy.
#[derive(Default)]
struct Board {
    findings: Vec<Placed>,
}

impl Board {
    fn add(&mut self, rule: &'static str, place: &Place<'_>, message: impl Into<String>) {
        let known = rules::find(rule);
        let severity = known.map_or(crate::core::finding::Severity::Error, rules::Rule::level);
        let mut finding = Finding::new(severity, rule, &place.path, message);
        finding.remedy = known.map(|rule| rule.remedy.clone());
        self.findings.push(Placed {
            line: place.line,
            column: None,
            index: Some(place.index),
            subject: place.certificate.map(|c| c.subject.to_string()),
            id: place.certificate.map(|c| c.id().to_string()),
            suppressed: None,
            finding,
        });
    }
}

/// Where a finding is.
struct Place<'a> {
    index: usize,
    line: Option<usize>,
    path: String,
    certificate: Option<&'a Certificate>,
}

/// One certificate under judgement.
struct Case<'a> {
    certificate: &'a Certificate,
    x509: &'a X509Certificate<'a>,
    role: Role,
    index: usize,
    line: Option<usize>,
    issuer: chain::Issuer<'a>,
}

impl<'a> Case<'a> {
    /// A place in it, by the name `cert inspect --format json` gives the field; empty for all of
    /// it.
    fn at(&self, field: &str) -> Place<'a> {
        let mut path = format!("$.certificates[{}]", self.index);
        if !field.is_empty() {
            path.push('.');
            path.push_str(field);
        }
        Place {
            index: self.index,
            line: self.line,
            path,
            certificate: Some(self.certificate),
        }
    }
}

/// Judges everything at once; the answer has one list for each unit, in order.
pub fn lint(units: &[Unit<'_>], request: &Request) -> Vec<Vec<Placed>> {
    let known = chain::Known::of(units);
    let mut all: Vec<Vec<Placed>> = units
        .iter()
        .map(|unit| {
            let mut board = Board::default();
            judge(unit, &known, request, &mut board);
            board.findings
        })
        .collect();
    set::judge(units, &mut all);
    all
}

fn judge(unit: &Unit<'_>, known: &chain::Known<'_>, request: &Request, board: &mut Board) {
    for (index, item) in unit.items.iter().enumerate() {
        let place = Place {
            index,
            line: item.line,
            path: format!("$.certificates[{index}]"),
            certificate: item.certificate(),
        };
        match &item.thing {
            Thing::Unreadable(why) => board.add("cert.unreadable", &place, why),
            Thing::Certificate { trailing, .. } if *trailing > 0 => {
                let message = format!("{trailing} bytes follow its end");
                board.add("cert.trailing-data", &place, message);
            }
            _ => {}
        }
        let Some(certificate) = item.certificate() else {
            continue;
        };
        let Ok((_, x509)) = X509Certificate::from_der(certificate.der()) else {
            continue;
        };
        let issues = known.is_issuer(certificate);
        let case = Case {
            certificate,
            x509: &x509,
            role: request
                .role
                .filter(|_| !issues)
                .unwrap_or(Role::of(certificate)),
            index,
            line: item.line,
            issuer: known.issuer_of(certificate, unit),
        };
        fields::judge(&case, board);
        names::judge(&case, board);
        usages::judge(&case, board);
        window::judge(&case, request, board);
        chain::judge(&case, board);
    }
    chain::judge_order(unit, board);
}
