//! Names in certificates, and what name constraints say of them (RFC 5280 §4.2.1.6, §4.2.1.10).

use std::fmt;

use crate::core::der::{self, Element};
use crate::core::dn::Dn;

/// A `GeneralName`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum General<'a> {
    /// dNSName.
    Dns(&'a str),
    /// rfc822Name.
    Email(&'a str),
    /// uniformResourceIdentifier.
    Uri(&'a str),
    /// iPAddress: 4 or 16 bytes, in a constraint twice as many.
    Ip(&'a [u8]),
    /// directoryName.
    Directory(Dn),
    /// Any other kind, by its tag number.
    Other(u8),
}

/// Reads `GeneralNames` (a `SEQUENCE`, at least one); `None` when it is none.
pub(super) fn general_names(value: &[u8]) -> Option<Vec<General<'_>>> {
    let (sequence, rest) = der::first(value)?;
    let elements = der::children(sequence.content)?;
    let whole = sequence.tag == 0x30 && rest.is_empty() && !elements.is_empty();
    let all = elements.into_iter().map(General::read);
    whole.then(|| all.collect()).flatten()
}

impl<'a> General<'a> {
    pub(super) fn read(element: Element<'a>) -> Option<Self> {
        let ascii = |bytes: &'a [u8]| std::str::from_utf8(bytes).ok().filter(|t| t.is_ascii());
        Some(match element.tag {
            0x81 => Self::Email(ascii(element.content)?),
            0x82 => Self::Dns(ascii(element.content)?),
            0x86 => Self::Uri(ascii(element.content)?),
            0x87 => Self::Ip(element.content),
            0xa4 => Self::Directory(Dn::parse(element.content)?),
            0xa0 | 0xa3 | 0xa5 | 0x88 => Self::Other(element.tag & 0x1f),
            _ => return None,
        })
    }

    fn is_same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Other(a), Self::Other(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// What is wrong with its form, as a name of a subject.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let bad = match self {
            Self::Dns(name) => !is_dns_pattern(name),
            Self::Email(mail) => !is_mailbox(mail),
            Self::Ip(bytes) => !matches!(bytes.len(), 4 | 16),
            _ => false,
        };
        bad.then_some("is not formed as its kind must be")
    }

    /// Whether nothing can be said of it when its kind is constrained.
    fn is_unclear(&self) -> bool {
        match self {
            Self::Other(_) => true,
            Self::Uri(uri) => uri_host(uri).is_none(),
            _ => self.fault().is_some(),
        }
    }
}

impl fmt::Display for General<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{name}"),
            Self::Email(mail) => write!(f, "email:{mail}"),
            Self::Uri(uri) => write!(f, "URI:{uri}"),
            Self::Ip(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                (Ok(v4), _) => write!(f, "IP:{}", std::net::Ipv4Addr::from(v4)),
                (_, Ok(v6)) => write!(f, "IP:{}", std::net::Ipv6Addr::from(v6)),
                _ => write!(f, "IP:#{}", crate::core::ids::hex(bytes)),
            },
            Self::Directory(_) => f.write_str("a directory name"),
            Self::Other(tag) => write!(f, "a name of kind {tag}"),
        }
    }
}

/// A DNS name, or `*.` and one; letters, digits, hyphens and underscores, which many names have
/// that are no host's.
fn is_dns_pattern(name: &str) -> bool {
    is_dns(name.strip_prefix("*.").unwrap_or(name))
}

pub(super) fn is_dns(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn is_mailbox(mail: &str) -> bool {
    mail.split_once('@')
        .is_some_and(|(local, host)| !local.is_empty() && is_dns(host))
}

/// nameConstraints.
#[derive(Clone, Debug)]
pub(super) struct Constraints<'a> {
    permitted: Vec<General<'a>>,
    excluded: Vec<General<'a>>,
}

/// Why a name is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// In an excluded subtree.
    Excluded,
    /// In none of the permitted subtrees of its kind.
    NotPermitted,
    /// Not formed as its kind must be, or of a kind whose constraints are not processed here.
    Unclear,
}

