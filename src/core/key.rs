//! Public and private keys as bytes: formats, algorithms, encryption at rest. No arithmetic here.

use std::fmt;

use pkcs8::der::{Decode, Encode};
use pkcs8::pkcs5::{self, pbes2};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as ParsedKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use crate::core::der;
use crate::core::pem;
use crate::explain::{Explain, Kind};

/// What kind of key it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyAlgorithm {
    /// NIST P-256 (secp256r1).
    EcP256,
    /// NIST P-384 (secp384r1).
    EcP384,
    /// NIST P-521 (secp521r1).
    EcP521,
    /// Another elliptic curve.
    EcOther,
    /// Ed25519.
    Ed25519,
    /// RSA with this many bits.
    Rsa(usize),
    /// Anything else.
    Unknown,
}

impl KeyAlgorithm {
    /// Why AWS IoT refuses the key; `None` when it takes it. Source: `CreateCertificateFromCsr`
    /// API page and the developer guide's list of signing algorithms.
    pub fn unsupported(self) -> Option<String> {
        match self {
            Self::EcP256 | Self::EcP384 | Self::EcP521 => None,
            Self::Rsa(bits) if bits >= 2048 => None,
            Self::Rsa(bits) => Some(format!(
                "RSA keys of {bits} bits are refused (at least 2048)"
            )),
            other => Some(format!("{other} keys are not among those AWS IoT takes")),
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcP256 => f.write_str("EC P-256"),
            Self::EcP384 => f.write_str("EC P-384"),
            Self::EcP521 => f.write_str("EC P-521"),
            Self::EcOther => f.write_str("EC (other curve)"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl serde::Serialize for KeyAlgorithm {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A public key: its `SubjectPublicKeyInfo` DER.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicKey {
    spki: Vec<u8>,
    algorithm: KeyAlgorithm,
    /// Where the subjectPublicKey bits begin: nothing follows them.
    bits: usize,
}

/// The `SubjectPublicKeyInfo` of a P-256 key, up to the 65 bytes of its point.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The same for P-384 and the 97 bytes of its point.
const P384_PREFIX: [u8; 23] = [
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];

impl PublicKey {
    /// Parses a `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// `key.format`.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let (rest, parsed) = SubjectPublicKeyInfo::from_der(spki)
            .map_err(|_| KeyError::Format("the public key is not DER".into()))?;
        let spki = &spki[..spki.len() - rest.len()];
        let algorithm = match (
            parsed.algorithm.algorithm.to_id_string().as_str(),
            parsed.parsed(),
        ) {
            ("1.3.101.112", _) => KeyAlgorithm::Ed25519,
            (_, Ok(ParsedKey::RSA(rsa))) => KeyAlgorithm::Rsa(rsa.key_size()),
            (_, Ok(ParsedKey::EC(_))) => curve(&parsed),
            _ => KeyAlgorithm::Unknown,
        };
        let bits = &parsed.subject_public_key.data;
        if !spki.ends_with(bits) {
            return Err(KeyError::Format("something follows the public key".into()));
        }
        Ok(Self {
            bits: spki.len() - bits.len(),
            spki: spki.to_vec(),
            algorithm,
        })
    }

    /// From an uncompressed P-256 point (65 bytes) or P-384 point (97 bytes).
    ///
    /// # Errors
    /// `key.format` for any other length.
    pub fn from_ec_point(point: &[u8]) -> Result<Self, KeyError> {
        let (prefix, algorithm) = match point.len() {
            65 => (&P256_PREFIX[..], KeyAlgorithm::EcP256),
            97 => (&P384_PREFIX[..], KeyAlgorithm::EcP384),
            other => return Err(KeyError::Format(format!("an EC point of {other} bytes"))),
        };
        Ok(Self {
            spki: [prefix, point].concat(),
            algorithm,
            bits: prefix.len(),
        })
    }

    /// From an `RSAPublicKey` DER (RFC 8017 appendix A.1.1).
    ///
    /// # Errors
    /// `key.format`.
    pub fn from_rsa(rsa_public_key: &[u8]) -> Result<Self, KeyError> {
        let failed = |e: pkcs8::der::Error| KeyError::Format(e.to_string());
        let bits = pkcs8::der::asn1::BitStringRef::from_bytes(rsa_public_key).map_err(failed)?;
        let mut body = RSA_ALGORITHM.to_vec();
        bits.encode_to_vec(&mut body).map_err(failed)?;
        let sequence = pkcs8::der::AnyRef::new(pkcs8::der::Tag::Sequence, &body).map_err(failed)?;
        Self::from_spki(&sequence.to_der().map_err(failed)?)
    }

    /// The `SubjectPublicKeyInfo` DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The subjectPublicKey bits: an EC point, or `RSAPublicKey` DER.
    pub fn bits(&self) -> &[u8] {
        &self.spki[self.bits..]
    }

    /// The kind of key.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// A key identifier: the first 20 bytes of SHA-256 over the bits (RFC 7093 §2 method 1).
    pub fn key_id(&self) -> [u8; 20] {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.bits());
        let mut id = [0; 20];
        id.copy_from_slice(&digest.as_ref()[..20]);
        id
    }
}

fn curve(spki: &SubjectPublicKeyInfo<'_>) -> KeyAlgorithm {
    let parameter = spki
        .algorithm
        .parameters
        .as_ref()
        .and_then(|any| any.as_oid().ok());
    match parameter.map(|oid| oid.to_id_string()).as_deref() {
        Some("1.2.840.10045.3.1.7") => KeyAlgorithm::EcP256,
        Some("1.3.132.0.34") => KeyAlgorithm::EcP384,
        Some("1.3.132.0.35") => KeyAlgorithm::EcP521,
        _ => KeyAlgorithm::EcOther,
    }
}

/// A private key as PKCS#8 DER. Zeroized on drop; has no `Debug` that shows it.
#[derive(Clone)]
pub struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// A private key file as read: in the clear, or still encrypted.
#[derive(Debug)]
pub enum KeyFile {
    /// PKCS#8, SEC1 or PKCS#1, in the clear.
    Clear(PrivateKey),
    /// PKCS#8 encrypted with PBES2.
    Encrypted(Vec<u8>),
}

impl PrivateKey {
    /// From PKCS#8 DER (RFC 5208, RFC 5958).
    pub fn from_pkcs8(der: Zeroizing<Vec<u8>>) -> Self {
        Self { pkcs8: der }
    }

    /// The PKCS#8 DER.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// One `PRIVATE KEY` block.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem::encode("PRIVATE KEY", &self.pkcs8))
    }

    /// One `ENCRYPTED PRIVATE KEY` block: PBES2 with PBKDF2-HMAC-SHA-256 and AES-256-CBC, which
    /// OpenSSL and GnuTLS both read; GnuTLS 3.7 does not read scrypt. `salt` and `iv` must be fresh
    /// random bytes.
    ///
    /// # Errors
    /// `key.encrypt` when the key is not PKCS#8.
    pub fn to_encrypted_pem(
        &self,
        passphrase: &[u8],
        salt: [u8; 16],
        iv: [u8; 16],
    ) -> Result<String, KeyError> {
        let failed = |e: &dyn fmt::Display| KeyError::Encrypt(e.to_string());
        let parameters = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(ROUNDS, &salt, iv)
            .map_err(|e| failed(&e))?;
        let info = PrivateKeyInfoRef::from_der(&self.pkcs8).map_err(|e| failed(&e))?;
        let document = info
            .encrypt_with_params(parameters, passphrase)
            .map_err(|e| failed(&e))?;
        Ok(pem::encode("ENCRYPTED PRIVATE KEY", document.as_bytes()))
    }

    /// Decrypts PKCS#8 encrypted with PBES2 (PBKDF2 or scrypt; AES).
    ///
    /// # Errors
    /// `key.passphrase` when the passphrase is wrong, `key.scheme` when the scheme is another,
    /// `key.format` when it asks for too much work or is cut short.
    pub fn decrypt(der: &[u8], passphrase: &[u8]) -> Result<Self, KeyError> {
        let info = EncryptedPrivateKeyInfoRef::from_der(der).map_err(|e| unread(der, e))?;
        bounded(&info)?;
        let document = info.decrypt(passphrase).map_err(|error| match error {
            pkcs8::Error::EncryptedPrivateKey(pkcs5::Error::NoPbes1CryptSupport) => {
                KeyError::Scheme(PBES1.into())
            }
            pkcs8::Error::EncryptedPrivateKey(pkcs5::Error::UnsupportedAlgorithm { oid }) => {
                KeyError::Scheme(oid.to_string())
            }
            _ => KeyError::Passphrase,
        })?;
        let clear = Zeroizing::new(document.as_bytes().to_vec());
        PrivateKeyInfoRef::from_der(&clear).map_err(|_| KeyError::Passphrase)?;
        Ok(Self { pkcs8: clear })
    }
}

/// Rounds of PBKDF2 for a key of ours, a tenth of a second's worth (OWASP's figure for HMAC-SHA-256).
const ROUNDS: u32 = 600_000;
/// What RFC 8018 §6.1 and RFC 7292 appendix C call by other names.
const PBES1: &str = "PBES1 (DES, triple DES or RC2)";

/// Why an encrypted key cannot be read: it is broken, or encrypted by a scheme we leave alone.
fn unread(der: &[u8], error: pkcs8::der::Error) -> KeyError {
    let named = |oid: &[u8]| der.windows(oid.len()).any(|window| window == oid);
    // pkcs-12PbeIds; pkcs-5 1 to 11 (12 is PBKDF2, 13 is PBES2); des-ede3-cbc.
    let pkcs12 = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];
    let pkcs5 = |n| {
        [
            0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, n,
        ]
    };
    let triple_des = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 0x07];
    if named(&pkcs12) || (1..=11).any(|n| named(&pkcs5(n))) {
        return KeyError::Scheme(PBES1.into());
    }
    if named(&triple_des) {
        return KeyError::Scheme("triple DES".into());
    }
    match error.kind() {
        pkcs8::der::ErrorKind::OidUnknown { oid } => KeyError::Scheme(oid.to_string()),
        _ => KeyError::Format(format!("the encrypted key cannot be read: {error}")),
    }
}

