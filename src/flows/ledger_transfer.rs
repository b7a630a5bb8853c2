//! `ledger export` and `ledger import`: a whole ledger to a file and back.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::core::bundle::Secrecy;
use crate::core::ledger_file::{LedgerFileError, MAX_LINE, Reader, Writer};
use crate::core::record::{LedgerCheck, LedgerFlaw};
use crate::explain::{Explain, Kind};
use crate::ports::ledger::{Feed, Ledger, LedgerError};
use crate::ports::streams::{Stream, Streams};
use crate::ports::{Clock, FileError, Files, Swap, Tidy};

/// How many bytes are written at once.
const BLOCK: usize = 256 * 1024;

/// What the flows may use.
pub struct Transfer<'a> {
    /// When.
    pub clock: &'a dyn Clock,
    /// Whether a file is there.
    pub files: &'a dyn Files,
    /// Files that grow, and lists.
    pub streams: &'a dyn Streams,
    /// Gives a whole file its name.
    pub swap: &'a dyn Swap,
    /// Takes a file away that did not become whole.
    pub tidy: &'a dyn Tidy,
    /// The record.
    pub ledger: &'a dyn Ledger,
}

/// Lines that are gathered before they are written.
struct Gathered {
    stream: Box<dyn Stream>,
    text: String,
}

impl Gathered {
    fn line(&mut self, line: &str) -> Result<(), FileError> {
        self.text.push_str(line);
        self.text.push('\n');
        if self.text.len() >= BLOCK {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), FileError> {
        self.stream.append(self.text.as_bytes())?;
        self.text.clear();
        Ok(())
    }
}

/// `.NAME.part`, where a file grows until it is whole.
fn part_beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".part");
    path.with_file_name(name)
}

impl Transfer<'_> {
    /// Writes everything to a file that is not there yet, or to stdout (`-`); how many rows and
    /// events there were. The file has its name once it is whole.
    ///
    /// # Errors
    /// `file.*`, `ledger.*`.
    pub fn export(&self, to: &Path) -> Result<u64, TransferError> {
        if to == Path::new("-") {
            return self.write_to(to);
        }
        if self.files.exists(to) {
            return Err(FileError::Exists(to.to_owned()).into());
        }
        let part = part_beside(to);
        self.tidy.remove_file(&part)?;
        let written = self
            .write_to(&part)
            .and_then(|entries| Ok(self.swap.rename(&part, to).map(|()| entries)?));
        if written.is_err() {
            // What went wrong first is what is told.
            let _ = self.tidy.remove_file(&part);
        }
        written
    }

    fn write_to(&self, to: &Path) -> Result<u64, TransferError> {
        let mut out = Gathered {
            stream: self.streams.stream(to, Secrecy::Private)?,
            text: String::new(),
        };
        let (mut writer, head) = Writer::begin(self.clock.now());
        let mut written = out.line(&head);
        let mut entries = 0;
        self.ledger.export(&mut |entry| {
            entries += 1;
            written = out.line(&writer.entry(entry));
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        written?;
        out.line(&writer.end())?;
        out.flush()?;
        out.stream.sync()?;
        Ok(entries)
    }

    /// Fills an empty ledger from a file or stdin (`-`).
    ///
    /// # Errors
    /// `file.*`, `ledger-file.*`, `ledger.*`.
    pub fn import(&self, from: &Path) -> Result<LedgerCheck, TransferError> {
        let source = self.streams.source(from)?;
        let mut lines = BufReader::new(source.open()?);
        let mut reader = Reader::new();
        let mut failed = None;
        let check = self.ledger.import(&mut || {
            loop {
                let entry = match next_line(&mut lines, from) {
                    Ok(None) => match reader.end() {
                        Ok(()) => return Feed::End,
                        Err(error) => Err(error.into()),
                    },
                    Ok(Some(line)) => reader.line(&line).map_err(TransferError::from),
                    Err(error) => Err(error),
                };
                match entry {
                    Ok(Some(entry)) => return Feed::Entry(entry),
                    Ok(None) => {}
                    Err(error) => {
                        failed = Some(error);
                        return Feed::Stop;
                    }
                }
            }
        });
        if let Some(error) = failed {
            return Err(TransferError::At(from.to_owned(), Box::new(error)));
        }
        match check? {
            Some(LedgerCheck {
                broken: Some(flaw), ..
            }) => Err(TransferError::Broken(from.to_owned(), flaw)),
            Some(check) => Ok(check),
            None => Err(TransferError::File(LedgerFileError::Short(0))),
        }
    }
}

fn next_line(lines: &mut impl BufRead, from: &Path) -> Result<Option<String>, TransferError> {
    let mut line = String::new();
    let most = MAX_LINE as u64 + 1;
    let read = lines
        .by_ref()
        .take(most)
        .read_line(&mut line)
        .map_err(|source| FileError::Read {
            path: from.to_owned(),
            source,
        })?;
    if read as u64 >= most {
        return Err(FileError::Size {
            path: from.to_owned(),
            max_bytes: MAX_LINE as u64,
        }
        .into());
    }
    let line = line.trim_end_matches(['\n', '\r']);
    Ok((read > 0).then(|| line.to_owned()))
}

/// A ledger was not written or not read.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// In this file.
    #[error("`{0}`: {1}")]
    At(PathBuf, #[source] Box<TransferError>),
    /// Whole, but its journal and its rows do not fit.
    #[error("`{}` holds a ledger that was changed: {}: {}", .0.display(), .1.subject, .1.problem)]
    Broken(PathBuf, LedgerFlaw),
    /// Files.
    #[error(transparent)]
    Disk(#[from] FileError),
    /// Not a whole ledger.
    #[error(transparent)]
    File(#[from] LedgerFileError),
    /// The record.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Explain for TransferError {
    fn kind(&self) -> Kind {
        match self {
            Self::At(_, error) => error.kind(),
            Self::Broken(..) => Kind::Refused,
            Self::Disk(error) => error.kind(),
            Self::File(error) => error.kind(),
            Self::Ledger(error) => error.kind(),
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::At(_, error) => error.code(),
            Self::Broken(..) => "ledger-file.broken",
            Self::Disk(error) => error.code(),
            Self::File(error) => error.code(),
            Self::Ledger(error) => error.code(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::At(_, error) => error.hint(),
            Self::Broken(..) => Some(
                "nothing was taken in; run `nameplate ledger verify` on the ledger it came from"
                    .into(),
            ),
            Self::Disk(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Ledger(error) => error.hint(),
        }
    }
}
