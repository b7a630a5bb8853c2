//! Why a TLS handshake failed, in words: each kind of failure is told from the others.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, ErrorKind};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
use rustls_pki_types::CertificateDer;

use super::logs::{Denial, Stage, Why};
use crate::core::cert::Certificate;

tokio::task_local! {
    /// The certificate that the client of this task's handshake has shown.
    static SHOWN: RefCell<Option<CertificateDer<'static>>>;
}

/// Notes the certificate that a client shows, before anything is known of it.
pub(super) fn shown(certificate: &CertificateDer<'_>) {
    let _ = SHOWN.try_with(|shown| {
        *shown.borrow_mut() = Some(certificate.clone().into_owned());
    });
}

/// Does a handshake, and tells which certificate the client has shown in it.
pub(super) async fn watch<F: Future>(handshake: F) -> (F::Output, Option<CertificateDer<'static>>) {
    SHOWN
        .scope(RefCell::new(None), async {
            let done = handshake.await;
            (done, SHOWN.with(RefCell::take))
        })
        .await
}

/// A handshake that failed: the record's parts.
#[derive(Debug)]
pub(super) struct Failed {
    /// Why.
    pub(super) denial: Denial,
    /// The certificate's id, if one was shown that can be read.
    pub(super) principal: Option<String>,
}

/// A failure that is known from something else than the handshake's error.
pub(super) fn failed(stage: Stage, rule: &str, details: String, remedy: &str) -> Failed {
    Failed {
        denial: Denial {
            details,
            why: Box::new(Why::new(stage, rule, remedy)),
        },
        principal: None,
    }
}

/// The client sent another server name than the endpoint's.
pub(super) fn wrong_name(sent: Option<&str>, wanted: &str) -> Failed {
    let (rule, shown) = match sent {
        None => ("tls.no-server-name", "none".to_owned()),
        Some(name) => ("tls.server-name", format!("`{name}`")),
    };
    let details =
        format!("the client sent the TLS server name {shown}; this endpoint is `{wanted}`");
    let remedy = if sent.is_some_and(|name| name.contains("-ats.iot.")) {
        "call the control plane of that account and Region first (`aws iot describe-endpoint`): it \
         says the name of its endpoint, which is there from then on"
            .to_owned()
    } else {
        format!("connect to `{wanted}` by name, so that the client sends it (SNI)")
    };
    failed(Stage::Tls, rule, details, &remedy)
}

/// Reads a handshake's error.
pub(super) fn explain(error: &io::Error, shown: Option<&CertificateDer<'_>>) -> Failed {
    let leaf = shown.and_then(|der| Certificate::from_der(der).ok());
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let (rule, details, remedy) = match (inner, &leaf) {
        (Some(Error::InvalidCertificate(_)), Some(leaf)) if leaf.version != 3 => (
            "connect.version",
            format!(
                "the certificate is of X.509 version {}, not 3",
                leaf.version
            ),
            "issue it with version 3".to_owned(),
        ),
        (Some(tls), _) => of_tls(tls),
        (None, _) if error.kind() == ErrorKind::UnexpectedEof => (
            "tls.closed",
            "the client closed the connection before the TLS handshake was done".to_owned(),
            "see what the client says: it may not trust the server's certificate, or have given up"
                .to_owned(),
        ),
        (None, _) => (
            "tcp.broken",
            format!("the connection broke during the TLS handshake: {error}"),
            "try again; look for what is between the client and the sandbox".to_owned(),
        ),
    };
    let mut why = Why::new(Stage::Tls, rule, remedy);
    why.alert = inner.and_then(alert);
    if rule.starts_with("tcp.") {
        why.stage = Stage::Tcp;
    }
    Failed {
        principal: leaf.as_ref().map(|leaf| leaf.id().to_string()),
        denial: Denial {
            details,
            why: Box::new(match &leaf {
                Some(leaf) => why.of(leaf),
                None => why,
            }),
        },
    }
}

