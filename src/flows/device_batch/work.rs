//! The threads of a batch, and what happens to one block.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use super::claims::Sorted;
use super::commit::Output;
use super::sink::Sink;
use super::tickets::Tickets;
use super::{
    Authority, BLOCK, BatchError, DeviceBatch, GROUP, MIN_BLOCK, Order, Request, STREAM_BLOCK,
    Tally, Watch, lock,
};
use crate::core::batch::{ListError, Rows, Slip};
use crate::core::draft::IssuerView;
use crate::core::draft::stamp::Stamp;
use crate::core::ids::CertificateId;
use crate::core::record::SerialKey;
use crate::ports::ledger::Run;

/// Devices of other processes kept in mind before they are looked at again.
const MAX_WAITING: usize = 16_384;
/// How long to wait before looking at them again.
const PAUSE: Duration = Duration::from_millis(100);

/// Threads beyond one for each core: while they wait for the disk or for the ledger, others compute.
/// No more than one for each core make keys at a time: the one at the ledger, which all wait for in
/// the end, would have to share its core with too many.
const WAITING: usize = 2;

/// What every thread needs.
pub(super) struct Work<'a, 'p> {
    pub(super) flow: &'a DeviceBatch<'p>,
    pub(super) request: &'a Request<'a>,
    pub(super) watch: &'a dyn Watch,
    pub(super) stamp: Stamp,
    pub(super) view: IssuerView,
    pub(super) run: &'a dyn Run,
    pub(super) staging: PathBuf,
    pub(super) issuer: CertificateId,
    pub(super) authority: Authority,
    /// Devices in a block.
    pub(super) size: usize,
    /// Devices in a group.
    pub(super) group: usize,
    /// Whether there is output in which one block follows another.
    pub(super) grows: bool,
    rows: Mutex<Rows>,
    pub(super) next: AtomicUsize,
    pub(super) stop: AtomicBool,
    pub(super) tally: Mutex<Tally>,
    /// Devices that other processes are at work on.
    pub(super) waiting: Mutex<Vec<Order>>,
    /// Devices whose leftovers of a dead run were given up.
    pub(super) given_up: Mutex<HashSet<String>>,
    /// Devices that are claimed, and made next.
    pub(super) ahead: Mutex<VecDeque<(Order, SerialKey)>>,
    pub(super) output: Mutex<Output>,
    /// Whose turn it is to sync the output.
    pub(super) syncing: Mutex<()>,
    /// Whose turn it is at the ledger.
    pub(super) turn: Mutex<()>,
    /// One for each thread that may compute.
    pub(super) cores: Tickets,
    /// Blocks of text that are free: a new one would have its pages zeroed by the kernel first.
    pub(super) buffers: Mutex<Vec<Zeroizing<Vec<u8>>>>,
}

