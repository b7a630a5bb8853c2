use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use zeroize::Zeroizing;

use super::*;
use crate::core::batch::{ListFormat, Row, RowProblem, Rows};
use crate::core::bundle::{File, Secrecy};
use crate::core::cert::Certificate;
use crate::core::draft::{Draft, IssuerView};
use crate::core::record::{AuthorityRecord, CrlRecord, LedgerCheck, RotationRecord};
use crate::core::record::{CertificateRecord, CertificateState, IdentityPurpose, Intent};
use crate::core::revocation::{Revocation, RevocationReason};
use crate::core::time::{Span, UtcTime};
use crate::effects::keys::{LocalSigner, RingKeys};
use crate::explain::{Explain, Kind};
use crate::flows::device_issue::saved;
use crate::ports::Signer;
use crate::ports::ledger::{Checkpoint, Claim, Confirmation, Feed, Filter, Ledger, NextCrl, Run};
use crate::ports::streams::{Source, Stream};

const DEVICES: usize = 70;

/// Counts every step that can fail, and makes one fail.
#[derive(Default)]
struct Fault {
    steps: AtomicUsize,
    fails_at: Option<usize>,
}

impl Fault {
    fn step(&self) -> Result<(), ()> {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        if Some(step) == self.fails_at {
            Err(())
        } else {
            Ok(())
        }
    }
}

fn none() -> &'static Fault {
    Box::leak(Box::default())
}

fn failing(at: usize) -> &'static Fault {
    Box::leak(Box::new(Fault {
        fails_at: Some(at),
        ..Fault::default()
    }))
}

fn no_room(path: &Path) -> FileError {
    FileError::Write {
        path: path.to_owned(),
        source: std::io::ErrorKind::StorageFull.into(),
    }
}

type Content = BTreeMap<PathBuf, Vec<u8>>;

/// Files and folders in memory, that outlive a run.
struct MemoryDisk<'a> {
    content: &'a Mutex<Content>,
    fault: &'a Fault,
}

impl MemoryDisk<'_> {
    fn step(&self, path: &Path) -> Result<(), FileError> {
        self.fault.step().map_err(|()| no_room(path))
    }
}

impl Files for MemoryDisk<'_> {
    fn read(&self, path: &Path, _: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
        let content = self.content.lock().unwrap();
        let found = content.get(path).cloned();
        found
            .map(Zeroizing::new)
            .ok_or_else(|| FileError::Missing(path.to_owned()))
    }
    fn write_new(&self, path: &Path, _: &[u8], _: Secrecy) -> Result<(), FileError> {
        Err(FileError::Exists(path.to_owned()))
    }
    fn replace(&self, path: &Path, bytes: &[u8], _: Secrecy) -> Result<(), FileError> {
        self.step(path)?;
        self.content
            .lock()
            .unwrap()
            .insert(path.to_owned(), bytes.to_vec());
        self.step(path)
    }
    fn create_dir(&self, path: &Path) -> Result<(), FileError> {
        self.step(path)
    }
    fn exists(&self, path: &Path) -> bool {
        let content = self.content.lock().unwrap();
        content.keys().any(|known| known.starts_with(path))
    }
    fn mode(&self, _: &Path) -> Option<u32> {
        None
    }
}

impl Folders for MemoryDisk<'_> {
    fn write(&self, folder: &Path, files: &[File]) -> Result<(), FileError> {
        for file in files {
            self.step(folder)?;
            let mut content = self.content.lock().unwrap();
            content.insert(folder.join(file.name), file.bytes.to_vec());
        }
        Ok(())
    }
    fn occupy(&self, _: &Path, leftovers: &Path) -> Result<Box<dyn std::any::Any>, FileError> {
        self.remove(leftovers)?;
        Ok(Box::new(()))
    }
    fn remove_empty(&self, _: &Path) {}
    fn sync(&self, place: &Path) -> Result<(), FileError> {
        self.step(place)
    }
    fn sync_names(&self, folder: &Path) -> Result<(), FileError> {
        self.step(folder)
    }
    fn place(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.step(to)?;
        let mut content = self.content.lock().unwrap();
        assert!(
            !content.keys().any(|known| known.starts_with(to)),
            "overwritten"
        );
        let moved: Vec<PathBuf> = content
            .keys()
            .filter(|k| k.starts_with(from))
            .cloned()
            .collect();
        assert_eq!(moved.len(), 4);
        for path in moved {
            let bytes = content.remove(&path).unwrap();
            content.insert(to.join(path.file_name().unwrap()), bytes);
        }
        Ok(())
    }
    fn remove(&self, folder: &Path) -> Result<(), FileError> {
        self.step(folder)?;
        self.content
            .lock()
            .unwrap()
            .retain(|path, _| !path.starts_with(folder));
        Ok(())
    }
}

