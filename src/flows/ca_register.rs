//! `ca register`: look at what is there, prove that the CA's key is ours, register or change.

use std::fmt;

use crate::core::cert::Certificate;
use crate::core::draft::{Draft, DraftError, DraftSpec, Extras, IssuerView, Purpose};
use crate::core::ids::{CertificateId, TemplateName};
use crate::core::key::{KeyAlgorithm, KeyError};
use crate::core::subject::Subject;
use crate::core::template::TemplateKind;
use crate::core::time::{Span, UtcTime, Validity};
use crate::explain::{Explain, Kind};
use crate::ports::cloud::{
    CaRegistration, CaUpdate, CaView, CertificateMode, CloudError, CloudErrorKind, ControlPlane,
};
use crate::ports::{Clock, Entropy, Keygen, SignError, Signer};

/// A verification certificate is used within seconds; its clock may be an hour off either way.
const VERIFICATION_BACKDATE: Span = Span::seconds(3600);
const VERIFICATION_LIFE: Span = Span::days(1);

/// What the flow acts through.
pub struct CaRegister<'a> {
    /// The time.
    pub clock: &'a dyn Clock,
    /// Serial numbers.
    pub entropy: &'a dyn Entropy,
    /// The verification certificate's key.
    pub keygen: &'a dyn Keygen,
    /// Where to.
    pub plane: &'a dyn ControlPlane,
}

/// How the CA is to stand at the target.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The CA.
    pub certificate: Certificate,
    /// With or without proof.
    pub mode: CertificateMode,
    /// ACTIVE.
    pub active: bool,
    /// Whether first connects register a device.
    pub auto_registration: bool,
    /// The JITP template; `None` leaves what is there.
    pub template: Option<TemplateName>,
}

/// One setting that differs.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Change {
    /// Which.
    pub setting: &'static str,
    /// What the target has.
    pub from: String,
    /// What is wanted.
    pub to: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.setting, self.from, self.to)
    }
}

/// What has to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Plan {
    /// The CA is not there.
    Register,
    /// It is there and differs.
    Change(Vec<Change>),
    /// It stands as wanted.
    Nothing,
}

impl CaRegister<'_> {
    /// Compares the target with what is wanted.
    ///
    /// # Errors
    /// `ca-register.*` for what AWS IoT would refuse, `cloud.*`.
    pub fn plan(&self, wanted: &Wanted) -> Result<Plan, CaRegisterError> {
        check_certificate(&wanted.certificate, self.clock.now())?;
        if let Some(name) = &wanted.template {
            match self.plane.describe_template(name)? {
                None => return Err(CaRegisterError::NoTemplate(name.clone())),
                Some(template) if template.kind != TemplateKind::Jitp => {
                    return Err(CaRegisterError::NotJitp(name.clone(), template.kind));
                }
                Some(_) => {}
            }
        }
        let Some(view) = self.plane.describe_ca(wanted.certificate.id())? else {
            return Ok(Plan::Register);
        };
        if view.mode != wanted.mode {
            return Err(CaRegisterError::Mode {
                registered: view.mode,
                wanted: wanted.mode,
            });
        }
        let changes = differences(&view, wanted);
        Ok(if changes.is_empty() {
            Plan::Nothing
        } else {
            Plan::Change(changes)
        })
    }

    /// Registers a CA that is not there. `signer` is its key; `SNI_ONLY` needs none.
    ///
    /// # Errors
    /// `cloud.*`, `draft.*`, `key.*`, `signer.*`, `ca-register.no-key`.
    pub fn register(
        &self,
        wanted: &Wanted,
        signer: Option<&dyn Signer>,
    ) -> Result<CertificateId, CaRegisterError> {
        let verification_pem = match (wanted.mode, signer) {
            (CertificateMode::SniOnly, _) => None,
            (CertificateMode::Default, None) => return Err(CaRegisterError::NoKey),
            (CertificateMode::Default, Some(signer)) => {
                let code = self.plane.registration_code()?;
                Some(
                    self.verification(&wanted.certificate, signer, &code)?
                        .to_pem(),
                )
            }
        };
        let request = CaRegistration {
            certificate_pem: wanted.certificate.to_pem(),
            verification_pem,
            mode: wanted.mode,
            active: wanted.active,
            auto_registration: wanted.auto_registration,
            template: wanted.template.clone(),
        };
        match self.plane.register_ca(&request) {
            // Another run was faster; the next plan sees whether it did the same.
            Err(error) if error.kind == CloudErrorKind::Exists => {
                Ok(wanted.certificate.id().clone())
            }
            other => Ok(other?),
        }
    }

    /// Brings a registered CA to what is wanted.
    ///
    /// # Errors
    /// `cloud.*`.
    pub fn change(&self, wanted: &Wanted) -> Result<(), CaRegisterError> {
        let change = CaUpdate {
            active: Some(wanted.active),
            auto_registration: Some(wanted.auto_registration),
            template: wanted.template.clone(),
            remove_config: false,
        };
        Ok(self.plane.update_ca(wanted.certificate.id(), &change)?)
    }

    /// A certificate whose common name is the registration code, signed by the CA. Its key is
    /// thrown away: AWS IoT checks only the CA's signature.
    fn verification(
        &self,
        ca: &Certificate,
        signer: &dyn Signer,
        code: &str,
    ) -> Result<Certificate, CaRegisterError> {
        let (_, public_key) = self.keygen.generate(KeyAlgorithm::EcP256)?;
        let mut serial = [0; 16];
        self.entropy.fill(&mut serial);
        let now = self.clock.now();
        let window = Validity {
            not_before: now.minus(VERIFICATION_BACKDATE),
            not_after: now.plus(VERIFICATION_LIFE),
        };
        let spec = DraftSpec {
            subject: Subject::common_name(code),
            serial,
            validity: window.overlap(&ca.validity).unwrap_or(window),
            public_key: &public_key,
            purpose: Purpose::Verification,
            alternative_names: Vec::new(),
            extras: Extras::default(),
        };
        let draft = Draft::new(&spec, &IssuerView::from_ca(ca)?)?;
        let signature = signer.sign(draft.tbs())?;
        Ok(draft.seal(&signature)?)
    }
}

