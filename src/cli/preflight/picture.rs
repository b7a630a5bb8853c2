//! The validity windows against the clock, in 80 columns.

use std::fmt::Write;

use crate::core::preflight::Verdict;
use crate::core::time::{Span, UtcTime};

/// Columns of the axis.
const WIDTH: usize = 66;
/// Columns of the labels.
const LABEL: usize = 10;

/// One row a window, one for the clock; empty when there is no window.
pub(super) fn draw(verdict: &Verdict) -> String {
    let Some(axis) = Axis::over(verdict) else {
        return String::new();
    };
    let (from, to) = (axis.from.to_string(), axis.to.to_string());
    let mut text = String::new();
    let gap = WIDTH - 20;
    let _ = writeln!(text, "\n{:LABEL$}  {:<gap$}{:>20}", "", from, to);
    for window in &verdict.windows {
        let first = axis.column(window.validity.not_before);
        let last = axis.column(window.validity.not_after);
        let row = (0..WIDTH).map(|n| {
            if (first..=last).contains(&n) {
                '='
            } else {
                '.'
            }
        });
        let _ = writeln!(
            text,
            "  {:<LABEL$}{}",
            window.label,
            row.collect::<String>()
        );
    }
    let _ = writeln!(text, "  {:<LABEL$}{}", "clock", axis.marks(verdict));
    text
}

struct Axis {
    from: UtcTime,
    to: UtcTime,
}

impl Axis {
    /// From the first beginning to the last end. A window without end is cut at twice the length
    /// of the longest other one.
    fn over(verdict: &Verdict) -> Option<Self> {
        let windows = || verdict.windows.iter().map(|window| window.validity);
        let from = windows().map(|window| window.not_before).min()?;
        let ends = windows().map(|window| window.not_after);
        let finite = ends.filter(|end| *end < UtcTime::NO_EXPIRY).max();
        let open = windows().any(|window| window.not_after == UtcTime::NO_EXPIRY);
        let to = match finite {
            Some(end) if !open => end,
            Some(end) => end.plus(end.since(from)),
            None => from.plus(Span::days(7300)),
        };
        Some(Self { from, to })
    }

    fn column(&self, at: UtcTime) -> usize {
        let length = self.to.since(self.from).as_seconds().max(1);
        let passed = at.since(self.from).as_seconds().clamp(0, length);
        let last = i64::try_from(WIDTH - 1).unwrap_or(i64::MAX);
        let column = i128::from(passed) * i128::from(last) / i128::from(length);
        usize::try_from(column).unwrap_or(0)
    }

    /// `~` where the true time may be, `^` what the system clock says, `<` and `>` when that is
    /// beyond the edge.
    fn marks(&self, verdict: &Verdict) -> String {
        let beyond = |at: UtcTime| at < self.from || at > self.to;
        let (first, last) = (
            self.column(verdict.interval.earliest),
            self.column(verdict.interval.latest),
        );
        let outside = verdict.interval.latest < self.from || verdict.interval.earliest > self.to;
        let mut row: Vec<char> = (0..WIDTH)
            .map(|n| {
                if !outside && (first..=last).contains(&n) {
                    '~'
                } else {
                    ' '
                }
            })
            .collect();
        let clock = verdict.clock;
        row[self.column(clock)] = match (beyond(clock), clock < self.from) {
            (false, _) => '^',
            (true, true) => '<',
            (true, false) => '>',
        };
        row.into_iter().collect::<String>().trim_end().to_owned()
    }
}
