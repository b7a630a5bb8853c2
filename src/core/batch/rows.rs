//! The rows of a list, one after another, from any reader.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Columns, ListError, ListFormat, MAX_ROW_BYTES, Row, RowProblem};
use crate::core::ids::ThingName;

/// What stands in a row's place when it cannot be used.
#[derive(Debug)]
pub enum Slip {
    /// The row is wrong; those after it can still be read.
    Row(Vec<RowProblem>),
    /// Nothing after it can be read.
    End(ListError),
}

/// The rows of a list, in order.
pub struct Rows {
    source: Source,
    name_column: Option<String>,
    columns: Arc<Columns>,
    ended: bool,
}

enum Source {
    Csv {
        reader: Box<csv::Reader<Watched>>,
        ends: Ends,
        record: csv::ByteRecord,
    },
    Ndjson {
        reader: BufReader<Box<dyn Read + Send>>,
        line: u64,
    },
}

impl Rows {
    /// Reads as far as the columns' names. `name_column` says which one names the device; left
    /// out, the first of `name`, `thing`, `thing_name`, `serial` that there is (of an NDJSON list:
    /// that its first object has).
    ///
    /// # Errors
    /// `list.header`, `list.name-column`, `list.read`.
    pub fn open(
        mut input: Box<dyn Read + Send>,
        format: ListFormat,
        name_column: Option<&str>,
    ) -> Result<Self, ListError> {
        let mut start = Vec::with_capacity(3);
        (&mut input)
            .take(3)
            .read_to_end(&mut start)
            .map_err(|error| ListError::Read(error.to_string()))?;
        let mark = start == b"\xef\xbb\xbf";
        let kept = if mark { Vec::new() } else { start };
        let input: Box<dyn Read + Send> = Box::new(io::Cursor::new(kept).chain(input));
        let mut rows = Self {
            source: match format {
                ListFormat::Csv => csv_source(input),
                ListFormat::Ndjson => Source::Ndjson {
                    reader: BufReader::new(input),
                    line: 0,
                },
            },
            name_column: name_column.map(str::to_owned),
            columns: Arc::default(),
            ended: false,
        };
        if let Source::Csv { reader, .. } = &mut rows.source {
            let mut columns = header(reader)?;
            columns.settle(name_column);
            if columns.name_at.is_none() {
                return Err(ListError::NameColumn(columns.names));
            }
            rows.columns = Arc::new(columns);
        }
        Ok(rows)
    }

    /// The columns known by now.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    fn csv_row(&mut self) -> Option<Result<Row, Slip>> {
        let Source::Csv {
            reader,
            ends,
            record,
        } = &mut self.source
        else {
            return None;
        };
        match reader.read_byte_record(record) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return Some(Err(Slip::End(ListError::Read(error.to_string())))),
        }
        let line = ends.line_at(record.position().map_or(0, csv::Position::byte));
        let columns = &self.columns;
        if record.len() != columns.names.len() {
            let what = format!(
                "{} values for {} columns",
                record.len(),
                columns.names.len()
            );
            return Some(Err(Slip::Row(vec![RowProblem::new(line, None, what)])));
        }
        let mut problems = Vec::new();
        let values = csv_values(record, (line, &columns.names), &mut problems);
        Some(row(line, values, (columns, problems)))
    }

    fn json_row(&mut self) -> Option<Result<Row, Slip>> {
        let (line, text) = match self.json_line()? {
            Ok(found) => found,
            Err(error) => return Some(Err(Slip::End(error))),
        };
        let object: serde_json::Map<String, serde_json::Value> = match serde_json::from_slice(&text)
        {
            Ok(object) => object,
            Err(error) => {
                let at = error.column();
                let what = format!("not a JSON object, at character {at}: {error}");
                return Some(Err(Slip::Row(vec![RowProblem::new(line, None, what)])));
            }
        };
        self.learn(object.keys());
        if self.columns.name_at.is_none() && self.name_column.is_none() {
            let known = self.columns.names.clone();
            return Some(Err(Slip::End(ListError::NameColumn(known))));
        }
        let mut values = vec![None; self.columns.names.len()];
        let mut problems = Vec::new();
        for (key, value) in object {
            match (scalar(value), self.columns.position(&key)) {
                (Ok(text), Some(at)) => values[at] = text,
                (Ok(_), None) => {}
                (Err(what), _) => problems.push(RowProblem::new(line, Some(&key), what)),
            }
        }
        Some(row(line, values, (&self.columns, problems)))
    }

    /// The next line that holds anything, with its number.
    fn json_line(&mut self) -> Option<Result<(u64, Vec<u8>), ListError>> {
        let Source::Ndjson { reader, line } = &mut self.source else {
            return None;
        };
        let mut text = Vec::new();
        loop {
            text.clear();
            match reader.take(MAX_ROW_BYTES + 1).read_until(b'\n', &mut text) {
                Err(error) => return Some(Err(ListError::Read(error.to_string()))),
                Ok(0) => return None,
                Ok(_) => *line += 1,
            }
            if text.len() as u64 > MAX_ROW_BYTES {
                let what = format!("line {line} is longer than {MAX_ROW_BYTES} bytes");
                return Some(Err(ListError::Read(what)));
            }
            if !text.iter().all(u8::is_ascii_whitespace) {
                return Some(Ok((*line, text)));
            }
        }
    }

    /// Columns that were not seen before.
    fn learn<'k>(&mut self, keys: impl Iterator<Item = &'k String>) {
        let new: Vec<&String> = keys
            .filter(|key| self.columns.position(key).is_none())
            .collect();
        if new.is_empty() {
            return;
        }
        let named = self.columns.name_at;
        let columns = Arc::make_mut(&mut self.columns);
        columns.names.extend(new.into_iter().cloned());
        let chosen = named.map(|at| columns.names[at].clone());
        columns.settle(chosen.as_deref().or(self.name_column.as_deref()));
    }
}

