//! Keys in PKCS#11 tokens: hardware modules, smart cards, SoftHSM, TPMs through tpm2-pkcs11.
//!
//! Hashing is done here and the token signs the hash, because many tokens (SoftHSM among them) have
//! CKM_ECDSA but not CKM_ECDSA_SHA256.

mod certificates;

pub use certificates::certificates;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use ring::digest::{SHA256, SHA384, digest};
use zeroize::Zeroizing;

use crate::core::cert::CertError;
use crate::core::der::tlv;
use crate::core::ids::hex;
use crate::core::key::{KeyAlgorithm, KeyError, PublicKey};
use crate::core::key_uri::Pkcs11Uri;
use crate::explain::{Explain, Kind};
use crate::ports::{PassphraseError, SignError, Signer};

/// `CKA_EC_PARAMS`: the curve's OID, DER.
const P256: [u8; 10] = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384: [u8; 7] = [6, 5, 0x2b, 0x81, 4, 0, 0x22];
/// `DigestInfo` with SHA-256, up to the 32 bytes of the hash (RFC 8017 §9.2 note 1).
const SHA256_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// A PIN, from wherever the user keeps it; asked for at most once. `None` when there is none.
pub type AskPin<'a> = &'a dyn Fn(&str) -> Result<Option<Zeroizing<Vec<u8>>>, PassphraseError>;

/// How to reach tokens.
#[derive(Clone, Copy)]
pub struct TokenAccess<'a> {
    /// The module's library, when the URI names none.
    pub module: Option<&'a Path>,
    /// Gets the PIN of the token with this label.
    pub pin: AskPin<'a>,
}

/// Signs with a key in a token. Any number of threads may sign at once, each in a session of its own.
pub struct Pkcs11Signer {
    token: Token,
    key: ObjectHandle,
    public: PublicKey,
    /// Sessions that wait for work.
    idle: Mutex<Vec<Session>>,
    /// Keeps the login: a token forgets it when its last session closes.
    _login: Mutex<Session>,
}

impl Pkcs11Signer {
    /// Finds the key that the URI names and logs in to its token, with one try.
    ///
    /// # Errors
    /// `pkcs11.*`.
    pub fn open(uri: &Pkcs11Uri, access: &TokenAccess<'_>) -> Result<Self, Pkcs11Error> {
        let token = Token::find(uri, access.module)?;
        let session = token.context.open_ro_session(token.slot)?;
        token.log_in(&session, access.pin)?;
        Self::over(token, session, uri)
    }

    /// Makes a key pair in the token that never leaves it, and opens it. The URI that comes back
    /// names the key by `id` too: the URI's own, or else the one given here.
    ///
    /// # Errors
    /// `pkcs11.*`; `pkcs11.exists` when a key of that name is there.
    pub fn generate(
        uri: &Pkcs11Uri,
        algorithm: KeyAlgorithm,
        id: &[u8],
        access: &TokenAccess<'_>,
    ) -> Result<(Self, Pkcs11Uri), Pkcs11Error> {
        let curve = match algorithm {
            KeyAlgorithm::EcP256 => P256.to_vec(),
            KeyAlgorithm::EcP384 => P384.to_vec(),
            other => return Err(Pkcs11Error::Key(format!("{other} keys are not made here"))),
        };
        let Some(object) = uri.object.clone() else {
            return Err(Pkcs11Error::NoLabel);
        };
        let token = Token::find(uri, access.module)?;
        let session = token.context.open_rw_session(token.slot)?;
        token.log_in(&session, access.pin)?;
        if !session.find_objects(&wanted(uri))?.is_empty() {
            return Err(Pkcs11Error::Exists(object, token.label));
        }
        let id = uri.id.clone().unwrap_or_else(|| id.to_vec());
        let named = |mut rest: Vec<Attribute>| {
            rest.push(Attribute::Token(true));
            rest.push(Attribute::Label(object.clone().into_bytes()));
            rest.push(Attribute::Id(id.clone()));
            rest
        };
        let public = named(vec![Attribute::Verify(true), Attribute::EcParams(curve)]);
        let private = named(vec![
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ]);
        session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?;
        let uri = Pkcs11Uri {
            id: Some(id),
            ..uri.clone()
        };
        Self::over(token, session, &uri).map(|signer| (signer, uri))
    }