/// Most memory that opening a key may take, in bytes: four times what OpenSSL allows.
const MAX_KDF_BYTES: u64 = 128 << 20;
/// Most rounds of PBKDF2, some seconds' worth.
const MAX_KDF_ROUNDS: u32 = 10_000_000;

/// Refuses a file from outside that asks for more work than any honest one does (RFC 7914 §2: scrypt
/// takes 128 · N · r bytes).
fn bounded(info: &EncryptedPrivateKeyInfoRef<'_>) -> Result<(), KeyError> {
    let Some(scheme) = info.encryption_algorithm.pbes2() else {
        return Ok(());
    };
    let too_much = match &scheme.kdf {
        pbes2::Kdf::Pbkdf2(kdf) if kdf.iteration_count > MAX_KDF_ROUNDS => {
            format!(
                "{} rounds of PBKDF2, more than {MAX_KDF_ROUNDS}",
                kdf.iteration_count
            )
        }
        pbes2::Kdf::Scrypt(kdf) => {
            let lanes = u64::from(kdf.block_size).saturating_mul(kdf.parallelization.into());
            let bytes = kdf.cost_parameter.saturating_mul(128).saturating_mul(lanes);
            if bytes <= MAX_KDF_BYTES {
                return Ok(());
            }
            format!("{bytes} bytes of memory for scrypt, more than {MAX_KDF_BYTES}")
        }
        _ => return Ok(()),
    };
    Err(KeyError::Format(format!(
        "opening this key would take {too_much}"
    )))
}

