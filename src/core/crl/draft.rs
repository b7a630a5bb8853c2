//! A CRL before it is signed: draft → (sign elsewhere) → seal. Full CRLs, v2 (RFC 5280 §5).

use super::{Crl, CrlError};
use crate::core::cert::Certificate;
use crate::core::der::{integer, time, tlv};
use crate::core::key::{KeyAlgorithm, PublicKey};
use crate::core::revocation::RevocationReason;
use crate::core::time::UtcTime;

/// One revoked certificate.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Revoked {
    /// Its serial number, big-endian.
    pub serial: Vec<u8>,
    /// When it was revoked.
    pub at: UtcTime,
    /// The `CRLReason` code; 0 leaves the extension out.
    reason_code: u8,
}

impl Revoked {
    /// From a ledger row.
    pub fn new(serial: &[u8], at: UtcTime, reason: RevocationReason) -> Self {
        let lead = serial.iter().take_while(|b| **b == 0).count();
        Self {
            serial: serial[lead..].to_vec(),
            at,
            reason_code: reason.code(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let (serial, at) = (integer(&self.serial), time(self.at));
        if self.reason_code == 0 {
            return tlv(0x30, &[&serial, &at]);
        }
        let code = tlv(0x0a, &[&[self.reason_code]]);
        let reason = extension(&[0x06, 0x03, 0x55, 0x1d, 0x15], &code);
        tlv(0x30, &[&serial, &at, &tlv(0x30, &[&reason])])
    }
}

/// Everything a CRL is to say.
#[derive(Clone, Debug)]
pub struct CrlSpec {
    /// Greater than that of every CRL of this CA before (RFC 5280 §5.2.3).
    pub number: u64,
    /// When it is made.
    pub this_update: UtcTime,
    /// When the next one comes at the latest.
    pub next_update: UtcTime,
    /// What is revoked, in any order.
    pub revoked: Vec<Revoked>,
}

/// The exact bytes a CA must sign.
#[derive(Debug)]
pub struct CrlDraft {
    tbs: Vec<u8>,
    algorithm: &'static [u8],
    issuer: PublicKey,
}

impl CrlDraft {
    /// Encodes the to-be-signed part: the CA's subject and key identifier as the bytes they are,
    /// the entries by serial number, so that the same facts give the same bytes.
    ///
    /// # Errors
    /// `crl.issuer` when the CA may not sign CRLs, `crl.window`, `crl.duplicate`.
    pub fn new(mut spec: CrlSpec, ca: &Certificate) -> Result<Self, CrlError> {
        let may_not = ca.key_usage.is_some_and(|usage| !usage.crl_sign);
        if ca.is_ca != Some(true) || may_not {
            return Err(CrlError::Issuer(ca.subject.to_string()));
        }
        if spec.next_update <= spec.this_update {
            return Err(CrlError::Window(spec.this_update, spec.next_update));
        }
        let algorithm = signature_algorithm(&ca.public_key)?;
        spec.revoked
            .sort_by(|a, b| (a.serial.len(), &a.serial).cmp(&(b.serial.len(), &b.serial)));
        if let Some(pair) = spec.revoked.windows(2).find(|p| p[0].serial == p[1].serial) {
            return Err(CrlError::Duplicate(crate::core::ids::hex(&pair[0].serial)));
        }
        let entries: Vec<u8> = spec.revoked.iter().flat_map(Revoked::encode).collect();
        // An empty list is left out: RFC 5280 §5.1.2.6.
        let list = if entries.is_empty() {
            Vec::new()
        } else {
            tlv(0x30, &[&entries])
        };
        let own_id = || ca.public_key.key_id().to_vec();
        let key_id = ca.subject_key_id.clone().unwrap_or_else(own_id);
        let authority = tlv(0x30, &[&tlv(0x80, &[&key_id])]);
        let number = integer(&spec.number.to_be_bytes());
        let extensions = tlv(
            0x30,
            &[
                &extension(&[0x06, 0x03, 0x55, 0x1d, 0x23], &authority),
                &extension(&[0x06, 0x03, 0x55, 0x1d, 0x14], &number),
            ],
        );
        let tbs = tlv(
            0x30,
            &[
                &[0x02, 0x01, 0x01],
                algorithm,
                &ca.subject_der,
                &time(spec.this_update),
                &time(spec.next_update),
                &list,
                &tlv(0xa0, &[&extensions]),
            ],
        );
        Ok(Self {
            tbs,
            algorithm,
            issuer: ca.public_key.clone(),
        })
    }

    /// The bytes to sign.
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    /// Puts the signature on, and reads the result back: the signature must be the CA's.
    ///
    /// # Errors
    /// `crl.seal` when it is not.
    pub fn seal(self, signature: &[u8]) -> Result<Crl, CrlError> {
        let bits = tlv(0x03, &[&[0], signature]);
        let der = tlv(0x30, &[&self.tbs, self.algorithm, &bits]);
        let crl = Crl::from_der(&der)?;
        if crl.verifies_with(&self.issuer) {
            Ok(crl)
        } else {
            Err(CrlError::Seal)
        }
    }
}

fn extension(oid: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[oid, &tlv(0x04, &[value])])
}

/// The `AlgorithmIdentifier` that goes with what [`crate::ports::Signer`] makes of this key:
/// ECDSA with SHA-256 (P-256) or SHA-384 (P-384), RSA PKCS#1 v1.5 with SHA-256.
fn signature_algorithm(key: &PublicKey) -> Result<&'static [u8], CrlError> {
    Ok(match key.algorithm() {
        KeyAlgorithm::EcP256 => &[
            0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
        ],
        KeyAlgorithm::EcP384 => &[
            0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03,
        ],
        KeyAlgorithm::Rsa(_) => &[
            0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05,
            0x00,
        ],
        other => return Err(CrlError::IssuerKey(other)),
    })
}
