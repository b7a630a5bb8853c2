//! `ca crl`: the ledger's revocations as a signed list. The list is in the ledger before it is in a
//! file, so that no number is ever given out twice.

use std::path::{Path, PathBuf};

use crate::core::bundle::Secrecy;
use crate::core::cert::Certificate;
use crate::core::crl::{Crl, CrlDraft, CrlError, CrlSpec, MAX_BYTES, Revoked};
use crate::core::record::CrlRecord;
use crate::core::time::{Span, UtcTime};
use crate::explain::{Explain, Kind};
use crate::flows::issuer::{Issuer, IssuerError};
use crate::ports::ledger::{Ledger, LedgerError, NextCrl};
use crate::ports::streams::Streams;
use crate::ports::{Clock, FileError, Files, SignError};

/// What the flow may use.
pub struct CaCrl<'a> {
    /// When.
    pub clock: &'a dyn Clock,
    /// The disk.
    pub files: &'a dyn Files,
    /// The record.
    pub ledger: &'a dyn Ledger,
    /// Stdout.
    pub streams: &'a dyn Streams,
}

/// Where a list goes, and in which form.
#[derive(Clone, Debug)]
pub struct Place {
    /// The file; `-` is stdout.
    pub path: PathBuf,
    /// DER rather than PEM.
    pub der: bool,
}

impl Place {
    fn is_stdout(&self) -> bool {
        self.path == Path::new("-")
    }
}

/// Why a new list is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Due {
    /// This CA never signed one.
    None,
    /// The last one's next update is past.
    Over,
    /// A certificate was revoked that is not on the last one.
    Revoked,
    /// The file is missing, or is not the last one.
    File,
}

impl CaCrl<'_> {
    /// Signs a list of everything that is revoked and has not expired, saves it in the ledger, and
    /// puts it in its place.
    ///
    /// # Errors
    /// `ca.*`, `crl.*`, `signer.*`, `ledger.*`, `file.*`.
    pub fn run(
        &self,
        issuer: &Issuer<'_>,
        span: Span,
        place: &Place,
    ) -> Result<CrlRecord, CaCrlError> {
        // Two at once would put their files in place in any order.
        let _held = self.ledger.hold()?;
        let (ca, now) = (issuer.certificate()?, self.clock.now());
        issuer.window(now)?;
        if let Some(last) = self.ledger.last_crl(ca.id())?
            && last.this_update > now
        {
            return Err(CaCrlError::Clock(now, last.this_update));
        }
        let next = self.ledger.next_crl(ca.id())?;
        let spec = CrlSpec {
            number: next.number,
            this_update: now,
            next_update: now.plus(span),
            revoked: entries(&next, now),
        };
        let mut record = CrlRecord {
            issuer: ca.id().clone(),
            number: spec.number,
            this_update: spec.this_update,
            next_update: spec.next_update,
            der: Vec::new(),
        };
        let draft = CrlDraft::new(spec, ca)?;
        let signature = issuer.signer.sign(draft.tbs())?;
        let crl = draft.seal(&signature)?;
        record.der = crl.der().to_vec();
        self.ledger.save_crl(&record)?;
        self.put(&crl, place).map_err(|source| CaCrlError::Put {
            number: record.number,
            source,
        })?;
        Ok(record)
    }

    /// Why a new list is due; `None` when the last one still says everything. Stdout is not
    /// compared.
    ///
    /// # Errors
    /// `ledger.*`, `crl.der`, `file.read`.
    pub fn due(&self, ca: &Certificate, path: &Path) -> Result<Option<Due>, CaCrlError> {
        let now = self.clock.now();
        let Some(last) = self.ledger.last_crl(ca.id())? else {
            return Ok(Some(Due::None));
        };
        if now > last.next_update {
            return Ok(Some(Due::Over));
        }
        let crl = Crl::from_der(&last.der)?;
        let entries = entries(&self.ledger.next_crl(ca.id())?, now);
        if entries.iter().any(|one| crl.entry(&one.serial).is_none()) {
            return Ok(Some(Due::Revoked));
        }
        if path == Path::new("-") {
            return Ok(None);
        }
        let held = match self.files.read(path, 2 * MAX_BYTES as u64) {
            Ok(bytes) => *bytes == last.der || *bytes == crl.to_pem().as_bytes(),
            Err(FileError::Missing(_) | FileError::Size { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        Ok((!held).then_some(Due::File))
    }

    fn put(&self, crl: &Crl, place: &Place) -> Result<(), FileError> {
        let bytes = if place.der {
            crl.der().to_vec()
        } else {
            crl.to_pem().into_bytes()
        };
        if !place.is_stdout() {
            return self.files.replace(&place.path, &bytes, Secrecy::Public);
        }
        let stdout = self.streams.stream(&place.path, Secrecy::Public)?;
        stdout.append(&bytes)?;
        stdout.sync()
    }
}

/// What is revoked and has not expired.
fn entries(next: &NextCrl, now: UtcTime) -> Vec<Revoked> {
    let lasting = next.revoked.iter().filter(|row| row.not_after >= now);
    lasting
        .map(|row| Revoked::new(&row.serial, row.revocation.at, row.revocation.reason))
        .collect()
}

/// Why there is no new list.
#[derive(Debug, thiserror::Error)]
pub enum CaCrlError {
    /// The clock went back.
    #[error("it is {0}, but the last CRL of this CA was made at {1}")]
    Clock(UtcTime, UtcTime),
    /// The list.
    #[error(transparent)]
    Crl(#[from] CrlError),
    /// The old file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The CA.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The record.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// In the ledger, not in its place.
    #[error("CRL number {number} is in the ledger, but not in its place")]
    Put {
        /// Its number.
        number: u64,
        /// Why.
        #[source]
        source: FileError,
    },
    /// The key.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl CaCrlError {
    fn inner(&self) -> Option<&dyn Explain> {
        Some(match self {
            Self::Clock(..) => return None,
            Self::Crl(error) => error,
            Self::File(error) | Self::Put { source: error, .. } => error,
            Self::Issuer(error) => error,
            Self::Ledger(error) => error,
            Self::Sign(error) => error,
        })
    }
}

impl Explain for CaCrlError {
    fn kind(&self) -> Kind {
        self.inner().map_or(Kind::Unavailable, Explain::kind)
    }
    fn code(&self) -> &'static str {
        self.inner().map_or("crl.clock", Explain::code)
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Clock(..) => Some("check this machine's clock with `date -u`".into()),
            Self::Put { .. } => Some(
                "mend what is named above, then run the same command again: it signs the next number"
                    .into(),
            ),
            other => other.inner().and_then(Explain::hint),
        }
    }
}
