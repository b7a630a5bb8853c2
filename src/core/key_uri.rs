//! Where a private key lives: in a file, in a PKCS#11 token (RFC 7512 URI) or in AWS KMS.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::explain::{Explain, Kind};

/// The place of one private key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyUri {
    /// A key file.
    File(PathBuf),
    /// `pkcs11:…`
    Pkcs11(Pkcs11Uri),
    /// `awskms:…`
    AwsKms(KmsUri),
}

/// A key in a PKCS#11 token (RFC 7512). What is `None` is not compared.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pkcs11Uri {
    /// CKA_LABEL of the token.
    pub token: Option<String>,
    /// Serial number of the token.
    pub serial: Option<String>,
    /// Manufacturer of the token.
    pub manufacturer: Option<String>,
    /// Model of the token.
    pub model: Option<String>,
    /// CKA_LABEL of the key.
    pub object: Option<String>,
    /// CKA_ID of the key.
    pub id: Option<Vec<u8>>,
    /// The module's library.
    pub module_path: Option<PathBuf>,
    /// The file that holds the PIN.
    pub pin_source: Option<PathBuf>,
}

/// A key in AWS KMS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KmsUri {
    /// Key id, `alias/NAME`, or the ARN of either.
    pub key: String,
    /// The Region, when the URI or the ARN names one.
    pub region: Option<String>,
}

impl KeyUri {
    /// Whether the key can be read as bytes here.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

impl FromStr for KeyUri {
    type Err = KeyUriError;

    fn from_str(text: &str) -> Result<Self, KeyUriError> {
        let scheme = |name: &str| {
            let (head, rest) = text.split_at_checked(name.len())?;
            head.eq_ignore_ascii_case(name).then_some(rest)
        };
        if let Some(rest) = scheme("pkcs11:") {
            return Pkcs11Uri::parse(rest).map(Self::Pkcs11);
        }
        if let Some(rest) = scheme("awskms:") {
            return KmsUri::parse(rest).map(Self::AwsKms);
        }
        match text.strip_prefix("file:").unwrap_or(text) {
            "" => Err(KeyUriError::Empty),
            path => Ok(Self::File(path.into())),
        }
    }
}

impl fmt::Display for KeyUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A name that reads as a URI keeps the scheme that says it is none.
            Self::File(path) if path.to_string_lossy().parse() != Ok(self.clone()) => {
                write!(f, "file:{}", path.display())
            }
            Self::File(path) => path.display().fmt(f),
            Self::Pkcs11(uri) => uri.fmt(f),
            Self::AwsKms(uri) => uri.fmt(f),
        }
    }
}

impl Pkcs11Uri {
    /// Whether a text is such a URI, and not the name of a file.
    pub fn is(text: &str) -> bool {
        let scheme = text.split_at_checked(7).map(|(scheme, _)| scheme);
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("pkcs11:"))
    }

    /// Reads the URI of a certificate in a token: as that of a key, with `type=cert` or no type.
    ///
    /// # Errors
    /// `key-uri.*`.
    pub fn of_certificate(text: &str) -> Result<Self, KeyUriError> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let mut seen = false;
        let path: Vec<&str> = path
            .split(';')
            .map(|part| match part.strip_prefix("pkcs11:").unwrap_or(part) {
                "type=cert" if !seen => {
                    seen = true;
                    part.strip_suffix("type=cert").unwrap_or(part)
                }
                _ => part,
            })
            .collect();
        match format!("{}?{query}", path.join(";")).parse()? {
            KeyUri::Pkcs11(uri) => Ok(uri),
            KeyUri::AwsKms(_) | KeyUri::File(_) => Err(KeyUriError::NoKey),
        }
    }

    fn parse(text: &str) -> Result<Self, KeyUriError> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let mut uri = Self::default();
        let mut seen = Vec::new();
        let parts = path.split(';').chain(query.split('&'));
        for part in parts.filter(|part| !part.is_empty()) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| KeyUriError::Attribute(part.to_owned()))?;
            if seen.contains(&name) {
                return Err(KeyUriError::Twice(name.to_owned()));
            }
            seen.push(name);
            uri.set(name, value)?;
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err(KeyUriError::NoKey);
        }
        Ok(uri)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), KeyUriError> {
        let text = || {
            String::from_utf8(percent_decode(value)?)
                .map_err(|_| KeyUriError::Percent(value.to_owned()))
        };
        match name {
            "token" => self.token = Some(text()?),
            "serial" => self.serial = Some(text()?),
            "manufacturer" => self.manufacturer = Some(text()?),
            "model" => self.model = Some(text()?),
            "object" => self.object = Some(text()?),
            "id" => self.id = Some(percent_decode(value)?),
            "module-path" => self.module_path = Some(text()?.into()),
            "pin-source" => self.pin_source = Some(pin_file(&text()?)?),
            "pin-value" => return Err(KeyUriError::PinValue),
            "type" if text()? == "private" => {}
            "type" => return Err(KeyUriError::Type(text()?)),
            _ => return Err(KeyUriError::Unknown(name.to_owned())),
        }
        Ok(())
    }
}