/// What AWS IoT would refuse anyway, said before anything is sent.
fn check_certificate(ca: &Certificate, now: UtcTime) -> Result<(), CaRegisterError> {
    if ca.is_ca != Some(true) {
        return Err(CaRegisterError::NotCa(ca.subject.to_string()));
    }
    if let Some(why) = ca.unsupported_algorithm() {
        return Err(CaRegisterError::Unsupported(why));
    }
    if !ca.validity.contains(now) {
        return Err(CaRegisterError::NotValid(ca.validity.describe(now)));
    }
    Ok(())
}

fn differences(view: &CaView, wanted: &Wanted) -> Vec<Change> {
    let status = |active| if active { "ACTIVE" } else { "INACTIVE" }.to_owned();
    let registration = |on| if on { "ENABLE" } else { "DISABLE" }.to_owned();
    let has = match (&view.template, view.inline_template) {
        (Some(name), _) => name.to_string(),
        (None, true) => "a template body of its own".to_owned(),
        (None, false) => "none".to_owned(),
    };
    let pairs = [
        ("status", status(view.active), status(wanted.active)),
        (
            "auto-registration",
            registration(view.auto_registration),
            registration(wanted.auto_registration),
        ),
        (
            "template",
            has.clone(),
            wanted.template.as_ref().map_or(has, ToString::to_string),
        ),
    ];
    pairs
        .into_iter()
        .filter(|(_, from, to)| from != to)
        .map(|(setting, from, to)| Change { setting, from, to })
        .collect()
}

/// A CA that was not registered.
#[derive(Debug, thiserror::Error)]
pub enum CaRegisterError {
    /// The control plane.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The verification certificate.
    #[error("the verification certificate could not be made")]
    Draft(#[from] DraftError),
    /// The verification key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The mode cannot be changed.
    #[error("the CA is registered in {registered} mode, not {wanted}; a CA keeps its mode")]
    Mode {
        /// What it has.
        registered: CertificateMode,
        /// What is wanted.
        wanted: CertificateMode,
    },
    /// No proof without the key.
    #[error("DEFAULT mode needs the CA's key, to prove that it is ours")]
    NoKey,
    /// No such template at the target.
    #[error("there is no template `{0}` at the target")]
    NoTemplate(TemplateName),
    /// basicConstraints.
    #[error("`{0}` is not a CA: its basic constraints do not say so")]
    NotCa(String),
    /// Not a template for first connects.
    #[error("template `{0}` is of type {1}; a CA takes one of type JITP")]
    NotJitp(TemplateName, TemplateKind),
    /// Expired, or not yet valid.
    #[error("the CA is not valid now: {0}")]
    NotValid(String),
    /// The CA's key did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Key or signature algorithm.
    #[error("AWS IoT would refuse this CA: {0}")]
    Unsupported(String),
}

impl Explain for CaRegisterError {
    fn kind(&self) -> Kind {
        match self {
            Self::Cloud(error) => error.kind(),
            Self::Draft(error) => error.kind(),
            Self::Key(error) => error.kind(),
            Self::Sign(error) => error.kind(),
            Self::Mode { .. } => Kind::Refused,
            _ => Kind::Input,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Cloud(error) => error.code(),
            Self::Draft(error) => error.code(),
            Self::Key(error) => error.code(),
            Self::Sign(error) => error.code(),
            Self::Mode { .. } => "ca-register.mode",
            Self::NoKey => "ca-register.no-key",
            Self::NoTemplate(_) => "ca-register.no-template",
            Self::NotCa(_) => "ca-register.not-ca",
            Self::NotJitp(..) => "ca-register.not-jitp",
            Self::NotValid(_) => "ca-register.not-valid",
            Self::Unsupported(_) => "ca-register.unsupported",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Cloud(error) if error.name == "RegistrationCodeValidationException" => Some(
                "somebody renewed the registration code meanwhile: run the same command again"
                    .into(),
            ),
            Self::Cloud(error) => error.hint(),
            Self::Draft(error) => error.hint(),
            Self::NoTemplate(name) => Some(format!(
                "register it first: nameplate template register FILE --name {name}"
            )),
            Self::Mode { .. } => Some(
                "to change the mode, deactivate and delete the CA at the target, then register it"
                    .into(),
            ),
            Self::NotValid(_) => Some("check this machine's clock, or make a new CA".into()),
            _ => None,
        }
    }
}
