//! How often a server may be asked, and for how long not at all after it said so (RFC 5905 §7.4,
//! RFC 4330 §8 and §10).
//!
//! Kept for all runs since the start of the machine; all times are seconds since that start.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The most of a file that is read.
pub const MAX_BYTES: u64 = 64 << 10;
/// The most servers that are remembered.
const MAX_SERVERS: usize = 64;
/// No server is asked more often than once in this time, whatever the user does.
const GAP_S: u64 = 2;
/// After the first `RATE`; doubled with each further one.
const RATE_S: u64 = 64;
/// The longest wait after `RATE`: 2^17 s, NTP's longest poll interval.
const MAX_RATE_S: u64 = 1 << 17;
/// After `DENY` or `RSTR`, which forbid to ask again: a day, or until the machine starts again.
const DENY_S: u64 = 86_400;

/// What is remembered of every server.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
pub struct Memory {
    servers: BTreeMap<String, Remembered>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
struct Remembered {
    asked_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kiss: Option<String>,
    #[serde(default)]
    until_s: u64,
    #[serde(default)]
    times: u32,
}

/// Why a server may not be asked now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// What it said; `None` when it was asked a moment ago.
    pub kiss: Option<String>,
    /// For so many seconds more.
    pub left_s: u64,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let left = crate::core::time::Span::seconds(i64::try_from(self.left_s).unwrap_or(i64::MAX));
        match &self.kiss {
            Some(kiss) => write!(
                f,
                "not asked: it said `{kiss}`, which holds for {left} more"
            ),
            None => write!(f, "not asked again so soon: wait {left}"),
        }
    }
}

impl Memory {
    /// Reads what was kept; anything else is no memory. Entries from the future are of another start.
    pub fn read(bytes: &[u8], now_s: u64) -> Self {
        let mut memory: Self = serde_json::from_slice(bytes).unwrap_or_default();
        memory
            .servers
            .retain(|name, entry| entry.asked_s <= now_s && name.len() <= 300);
        memory
    }

    /// Whether a server may not be asked.
    pub fn held(&self, server: &str, now_s: u64) -> Option<Held> {
        let entry = self.servers.get(server)?;
        let kiss = entry.kiss.clone().filter(|_| now_s < entry.until_s);
        let until = if kiss.is_some() {
            entry.until_s
        } else {
            entry.asked_s.saturating_add(GAP_S)
        };
        let left_s = until.checked_sub(now_s).filter(|left| *left > 0)?;
        Some(Held { kiss, left_s })
    }

    /// A server is being asked.
    pub fn asked(&mut self, server: &str, now_s: u64) {
        while self.servers.len() >= MAX_SERVERS && !self.servers.contains_key(server) {
            let oldest = self.servers.iter().min_by_key(|(_, entry)| entry.asked_s);
            let Some(name) = oldest.map(|(name, _)| name.clone()) else {
                break;
            };
            self.servers.remove(&name);
        }
        self.servers.entry(server.to_owned()).or_default().asked_s = now_s;
    }

    /// A server gave an answer that was no kiss.
    pub fn answered(&mut self, server: &str) {
        if let Some(entry) = self.servers.get_mut(server) {
            (entry.kiss, entry.times, entry.until_s) = (None, 0, 0);
        }
    }

    /// A server sent a kiss-o'-death.
    pub fn kissed(&mut self, server: &str, code: &str, now_s: u64) {
        let entry = self.servers.entry(server.to_owned()).or_default();
        let wait = match code {
            "RATE" => (RATE_S << entry.times.min(11)).min(MAX_RATE_S),
            "DENY" | "RSTR" => DENY_S,
            _ => return,
        };
        entry.times = entry.times.saturating_add(1);
        entry.kiss = Some(code.to_owned());
        entry.until_s = now_s.saturating_add(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SERVER: &str = "time.example:123";

    fn left(memory: &Memory, now: u64) -> Option<u64> {
        memory.held(SERVER, now).map(|held| held.left_s)
    }

    #[test]
    fn a_kiss_holds_and_rates_double() {
        let mut memory = Memory::default();
        assert_eq!(left(&memory, 0), None);
        memory.asked(SERVER, 100);
        assert_eq!(left(&memory, 100), Some(2));
        assert_eq!(left(&memory, 102), None);
        memory.kissed(SERVER, "RATE", 102);
        assert_eq!(left(&memory, 102), Some(64));
        memory.asked(SERVER, 166);
        memory.kissed(SERVER, "RATE", 166);
        assert_eq!(left(&memory, 166), Some(128));
        memory.answered(SERVER);
        assert_eq!(left(&memory, 168), None);
        for code in ["DENY", "RSTR"] {
            memory.kissed(SERVER, code, 200);
            assert_eq!(left(&memory, 200), Some(86_400));
            assert_eq!(left(&memory, 86_600), None);
        }
        memory.answered(SERVER);
        memory.kissed(SERVER, "INIT", 90_000);
        assert_eq!(left(&memory, 90_000), None);
    }

    #[test]
    fn what_is_kept_is_read_and_another_starts_memory_is_not() {
        let mut memory = Memory::default();
        memory.asked(SERVER, 500);
        memory.kissed(SERVER, "DENY", 500);
        let bytes = serde_json::to_vec(&memory).unwrap();
        assert_eq!(Memory::read(&bytes, 500), memory);
        assert_eq!(Memory::read(&bytes, 499), Memory::default());
        assert_eq!(Memory::read(b"junk", 500), Memory::default());
        for n in 0..200 {
            memory.asked(&n.to_string(), 600 + n);
        }
        assert_eq!(memory.servers.len(), MAX_SERVERS);
    }

    proptest! {
        #[test]
        fn no_order_of_events_makes_it_panic(
            events in prop::collection::vec((0_u8..5, any::<u64>()), 0..40)
        ) {
            let mut memory = Memory::default();
            for (kind, now) in events {
                match kind {
                    0 => memory.asked(SERVER, now),
                    1 => memory.answered(SERVER),
                    2 => memory.kissed(SERVER, "RATE", now),
                    3 => memory.kissed(SERVER, "DENY", now),
                    _ => drop(memory.held(SERVER, now)),
                }
            }
        }
    }
}
