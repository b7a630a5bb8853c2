//! What a certificate says beyond what its purpose gives: usages of its own, extensions of its own.

use pkcs8::ObjectIdentifier;
use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, KeyUsagePurpose};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{KeyUsage, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::{DraftError, Purpose};
use crate::core::cert::{CLIENT_AUTH, Certificate, SERVER_AUTH};
use crate::core::der;
use crate::core::key::KeyAlgorithm;

/// Additions to a purpose. Empty parts are the purpose's own.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Extras {
    /// keyUsage, by the names of its bits in RFC 5280 §4.2.1.3; never those of a CA.
    pub key_usage: Vec<&'static str>,
    /// extendedKeyUsage, as dotted OIDs.
    pub extended_key_usage: Vec<String>,
    /// More extensions.
    pub extensions: Vec<Extension>,
}

/// One extension that is encoded as it is given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Extension {
    /// Dotted OID.
    pub oid: String,
    /// Whether who does not know it must refuse the certificate.
    pub critical: bool,
    /// The content of its OCTET STRING.
    pub der: Vec<u8>,
}

/// The bits of keyUsage that a certificate that is no CA's may have.
const KEY_USAGES: [(&str, KeyUsagePurpose); 5] = [
    ("digitalSignature", KeyUsagePurpose::DigitalSignature),
    ("nonRepudiation", KeyUsagePurpose::ContentCommitment),
    ("keyEncipherment", KeyUsagePurpose::KeyEncipherment),
    ("dataEncipherment", KeyUsagePurpose::DataEncipherment),
    ("keyAgreement", KeyUsagePurpose::KeyAgreement),
];
/// Names of extended key usages (RFC 5280 §4.2.1.12).
const USAGES: [(&str, &str); 6] = [
    ("clientAuth", CLIENT_AUTH),
    ("serverAuth", SERVER_AUTH),
    ("codeSigning", "1.3.6.1.5.5.7.3.3"),
    ("emailProtection", "1.3.6.1.5.5.7.3.4"),
    ("timeStamping", "1.3.6.1.5.5.7.3.8"),
    ("OCSPSigning", "1.3.6.1.5.5.7.3.9"),
];
/// Extensions that the draft writes itself.
const OWN: [&str; 6] = [
    "2.5.29.14",
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.35",
    "2.5.29.37",
];

/// The names of the keyUsage bits that are set (RFC 5280 §4.2.1.3).
pub fn key_usage_names(usage: KeyUsage) -> Vec<&'static str> {
    [
        (usage.digital_signature(), "digitalSignature"),
        (usage.non_repudiation(), "nonRepudiation"),
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.data_encipherment(), "dataEncipherment"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
        (usage.encipher_only(), "encipherOnly"),
        (usage.decipher_only(), "decipherOnly"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}

/// The bit of this name, if a certificate that is no CA's may have it.
pub fn key_usage(name: &str) -> Option<&'static str> {
    let known = KEY_USAGES.iter().find(|(known, _)| *known == name);
    known.map(|(known, _)| *known)
}

/// The names [`key_usage`] knows.
pub fn key_usages() -> Vec<&'static str> {
    KEY_USAGES.iter().map(|(name, _)| *name).collect()
}

/// An extended key usage, by its name in RFC 5280 or as a dotted OID.
pub fn usage(text: &str) -> Option<String> {
    let known = USAGES.iter().find(|(name, _)| *name == text);
    match known {
        Some((_, oid)) => Some((*oid).to_owned()),
        None => arcs(text).map(|_| text.to_owned()),
    }
}

/// Whether an extension of this OID can be given as it is: the OID is one, and not of those that
/// every certificate has.
///
/// # Errors
/// Why not.
pub fn check_oid(oid: &str) -> Result<(), &'static str> {
    if OWN.contains(&oid) {
        return Err("this extension has a key of its own, or is always written");
    }
    arcs(oid).map(|_| ()).ok_or("this is no object identifier")
}

fn arcs(oid: &str) -> Option<Vec<u64>> {
    let known = ObjectIdentifier::new(oid).ok()?;
    Some(known.arcs().map(u64::from).collect())
}

impl Extras {
    /// Whether a key of this kind can be used so: RFC 3279 §2.3.1 for RSA, RFC 5480 §3 and RFC 8813
    /// for elliptic curves.
    ///
    /// # Errors
    /// `draft.key-usage`.
    pub fn check(&self, key: KeyAlgorithm) -> Result<(), DraftError> {
        let prohibited: &[&str] = match key {
            KeyAlgorithm::Rsa(_) => &["keyAgreement"],
            _ => &["keyEncipherment", "dataEncipherment"],
        };
        match self.key_usage.iter().find(|bit| prohibited.contains(bit)) {
            Some(usage) => Err(DraftError::KeyUsage { usage, key }),
            None => Ok(()),
        }
    }

