//! Where a batch's identities go and what is written down of them: a stream that only grows, a
//! manifest beside it, and the mark up to which the ledger vouches for both.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{Context, SHA256};

use super::{BatchError, DeviceBatch, Made, Request};
use crate::core::bundle::Secrecy;
use crate::core::handover::ending;
use crate::core::ids::{CertificateId, hex};
use crate::core::time::Validity;
use crate::ports::FileError;
use crate::ports::ledger::{Checkpoint, Run};
use crate::ports::streams::Stream;

/// The growing files of one batch.
pub(super) struct Sink {
    stream: Option<Grown>,
    manifest: Option<Grown>,
    rows: u64,
    hash: Context,
    /// What the mark is of; `None` when nothing grows, or nothing can be cut.
    name: Option<PathBuf>,
}

/// One growing file.
struct Grown {
    file: Arc<dyn Stream>,
    path: PathBuf,
    /// Up to here it is vouched for.
    mark: u64,
    /// Whether it was cut to the mark: not before there is something new to write.
    cut: bool,
}

impl Grown {
    fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        if !self.cut {
            self.file.cut(self.mark)?;
            self.cut = true;
        }
        self.file.append(bytes)
    }

    fn sync(&self) -> Result<(), FileError> {
        self.file.sync()
    }
}

/// One line of the manifest.
#[derive(serde::Serialize)]
struct Line<'a> {
    name: &'a str,
    certificate_id: &'a str,
    serial: String,
    not_before: &'a str,
    not_after: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
}

/// The last line of the manifest: what is signed.
#[derive(serde::Serialize)]
struct Seal<'a> {
    manifest: u32,
    batch: &'a str,
    ca: &'a str,
    ca_certificate_id: &'a CertificateId,
    devices: u64,
    sha256: String,
}

impl Sink {
    /// Opens what grows, as far as the ledger vouches for it.
    pub(super) fn open(
        (flow, run): (&DeviceBatch<'_>, &dyn Run),
        request: &Request<'_>,
    ) -> Result<Self, BatchError> {
        let to_stdout = request.out == Path::new("-");
        let named = if request.shape.is_stream() {
            Some(request.out).filter(|_| !to_stdout)
        } else {
            request.manifest
        };
        let known = match named {
            Some(path) => flow.ledger.checkpoint(&path.to_string_lossy())?,
            None => None,
        };
        let mut sink = Self {
            stream: None,
            manifest: None,
            rows: 0,
            hash: Context::new(&SHA256),
            name: named.map(Path::to_owned),
        };
        let mut fresh = known.is_none();
        let (mark, rows) = known.map_or((0, 0), |known| (known.offset_bytes, known.rows));
        if request.shape.is_stream() {
            let stream = grown(flow, (request.out, Secrecy::Private), (fresh, mark))?;
            // The earlier output was taken away whole: this one begins anew.
            fresh |= mark > 0 && stream.mark == 0;
            sink.stream = Some(stream);
        }
        if let Some(path) = request.manifest {
            let mut manifest = grown(flow, (path, Secrecy::Public), (fresh, 0))?;
            fresh |= rows > 0 && manifest.file.length()? == 0 && sink.stream.is_none();
            if !fresh {
                manifest.mark = sink.recount(&manifest, rows)?;
            }
            sink.manifest = Some(manifest);
        }
        sink.rows = if fresh { 0 } else { rows };
        if fresh && let Some(mark) = sink.checkpoint() {
            flow.ledger
                .confirm_block(run, &[], Some(&mark), flow.clock.now())?;
        }
        Ok(sink)
    }

    /// Where the manifest's first `rows` lines end; takes them into the hash.
    fn recount(&mut self, manifest: &Grown, rows: u64) -> Result<u64, BatchError> {
        let short = || BatchError::Short {
            path: manifest.path.clone(),
        };
        let mut reader = BufReader::new(manifest.file.read()?);
        let (mut line, mut at) = (Vec::new(), 0);
        for _ in 0..rows {
            line.clear();
            let read = reader.read_until(b'\n', &mut line);
            let length = read.map_err(|source| FileError::Read {
                path: manifest.path.clone(),
                source,
            })?;
            if line.last() != Some(&b'\n') {
                return Err(short());
            }
            self.hash.update(&line);
            at += length as u64;
        }
        Ok(at)
    }

    /// What the ledger may vouch for once [`Sink::files`] are durable.
    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        let name = self.name.as_ref()?;
        Some(Checkpoint {
            output: name.to_string_lossy().into_owned(),
            offset_bytes: self.stream.as_ref().map_or(0, |stream| stream.mark),
            rows: self.rows,
        })
    }

