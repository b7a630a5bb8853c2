//! Whether, and how far, the clock may be stepped.

use super::{ClockFacts, Judged, NANOS, Trust};
use crate::core::time::{Span, UtcTime};
use crate::explain::{Explain, Kind};

/// Without authentication the clock is not stepped further than this, unless it is provably wrong or
/// the user allows it.
pub const DEFAULT_MAX: Span = Span::days(1);

/// What bounds a step.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest step that the user allows.
    pub max_step: Option<Span>,
    /// Evidence must be believed at least as far.
    pub require: Trust,
}

/// A step that may be taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Step {
    /// What is added to the clock, in nanoseconds.
    pub offset_nanos: i64,
    /// How far off the clock may be afterwards.
    pub uncertainty_nanos: i64,
    /// How far that is believed.
    pub trust: Trust,
    /// Whether the clock is right already, to within the uncertainty.
    pub needless: bool,
}

/// The step to the middle of the interval.
///
/// # Errors
/// `clock.unconfirmed`, `clock.step-limit`.
pub fn plan(clock: &ClockFacts, judged: &Judged, limits: Limits) -> Result<Step, StepError> {
    let known = judged.bounds.zip(judged.trust);
    let Some((bounds, trust)) = known.filter(|(_, trust)| *trust >= limits.require) else {
        let why = judged.fault().map(|check| check.fact.clone());
        return Err(StepError::Unconfirmed {
            require: limits.require,
            why: why.unwrap_or_else(|| "no time server gave an answer to believe".into()),
        });
    };
    let middle = i128::midpoint(bounds.earliest, bounds.latest);
    let offset = middle - i128::from(clock.wall_nanos);
    let half = (bounds.latest - bounds.earliest) / 2;
    let narrow = |nanos: i128| i64::try_from(nanos).unwrap_or(i64::MAX);
    let step = Step {
        offset_nanos: i64::try_from(offset).map_err(|_| StepError::Range)?,
        uncertainty_nanos: narrow(half),
        trust,
        needless: offset.abs() <= half,
    };
    check_length(&step, clock, limits)?;
    Ok(step)
}

/// The step to the time that the user names.
///
/// # Errors
/// `clock.before-floor`, `clock.after-ceiling`, `clock.step-limit`.
pub fn plan_at(clock: &ClockFacts, at: UtcTime, limits: Limits) -> Result<Step, StepError> {
    let seen = clock.last_seen.as_ref().and_then(|seen| seen.at);
    let floor = seen.map_or(clock.floor, |seen| seen.max(clock.floor));
    if at < floor {
        return Err(StepError::BeforeFloor { at, floor });
    }
    let ceiling = clock.ceiling();
    if at > ceiling {
        return Err(StepError::AfterCeiling { at, ceiling });
    }
    let target = at.unix().checked_mul(NANOS).ok_or(StepError::Range)?;
    let offset = target
        .checked_sub(clock.wall_nanos)
        .ok_or(StepError::Range)?;
    let step = Step {
        offset_nanos: offset,
        uncertainty_nanos: NANOS,
        trust: Trust::Word,
        needless: false,
    };
    check_length(&step, clock, limits)?;
    Ok(step)
}

fn check_length(step: &Step, clock: &ClockFacts, limits: Limits) -> Result<(), StepError> {
    // A clock that is before the build is wrong, whoever says so.
    let provably_wrong = clock.wall() < clock.floor;
    let built_in = (step.trust < Trust::Majority && !provably_wrong).then_some(DEFAULT_MAX);
    let Some(most) = limits.max_step.or(built_in) else {
        return Ok(());
    };
    let length = step.offset_nanos.saturating_abs();
    if length <= most.as_seconds().saturating_mul(NANOS) {
        return Ok(());
    }
    Err(StepError::Limit {
        step: Span::seconds(length / NANOS),
        most,
    })
}

/// Why the clock is not stepped.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StepError {
    /// Past what is plausible.
    #[error("{at} is after {ceiling}, too long after this program was built")]
    AfterCeiling {
        /// The time named.
        at: UtcTime,
        /// The last plausible one.
        ceiling: UtcTime,
    },
    /// Before what is known.
    #[error("{at} is before {floor}, which is past for certain")]
    BeforeFloor {
        /// The time named.
        at: UtcTime,
        /// The build date, or what this device was sure of before.
        floor: UtcTime,
    },
    /// Too far.
    #[error("the clock would be stepped by {step}, more than {most}")]
    Limit {
        /// How far.
        step: Span,
        /// The limit.
        most: Span,
    },
    /// Not in the machine's range.
    #[error("the time is outside of what the machine can express")]
    Range,
    /// Nobody says what time it is.
    #[error("the clock is not set: {why}")]
    Unconfirmed {
        /// The least trust that was wanted.
        require: Trust,
        /// What is missing.
        why: String,
    },
}

impl Explain for StepError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unconfirmed { .. } => Kind::Unavailable,
            Self::Range => Kind::Input,
            Self::AfterCeiling { .. } | Self::BeforeFloor { .. } | Self::Limit { .. } => {
                Kind::Refused
            }
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::AfterCeiling { .. } => "clock.after-ceiling",
            Self::BeforeFloor { .. } => "clock.before-floor",
            Self::Limit { .. } => "clock.step-limit",
            Self::Range => "clock.range",
            Self::Unconfirmed { .. } => "clock.unconfirmed",
        }
    }
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::AfterCeiling { .. } => "raise --time-ceiling if that is right".into(),
            Self::BeforeFloor { .. } => {
                "name a later time; if the time kept on this device is wrong, add \
                 --forget-last-seen"
                    .into()
            }
            Self::Limit { step, .. } => format!(
                "if that is right, allow it with --max-step {}d, or ask three time servers or one \
                 with NTS",
                step.as_seconds() / 86_400 + 1
            ),
            Self::Range => "name a time between 1970 and 2262".into(),
            Self::Unconfirmed { require, .. } => format!(
                "name time servers that answer with --server or --nts-server (trust `{require}` or \
                 better is wanted), or the time itself with --at"
            ),
        })
    }
}
