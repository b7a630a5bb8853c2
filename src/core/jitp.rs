//! What happens to a client that has just proved to own a certificate's key: it may connect, it
//! must first be registered and provisioned (just-in-time provisioning or registration), or it is
//! refused. Source: the developer guide's "Just-in-time provisioning" and "Client certificates".

use crate::core::cert::{CLIENT_AUTH, Certificate};
use crate::core::ids::CertificateId;
use crate::core::status::CertificateStatus;
use crate::core::time::UtcTime;
use crate::explain::{Explain, Kind};

/// A registered CA that may have signed the leaf.
#[derive(Clone, Debug)]
pub struct CaView {
    /// The CA's certificate.
    pub certificate: Certificate,
    /// `ACTIVE`.
    pub active: bool,
    /// What becomes of an unknown certificate that it signed.
    pub registration: Registration,
    /// Registered as `SNI_ONLY`.
    pub sni_only: bool,
}

/// What a CA does for unknown certificates that it signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Registration {
    /// Nothing: auto registration is `DISABLE`.
    Off,
    /// It registers them; somebody else makes them active (just-in-time registration).
    Register,
    /// It registers them and runs its template (just-in-time provisioning).
    Provision,
}

/// The leaf's own entry in the registry.
#[derive(Clone, Debug)]
pub struct LeafView {
    /// Its status.
    pub status: CertificateStatus,
    /// Its mode is `SNI_ONLY`.
    pub sni_only: bool,
}

/// What the client brought.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The certificate whose key it has.
    pub leaf: &'a Certificate,
    /// What came after it in the handshake.
    pub others: &'a [Certificate],
    /// It named the endpoint in the TLS server name extension.
    pub server_name: bool,
}

/// What the registry knows of it.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The leaf's entry, if it has one.
    pub leaf: Option<LeafView>,
    /// Every registered CA whose subject is the leaf's issuer, byte for byte.
    pub cas: Vec<CaView>,
}

/// What to do with the client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Let it connect.
    Admit,
    /// Close the connection, and provision it meanwhile.
    Provision(Provision),
    /// Close the connection.
    Refuse(Refusal),
}

/// A certificate on its way into the registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Provision {
    /// The CA that signed it.
    pub ca: CertificateId,
    /// It is not in the registry yet: put it there as `PENDING_ACTIVATION`.
    pub register: bool,
    /// Run the CA's template (JITP); otherwise somebody else makes it active (JITR).
    pub run_template: bool,
}

/// Decides, as of `now`. With `allow_expired` the leaf's own dates are not looked at.
pub fn decide(presented: Presented<'_>, view: &View, now: UtcTime, allow_expired: bool) -> Verdict {
    let check = || -> Result<Verdict, Refusal> {
        let leaf = presented.leaf;
        let pending = match &view.leaf {
            Some(entry) => {
                standing(entry.status)?;
                server_name(presented, entry.sni_only)?;
                entry.status == CertificateStatus::PendingActivation
            }
            None => false,
        };
        if !allow_expired {
            in_time(leaf, now)?;
        }
        fit_for_clients(leaf)?;
        if view.leaf.is_some() && !pending {
            return Ok(Verdict::Admit);
        }
        let ca = issuer(presented, view, now)?;
        Ok(Verdict::Provision(Provision {
            ca: ca.certificate.id().clone(),
            register: !pending,
            run_template: ca.registration == Registration::Provision,
        }))
    };
    check().unwrap_or_else(Verdict::Refuse)
}

fn standing(status: CertificateStatus) -> Result<(), Refusal> {
    match status {
        CertificateStatus::Active | CertificateStatus::PendingActivation => Ok(()),
        other => Err(Refusal::Status(other)),
    }
}

/// Without a server name only a `DEFAULT` certificate finds its account.
fn server_name(presented: Presented<'_>, sni_only: bool) -> Result<(), Refusal> {
    if presented.server_name || !sni_only {
        Ok(())
    } else {
        Err(Refusal::NoServerName)
    }
}

fn in_time(leaf: &Certificate, now: UtcTime) -> Result<(), Refusal> {
    if now < leaf.validity.not_before {
        Err(Refusal::NotYetValid(leaf.validity.not_before))
    } else if now > leaf.validity.not_after {
        Err(Refusal::Expired(leaf.validity.not_after))
    } else {
        Ok(())
    }
}

/// Whether the certificate is one that a client may show at all (RFC 5280 §4.1.2.1, §4.2.1.12).
fn fit_for_clients(leaf: &Certificate) -> Result<(), Refusal> {
    if leaf.version != 3 {
        return Err(Refusal::Version(leaf.version));
    }
    if leaf.allows_usage(CLIENT_AUTH) {
        Ok(())
    } else {
        let usages = leaf.extended_key_usage.clone().unwrap_or_default();
        Err(Refusal::Purpose(usages.join(", ")))
    }
}