impl KeyFile {
    /// Reads the first private key of a PEM text: `PRIVATE KEY`, `EC PRIVATE KEY`, `RSA PRIVATE
    /// KEY` or `ENCRYPTED PRIVATE KEY`; or the same four as DER.
    ///
    /// # Errors
    /// `pem.*`, `key.none`, `key.format`, `key.scheme`.
    pub fn parse(text: &[u8]) -> Result<Self, KeyError> {
        if text.first() == Some(&0x30) {
            return Self::from_der(text);
        }
        let mark = b"Proc-Type: 4,ENCRYPTED";
        if text.windows(mark.len()).any(|window| window == mark) {
            return Err(KeyError::Scheme(
                "OpenSSL's old format (Proc-Type: 4,ENCRYPTED)".into(),
            ));
        }
        for block in pem::parse(text)? {
            let der = Zeroizing::new(block.der);
            match &block.label[..] {
                "PRIVATE KEY" => return Ok(Self::Clear(PrivateKey { pkcs8: der })),
                "ENCRYPTED PRIVATE KEY" => return Ok(Self::Encrypted(der.to_vec())),
                "EC PRIVATE KEY" => return wrap_sec1(&der).map(Self::Clear),
                "RSA PRIVATE KEY" => return wrap(&RSA_ALGORITHM, &der).map(Self::Clear),
                _ => {}
            }
        }
        Err(KeyError::None)
    }

    /// Told apart by their parts: RFC 5958 §2 and §3, RFC 5915 §3, RFC 8017 appendix A.1.2.
    fn from_der(bytes: &[u8]) -> Result<Self, KeyError> {
        let odd = || KeyError::Format("this is no PKCS#8, SEC1 or PKCS#1 private key".into());
        let (outer, rest) = der::first(bytes).ok_or_else(odd)?;
        if !rest.is_empty() {
            return Err(odd());
        }
        let parts = der::children(outer.content).ok_or_else(odd)?;
        let tags: Vec<u8> = parts.iter().map(|part| part.tag).collect();
        match tags[..] {
            [0x30, 0x04] => Ok(Self::Encrypted(bytes.to_vec())),
            [0x02, 0x30, 0x04, ..] => Ok(Self::Clear(PrivateKey {
                pkcs8: Zeroizing::new(bytes.to_vec()),
            })),
            [0x02, 0x04, ..] => wrap_sec1(bytes).map(Self::Clear),
            [0x02, 0x02, 0x02, ..] => wrap(&RSA_ALGORITHM, bytes).map(Self::Clear),
            _ => Err(odd()),
        }
    }
}

