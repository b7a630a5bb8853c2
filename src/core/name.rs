//! A distinguished name's DER (RFC 5280 §4.1.2.4).

use pkcs8::ObjectIdentifier;

use crate::core::der::{put_head, size, tlv};
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
    let mut sets = Vec::with_capacity(128);
    for attribute in subject.attributes() {
        let wrong = |why| NameFault {
            oid: attribute.oid.to_string(),
            value: attribute.value.clone(),
            why,
        };
        let oid = ObjectIdentifier::new(&attribute.oid)
            .map_err(|_| wrong("its type is not an object identifier"))?;
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
        let pair = size(oid.as_bytes().len()) + size(value.len());
        put_head(&mut sets, 0x31, size(pair));
        put_head(&mut sets, 0x30, pair);
        put_head(&mut sets, 0x06, oid.as_bytes().len());
        sets.extend_from_slice(oid.as_bytes());
        put_head(&mut sets, tag, value.len());
        sets.extend_from_slice(value);
    }
    Ok(tlv(0x30, &[&sets]))
}

/// PrintableString's alphabet (X.680 §41.4).
fn is_printable(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b)
}