fn of_tls(error: &Error) -> (&'static str, String, String) {
    match error {
        Error::NoCertificatesPresented => (
            "tls.no-client-certificate",
            "the client sent no certificate".to_owned(),
            "give the client its certificate and key".to_owned(),
        ),
        Error::InvalidCertificate(CertificateError::BadSignature) => (
            "tls.proof-of-possession",
            "the client does not have the key of the certificate it shows".to_owned(),
            "give the client the key that belongs to its certificate (`nameplate preflight` checks)"
                .to_owned(),
        ),
        Error::InvalidCertificate(problem) => (
            "tls.certificate",
            format!("the client's certificate cannot be read: {problem}"),
            "look at it with `nameplate cert inspect`, and issue it anew".to_owned(),
        ),
        Error::PeerIncompatible(problem) => incompatible(problem),
        Error::AlertReceived(alert) => (
            "tls.client-alert",
            format!("the client refused the server: alert {}", name(*alert)),
            "let the client trust the sandbox's server CA (server-ca.pem in its state folder), and \
             check the client's clock"
                .to_owned(),
        ),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => (
            "tls.not-tls",
            "what the client sent is not TLS".to_owned(),
            "connect with TLS: there is no plain MQTT or HTTP here".to_owned(),
        ),
        Error::DecryptError => (
            "tls.decrypt",
            "what the client sent cannot be decrypted".to_owned(),
            "look for what is between the client and the sandbox".to_owned(),
        ),
        other => (
            "tls.handshake",
            format!("the TLS handshake failed: {other}"),
            "see what the client says".to_owned(),
        ),
    }
}

fn incompatible(problem: &PeerIncompatible) -> (&'static str, String, String) {
    match problem {
        PeerIncompatible::Tls12NotOffered
        // Clients of TLS 1.1 and before do not know this extension (RFC 5246 §7.4.1.4.1).
        | PeerIncompatible::SignatureAlgorithmsExtensionRequired
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerDoesNotSupportTls12Or13 => (
            "tls.version",
            "the client offers neither TLS 1.2 nor TLS 1.3".to_owned(),
            "let the client use TLS 1.2 or 1.3".to_owned(),
        ),
        problem => (
            "tls.incompatible",
            format!("client and sandbox have nothing in common: {problem:?}"),
            "let the client offer ECDHE with AES-GCM or ChaCha20, and P-256, P-384 or X25519"
                .to_owned(),
        ),
    }
}

/// The alert that came, or that goes with the failure.
fn alert(error: &Error) -> Option<String> {
    let alert = match error {
        Error::AlertReceived(alert) => *alert,
        Error::NoCertificatesPresented => AlertDescription::CertificateRequired,
        Error::InvalidCertificate(CertificateError::BadSignature) | Error::DecryptError => {
            AlertDescription::DecryptError
        }
        Error::InvalidCertificate(_) => AlertDescription::BadCertificate,
        Error::PeerIncompatible(_) => AlertDescription::ProtocolVersion,
        Error::InvalidMessage(_) => AlertDescription::DecodeError,
        _ => return None,
    };
    Some(name(alert))
}

/// RFC 8446's name of an alert: `unknown_ca`.
fn name(alert: AlertDescription) -> String {
    let mut name = String::new();
    let text = match alert {
        AlertDescription::UnknownCA => "UnknownCa".to_owned(),
        other => format!("{other:?}"),
    };
    for letter in text.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_a_rule_of_its_own() {
        let errors = [
            Error::NoCertificatesPresented,
            Error::InvalidCertificate(CertificateError::BadSignature),
            Error::InvalidCertificate(CertificateError::BadEncoding),
            Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled),
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            Error::AlertReceived(AlertDescription::UnknownCA),
            Error::InvalidMessage(InvalidMessage::InvalidContentType),
            Error::DecryptError,
        ];
        let mut rules: Vec<String> = errors
            .into_iter()
            .map(|error| {
                let failed = explain(&io::Error::other(error), None);
                assert!(!failed.denial.why.remedy.is_empty());
                failed.denial.why.rule.clone()
            })
            .collect();
        for sent in [None, Some("x")] {
            rules.push(wrong_name(sent, "localhost").denial.why.rule.clone());
        }
        let eof = io::Error::from(ErrorKind::UnexpectedEof);
        rules.push(explain(&eof, None).denial.why.rule.clone());
        let reset = io::Error::from(ErrorKind::ConnectionReset);
        let broken = explain(&reset, None);
        assert_eq!(broken.denial.why.stage, Stage::Tcp);
        rules.push(broken.denial.why.rule.clone());
        let count = rules.len();
        rules.sort();
        rules.dedup();
        assert_eq!(rules.len(), count, "{rules:?}");
    }

    #[test]
    fn alerts_are_named_as_the_rfc_names_them() {
        assert_eq!(name(AlertDescription::UnknownCA), "unknown_ca");
        assert_eq!(
            name(AlertDescription::CertificateExpired),
            "certificate_expired"
        );
    }
}