/// RFC 7512 §2.4: a `file:` URI or a path; `|command` is not run.
fn pin_file(value: &str) -> Result<PathBuf, KeyUriError> {
    let path = value.strip_prefix("file:").unwrap_or(value);
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.starts_with('|') {
        return Err(KeyUriError::PinSource(value.to_owned()));
    }
    Ok(path.into())
}

impl fmt::Display for Pkcs11Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |p: &PathBuf| p.to_string_lossy().into_owned();
        let before = [
            ("token", self.token.clone()),
            ("serial", self.serial.clone()),
            ("manufacturer", self.manufacturer.clone()),
            ("model", self.model.clone()),
        ];
        let mut parts: Vec<String> = before
            .into_iter()
            .filter_map(|(name, value)| {
                Some(format!("{name}={}", percent_encode(value?.as_bytes())))
            })
            .collect();
        if let Some(id) = &self.id {
            let id = id.iter().copied().fold("id=".to_owned(), percent);
            parts.push(id);
        }
        if let Some(object) = &self.object {
            parts.push(format!("object={}", percent_encode(object.as_bytes())));
        }
        parts.push("type=private".into());
        write!(f, "pkcs11:{}", parts.join(";"))?;
        let query = [
            ("module-path", self.module_path.as_ref()),
            ("pin-source", self.pin_source.as_ref()),
        ];
        let query = query.into_iter().filter_map(|(name, value)| {
            let mut value = path(value?);
            if name == "pin-source" && ["file:", "//"].iter().any(|at| value.starts_with(at)) {
                // Else its start would be read as part of the URI.
                value.insert_str(0, "file://");
            }
            Some(format!("{name}={}", percent_encode(value.as_bytes())))
        });
        let query: Vec<String> = query.collect();
        if query.is_empty() {
            return Ok(());
        }
        write!(f, "?{}", query.join("&"))
    }
}

impl KmsUri {
    fn parse(text: &str) -> Result<Self, KeyUriError> {
        let (key, query) = text.split_once('?').unwrap_or((text, ""));
        let mut region = None;
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("region", value)) if !value.is_empty() => region = Some(value.to_owned()),
                Some((name, _)) => return Err(KeyUriError::Unknown(name.to_owned())),
                None => return Err(KeyUriError::Attribute(part.to_owned())),
            }
        }
        let wrong = || KeyUriError::KmsKey(key.to_owned());
        let name = if let Some(arn) = key.strip_prefix("arn:") {
            // arn:partition:kms:region:account:resource
            let parts: Vec<&str> = arn.splitn(5, ':').collect();
            let [_, "kms", of_arn, _, resource] = parts[..] else {
                return Err(wrong());
            };
            match &region {
                Some(given) if given != of_arn => return Err(KeyUriError::KmsRegion),
                _ => region = Some(of_arn.to_owned()),
            }
            resource.strip_prefix("key/").unwrap_or(resource)
        } else {
            key
        };
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_/".contains(&b);
        let is_alias = name.strip_prefix("alias/").is_some_and(|a| !a.is_empty());
        if name.is_empty() || !name.bytes().all(fits) || (name.contains('/') && !is_alias) {
            return Err(wrong());
        }
        Ok(Self {
            key: key.to_owned(),
            region,
        })
    }

    /// The alias's name, `alias/…`, when the key is named by one and not by an ARN.
    pub fn alias(&self) -> Option<&str> {
        self.key.starts_with("alias/").then_some(&self.key)
    }
}

impl fmt::Display for KmsUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "awskms:{}", self.key)?;
        match &self.region {
            Some(region) if !self.key.starts_with("arn:") => write!(f, "?region={region}"),
            _ => Ok(()),
        }
    }
}

fn percent_decode(text: &str) -> Result<Vec<u8>, KeyUriError> {
    let wrong = || KeyUriError::Percent(text.to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = after;
    }
    Ok(bytes)
}