/// A growing file; half of a failed write stays, as on a full disk.
struct MemoryStream<'a> {
    content: &'a Mutex<Content>,
    fault: &'a Fault,
    path: PathBuf,
}

impl MemoryStream<'_> {
    fn change(&self, work: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.content.lock().unwrap();
        work(content.get_mut(&self.path).unwrap());
    }
}

impl Stream for MemoryStream<'_> {
    fn length(&self) -> Result<u64, FileError> {
        Ok(self.content.lock().unwrap()[&self.path].len() as u64)
    }
    fn cut(&self, length: u64) -> Result<(), FileError> {
        self.fault.step().map_err(|()| no_room(&self.path))?;
        self.change(|bytes| bytes.truncate(usize::try_from(length).unwrap()));
        Ok(())
    }
    fn append(&self, bytes: &[u8]) -> Result<(), FileError> {
        let failed = self.fault.step().map_err(|()| no_room(&self.path));
        let half = if failed.is_err() {
            bytes.len() / 2
        } else {
            bytes.len()
        };
        self.change(|all| all.extend_from_slice(&bytes[..half]));
        failed
    }
    fn sync(&self) -> Result<(), FileError> {
        self.fault.step().map_err(|()| no_room(&self.path))
    }
    fn read(&self) -> Result<Box<dyn std::io::Read>, FileError> {
        let bytes = self.content.lock().unwrap()[&self.path].clone();
        Ok(Box::new(std::io::Cursor::new(bytes)))
    }
}

struct MemoryStreams {
    content: &'static Mutex<Content>,
    fault: &'static Fault,
}

impl Streams for MemoryStreams {
    fn source(&self, _: &Path) -> Result<Box<dyn Source>, FileError> {
        unreachable!()
    }
    fn stream(&self, path: &Path, _: Secrecy) -> Result<Box<dyn Stream>, FileError> {
        self.fault.step().map_err(|()| no_room(path))?;
        self.content
            .lock()
            .unwrap()
            .entry(path.to_owned())
            .or_default();
        Ok(Box::new(MemoryStream {
            content: self.content,
            fault: self.fault,
            path: path.to_owned(),
        }))
    }
}

/// The ledger's promises in memory; fails before or after the write, as a lost answer would.
struct MemoryLedger<'a> {
    records: &'a Mutex<Vec<CertificateRecord>>,
    marks: &'a Mutex<BTreeMap<String, Checkpoint>>,
    fault: &'a Fault,
}

struct OnlyRun;

impl Run for OnlyRun {
    fn id(&self) -> &'static str {
        "1"
    }
}

impl MemoryLedger<'_> {
    fn write(&self, work: impl FnOnce(&mut Vec<CertificateRecord>)) -> Result<(), LedgerError> {
        let full = |()| LedgerError::Database {
            path: "ledger".into(),
            why: "full".into(),
            retry: true,
        };
        self.fault.step().map_err(full)?;
        work(&mut self.records.lock().unwrap());
        self.fault.step().map_err(full)
    }
}

fn confirm(records: &mut [CertificateRecord], all: &[Confirmation]) {
    for Confirmation { key, id, der } in all {
        let record = records.iter_mut().find(|r| r.key() == *key).unwrap();
        assert_eq!(record.state, CertificateState::Intended);
        record.id = Some(id.clone());
        record.der = Some(der.clone());
        record.state = CertificateState::Issued;
    }
}