impl Iterator for Rows {
    type Item = Result<Row, Slip>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = match self.source {
            Source::Csv { .. } => self.csv_row(),
            Source::Ndjson { .. } => self.json_row(),
        };
        self.ended = matches!(next, None | Some(Err(Slip::End(_))));
        next
    }
}

fn row(
    line: u64,
    values: Vec<Option<String>>,
    (columns, mut problems): (&Arc<Columns>, Vec<RowProblem>),
) -> Result<Row, Slip> {
    let at = columns.name_at;
    let column = at.map(|at| &columns.names[at][..]);
    let name = at.and_then(|at| values.get(at)?.as_deref());
    let told = problems
        .iter()
        .any(|one| one.column.is_some() && one.column.as_deref() == column);
    let problem = match name.unwrap_or_default().parse::<ThingName>() {
        Ok(name) if problems.is_empty() => {
            return Ok(Row {
                line,
                name,
                values,
                columns: Arc::clone(columns),
            });
        }
        // A name that could not be read was told of when it was read.
        Ok(_) => None,
        Err(_) if told => None,
        Err(_) if name.is_none_or(str::is_empty) => Some("the name is empty".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    problems.extend(problem.map(|what| RowProblem::new(line, column, what)));
    Err(Slip::Row(problems))
}

fn csv_source(input: Box<dyn Read + Send>) -> Source {
    let ends = Ends::default();
    let watched = Watched {
        input,
        ends: ends.clone(),
        at: 0,
    };
    let reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(watched);
    Source::Csv {
        reader: Box::new(reader),
        ends,
        record: csv::ByteRecord::new(),
    }
}

fn header(reader: &mut csv::Reader<Watched>) -> Result<Columns, ListError> {
    let header = reader
        .byte_headers()
        .map_err(|error| ListError::Header(error.to_string()))?;
    let names: Vec<String> = header
        .iter()
        .map(|name| String::from_utf8(name.to_vec()).map(|name| name.trim().to_owned()))
        .collect::<Result<_, _>>()
        .map_err(|_| ListError::Header("a column's name is not UTF-8".into()))?;
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() || names[..at].contains(name) {
            let why = format!("column {} is empty or repeats `{name}`", at + 1);
            return Err(ListError::Header(why));
        }
    }
    Ok(Columns {
        names,
        ..Columns::default()
    })
}

/// The record's values; one that is not UTF-8 is a slip.
fn csv_values(
    record: &csv::ByteRecord,
    (line, columns): (u64, &[String]),
    problems: &mut Vec<RowProblem>,
) -> Vec<Option<String>> {
    let mut values = Vec::with_capacity(columns.len());
    for (value, column) in record.iter().zip(columns) {
        match std::str::from_utf8(value) {
            Ok(text) => values.push(Some(text.trim().to_owned())),
            Err(error) => {
                let at = error.valid_up_to();
                let what = format!(
                    "byte {:#04x} at position {} is not UTF-8",
                    value[at],
                    at + 1
                );
                problems.push(RowProblem::new(line, Some(column), what));
                values.push(None);
            }
        }
    }
    values
}

fn scalar(value: serde_json::Value) -> Result<Option<String>, &'static str> {
    use serde_json::Value::{Array, Bool, Null, Number, Object, String};
    match value {
        String(text) => Ok(Some(text)),
        Number(number) => Ok(Some(number.to_string())),
        Bool(yes) => Ok(Some(yes.to_string())),
        Null => Ok(None),
        Array(_) | Object(_) => Err("a list or an object is not a value"),
    }
}

/// Where lines end, as far as the reader has read and the records have not passed. The CSV
/// reader's own count is taken before it has passed the line feed of a CRLF and any blank lines,
/// so it can lag behind.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Passed>>);

struct Passed {
    /// Offset of each carriage return and line feed, and whether it is a line feed.
    ahead: VecDeque<(u64, bool)>,
    line: u64,
    /// Where the last record began.
    record: u64,
}

impl Default for Passed {
    fn default() -> Self {
        Self {
            ahead: VecDeque::new(),
            line: 1,
            record: 0,
        }
    }
}

impl Ends {
    /// The line of the record that the reader began at `byte`; records come in order.
    fn line_at(&self, byte: u64) -> u64 {
        let mut passed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = byte;
        while let Some((end, feed)) = passed.ahead.front().copied().filter(|(end, _)| *end <= at) {
            passed.ahead.pop_front();
            passed.line += u64::from(feed);
            at += u64::from(end == at);
        }
        passed.record = byte;
        passed.line
    }
}

/// A reader that notes where lines end, and refuses a row without an end.
struct Watched {
    input: Box<dyn Read + Send>,
    ends: Ends,
    at: u64,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        let mut passed = self.ends.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (offset, byte) in (self.at..).zip(&buffer[..count]) {
            if matches!(byte, b'\r' | b'\n') {
                passed.ahead.push_back((offset, *byte == b'\n'));
            }
        }
        self.at += count as u64;
        if self.at - passed.record > 2 * MAX_ROW_BYTES {
            let why = format!(
                "the row at line {} is longer than {MAX_ROW_BYTES} bytes; a quote may be left open",
                passed.line
            );
            return Err(io::Error::other(why));
        }
        Ok(count)
    }
}
