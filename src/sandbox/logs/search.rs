//! Searches the files of records, line by line and page by page: only one line is in memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::OLD_LOGS;

/// The longest line that is looked at. Records are far shorter.
const MAX_LINE: u64 = 1 << 20;

/// A place in the records. It stays good when the file turns over, as long as the file is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::sandbox) struct Mark {
    /// The file's inode.
    file: u64,
    offset: u64,
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}-{:x}", self.file, self.offset)
    }
}

impl std::str::FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (file, offset) = text.split_once('-').ok_or(())?;
        let number = |text| u64::from_str_radix(text, 16).map_err(|_| ());
        Ok(Self {
            file: number(file)?,
            offset: number(offset)?,
        })
    }
}

/// Shows every whole line from a mark on to `look`, oldest first, until it breaks off. Answers the
/// place behind the last line that was shown, or `None` when there are no more. Where the mark's
/// file is not kept any more, it begins with the oldest line.
///
/// # Errors
/// When a file cannot be read; one that is not there is empty.
pub(in crate::sandbox) fn search(
    path: &Path,
    from: Option<Mark>,
    mut look: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<Option<Mark>> {
    let files = open(path)?;
    let begin = files
        .iter()
        .position(|(inode, _)| from.is_some_and(|from| from.file == *inode));
    let mut offset = from
        .filter(|_| begin.is_some())
        .map_or(0, |from| from.offset);
    for (inode, mut file) in files.into_iter().skip(begin.unwrap_or(0)) {
        file.seek(SeekFrom::Start(offset))?;
        if let Some(offset) = lines(file, offset, &mut look)? {
            return Ok(Some(Mark {
                file: inode,
                offset,
            }));
        }
        offset = 0;
    }
    Ok(None)
}

/// The old file and the new one, with their inodes. The new one is opened first: should it turn
/// over meanwhile, it is found again as the old one, and counts once.
fn open(path: &Path) -> io::Result<Vec<(u64, File)>> {
    let mut files: Vec<(u64, File)> = Vec::new();
    for path in [path.to_owned(), path.with_file_name(OLD_LOGS)] {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let inode = file.metadata()?.ino();
        if files.iter().all(|(other, _)| *other != inode) {
            files.insert(0, (inode, file));
        }
    }
    Ok(files)
}

/// The lines of one file; where it was broken off.
fn lines(
    file: File,
    mut offset: u64,
    look: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<Option<u64>> {
    let mut reader = BufReader::with_capacity(64 * 1024, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)? as u64;
        // A line without its end is being written.
        let Some(whole) = line.strip_suffix(b"\n") else {
            return Ok(None);
        };
        offset += read;
        if look(whole).is_break() {
            return Ok(Some(offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn page(path: &Path, from: Option<Mark>, size: usize) -> (Vec<String>, Option<Mark>) {
        let mut seen = Vec::new();
        let next = search(path, from, |line| {
            seen.push(String::from_utf8(line.to_vec()).unwrap());
            if seen.len() == size {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        (seen, next.unwrap())
    }

    #[test]
    fn pages_go_through_both_files_and_over_a_turn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs.ndjson");
        assert_eq!(page(&path, None, 2), (vec![], None));
        fs::write(folder.path().join(OLD_LOGS), "a\nb\nc\n").unwrap();
        fs::write(&path, "d\ne\nf").unwrap();
        let (first, mark) = page(&path, None, 2);
        assert_eq!(first, ["a", "b"]);
        let (second, mark) = page(&path, mark, 2);
        assert_eq!(second, ["c", "d"]);
        // The file turns over; the line that was cut is whole.
        fs::rename(&path, folder.path().join(OLD_LOGS)).unwrap();
        fs::write(folder.path().join("old"), "").unwrap();
        let old = fs::read_to_string(folder.path().join(OLD_LOGS)).unwrap();
        let mut more = fs::OpenOptions::new()
            .append(true)
            .open(folder.path().join(OLD_LOGS))
            .unwrap();
        assert!(old.ends_with('f'));
        more.write_all(b"!\n").unwrap();
        fs::write(&path, "g\n").unwrap();
        let (third, mark) = page(&path, mark, 9);
        assert_eq!(
            (third, mark),
            (vec!["e".into(), "f!".into(), "g".into()], None)
        );
        // A mark in a file that is gone begins with the oldest line.
        let gone = "ffffffffff-9".parse().ok();
        assert_eq!(page(&path, gone, 1).0, ["d"]);
    }

    #[test]
    fn a_mark_is_its_text() {
        let mark = Mark {
            file: 77,
            offset: 1 << 33,
        };
        assert_eq!(mark.to_string().parse(), Ok(mark));
        for bad in ["", "1", "x-1", "1-", "-1"] {
            assert!(bad.parse::<Mark>().is_err(), "{bad}");
        }
    }
}
