use super::*;
use crate::core::cert::Certificate;
use crate::core::draft::{Draft, DraftSpec, Extras, IssuerView, Purpose};
use crate::core::time::{Span, Validity};
use crate::effects::keys::{LocalSigner, RingKeys};
use crate::ports::{Keygen, Signer};

fn ca(algorithm: KeyAlgorithm) -> (LocalSigner, Certificate) {
    let (key, public) = RingKeys::default().generate(algorithm).unwrap();
    let signer = LocalSigner::new(&key).unwrap();
    let spec = DraftSpec {
        subject: "DC=example,DC=com,CN=Root".parse().unwrap(),
        serial: [1; 16],
        validity: Validity {
            not_before: "2026-01-01".parse().unwrap(),
            not_after: "2050-01-01".parse().unwrap(),
        },
        public_key: &public,
        purpose: Purpose::Root { path_len: None },
        alternative_names: Vec::new(),
        extras: Extras::default(),
    };
    let view = IssuerView::self_signed(&spec.subject, &public).unwrap();
    let draft = Draft::new(&spec, &view).unwrap();
    let signature = signer.sign(draft.tbs()).unwrap();
    (signer, draft.seal(&signature).unwrap())
}

fn spec(revoked: Vec<Revoked>) -> CrlSpec {
    let this_update: UtcTime = "2026-06-01".parse().unwrap();
    CrlSpec {
        number: 7,
        this_update,
        next_update: this_update.plus(Span::days(7)),
        revoked,
    }
}

#[test]
fn what_is_drafted_is_read_back() {
    let at: UtcTime = "2026-05-01".parse().unwrap();
    for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384] {
        let (signer, ca) = ca(algorithm);
        let revoked = vec![
            Revoked::new(&[0x90; 16], at, RevocationReason::KeyCompromise),
            Revoked::new(&[0, 5], at, RevocationReason::Unspecified),
        ];
        let draft = CrlDraft::new(spec(revoked.clone()), &ca).unwrap();
        let reversed = revoked.into_iter().rev().collect();
        let again = CrlDraft::new(spec(reversed), &ca).unwrap();
        assert_eq!(draft.tbs(), again.tbs());
        let signature = signer.sign(draft.tbs()).unwrap();
        let crl = draft.seal(&signature).unwrap();
        assert_eq!(crl.issuer_der, ca.subject_der);
        assert_eq!(crl.authority_key_id, ca.subject_key_id);
        assert_eq!(crl.number, Some(vec![7]));
        assert_eq!((crl.len(), crl.unusable.clone()), (2, None));
        let entry = crl.entry(&[0x90; 16]).unwrap();
        assert_eq!(entry.reason, Some(RevocationReason::KeyCompromise));
        assert_eq!(entry.at, at);
        assert_eq!(
            crl.entry(&[5]).unwrap().reason,
            Some(RevocationReason::Unspecified)
        );
        assert_eq!(crl.entry(&[6]), None);
        let text = crl.to_pem();
        assert_eq!(
            Crl::all_from_pem(text.as_bytes()).unwrap()[0].der(),
            crl.der()
        );
    }
}

#[test]
fn an_empty_list_is_left_out_and_a_foreign_signature_refused() {
    let (signer, own) = ca(KeyAlgorithm::EcP256);
    let (other, _) = ca(KeyAlgorithm::EcP256);
    let draft = || CrlDraft::new(spec(Vec::new()), &own).unwrap();
    let signature = signer.sign(draft().tbs()).unwrap();
    assert!(draft().seal(&signature).unwrap().is_empty());
    let signature = other.sign(draft().tbs()).unwrap();
    assert!(matches!(draft().seal(&signature), Err(CrlError::Seal)));
}

#[test]
fn a_wrong_spec_is_refused() {
    let (_, own) = ca(KeyAlgorithm::EcP256);
    let at: UtcTime = "2026-05-01".parse().unwrap();
    let one = || Revoked::new(&[1], at, RevocationReason::Superseded);
    let twice = CrlDraft::new(spec(vec![one(), one()]), &own);
    assert!(matches!(twice, Err(CrlError::Duplicate(_))));
    let mut over = spec(Vec::new());
    over.next_update = over.this_update;
    assert!(matches!(
        CrlDraft::new(over, &own),
        Err(CrlError::Window(..))
    ));
}
