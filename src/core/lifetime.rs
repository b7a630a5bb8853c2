//! From when to when a certificate is valid: what was asked, against the clock and the CA.

use crate::core::time::{Span, TimeError, UtcTime, Validity};
use crate::explain::{Explain, Kind};

/// What to do with a certificate that would outlive its CA.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnCaExpiry {
    /// Refuse.
    #[default]
    Fail,
    /// Cut it to the CA's last second.
    Clamp,
}

/// A window as asked for; texts are as [`UtcTime::parse_relative`] reads them.
#[derive(Clone, Debug)]
pub struct Lifetime {
    /// The first valid second.
    pub not_before: Option<String>,
    /// The last valid second.
    pub not_after: Option<String>,
    /// Length; from `not_before` when that is given, else from now.
    pub span: Span,
    /// How far before now the window begins when nothing else is said: a device's clock may lag.
    pub backdate: Span,
    /// What to do when the CA ends first.
    pub on_ca_expiry: OnCaExpiry,
}

impl Lifetime {
    /// The window in whole seconds. Fractions of a second that were given are cut off. A default
    /// beginning is moved to the CA's, one that was asked for is not.
    ///
    /// # Errors
    /// `time.syntax`, `lifetime.*`.
    pub fn resolve(&self, now: UtcTime, ca: Option<&Validity>) -> Result<Validity, LifetimeError> {
        let read = |text: &String| UtcTime::parse_relative(text, now);
        let asked_begin = self.not_before.as_ref().map(read).transpose()?;
        let mut not_before = asked_begin.unwrap_or_else(|| now.minus(self.backdate));
        let mut not_after = match &self.not_after {
            Some(text) => read(text)?,
            None => asked_begin.unwrap_or(now).plus(self.span),
        };
        if let Some(ca) = ca {
            if asked_begin.is_none() {
                not_before = not_before.max(ca.not_before);
            }
            if not_before < ca.not_before {
                return Err(LifetimeError::BeforeCa {
                    not_before,
                    ca: ca.not_before,
                });
            }
            if not_after > ca.not_after {
                if self.on_ca_expiry == OnCaExpiry::Fail {
                    return Err(LifetimeError::AfterCa {
                        not_after,
                        ca: ca.not_after,
                    });
                }
                not_after = ca.not_after;
            }
        }
        if not_after < not_before {
            return Err(LifetimeError::Empty {
                not_before,
                not_after,
            });
        }
        Ok(Validity {
            not_before,
            not_after,
        })
    }
}

/// A window that cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum LifetimeError {
    /// Outlives the CA.
    #[error("the certificate would be valid until {not_after}, its CA only until {ca}")]
    AfterCa {
        /// Asked.
        not_after: UtcTime,
        /// The CA's end.
        ca: UtcTime,
    },
    /// Begins before the CA.
    #[error("the certificate would be valid from {not_before}, its CA only from {ca}")]
    BeforeCa {
        /// Asked.
        not_before: UtcTime,
        /// The CA's beginning.
        ca: UtcTime,
    },
    /// Ends before it begins.
    #[error("the certificate would end at {not_after} before it begins at {not_before}")]
    Empty {
        /// The beginning.
        not_before: UtcTime,
        /// The end.
        not_after: UtcTime,
    },
    /// Over before it is signed.
    #[error("the certificate would be over already: it would end at {0}")]
    Over(UtcTime),
    /// Not a time.
    #[error(transparent)]
    Time(#[from] TimeError),
}

impl Explain for LifetimeError {
    fn kind(&self) -> Kind {
        match self {
            Self::Over(_) => Kind::Refused,
            _ => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::AfterCa { .. } => "lifetime.after-ca",
            Self::BeforeCa { .. } => "lifetime.before-ca",
            Self::Empty { .. } => "lifetime.empty",
            Self::Over(_) => "lifetime.over",
            Self::Time(error) => error.code(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::AfterCa { .. } => Some(
                "ask for fewer --days, or cut it to the CA's end with --on-ca-expiry clamp".into(),
            ),
            Self::Over(_) => {
                Some("name a later end; for a test, say that you mean it: --flaw expired".into())
            }
            Self::BeforeCa { ca, .. } => Some(format!("use --not-before {ca} or later")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UtcTime {
        text.parse().unwrap()
    }

    fn asked(not_before: Option<&str>, not_after: Option<&str>, clamp: bool) -> Lifetime {
        Lifetime {
            not_before: not_before.map(Into::into),
            not_after: not_after.map(Into::into),
            span: Span::days(365),
            backdate: Span::seconds(3_600),
            on_ca_expiry: if clamp {
                OnCaExpiry::Clamp
            } else {
                OnCaExpiry::Fail
            },
        }
    }

    #[test]
    fn windows_lie_inside_their_ca() {
        let now = at("2026-06-01");
        let ca = Validity {
            not_before: at("2026-06-01"),
            not_after: at("2027-01-01"),
        };
        let resolve = |lifetime: Lifetime| {
            lifetime
                .resolve(now, Some(&ca))
                .map(|window| (window.not_before.to_string(), window.not_after.to_string()))
                .map_err(|e| e.code())
        };
        let until = |end: &str| Ok(("2026-06-01T00:00:00Z".to_owned(), end.to_owned()));
        assert_eq!(resolve(asked(None, None, false)), Err("lifetime.after-ca"));
        assert_eq!(
            resolve(asked(None, None, true)),
            until("2027-01-01T00:00:00Z")
        );
        assert_eq!(
            resolve(asked(None, Some("+1d"), false)),
            until("2026-06-02T00:00:00Z")
        );
        assert_eq!(
            resolve(asked(Some("-1h"), Some("+1d"), false)),
            Err("lifetime.before-ca")
        );
        assert_eq!(
            resolve(asked(Some("+2d"), Some("+1d"), false)),
            Err("lifetime.empty")
        );
        assert_eq!(
            resolve(asked(None, Some("soon"), false)),
            Err("time.syntax")
        );
    }

    #[test]
    fn a_window_without_a_ca_is_backdated_and_keeps_its_length_from_now() {
        let now = at("2026-06-01");
        let window = asked(None, None, false).resolve(now, None).unwrap();
        assert_eq!(window.not_before, now.minus(Span::seconds(3_600)));
        assert_eq!(window.not_after, now.plus(Span::days(365)));
    }
}
