//! Lists from files and stdin; files that grow, each kept by one process with flock(2).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::bundle::Secrecy;
use crate::ports::FileError;
use crate::ports::streams::{Source, Stream, Streams};

/// The machine's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskStreams;

fn reading(path: &Path) -> impl Fn(io::Error) -> FileError {
    move |source| match source.kind() {
        ErrorKind::NotFound => FileError::Missing(path.to_owned()),
        _ => FileError::Read {
            path: path.to_owned(),
            source,
        },
    }
}

fn writing(path: &Path) -> impl Fn(io::Error) -> FileError {
    move |source| FileError::Write {
        path: path.to_owned(),
        source,
    }
}

impl Streams for DiskStreams {
    fn source(&self, path: &Path) -> Result<Box<dyn Source>, FileError> {
        if path != Path::new("-") {
            let file = File::open(path).map_err(reading(path))?;
            // A pipe can be read only once, so it is kept as stdin is.
            let regular = file.metadata().is_ok_and(|about| about.is_file());
            return if regular {
                Ok(Box::new(Named(path.to_owned())))
            } else {
                spool(file, path)
            };
        }
        spool(io::stdin().lock(), path)
    }

    fn stream(&self, path: &Path, secrecy: Secrecy) -> Result<Box<dyn Stream>, FileError> {
        if path == Path::new("-") {
            return Ok(Box::new(Stdout));
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(secrecy.mode())
            .open(path)
            .map_err(writing(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FileError::Busy(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(writing(path)(error)),
        }
        sync_parent(path).map_err(writing(path))?;
        Ok(Box::new(Growing {
            file,
            path: path.to_owned(),
        }))
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Copies everything into a file that has no name any more.
fn spool(mut from: impl Read, path: &Path) -> Result<Box<dyn Source>, FileError> {
    let folder = std::env::temp_dir();
    let temporary = folder.join(format!(".nameplate-list.{}", std::process::id()));
    let failed = writing(&temporary);
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(&failed)?;
    fs::remove_file(&temporary).map_err(&failed)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => file.write_all(&buffer[..count]).map_err(&failed)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(reading(path)(error)),
        }
    }
    Ok(Box::new(Spooled(Arc::new(file))))
}

struct Named(PathBuf);

impl Source for Named {
    fn open(&self) -> Result<Box<dyn Read + Send>, FileError> {
        let file = File::open(&self.0).map_err(reading(&self.0))?;
        Ok(Box::new(file))
    }
}

struct Spooled(Arc<File>);

impl Source for Spooled {
    fn open(&self) -> Result<Box<dyn Read + Send>, FileError> {
        Ok(Box::new(At {
            file: Arc::clone(&self.0),
            offset: 0,
        }))
    }
}

/// Reads a shared file with a place of its own.
struct At {
    file: Arc<File>,
    offset: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

struct Growing {
    file: File,
    path: PathBuf,
}

impl Stream for Growing {
    fn length(&self) -> Result<u64, FileError> {
        let about = self.file.metadata().map_err(reading(&self.path))?;
        Ok(about.len())
    }

    fn cut(&self, length: u64) -> Result<(), FileError> {
        self.file
            .set_len(length)
            .and_then(|()| self.file.sync_all())
            .map_err(writing(&self.path))
    }

    fn append(&self, bytes: &[u8]) -> Result<(), FileError> {
        (&self.file).write_all(bytes).map_err(writing(&self.path))
    }

    fn sync(&self) -> Result<(), FileError> {
        self.file.sync_data().map_err(writing(&self.path))
    }

    fn read(&self) -> Result<Box<dyn Read>, FileError> {
        let mut file = File::open(&self.path).map_err(reading(&self.path))?;
        file.seek(SeekFrom::Start(0)).map_err(reading(&self.path))?;
        Ok(Box::new(file))
    }
}

struct Stdout;

impl Stream for Stdout {
    fn length(&self) -> Result<u64, FileError> {
        Ok(0)
    }

    fn cut(&self, _: u64) -> Result<(), FileError> {
        Ok(())
    }

    fn append(&self, bytes: &[u8]) -> Result<(), FileError> {
        io::stdout()
            .write_all(bytes)
            .map_err(writing(Path::new("-")))
    }

    fn sync(&self) -> Result<(), FileError> {
        io::stdout().flush().map_err(writing(Path::new("-")))
    }

    fn read(&self) -> Result<Box<dyn Read>, FileError> {
        Ok(Box::new(io::empty()))
    }
}
