//! Many certificates that differ only in serial number, subject and key: the rest is encoded once,
//! by [`Draft::new`], and each certificate is put together from the parts.

use ring::digest::{SHA256, digest};

use super::{Draft, DraftError, DraftSpec, IssuerView, children, named, positive, put_head, tlv};
use crate::core::key::PublicKey;
use crate::core::subject::Subject;

/// subjectKeyIdentifier of 20 bytes up to those bytes: its OID, then OCTET STRING in OCTET STRING.
const KEY_ID_PREFIX: [u8; 9] = [0x06, 0x03, 0x55, 0x1d, 0x0e, 0x04, 0x16, 0x04, 0x14];
/// Bytes of a key identifier.
const KEY_ID: usize = 20;

/// What all certificates of a batch have in common.
#[derive(Clone, Debug)]
pub struct Stamp {
    version: Vec<u8>,
    algorithm: Vec<u8>,
    issuer: Vec<u8>,
    validity: Vec<u8>,
    extensions: Vec<u8>,
    /// Where the subject's key identifier stands in `extensions`.
    key_id: usize,
    /// Whether the subjects have attributes: an empty one makes subjectAltName critical.
    named: bool,
}

impl Stamp {
    /// From the draft of one certificate; its serial number, subject and key are put aside.
    ///
    /// # Errors
    /// `draft.*`.
    pub fn new(spec: &DraftSpec<'_>, issuer: &IssuerView) -> Result<Self, DraftError> {
        let draft = Draft::new(spec, issuer)?;
        let parts = children(draft.tbs()).ok_or(DraftError::Splice)?;
        let [version, _, algorithm, issuer, validity, _, _, extensions] = parts[..] else {
            return Err(DraftError::Splice);
        };
        let id = spec.public_key.key_id();
        let key_id = extensions
            .windows(KEY_ID_PREFIX.len() + KEY_ID)
            .position(|at| at.starts_with(&KEY_ID_PREFIX) && at.ends_with(&id))
            .ok_or(DraftError::Splice)?
            + KEY_ID_PREFIX.len();
        Ok(Self {
            version: version.to_vec(),
            algorithm: algorithm.to_vec(),
            issuer: issuer.to_vec(),
            validity: validity.to_vec(),
            extensions: extensions.to_vec(),
            key_id,
            named: !spec.subject.attributes().is_empty(),
        })
    }

    /// The bytes to sign for one device: what [`Draft::new`] gives for the same fields.
    ///
    /// # Errors
    /// `draft.subject`, `draft.encode`.
    pub fn tbs(
        &self,
        serial: [u8; 16],
        subject: &Subject,
        public_key: &PublicKey,
    ) -> Result<Vec<u8>, DraftError> {
        if subject.attributes().is_empty() == self.named {
            return Err(DraftError::Splice);
        }
        let serial = positive(serial);
        let first = serial.iter().position(|b| *b != 0).unwrap_or(15);
        let sign: &[u8] = if serial[first] >= 0x80 { &[0] } else { &[] };
        let serial = &serial[first..];
        // At most 17 bytes: its length is one byte.
        let length = u8::try_from(sign.len() + serial.len()).unwrap_or_default();
        let subject = named(subject)?;
        let id = digest(&SHA256, public_key.bits());
        let after = self.key_id + KEY_ID;
        Ok(tlv(
            0x30,
            &[
                &self.version,
                &[0x02, length],
                sign,
                serial,
                &self.algorithm,
                &self.issuer,
                &self.validity,
                &subject,
                public_key.spki(),
                &self.extensions[..self.key_id],
                &id.as_ref()[..KEY_ID],
                &self.extensions[after..],
            ],
        ))
    }

    /// The certificate's DER: the signature put on, nothing verified.
    pub fn seal(&self, tbs: &[u8], signature: &[u8]) -> Vec<u8> {
        let mut head = Vec::with_capacity(8);
        put_head(&mut head, 0x03, signature.len() + 1);
        head.push(0);
        tlv(0x30, &[tbs, &self.algorithm, &head, signature])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Extras, Purpose};
    use super::*;
    use crate::core::cert::Certificate;
    use crate::core::key::KeyAlgorithm;
    use crate::core::subject::Attribute;
    use crate::core::time::Validity;
    use crate::effects::keys::{LocalSigner, RingKeys};
    use crate::ports::{Keygen, Signer};

