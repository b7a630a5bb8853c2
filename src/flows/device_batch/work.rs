//! The threads of a batch, and what happens to one block.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use zeroize::Zeroizing;

use super::sink::Sink;
use super::{
    Authority, BLOCK, BatchError, DeviceBatch, Done, MIN_BLOCK, Made, Order, Request, STREAM_BLOCK,
    Standing, Tally, Watch, lock,
};
use crate::core::batch::{ListError, Rows, Slip};
use crate::core::bundle;
use crate::core::cert::Certificate;
use crate::core::draft::stamp::Stamp;
use crate::core::draft::{Draft, DraftError, DraftSpec, IssuerView, positive};
use crate::core::handover::{Leaf, STREAM_BYTES, framed};
use crate::core::ids::{CertificateId, hex};
use crate::core::key::PublicKey;
use crate::core::record::{CertificateRecord, IdentityPurpose, Intent, SerialKey};
use crate::flows::device_issue::{belongs, saved};
use crate::ports::FileError;
use crate::ports::ledger::{Claim, Confirmation, LedgerError, Run};

/// Devices of other processes kept in mind before they are looked at again.
const MAX_WAITING: usize = 16_384;
/// How long to wait before looking at them again.
const PAUSE: Duration = Duration::from_millis(100);

/// Threads beyond one for each core: while they wait for the disk or for the ledger, others compute.
const WAITING: usize = 2;

/// What every thread needs.
pub(super) struct Work<'a, 'p> {
    flow: &'a DeviceBatch<'p>,
    request: &'a Request<'a>,
    watch: &'a dyn Watch,
    stamp: Stamp,
    view: IssuerView,
    run: &'a dyn Run,
    pub(super) staging: PathBuf,
    issuer: CertificateId,
    authority: Authority,
    size: usize,
    rows: Mutex<Rows>,
    next: AtomicUsize,
    stop: AtomicBool,
    tally: Mutex<Tally>,
    /// Devices that other processes are at work on.
    waiting: Mutex<Vec<Order>>,
    /// Devices whose leftovers of a dead run were given up.
    given_up: Mutex<HashSet<String>>,
    sink: Mutex<Sink>,
    /// Blocks of text that are free: a new one would have its pages zeroed by the kernel first.
    buffers: Mutex<Vec<Zeroizing<Vec<u8>>>>,
}

/// What the ledger said to a block's claims.
#[derive(Default)]
struct Sorted {
    mine: Vec<(Order, Intent)>,
    again: Vec<Order>,
    done: Vec<Done>,
    tally: Tally,
}

