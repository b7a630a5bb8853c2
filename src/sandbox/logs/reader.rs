//! Reads the file of records while it grows, and across its turning over.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{OLD_LOGS, Record};

/// Reads records in the order they were written.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    file: Option<File>,
    /// A line whose end is not written yet.
    rest: Vec<u8>,
}

impl LogReader {
    /// From the oldest record that is kept beside `path`.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: File::open(path.with_file_name(OLD_LOGS)).ok(),
            rest: Vec::new(),
        }
    }

    /// What was written since the last call.
    ///
    /// # Errors
    /// When the file cannot be read; one that is not there is empty.
    pub fn more(&mut self) -> io::Result<Vec<Record>> {
        let mut bytes = std::mem::take(&mut self.rest);
        loop {
            if let Some(file) = &mut self.file {
                file.read_to_end(&mut bytes)?;
            }
            // The file that is open may be the old one by now: there is another behind it.
            let next = match File::open(&self.path) {
                Ok(next) => next,
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            let open = self.file.as_ref().map(File::metadata).transpose()?;
            if open.is_some_and(|open| next.metadata().is_ok_and(|next| next.ino() == open.ino())) {
                break;
            }
            self.file = Some(next);
        }
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        self.rest = bytes.split_off(whole);
        let lines = bytes.split(|byte| *byte == b'\n');
        Ok(lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn a_reader_follows_across_the_turn_and_waits_for_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs.ndjson");
        let mut reader = LogReader::new(&path);
        let mut heard = || -> Vec<String> {
            let records = reader.more().unwrap();
            records.into_iter().map(|one| one.event_type).collect()
        };
        assert!(heard().is_empty());
        let line = |name: &str| format!("{{\"eventType\":\"{name}\"}}\n");
        let cut = line("Two");
        let (one, two) = cut.split_at(5);
        fs::write(&path, line("One") + one).unwrap();
        assert_eq!(heard(), ["One"]);
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(two.as_bytes()).unwrap();
        file.write_all(line("Three").as_bytes()).unwrap();
        fs::rename(&path, folder.path().join(OLD_LOGS)).unwrap();
        fs::write(&path, line("Four")).unwrap();
        assert_eq!(heard(), ["Two", "Three", "Four"]);
        assert!(heard().is_empty());
        // One who comes later reads both files.
        assert_eq!(LogReader::new(&path).more().unwrap().len(), 4);
    }
}
