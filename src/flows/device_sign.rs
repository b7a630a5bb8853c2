//! `device sign`: requests are gathered and all of them checked before the first is signed; then
//! each is issued as `device issue` does, so that a killed run leaves whole identities only.

use std::path::{Path, PathBuf};

use crate::core::cert::Certificate;
use crate::core::csr::{Csr, CsrError, Keys};
use crate::core::pem;
use crate::core::record::{CertificateRecord, IdentityPurpose};
use crate::explain::{Explain, Kind};
use crate::flows::device_issue::{DeviceIssue, IssueError, Request};
use crate::ports::ledger::LedgerError;
use crate::ports::{Browse, FileError};

/// The most requests of one run.
const MAX_REQUESTS: usize = 100_000;
/// Endings of files that are looked into when a folder is named.
const ENDINGS: [&str; 2] = ["csr", "pem"];

/// What the flow may use.
pub struct DeviceSign<'a> {
    /// Issues each; also holds clock, files and ledger.
    pub issue: DeviceIssue<'a>,
    /// Looks into folders.
    pub browse: &'a dyn Browse,
    /// Whose keys are certified.
    pub keys: Keys,
}

/// A request, and where it stood.
pub struct Found {
    /// `pump-1.csr`, or `all.pem, request 2`.
    pub place: String,
    /// The file's name without its ending, when it holds this request alone.
    pub stem: Option<String>,
    /// The request, or why it is none.
    pub csr: Result<Csr, CsrError>,
}

/// What became of a request.
pub enum Signed {
    /// It has its certificate.
    New {
        /// The certificate.
        certificate: Box<Certificate>,
        /// Whether an earlier, broken run was finished.
        finished: bool,
    },
    /// The device has an identity, and that is left as it is.
    Skipped(Box<CertificateRecord>),
}

