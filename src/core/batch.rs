//! A list of devices, read strictly: CSV with a header line, or one JSON object a line. The whole
//! list is read and checked before anything is issued; every slip is named with its line.

use std::collections::HashMap;
use std::fmt;

use crate::core::ids::ThingName;
use crate::explain::{Explain, Kind};

/// The most bytes read as one list: 1 GiB.
pub const MAX_BYTES: u64 = 1 << 30;
/// The most slips reported at once.
const MAX_PROBLEMS: usize = 20;
/// Columns that may name the device, in order of preference.
const NAME_COLUMNS: [&str; 4] = ["name", "thing", "thing_name", "serial"];
/// Columns whose values must not repeat.
const UNIQUE_COLUMNS: [&str; 3] = ["serial", "serial_number", "serialNumber"];

/// How a list is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListFormat {
    /// RFC 4180, with a header line.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// One device of a list.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its line in the list, from 1.
    pub line: u64,
    /// The device's name.
    pub name: ThingName,
    /// One value for each column; `None` where a JSON object has no such key.
    pub values: Vec<Option<String>>,
}

/// A list that was read whole, every name valid and used once.
#[derive(Clone, Debug)]
pub struct List {
    /// The columns' names.
    pub columns: Vec<String>,
    /// The devices, in order.
    pub rows: Vec<Row>,
}

impl List {
    /// The value of a row's column; `None` when there is none.
    pub fn value<'a>(&self, row: &'a Row, column: &str) -> Option<&'a str> {
        let at = self.columns.iter().position(|name| name == column)?;
        row.values.get(at)?.as_deref()
    }

    /// Reads a list. `name_column` says which column names the device; left out, the first of
    /// `name`, `thing`, `thing_name`, `serial` that there is.
    ///
    /// # Errors
    /// `list.*`.
    pub fn parse(
        bytes: &[u8],
        format: ListFormat,
        name_column: Option<&str>,
    ) -> Result<Self, ListError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut problems = Vec::new();
        let raw = match format {
            ListFormat::Csv => read_csv(bytes, &mut problems)?,
            ListFormat::Ndjson => read_ndjson(bytes, &mut problems),
        };
        let has = |name: &str| raw.columns.iter().any(|column| column == name);
        let name_column = match name_column {
            Some(name) => Some(name).filter(|name| has(name)),
            None => NAME_COLUMNS.into_iter().find(|name| has(name)),
        };
        let Some(name_column) = name_column else {
            if problems.is_empty() {
                return Err(ListError::NameColumn(raw.columns));
            }
            return Err(ListError::Rows(problems));
        };
        let list = checked(raw, name_column, &mut problems);
        if !problems.is_empty() {
            problems.sort_by_key(|problem| problem.line);
            return Err(ListError::Rows(problems));
        }
        if list.rows.is_empty() {
            return Err(ListError::Empty);
        }
        Ok(list)
    }
}

/// What was read, before names are checked.
struct Raw {
    columns: Vec<String>,
    rows: Vec<(u64, Vec<Option<String>>)>,
}

fn read_csv(bytes: &[u8], problems: &mut Vec<RowProblem>) -> Result<Raw, ListError> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let header = reader
        .byte_headers()
        .map_err(|error| ListError::Header(error.to_string()))?
        .clone();
    let columns: Vec<String> = header
        .iter()
        .map(|name| String::from_utf8(name.to_vec()).map(|name| name.trim().to_owned()))
        .collect::<Result<_, _>>()
        .map_err(|_| ListError::Header("a column's name is not UTF-8".into()))?;
    for (at, name) in columns.iter().enumerate() {
        if name.is_empty() || columns[..at].contains(name) {
            let why = format!("column {} is empty or repeats `{name}`", at + 1);
            return Err(ListError::Header(why));
        }
    }
    let mut rows = Vec::new();
    let mut lines = Lines {
        bytes,
        at: 0,
        line: 1,
    };
    for record in reader.byte_records() {
        if problems.len() >= MAX_PROBLEMS {
            break;
        }
        let record = record.map_err(|error| ListError::Header(error.to_string()))?;
        let line = lines.of(record.position().map_or(0, csv::Position::byte));
        if record.len() != columns.len() {
            let what = format!("{} values for {} columns", record.len(), columns.len());
            problems.push(RowProblem::new(line, None, what));
            continue;
        }
        let values = csv_values(&record, (line, &columns), problems);
        rows.push((line, values));
    }
    Ok(Raw { columns, rows })
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

fn told(problems: &[RowProblem], line: u64, column: &str) -> bool {
    problems
        .iter()
        .any(|one| one.line == line && one.column.as_deref() == Some(column))
}