/// The CA under which the leaf may be registered now; the first objection of the first CA that
/// signed it when there is none.
fn issuer<'a>(
    presented: Presented<'_>,
    view: &'a View,
    now: UtcTime,
) -> Result<&'a CaView, Refusal> {
    let leaf = presented.leaf;
    if view.cas.is_empty() {
        return Err(Refusal::UnknownCa(leaf.issuer.to_string()));
    }
    if let Some(reason) = leaf.unsupported_algorithm() {
        return Err(Refusal::Algorithm(reason));
    }
    let mut objection = None;
    let signers = view
        .cas
        .iter()
        .filter(|ca| leaf.is_signed_by(&ca.certificate));
    for ca in signers {
        match may_register(presented, ca, now) {
            Ok(()) => return Ok(ca),
            Err(refusal) => objection = objection.or(Some(refusal)),
        }
    }
    Err(objection.unwrap_or_else(|| not_signed(leaf, view)))
}

/// No CA of the issuer's name signed the leaf: either it names the key of one of them, and its
/// signature is broken, or it comes from another CA that took the name.
fn not_signed(leaf: &Certificate, view: &View) -> Refusal {
    let names_key = |ca: &CaView| {
        let key_id = leaf.authority_key_id.as_ref();
        key_id.is_some() && key_id == ca.certificate.subject_key_id.as_ref()
    };
    let issuer = leaf.issuer.to_string();
    if view.cas.iter().any(names_key) {
        Refusal::BrokenSignature(issuer)
    } else {
        Refusal::Signature(issuer)
    }
}

fn may_register(presented: Presented<'_>, ca: &CaView, now: UtcTime) -> Result<(), Refusal> {
    let id = ca.certificate.id();
    let shown = presented.others.iter().any(|other| other.id() == id);
    if !ca.active {
        return Err(Refusal::CaInactive(id.clone()));
    }
    if ca.registration == Registration::Off {
        return Err(Refusal::AutoRegistrationOff(id.clone()));
    }
    if !ca.certificate.validity.contains(now) {
        return Err(Refusal::CaOutOfTime(id.clone()));
    }
    server_name(presented, ca.sni_only || !shown)
}

/// Why a client may not connect.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A key or signature that AWS IoT does not take.
    #[error("the certificate cannot be registered: {0}")]
    Algorithm(String),
    /// The CA does not register by itself.
    #[error("the certificate is not registered, and its CA {0} has auto registration DISABLE")]
    AutoRegistrationOff(CertificateId),
    /// The leaf names a registered CA's key, but that key's signature on it does not verify.
    #[error(
        "the certificate is not registered; it names the key of the registered CA `{0}`, but its \
         signature does not verify with that key"
    )]
    BrokenSignature(String),
    /// The CA is not active.
    #[error("the certificate is not registered, and its CA {0} is INACTIVE")]
    CaInactive(CertificateId),
    /// The CA is over, or has not begun.
    #[error("the certificate is not registered, and its CA {0} is outside its validity")]
    CaOutOfTime(CertificateId),
    /// The leaf is over.
    #[error("the certificate expired at {0}")]
    Expired(UtcTime),
    /// A certificate that needs the server name came without it.
    #[error("the client sent no TLS server name, which this certificate needs")]
    NoServerName,
    /// The leaf has not begun.
    #[error("the certificate is not valid before {0}")]
    NotYetValid(UtcTime),
    /// The leaf is for something else.
    #[error("the certificate is not for TLS clients: its extended key usage is {0}")]
    Purpose(String),
    /// A registered CA has the issuer's name, but another key.
    #[error("the certificate is not registered; a CA named `{0}` is, but its key did not sign it")]
    Signature(String),
    /// Registered, and not to be used.
    #[error("the certificate is {0}")]
    Status(CertificateStatus),
    /// No CA of that name is registered.
    #[error("the certificate is not registered, and no CA named `{0}` is either")]
    UnknownCa(String),
    /// The leaf is not of version 3.
    #[error("the certificate is of X.509 version {0}, not 3")]
    Version(u32),
}