/// Everything but what stands for itself in every part of the URI.
fn percent_encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(byte) {
            text.push((*byte).into());
            text
        } else {
            percent(text, *byte)
        }
    })
}

fn percent(mut text: String, byte: u8) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.extend([byte >> 4, byte & 15].map(|n| char::from(DIGITS[usize::from(n)])));
    text
}

/// A key URI that names no key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyUriError {
    /// Not `name=value`.
    #[error("`{0}` in the key URI is not `name=value`")]
    Attribute(String),
    /// Nothing.
    #[error("the place of the key is empty")]
    Empty,
    /// Not a KMS key.
    #[error("`{0}` is not a KMS key id, `alias/NAME` or the ARN of either")]
    KmsKey(String),
    /// Two Regions.
    #[error("the key's ARN and `region=` name different Regions")]
    KmsRegion,
    /// Neither object nor id.
    #[error("the PKCS#11 URI names no key")]
    NoKey,
    /// Bad percent encoding.
    #[error("`{0}` in the key URI is not percent-encoded UTF-8")]
    Percent(String),
    /// A command, or nothing.
    #[error("`pin-source={0}` is not a file")]
    PinSource(String),
    /// Everyone could read it.
    #[error("`pin-value` is refused: every process on this machine can read it")]
    PinValue,
    /// An attribute given twice.
    #[error("`{0}` stands in the key URI twice")]
    Twice(String),
    /// A certificate or a public key.
    #[error("`type={0}` is not a private key")]
    Type(String),
    /// Not an attribute we know.
    #[error("`{0}` is not an attribute of a key URI that is understood here")]
    Unknown(String),
}

