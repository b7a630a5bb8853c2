//! The variables and condition keys that AWS IoT documents, by what they are about.

/// What a key is about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// The certificate that the connection was made with.
    Certificate,
    /// What a CONNECT asks for; known for `iot:Connect` alone.
    Connect,
    /// The connection itself: client id, domain.
    Connection,
    /// Where the connection comes from.
    Network,
    /// The thing that the connection stands for.
    Thing,
}

/// A documented key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Known {
    /// As documented.
    pub name: &'static str,
    /// What it is about.
    pub family: Family,
    /// It has several values: it belongs under `ForAllValues` or `ForAnyValue`, and nothing can
    /// take its place in a text.
    pub many: bool,
}

/// Subject and issuer attributes: the policy's name and the dotted OID.
pub(super) const CERTIFICATE_ATTRIBUTES: [(&str, &str); 13] = [
    ("DistinguishedNameQualifier", "2.5.4.46"),
    ("Country", "2.5.4.6"),
    ("Organization", "2.5.4.10"),
    ("OrganizationalUnit", "2.5.4.11"),
    ("State", "2.5.4.8"),
    ("CommonName", "2.5.4.3"),
    ("SerialNumber", "2.5.4.5"),
    ("Title", "2.5.4.12"),
    ("Surname", "2.5.4.4"),
    ("GivenName", "2.5.4.42"),
    ("Initials", "2.5.4.43"),
    ("Pseudonym", "2.5.4.65"),
    ("GenerationQualifier", "2.5.4.44"),
];

/// What follows `iot:Certificate.Subject.AlternativeName.` and the issuer's.
pub(super) const ALTERNATIVE_NAMES: [&str; 5] = [
    "RFC822Name",
    "DNSName",
    "DirectoryName",
    "UniformResourceIdentifier",
    "IPAddress",
];

const fn known(name: &'static str, family: Family, many: bool) -> Known {
    Known { name, family, many }
}

/// Every key but those of subject and issuer, and `Attributes[…]`.
const SINGLE: [Known; 14] = [
    known("aws:SourceIp", Family::Network, false),
    known("aws:SourceVpc", Family::Network, false),
    known("aws:SourceVpce", Family::Network, false),
    known("aws:VpcSourceIp", Family::Network, false),
    known("iot:Certificate.AvailableKeys", Family::Certificate, true),
    known("iot:Certificate.SerialNumber", Family::Certificate, false),
    known("iot:ClientId", Family::Connection, false),
    known("iot:ConnectAttributes", Family::Connect, true),
    known("iot:Connection.Thing.IsAttached", Family::Thing, false),
    known("iot:Connection.Thing.ThingName", Family::Thing, false),
    known("iot:Connection.Thing.ThingTypeName", Family::Thing, false),
    known("iot:DomainName", Family::Connection, false),
    known("iot:LastWillTopic", Family::Connect, false),
    known(ATTRIBUTES, Family::Thing, false),
];

const ATTRIBUTES: &str = "iot:Connection.Thing.Attributes[…]";
const ATTRIBUTE_PREFIX: &str = "iot:connection.thing.attributes[";
/// Names of thing variables in old examples.
const STALE_PREFIX: &str = "iot:thing.";

/// What is documented of this key, in whatever case; also of `….3` and `….List`.
pub fn find(key: &str) -> Option<Known> {
    let folded = key.to_ascii_lowercase();
    if let Some(name) = folded.strip_prefix(ATTRIBUTE_PREFIX) {
        let whole = name.len() > 1 && name.ends_with(']');
        return whole.then_some(SINGLE[SINGLE.len() - 1]);
    }
    let (base, suffix) = split_suffix(&folded);
    if let Some(found) = repeated(base) {
        return Some(Known {
            many: matches!(suffix, Suffix::List),
            ..found
        });
    }
    let found = SINGLE.iter().find(|known| same(known.name, &folded));
    found.copied()
}

fn same(name: &str, folded: &str) -> bool {
    name.eq_ignore_ascii_case(folded)
}

/// `….3` and `….List`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Suffix {
    None,
    Index(usize),
    List,
}

/// A key in lower case without its index or `.list`.
pub(super) fn split_suffix(folded: &str) -> (&str, Suffix) {
    let Some((base, last)) = folded.rsplit_once('.') else {
        return (folded, Suffix::None);
    };
    match last.parse() {
        Ok(index) if last.len() <= 3 => (base, Suffix::Index(index)),
        _ if last == "list" => (base, Suffix::List),
        _ => (folded, Suffix::None),
    }
}

