//! How a batch goes on, on stderr: a bar on a terminal, a line every few seconds elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::super::report::{self, Output};
use crate::flows::device_batch::{Done, Tally, Watch};
use crate::ports::Clock;

/// How often a line is printed where there is no terminal.
const PAUSE: Duration = Duration::from_secs(3);

/// Shows progress, and streams each device when the format is NDJSON.
pub(super) struct Watcher<'a> {
    clock: &'a (dyn Clock + Sync),
    total: u64,
    started: Duration,
    last: Mutex<Duration>,
    bar: Option<ProgressBar>,
    output: Output,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(clock: &'a (dyn Clock + Sync), total: u64, output: Output) -> Self {
        let started = clock.monotonic();
        let style = "[{bar:30}] {human_pos} of {human_len} devices, {per_sec}, {eta} left";
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total);
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style.progress_chars("##."));
            }
            bar
        });
        Self {
            clock,
            total,
            started,
            last: Mutex::new(started),
            bar,
            output,
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, tally: Tally) {
        let now = self.clock.monotonic();
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if now.saturating_sub(*last) < PAUSE {
                return;
            }
            *last = now;
        }
        let done = tally.done() as u64;
        let per_second = rate(tally.issued, now.saturating_sub(self.started).as_secs_f64());
        let left = if tally.issued > 0 {
            let rest = usize::try_from(self.total.saturating_sub(done)).unwrap_or(usize::MAX);
            format!(", {:.0} s left", rate(rest, per_second))
        } else {
            String::new()
        };
        let total = self.total;
        report::note(format_args!(
            "{done} of {total} devices, {per_second:.0} a second{left}"
        ));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate for people; no list has 2^52 devices"
)]
pub(super) fn rate(count: usize, seconds: f64) -> f64 {
    count as f64 / seconds.max(0.001)
}

impl Watch for Watcher<'_> {
    fn listens(&self) -> bool {
        self.output.streams()
    }

    fn done(&self, devices: &[Done]) {
        self.output.stream(devices);
    }

    fn progress(&self, tally: Tally) {
        match &self.bar {
            Some(bar) => bar.set_position(tally.done() as u64),
            None => self.line(tally),
        }
    }

    fn waiting(&self, devices: usize) {
        let text = format!("waiting for {devices} devices that another nameplate process issues");
        match &self.bar {
            Some(bar) => bar.println(text),
            None => report::note(text),
        }
    }
}
