//! What `cert verify` needs: who is trusted, what helps, what is revoked, and which of the
//! certificates found are to be verified.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::core::cert::Certificate;
use crate::core::crl::{self, Crl, CrlError};
use crate::core::ids::CertificateId;
use crate::core::intake::Thing;
use crate::core::server::amazon_roots;
use crate::explain::{Explain, Kind};
use crate::flows::cert_gather::{Artifact, Gather, GatherError, Place};
use crate::ports::FileError;

/// The word that stands for Amazon's roots where a file of roots is named.
pub const AMAZON: &str = "amazon";

/// How deep folders in folders are followed for lists.
const MAX_DEPTH: usize = 6;

/// Which files to read.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Files and folders of roots, or [`AMAZON`].
    pub roots: Vec<PathBuf>,
    /// Files and folders of other certificates.
    pub intermediates: Vec<PathBuf>,
    /// Files and folders of revocation lists.
    pub crls: Vec<PathBuf>,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Sources {
    /// Trusted.
    pub roots: Vec<Certificate>,
    /// Of help, and not trusted.
    pub intermediates: Vec<Certificate>,
    /// Revocation lists.
    pub crls: Vec<Crl>,
    /// Where each certificate was found first.
    pub places: HashMap<CertificateId, String>,
}

/// Reads all of it. Every certificate in a file of roots is trusted, whoever signed it; in a folder
/// only those that signed themselves, and the others help.
///
/// # Errors
/// What [`Gather::run`] says, `verify.no-root`, `verify.empty`, `crl.*`.
pub fn sources(gather: &Gather<'_>, asked: &Asked) -> Result<Sources, VerifyError> {
    let mut all = Sources::default();
    for path in &asked.roots {
        if path.as_os_str() == AMAZON {
            all.trust(AMAZON, amazon_roots());
            continue;
        }
        let folder = gather.browse.is_folder(path);
        for (place, certificates) in certificates(gather, path)? {
            let own = |one: &Certificate| !folder || one.is_signed_by(one);
            let (trusted, others) = certificates.into_iter().partition(own);
            all.trust(&place, trusted);
            all.help(&place, others);
        }
    }
    if all.roots.is_empty() {
        return Err(VerifyError::NoRoot(asked.roots.first().cloned()));
    }
    for path in &asked.intermediates {
        for (place, certificates) in certificates(gather, path)? {
            all.help(&place, certificates);
        }
    }
    for path in &asked.crls {
        let before = all.crls.len();
        if gather.browse.is_folder(path) {
            lists_below(gather, path, 0, &mut all.crls)?;
        } else {
            all.crls.extend(lists(gather, path)?);
        }
        if all.crls.len() == before {
            return Err(VerifyError::NoList(path.clone()));
        }
    }
    Ok(all)
}

fn lists(gather: &Gather<'_>, path: &Path) -> Result<Vec<Crl>, VerifyError> {
    let stdin = path.as_os_str() == "-";
    let real = if stdin { Path::new("/dev/stdin") } else { path };
    let bytes = gather.files.read(real, crl::MAX_BYTES as u64)?;
    Crl::all_from_pem(&bytes).map_err(|source| VerifyError::Crl {
        path: path.to_owned(),
        source,
    })
}

/// Every list in a folder and those below it: what ends in `.crl`, and of what ends in `.pem` what
/// holds one.
fn lists_below(
    gather: &Gather<'_>,
    folder: &Path,
    depth: usize,
    all: &mut Vec<Crl>,
) -> Result<(), VerifyError> {
    for path in gather.browse.files(folder)? {
        let name = path.file_name().map(|name| name.to_string_lossy());
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        let own = ending == "crl";
        if !own && (ending != "pem" || name.contains("key")) {
            continue;
        }
        match lists(gather, &path) {
            Err(VerifyError::Crl {
                source: CrlError::None | CrlError::Pem(_),
                ..
            }) if !own => {}
            found => all.extend(found?),
        }
    }
    if depth < MAX_DEPTH {
        for inside in gather.browse.folders(folder)? {
            lists_below(gather, &inside, depth + 1, all)?;
        }
    }
    Ok(())
}

impl Sources {
    fn trust(&mut self, place: &str, certificates: Vec<Certificate>) {
        self.note(place, &certificates);
        self.roots.extend(certificates);
    }