impl Ledger for MemoryLedger<'_> {
    fn hold_rotations(&self) -> Result<Box<dyn std::any::Any>, LedgerError> {
        Ok(Box::new(()))
    }
    fn hold(&self) -> Result<Box<dyn std::any::Any>, LedgerError> {
        unreachable!()
    }
    fn begin_run(&self, _: UtcTime) -> Result<Box<dyn Run>, LedgerError> {
        Ok(Box::new(OnlyRun))
    }
    /// One run after another: what is intended was left by a dead one.
    fn claim(
        &self,
        _: &dyn Run,
        intents: &[Intent],
        now: UtcTime,
    ) -> Result<Vec<Claim>, LedgerError> {
        let mut claims = Vec::new();
        self.write(|records| {
            for intent in intents {
                let holder = records.iter().find(|r| r.live && r.device == intent.device);
                claims.push(match holder.cloned().map(Box::new) {
                    Some(r) if r.state == CertificateState::Intended => Claim::Leftover(r),
                    Some(r) => Claim::Live(r),
                    None => {
                        records.push(CertificateRecord::intended(intent, now));
                        Claim::Claimed
                    }
                });
            }
        })?;
        Ok(claims)
    }
    fn confirm_block(
        &self,
        _: &dyn Run,
        all: &[Confirmation],
        mark: Option<&Checkpoint>,
        _: UtcTime,
    ) -> Result<(), LedgerError> {
        self.write(|records| {
            confirm(records, all);
            let mut marks = self.marks.lock().unwrap();
            marks.extend(mark.map(|mark| (mark.output.clone(), mark.clone())));
        })
    }
    fn checkpoint(&self, output: &str) -> Result<Option<Checkpoint>, LedgerError> {
        Ok(self.marks.lock().unwrap().get(output).cloned())
    }
    fn confirm(&self, all: &[Confirmation], _: UtcTime) -> Result<(), LedgerError> {
        self.write(|records| confirm(records, all))
    }
    fn abandon(&self, keys: &[SerialKey], _: UtcTime) -> Result<(), LedgerError> {
        self.write(|records| {
            for record in records.iter_mut().filter(|r| keys.contains(&r.key())) {
                record.live = false;
                record.state = CertificateState::Abandoned;
            }
        })
    }
    fn live(
        &self,
        devices: &[&str],
        _: IdentityPurpose,
    ) -> Result<Vec<CertificateRecord>, LedgerError> {
        let records = self.records.lock().unwrap();
        let live = records
            .iter()
            .filter(|r| r.live && devices.contains(&&r.device[..]));
        Ok(live.cloned().collect())
    }
    fn add_authority(&self, _: &AuthorityRecord) -> Result<(), LedgerError> {
        unreachable!()
    }
    fn authorities(&self) -> Result<Vec<AuthorityRecord>, LedgerError> {
        unreachable!()
    }
    fn certificate(&self, _: &CertificateId) -> Result<Option<CertificateRecord>, LedgerError> {
        unreachable!()
    }
    fn certificates(&self, _: &Filter) -> Result<Vec<CertificateRecord>, LedgerError> {
        unreachable!()
    }
    fn set_state(
        &self,
        _: &CertificateId,
        _: CertificateState,
        _: &str,
        _: UtcTime,
    ) -> Result<(), LedgerError> {
        unreachable!()
    }
    fn for_each_certificate(
        &self,
        _: &Filter,
        _: &mut dyn FnMut(CertificateRecord) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        unreachable!()
    }
    fn revoke(
        &self,
        _: &CertificateId,
        _: RevocationReason,
        _: UtcTime,
    ) -> Result<Revocation, LedgerError> {
        unreachable!()
    }
    fn next_crl(&self, _: &CertificateId) -> Result<NextCrl, LedgerError> {
        unreachable!()
    }
    fn last_crl(&self, _: &CertificateId) -> Result<Option<CrlRecord>, LedgerError> {
        unreachable!()
    }
    fn save_crl(&self, _: &CrlRecord) -> Result<(), LedgerError> {
        unreachable!()
    }
    fn promote(&self, _: &CertificateId, _: &CertificateId, _: UtcTime) -> Result<(), LedgerError> {
        unreachable!()
    }
    fn set_folder(&self, _: &CertificateId, _: &Path, _: UtcTime) -> Result<(), LedgerError> {
        unreachable!()
    }
    fn rotation(&self, _: &str) -> Result<Option<RotationRecord>, LedgerError> {
        unreachable!()
    }
    fn save_rotation(&self, _: &RotationRecord) -> Result<(), LedgerError> {
        unreachable!()
    }
    fn end_rotation(&self, _: &str, _: &str, _: UtcTime) -> Result<(), LedgerError> {
        unreachable!()
    }
    fn verify(&self) -> Result<LedgerCheck, LedgerError> {
        unreachable!()
    }
    fn export(
        &self,
        _: &mut dyn FnMut(crate::core::ledger_file::Entry) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        unreachable!()
    }
    fn import(&self, _: &mut dyn FnMut() -> Feed) -> Result<Option<LedgerCheck>, LedgerError> {
        unreachable!()
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> UtcTime {
        "2026-06-01".parse().unwrap()
    }
    fn now_nanos(&self) -> i128 {
        0
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) {}
}

/// Each 16 bytes are another value.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        for value in bytes.chunks_mut(16) {
            let n = self.0.fetch_add(1, Ordering::SeqCst) as u64 + 1;
            value[8..].copy_from_slice(&n.to_be_bytes());
        }
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<(String, Standing)>>);