impl<'a, 'p> Work<'a, 'p> {
    pub(super) fn new(
        (flow, request, watch): (&'a DeviceBatch<'p>, &'a Request<'a>, &'a dyn Watch),
        (stamp, run, staging): (Stamp, &'a dyn Run, PathBuf),
        sink: Sink,
    ) -> Result<Self, BatchError> {
        // A stream's blocks are not synced one by one, so that a short list can have more of them.
        let (most, blocks) = if request.shape.is_stream() {
            (STREAM_BLOCK, 16)
        } else {
            (BLOCK, 4)
        };
        let total = usize::try_from(request.total).unwrap_or(usize::MAX);
        let share = total / (flow.threads.max(1) * blocks);
        let size = (share + 1).clamp(MIN_BLOCK, most);
        // Folders are durable when they are placed: no reason to wait.
        let group = if request.shape.is_stream() {
            size * GROUP
        } else {
            size
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
            size,
            group,
            grows: request.shape.is_stream() || request.manifest.is_some(),
            rows: Mutex::new((request.rows)()?),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            tally: Mutex::default(),
            waiting: Mutex::default(),
            given_up: Mutex::default(),
            ahead: Mutex::default(),
            output: Mutex::new(Output::new(sink)),
            syncing: Mutex::default(),
            turn: Mutex::default(),
            cores: Tickets::new(flow.threads.max(1)),
            buffers: Mutex::default(),
        })
    }

    pub(super) fn tally(&self) -> Tally {
        *lock(&self.tally)
    }

    pub(super) fn into_sink(self) -> Sink {
        self.output
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .sink
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
        self.settle()?;
        let left = lock(&self.waiting).len();
        if left > 0 {
            self.watch.waiting(left);
        }
        self.revisit(0)?;
        self.settle()
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
                // They may be waiting for what is ours and not confirmed yet.
                self.settle()?;
                self.flow.clock.sleep(PAUSE);
            }
        }
    }

    fn until_done(&self) -> Result<(), BatchError> {
        let worked = self.work();
        if worked.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        worked
    }

    fn work(&self) -> Result<(), BatchError> {
        while !self.stop.load(Ordering::Relaxed) {
            match self.claimed()? {
                Some(mine) => self.issue(mine)?,
                None => return Ok(()),
            }
            // While devices of ours are neither made nor in hand, others may wait for them.
            if lock(&self.ahead).is_empty() {
                self.revisit(MAX_WAITING)?;
            }
        }
        Ok(())
    }

    /// A block of what is claimed; claims more when there is none. `None` at the list's end.
    fn claimed(&self) -> Result<Option<Vec<(Order, SerialKey)>>, BatchError> {
        loop {
            {
                let mut ahead = lock(&self.ahead);
                let some = ahead.len().min(self.size);
                if some > 0 {
                    return Ok(Some(ahead.drain(..some).collect()));
                }
            }
            let turn = lock(&self.turn);
            if !lock(&self.ahead).is_empty() {
                // Another thread has claimed meanwhile.
                continue;
            }
            // As few as keep all busy until the first group is confirmed and more is claimed.
            let next = self.next_orders(self.size * self.flow.threads.max(1))?;
            if next.is_empty() {
                return Ok(None);
            }
            let sorted = self.kept(self.claim(next)?);
            drop(turn);
            self.take_in(sorted)?;
        }
    }

    /// What is claimed together with the confirmation of what is made: nothing when enough is.
    pub(super) fn orders_ahead(&self) -> Result<Vec<Order>, BatchError> {
        if lock(&self.waiting).len() > MAX_WAITING {
            return Ok(Vec::new());
        }
        let ahead = lock(&self.ahead).len();
        self.next_orders((self.group * 2).saturating_sub(ahead))
    }

    fn next_orders(&self, most: usize) -> Result<Vec<Order>, BatchError> {
        let mut some = Vec::with_capacity(most);
        let mut rows = lock(&self.rows);
        for row in rows.by_ref().take(most) {
            some.push(row.map_err(|slip| match slip {
                Slip::Row(problems) => ListError::Rows(problems),
                Slip::End(error) => error,
            })?);
        }
        drop(rows);
        let order = |row| (self.request.order)(row);
        let orders: Result<_, _> = some.iter().map(order).collect();
        Ok(orders.map_err(|problem| ListError::Rows(vec![problem]))?)
    }

    /// Puts what is to be made where all threads find it.
    pub(super) fn kept(&self, mut sorted: Sorted) -> Sorted {
        lock(&self.ahead).extend(sorted.mine.drain(..));
        sorted
    }

    /// Tells of what needs no work, and keeps what is to be made.
    pub(super) fn take_in(&self, sorted: Sorted) -> Result<(), BatchError> {
        let again = self.told(sorted, |mine| lock(&self.ahead).extend(mine));
        self.block(again)
    }

    /// Claimed and made at once.
    fn block(&self, orders: Vec<Order>) -> Result<(), BatchError> {
        let mut todo = orders;
        while !todo.is_empty() {
            let (sorted, mut mine) = (self.claim(todo)?, Vec::new());
            todo = self.told(sorted, |claimed| mine = claimed);
            while !mine.is_empty() {
                let rest = mine.split_off(mine.len().min(self.size));
                self.issue(std::mem::replace(&mut mine, rest))?;
            }
        }
        Ok(())
    }

    /// Gives away what is to be made; the answer is to be claimed once more.
    fn told(&self, sorted: Sorted, make: impl FnOnce(Vec<(Order, SerialKey)>)) -> Vec<Order> {
        make(sorted.mine);
        self.watch.done(&sorted.done);
        let tally = {
            let mut tally = lock(&self.tally);
            tally.finished += sorted.tally.finished;
            tally.skipped += sorted.tally.skipped;
            tally.moved += sorted.tally.moved;
            *tally
        };
        if !sorted.done.is_empty() || sorted.tally.done() > 0 {
            self.watch.progress(tally);
        }
        sorted.again
    }
}