impl Explain for Refusal {
    fn kind(&self) -> Kind {
        Kind::Negative
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Algorithm(_) => "connect.algorithm",
            Self::AutoRegistrationOff(_) => "connect.auto-registration-off",
            Self::BrokenSignature(_) => "connect.broken-signature",
            Self::CaInactive(_) => "connect.ca-inactive",
            Self::CaOutOfTime(_) => "connect.ca-out-of-time",
            Self::Expired(_) => "connect.expired",
            Self::NoServerName => "connect.no-server-name",
            Self::NotYetValid(_) => "connect.not-yet-valid",
            Self::Purpose(_) => "connect.purpose",
            Self::Signature(_) => "connect.signature",
            Self::Status(_) => "connect.status",
            Self::UnknownCa(_) => "connect.unknown-ca",
            Self::Version(_) => "connect.version",
        }
    }
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Algorithm(_) => "issue one with a P-256 key, or RSA of at least 2048 bits",
            Self::AutoRegistrationOff(_) | Self::CaInactive(_) | Self::UnknownCa(_) => {
                "run `nameplate ca register` with a JITP template"
            }
            Self::BrokenSignature(_) => {
                "the certificate was changed after it was signed, or copied badly: install it \
                 anew, or issue another"
            }
            Self::CaOutOfTime(_) => "register a CA that is valid now, and issue from it",
            Self::Expired(_) | Self::NotYetValid(_) => {
                "check the device's clock with `nameplate preflight`, or issue a new certificate"
            }
            Self::NoServerName => {
                "let the client send the endpoint's name as TLS server name (SNI)"
            }
            Self::Purpose(_) => "issue it with the extended key usage clientAuth, or with none",
            Self::Signature(_) => {
                "two CAs have this name: register the one that issued the certificate, or issue it \
                 from the registered one"
            }
            Self::Status(_) => "make the certificate ACTIVE, or give the device another one",
            Self::Version(_) => "issue it with version 3",
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::draft::{Draft, DraftSpec, Extras, IssuerView, Purpose};
    use crate::core::key::{KeyAlgorithm, PublicKey};
    use crate::core::subject::Subject;
    use crate::core::time::{Span, Validity};
    use crate::effects::keys::{LocalSigner, RingKeys};
    use crate::ports::{Keygen, Signer};

    const NOW: i64 = 1_800_000_000;

    struct Ca {
        certificate: Certificate,
        signer: LocalSigner,
    }

    fn days(from: i64, to: i64) -> Validity {
        let at = |days| UtcTime::from_unix(NOW).plus(Span::days(days));
        Validity {
            not_before: at(from),
            not_after: at(to),
        }
    }

    fn key() -> (LocalSigner, PublicKey) {
        let (key, public) = RingKeys::default().generate(KeyAlgorithm::EcP256).unwrap();
        (LocalSigner::new(&key).unwrap(), public)
    }

    fn make(subject: &str, public: &PublicKey, purpose: Purpose, validity: Validity) -> Wanted {
        Wanted(subject.parse().unwrap(), public.clone(), purpose, validity)
    }

    struct Wanted(Subject, PublicKey, Purpose, Validity);

    impl Wanted {
        fn sign(self, issuer: &IssuerView, signer: &LocalSigner) -> Certificate {
            let spec = DraftSpec {
                subject: self.0,
                serial: [7; 16],
                validity: self.3,
                public_key: &self.1,
                purpose: self.2,
                alternative_names: vec![],
                extras: Extras::default(),
            };
            let draft = Draft::new(&spec, issuer).unwrap();
            let signature = signer.sign(draft.tbs()).unwrap();
            draft.seal(&signature).unwrap()
        }
    }

    fn ca(validity: Validity) -> Ca {
        let (signer, public) = key();
        let subject: Subject = "CN=Factory CA".parse().unwrap();
        let issuer = IssuerView::self_signed(&subject, &public).unwrap();
        let purpose = Purpose::Root { path_len: None };
        let certificate = make("CN=Factory CA", &public, purpose, validity).sign(&issuer, &signer);
        Ca {
            certificate,
            signer,
        }
    }

    fn leaf(ca: &Ca, validity: Validity) -> Certificate {
        let (_, public) = key();
        let issuer = IssuerView::from_ca(&ca.certificate).unwrap();
        make("CN=pump-1", &public, Purpose::Device, validity).sign(&issuer, &ca.signer)
    }

    fn view(ca: &Ca) -> CaView {
        CaView {
            certificate: ca.certificate.clone(),
            active: true,
            registration: Registration::Provision,
            sni_only: false,
        }
    }

    fn ask(leaf: &Certificate, cas: Vec<CaView>, status: Option<CertificateStatus>) -> Verdict {
        let presented = Presented {
            leaf,
            others: &[],
            server_name: true,
        };
        let leaf = status.map(|status| LeafView {
            status,
            sni_only: false,
        });
        let view = View { leaf, cas };
        decide(presented, &view, UtcTime::from_unix(NOW), false)
    }

    #[test]
    fn a_registered_certificate_goes_by_its_status_and_dates() {
        use CertificateStatus::{Active, Inactive, PendingTransfer, Revoked};
        let ca = ca(days(-10, 10));
        let good = leaf(&ca, days(-1, 1));
        assert_eq!(ask(&good, vec![], Some(Active)), Verdict::Admit);
        for status in [Inactive, Revoked, PendingTransfer] {
            let expected = Verdict::Refuse(Refusal::Status(status));
            assert_eq!(ask(&good, vec![view(&ca)], Some(status)), expected);
        }
        let (old, early) = (leaf(&ca, days(-2, -1)), leaf(&ca, days(1, 2)));
        for (leaf, code) in [(&old, "connect.expired"), (&early, "connect.not-yet-valid")] {
            for status in [Some(Active), None] {
                let Verdict::Refuse(refusal) = ask(leaf, vec![view(&ca)], status) else {
                    panic!("{code}")
                };
                assert_eq!(refusal.code(), code);
            }
        }
    }

    #[test]
    fn an_unknown_certificate_goes_by_its_ca() {
        let signer = ca(days(-10, 10));
        let stranger = ca(days(-10, 10));
        let leaf = leaf(&signer, days(-1, 1));
        let with = |change: fn(&mut CaView)| {
            let mut one = view(&signer);
            change(&mut one);
            vec![one]
        };
        for (cas, code) in [
            (vec![], "connect.unknown-ca"),
            (vec![view(&stranger)], "connect.signature"),
            (with(|ca| ca.active = false), "connect.ca-inactive"),
            (
                with(|ca| ca.registration = Registration::Off),
                "connect.auto-registration-off",
            ),
            (
                vec![view(&ca(days(-10, 10))), view(&stranger)],
                "connect.signature",
            ),
        ] {
            let Verdict::Refuse(refusal) = ask(&leaf, cas, None) else {
                panic!("{code}")
            };
            assert_eq!(refusal.code(), code);
        }
        let provision = |register, run_template| {
            Verdict::Provision(Provision {
                ca: signer.certificate.id().clone(),
                register,
                run_template,
            })
        };
        assert_eq!(
            ask(&leaf, vec![view(&stranger), view(&signer)], None),
            provision(true, true)
        );
        assert_eq!(
            ask(
                &leaf,
                with(|ca| ca.registration = Registration::Register),
                None
            ),
            provision(true, false)
        );
        let pending = Some(CertificateStatus::PendingActivation);
        assert_eq!(ask(&leaf, with(|_| ()), pending), provision(false, true));
    }

    #[test]
    fn a_broken_signature_is_told_from_a_stolen_name() {
        let signer = ca(days(-10, 10));
        let good = leaf(&signer, days(-1, 1));
        let mut der = good.der().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        let broken = Certificate::from_der(&der).unwrap();
        for (leaf, code) in [
            (&broken, "connect.broken-signature"),
            (&leaf(&ca(days(-10, 10)), days(-1, 1)), "connect.signature"),
        ] {
            let Verdict::Refuse(refusal) = ask(leaf, vec![view(&signer)], None) else {
                panic!("{code}")
            };
            assert_eq!(refusal.code(), code);
        }
    }

    #[test]
    fn a_servers_certificate_is_no_clients() {
        let signer = ca(days(-10, 10));
        let (_, public) = key();
        let issuer = IssuerView::from_ca(&signer.certificate).unwrap();
        let server = make("CN=pump-1", &public, Purpose::Server, days(-1, 1));
        let server = server.sign(&issuer, &signer.signer);
        for status in [None, Some(CertificateStatus::Active)] {
            let verdict = ask(&server, vec![view(&signer)], status);
            let expected = Refusal::Purpose("1.3.6.1.5.5.7.3.1".into());
            assert_eq!(verdict, Verdict::Refuse(expected));
        }
    }

    #[test]
    fn an_expired_ca_registers_nobody() {
        let old = ca(days(-10, -1));
        let leaf = leaf(&old, days(-2, 1));
        let expected = Refusal::CaOutOfTime(old.certificate.id().clone());
        assert_eq!(
            ask(&leaf, vec![view(&old)], None),
            Verdict::Refuse(expected)
        );
    }

    #[test]
    fn without_a_server_name_the_ca_must_be_shown() {
        let ca = ca(days(-10, 10));
        let leaf = leaf(&ca, days(-1, 1));
        let shown = [ca.certificate.clone()];
        let mut view = View {
            leaf: None,
            cas: vec![view(&ca)],
        };
        let ask = |others, view: &View| {
            let presented = Presented {
                leaf: &leaf,
                others,
                server_name: false,
            };
            decide(presented, view, UtcTime::from_unix(NOW), false)
        };
        assert_eq!(ask(&[], &view), Verdict::Refuse(Refusal::NoServerName));
        assert!(matches!(ask(&shown, &view), Verdict::Provision(_)));
        view.leaf = Some(LeafView {
            status: CertificateStatus::Active,
            sni_only: true,
        });
        assert_eq!(ask(&shown, &view), Verdict::Refuse(Refusal::NoServerName));
    }
}