impl Watch for Seen {
    fn listens(&self) -> bool {
        true
    }
    fn done(&self, devices: &[Done]) {
        let told = devices
            .iter()
            .map(|done| (done.name.clone(), done.standing));
        self.0.lock().unwrap().extend(told);
    }
    fn progress(&self, _: Tally) {}
    fn waiting(&self, _: usize) {
        unreachable!()
    }
}

/// A factory that survives its runs.
struct Bench {
    content: &'static Mutex<Content>,
    records: Mutex<Vec<CertificateRecord>>,
    marks: Mutex<BTreeMap<String, Checkpoint>>,
    entropy: Counter,
    ca: Certificate,
    signer: LocalSigner,
    validity: Validity,
}

impl Bench {
    fn new() -> Self {
        let (key, public) = RingKeys::default().generate(KeyAlgorithm::EcP256).unwrap();
        let validity = Validity {
            not_before: Still.now().minus(Span::days(1)),
            not_after: Still.now().plus(Span::days(9)),
        };
        let subject = Subject::common_name("CA");
        let spec = DraftSpec {
            subject: subject.clone(),
            serial: [7; 16],
            validity,
            public_key: &public,
            purpose: Purpose::Root { path_len: None },
            alternative_names: Vec::new(),
            extras: Extras::default(),
        };
        let view = IssuerView::self_signed(&subject, &public).unwrap();
        let draft = Draft::new(&spec, &view).unwrap();
        let signer = LocalSigner::new(&key).unwrap();
        let signature = signer.sign(draft.tbs()).unwrap();
        Self {
            content: Box::leak(Box::default()),
            records: Mutex::default(),
            marks: Mutex::default(),
            entropy: Counter::default(),
            ca: draft.seal(&signature).unwrap(),
            signer,
            validity,
        }
    }

    fn run(
        &self,
        fault: &'static Fault,
        fail_if_exists: bool,
        seen: &Seen,
    ) -> Result<Tally, BatchError> {
        self.run_into(Shape::Dir, (fault, fail_if_exists), seen)
    }

