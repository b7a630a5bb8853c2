//! What becomes of what a request asks for: granted, left out because somebody said so, or refused.
//! Nothing that is asked for disappears without a word.
//!
//! | asked for | nothing said | `csr` | `profile` |
//! |---|---|---|---|
//! | subject | granted, if it is the one named by flag or profile; else if its common name is the device's | granted | left out |
//! | no subject | that of flag or profile, or `CN=NAME` | refused | that of flag or profile |
//! | alternative names | granted, if they are those named by flag or profile, or none are | granted | left out |
//! | extended key usage | granted, if it is the profile's | granted: client, server or both | left out |
//! | keyUsage | granted, if it is the profile's | granted, but for a CA's bits | left out |
//! | CA:FALSE | granted | granted | granted |
//! | anything else | refused | refused | left out |
//!
//! Whether an extension is critical is decided here, not by the request.

use super::{Ask, Csr, CsrError};
use crate::core::draft::extras::{self, Extras};
use crate::core::draft::{self, Purpose};
use crate::core::subject::Subject;

/// Whose word counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// The request's.
    Csr,
    /// Flags and profile.
    Profile,
}

/// Whose word counts where both speak; `None` when nobody said: then they must agree.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rules {
    /// For the subject.
    pub subject: Option<Source>,
    /// For everything else.
    pub extensions: Option<Source>,
}

/// What flags and profile say.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The device's name.
    pub device: &'a str,
    /// The subject, `CN=NAME` when nobody named one.
    pub subject: Subject,
    /// Whether flag or profile names the subject.
    pub subject_said: bool,
    /// Alternative names that flag or profile names.
    pub alternative_names: Vec<String>,
    /// What the certificate is for.
    pub purpose: Purpose,
    /// Usages and extensions beyond the purpose's.
    pub extras: Extras,
}

/// What the certificate will say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settled {
    /// Its subject.
    pub subject: Subject,
    /// Its purpose.
    pub purpose: Purpose,
    /// Usages and extensions beyond the purpose's.
    pub extras: Extras,
    /// Its alternative names.
    pub alternative_names: Vec<String>,
    /// What the request asked for and does not get.
    pub left_out: Vec<String>,
}

/// Decides.
///
/// # Errors
/// `csr.unmet` with everything that is asked for and neither granted nor left out by a rule.
pub fn settle(csr: &Csr, wanted: &Wanted<'_>, rules: Rules) -> Result<Settled, CsrError> {
    let mut desk = Desk {
        rules,
        left_out: Vec::new(),
        unmet: Vec::new(),
    };
    let subject = desk.subject(csr, wanted);
    let mut names = canonical(&wanted.alternative_names);
    let mut usage = (wanted.purpose, wanted.extras.clone());
    for ask in &csr.asks {
        match ask {
            Ask::AlternativeNames(asked) => names = desk.names(ask, asked, names),
            Ask::ExtendedKeyUsage(asked) => desk.purpose(ask, asked, &mut usage),
            Ask::KeyUsage(bits) => desk.key_usage(ask, bits, &mut usage.1),
            Ask::BasicConstraints(false) => {}
            Ask::BasicConstraints(true) | Ask::Extension(_) | Ask::Attribute(_) => {
                desk.decline(ask.to_string(), "which is not given here");
            }
        }
    }
    if desk.unmet.is_empty() {
        Ok(Settled {
            subject,
            purpose: usage.0,
            extras: usage.1,
            alternative_names: names,
            left_out: desk.left_out,
        })
    } else {
        Err(CsrError::Unmet(desk.unmet))
    }
}

/// Where what is not granted is gathered.
struct Desk {
    rules: Rules,
    left_out: Vec<String>,
    unmet: Vec<String>,
}

impl Desk {
    fn subject(&mut self, csr: &Csr, wanted: &Wanted<'_>) -> Subject {
        let (asked, ours) = (&csr.subject, &wanted.subject);
        let empty = asked.attributes().is_empty();
        match self.rules.subject {
            Some(Source::Csr) if empty => {
                self.unmet.push("it names no subject to take".to_owned());
            }
            Some(Source::Profile) => {
                if !empty && asked != ours {
                    self.left_out.push(format!("subject {asked}"));
                }
                return ours.clone();
            }
            None if empty || asked == ours => return ours.clone(),
            None if wanted.subject_said => self.unmet.push(format!(
                "subject `{asked}`, while flag or profile say `{ours}`"
            )),
            None if asked.first("CN") != Some(wanted.device) => self.unmet.push(format!(
                "subject `{asked}`, whose common name is not the device's, `{}`",
                wanted.device
            )),
            None | Some(Source::Csr) => {}
        }
        if let Some(fault) = &csr.subject_fault {
            self.unmet
                .push(format!("subject `{asked}`, which cannot be kept: {fault}"));
        }
        asked.clone()
    }

    fn names(&mut self, ask: &Ask, asked: &[String], wanted: Vec<String>) -> Vec<String> {
        let same = sorted(asked) == sorted(&wanted);
        let keep = same
            || match self.rules.extensions {
                Some(Source::Csr) => true,
                Some(Source::Profile) => false,
                None => wanted.is_empty(),
            };
        if !keep {
            self.decline(
                ask.to_string(),
                &format!("while flag or profile say {}", wanted.join(", ")),
            );
            return wanted;
        }
        let unsayable = |name: &&String| draft::check_alternative_name(name).is_err();
        if let Some(name) = asked.iter().find(unsayable) {
            self.unmet.push(format!(
                "the alternative name `{name}`, of a kind not given here"
            ));
        }
        asked.to_vec()
    }

    fn purpose(&mut self, ask: &Ask, asked: &[String], usage: &mut (Purpose, Extras)) {
        if sorted(asked) == sorted(&usage.1.usages(usage.0)) {
            return;
        }
        match Purpose::of_usages(asked) {
            Some(purpose) if self.rules.extensions == Some(Source::Csr) => {
                usage.0 = purpose;
                usage.1.extended_key_usage.clear();
            }
            Some(_) => self.decline(ask.to_string(), "which is not the profile's purpose"),
            None => self.decline(ask.to_string(), "which is not given here"),
        }
    }

    fn key_usage(&mut self, ask: &Ask, bits: &[&'static str], extras: &mut Extras) {
        let same =
            bits.len() == extras.bits().len() && bits.iter().all(|bit| extras.bits().contains(bit));
        let givable = bits.iter().all(|bit| extras::key_usage(bit).is_some());
        if same {
            return;
        }
        if givable && !bits.is_empty() && self.rules.extensions == Some(Source::Csr) {
            extras.key_usage = bits.to_vec();
        } else {
            let ours = extras.bits().join(", ");
            self.decline(ask.to_string(), &format!("while the profile says {ours}"));
        }
    }

    /// Left out if somebody said so, else refused.
    fn decline(&mut self, what: String, why: &str) {
        if self.rules.extensions == Some(Source::Profile) {
            self.left_out.push(what);
        } else {
            self.unmet.push(format!("{what}, {why}"));
        }
    }
}

/// As certificates show them; what cannot be read stays as it is and is refused by the draft.
fn canonical(names: &[String]) -> Vec<String> {
    let shown = |name: &String| draft::shown_alternative_name(name).unwrap_or(name.clone());
    names.iter().map(shown).collect()
}

fn sorted(names: &[String]) -> Vec<&String> {
    let mut names: Vec<&String> = names.iter().collect();
    names.sort();
    names
}