    /// Remembers where the certificates of an artifact were found.
    pub fn see(&mut self, artifact: &Artifact) {
        for item in &artifact.items {
            let place = item
                .line
                .map_or_else(String::new, |line| format!(":{line}"));
            if let Some(certificate) = item.certificate() {
                let place = || format!("{}{place}", artifact.name);
                self.places
                    .entry(certificate.id().clone())
                    .or_insert_with(place);
            }
        }
        self.note(&artifact.name, &artifact.issuers);
    }

    fn help(&mut self, place: &str, certificates: Vec<Certificate>) {
        self.note(place, &certificates);
        self.intermediates.extend(certificates);
    }

    fn note(&mut self, place: &str, certificates: &[Certificate]) {
        for one in certificates {
            let place = || place.to_owned();
            self.places.entry(one.id().clone()).or_insert_with(place);
        }
    }
}

/// Each file below `path` with its certificates.
fn certificates(
    gather: &Gather<'_>,
    path: &Path,
) -> Result<Vec<(String, Vec<Certificate>)>, VerifyError> {
    let found = gather.run(&[Place::Path(path.to_owned())])?;
    let mut all = Vec::new();
    for artifact in found {
        let mut certificates = artifact.issuers.clone();
        for item in &artifact.items {
            match &item.thing {
                Thing::Certificate { certificate, .. } => {
                    certificates.push((**certificate).clone());
                }
                Thing::Unreadable(why) => {
                    return Err(VerifyError::Unreadable {
                        place: artifact.name.clone(),
                        line: item.line.unwrap_or(1),
                        why: why.clone(),
                    });
                }
                Thing::Other { .. } => {}
            }
        }
        all.push((artifact.name, certificates));
    }
    if all.iter().all(|(_, certificates)| certificates.is_empty()) {
        return Err(VerifyError::Empty(path.to_owned()));
    }
    Ok(all)
}

/// Which of an artifact's items are to be verified: the first of what is presented in TLS, else
/// every certificate that issued no other one in the same file.
pub fn to_verify(artifact: &Artifact) -> Vec<usize> {
    let certificates: Vec<(usize, &Certificate)> = artifact
        .items
        .iter()
        .enumerate()
        .filter_map(|(n, item)| Some((n, item.certificate()?)))
        .collect();
    let issued = |issuer: &Certificate| {
        let below = |(_, one): &(usize, &Certificate)| {
            one.issuer_der == issuer.subject_der && !one.is_self_issued()
        };
        certificates.iter().any(below)
    };
    let first = certificates.first().map(|(n, _)| *n);
    let mut chosen: Vec<usize> = certificates
        .iter()
        .filter(|(n, one)| {
            if artifact.presented {
                Some(*n) == first
            } else {
                !issued(one)
            }
        })
        .map(|(n, _)| *n)
        .collect();
    if chosen.is_empty() {
        chosen.extend(first);
    }
    chosen
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Not a list.
    #[error("`{path}` holds no revocation list that can be read")]
    Crl {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CrlError,
    },
    /// A file without certificates.
    #[error("`{0}` holds no certificate")]
    Empty(PathBuf),
    /// Not readable.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not gathered.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// A folder without lists.
    #[error("no revocation list is in `{0}` or the folders below it")]
    NoList(PathBuf),
    /// Nobody to trust.
    #[error("no root was named{}", .0.as_ref().map_or_else(String::new, |path| {
        format!(": nothing in the folder `{}` signed itself", path.display())
    }))]
    NoRoot(Option<PathBuf>),
    /// A certificate that cannot be read among those that are to help.
    #[error("`{place}` has something at line {line} that should be a certificate: {why}")]
    Unreadable {
        /// The file.
        place: String,
        /// From 1.
        line: usize,
        /// Why.
        why: String,
    },
}

impl Explain for VerifyError {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Gather(error) => error.kind(),
            Self::NoRoot(None) => Kind::Usage,
            _ => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Crl { source, .. } => source.code(),
            Self::Empty(_) => "verify.empty",
            Self::File(error) => error.code(),
            Self::Gather(error) => error.code(),
            Self::NoList(_) => "crl.none",
            Self::NoRoot(_) => "verify.no-root",
            Self::Unreadable { .. } => "cert.der",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Crl { source, .. } => source.hint(),
            Self::File(error) => error.hint(),
            Self::Gather(error) => error.hint(),
            Self::NoList(_) => Some("files that end in .crl or .pem are looked into".into()),
            Self::NoRoot(_) => Some(
                "name who is trusted with --root: a file, a folder, or `amazon` for the roots of \
                 AWS IoT's endpoints"
                    .into(),
            ),
            Self::Empty(_) | Self::Unreadable { .. } => {
                Some("see what it holds with `nameplate cert inspect`".into())
            }
        }
    }
}
