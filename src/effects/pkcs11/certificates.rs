//! Certificates in PKCS#11 tokens.

use cryptoki::object::{Attribute, AttributeType, ObjectClass};

use super::{Pkcs11Error, Token, TokenAccess, of_class};
use crate::core::cert::Certificate;
use crate::core::key_uri::Pkcs11Uri;

/// Every certificate in a token that the URI names. Most tokens show certificates to anybody; the
/// PIN is given only where none is shown without it.
///
/// # Errors
/// `pkcs11.*`, `cert.*`.
pub fn certificates(
    uri: &Pkcs11Uri,
    access: &TokenAccess<'_>,
) -> Result<Vec<Certificate>, Pkcs11Error> {
    let token = Token::find(uri, access.module)?;
    let session = token.context.open_ro_session(token.slot)?;
    let template = of_class(ObjectClass::CERTIFICATE, uri);
    let mut found = session.find_objects(&template)?;
    if found.is_empty() {
        token.log_in(&session, access.pin)?;
        found = session.find_objects(&template)?;
    }
    let mut all = Vec::new();
    for object in found {
        for attribute in session.get_attributes(object, &[AttributeType::Value])? {
            if let Attribute::Value(der) = attribute {
                all.push(Certificate::from_der(&der)?);
            }
        }
    }
    if all.is_empty() {
        return Err(Pkcs11Error::CertificateMissing(
            uri.object.clone().unwrap_or_default(),
            token.label,
        ));
    }
    Ok(all)
}
