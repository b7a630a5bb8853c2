//! Whether a value repeats, in memory that does not grow with the list: see [`Twins`].

use super::twins::{Suspects, Twins, print};
use super::{MAX_PROBLEMS, Row, RowProblem};

/// Takes a row's values in.
pub fn add(twins: &mut Twins, row: &Row) {
    for value in row.unique() {
        twins.add(print(&value));
    }
}

/// The slips of this row: values that came before, in the same column.
pub fn look(suspects: &mut Suspects, row: &Row, problems: &mut Vec<RowProblem>) {
    for (column, value) in row.unique() {
        if problems.len() >= MAX_PROBLEMS {
            return;
        }
        let named = || format!("{column}\0{value}");
        if let Some(first) = suspects.look(&(column, value), named, row.line) {
            let what = format!("`{value}` is already on line {first}");
            problems.push(RowProblem::new(row.line, Some(column), what));
        }
    }
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
            let mut first = Twins::limited(limit);
            rows(&text).for_each(|row| add(&mut first, &row));
            let others: Vec<Twins> = first.others().collect();
            assert_eq!(others.is_empty(), limit == 1_000);
            let mut found = Vec::new();
            for mut part in std::iter::once(first).chain(others) {
                if !part.is_first() {
                    rows(&text).for_each(|row| add(&mut part, &row));
                }
                for mut group in part.repeated() {
                    rows(&text).for_each(|row| look(&mut group, &row, &mut found));
                }
            }
            found.sort_by_key(|problem| problem.line);
            let lines: Vec<u64> = found.iter().map(|problem| problem.line).collect();
            assert_eq!(lines, [502, 503, 504]);
            assert_eq!(found[0].what, "`d7` is already on line 9");
        }
    }
}