    fn over(token: Token, session: Session, uri: &Pkcs11Uri) -> Result<Self, Pkcs11Error> {
        let key = match session.find_objects(&wanted(uri))?[..] {
            [one] => one,
            [] => return Err(token.missing(&session, uri)),
            _ => return Err(Pkcs11Error::ManyKeys(uri.to_string(), token.label)),
        };
        let public = public_key(&session, key)?;
        Ok(Self {
            token,
            key,
            public,
            idle: Mutex::default(),
            _login: Mutex::new(session),
        })
    }

    fn session(&self) -> Result<Session, Error> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        idle.map_or_else(|| self.token.context.open_ro_session(self.token.slot), Ok)
    }

    fn signature(&self, mechanism: &Mechanism<'_>, input: &[u8]) -> Result<Vec<u8>, SignError> {
        let of_token = |error: Error| failed(&error, &self.token.label);
        let session = self.session().map_err(of_token)?;
        let signature = session.sign(mechanism, self.key, input).map_err(of_token)?;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(session);
        Ok(signature)
    }
}

impl Signer for Pkcs11Signer {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match self.public.algorithm() {
            KeyAlgorithm::Rsa(_) => {
                let info = [&SHA256_INFO, digest(&SHA256, message).as_ref()].concat();
                self.signature(&Mechanism::RsaPkcs, &info)
            }
            curve => {
                let hash = if curve == KeyAlgorithm::EcP384 {
                    &SHA384
                } else {
                    &SHA256
                };
                let hash = digest(hash, message);
                let both = self.signature(&Mechanism::Ecdsa, hash.as_ref())?;
                if both.len() != 2 * hash.as_ref().len() {
                    let length = both.len();
                    return Err(SignError::Failed(format!(
                        "the token's signature has {length} bytes"
                    )));
                }
                Ok(ecdsa_der(&both))
            }
        }
    }
}

fn failed(error: &Error, token: &str) -> SignError {
    let text = format!("token `{token}`: {error}");
    match error {
        Error::Pkcs11(
            RvError::KeyFunctionNotPermitted
            | RvError::KeyHandleInvalid
            | RvError::KeyTypeInconsistent
            | RvError::MechanismInvalid
            | RvError::UserNotLoggedIn,
            _,
        ) => SignError::Failed(text),
        _ => SignError::Unavailable(text),
    }
}

/// `r‖s` as X.509 carries it: a SEQUENCE of two INTEGERs (RFC 5480 appendix A).
fn ecdsa_der(both: &[u8]) -> Vec<u8> {
    let (r, s) = both.split_at(both.len() / 2);
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[zeros.min(number.len().saturating_sub(1))..];
        let sign = number.first().is_some_and(|first| first & 0x80 != 0);
        tlv(2, &[&[0][..usize::from(sign)], number])
    };
    tlv(0x30, &[&integer(r), &integer(s)])
}

/// Every private key that the URI fits.
fn wanted(uri: &Pkcs11Uri) -> Vec<Attribute> {
    of_class(ObjectClass::PRIVATE_KEY, uri)
}

fn of_class(class: ObjectClass, uri: &Pkcs11Uri) -> Vec<Attribute> {
    let mut template = vec![Attribute::Class(class)];
    template.extend(uri.id.clone().map(Attribute::Id));
    let label = uri.object.as_ref();
    template.extend(label.map(|label| Attribute::Label(label.clone().into_bytes())));
    template
}

/// One token in its slot.
struct Token {
    context: Pkcs11,
    slot: Slot,
    label: String,
}

