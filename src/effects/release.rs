//! What is known about time at build: the true time is never before it.

use crate::core::time::UtcTime;

/// Raised with each release; a build that is given `SOURCE_DATE_EPOCH` (seconds since 1970, as
/// reproducible-builds.org defines it) uses that.
const RELEASED: i64 = 1_793_491_200; // 2026-11-01T00:00:00Z

/// The build's date.
pub fn build_floor() -> UtcTime {
    let given = option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok());
    UtcTime::from_unix(given.unwrap_or(RELEASED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_a_date_since_the_project_began() {
        assert!(build_floor() >= "2026-11-01".parse().unwrap());
    }
}