/// Counts lines up to the records of a CSV. The reader's own count is taken before it has passed
/// the line feed of a CRLF and any blank lines, so it can lag behind.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the record that the reader began at `byte`; records come in order.
    fn of(&mut self, byte: u64) -> u64 {
        let rest = usize::try_from(byte)
            .ok()
            .and_then(|byte| self.bytes.get(byte..))
            .unwrap_or_default();
        let ends = rest.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
        let start = self.bytes.len() - rest.len() + ends.count();
        let passed = self.bytes.get(self.at..start).unwrap_or_default();
        self.line += passed.split(|b| *b == b'\n').skip(1).count() as u64;
        self.at = start;
        self.line
    }
}

fn read_ndjson(bytes: &[u8], problems: &mut Vec<RowProblem>) -> Raw {
    let mut columns: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    for (number, text) in (1_u64..).zip(bytes.split(|b| *b == b'\n')) {
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if problems.len() >= MAX_PROBLEMS {
            break;
        }
        let object: serde_json::Map<String, serde_json::Value> = match serde_json::from_slice(text)
        {
            Ok(object) => object,
            Err(error) => {
                let what = format!(
                    "not a JSON object, at character {}: {error}",
                    error.column()
                );
                problems.push(RowProblem::new(number, None, what));
                continue;
            }
        };
        let mut values = vec![None; columns.len()];
        for (key, value) in object {
            let at = columns.iter().position(|c| *c == key).unwrap_or_else(|| {
                columns.push(key.clone());
                values.push(None);
                columns.len() - 1
            });
            match scalar(value) {
                Ok(text) => values[at] = text,
                Err(what) => problems.push(RowProblem::new(number, Some(&key), what)),
            }
        }
        rows.push((number, values));
    }
    Raw { columns, rows }
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

fn checked(raw: Raw, name_column: &str, problems: &mut Vec<RowProblem>) -> List {
    let at = |name: &str| raw.columns.iter().position(|column| column == name);
    let name_at = at(name_column);
    let unique: Vec<usize> = UNIQUE_COLUMNS
        .iter()
        .filter_map(|name| at(name))
        .filter(|column| Some(*column) != name_at)
        .chain(name_at)
        .collect();
    let mut seen: Vec<HashMap<String, u64>> = vec![HashMap::new(); unique.len()];
    let mut rows = Vec::with_capacity(raw.rows.len());
    for (line, values) in raw.rows {
        if problems.len() >= MAX_PROBLEMS {
            break;
        }
        for (column, seen) in unique.iter().zip(&mut seen) {
            let Some(value) = values.get(*column).and_then(Option::as_ref) else {
                continue;
            };
            if let Some(first) = seen.insert(value.clone(), line) {
                let what = format!("`{value}` is already on line {first}");
                problems.push(RowProblem::new(line, Some(&raw.columns[*column]), what));
            }
        }
        let name = name_at.and_then(|at| values.get(at)?.as_deref());
        match name.unwrap_or_default().parse::<ThingName>() {
            Ok(name) => rows.push(Row { line, name, values }),
            // A name that could not be read was told of when it was read.
            Err(_) if name.is_none() && told(problems, line, name_column) => {}
            Err(_) if name.is_none_or(str::is_empty) => {
                problems.push(RowProblem::new(
                    line,
                    Some(name_column),
                    "the name is empty",
                ));
            }
            Err(error) => {
                problems.push(RowProblem::new(line, Some(name_column), error.to_string()));
            }
        }
    }
    List {
        columns: raw.columns,
        rows,
    }
}

/// A slip in a list.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct RowProblem {
    /// Its line, from 1.
    pub line: u64,
    /// Its column's name, if it lies in one.
    pub column: Option<String>,
    /// What is wrong.
    pub what: String,
}

impl RowProblem {
    /// A slip at this place.
    pub fn new(line: u64, column: Option<&str>, what: impl Into<String>) -> Self {
        Self {
            line,
            column: column.map(str::to_owned),
            what: what.into(),
        }
    }
}

impl fmt::Display for RowProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(column) = &self.column {
            write!(f, ", column `{column}`")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// A list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// No rows.
    #[error("the list holds no devices")]
    Empty,
    /// The first line does not name columns.
    #[error("the list's header line is wrong: {0}")]
    Header(String),
    /// No column names the device.
    #[error("no column names the device; there are: {}", .0.join(", "))]
    NameColumn(Vec<String>),
    /// Rows are wrong.
    #[error("the list has {} wrong rows, and nothing was issued{}", count(.0), lines(.0))]
    Rows(Vec<RowProblem>),
}

fn count(problems: &[RowProblem]) -> String {
    let more = if problems.len() >= MAX_PROBLEMS {
        " or more"
    } else {
        ""
    };
    format!("{}{more}", problems.len())
}

fn lines(problems: &[RowProblem]) -> String {
    use std::fmt::Write as _;
    problems.iter().fold(String::new(), |mut text, problem| {
        let _ = write!(text, "\n  {problem}");
        text
    })
}

