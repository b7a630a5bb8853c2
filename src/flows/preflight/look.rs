//! Looks at files, tokens and servers; what cannot be looked at is itself a fact.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Gather, Request};
use crate::core::cert::Certificate;
use crate::core::endpoint::Endpoint;
use crate::core::ids::hex;
use crate::core::key::{KeyFile, PublicKey};
use crate::core::key_uri::{KeyUri, KeyUriError, Pkcs11Uri};
use crate::core::pem;
use crate::core::preflight::{
    CertificateFile, ClientAuthFacts, Ended, FileFacts, IdentityFacts, KeyFacts, MqttFacts,
    Outcome, ServerFacts, Shown,
};
use crate::core::server::amazon_roots;
use crate::core::signature::proves;
use crate::explain::{Explain, Failure, Kind};
use crate::flows::connect::{self, Connect};
use crate::flows::identity::{self, Paths};
use crate::ports::{Identity, Look, Looked, Signer};

impl Gather<'_> {
    pub(super) fn identity(&self, paths: &Paths) -> IdentityFacts {
        let there = |path: &Option<std::path::PathBuf>| {
            let path = path.as_deref()?;
            Some(self.certificates(path))
        };
        IdentityFacts {
            key: self.key(&paths.key),
            certificate: self.certificates(&paths.certificate),
            chain: there(&paths.chain),
            ca: there(&paths.ca),
        }
    }

    fn key(&self, path: &Path) -> KeyFacts {
        let text = path.display().to_string();
        if Pkcs11Uri::is(&text) {
            return self.token_key(&text);
        }
        let access = self.file(path);
        let mut facts = KeyFacts {
            path: text,
            mode: access.as_ref().map(|access| access.mode.clone()),
            folder: path.parent().and_then(|folder| self.file(folder)),
            access,
            signs: None,
            algorithm: None,
            public_key_sha256: None,
            error: None,
        };
        known(
            &mut facts,
            self.public_of(path).map_err(|failure| say(&failure, path)),
        );
        facts
    }

    fn public_of(&self, path: &Path) -> Result<PublicKey, Failure> {
        let text = self.files.read(path, pem::MAX_BYTES as u64)?;
        match KeyFile::parse(&text)? {
            KeyFile::Clear(key) => Ok(self.keygen.public_of(&key)?),
            KeyFile::Encrypted(_) => {
                Err(identity::IdentityError::Encrypted(path.to_owned()).into())
            }
        }
    }

    /// A key in a token: its public half, and whether it signs what that verifies.
    fn token_key(&self, text: &str) -> KeyFacts {
        let mut facts = KeyFacts {
            path: text.to_owned(),
            mode: None,
            access: None,
            folder: None,
            signs: None,
            algorithm: None,
            public_key_sha256: None,
            error: None,
        };
        let mut message = [0; 32];
        self.clock.entropy.fill(&mut message);
        let named = |failure: Failure| say(&failure, Path::new(text));
        match self.token(text) {
            Ok(signer) => {
                let public = signer.public().clone();
                let signature = signer.sign(&message);
                let signature = signature.map_err(|error| named(error.into()));
                facts.signs = Some(
                    signature
                        .as_ref()
                        .is_ok_and(|signature| proves(&message, signature, &public)),
                );
                known(&mut facts, Ok(public));
                facts.error = signature.err();
            }
            Err(failure) => facts.error = Some(named(failure)),
        }
        facts
    }

    /// Mode and owner of a file or folder; `None` for what is not there.
    pub(super) fn file(&self, path: &Path) -> Option<FileFacts> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let access = self.access.of(path)?;
        Some(FileFacts {
            path: path.display().to_string(),
            mode: format!("{:04o}", access.mode),
            uid: access.uid,
            gid: access.gid,
            link: access.link,
            seen_by: self.access.process(),
        })
    }

    fn all_of(&self, path: &Path) -> Result<Vec<Certificate>, Failure> {
        let text = path.display().to_string();
        if Pkcs11Uri::is(&text) {
            return self.tokens.certificates(&Pkcs11Uri::of_certificate(&text)?);
        }
        Ok(identity::certificates(self.files, path)?)
    }

    fn token(&self, text: &str) -> Result<Arc<dyn Signer + Send + Sync>, Failure> {
        match text.parse()? {
            KeyUri::Pkcs11(uri) => self.tokens.key(&uri),
            KeyUri::AwsKms(_) | KeyUri::File(_) => Err(KeyUriError::NoKey.into()),
        }
    }

    /// What TLS presents, and signs with in this process.
    fn presented(&self, paths: &Paths) -> Result<Identity, Failure> {
        let key = paths.key.display().to_string();
        if Pkcs11Uri::is(&key) {
            let message = "connecting is for keys in files, and this one is in a token";
            return Err(Failure::new(Kind::Input, "identity.in-token", message)
                .hint("connect with the device's own client, which opens the token"));
        }
        let certificate = self.all_of(&paths.certificate)?;
        let chain = paths.chain.as_deref();
        let chain = chain.map(|path| self.all_of(path)).transpose()?;
        Ok(Identity {
            chain: identity::presented(certificate, chain),
            key: identity::key(self.files, &paths.key)?,
        })
    }

    fn certificates(&self, path: &Path) -> CertificateFile {
        let text = path.display().to_string();
        let in_token = Pkcs11Uri::is(&text);
        let (certificates, error) = match self.all_of(path) {
            Ok(all) => (all.into_iter().map(Shown).collect(), None),
            Err(failure) => (Vec::new(), Some(say(&failure, path))),
        };
        CertificateFile {
            access: if in_token { None } else { self.file(path) },
            path: text,
            certificates,
            error,
        }
    }

    pub(super) fn servers(&self, request: &Request) -> Vec<ServerFacts> {
        if request.endpoints.is_empty() {
            return Vec::new();
        }
        let server_ca = request
            .server_ca
            .as_deref()
            .map(|path| self.certificates(path));
        let roots = match &server_ca {
            Some(file) => file.all(),
            None => amazon_roots(),
        };
        let each = request.endpoints.iter();
        each.map(|endpoint| self.server(endpoint, request, (&server_ca, &roots)))
            .collect()
    }

    fn server(
        &self,
        endpoint: &Endpoint,
        request: &Request,
        (server_ca, roots): (&Option<CertificateFile>, &[Certificate]),
    ) -> ServerFacts {
        let looked = self.probe.look(&Look {
            endpoint,
            trust: Some((roots, self.clock.clock.now())),
            timeout: request.timeout,
        });
        let mqtt = request.connect.as_ref();
        ServerFacts {
            endpoint: endpoint.clone(),
            server_ca: server_ca.clone(),
            proxy: looked.proxy.clone(),
            addresses: looked
                .addresses
                .iter()
                .map(|a| a.ip().to_string())
                .collect(),
            alpn: endpoint
                .alpn
                .then(|| String::from_utf8_lossy(Endpoint::MQTT_ALPN).into_owned()),
            elapsed_ms: looked.elapsed_ms,
            mqtt: mqtt.and_then(|client| self.mqtt(endpoint, request, client.as_deref(), roots)),
            outcome: outcome(looked),
        }
    }

    /// One CONNECT as the device; `None` where there is no identity.
    fn mqtt(
        &self,
        endpoint: &Endpoint,
        request: &Request,
        client_id: Option<&str>,
        roots: &[Certificate],
    ) -> Option<MqttFacts> {
        let paths = request.identity.as_ref()?;
        let start = self.clock.clock.monotonic();
        let mut name = client_id.unwrap_or_default().to_owned();
        let failed = self
            .connect(endpoint, (request, paths), &mut name, roots)
            .err();
        let elapsed = self.clock.clock.monotonic().saturating_sub(start);
        Some(MqttFacts {
            client_id: name,
            elapsed_ms: millis(elapsed),
            failed,
        })
    }

    fn connect(
        &self,
        endpoint: &Endpoint,
        (request, paths): (&Request, &Paths),
        client_id: &mut String,
        roots: &[Certificate],
    ) -> Result<(), Ended> {
        let failure = |failure: Failure| Ended {
            code: failure.code.into(),
            message: failure.message,
            hint: failure.hint,
        };
        let identity = self.presented(paths).map_err(failure)?;
        if client_id.is_empty() {
            let leaf = identity.chain.first();
            let name = leaf.and_then(|leaf| leaf.subject.first("CN"));
            name.unwrap_or_default().clone_into(client_id);
        }
        let connect = Connect {
            clock: self.clock.clock,
            entropy: self.clock.entropy,
            dial: self.dial,
        };
        let request = connect::Request {
            timeout: request.timeout,
            attempts: Some(1),
            ..connect::Request::new(
                endpoint.clone(),
                identity,
                roots.to_vec(),
                client_id.clone(),
            )
        };
        connect
            .run(request)
            .map(|_| ())
            .map_err(|error| failure(error.into()))
    }
}

