//! A list of devices, read strictly and as a stream: CSV with a header line, or one JSON object a
//! line. Every slip is named with its line.

mod rows;
mod twins;
/// Columns whose values may come only once.
pub mod unique;

use std::fmt;
use std::sync::Arc;

pub use rows::{Rows, Slip};
pub use twins::{Suspects, Twins, print};

use crate::core::ids::ThingName;
use crate::explain::{Explain, Kind};

/// The most slips reported at once.
pub const MAX_PROBLEMS: usize = 20;
/// The most bytes of one row.
pub const MAX_ROW_BYTES: u64 = 1 << 20;
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

/// The columns of a list, as far as it has been read.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    names: Vec<String>,
    name_at: Option<usize>,
    unique: Vec<usize>,
}

impl Columns {
    /// Their names, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|column| column == name)
    }

    /// Finds the column that names the device, and those that must not repeat.
    fn settle(&mut self, name_column: Option<&str>) {
        self.name_at = match name_column {
            Some(name) => self.position(name),
            None => NAME_COLUMNS.iter().find_map(|name| self.position(name)),
        };
        self.unique = UNIQUE_COLUMNS
            .iter()
            .filter_map(|name| self.position(name))
            .filter(|at| Some(*at) != self.name_at)
            .chain(self.name_at)
            .collect();
    }
}

/// One device of a list.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its line in the list, from 1.
    pub line: u64,
    /// The device's name.
    pub name: ThingName,
    /// One value for each column; `None` where a JSON object has no such key.
    values: Vec<Option<String>>,
    columns: Arc<Columns>,
}

impl Row {
    /// The value in a column; `None` when there is none.
    pub fn value(&self, column: &str) -> Option<&str> {
        self.values.get(self.columns.position(column)?)?.as_deref()
    }

    /// The columns known when it was read.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Column and value of everything in it that no other row may have.
    pub fn unique(&self) -> impl Iterator<Item = (&str, &str)> {
        self.columns.unique.iter().filter_map(|at| {
            let value = self.values.get(*at)?.as_deref()?;
            Some((&self.columns.names[*at][..], value))
        })
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
    /// The list could not be read to its end.
    #[error("the list cannot be read: {0}")]
    Read(String),
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
            Self::Read(_) => "list.read",
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
mod tests;