impl Explain for ListError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Empty => "list.empty",
            Self::Header(_) => "list.header",
            Self::NameColumn(_) => "list.name-column",
            Self::Rows(_) => "list.rows",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::NameColumn(_) => Some("say which column with --name-column COLUMN".into()),
            Self::Rows(_) => Some("mend these lines, then run the same command again".into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slips(bytes: &[u8], format: ListFormat) -> Vec<String> {
        match List::parse(bytes, format, None) {
            Err(ListError::Rows(problems)) => problems.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn good_lists_are_read() {
        let csv = "\u{feff}serial,site\r\nA-1,\"Berlin, Nord\"\r\nA-2,Köln\r\n";
        let list = List::parse(csv.as_bytes(), ListFormat::Csv, None).unwrap();
        assert_eq!(list.rows.len(), 2);
        assert_eq!(list.rows[1].line, 3);
        assert_eq!(list.value(&list.rows[0], "site"), Some("Berlin, Nord"));
        let json = b"{\"name\":\"a\",\"n\":7}\n\n{\"name\":\"b\"}\n";
        let list = List::parse(json, ListFormat::Ndjson, None).unwrap();
        assert_eq!(list.value(&list.rows[0], "n"), Some("7"));
        assert_eq!(list.value(&list.rows[1], "n"), None);
    }

    #[test]
    fn a_name_that_cannot_be_read_is_one_slip() {
        let found = slips(b"serial\nB\xff\n", ListFormat::Csv);
        assert_eq!(
            found,
            ["line 2, column `serial`: byte 0xff at position 2 is not UTF-8"]
        );
    }

    #[test]
    fn slips_are_named_with_line_and_column() {
        let long = format!("serial\n{}\n", "x".repeat(129));
        assert!(slips(long.as_bytes(), ListFormat::Csv)[0].starts_with("line 2, column `serial`"));
        for (bytes, expected) in [
            (
                &b"serial,b\nA,1\nB,1\nA,1\n"[..],
                "line 4, column `serial`: `A` is already on line 2",
            ),
            (
                b"serial,b\n,1\n",
                "line 2, column `serial`: the name is empty",
            ),
            (b"serial,b\nA\n", "line 2: 1 values for 2 columns"),
            (
                b"serial,b\nA,x\xff\n",
                "line 2, column `b`: byte 0xff at position 2 is not UTF-8",
            ),
            (
                b"name,serial\nA,1\nB,1\n",
                "line 3, column `serial`: `1` is already on line 2",
            ),
        ] {
            assert_eq!(slips(bytes, ListFormat::Csv), [expected]);
        }
        let blank = slips(b"\r\nserial\r\n\r\n\r\nA B\r\n", ListFormat::Csv);
        assert!(blank[0].starts_with("line 5, "), "{blank:?}");
        let json = slips(b"{\"name\":\"a\"}\n{\"name\":}\n", ListFormat::Ndjson);
        assert!(
            json[0].starts_with("line 2: not a JSON object, at character 9"),
            "{json:?}"
        );
        for (bytes, code) in [
            (&b""[..], "list.name-column"),
            (b"serial\n", "list.empty"),
            (b"foo\n1\n", "list.name-column"),
            (b"serial,serial\nA,B\n", "list.header"),
        ] {
            let error = List::parse(bytes, ListFormat::Csv, None).unwrap_err();
            assert_eq!(error.code(), code);
        }
    }

    fn any_list() -> impl Strategy<Value = Vec<u8>> {
        let alphabet = b"name,serial\n\r\"{}:[]\\ab1\xc3\xbc\xff".to_vec();
        let picked =
            || proptest::collection::vec(proptest::sample::select(alphabet.clone()), 0..80);
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            picked(),
            picked().prop_map(|rest| [b"name,serial\n".to_vec(), rest].concat()),
            picked().prop_map(|rest| [b"{\"name\":\"a\"}\n".to_vec(), rest].concat()),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_rows_or_slips(bytes in any_list()) {
            let lines = bytes.split(|b| *b == b'\n').count() as u64;
            for format in [ListFormat::Csv, ListFormat::Ndjson] {
                match List::parse(&bytes, format, None) {
                    Ok(list) => {
                        let names: std::collections::HashSet<&ThingName> =
                            list.rows.iter().map(|row| &row.name).collect();
                        prop_assert!(!names.is_empty() && names.len() == list.rows.len());
                    }
                    Err(ListError::Rows(slips)) => {
                        prop_assert!(slips.iter().all(|slip| (1..=lines).contains(&slip.line)));
                    }
                    Err(_) => {}
                }
            }
        }

        #[test]
        fn quoted_values_are_read_back(values in proptest::collection::vec("[a-zA-Z0-9,\"ü;=/+-]{1,20}", 1..20)) {
            let rows = values.iter().enumerate();
            let row = |(n, value): (usize, &String)| format!("d{n},\"{}\"\n", value.replace('"', "\"\""));
            let text = "name,v\n".to_owned() + &rows.map(row).collect::<String>();
            let list = List::parse(text.as_bytes(), ListFormat::Csv, None).unwrap();
            let read: Vec<&str> = list.rows.iter().filter_map(|row| list.value(row, "v")).collect();
            prop_assert_eq!(read, values);
        }
    }
}
