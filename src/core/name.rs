//! A distinguished name's DER (RFC 5280 §4.1.2.4).

use pkcs8::ObjectIdentifier;
use pkcs8::der::Encode;

use crate::core::der::tlv;
use crate::core::subject::Subject;

/// An attribute that cannot stand in a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameFault {
    /// Its type.
    pub oid: String,
    /// Its value.
    pub value: String,
    /// Why not.
    pub why: &'static str,
}

/// `Name ::= SEQUENCE OF SET OF { type, value }`, one attribute in each set. Strings take the type
/// that RFC 5280 appendix A.1 demands: PrintableString for country, serial number and qualifier,
/// IA5String for domain component and e-mail address, UTF8String for the rest.
///
/// # Errors
/// The first attribute that has no such form.
pub fn encode(subject: &Subject) -> Result<Vec<u8>, NameFault> {
    let mut sets = Vec::new();
    for attribute in subject.attributes() {
        let wrong = |why| NameFault {
            oid: attribute.oid.clone(),
            value: attribute.value.clone(),
            why,
        };
        let oid = ObjectIdentifier::new(&attribute.oid)
            .ok()
            .and_then(|oid| oid.to_der().ok())
            .ok_or_else(|| wrong("its type is not an object identifier"))?;
        let value = attribute.value.as_bytes();
        let tag = match &attribute.oid[..] {
            "2.5.4.6" | "2.5.4.5" | "2.5.4.46" if attribute.value.bytes().all(is_printable) => 0x13,
            "2.5.4.6" | "2.5.4.5" | "2.5.4.46" => {
                return Err(wrong(
                    "only letters, digits, space and '()+,-./:=? are allowed",
                ));
            }
            "0.9.2342.19200300.100.1.25" | "1.2.840.113549.1.9.1" if value.is_ascii() => 0x16,
            "0.9.2342.19200300.100.1.25" | "1.2.840.113549.1.9.1" => {
                return Err(wrong("only ASCII is allowed"));
            }
            _ => 0x0c,
        };
        let pair = tlv(0x30, &[&oid, &tlv(tag, &[value])]);
        sets.push(tlv(0x31, &[&pair]));
    }
    let parts: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
    Ok(tlv(0x30, &parts))
}

/// PrintableString's alphabet (X.680 §41.4).
fn is_printable(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b)
}
