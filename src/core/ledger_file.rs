//! A whole ledger as text: NDJSON, one row or event a line, a head line before and an end line
//! after them. Bytes are lower hex, times RFC 3339.
//!
//! The end line counts the lines before it and holds the SHA-256 of them, so that a file that was
//! cut short or changed is noticed; the events bring their hashes, so that the ledger made from it
//! proves the same as the one it came from.

use std::path::PathBuf;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::core::cert::Certificate;
use crate::core::ids::{CertificateId, hex, unhex};
use crate::core::record::{
    AuthorityRecord, CertificateRecord, CertificateState, CrlRecord, Event, IdentityPurpose,
    Origin, RotationRecord,
};
use crate::core::revocation::{Revocation, RevocationReason};
use crate::core::time::{UtcTime, Validity};
use crate::explain::{Explain, Kind};

/// The format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;
/// The longest line that is read, in bytes: an event of a block of some thousand rows is the
/// longest that is written.
pub const MAX_LINE: usize = 16 << 20;

/// One thing in a ledger.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A CA.
    Authority(Box<AuthorityRecord>),
    /// A certificate.
    Certificate(Box<CertificateRecord>),
    /// A rotation under way.
    Rotation(RotationRecord),
    /// How far an output of a batch is vouched for.
    Mark {
        /// Its path.
        output: String,
        /// Bytes.
        offset_bytes: u64,
        /// Devices.
        rows: u64,
    },
    /// A CRL.
    Crl(CrlRecord),
    /// An event of the journal, and its hash as it stands in the ledger.
    Event(Event, Vec<u8>),
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Line {
    Ledger {
        format: u32,
        written: UtcTime,
    },
    Authority(AuthorityLine),
    Certificate(Box<CertificateLine>),
    Rotation {
        device: String,
        old: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        new: Option<String>,
        step: String,
        started: UtcTime,
        updated: UtcTime,
    },
    Mark {
        output: String,
        offset_bytes: u64,
        rows: u64,
    },
    Crl {
        issuer: String,
        number: u64,
        this_update: UtcTime,
        next_update: UtcTime,
        crl: String,
    },
    Event(EventLine),
    End {
        lines: u64,
        sha256: String,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct AuthorityLine {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    folder: PathBuf,
    origin: String,
    created: UtcTime,
    certificate: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EventLine {
    seq: i64,
    at: UtcTime,
    event: String,
    subject: String,
    body: String,
    hash: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct CertificateLine {
    issuer: String,
    serial: String,
    device: String,
    purpose: String,
    state: String,
    live: bool,
    subject: String,
    not_before: UtcTime,
    not_after: UtcTime,
    key_algorithm: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folder: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    created: UtcTime,
    updated: UtcTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    flaw: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<UtcTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
}

/// What is counted and hashed on the way.
struct Seal {
    lines: u64,
    hash: Context,
}

impl Seal {
    fn new() -> Self {
        Self {
            lines: 0,
            hash: Context::new(&SHA256),
        }
    }

    fn add(&mut self, line: &str) {
        self.lines += 1;
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
    }

    fn end(&self) -> (u64, String) {
        (self.lines, hex(self.hash.clone().finish().as_ref()))
    }
}

/// Writes the lines of one ledger.
pub struct Writer(Seal);

impl Writer {
    /// And the head line, without its line break, like all of them.
    pub fn begin(now: UtcTime) -> (Self, String) {
        let mut writer = Self(Seal::new());
        let head = writer.line(&Line::Ledger {
            format: FORMAT,
            written: now,
        });
        (writer, head)
    }

    /// One entry's line.
    pub fn entry(&mut self, entry: Entry) -> String {
        self.line(&line_of(entry))
    }

    /// The end line.
    pub fn end(mut self) -> String {
        let (lines, sha256) = self.0.end();
        self.line(&Line::End { lines, sha256 })
    }

    fn line(&mut self, line: &Line) -> String {
        // Names, numbers and text: what JSON cannot hold does not occur.
        let text = serde_json::to_string(line).unwrap_or_default();
        self.0.add(&text);
        text
    }
}

fn line_of(entry: Entry) -> Line {
    let id = |id: &CertificateId| id.as_str().to_owned();
    match entry {
        Entry::Authority(one) => Line::Authority(AuthorityLine {
            certificate: hex(one.certificate.der()),
            parent: one.parent.as_ref().map(id),
            name: one.name,
            folder: one.folder,
            origin: one.origin.to_string(),
            created: one.created,
        }),
        Entry::Certificate(one) => Line::Certificate(Box::new(certificate_line(*one))),
        Entry::Rotation(one) => Line::Rotation {
            old: id(&one.old),
            new: one.new.as_ref().map(id),
            device: one.device,
            step: one.step,
            started: one.started,
            updated: one.updated,
        },
        Entry::Mark {
            output,
            offset_bytes,
            rows,
        } => Line::Mark {
            output,
            offset_bytes,
            rows,
        },
        Entry::Crl(one) => Line::Crl {
            issuer: id(&one.issuer),
            number: one.number,
            this_update: one.this_update,
            next_update: one.next_update,
            crl: hex(&one.der),
        },
        Entry::Event(one, hash) => Line::Event(EventLine {
            seq: one.seq,
            at: one.at,
            event: one.kind,
            subject: one.subject,
            body: one.body,
            hash: hex(&hash),
        }),
    }
}

fn certificate_line(one: CertificateRecord) -> CertificateLine {
    CertificateLine {
        issuer: one.issuer.as_str().to_owned(),
        serial: hex(&one.serial),
        device: one.device,
        purpose: one.purpose.to_string(),
        state: one.state.to_string(),
        live: one.live,
        subject: one.subject,
        not_before: one.validity.not_before,
        not_after: one.validity.not_after,
        key_algorithm: one.key_algorithm,
        folder: one.folder,
        batch: one.batch,
        replaces: one.replaces.map(|id| id.as_str().to_owned()),
        created: one.created,
        updated: one.updated,
        run: one.run,
        flaw: one.flaw,
        revoked: one.revocation.map(|one| one.at),
        reason: one.revocation.map(|one| one.reason.to_string()),
        certificate: one.der.as_deref().map(hex),
    }
}

/// Reads the lines of one ledger.
pub struct Reader {
    seal: Seal,
    ended: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// Before the first line.
    pub fn new() -> Self {
        Self {
            seal: Seal::new(),
            ended: false,
        }
    }

    /// Reads the next line; `None` for the head line and the end line.
    ///
    /// # Errors
    /// `ledger-file.line`, `ledger-file.format`, `ledger-file.changed`.
    pub fn line(&mut self, text: &str) -> Result<Option<Entry>, LedgerFileError> {
        let number = self.seal.lines + 1;
        let wrong = |why: String| LedgerFileError::Line { number, why };
        if self.ended {
            return Err(wrong("nothing may follow the end line".into()));
        }
        let line: Line = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        let entry = match line {
            Line::Ledger { format, .. } if number == 1 => {
                if format > FORMAT {
                    return Err(LedgerFileError::Format(format));
                }
                None
            }
            _ if number == 1 => {
                return Err(wrong("the first line must be of kind `ledger`".into()));
            }
            Line::Ledger { .. } => return Err(wrong("a second line of kind `ledger`".into())),
            Line::End { lines, sha256 } => {
                if (lines, sha256) != self.seal.end() {
                    return Err(LedgerFileError::Changed);
                }
                self.ended = true;
                None
            }
            line => {
                let field =
                    |name: &str| wrong(format!("`{name}` holds what nameplate never wrote"));
                Some(entry_of(line).map_err(field)?)
            }
        };
        self.seal.add(text);
        Ok(entry)
    }

    /// After the last line.
    ///
    /// # Errors
    /// `ledger-file.short` when there was no end line.
    pub fn end(&self) -> Result<(), LedgerFileError> {
        if self.ended {
            return Ok(());
        }
        Err(LedgerFileError::Short(self.seal.lines))
    }
}

type Field<T> = Result<T, &'static str>;

fn bytes(name: &'static str, text: &str) -> Field<Vec<u8>> {
    unhex(text).ok_or(name)
}

fn id(name: &'static str, text: &str) -> Field<CertificateId> {
    text.parse().map_err(|_| name)
}

fn maybe<T>(text: Option<String>, read: impl Fn(&str) -> Field<T>) -> Field<Option<T>> {
    text.as_deref().map(read).transpose()
}

fn entry_of(line: Line) -> Field<Entry> {
    Ok(match line {
        Line::Authority(line) => Entry::Authority(Box::new(authority_of(line)?)),
        Line::Certificate(line) => Entry::Certificate(Box::new(certificate_of(*line)?)),
        Line::Rotation {
            device,
            old,
            new,
            step,
            started,
            updated,
        } => Entry::Rotation(RotationRecord {
            device,
            old: id("old", &old)?,
            new: maybe(new, |text| id("new", text))?,
            step,
            started,
            updated,
        }),
        Line::Mark {
            output,
            offset_bytes,
            rows,
        } => Entry::Mark {
            output,
            offset_bytes,
            rows,
        },
        Line::Crl {
            issuer,
            number,
            this_update,
            next_update,
            crl,
        } => Entry::Crl(CrlRecord {
            issuer: id("issuer", &issuer)?,
            number,
            this_update,
            next_update,
            der: bytes("crl", &crl)?,
        }),
        Line::Event(line) => event_of(line)?,
        Line::Ledger { .. } | Line::End { .. } => return Err("kind"),
    })
}

fn event_of(line: EventLine) -> Field<Entry> {
    let hash = bytes("hash", &line.hash)?;
    let event = Event {
        seq: line.seq,
        at: line.at,
        kind: line.event,
        subject: line.subject,
        body: line.body,
    };
    Ok(Entry::Event(event, hash))
}

fn authority_of(line: AuthorityLine) -> Field<AuthorityRecord> {
    let der = bytes("certificate", &line.certificate)?;
    Ok(AuthorityRecord {
        name: line.name,
        parent: maybe(line.parent, |text| id("parent", text))?,
        folder: line.folder,
        origin: Origin::from_word(&line.origin).ok_or("origin")?,
        created: line.created,
        certificate: Certificate::from_der(&der).map_err(|_| "certificate")?,
    })
}

fn certificate_of(line: CertificateLine) -> Field<CertificateRecord> {
    let revocation = match (line.revoked, line.reason) {
        (None, None) => None,
        (Some(at), Some(reason)) => Some(Revocation {
            at,
            reason: reason.parse::<RevocationReason>().map_err(|_| "reason")?,
        }),
        _ => return Err("reason"),
    };
    let der = maybe(line.certificate, |text| bytes("certificate", text))?;
    Ok(CertificateRecord {
        id: der.as_deref().map(CertificateId::of_der),
        issuer: id("issuer", &line.issuer)?,
        serial: bytes("serial", &line.serial)?,
        device: line.device,
        purpose: IdentityPurpose::from_word(&line.purpose).ok_or("purpose")?,
        state: CertificateState::from_word(&line.state).ok_or("state")?,
        live: line.live,
        subject: line.subject,
        validity: Validity {
            not_before: line.not_before,
            not_after: line.not_after,
        },
        key_algorithm: line.key_algorithm,
        folder: line.folder,
        batch: line.batch,
        replaces: maybe(line.replaces, |text| id("replaces", text))?,
        der,
        created: line.created,
        updated: line.updated,
        run: line.run,
        flaw: line.flaw,
        revocation,
    })
}

/// The file is not a whole ledger.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum LedgerFileError {
    /// Its content is not what its end says.
    #[error("the file was changed: its lines are not those its end line speaks of")]
    Changed,
    /// Written by a newer nameplate.
    #[error("the file is of format {0}; this nameplate reads up to {FORMAT}")]
    Format(u32),
    /// A line that cannot be read.
    #[error("line {number}: {why}")]
    Line {
        /// From 1.
        number: u64,
        /// What is wrong.
        why: String,
    },
    /// Cut off.
    #[error("the file was cut off after line {0}: its end line is missing")]
    Short(u64),
}

impl Explain for LedgerFileError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Changed => "ledger-file.changed",
            Self::Format(_) => "ledger-file.format",
            Self::Line { .. } => "ledger-file.line",
            Self::Short(_) => "ledger-file.short",
        }
    }
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Format(_) => "use the newer nameplate that wrote it".into(),
            Self::Line { .. } => {
                "this reads what `nameplate ledger export` wrote; for certificates that were made \
                 elsewhere use `nameplate ledger import --certificates`"
                    .into()
            }
            _ => "write it again with `nameplate ledger export`".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<String> {
        let (mut writer, head) = Writer::begin(UtcTime::from_unix(1_800_000_000));
        let event = Event {
            seq: 1,
            at: UtcTime::from_unix(1_800_000_000),
            kind: "a".into(),
            subject: "b".into(),
            body: "{\"x\":\"ü\"}".into(),
        };
        let mark = Entry::Mark {
            output: "devices.tar".into(),
            offset_bytes: 10,
            rows: 1,
        };
        let mut all = vec![head, writer.entry(mark)];
        all.push(writer.entry(Entry::Event(event, vec![1, 2, 0xff])));
        all.push(writer.end());
        all
    }

    fn read(lines: &[String]) -> Result<usize, LedgerFileError> {
        let mut reader = Reader::new();
        let mut entries = 0;
        for line in lines {
            entries += usize::from(reader.line(line)?.is_some());
        }
        reader.end().map(|()| entries)
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(read(&sample()), Ok(2));
    }

    #[test]
    fn a_changed_or_short_file_is_noticed() {
        let good = sample();
        assert_eq!(read(&good[..3]), Err(LedgerFileError::Short(3)));
        assert_eq!(read(&[]), Err(LedgerFileError::Short(0)));
        let mut changed = good.clone();
        changed[1] = changed[1].replace("10", "11");
        assert_eq!(read(&changed), Err(LedgerFileError::Changed));
        let mut twice = good.clone();
        twice.push(good[3].clone());
        assert!(matches!(
            read(&twice),
            Err(LedgerFileError::Line { number: 5, .. })
        ));
        let newer = [good[0].replace(":1,", ":2,")];
        assert_eq!(read(&newer), Err(LedgerFileError::Format(2)));
        assert!(matches!(
            read(&good[1..]),
            Err(LedgerFileError::Line { number: 1, .. })
        ));
    }
}