    /// Puts them among the parameters of a draft.
    pub(super) fn apply(&self, p: &mut CertificateParams) -> Result<(), DraftError> {
        if !self.key_usage.is_empty() {
            let bits = KEY_USAGES.iter();
            p.key_usages = bits
                .filter(|(name, _)| self.key_usage.contains(name))
                .map(|(_, bit)| *bit)
                .collect();
        }
        let known = |oid: &String| arcs(oid).ok_or_else(|| DraftError::Oid(oid.clone()));
        if !self.extended_key_usage.is_empty() {
            let usages = self.extended_key_usage.iter();
            p.extended_key_usages = usages
                .map(|oid| known(oid).map(ExtendedKeyUsagePurpose::Other))
                .collect::<Result<_, _>>()?;
        }
        for extension in &self.extensions {
            let oid = known(&extension.oid)?;
            let mut custom = CustomExtension::from_oid_content(&oid, extension.der.clone());
            custom.set_criticality(extension.critical);
            p.custom_extensions.push(custom);
        }
        Ok(())
    }

    /// keyUsage as the certificate will have it.
    pub fn bits(&self) -> &[&'static str] {
        if self.key_usage.is_empty() {
            &["digitalSignature"]
        } else {
            &self.key_usage
        }
    }

    /// extendedKeyUsage as the certificate will have it.
    pub fn usages(&self, purpose: Purpose) -> Vec<String> {
        let of_purpose: &[&str] = match purpose {
            Purpose::Device => &[CLIENT_AUTH],
            Purpose::Server => &[SERVER_AUTH],
            Purpose::ClientAndServer => &[CLIENT_AUTH, SERVER_AUTH],
            _ => &[],
        };
        if self.extended_key_usage.is_empty() {
            of_purpose.iter().map(|oid| (*oid).to_owned()).collect()
        } else {
            self.extended_key_usage.clone()
        }
    }

    /// Purpose and extras of a device's certificate: a draft with them says the same again.
    ///
    /// # Errors
    /// What it says that a draft cannot.
    pub fn of(certificate: &Certificate) -> Result<(Purpose, Self), String> {
        let usages = certificate.extended_key_usage.clone().unwrap_or_default();
        if usages.is_empty() {
            return Err("no extended key usage".into());
        }
        let mut extras = Self::default();
        let purpose = Purpose::of_usages(&usages).unwrap_or_else(|| {
            extras.extended_key_usage = usages;
            Purpose::Device
        });
        let (_, parsed) = X509Certificate::from_der(certificate.der())
            .map_err(|error| format!("bytes that do not read: {error}"))?;
        for extension in parsed.extensions() {
            let oid = extension.oid.to_id_string();
            if let ParsedExtension::KeyUsage(bits) = extension.parsed_extension() {
                extras.take_bits(&key_usage_names(*bits))?;
            } else if !OWN.contains(&&oid[..]) {
                arcs(&oid).ok_or_else(|| format!("the extension {oid}"))?;
                extras.extensions.push(Extension {
                    oid,
                    critical: extension.critical,
                    der: extension.value.to_vec(),
                });
            }
        }
        Ok((purpose, extras))
    }

    fn take_bits(&mut self, bits: &[&'static str]) -> Result<(), String> {
        if let Some(bit) = bits.iter().find(|bit| key_usage(bit).is_none()) {
            return Err(format!("the key usage {bit}"));
        }
        if bits != ["digitalSignature"] {
            self.key_usage = bits.to_vec();
        }
        Ok(())
    }
}

/// A text as the content of an extension: UTF8String.
pub fn text(value: &str) -> Vec<u8> {
    der::tlv(0x0c, &[value.as_bytes()])
}

/// Bytes from hexadecimal digits, two each, that are exactly one DER element.
///
/// # Errors
/// What is wrong with them.
pub fn element(digits: &str) -> Result<Vec<u8>, &'static str> {
    let pair = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    };
    let all_digits = digits.bytes().all(|b| b.is_ascii_hexdigit());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(|two| pair(two)).collect();
    match bytes.filter(|_| all_digits && rest.is_empty()) {
        None => Err("write an even number of hexadecimal digits"),
        Some(bytes) => match der::first(&bytes) {
            Some((_, [])) => Ok(bytes),
            _ => Err("this is not exactly one DER element"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_oids_are_read() {
        assert_eq!(usage("clientAuth").as_deref(), Some(CLIENT_AUTH));
        assert_eq!(usage("1.2.3.4").as_deref(), Some("1.2.3.4"));
        assert_eq!(usage("client"), None);
        assert_eq!(key_usage("keyCertSign"), None);
        assert!(check_oid("2.5.29.17").is_err() && check_oid("1.x").is_err());
        assert!(check_oid("1.3.6.1.4.1.99999.1").is_ok());
    }

    #[test]
    fn one_element_is_one_element() {
        assert_eq!(element("0500").unwrap(), [5, 0]);
        for bad in ["", "05", "050", "0500ff", "05 0", "+500", "zz00"] {
            assert!(element(bad).is_err(), "{bad}");
        }
        assert_eq!(text("ab"), [0x0c, 2, b'a', b'b']);
    }
}
