//! The validity window: its form, its length, and its place in time and in the issuer's.

use x509_parser::asn1_rs::FromDer as _;

use super::{Board, Case, Request, chain};
use crate::core::time::{Span, UtcTime, Validity};

/// A leaf for longer than this is told of.
const LONG: Span = Span::days(25 * 365 + 7);

pub(super) fn judge(case: &Case<'_>, request: &Request, board: &mut Board) {
    let window = &case.certificate.validity;
    let now = request.at;
    encoding(case, board);
    if window.not_after < window.not_before {
        let at = case.at("not_after");
        board.add("cert.validity-reversed", &at, window.describe(now));
    } else if now > window.not_after {
        board.add("cert.expired", &case.at("not_after"), window.describe(now));
    } else if now < window.not_before {
        board.add(
            "cert.not-yet-valid",
            &case.at("not_before"),
            window.describe(now),
        );
    } else if window.not_after <= now.plus(request.margin) {
        board.add(
            "cert.ends-soon",
            &case.at("not_after"),
            window.describe(now),
        );
    }
    length(case, window, board);
    if let chain::Issuer::Found(issuer) = &case.issuer
        && !issuer.validity.covers(window)
    {
        let theirs = &issuer.validity;
        let message = format!(
            "valid {} to {}, its issuer {} to {}",
            window.not_before, window.not_after, theirs.not_before, theirs.not_after
        );
        board.add(
            "cert.validity-outside-issuer",
            &case.at("not_after"),
            message,
        );
    }
}

fn length(case: &Case<'_>, window: &Validity, board: &mut Board) {
    let at = case.at("not_after");
    if window.not_after == UtcTime::NO_EXPIRY {
        board.add("cert.no-expiry", &at, "it ends on 9999-12-31T23:59:59Z");
    } else if window.not_after.to_offset().year() == 9999 {
        board.add(
            "cert.no-expiry-form",
            &at,
            format!("it ends on {}", window.not_after),
        );
    } else if !case.role.is_ca() && window.not_after.since(window.not_before) > LONG {
        let years = window.not_after.since(window.not_before).as_seconds() / (365 * 86_400);
        board.add(
            "cert.validity-long",
            &at,
            format!("valid for {years} years"),
        );
    }
}

/// The two times as they are encoded, which parsers do not keep.
fn encoding(case: &Case<'_>, board: &mut Board) {
    let window = &case.certificate.validity;
    let Some(times) = encoded(case.x509.tbs_certificate.as_ref()) else {
        return;
    };
    let places = [
        ("not_before", window.not_before),
        ("not_after", window.not_after),
    ];
    for ((field, at), (tag, text)) in places.into_iter().zip(times) {
        if let Some(problem) = time_problem(tag, text, at) {
            let text: String = String::from_utf8_lossy(text).chars().take(40).collect();
            board.add(
                "cert.time-encoding",
                &case.at(field),
                format!("`{text}`: {problem}"),
            );
        }
    }
}

const UTC_TIME: u32 = 23;
const GENERALIZED_TIME: u32 = 24;

/// Tag and characters of notBefore and notAfter in a TBSCertificate.
fn encoded(tbs: &[u8]) -> Option<[(u32, &[u8]); 2]> {
    use x509_parser::asn1_rs::Any;
    let (_, tbs) = Any::from_der(tbs).ok()?;
    let mut rest = tbs.data;
    let mut index = 0;
    // version (absent in v1), serialNumber, signature, issuer, validity
    while let Ok((after, element)) = Any::from_der(rest) {
        let tag = element.header.tag().0;
        let explicit_version = element.header.is_contextspecific() && tag == 0;
        if !explicit_version {
            index += 1;
        }
        if index == 4 {
            let (after, first) = Any::from_der(element.data).ok()?;
            let (_, second) = Any::from_der(after).ok()?;
            let one = |any: &Any<'_>| any.header.tag().0;
            return Some([(one(&first), first.data), (one(&second), second.data)]);
        }
        rest = after;
    }
    None
}

fn time_problem(tag: u32, text: &[u8], at: UtcTime) -> Option<&'static str> {
    let digits = |n: usize| {
        text.len() == n + 1 && text[..n].iter().all(u8::is_ascii_digit) && text[n] == b'Z'
    };
    match tag {
        UTC_TIME if !digits(12) => Some("UTCTime must read YYMMDDHHMMSSZ"),
        GENERALIZED_TIME if !digits(14) => Some("GeneralizedTime must read YYYYMMDDHHMMSSZ"),
        GENERALIZED_TIME if at.to_offset().year() < 2050 => {
            Some("times up to 2049 must be UTCTime")
        }
        UTC_TIME | GENERALIZED_TIME => None,
        _ => Some("neither UTCTime nor GeneralizedTime"),
    }
}
