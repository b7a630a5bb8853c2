//! A certification request before it is signed (PKCS #10, RFC 2986): a subject, a key, and nothing
//! that a service would have to leave out.

use crate::core::der::tlv;
use crate::core::key::{KeyAlgorithm, PublicKey};
use crate::core::name::{self, NameFault};
use crate::core::pem;
use crate::core::subject::Subject;
use crate::explain::{Explain, Kind};

/// `AlgorithmIdentifier`s: ecdsa-with-SHA256, ecdsa-with-SHA384 (RFC 5758 §3.2),
/// sha256WithRSAEncryption (RFC 4055 §5).
const ECDSA_SHA256: &[u8] = &[
    0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
];
const ECDSA_SHA384: &[u8] = &[
    0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03,
];
const RSA_SHA256: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00,
];

/// A request that wants its signature.
#[derive(Clone, Debug)]
pub struct CsrDraft {
    info: Vec<u8>,
    algorithm: &'static [u8],
}

impl CsrDraft {
    /// For this name and key.
    ///
    /// # Errors
    /// `csr.subject`, `csr.key-algorithm`.
    pub fn new(subject: &Subject, key: &PublicKey) -> Result<Self, CsrDraftError> {
        let algorithm = match key.algorithm() {
            KeyAlgorithm::EcP256 => ECDSA_SHA256,
            KeyAlgorithm::EcP384 => ECDSA_SHA384,
            KeyAlgorithm::Rsa(bits) if bits >= 2048 => RSA_SHA256,
            other => return Err(CsrDraftError::Key(other)),
        };
        let name = name::encode(subject).map_err(CsrDraftError::Subject)?;
        let version = tlv(0x02, &[&[0]]);
        let no_attributes = tlv(0xa0, &[]);
        let info = tlv(0x30, &[&version, &name, key.spki(), &no_attributes]);
        Ok(Self { info, algorithm })
    }

    /// What the key signs: with SHA-384 for P-384, with SHA-256 for the others.
    pub fn to_be_signed(&self) -> &[u8] {
        &self.info
    }

    /// The finished request, PEM.
    pub fn seal(&self, signature: &[u8]) -> String {
        let bits = tlv(0x03, &[&[0], signature]);
        let der = tlv(0x30, &[&self.info, self.algorithm, &bits]);
        pem::encode("CERTIFICATE REQUEST", &der)
    }
}

/// A request that cannot be drafted.
#[derive(Debug, thiserror::Error)]
pub enum CsrDraftError {
    /// A key that nobody certifies.
    #[error("no certificate is given for {0} keys; P-256, P-384 and RSA from 2048 bits are taken")]
    Key(KeyAlgorithm),
    /// An attribute that has no form.
    #[error("the subject's {} = `{}` cannot be encoded: {}", .0.oid, .0.value, .0.why)]
    Subject(NameFault),
}

impl Explain for CsrDraftError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Key(_) => "csr.key-algorithm",
            Self::Subject(_) => "csr.subject",
        }
    }
}

#[cfg(test)]
#[cfg(feature = "sandbox")]
mod tests {
    use super::*;
    use crate::core::csr::Csr;
    use crate::effects::keys::{LocalSigner, RingKeys};
    use crate::ports::{Keygen, Signer};

    #[test]
    fn a_drafted_request_is_read_back_with_its_signature_proved() {
        for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384] {
            let (key, public) = RingKeys::default().generate(algorithm).unwrap();
            let subject: Subject = "CN=pump-1,serialNumber=42,C=DE,O=Pümpen".parse().unwrap();
            let draft = CsrDraft::new(&subject, &public).unwrap();
            let signer = LocalSigner::new(&key).unwrap();
            let text = draft.seal(&signer.sign(draft.to_be_signed()).unwrap());
            let csr = Csr::from_pem_or_der(text.as_bytes()).unwrap();
            assert_eq!(csr.subject, subject);
            assert_eq!(csr.public_key, public);
            assert!(csr.asks.is_empty());
        }
    }

    #[test]
    fn an_attribute_without_a_form_is_named() {
        let (_, public) = RingKeys::default().generate(KeyAlgorithm::EcP256).unwrap();
        let subject: Subject = "serialNumber=a_b".parse().unwrap();
        let error = CsrDraft::new(&subject, &public).unwrap_err();
        assert_eq!(error.code(), "csr.subject");
    }
}