fn known(facts: &mut KeyFacts, public: Result<PublicKey, String>) {
    match public {
        Ok(public) => {
            let digest = ring::digest::digest(&ring::digest::SHA256, public.spki());
            facts.algorithm = Some(public.algorithm().to_string());
            facts.public_key_sha256 = Some(hex(digest.as_ref()));
        }
        Err(error) => facts.error = Some(error),
    }
}

fn outcome(looked: Looked) -> Outcome {
    let ended = looked.error.map(|error| Ended {
        code: error.code().to_owned(),
        message: error.to_string(),
        hint: error.hint(),
    });
    match (looked.address, ended) {
        // Without a certificate there is nothing else to judge.
        (Some(_), Some(ended)) if looked.chain.is_empty() => Outcome::Failed(ended),
        (None, Some(ended)) => Outcome::Failed(ended),
        (address, ended) => Outcome::Seen {
            address: address.map_or_else(String::new, |address| address.to_string()),
            tls_version: looked.tls_version,
            cipher_suite: looked.cipher_suite,
            alpn: looked.alpn,
            chain: looked.chain.into_iter().map(Shown).collect(),
            possession: looked.possession,
            client_auth: looked.client_auth.map(|asked| ClientAuthFacts {
                schemes: asked.schemes,
                authorities: asked.authorities.iter().map(|name| hex(name)).collect(),
            }),
            ended,
        },
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// An error and its reasons in one line that names the file.
pub(super) fn say(failure: &Failure, path: &Path) -> String {
    let mut line = failure.message.clone();
    let file = path.display().to_string();
    if !line.contains(&file) {
        line = format!("`{file}`: {line}");
    }
    for cause in &failure.causes {
        line.push_str(": ");
        line.push_str(cause);
    }
    line
}