impl Token {
    fn find(uri: &Pkcs11Uri, module: Option<&Path>) -> Result<Self, Pkcs11Error> {
        let path = uri.module_path.as_deref().or(module);
        let path = path.ok_or(Pkcs11Error::NoModule)?;
        let context = load(path).map_err(|source| Pkcs11Error::Module {
            path: path.to_owned(),
            source,
        })?;
        let mut found = Vec::new();
        let mut all = Vec::new();
        for slot in context.get_slots_with_token()? {
            let info = context.get_token_info(slot)?;
            if info.token_initialized() {
                let fits = fits(uri, &info);
                found.extend(fits.then(|| (slot, info.label().to_owned())));
                all.push(format!(
                    "`{}` (serial {})",
                    info.label(),
                    info.serial_number()
                ));
            }
        }
        match (found.pop(), found.is_empty()) {
            (Some((slot, label)), true) => Ok(Self {
                context,
                slot,
                label,
            }),
            (None, _) => Err(Pkcs11Error::TokenMissing(uri.to_string(), listed(&all))),
            (Some(_), false) => Err(Pkcs11Error::ManyTokens(uri.to_string(), listed(&all))),
        }
    }

    fn log_in(&self, session: &Session, ask: AskPin<'_>) -> Result<(), Pkcs11Error> {
        let info = self.context.get_token_info(self.slot)?;
        if !info.login_required() {
            return Ok(());
        }
        if info.user_pin_locked() {
            return Err(Pkcs11Error::PinLocked(self.label.clone()));
        }
        let pin = if info.protected_authentication_path() {
            None
        } else {
            let pin = ask(&self.label)?.ok_or_else(|| Pkcs11Error::NoPin(self.label.clone()))?;
            let text = std::str::from_utf8(&pin).map_err(|_| Pkcs11Error::PinText)?;
            Some(AuthPin::new(text.into()))
        };
        match session.login(UserType::User, pin.as_ref()) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
                _,
            )) => Err(self.pin_refused()),
            Err(Error::Pkcs11(RvError::PinLocked, _)) => {
                Err(Pkcs11Error::PinLocked(self.label.clone()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What the token says of the tries that are left.
    fn pin_refused(&self) -> Pkcs11Error {
        let label = self.label.clone();
        let left = match self.context.get_token_info(self.slot) {
            Ok(info) if info.user_pin_locked() => return Pkcs11Error::PinLocked(label),
            Ok(info) if info.user_pin_final_try() => "; one more wrong PIN locks it",
            Ok(info) if info.user_pin_count_low() => "; a wrong PIN was given before",
            _ => "",
        };
        Pkcs11Error::Pin(label, left)
    }

    fn missing(&self, session: &Session, uri: &Pkcs11Uri) -> Pkcs11Error {
        let all = session
            .find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)])
            .unwrap_or_default();
        let names: Vec<String> = all.iter().map(|key| name_of(session, *key)).collect();
        let label = self.label.clone();
        Pkcs11Error::KeyMissing(uri.to_string(), label, listed(&names))
    }
}

fn load(path: &Path) -> Result<Pkcs11, Error> {
    let context = Pkcs11::new(path)?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(context),
        Err(error) => Err(error),
    }
}

fn fits(uri: &Pkcs11Uri, info: &TokenInfo) -> bool {
    [
        (&uri.token, info.label()),
        (&uri.serial, info.serial_number()),
        (&uri.manufacturer, info.manufacturer_id()),
        (&uri.model, info.model()),
    ]
    .iter()
    .all(|(wanted, is)| wanted.as_ref().is_none_or(|wanted| wanted == is))
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

fn name_of(session: &Session, key: ObjectHandle) -> String {
    let wanted = [AttributeType::Label, AttributeType::Id];
    let (mut label, mut id) = (String::new(), String::new());
    for attribute in session.get_attributes(key, &wanted).unwrap_or_default() {
        match attribute {
            Attribute::Label(bytes) => label = String::from_utf8_lossy(&bytes).into_owned(),
            Attribute::Id(bytes) => id = hex(&bytes),
            _ => {}
        }
    }
    format!("`{label}` (id {id})")
}

/// The public half: of an RSA key from the private key itself, of an EC key from the public key or
/// certificate that the token keeps under the same id.
fn public_key(session: &Session, key: ObjectHandle) -> Result<PublicKey, Pkcs11Error> {
    let wanted = [
        AttributeType::KeyType,
        AttributeType::AlwaysAuthenticate,
        AttributeType::Sign,
        AttributeType::Id,
        AttributeType::Label,
        AttributeType::Modulus,
        AttributeType::PublicExponent,
    ];
    let (mut kind, mut modulus, mut exponent) = (None, Vec::new(), Vec::new());
    let (mut id, mut label) = (Vec::new(), Vec::new());
    for attribute in session.get_attributes(key, &wanted)? {
        match attribute {
            Attribute::KeyType(is) => kind = Some(is),
            Attribute::AlwaysAuthenticate(true) => {
                return Err(Pkcs11Error::Key(
                    "it wants the PIN for every single signature".into(),
                ));
            }
            Attribute::Sign(false) => {
                return Err(Pkcs11Error::Key("the token does not let it sign".into()));
            }
            Attribute::Id(bytes) => id = bytes,
            Attribute::Label(bytes) => label = bytes,
            Attribute::Modulus(bytes) => modulus = bytes,
            Attribute::PublicExponent(bytes) => exponent = bytes,
            _ => {}
        }
    }
    match kind {
        Some(KeyType::RSA) => Ok(PublicKey::from_rsa(&rsa_public(&modulus, &exponent))?),
        Some(KeyType::EC) => ec_public(session, &id, &label),
        _ => Err(Pkcs11Error::Key("it is neither EC nor RSA".into())),
    }
}

/// `RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER }`.
fn rsa_public(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[zeros..];
        let sign = number.first().is_some_and(|first| first & 0x80 != 0);
        tlv(2, &[&[0][..usize::from(sign)], number])
    };
    tlv(0x30, &[&integer(modulus), &integer(exponent)])
}