impl<'a> Constraints<'a> {
    /// Reads the extension's value.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn parse(value: &'a [u8]) -> Result<Self, &'static str> {
        const FORM: &str = "it is not the DER of name constraints";
        let (sequence, rest) = der::first(value).ok_or(FORM)?;
        if sequence.tag != 0x30 || !rest.is_empty() {
            return Err(FORM);
        }
        let mut both = Self {
            permitted: Vec::new(),
            excluded: Vec::new(),
        };
        let mut before = 0;
        for part in der::children(sequence.content).ok_or(FORM)? {
            if !matches!(part.tag, 0xa0 | 0xa1) || part.tag <= before {
                return Err(FORM);
            }
            before = part.tag;
            let list = if part.tag == 0xa0 {
                &mut both.permitted
            } else {
                &mut both.excluded
            };
            for subtree in der::children(part.content).ok_or(FORM)? {
                list.push(base(subtree)?);
            }
            if list.is_empty() {
                return Err("a list of subtrees is empty");
            }
        }
        if before == 0 {
            return Err("it holds no subtrees");
        }
        Ok(both)
    }

    /// Whether a base is written with a leading period, which RFC 5280 has for hosts in URIs and
    /// mail alone, and many take for DNS names too.
    pub(super) fn has_dotted_dns(&self) -> bool {
        let dotted =
            |base: &General<'_>| matches!(base, General::Dns(text) if text.starts_with('.'));
        self.permitted.iter().chain(&self.excluded).any(dotted)
    }

    /// Whether `name` may stand below the CA that has these constraints. Takes one from `budget`
    /// for each comparison, and says [`Refusal::Unclear`] when it is used up.
    pub(super) fn refuse(&self, name: &General<'_>, budget: &mut usize) -> Option<Refusal> {
        let mut tell = |bases: &[General<'_>], way: Way| -> Option<(usize, bool)> {
            *budget = budget.checked_sub(bases.len())?;
            let same = bases.iter().filter(|base| base.is_same_kind(name));
            let count = same.clone().count();
            Some((count, same.into_iter().any(|base| within(base, name, way))))
        };
        let Some((excluded, hit)) = tell(&self.excluded, Way::Touches) else {
            return Some(Refusal::Unclear);
        };
        let Some((permitted, inside)) = tell(&self.permitted, Way::Inside) else {
            return Some(Refusal::Unclear);
        };
        if excluded + permitted > 0 && name.is_unclear() {
            Some(Refusal::Unclear)
        } else if hit {
            Some(Refusal::Excluded)
        } else {
            (permitted > 0 && !inside).then_some(Refusal::NotPermitted)
        }
    }
}

/// A `GeneralSubtree`; minimum and maximum are not used by RFC 5280, and refused.
fn base(subtree: Element<'_>) -> Result<General<'_>, &'static str> {
    let parts = der::children(subtree.content).ok_or("a subtree is not DER")?;
    let [name] = parts[..] else {
        return Err("a subtree has a minimum or maximum");
    };
    let base = General::read(name).ok_or("a subtree's base is no name")?;
    let good = match &base {
        General::Dns(text) => {
            let host = text.strip_prefix('.').unwrap_or(text);
            text.is_empty() || is_dns(host)
        }
        General::Email(text) if text.contains('@') => is_mailbox(text),
        General::Email(text) | General::Uri(text) => is_dns(text.strip_prefix('.').unwrap_or(text)),
        General::Ip(bytes) => matches!(bytes.len(), 8 | 32),
        General::Directory(_) | General::Other(_) => true,
    };
    if good {
        Ok(base)
    } else {
        Err("a subtree's base is malformed")
    }
}

/// What a wildcard name has to do with a subtree.
#[derive(Clone, Copy)]
enum Way {
    /// All names that it stands for lie inside.
    Inside,
    /// Any of them does.
    Touches,
}

fn within(base: &General<'_>, name: &General<'_>, way: Way) -> bool {
    match (base, name) {
        (General::Dns(base), General::Dns(name)) => dns_within(base, name, way),
        (General::Email(base), General::Email(mail)) => mail_within(base, mail),
        (General::Uri(base), General::Uri(uri)) => {
            uri_host(uri).is_some_and(|host| host_within(base, host))
        }
        (General::Ip(base), General::Ip(address)) => {
            let (network, mask) = base.split_at(base.len() / 2);
            network.len() == address.len()
                && (0..mask.len()).all(|n| (network[n] ^ address[n]) & mask[n] == 0)
        }
        (General::Directory(base), General::Directory(name)) => name.is_within(base),
        _ => false,
    }
}

fn dns_within(base: &str, name: &str, way: Way) -> bool {
    let (base, name) = (base.to_ascii_lowercase(), name.to_ascii_lowercase());
    let Some(parent) = name.strip_prefix("*.") else {
        return below(&base, &name);
    };
    // Each name that the wildcard stands for is one label longer than its parent.
    let all = below(&base, parent) || base.strip_prefix('.') == Some(parent);
    match way {
        Way::Inside => all,
        Way::Touches => {
            let one = base.split_once('.').is_some_and(|(_, rest)| rest == parent);
            all || one
        }
    }
}

/// Itself and what is below it; with a leading period only what is below it.
fn below(base: &str, name: &str) -> bool {
    match base.strip_prefix('.') {
        _ if base.is_empty() => true,
        Some(_) => name.len() > base.len() && name.ends_with(base),
        None => {
            let rest = name.strip_suffix(base);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        }
    }
}

/// A host is meant exactly, `.domain` means every host below it.
fn host_within(base: &str, host: &str) -> bool {
    let (base, host) = (base.to_ascii_lowercase(), host.to_ascii_lowercase());
    if base.starts_with('.') {
        below(&base, &host)
    } else {
        base == host
    }
}