    /// What grows.
    pub(super) fn files(&self) -> Vec<Arc<dyn Stream>> {
        let grown = self.manifest.iter().chain(&self.stream);
        grown.map(|one| Arc::clone(&one.file)).collect()
    }

    /// Puts a block and its lines at the end.
    pub(super) fn append(
        &mut self,
        request: &Request<'_>,
        bytes: &[u8],
        made: &[Made],
    ) -> Result<(), BatchError> {
        if let Some(manifest) = &mut self.manifest {
            let mut lines = Vec::with_capacity(made.len() * 320);
            let Validity {
                not_before,
                not_after,
            } = request.validity;
            let window = [not_before, not_after].map(|time| time.to_string());
            for one in made {
                one.line(request, &window, &mut lines);
            }
            self.hash.update(&lines);
            manifest.append(&lines)?;
            manifest.mark += lines.len() as u64;
        }
        if let Some(stream) = &mut self.stream {
            stream.append(bytes)?;
            stream.mark += bytes.len() as u64;
        }
        self.rows += made.len() as u64;
        Ok(())
    }

    /// Ends the stream, and signs the manifest. What is ended already is left as it is.
    pub(super) fn finish(
        mut self,
        flow: &DeviceBatch<'_>,
        request: &Request<'_>,
    ) -> Result<(), BatchError> {
        if let Some(stream) = &mut self.stream {
            let end = ending(request.shape)?;
            if stream.cut || stream.file.length()? != stream.mark + end.len() as u64 {
                stream.append(&end)?;
                stream.sync()?;
            }
        }
        let Some(mut manifest) = self.manifest else {
            return Ok(());
        };
        let seal = Seal {
            manifest: 1,
            batch: request.batch,
            ca: request.issuer.name,
            ca_certificate_id: request.issuer.certificate()?.id(),
            devices: self.rows,
            sha256: hex(self.hash.finish().as_ref()),
        };
        let mut line = serde_json::to_vec(&seal).unwrap_or_default();
        line.push(b'\n');
        let signature = signature_beside(&manifest.path);
        let whole = manifest.file.length()? == manifest.mark + line.len() as u64;
        if manifest.cut || !whole || !flow.files.exists(&signature) {
            manifest.append(&line)?;
            manifest.sync()?;
            let signed = request.issuer.signer.sign(&line)?;
            flow.files.replace(&signature, &signed, Secrecy::Public)?;
        }
        Ok(())
    }
}

/// `manifest.ndjson.sig` for `manifest.ndjson`.
fn signature_beside(manifest: &Path) -> PathBuf {
    let mut name = manifest.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// Opens one; what nobody vouches for is not ours to cut.
fn grown(
    flow: &DeviceBatch<'_>,
    (path, secrecy): (&Path, Secrecy),
    (fresh, mark): (bool, u64),
) -> Result<Grown, BatchError> {
    let file = flow.streams.stream(path, secrecy)?;
    let length = file.length()?;
    if fresh && length > 0 {
        return Err(FileError::Exists(path.to_owned()).into());
    }
    if (1..mark).contains(&length) {
        return Err(BatchError::Short {
            path: path.to_owned(),
        });
    }
    Ok(Grown {
        file: file.into(),
        path: path.to_owned(),
        mark: mark.min(length),
        cut: false,
    })
}

impl Made {
    fn line(&self, request: &Request<'_>, window: &[String; 2], lines: &mut Vec<u8>) {
        let folder = || request.out.join(&self.order.device);
        let path = (!request.shape.is_stream()).then(folder);
        let line = Line {
            name: &self.order.device,
            certificate_id: self.id.as_str(),
            serial: hex(&self.key.serial),
            not_before: &window[0],
            not_after: &window[1],
            path,
        };
        // Text and numbers only: nothing that JSON cannot hold.
        let _ = serde_json::to_writer(&mut *lines, &line);
        lines.push(b'\n');
    }
}