/// The attributes of subject and issuer, which may have several values.
fn repeated(folded: &str) -> Option<Known> {
    let rest = folded.strip_prefix("iot:certificate.")?;
    let (side, rest) = rest.split_once('.')?;
    if side != "subject" && side != "issuer" {
        return None;
    }
    let there = match rest.strip_prefix("alternativename.") {
        Some(name) => ALTERNATIVE_NAMES.iter().any(|known| same(known, name)),
        None => CERTIFICATE_ATTRIBUTES.iter().any(|row| same(row.0, rest)),
    };
    let name = all_names().find(|name| same(name, folded));
    there.then(|| known(name.unwrap_or(""), Family::Certificate, false))
}

/// Every documented name; for thing attributes one with `…` in brackets.
pub fn all_names() -> impl Iterator<Item = &'static str> {
    SINGLE.iter().map(|known| known.name).chain(REPEATED)
}

const REPEATED: [&str; 36] = [
    "iot:Certificate.Issuer.AlternativeName.DNSName",
    "iot:Certificate.Issuer.AlternativeName.DirectoryName",
    "iot:Certificate.Issuer.AlternativeName.IPAddress",
    "iot:Certificate.Issuer.AlternativeName.RFC822Name",
    "iot:Certificate.Issuer.AlternativeName.UniformResourceIdentifier",
    "iot:Certificate.Issuer.CommonName",
    "iot:Certificate.Issuer.Country",
    "iot:Certificate.Issuer.DistinguishedNameQualifier",
    "iot:Certificate.Issuer.GenerationQualifier",
    "iot:Certificate.Issuer.GivenName",
    "iot:Certificate.Issuer.Initials",
    "iot:Certificate.Issuer.Organization",
    "iot:Certificate.Issuer.OrganizationalUnit",
    "iot:Certificate.Issuer.Pseudonym",
    "iot:Certificate.Issuer.SerialNumber",
    "iot:Certificate.Issuer.State",
    "iot:Certificate.Issuer.Surname",
    "iot:Certificate.Issuer.Title",
    "iot:Certificate.Subject.AlternativeName.DNSName",
    "iot:Certificate.Subject.AlternativeName.DirectoryName",
    "iot:Certificate.Subject.AlternativeName.IPAddress",
    "iot:Certificate.Subject.AlternativeName.RFC822Name",
    "iot:Certificate.Subject.AlternativeName.UniformResourceIdentifier",
    "iot:Certificate.Subject.CommonName",
    "iot:Certificate.Subject.Country",
    "iot:Certificate.Subject.DistinguishedNameQualifier",
    "iot:Certificate.Subject.GenerationQualifier",
    "iot:Certificate.Subject.GivenName",
    "iot:Certificate.Subject.Initials",
    "iot:Certificate.Subject.Organization",
    "iot:Certificate.Subject.OrganizationalUnit",
    "iot:Certificate.Subject.Pseudonym",
    "iot:Certificate.Subject.SerialNumber",
    "iot:Certificate.Subject.State",
    "iot:Certificate.Subject.Surname",
    "iot:Certificate.Subject.Title",
];

/// What replaced a thing variable of old examples, such as `iot:Thing.ThingName`.
pub fn successor(key: &str) -> Option<String> {
    let rest = key.get(STALE_PREFIX.len()..)?;
    let stale = same(STALE_PREFIX, &key[..STALE_PREFIX.len()]);
    let now = format!("iot:Connection.Thing.{rest}");
    (stale && find(&now).is_some()).then_some(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_names_are_found_in_any_case_with_their_suffixes() {
        for name in all_names().filter(|name| !name.contains('…')) {
            assert_eq!(find(name).unwrap().name, name);
            assert_eq!(find(&name.to_uppercase()).unwrap().name, name);
        }
        let list = find("iot:Certificate.Subject.Country.List").unwrap();
        assert!(list.many);
        assert!(!find("iot:Certificate.Subject.Country.2").unwrap().many);
        assert_eq!(
            find("iot:Connection.Thing.Attributes[a.b]").unwrap().family,
            Family::Thing
        );
        for wrong in [
            "",
            "iot:Certificate.Subject.Locality",
            "iot:Certificate.Subject.Country.",
            "iot:ClientId.1",
            "iot:Connection.Thing.Attributes[]",
            "iot:Connection.Thing.Attributes[a",
            "iot:Thing.ThingName",
            "iot:CertificateId",
        ] {
            assert_eq!(find(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn old_names_have_successors() {
        assert_eq!(
            successor("iot:Thing.ThingName").as_deref(),
            Some("iot:Connection.Thing.ThingName")
        );
        assert_eq!(
            successor("iot:thing.Attributes[Site]").as_deref(),
            Some("iot:Connection.Thing.Attributes[Site]")
        );
        for none in ["iot:Thing.Nope", "iot:Things.ThingName", "é", "iot:Thing."] {
            assert_eq!(successor(none), None, "{none}");
        }
    }
}
