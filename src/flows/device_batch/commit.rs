//! Blocks gather into groups, each made durable by one sync and vouched for by one transaction. While
//! one group is at the ledger, the next is synced, and the one after that written.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use super::sink::Sink;
use super::work::Work;
use super::{BatchError, Done, Made, lock};
use crate::ports::ledger::{Block, Confirmation};

/// What was put out, and what of it is not vouched for yet.
pub(super) struct Output {
    pub(super) sink: Sink,
    group: Group,
}

#[derive(Default)]
struct Group {
    confirmations: Vec<Confirmation>,
    done: Vec<Done>,
}

impl Output {
    pub(super) fn new(sink: Sink) -> Self {
        Self {
            sink,
            group: Group::default(),
        }
    }
}

impl Work<'_, '_> {
    /// Puts a block at the end of the output. When another one failed, perhaps half written, nothing
    /// follows that.
    pub(super) fn commit(&self, bytes: &[u8], made: Vec<Made>) -> Result<(), BatchError> {
        let mut output = lock(&self.output);
        if self.is_over() {
            return Ok(());
        }
        // Told while the output is still ours.
        let appended = output.sink.append(self.request, bytes, &made);
        appended.inspect_err(|_| self.end())?;
        if self.watch.listens() {
            let done = made.iter().map(|one| self.done(one));
            output.group.done.extend(done);
        }
        let confirmations = made.into_iter().map(|one| Confirmation {
            key: one.key,
            id: one.id,
            der: one.der,
        });
        output.group.confirmations.extend(confirmations);
        if output.group.confirmations.len() < self.group {
            return Ok(());
        }
        self.vouch(output)
    }

    /// Makes what was put out durable and confirms it, however little it is.
    pub(super) fn settle(&self) -> Result<(), BatchError> {
        self.vouch(lock(&self.output))
    }

    /// Each lock is taken before the one ahead of it is let go, so that groups stay in order: the
    /// ledger vouches for the output from its start to the mark.
    fn vouch(&self, mut output: MutexGuard<'_, Output>) -> Result<(), BatchError> {
        let group = std::mem::take(&mut output.group);
        if group.confirmations.is_empty() {
            return Ok(());
        }
        let (files, mark) = (output.sink.files(), output.sink.checkpoint());
        let syncing = lock(&self.syncing);
        drop(output);
        if self.is_over() {
            return Ok(());
        }
        for file in files {
            file.sync().inspect_err(|_| self.end())?;
        }
        let turn = lock(&self.turn);
        drop(syncing);
        if self.is_over() {
            return Ok(());
        }
        let block = Block {
            confirmations: &group.confirmations,
            checkpoint: mark.as_ref(),
        };
        let next = self.orders_ahead();
        let (next, slip) = next.map_or_else(|slip| (Vec::new(), Err(slip)), |next| (next, Ok(())));
        let intents = self.intents(&next);
        let (ledger, now) = (self.flow.ledger, self.flow.clock.now());
        let claims = ledger
            .confirm_and_claim(self.run, &block, &intents, now)
            .inspect_err(|_| self.end())?;
        // Before the turn is let go: a thread that finds nothing ahead and the list read to its end
        // goes home.
        let sorted = self
            .sorted(next, intents, claims)
            .map(|sorted| self.kept(sorted));
        drop(turn);
        self.watch.done(&group.done);
        let tally = {
            let mut tally = lock(&self.tally);
            tally.issued += group.confirmations.len();
            *tally
        };
        self.watch.progress(tally);
        slip?;
        self.take_in(sorted?)
    }

    /// Whether another block failed that this one would follow.
    fn is_over(&self) -> bool {
        self.grows && self.stop.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