impl<'a, 'p> Work<'a, 'p> {
    pub(super) fn new(
        (flow, request, watch): (&'a DeviceBatch<'p>, &'a Request<'a>, &'a dyn Watch),
        (stamp, run, staging): (Stamp, &'a dyn Run, PathBuf),
        sink: Sink,
    ) -> Result<Self, BatchError> {
        let share =
            usize::try_from(request.total).unwrap_or(usize::MAX) / (flow.threads.max(1) * 4);
        let most = if request.shape.is_stream() {
            STREAM_BLOCK
        } else {
            BLOCK
        };
        Ok(Self {
            flow,
            request,
            watch,
            stamp,
            view: request.issuer.view()?,
            run,
            staging,
            issuer: request.issuer.certificate()?.id().clone(),
            authority: Authority::new(request.issuer.chain),
            size: (share + 1).clamp(MIN_BLOCK, most),
            rows: Mutex::new((request.rows)()?),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            tally: Mutex::default(),
            waiting: Mutex::default(),
            given_up: Mutex::default(),
            sink: Mutex::new(sink),
            buffers: Mutex::default(),
        })
    }

    pub(super) fn tally(&self) -> Tally {
        *lock(&self.tally)
    }

    pub(super) fn into_sink(self) -> Sink {
        self.sink
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Threads take blocks until there are none, or one fails: the others finish theirs. What
    /// other processes were at work on is looked at last.
    pub(super) fn all(&self) -> Result<(), BatchError> {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.flow.threads.max(1) + WAITING)
                .map(|_| scope.spawn(|| self.until_done()))
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or(Err(BatchError::Thread)))
                .fold(Ok(()), Result::and)
        })?;
        let left = lock(&self.waiting).len();
        if left > 0 {
            self.watch.waiting(left);
        }
        self.revisit(0)
    }

    /// Tries again what other processes were at work on, until no more than `most` are left.
    fn revisit(&self, most: usize) -> Result<(), BatchError> {
        loop {
            let mut orders = {
                let mut waiting = lock(&self.waiting);
                if waiting.len() <= most {
                    return Ok(());
                }
                std::mem::take(&mut *waiting)
            };
            let before = orders.len();
            while !orders.is_empty() && !self.stop.load(Ordering::Relaxed) {
                let rest = orders.split_off(orders.len().saturating_sub(self.size));
                self.block(rest)?;
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            if lock(&self.waiting).len() >= before {
                self.flow.clock.sleep(PAUSE);
            }
        }
    }

    fn until_done(&self) -> Result<(), BatchError> {
        let stopping = |_: &BatchError| self.stop.store(true, Ordering::Relaxed);
        while !self.stop.load(Ordering::Relaxed) {
            let orders = self.next_block().inspect_err(stopping)?;
            if orders.is_empty() {
                return Ok(());
            }
            self.block(orders).inspect_err(stopping)?;
            self.revisit(MAX_WAITING).inspect_err(stopping)?;
        }
        Ok(())
    }

    fn next_block(&self) -> Result<Vec<Order>, BatchError> {
        let mut block = Vec::with_capacity(self.size);
        let mut rows = lock(&self.rows);
        for row in rows.by_ref().take(self.size) {
            block.push(row.map_err(|slip| match slip {
                Slip::Row(problems) => ListError::Rows(problems),
                Slip::End(error) => error,
            })?);
        }
        drop(rows);
        let order = |row| (self.request.order)(row);
        let orders: Result<_, _> = block.iter().map(order).collect();
        Ok(orders.map_err(|problem| ListError::Rows(vec![problem]))?)
    }

    /// Claimed, made, durable, in place, confirmed: in this order and no other.
    fn block(&self, orders: Vec<Order>) -> Result<(), BatchError> {
        let mut todo = orders;
        while !todo.is_empty() {
            let sorted = self.claim(todo)?;
            todo = sorted.again;
            if !sorted.mine.is_empty() {
                self.issue(sorted.mine)?;
            }
            self.watch.done(&sorted.done);
            let tally = {
                let mut tally = lock(&self.tally);
                tally.finished += sorted.tally.finished;
                tally.skipped += sorted.tally.skipped;
                tally.moved += sorted.tally.moved;
                *tally
            };
            self.watch.progress(tally);
        }
        Ok(())
    }

    fn claim(&self, orders: Vec<Order>) -> Result<Sorted, BatchError> {
        let (ledger, clock) = (self.flow.ledger, self.flow.clock);
        let intents: Vec<Intent> = orders.iter().map(|order| self.intent(order)).collect();
        let claims = ledger.claim(self.run, &intents, clock.now())?;
        let mut sorted = Sorted::default();
        let (mut busy, mut confirmed, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for ((order, intent), claim) in orders.into_iter().zip(intents).zip(claims) {
            match claim {
                Claim::Claimed => sorted.mine.push((order, intent)),
                Claim::Live(record) => self.skip(*record, &mut sorted)?,
                Claim::Busy => busy.push(order),
                Claim::Leftover(record) => {
                    if let Some(leaf) = self.placed(&record) {
                        confirmed.push((record, leaf));
                    } else {
                        lost.push(record.key());
                        lock(&self.given_up).insert(order.device.clone());
                        sorted.again.push(order);
                    }
                }
            }
        }
        lock(&self.waiting).extend(busy);
        if !lost.is_empty() {
            self.give_up(&lost)?;
        }
        for (record, leaf) in confirmed {
            self.confirm_leftover(&record, &leaf, &mut sorted)?;
        }
        Ok(sorted)
    }

    /// Another process may have settled the same leftovers meanwhile: then there is nothing to do.
    fn give_up(&self, lost: &[SerialKey]) -> Result<(), BatchError> {
        match self.flow.ledger.abandon(lost, self.flow.clock.now()) {
            Ok(()) => Ok(()),
            Err(LedgerError::NoIntent(_)) if lost.len() == 1 => Ok(()),
            Err(LedgerError::NoIntent(_)) => lost
                .iter()
                .try_for_each(|one| self.give_up(std::slice::from_ref(one))),
            Err(error) => Err(error.into()),
        }
    }

    /// A folder that a dead run had put in place whole. Another process may confirm it as well.
    fn confirm_leftover(
        &self,
        record: &CertificateRecord,
        leaf: &Certificate,
        sorted: &mut Sorted,
    ) -> Result<(), BatchError> {
        let confirmation = Confirmation {
            key: record.key(),
            der: leaf.der().to_vec(),
        };
        let now = self.flow.clock.now();
        match self.flow.ledger.confirm(&[confirmation], now) {
            Ok(()) => sorted.tally.finished += 1,
            Err(LedgerError::NoIntent(_)) => {
                sorted.tally.skipped += 1;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        sorted.done.push(Done {
            name: record.device.clone(),
            standing: Standing::Finished,
            certificate_id: leaf.id().clone(),
            serial: hex(&record.serial),
            validity: leaf.validity,
            folder: record.folder.clone(),
        });
        Ok(())
    }

    fn skip(&self, record: CertificateRecord, sorted: &mut Sorted) -> Result<(), BatchError> {
        if self.request.fail_if_exists {
            return Err(BatchError::Ledger(LedgerError::Live {
                device: record.device,
                purpose: record.purpose,
            }));
        }
        // Only a folder of PEM files is known to hold a key by this name.
        if self.request.shape.is_folder_of_pem() {
            let key = record
                .folder
                .as_ref()
                .map(|folder| folder.join(bundle::KEY));
            let gone = key.is_some_and(|key| !self.flow.files.exists(&key));
            sorted.tally.moved += usize::from(gone);
        }
        sorted.tally.skipped += 1;
        if self.watch.listens() {
            sorted.done.extend(record.id.clone().map(|id| Done {
                name: record.device,
                standing: Standing::Skipped,
                certificate_id: id,
                serial: hex(&record.serial),
                validity: record.validity,
                folder: record.folder,
            }));
        }
        Ok(())
    }

    /// The certificate of an intent whose folder is in place: whole, and the one intended.
    fn placed(&self, record: &CertificateRecord) -> Option<Certificate> {
        let folder = record.folder.as_ref()?;
        saved(self.flow.files, self.flow.keygen, folder).filter(|leaf| belongs(record, leaf))
    }

    fn intent(&self, order: &Order) -> Intent {
        let mut serial = [0; 16];
        self.flow.entropy.fill(&mut serial);
        let request = self.request;
        Intent {
            key: SerialKey {
                issuer: self.issuer.clone(),
                serial: positive(serial).to_vec(),
            },
            device: order.device.clone(),
            purpose: IdentityPurpose::Operational,
            subject: order.subject.to_string(),
            validity: request.validity,
            key_algorithm: request.algorithm.to_string(),
            folder: (!request.shape.is_stream()).then(|| request.out.join(&order.device)),
            batch: Some(request.batch.to_owned()),
            replaces: None,
            flaw: None,
        }
    }

    fn issue(&self, mine: Vec<(Order, Intent)>) -> Result<(), BatchError> {
        let mut made = Vec::with_capacity(mine.len());
        for (order, intent) in mine {
            let verify = made.is_empty();
            made.push(self.make(order, intent.key, verify)?);
        }
        let bytes = if self.request.shape.is_stream() {
            self.block_of_stream(&made)?
        } else {
            self.place(&made)?;
            Zeroizing::default()
        };
        let committed = self.commit(&bytes, &mut made)?;
        if bytes.capacity() >= self.size * STREAM_BYTES {
            lock(&self.buffers).push(bytes);
        }
        if !committed {
            return Ok(());
        }
        if self.watch.listens() {
            let done: Vec<Done> = made.iter().map(|one| self.done(one)).collect();
            self.watch.done(&done);
        }
        lock(&self.tally).issued += made.len();
        Ok(())
    }

    /// Key and certificate. One signature of each block is verified: it costs twice a signature to
    /// verify one, and the key was proved to be the CA's when it was opened.
    fn make(&self, order: Order, key: SerialKey, verify: bool) -> Result<Made, BatchError> {
        let issuer = &self.request.issuer;
        let algorithm = self.request.algorithm;
        let (private, public) = self
            .flow
            .keygen
            .generate(algorithm)
            .map_err(BatchError::Key)?;
        let mut serial = [0; 16];
        serial.copy_from_slice(&key.serial);
        let tbs = self.tbs(&order, serial, &public)?;
        let der = self.stamp.seal(&tbs, &issuer.signer.sign(&tbs)?);
        if verify {
            let leaf = Certificate::from_der(&der).map_err(DraftError::Sealed)?;
            if !leaf.verifies_with(issuer.signer.public()) {
                return Err(DraftError::Signature.into());
            }
        }
        Ok(Made {
            id: CertificateId::of_der(&der),
            order,
            key,
            private,
            der,
        })
    }

    /// By the stamp, unless the device has alternative names of its own: they are no part of it.
    fn tbs(
        &self,
        order: &Order,
        serial: [u8; 16],
        public: &PublicKey,
    ) -> Result<Vec<u8>, DraftError> {
        if order.alternative_names.is_empty() {
            return self.stamp.tbs(serial, &order.subject, public);
        }
        let spec = DraftSpec {
            subject: order.subject.clone(),
            serial,
            validity: self.request.validity,
            public_key: public,
            purpose: self.request.purpose,
            alternative_names: order.alternative_names.clone(),
            extras: self.request.extras.clone(),
        };
        Ok(Draft::new(&spec, &self.view)?.tbs().to_vec())
    }

    fn leaf<'m>(&self, made: &'m Made) -> Leaf<'m> {
        Leaf {
            name: &made.order.device,
            id: &made.id,
            serial: &made.key.serial,
            validity: self.request.validity,
            key: &made.private,
            der: &made.der,
        }
    }

    fn block_of_stream(&self, made: &[Made]) -> Result<Zeroizing<Vec<u8>>, BatchError> {
        let shape = self.request.shape;
        let mut block = lock(&self.buffers).pop().unwrap_or_default();
        block.clear();
        // Full size from the start: where a buffer grows, it leaves keys behind.
        block.reserve_exact(self.size * STREAM_BYTES);
        for one in made {
            self.authority.append(shape, &self.leaf(one), &mut block);
        }
        Ok(framed(shape, block)?)
    }

    /// Everything durable first, then each folder under its name, then the names durable.
    fn place(&self, made: &[Made]) -> Result<(), BatchError> {
        let (folders, request) = (self.flow.folders, self.request);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let staging = self.staging.join(number.to_string());
        self.flow.files.create_dir(&staging)?;
        for one in made {
            let leaf = self.leaf(one);
            let files = self
                .authority
                .files(request.shape, &leaf, request.password)?;
            folders.write(&staging.join(&one.order.device), &files)?;
        }
        folders.sync(&staging)?;
        for one in made {
            self.put(&staging, &one.order.device)?;
        }
        folders.sync_names(request.out)?;
        Ok(folders.remove(&staging)?)
    }

    /// Only a folder of PEM files tells whose it is. Of the other shapes, what a dead run had put
    /// in place and nobody was told of is taken away: the claim is ours now.
    fn put(&self, staging: &Path, device: &str) -> Result<(), FileError> {
        let (folders, request) = (self.flow.folders, self.request);
        let (from, to) = (staging.join(device), request.out.join(device));
        match folders.place(&from, &to) {
            Err(FileError::Exists(_))
                if !request.shape.is_folder_of_pem() && lock(&self.given_up).contains(device) =>
            {
                folders.remove(&to)?;
                folders.place(&from, &to)
            }
            placed => placed,
        }
    }

    /// One block after another: the ledger vouches for the output from its start to the mark.
    /// `false` when another block failed, perhaps half written: nothing may follow that.
    fn commit(&self, bytes: &[u8], made: &mut [Made]) -> Result<bool, BatchError> {
        let mut sink = lock(&self.sink);
        if self.stop.load(Ordering::Relaxed) && self.request.shape.is_stream() {
            return Ok(false);
        }
        // Told while the sink is still ours.
        self.confirm(&mut sink, bytes, made)
            .inspect_err(|_| self.stop.store(true, Ordering::Relaxed))?;
        Ok(true)
    }

    fn confirm(&self, sink: &mut Sink, bytes: &[u8], made: &mut [Made]) -> Result<(), BatchError> {
        let checkpoint = sink.append(self.request, bytes, made)?;
        let confirmations: Vec<Confirmation> = made
            .iter_mut()
            .map(|one| Confirmation {
                key: one.key.clone(),
                der: std::mem::take(&mut one.der),
            })
            .collect();
        let now = self.flow.clock.now();
        Ok(self
            .flow
            .ledger
            .confirm_block(self.run, &confirmations, checkpoint.as_ref(), now)?)
    }

    fn done(&self, made: &Made) -> Done {
        let request = self.request;
        let folder = || request.out.join(&made.order.device);
        Done {
            name: made.order.device.clone(),
            standing: Standing::Issued,
            certificate_id: made.id.clone(),
            serial: hex(&made.key.serial),
            validity: request.validity,
            folder: (!request.shape.is_stream()).then(folder),
        }
    }
}