impl DeviceSign<'_> {
    /// The requests at these places: files, folders (their `*.csr` and `*.pem` by name), `-` for
    /// stdin. Files of a folder that hold no request are told to `passed_over`.
    ///
    /// # Errors
    /// `file.*`; `csr.none` for a folder without a request, `csr.many`.
    pub fn gather(
        &self,
        places: &[PathBuf],
        passed_over: &mut dyn FnMut(&Path),
    ) -> Result<Vec<Found>, SignListError> {
        let mut all = Vec::new();
        for place in places {
            if !self.browse.is_folder(place) {
                self.file(place, &mut all)?;
                continue;
            }
            let before = all.len();
            for file in self.browse.files(place)? {
                let ending = file.extension().and_then(|ending| ending.to_str());
                if !ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
                    continue;
                }
                let start = all.len();
                self.file(&file, &mut all)?;
                if let Some(Err(CsrError::None(_))) = all.get(start).map(|one| &one.csr) {
                    all.truncate(start);
                    passed_over(&file);
                }
                if all.len() > MAX_REQUESTS {
                    return Err(SignListError::Many(place.clone()));
                }
            }
            if all.len() == before {
                return Err(SignListError::None(place.clone()));
            }
        }
        Ok(all)
    }

    fn file(&self, path: &Path, all: &mut Vec<Found>) -> Result<(), SignListError> {
        let stdin = path.as_os_str() == "-";
        let real = if stdin { Path::new("/dev/stdin") } else { path };
        let bytes = self.issue.files.read(real, pem::MAX_BYTES as u64)?;
        let name = if stdin {
            "stdin".to_owned()
        } else {
            path.display().to_string()
        };
        let stem = (!stdin)
            .then(|| Some(path.file_stem()?.to_str()?.to_owned()))
            .flatten();
        match Csr::all(&bytes, self.keys) {
            Err(error) => all.push(Found {
                place: name,
                stem,
                csr: Err(error),
            }),
            Ok(requests) if requests.len() == 1 => {
                all.extend(requests.into_iter().map(|csr| Found {
                    place: name.clone(),
                    stem: stem.clone(),
                    csr: Ok(csr),
                }));
            }
            Ok(requests) => all.extend(requests.into_iter().enumerate().map(|(n, csr)| Found {
                place: format!("{name}, request {}", n + 1),
                stem: None,
                csr: Ok(csr),
            })),
        }
        Ok(())
    }

    /// Signs all of them, in order. Devices that have a live identity are skipped, or, unless
    /// `skip`, keep everything from being signed.
    ///
    /// # Errors
    /// `ledger.live` before anything is signed; what issuing says, with how far it got.
    pub fn run(&self, requests: &[Request<'_>], skip: bool) -> Result<Vec<Signed>, SignError> {
        let mut known = Vec::with_capacity(requests.len());
        for request in requests {
            let record = self.live(&request.device)?;
            if let Some(record) = record.as_ref().filter(|_| !skip) {
                return Err(SignError::Ledger(LedgerError::Live {
                    device: record.device.clone(),
                    purpose: record.purpose,
                }));
            }
            known.push(record);
        }
        let mut done = Vec::with_capacity(requests.len());
        for (request, record) in requests.iter().zip(known) {
            let signed = match record {
                Some(record) => Ok(Signed::Skipped(Box::new(record))),
                None => self.one(request, skip),
            };
            done.push(signed.map_err(|error| match error {
                SignError::Issue(source) if requests.len() > 1 => SignError::Stopped {
                    done: done.len(),
                    total: requests.len(),
                    device: request.device.clone(),
                    source: Box::new(source),
                },
                other => other,
            })?);
        }
        Ok(done)
    }

    fn one(&self, request: &Request<'_>, skip: bool) -> Result<Signed, SignError> {
        match self.issue.run(request) {
            Ok(issued) => Ok(Signed::New {
                certificate: Box::new(issued.certificate),
                finished: issued.finished,
            }),
            // Another process was first.
            Err(IssueError::Ledger(error @ LedgerError::Live { .. })) if skip => {
                let record = self.live(&request.device)?;
                let record = record.ok_or(SignError::Ledger(error))?;
                Ok(Signed::Skipped(Box::new(record)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The device's identity; an intent without a certificate is none.
    fn live(&self, device: &str) -> Result<Option<CertificateRecord>, SignError> {
        let purpose = IdentityPurpose::Operational;
        let live = self.issue.ledger.live(&[device], purpose)?;
        Ok(live.into_iter().find(|record| record.id.is_some()))
    }
}

/// Why there is no list of requests.
#[derive(Debug, thiserror::Error)]
pub enum SignListError {
    /// Not readable.
    #[error(transparent)]
    File(#[from] FileError),
    /// Too many.
    #[error("there are more than 100000 requests in `{0}`")]
    Many(PathBuf),
    /// A folder without any.
    #[error("no file in `{0}` holds a certificate request")]
    None(PathBuf),
}

impl Explain for SignListError {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            Self::Many(_) | Self::None(_) => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::File(error) => error.code(),
            Self::Many(_) => "csr.many",
            Self::None(_) => "csr.none",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Many(_) => Some("spread them over several folders".into()),
            Self::None(_) => Some("files that end in .csr and .pem are looked into".into()),
        }
    }
}

/// Why not all requests were signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The only one was not.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The record.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// One of many was not.
    #[error("{done} of {total} requests are signed; that of `{device}` is not")]
    Stopped {
        /// Those before it.
        done: usize,
        /// All.
        total: usize,
        /// Whose it is.
        device: String,
        /// Why.
        #[source]
        source: Box<IssueError>,
    },
}

impl SignError {
    fn inner(&self) -> &dyn Explain {
        match self {
            Self::Issue(error) => error,
            Self::Ledger(error) => error,
            Self::Stopped { source, .. } => source.as_ref(),
        }
    }
}

impl Explain for SignError {
    fn kind(&self) -> Kind {
        self.inner().kind()
    }
    fn code(&self) -> &'static str {
        self.inner().code()
    }
    fn hint(&self) -> Option<String> {
        let hint = self.inner().hint();
        let Self::Stopped { .. } = self else {
            return hint;
        };
        let again = "run the same command with --if-exists skip: it goes on with the rest";
        Some(hint.map_or(again.into(), |hint| format!("{hint}; {again}")))
    }
}
