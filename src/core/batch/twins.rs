//! Which of many texts come more than once, in memory that does not grow with them: 64 bits of a
//! hash for each say which ones may, and only those are compared. Texts too many for one go are
//! looked at in parts, by the hash's low bits.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Prints held at once: 32 MiB.
const LIMIT: usize = 4 << 20;
/// Suspects compared at once.
const SUSPECTS: usize = 1 << 18;

/// What stands for a text.
pub fn print(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The prints of one part of the texts.
#[derive(Debug)]
pub struct Twins {
    seen: Vec<u64>,
    part: u64,
    parts: u64,
    limit: usize,
}

impl Default for Twins {
    /// Of the first part; how many there are turns out as the texts come.
    fn default() -> Self {
        Self {
            seen: Vec::new(),
            part: 0,
            parts: 1,
            limit: LIMIT,
        }
    }
}

impl Twins {
    /// Takes a text's print in.
    pub fn add(&mut self, print: u64) {
        if print % self.parts == self.part {
            self.seen.push(print);
        }
        if self.seen.len() >= self.limit && self.part == 0 {
            self.parts *= 2;
            let parts = self.parts;
            self.seen.retain(|print| print % parts == 0);
        }
    }

    /// The parts after this one, still empty.
    pub fn others(&self) -> impl Iterator<Item = Self> + use<> {
        let (parts, limit) = (self.parts, self.limit);
        (self.part + 1..parts).map(move |part| Self {
            seen: Vec::new(),
            part,
            parts,
            limit,
        })
    }

    /// Those that came more than once, in bounded groups.
    pub fn repeated(mut self) -> Vec<Suspects> {
        self.seen.sort_unstable();
        let twice = self.seen.windows(2).filter(|pair| pair[0] == pair[1]);
        let mut prints: Vec<u64> = twice.map(|pair| pair[0]).collect();
        drop(self.seen);
        prints.dedup();
        let group = |group: &[u64]| Suspects {
            prints: group.to_vec(),
            first: HashMap::new(),
        };
        prints.chunks(SUSPECTS).map(group).collect()
    }
}

/// Finds, in a second reading, which suspects truly come again.
#[derive(Debug)]
pub struct Suspects {
    /// Sorted.
    prints: Vec<u64>,
    first: HashMap<String, u64>,
}

impl Suspects {
    /// The line that had this text first, if it is not this one.
    pub fn look(&mut self, text: &str, line: u64) -> Option<u64> {
        self.prints.binary_search(&print(text)).ok()?;
        if let Some(first) = self.first.get(text) {
            return Some(*first);
        }
        self.first.insert(text.to_owned(), line);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_are_found_in_any_number_of_parts() {
        let texts: Vec<String> = (0..500)
            .chain([7, 123, 499, 7])
            .map(|n| format!("pump-{n}"))
            .collect();
        for limit in [16, 100, 1_000] {
            let mut first = Twins {
                limit,
                ..Twins::default()
            };
            for text in &texts {
                first.add(print(text));
            }
            let others: Vec<Twins> = first.others().collect();
            assert_eq!(others.is_empty(), limit == 1_000);
            let mut found = Vec::new();
            for mut part in std::iter::once(first).chain(others) {
                if part.part > 0 {
                    for text in &texts {
                        part.add(print(text));
                    }
                }
                for mut group in part.repeated() {
                    for (line, text) in (1..).zip(&texts) {
                        found.extend(group.look(text, line).map(|first| (line, first)));
                    }
                }
            }
            found.sort_unstable();
            assert_eq!(found, [(501, 8), (502, 124), (503, 500), (504, 8)]);
        }
    }
}