impl Explain for KeyUriError {
    fn kind(&self) -> Kind {
        match self {
            Self::PinValue => Kind::Refused,
            _ => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::PinValue => "key-uri.pin-value",
            _ => "key-uri.invalid",
        }
    }
    fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::KmsKey(_) | Self::KmsRegion => {
                    "write awskms:KEY-ID, awskms:alias/NAME?region=REGION, or awskms:ARN"
                }
                Self::PinSource(_) | Self::PinValue => {
                    "write the PIN into a file of mode 0600 and name it: pin-source=file:/path, \
                     --pin-file FILE, or set NAMEPLATE_PIN"
                }
                Self::Empty => "name a file, a pkcs11: URI or an awskms: URI",
                _ => {
                    "write pkcs11:token=TOKEN;object=LABEL, with id=%01%02 in place of object or \
                     beside it, and ?module-path=/path.so&pin-source=file:/path if wanted"
                }
            }
            .into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pkcs11(text: &str) -> Pkcs11Uri {
        match text.parse() {
            Ok(KeyUri::Pkcs11(uri)) => uri,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn every_attribute_is_read() {
        let uri = pkcs11(
            "pkcs11:token=The%20Token;serial=DE;manufacturer=SoftHSM%20project;model=v2;\
             id=%01%aF;object=ca;type=private?module-path=/a/b.so&pin-source=file:/run/pin",
        );
        assert_eq!(uri.token.as_deref(), Some("The Token"));
        assert_eq!(uri.serial.as_deref(), Some("DE"));
        assert_eq!(uri.manufacturer.as_deref(), Some("SoftHSM project"));
        assert_eq!(uri.model.as_deref(), Some("v2"));
        assert_eq!(uri.id.as_deref(), Some(&[1, 0xaf][..]));
        assert_eq!(uri.object.as_deref(), Some("ca"));
        assert_eq!(uri.module_path, Some("/a/b.so".into()));
        assert_eq!(uri.pin_source, Some("/run/pin".into()));
        for source in ["/run/pin", "file:///run/pin", "file:%2Frun/pin"] {
            let uri = pkcs11(&format!("pkcs11:object=ca?pin-source={source}"));
            assert_eq!(uri.pin_source, Some("/run/pin".into()), "{source}");
        }
        for source in ["//file:/x", "file:////x"] {
            let uri = pkcs11(&format!("pkcs11:object=ca?pin-source={source}"));
            assert_eq!(pkcs11(&uri.to_string()), uri, "{source}");
        }
    }

    #[test]
    fn a_certificate_has_a_uri_too() {
        for text in [
            "pkcs11:token=t;object=device;type=cert?pin-source=/run/pin",
            "pkcs11:type=cert;token=t;object=device?pin-source=/run/pin",
            "PKCS11:token=t;object=device?pin-source=/run/pin",
        ] {
            assert!(Pkcs11Uri::is(text));
            let uri = Pkcs11Uri::of_certificate(text).unwrap();
            assert_eq!(uri.object.as_deref(), Some("device"), "{text}");
            assert_eq!(uri.pin_source, Some("/run/pin".into()), "{text}");
        }
        for text in [
            "pkcs11:type=cert",
            "pkcs11:object=a;type=cert;type=cert",
            "a.pem",
        ] {
            assert!(Pkcs11Uri::of_certificate(text).is_err(), "{text}");
        }
        assert!(!Pkcs11Uri::is("pkcs11"));
        assert!(!Pkcs11Uri::is("device.pem"));
    }

    #[test]
    fn kms_keys_by_id_alias_and_arn() {
        let arn = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        for (text, key, region) in [
            ("awskms:1234abcd-12ab", "1234abcd-12ab", None),
            (
                "awskms:alias/ca?region=eu-west-1",
                "alias/ca",
                Some("eu-west-1"),
            ),
            (&format!("awskms:{arn}"), arn, Some("eu-west-1")),
        ] {
            let Ok(KeyUri::AwsKms(uri)) = text.parse() else {
                panic!("{text}")
            };
            assert_eq!((&uri.key[..], uri.region.as_deref()), (key, region));
            assert_eq!(uri.to_string(), text);
        }
    }

    #[test]
    fn everything_else_is_a_file() {
        for (text, path) in [
            ("ca/key.pem", "ca/key.pem"),
            ("file:/a/key.pem", "/a/key.pem"),
            ("C:key", "C:key"),
        ] {
            assert_eq!(text.parse(), Ok(KeyUri::File(path.into())));
        }
    }

    #[test]
    fn a_file_whose_name_reads_as_a_uri_is_printed_as_a_file() {
        for text in [
            "file:awskms:alias/a",
            "file:pkcs11:x",
            "file:file:x",
            "plain",
        ] {
            let uri: KeyUri = text.parse().unwrap();
            assert!(uri.is_file());
            assert_eq!(uri.to_string(), text);
        }
    }

    #[test]
    fn what_names_no_key_is_refused_in_words() {
        for (text, code, words) in [
            ("", "key-uri.invalid", "is empty"),
            ("pkcs11:", "key-uri.invalid", "names no key"),
            ("pkcs11:token=a", "key-uri.invalid", "names no key"),
            ("pkcs11:object", "key-uri.invalid", "`object`"),
            ("pkcs11:object=a;object=b", "key-uri.invalid", "twice"),
            ("pkcs11:object=%4", "key-uri.invalid", "percent"),
            ("pkcs11:object=%+1", "key-uri.invalid", "percent"),
            ("pkcs11:object=%ff", "key-uri.invalid", "UTF-8"),
            ("pkcs11:object=a;type=cert", "key-uri.invalid", "type=cert"),
            ("pkcs11:object=a;slot=1", "key-uri.invalid", "`slot`"),
            (
                "pkcs11:object=a?pin-value=1",
                "key-uri.pin-value",
                "refused",
            ),
            ("pkcs11:object=a?pin-source=|cat", "key-uri.invalid", "|cat"),
            ("awskms:", "key-uri.invalid", "KMS key"),
            ("awskms:alias/", "key-uri.invalid", "KMS key"),
            ("awskms:a b", "key-uri.invalid", "KMS key"),
            ("awskms:arn:aws:s3:::x", "key-uri.invalid", "KMS key"),
            ("awskms:x?zone=1", "key-uri.invalid", "`zone`"),
            (
                "awskms:arn:aws:kms:eu-west-1:1:key/x?region=us-east-1",
                "key-uri.invalid",
                "different Regions",
            ),
        ] {
            let error = text.parse::<KeyUri>().unwrap_err();
            assert_eq!(error.code(), code, "{text}");
            assert!(error.to_string().contains(words), "{text}: {error}");
            assert!(error.hint().is_some());
        }
    }

    proptest! {
        #[test]
        fn a_pkcs11_uri_survives_being_written(
            token in proptest::option::of("\\PC{0,12}"),
            object in "\\PC{1,12}",
            id in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..8)),
        ) {
            let uri = Pkcs11Uri { token, object: Some(object), id, ..Pkcs11Uri::default() };
            prop_assert_eq!(uri.to_string().parse(), Ok(KeyUri::Pkcs11(uri)));
        }

        #[test]
        fn no_text_panics(text in "(pkcs11:|awskms:)?\\PC{0,40}") {
            let _ = text.parse::<KeyUri>();
        }
    }
}
