//! How a CA is shown.

use std::fmt;
use std::path::{Path, PathBuf};

use super::super::wire::factory::{Factory, shown};
use crate::core::ids::CertificateId;
use crate::core::key::{KeyAlgorithm, KeyFile};
use crate::core::key_uri::KeyUri;
use crate::core::pem;
use crate::core::record::{AuthorityRecord, Origin};
use crate::core::subject::Subject;
use crate::core::time::{UtcTime, Validity};
use crate::explain::{Failure, Kind};
use crate::flows::ca_create::{KEY, KEY_URI, read_key_uri};
use crate::ports::Files;

/// A CA's name: it becomes a folder.
pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with(['.', '-'])
    {
        return Ok(());
    }
    let message = format!(
        "`{name}` is not a CA name: 1 to 64 letters, digits, `.`, `_` or `-`, not starting with `.` or `-`"
    );
    Err(Failure::new(Kind::Input, "name.invalid", message))
}

/// How a CA's key lies on the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeyAtRest {
    Encrypted,
    Clear,
    Elsewhere,
    Missing,
    Unreadable,
}

impl KeyAtRest {
    /// Of a CA's folder, with the place of a key that is not in it.
    fn of_ca(folder: &Path) -> (Self, Option<KeyUri>) {
        let uri_path = folder.join(KEY_URI);
        if !Factory::disk().exists(&uri_path) {
            return (Self::of(&folder.join(KEY)), None);
        }
        match read_key_uri(&Factory::disk(), &uri_path) {
            Ok(uri) => (Self::Elsewhere, Some(uri)),
            Err(_) => (Self::Unreadable, None),
        }
    }

    pub(super) fn of(path: &Path) -> Self {
        let disk = Factory::disk();
        if !disk.exists(path) {
            return Self::Missing;
        }
        let text = disk.read(path, pem::MAX_BYTES as u64);
        match text.map(|text| KeyFile::parse(&text)) {
            Ok(Ok(KeyFile::Encrypted(_))) => Self::Encrypted,
            Ok(Ok(KeyFile::Clear(_))) => Self::Clear,
            _ => Self::Unreadable,
        }
    }
}

impl fmt::Display for KeyAtRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encrypted => "encrypted",
            Self::Clear => "NOT encrypted",
            Self::Elsewhere => "not on this disk",
            Self::Missing => "not here",
            Self::Unreadable => "unreadable",
        })
    }
}

/// One CA.
#[derive(serde::Serialize)]
pub(super) struct CaView {
    name: String,
    id: CertificateId,
    subject: Subject,
    issuer: Subject,
    serial: String,
    not_before: UtcTime,
    not_after: UtcTime,
    remaining_seconds: i64,
    path_len: Option<u32>,
    key: KeyAlgorithm,
    parent: Option<CertificateId>,
    origin: Origin,
    folder: PathBuf,
    key_at_rest: KeyAtRest,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_uri: Option<String>,
    certificate_pem: String,
    #[serde(skip)]
    now: UtcTime,
}

impl CaView {
    pub(super) fn new(record: &AuthorityRecord, now: UtcTime) -> Self {
        let certificate = &record.certificate;
        let (key_at_rest, key_uri) = KeyAtRest::of_ca(&record.folder);
        Self {
            name: record.name.clone(),
            id: certificate.id().clone(),
            subject: certificate.subject.clone(),
            issuer: certificate.issuer.clone(),
            serial: certificate.serial_hex(),
            not_before: certificate.validity.not_before,
            not_after: certificate.validity.not_after,
            remaining_seconds: certificate.validity.not_after.since(now).as_seconds(),
            path_len: certificate.path_len,
            key: certificate.key_algorithm(),
            parent: record.parent.clone(),
            origin: record.origin,
            folder: shown(&record.folder),
            key_at_rest,
            key_uri: key_uri.map(|uri| uri.to_string()),
            certificate_pem: certificate.to_pem(),
            now,
        }
    }

    /// One line for a list.
    pub(super) fn line(&self) -> String {
        let window = Validity {
            not_before: self.not_before,
            not_after: self.not_after,
        };
        let flawed = match self.origin {
            Origin::Flawed(_) => format!(" ({})", self.origin),
            Origin::Created | Origin::Imported => String::new(),
        };
        format!(
            "{}  {}  {}{flawed}\n  {}\n  {}, key {}",
            self.name,
            self.id.short(),
            self.subject,
            window.describe(self.now),
            self.folder.display(),
            self.key_at_rest
        )
    }
}

impl fmt::Display for CaView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = Validity {
            not_before: self.not_before,
            not_after: self.not_after,
        };
        let below = match self.path_len {
            None => "any number of CA levels, then devices".to_owned(),
            Some(0) => "devices".to_owned(),
            Some(1) => "one CA level, then devices".to_owned(),
            Some(n) => format!("{n} CA levels, then devices"),
        };
        writeln!(f, "subject   {}", self.subject)?;
        if self.issuer == self.subject {
            writeln!(f, "issuer    itself (a root)")?;
        } else {
            writeln!(f, "issuer    {}", self.issuer)?;
        }
        writeln!(f, "valid     {}", window.describe(self.now))?;
        writeln!(f, "below it  {below}")?;
        writeln!(f, "key       {}, {}", self.key, self.key_at_rest)?;
        if let Some(uri) = &self.key_uri {
            writeln!(f, "kept at   {uri}")?;
        }
        writeln!(f, "serial    {}", self.serial)?;
        writeln!(f, "id        {}", self.id)?;
        write!(f, "folder    {} ({})", self.folder.display(), self.origin)
    }
}