/// `AlgorithmIdentifier` rsaEncryption with NULL parameters.
const RSA_ALGORITHM: [u8; 15] = [
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

/// Wraps a SEC1 `ECPrivateKey` (RFC 5915) into PKCS#8; its curve must be named inside.
fn wrap_sec1(der: &[u8]) -> Result<PrivateKey, KeyError> {
    let named = |oid: &[u8]| der.windows(oid.len()).any(|window| window == oid);
    let algorithm = if named(&P256_PREFIX[13..23]) {
        &P256_PREFIX[2..23]
    } else if named(&P384_PREFIX[13..20]) {
        &P384_PREFIX[2..20]
    } else {
        return Err(KeyError::Format(
            "the EC private key names no curve we take".into(),
        ));
    };
    wrap(algorithm, der)
}

/// `PrivateKeyInfo ::= SEQUENCE { 0, algorithm, OCTET STRING key }`.
fn wrap(algorithm: &[u8], key: &[u8]) -> Result<PrivateKey, KeyError> {
    let failed = |e: pkcs8::der::Error| KeyError::Format(e.to_string());
    let octets = pkcs8::der::asn1::OctetStringRef::new(key).map_err(failed)?;
    let mut body = Zeroizing::new(vec![0x02, 0x01, 0x00]);
    body.extend_from_slice(algorithm);
    octets.encode_to_vec(&mut body).map_err(failed)?;
    let sequence = pkcs8::der::AnyRef::new(pkcs8::der::Tag::Sequence, &body).map_err(failed)?;
    Ok(PrivateKey {
        pkcs8: Zeroizing::new(sequence.to_der().map_err(failed)?),
    })
}

/// Bytes that are not the key they should be.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Could not be encrypted.
    #[error("the key cannot be encrypted: {0}")]
    Encrypt(String),
    /// A format we do not read.
    #[error("{0}")]
    Format(String),
    /// No key block.
    #[error("there is no private key in this file")]
    None,
    /// Decryption failed.
    #[error("the passphrase does not open this key")]
    Passphrase,
    /// Not PEM.
    #[error(transparent)]
    Pem(#[from] pem::PemError),
    /// Encrypted by a scheme we do not read.
    #[error("the key is encrypted by {0}, which is not read here")]
    Scheme(String),
}

impl Explain for KeyError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Encrypt(_) => "key.encrypt",
            Self::Format(_) => "key.format",
            Self::None => "key.none",
            Self::Passphrase => "key.passphrase",
            Self::Pem(error) => error.code(),
            Self::Scheme(_) => "key.scheme",
        }
    }
    fn hint(&self) -> Option<String> {
        matches!(self, Self::Scheme(_)).then(|| {
            "convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY.pem -out NEW.pem; for DES, \
             RC2 or MD5 add -provider legacy -provider default"
                .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_would_take_too_much_to_open_is_refused() {
        let der = tlv_key();
        let key = PrivateKey::from_pkcs8(Zeroizing::new(der));
        let cost = pkcs5::scrypt::Params::new(14, 8, 1).unwrap();
        let scheme = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &[1; 16], [2; 16]).unwrap();
        let info = PrivateKeyInfoRef::from_der(key.pkcs8()).unwrap();
        let document = info.encrypt_with_params(scheme, b"secret").unwrap();
        let der = document.as_bytes();
        assert!(PrivateKey::decrypt(der, b"secret").is_ok());
        // N = 16384 and r = 8 stand one behind the other.
        let cost = [0x02, 0x02, 0x40, 0x00, 0x02, 0x01, 0x08];
        let at = der.windows(7).position(|w| w == cost).unwrap();
        let mut hostile = der.to_vec();
        hostile[at + 6] = 0x7f;
        let error = PrivateKey::decrypt(&hostile, b"secret").unwrap_err();
        assert!(error.to_string().contains("266338304 bytes"), "{error}");
    }

    /// A PKCS#8 of the right form; no arithmetic is done with it.
    fn tlv_key() -> Vec<u8> {
        let scalar = [7; 32];
        let sec1 = [&[0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20][..], &scalar].concat();
        wrap(&P256_PREFIX[2..23], &sec1).unwrap().pkcs8().to_vec()
    }
}