fn mail_within(base: &str, mail: &str) -> bool {
    let Some((local, host)) = mail.split_once('@') else {
        return false;
    };
    match base.split_once('@') {
        // The local part is the host's own business, its case too.
        Some((one, at)) => one == local && at.eq_ignore_ascii_case(host),
        None => host_within(base, host),
    }
}

/// The host in a URI's authority; `None` without one, and for an address.
fn uri_host(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
    let host = host.split(':').next()?;
    let address = host.parse::<std::net::Ipv4Addr>().is_ok();
    (is_dns(host) && !address).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(
        permitted: &[General<'_>],
        excluded: &[General<'_>],
        name: &General<'_>,
    ) -> Option<Refusal> {
        let constraints = Constraints {
            permitted: permitted.to_vec(),
            excluded: excluded.to_vec(),
        };
        constraints.refuse(name, &mut 1_000)
    }

    #[test]
    fn names_lie_inside_or_outside_their_subtrees() {
        use General::{Dns, Email, Ip, Uri};
        let net: &[u8] = &[192, 0, 2, 0, 255, 255, 255, 0];
        for (base, name, inside) in [
            (Dns("example.com"), Dns("example.com"), true),
            (Dns("example.com"), Dns("A.Example.com"), true),
            (Dns("example.com"), Dns("badexample.com"), false),
            (Dns(".example.com"), Dns("example.com"), false),
            (Dns(".example.com"), Dns("a.example.com"), true),
            (Dns(".example.com"), Dns("*.example.com"), true),
            (Dns(""), Dns("anything.test"), true),
            (Dns("example.com"), Dns("*.example.com"), true),
            (Dns("foo.example.com"), Dns("*.example.com"), false),
            (Email("example.com"), Email("a@EXAMPLE.com"), true),
            (Email("example.com"), Email("a@b.example.com"), false),
            (Email(".example.com"), Email("a@b.example.com"), true),
            (Email("a@example.com"), Email("A@example.com"), false),
            (Email("*@example.com"), Email("user@example.com"), false),
            (
                Uri("example.com"),
                Uri("https://u@example.com:8443/x"),
                true,
            ),
            (Uri(".example.com"), Uri("mqtt://a.example.com"), true),
            (Uri("example.com"), Uri("urn:example:com"), false),
            (Ip(net), Ip(&[192, 0, 2, 9]), true),
            (Ip(net), Ip(&[192, 0, 3, 9]), false),
            (Ip(net), Ip(&[0; 16]), false),
        ] {
            let said = refusal(std::slice::from_ref(&base), &[], &name);
            assert_eq!(said.is_none(), inside, "{base} {name} {said:?}");
        }
    }

    #[test]
    fn an_excluded_subtree_wins_and_wildcards_may_not_reach_into_it() {
        use General::{Dns, Ip, Other};
        let all = [Dns("example.com")];
        let out = [Dns("bar.example.com")];
        for (name, expected) in [
            (Dns("foo.example.com"), None),
            (Dns("bar.example.com"), Some(Refusal::Excluded)),
            (Dns("*.example.com"), Some(Refusal::Excluded)),
            (Dns("*.foo.example.com"), None),
            (Dns("example.org"), Some(Refusal::NotPermitted)),
            (Dns(".example.com"), Some(Refusal::Unclear)),
            (Ip(&[1]), None),
        ] {
            assert_eq!(refusal(&all, &out, &name), expected, "{name}");
        }
        assert_eq!(refusal(&[], &[Other(0)], &Other(0)), Some(Refusal::Unclear));
        assert_eq!(refusal(&[], &[Other(0)], &Other(8)), None);
        let constraints = Constraints {
            permitted: all.to_vec(),
            excluded: Vec::new(),
        };
        let said = constraints.refuse(&Dns("example.com"), &mut 0);
        assert_eq!(said, Some(Refusal::Unclear));
    }

    #[test]
    fn malformed_constraints_are_refused() {
        use crate::core::der::tlv;
        let of = |tag: u8, base: &[u8]| tlv(0x30, &[&tlv(tag, &[&tlv(0x30, &[base])])]);
        let dns = |text: &str| of(0xa0, &tlv(0x82, &[text.as_bytes()]));
        assert!(Constraints::parse(&dns("example.com")).is_ok());
        assert!(Constraints::parse(&of(0xa1, &tlv(0x87, &[&[0; 8]]))).is_ok());
        for bad in [
            dns("*.example.com"),
            dns("a b"),
            of(0xa0, &tlv(0x81, &[b"a@b@example.com"])),
            of(0xa0, &tlv(0x87, &[&[127, 0, 0, 1]])),
            of(0xa2, &tlv(0x82, &[b"example.com"])),
            tlv(0x30, &[]),
            tlv(0x30, &[&tlv(0xa0, &[])]),
            tlv(0x30, &[&[5, 0]]),
            vec![0x30],
        ] {
            assert!(Constraints::parse(&bad).is_err(), "{bad:02x?}");
        }
    }
}
