//! Whether a key made the signature on a certificate, request or CRL: the algorithms are those of webpki
//! over ring (ECDSA P-256 and P-384 with SHA-256 and SHA-384, RSA of 2048 bits and more with PKCS#1
//! v1.5 or PSS and SHA-2, Ed25519), each matched by its exact `AlgorithmIdentifier`.

use crate::core::der::{Element, children};
use crate::core::key::{KeyAlgorithm, PublicKey};

/// Why a signature does not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignatureFault {
    /// The bytes are not a signed structure.
    Form,
    /// The algorithm named outside is not the one named inside (RFC 5280 §4.1.1.2).
    AlgorithmsDiffer,
    /// The signature algorithm is not among those above, or does not go with the key.
    Algorithm,
    /// Another key made it, or the content changed.
    Wrong,
}

/// The three parts of a signed structure: content, algorithm, signature bits.
struct Signed<'a> {
    content: Element<'a>,
    algorithm: Element<'a>,
    signature: &'a [u8],
}

fn parts(signed: &[u8]) -> Option<Signed<'_>> {
    let parts = children(signed)?;
    let [content, algorithm, bits] = parts[..] else {
        return None;
    };
    let (unused, signature) = bits.content.split_first()?;
    (*unused == 0 && bits.tag == 0x03).then_some(Signed {
        content,
        algorithm,
        signature,
    })
}

/// Verifies `signed` (the content of a `Certificate` or `CertificateList`) with the key in `spki`.
///
/// # Errors
/// What does not hold.
pub fn verify(signed: &[u8], spki: &[u8]) -> Result<(), SignatureFault> {
    let signed = parts(signed).ok_or(SignatureFault::Form)?;
    let inner = children(signed.content.content).ok_or(SignatureFault::Form)?;
    // The first SEQUENCE of a TBSCertificate and of a TBSCertList is its signature algorithm.
    let named = inner
        .iter()
        .find(|element| element.tag == 0x30)
        .ok_or(SignatureFault::Form)?;
    if named.whole != signed.algorithm.whole {
        return Err(SignatureFault::AlgorithmsDiffer);
    }
    made_by(&signed, spki)
}

/// Verifies `signed` (the content of a `CertificationRequest`) with the key in `spki`, which is the
/// request's own. A request names its algorithm only once.
///
/// # Errors
/// What does not hold.
pub fn verify_request(signed: &[u8], spki: &[u8]) -> Result<(), SignatureFault> {
    made_by(&parts(signed).ok_or(SignatureFault::Form)?, spki)
}

/// Whether `key` made this signature of a message, as X.509 carries it: proof that a private key is there and is the public one's.
pub fn proves(message: &[u8], signature: &[u8], key: &PublicKey) -> bool {
    use ring::signature as alg;
    let algorithm: &dyn alg::VerificationAlgorithm = match key.algorithm() {
        KeyAlgorithm::EcP256 => &alg::ECDSA_P256_SHA256_ASN1,
        KeyAlgorithm::EcP384 => &alg::ECDSA_P384_SHA384_ASN1,
        KeyAlgorithm::Rsa(_) => &alg::RSA_PKCS1_2048_8192_SHA256,
        _ => return false,
    };
    alg::UnparsedPublicKey::new(algorithm, key.bits())
        .verify(message, signature)
        .is_ok()
}

fn made_by(signed: &Signed<'_>, spki: &[u8]) -> Result<(), SignatureFault> {
    let key = children(spki)
        .and_then(|outer| children(outer.first()?.content))
        .ok_or(SignatureFault::Form)?;
    let [key_algorithm, key_bits] = key[..] else {
        return Err(SignatureFault::Form);
    };
    let point = key_bits.content.get(1..).ok_or(SignatureFault::Form)?;
    let mut known = false;
    for algorithm in webpki::ALL_VERIFICATION_ALGS {
        let fits = algorithm.signature_alg_id().as_ref() == signed.algorithm.content
            && algorithm.public_key_alg_id().as_ref() == key_algorithm.content;
        known |= fits;
        if fits
            && algorithm
                .verify_signature(point, signed.content.whole, signed.signature)
                .is_ok()
        {
            return Ok(());
        }
    }
    Err(if known {
        SignatureFault::Wrong
    } else {
        SignatureFault::Algorithm
    })
}