    fn spec(serial: [u8; 16], subject: Subject, public_key: &PublicKey) -> DraftSpec<'_> {
        DraftSpec {
            subject,
            serial,
            validity: Validity {
                not_before: "2026-01-01".parse().unwrap(),
                not_after: "2051-01-01".parse().unwrap(),
            },
            public_key,
            purpose: Purpose::Device,
            alternative_names: vec!["DNS:pump.example".into()],
            extras: Extras {
                key_usage: vec!["digitalSignature", "keyAgreement"],
                extended_key_usage: vec!["1.2.3".into()],
                extensions: Vec::new(),
            },
        }
    }

    fn attribute() -> impl Strategy<Value = Attribute> {
        let oid = prop_oneof![
            Just("2.5.4.3"),
            Just("2.5.4.11"),
            Just("2.5.4.5"),
            Just("0.9.2342.19200300.100.1.25"),
        ];
        (oid, "[a-zA-Z0-9 ]{1,200}").prop_map(|(oid, value)| Attribute {
            oid: oid.into(),
            value,
        })
    }

    proptest! {
        /// Byte for byte what the slow way gives, whatever the lengths.
        #[test]
        fn a_stamp_is_a_draft(
            serial in any::<[u8; 16]>(),
            zeros in 0_usize..17,
            attributes in prop::collection::vec(attribute(), 1..6),
            point in prop::collection::vec(any::<u8>(), 97),
            wide in any::<bool>(),
            ca_wide in any::<bool>(),
        ) {
            let mut serial = serial;
            serial[..zeros].fill(0);
            let length = if wide { 97 } else { 65 };
            let key = PublicKey::from_ec_point(&point[..length]).unwrap();
            let ca = PublicKey::from_ec_point(&[4; 97][..if ca_wide { 97 } else { 65 }]).unwrap();
            let template = PublicKey::from_ec_point(&[9; 97][..length]).unwrap();
            let view = IssuerView::self_signed(&"CN=CA,O=x".parse().unwrap(), &ca).unwrap();
            let stamp = Stamp::new(&spec([1; 16], Subject::common_name("a"), &template), &view)
                .unwrap();
            let subject = Subject::new(attributes);
            let draft = Draft::new(&spec(serial, subject.clone(), &key), &view).unwrap();
            let tbs = stamp.tbs(serial, &subject, &key).unwrap();
            prop_assert_eq!(&tbs[..], draft.tbs());
        }
    }

    #[test]
    fn a_stamped_certificate_verifies() {
        let (ca_key, ca) = RingKeys::default().generate(KeyAlgorithm::EcP384).unwrap();
        let view = IssuerView::self_signed(&Subject::common_name("CA"), &ca).unwrap();
        let (_, key) = RingKeys::default().generate(KeyAlgorithm::EcP256).unwrap();
        let subject = Subject::common_name("pump");
        let stamp = Stamp::new(&spec([1; 16], subject.clone(), &key), &view).unwrap();
        let tbs = stamp.tbs([0xff; 16], &subject, &key).unwrap();
        let signature = LocalSigner::new(&ca_key).unwrap().sign(&tbs).unwrap();
        let leaf = Certificate::from_der(&stamp.seal(&tbs, &signature)).unwrap();
        assert!(leaf.verifies_with(&ca));
        assert_eq!(leaf.public_key, key);
    }

    #[test]
    fn an_empty_subject_is_another_stamp() {
        let key = PublicKey::from_ec_point(&[4; 65]).unwrap();
        let view = IssuerView::self_signed(&Subject::common_name("CA"), &key).unwrap();
        let stamp = Stamp::new(&spec([1; 16], Subject::common_name("a"), &key), &view).unwrap();
        assert!(stamp.tbs([1; 16], &Subject::default(), &key).is_err());
    }
}
