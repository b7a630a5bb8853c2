//! The file of records. When it is full it becomes the old one, and a new one begins: two files,
//! each of at most the limit, are all that a sandbox ever writes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The records before those of `logs.ndjson`.
pub const OLD_LOGS: &str = "logs.old.ndjson";
/// How large one file may grow: 32 MiB.
const LIMIT: u64 = 32 << 20;

/// A file of records that does not grow without end.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl LogFile {
    /// Opens the file, or makes it with mode 0600.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = append(path)?;
        Ok(Self {
            size: file.metadata()?.len(),
            path: path.to_owned(),
            file,
            limit: LIMIT,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one line. What cannot be written is lost.
    pub(super) fn append(&mut self, mut line: Vec<u8>) {
        line.push(b'\n');
        let length = line.len() as u64;
        if self.size + length > self.limit && self.size > 0 {
            let _ = self.turn_over();
        }
        if self.file.write_all(&line).is_ok() {
            self.size += length;
        }
    }

    fn turn_over(&mut self) -> io::Result<()> {
        fs::rename(&self.path, self.path.with_file_name(OLD_LOGS))?;
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_becomes_the_old_one_and_no_line_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs.ndjson");
        let mut log = LogFile {
            limit: 100,
            ..LogFile::open(&path).unwrap()
        };
        for n in 0..25 {
            log.append(format!("record {n:02}").into_bytes());
        }
        let (new, old) = (
            fs::read_to_string(&path).unwrap(),
            fs::read_to_string(folder.path().join(OLD_LOGS)).unwrap(),
        );
        // Ten bytes a line: ten lines a file.
        assert_eq!((new.lines().count(), old.lines().count()), (5, 10));
        assert_eq!(old.lines().next(), Some("record 10"));
        assert_eq!(new.lines().last(), Some("record 24"));
        // Opened again, what is there counts.
        let mut again = LogFile {
            limit: 60,
            ..LogFile::open(&path).unwrap()
        };
        again.append(b"record 25".to_vec());
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 6);
        again.append(b"record 26".to_vec());
        assert_eq!(fs::read_to_string(&path).unwrap(), "record 26\n");
    }
}