fn ec_public(session: &Session, id: &[u8], label: &[u8]) -> Result<PublicKey, Pkcs11Error> {
    let mut template = vec![
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::EC),
    ];
    if id.is_empty() {
        template.push(Attribute::Label(label.to_vec()));
    } else {
        template.push(Attribute::Id(id.to_vec()));
    }
    let Some(public) = session.find_objects(&template)?.first().copied() else {
        return Err(Pkcs11Error::Key(
            "its public key is not in the token under the same id".into(),
        ));
    };
    let (mut curve, mut point) = (Vec::new(), Vec::new());
    let wanted = [AttributeType::EcParams, AttributeType::EcPoint];
    for attribute in session.get_attributes(public, &wanted)? {
        match attribute {
            Attribute::EcParams(bytes) => curve = bytes,
            Attribute::EcPoint(bytes) => point = bytes,
            _ => {}
        }
    }
    let length = match &curve[..] {
        oid if oid == P256 => 65,
        oid if oid == P384 => 97,
        _ => return Err(Pkcs11Error::Key("its curve is not P-256 or P-384".into())),
    };
    // The point stands in an OCTET STRING (PKCS#11 v2.40 §2.3.3), though some tokens leave it bare.
    let at = point.len().saturating_sub(length);
    Ok(PublicKey::from_ec_point(&point[at..])?)
}

