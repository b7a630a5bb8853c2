//! Which of many values come more than once, in memory that does not grow with them: 64 bits of a
//! hash for each say which ones may, and only those are compared. Values too many for one go are
//! looked at in parts, by the hash's low bits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Prints held at once: 32 MiB.
const LIMIT: usize = 4 << 20;
/// Suspects compared at once.
const SUSPECTS: usize = 1 << 18;

/// What stands for a value.
pub fn print(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The prints of one part of the values.
#[derive(Debug)]
pub struct Twins {
    seen: Vec<u64>,
    part: u64,
    parts: u64,
    limit: usize,
}

impl Default for Twins {
    /// Of the first part; how many there are turns out as the values come.
    fn default() -> Self {
        Self::limited(LIMIT)
    }
}

impl Twins {
    /// The same, with at most so many prints at once.
    pub(super) fn limited(limit: usize) -> Self {
        Self {
            seen: Vec::new(),
            part: 0,
            parts: 1,
            limit,
        }
    }

    #[cfg(test)]
    pub(super) fn is_first(&self) -> bool {
        self.part == 0
    }

    /// Takes a value's print in.
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
    /// The line that had this value first, if it is not this one; `name` tells values apart.
    pub fn look(
        &mut self,
        value: &impl Hash,
        name: impl FnOnce() -> String,
        line: u64,
    ) -> Option<u64> {
        self.prints.binary_search(&print(value)).ok()?;
        match self.first.entry(name()) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(place) => {
                place.insert(line);
                None
            }
        }
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
            let mut first = Twins::limited(limit);
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
                        found.extend(
                            group
                                .look(text, || text.clone(), line)
                                .map(|first| (line, first)),
                        );
                    }
                }
            }
            found.sort_unstable();
            assert_eq!(found, [(501, 8), (502, 124), (503, 500), (504, 8)]);
        }
    }
}
