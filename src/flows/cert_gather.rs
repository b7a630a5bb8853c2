//! Certificates from wherever they are: files, folders, stdin, or a server that shows them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::bundle;
use crate::core::cert::Certificate;
use crate::core::endpoint::Endpoint;
use crate::core::intake::{self, IntakeError, Item, Thing};
use crate::core::pem;
use crate::explain::{Explain, Kind};
use crate::ports::{Browse, DialError, FileError, Files, Look, Probe};

/// The most files of one folder that are looked into.
pub const MAX_FILES: usize = 100_000;
/// How deep folders in folders are followed.
const MAX_DEPTH: usize = 6;
/// What a certificate's file name ends in, where a whole folder is looked through.
const ENDINGS: [&str; 5] = ["pem", "crt", "cer", "cert", "der"];

/// What the flow may use.
pub struct Gather<'a> {
    /// Reads files.
    pub files: &'a dyn Files,
    /// Lists folders.
    pub browse: &'a dyn Browse,
    /// Asks servers.
    pub probe: &'a dyn Probe,
    /// The most that asking one server may take.
    pub timeout: Duration,
}

/// One place to look.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// A file or folder; `-` is stdin.
    Path(PathBuf),
    /// A server: the chain that it shows, trusted or not.
    Server(Endpoint),
}

/// What one file or server holds.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The path, `-`, or `tls://host:port`.
    pub name: String,
    /// In order.
    pub items: Vec<Item>,
    /// Issuers known from elsewhere in the same identity folder.
    pub issuers: Vec<Certificate>,
    /// Whether it is what is presented in TLS: leaf first, then its issuers.
    pub presented: bool,
}

impl Gather<'_> {
    /// Everything at these places, in order.
    ///
    /// # Errors
    /// `file.*`, `pem.*`, `json.syntax`, `dial.*`, `server.unreadable`, `gather.none`,
    /// `gather.many`.
    pub fn run(&self, places: &[Place]) -> Result<Vec<Artifact>, GatherError> {
        let mut all = Vec::new();
        for place in places {
            match place {
                Place::Path(path) if self.browse.is_folder(path) => {
                    let before = all.len();
                    self.folder(path, 0, &mut all)?;
                    if all.len() == before {
                        return Err(GatherError::None(path.clone()));
                    }
                }
                Place::Path(path) => all.push(self.file(path)?),
                Place::Server(endpoint) => all.push(self.server(endpoint)?),
            }
        }
        Ok(all)
    }

    fn file(&self, path: &Path) -> Result<Artifact, GatherError> {
        let stdin = path.as_os_str() == "-";
        let real = if stdin { Path::new("/dev/stdin") } else { path };
        let bytes = self.files.read(real, pem::MAX_BYTES as u64)?;
        let items = intake::sort(&bytes).map_err(|source| GatherError::Intake {
            path: path.to_owned(),
            source,
        })?;
        Ok(Artifact {
            name: path.display().to_string(),
            items,
            issuers: Vec::new(),
            presented: false,
        })
    }

    fn folder(
        &self,
        folder: &Path,
        depth: usize,
        all: &mut Vec<Artifact>,
    ) -> Result<(), GatherError> {
        if self.files.exists(&folder.join(bundle::CERTIFICATE)) {
            all.push(self.identity(folder)?);
            return Ok(());
        }
        for path in self.browse.files(folder)? {
            if !is_certificate_name(&path) {
                continue;
            }
            // A folder may hold all kinds of files; only what has certificates in it counts.
            if let Ok(artifact) = self.file(&path)
                && artifact.items.iter().any(is_certificate)
            {
                all.push(artifact);
            }
            if all.len() > MAX_FILES {
                return Err(GatherError::Many(folder.to_owned()));
            }
        }
        if depth < MAX_DEPTH {
            for inside in self.browse.folders(folder)? {
                self.folder(&inside, depth + 1, all)?;
            }
        }
        Ok(())
    }

    /// An identity folder: what it presents, with its CA bundle as background.
    fn identity(&self, folder: &Path) -> Result<Artifact, GatherError> {
        let chain = folder.join(bundle::CHAIN);
        let presented = self.files.exists(&chain);
        let file = if presented {
            chain
        } else {
            folder.join(bundle::CERTIFICATE)
        };
        let mut artifact = self.file(&file)?;
        artifact.presented = presented;
        let bundle = folder.join(bundle::CA_BUNDLE);
        if self.files.exists(&bundle) {
            let issuers = self.file(&bundle)?.items;
            artifact.issuers = issuers
                .iter()
                .filter_map(|item| item.certificate().cloned())
                .collect();
        }
        Ok(artifact)
    }

    fn server(&self, endpoint: &Endpoint) -> Result<Artifact, GatherError> {
        let seen = self.probe.look(&Look {
            endpoint,
            trust: None,
            timeout: self.timeout,
        });
        // One that would not go on without a certificate of ours has shown its own: enough.
        if let Some(error) = seen.error.filter(|_| seen.chain.is_empty()) {
            return Err(error.into());
        }
        let item = |certificate| Item {
            line: None,
            thing: Thing::Certificate {
                certificate: Box::new(certificate),
                trailing: 0,
            },
        };
        Ok(Artifact {
            name: format!("tls://{endpoint}"),
            items: seen.chain.into_iter().map(item).collect(),
            issuers: Vec::new(),
            presented: true,
        })
    }
}

fn is_certificate(item: &Item) -> bool {
    !matches!(item.thing, Thing::Other { .. })
}

/// A private key is not opened where only a folder was named.
fn is_certificate_name(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    let name = name.unwrap_or_default().to_ascii_lowercase();
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    ENDINGS.contains(&ending) && !name.contains("key")
}

/// Why certificates could not be gathered.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The server could not be asked.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Not readable.
    #[error(transparent)]
    File(#[from] FileError),
    /// Neither PEM, nor DER, nor JSON.
    #[error("`{path}` holds no certificate")]
    Intake {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: IntakeError,
    },
    /// Too many files.
    #[error("`{0}` holds more than 100000 files of certificates")]
    Many(PathBuf),
    /// A folder without any.
    #[error("no certificate is in `{0}` or the folders below it")]
    None(PathBuf),
}

impl Explain for GatherError {
    fn kind(&self) -> Kind {
        match self {
            Self::Dial(error) => error.kind(),
            Self::File(error) => error.kind(),
            _ => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Dial(error) => error.code(),
            Self::File(error) => error.code(),
            Self::Intake { source, .. } => source.code(),
            Self::Many(_) => "gather.many",
            Self::None(_) => "gather.none",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Dial(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Intake { source, .. } => source.hint(),
            Self::Many(_) => Some("name the folders below it one by one".into()),
            Self::None(_) => Some(format!(
                "files that end in {} are looked into, and identity folders",
                ENDINGS.map(|ending| format!(".{ending}")).join(", ")
            )),
        }
    }
}