/// No key from a token.
#[derive(Debug, thiserror::Error)]
pub enum Pkcs11Error {
    /// What is called one is none.
    #[error("the certificate in the token cannot be read")]
    Certificate(#[from] CertError),
    /// No such certificate.
    #[error("no certificate `{0}` is in token `{1}`")]
    CertificateMissing(String, String),
    /// A key of that name is there.
    #[error("there is a key `{0}` in token `{1}` already")]
    Exists(String, String),
    /// The token said no.
    #[error("the PKCS#11 token did not answer as it should")]
    Failed(#[from] Error),
    /// Not a key that signs certificates.
    #[error("the key in the token cannot be used: {0}")]
    Key(String),
    /// No such key.
    #[error("no private key in token `{1}` fits `{0}`; it holds: {2}")]
    KeyMissing(String, String, String),
    /// Several keys.
    #[error("several private keys in token `{1}` fit `{0}`")]
    ManyKeys(String, String),
    /// Several tokens.
    #[error("several tokens fit `{0}`; there are: {1}")]
    ManyTokens(String, String),
    /// The module cannot be used.
    #[error("the PKCS#11 module `{path}` cannot be used")]
    Module {
        /// The library.
        path: PathBuf,
        /// Why.
        #[source]
        source: Error,
    },
    /// A new key without a name.
    #[error("the new key has no label: `object=` is not in its URI")]
    NoLabel,
    /// No module.
    #[error("no PKCS#11 module is named")]
    NoModule,
    /// No PIN.
    #[error("token `{0}` wants a PIN, and none was given")]
    NoPin(String),
    /// Wrong PIN.
    #[error("token `{0}` refused the PIN{1}")]
    Pin(String, &'static str),
    /// Too many wrong PINs.
    #[error("the PIN of token `{0}` is locked")]
    PinLocked(String),
    /// The PIN could not be got.
    #[error(transparent)]
    PinSource(#[from] PassphraseError),
    /// Not text.
    #[error("the PIN is not UTF-8")]
    PinText,
    /// The public key cannot be used.
    #[error("the public key in the token cannot be used")]
    Public(#[from] KeyError),
    /// No such token.
    #[error("no token fits `{0}`; there are: {1}")]
    TokenMissing(String, String),
}

impl Explain for Pkcs11Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Exists(..) => Kind::Refused,
            Self::Failed(_) | Self::TokenMissing(..) => Kind::Unavailable,
            Self::PinSource(error) => error.kind(),
            _ => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Certificate(error) => error.code(),
            Self::CertificateMissing(..) => "pkcs11.certificate-missing",
            Self::Exists(..) => "pkcs11.exists",
            Self::Failed(_) => "pkcs11.failed",
            Self::Key(_) | Self::NoLabel | Self::Public(_) => "pkcs11.key",
            Self::KeyMissing(..) => "pkcs11.key-missing",
            Self::ManyKeys(..) | Self::ManyTokens(..) => "pkcs11.ambiguous",
            Self::Module { .. } | Self::NoModule => "pkcs11.module",
            Self::NoPin(_) => "pkcs11.pin-missing",
            Self::Pin(..) | Self::PinText => "pkcs11.pin",
            Self::PinLocked(_) => "pkcs11.pin-locked",
            Self::PinSource(error) => error.code(),
            Self::TokenMissing(..) => "pkcs11.token-missing",
        }
    }
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Exists(..) => {
                "use it: the same command without --generate-key; or name another object="
            }
            Self::CertificateMissing(..) => {
                "`pkcs11-tool --list-objects --type cert` shows what is there"
            }
            Self::KeyMissing(..) => {
                "name one of those with object=, or make it with `nameplate ca create --generate-key`"
            }
            Self::ManyKeys(..) => {
                "add id=%.. to the URI; `pkcs11-tool --list-objects --login` shows the ids"
            }
            Self::ManyTokens(..) => "add token= or serial= to the URI",
            Self::Module { .. } | Self::NoModule => {
                "name the library with ?module-path= in the URI, --pkcs11-module, NAMEPLATE_PKCS11_MODULE or pkcs11.module in nameplate.toml"
            }
            Self::NoLabel => "add object=LABEL to the URI",
            Self::NoPin(_) => {
                "give --pin-file FILE, set NAMEPLATE_PIN or NAMEPLATE_PIN_FILE, put pin-source=file:/path into the URI, or pkcs11.pin_file into nameplate.toml"
            }
            Self::Pin(..) => {
                "nothing was tried again; mend the PIN before the next run, because a token locks itself after a few wrong ones"
            }
            Self::PinLocked(_) => {
                "the token's security officer sets a new one: pkcs11-tool --login --login-type so --init-pin"
            }
            Self::TokenMissing(..) => {
                "plug the token in, start its service, or mend token= in the URI; then run this again"
            }
            Self::PinSource(error) => return error.hint(),
            Self::Certificate(_)
            | Self::Failed(_)
            | Self::Key(_)
            | Self::PinText
            | Self::Public(_) => return None,
        };
        Some(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_become_der_integers() {
        for (both, der) in [
            (&[1, 2][..], &[0x30, 6, 2, 1, 1, 2, 1, 2][..]),
            (&[0x80, 0x7f], &[0x30, 7, 2, 2, 0, 0x80, 2, 1, 0x7f]),
            (&[0, 5, 0, 0x81], &[0x30, 7, 2, 1, 5, 2, 2, 0, 0x81]),
            (&[0, 0, 0, 1], &[0x30, 6, 2, 1, 0, 2, 1, 1]),
        ] {
            assert_eq!(ecdsa_der(both), der);
        }
    }
}
