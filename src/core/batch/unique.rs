//! Whether a value repeats, in memory that does not grow with the list: 32 bits of a hash for each
//! value say which ones *may* repeat, and only those are compared. A list too long for one go is
//! looked at in parts, by the hash's low bits.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{MAX_PROBLEMS, Row, RowProblem};

/// Fingerprints held at once: 32 MiB.
const LIMIT: usize = 8 << 20;
/// Suspects compared at once.
const SUSPECTS: usize = 1 << 18;

/// The fingerprints of one part of a list.
#[derive(Debug)]
pub struct Fingerprints {
    seen: Vec<u32>,
    part: u32,
    parts: u32,
    limit: usize,
}

impl Default for Fingerprints {
    /// Of the first part; how many there are turns out as the list is read.
    fn default() -> Self {
        Self {
            seen: Vec::new(),
            part: 0,
            parts: 1,
            limit: LIMIT,
        }
    }
}

impl Fingerprints {
    /// Takes a row's values in.
    pub fn add(&mut self, row: &Row) {
        for (column, value) in row.unique() {
            let print = fingerprint(column, value);
            if print % self.parts == self.part {
                self.seen.push(print);
            }
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
    pub fn repeated(mut self) -> Vec<Repeats> {
        self.seen.sort_unstable();
        let mut prints: Vec<u32> = self
            .seen
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0])
            .collect();
        drop(self.seen);
        prints.dedup();
        let group = |group: &[u32]| Repeats {
            prints: group.to_vec(),
            first: HashMap::new(),
        };
        prints.chunks(SUSPECTS).map(group).collect()
    }
}

/// Finds, in a second reading, which suspects truly repeat.
#[derive(Debug)]
pub struct Repeats {
    /// Sorted.
    prints: Vec<u32>,
    first: HashMap<String, u64>,
}

impl Repeats {
    /// The slips of this row.
    pub fn look(&mut self, row: &Row, problems: &mut Vec<RowProblem>) {
        for (column, value) in row.unique() {
            if problems.len() >= MAX_PROBLEMS {
                return;
            }
            if self
                .prints
                .binary_search(&fingerprint(column, value))
                .is_err()
            {
                continue;
            }
            if let Some(first) = self.first.get(&key(column, value)) {
                let what = format!("`{value}` is already on line {first}");
                problems.push(RowProblem::new(row.line, Some(column), what));
            } else {
                self.first.insert(key(column, value), row.line);
            }
        }
    }
}

fn key(column: &str, value: &str) -> String {
    format!("{column}\0{value}")
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "half of the hash is enough"
)]
fn fingerprint(column: &str, value: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    (column, value).hash(&mut hasher);
    hasher.finish() as u32
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::{ListFormat, Rows};
    use super::*;

    fn rows(text: &str) -> impl Iterator<Item = Row> + use<> {
        let input = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
        let rows = Rows::open(input, ListFormat::Csv, None).unwrap();
        rows.map(|row| row.unwrap())
    }

    /// Parts are made when the limit is reached, and every repeat is found in one of them.
    #[test]
    fn repeats_are_found_in_any_number_of_parts() {
        let mut text = "name\n".to_owned();
        for n in (0..500).chain([7, 123, 499]) {
            writeln!(text, "d{n}").unwrap();
        }
        for limit in [16, 100, 1_000] {
            let mut first = Fingerprints {
                limit,
                ..Fingerprints::default()
            };
            rows(&text).for_each(|row| first.add(&row));
            let others: Vec<Fingerprints> = first.others().collect();
            assert_eq!(others.is_empty(), limit == 1_000);
            let mut found = Vec::new();
            for mut part in std::iter::once(first).chain(others) {
                if part.part > 0 {
                    rows(&text).for_each(|row| part.add(&row));
                }
                for mut group in part.repeated() {
                    rows(&text).for_each(|row| group.look(&row, &mut found));
                }
            }
            found.sort_by_key(|problem| problem.line);
            let lines: Vec<u64> = found.iter().map(|problem| problem.line).collect();
            assert_eq!(lines, [502, 503, 504]);
            assert_eq!(found[0].what, "`d7` is already on line 9");
        }
    }
}