    fn run_into(
        &self,
        shape: Shape,
        (fault, fail_if_exists): (&'static Fault, bool),
        seen: &Seen,
    ) -> Result<Tally, BatchError> {
        let disk = MemoryDisk {
            content: self.content,
            fault,
        };
        let streams = MemoryStreams {
            content: self.content,
            fault,
        };
        let ledger = MemoryLedger {
            records: &self.records,
            marks: &self.marks,
            fault,
        };
        let flow = DeviceBatch {
            clock: &Still,
            entropy: &self.entropy,
            files: &disk,
            folders: &disk,
            streams: &streams,
            keygen: &RingKeys::default(),
            ledger: &ledger,
            threads: 2,
        };
        let rows = || {
            let text =
                (0..DEVICES).fold("name\n".to_owned(), |all, n| all + &format!("pump-{n}\n"));
            let input = Box::new(std::io::Cursor::new(text.into_bytes()));
            Ok(Rows::open(input, ListFormat::Csv, None)?)
        };
        let order = |row: &Row| -> Result<Order, RowProblem> {
            Ok(Order {
                device: row.name.to_string(),
                subject: Subject::common_name(row.name.as_str()),
                alternative_names: Vec::new(),
            })
        };
        let request = Request {
            rows: &rows,
            order: &order,
            total: DEVICES as u64,
            out: Path::new("/out"),
            shape,
            password: None,
            manifest: shape.is_stream().then_some(Path::new("/manifest")),
            validity: self.validity,
            algorithm: KeyAlgorithm::EcP256,
            purpose: Purpose::Device,
            alternative_names: Vec::new(),
            extras: Extras::default(),
            issuer: Issuer {
                name: "ca",
                chain: std::slice::from_ref(&self.ca),
                signer: &self.signer,
                flawed: false,
            },
            batch: "b",
            fail_if_exists,
        };
        flow.run(&request, seen)
    }

    /// Every device has one live identity, issued, that is in the stream once, with its key.
    fn check_stream(&self) {
        let records = self.records.lock().unwrap();
        let live: Vec<_> = records.iter().filter(|record| record.live).collect();
        assert_eq!(live.len(), DEVICES);
        let content = self.content.lock().unwrap();
        let text = std::str::from_utf8(&content[Path::new("/out")]).unwrap();
        let manifest = std::str::from_utf8(&content[Path::new("/manifest")]).unwrap();
        assert_eq!(text.lines().count(), DEVICES);
        assert_eq!(manifest.lines().count(), DEVICES + 1);
        for (one, told) in text.lines().zip(manifest.lines()) {
            let one: serde_json::Value = serde_json::from_str(one).unwrap();
            let told: serde_json::Value = serde_json::from_str(told).unwrap();
            assert_eq!(one["certificate_id"], told["certificate_id"]);
            let record = live
                .iter()
                .find(|record| one["name"] == record.device[..])
                .unwrap();
            assert_eq!(record.state, CertificateState::Issued);
            assert_eq!(one["certificate_id"], record.id.as_ref().unwrap().as_str());
        }
    }

    /// Every device has one live identity, issued, whose folder is whole and its own.
    fn check(&self) {
        let records = self.records.lock().unwrap();
        let live: Vec<_> = records.iter().filter(|record| record.live).collect();
        assert_eq!(live.len(), DEVICES);
        let quiet = &*Box::leak(Box::<Fault>::default());
        let disk = MemoryDisk {
            content: self.content,
            fault: quiet,
        };
        for record in live {
            assert_eq!(record.state, CertificateState::Issued);
            let folder = record.folder.as_ref().unwrap();
            let leaf = saved(&disk, &RingKeys::default(), folder).unwrap();
            assert_eq!(Some(leaf.der()), record.der.as_deref());
            assert!(leaf.is_signed_by(&self.ca));
        }
        assert_eq!(
            self.content.lock().unwrap().len(),
            4 * DEVICES,
            "something is left over"
        );
    }
}

#[test]
fn a_list_is_issued_once() {
    let bench = Bench::new();
    let (first, again) = (Seen::default(), Seen::default());
    let tally = bench.run(none(), true, &first).unwrap();
    assert_eq!((tally.issued, tally.done()), (DEVICES, DEVICES));
    bench.check();
    let tally = bench.run(none(), false, &again).unwrap();
    assert_eq!((tally.issued, tally.skipped, tally.moved), (0, DEVICES, 0));
    let told = |seen: Seen, standing| {
        let mut all = seen.0.into_inner().unwrap();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup();
        all.len() == DEVICES && all.iter().all(|(_, one)| *one == standing)
    };
    assert!(told(first, Standing::Issued) && told(again, Standing::Skipped));
    let error = bench.run(none(), true, &Seen::default()).unwrap_err();
    assert_eq!(error.code(), "ledger.live");
    bench
        .content
        .lock()
        .unwrap()
        .retain(|path, _| !path.starts_with("/out/pump-7"));
    let tally = bench.run(none(), false, &Seen::default()).unwrap();
    assert_eq!(tally.moved, 1);
}

#[test]
fn a_strange_folder_stops_it_before_anything_is_issued() {
    let bench = Bench::new();
    let strange = PathBuf::from("/out/pump-69/notes");
    bench.content.lock().unwrap().insert(strange, Vec::new());
    let error = bench.run(none(), false, &Seen::default()).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("file.exists", Kind::Refused));
    assert!(bench.records.lock().unwrap().is_empty());
}

/// Whatever step fails, the same command again finishes, and nobody has two identities.
#[test]
fn after_any_failure_the_next_run_finishes() {
    let counter: &'static Fault = none();
    Bench::new().run(counter, false, &Seen::default()).unwrap();
    let steps = counter.steps.load(Ordering::SeqCst);
    // Every step at the edges, a sample of the hundreds of like ones in the middle.
    let sampled = (0..steps).filter(|n| *n < 6 || steps - n < 40 || n % 53 == 0);
    for at in sampled {
        let bench = Bench::new();
        let fault = failing(at);
        if let Err(error) = bench.run(fault, false, &Seen::default()) {
            assert_eq!(error.kind(), Kind::Unavailable, "step {at}: {error}");
            assert!(error.hint().is_some());
        }
        let tally = bench.run(none(), false, &Seen::default()).unwrap();
        assert_eq!(tally.done(), DEVICES, "step {at}");
        bench.check();
    }
}

/// The same for a stream: what was half written is cut off.
#[test]
fn after_any_failure_the_next_run_finishes_the_stream() {
    let seen = Seen::default;
    let counter = none();
    let bench = Bench::new();
    bench
        .run_into(Shape::Ndjson, (counter, false), &seen())
        .unwrap();
    bench.check_stream();
    for at in 0..counter.steps.load(Ordering::SeqCst) {
        let bench = Bench::new();
        if let Err(error) = bench.run_into(Shape::Ndjson, (failing(at), false), &seen()) {
            assert_eq!(error.kind(), Kind::Unavailable, "step {at}: {error}");
        }
        let tally = bench
            .run_into(Shape::Ndjson, (none(), false), &seen())
            .unwrap();
        assert_eq!(tally.done(), DEVICES, "step {at}");
        bench.check_stream();
    }
}
