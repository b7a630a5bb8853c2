//! CloudWatch Logs over the sandbox's own records: `FilterLogEvents` of the group `AWSIotLogsV2`
//! (JSON 1.1, API version 2014-03-28).

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};

use super::call::Call;
use crate::core::logfilter::Filter;
use crate::core::time::UtcTime;
use crate::sandbox::Shared;
use crate::sandbox::logs::{Logs, Mark, Record, search};
use crate::sandbox::registry::{ApiError, ErrorName};

/// The header that names the operation, and the only one there is.
pub(super) const TARGET: &str = "x-amz-target";
pub(super) const FILTER_LOG_EVENTS: &str = "Logs_20140328.FilterLogEvents";
/// AWS IoT's log group, and the one stream that we put everything into.
const GROUP: &str = "AWSIotLogsV2";
const STREAM: &str = "sandbox";
/// The most events of one answer, and the most of their messages' bytes (API page "FilterLogEvents").
const MAX_EVENTS: usize = 10_000;
const MAX_BYTES: usize = 1 << 20;

/// What is asked for.
struct Query {
    filter: Filter,
    from: i64,
    to: i64,
    limit: usize,
    /// Where the page before has ended.
    token: Option<String>,
}

/// One answer as it fills.
struct Page<'a> {
    query: &'a Query,
    events: Vec<Value>,
    bytes: usize,
}

pub(super) fn filter_log_events(shared: &Shared, call: &Call) -> Result<Value, ApiError> {
    check_group(call)?;
    let query = query(call)?;
    let streams = call.body().list("logStreamNames")?;
    let prefix = call.text("logStreamNamePrefix")?.unwrap_or_default();
    let searched = (streams.is_empty() || streams.iter().any(|one| one == STREAM))
        && STREAM.starts_with(prefix);
    let mut page = Page {
        query: &query,
        events: Vec::new(),
        bytes: 0,
    };
    let next = match (searched, shared.logs.path()) {
        (false, _) => None,
        (true, Some(path)) => page.of_file(path, &shared.logs)?,
        (true, None) => page.of_memory(&shared.logs.recent())?,
    };
    let mut answer = json!({ "events": page.events, "searchedLogStreams": [] });
    if let Some(next) = next {
        answer["nextToken"] = next.into();
    }
    Ok(answer)
}

impl Page<'_> {
    /// Fills itself from the file, and answers the next page's token.
    fn of_file(&mut self, path: &Path, logs: &Logs) -> Result<Option<String>, ApiError> {
        let mark = self.query.token.as_deref().map(str::parse::<Mark>);
        let mark = mark.transpose().map_err(|()| no_token())?;
        let next = search(path, mark, |line| {
            if is_within(line, self.query)
                && let Ok(record) = serde_json::from_slice(line)
                && logs.has(&record)
            {
                self.take(&record);
            }
            self.is_full()
        });
        let next = next.map_err(|error| {
            let message = format!("the records cannot be read: {error}");
            ApiError::new(ErrorName::InternalFailure, message)
        })?;
        Ok(next.map(|mark| mark.to_string()))
    }

    /// The same from the records in memory.
    fn of_memory(&mut self, records: &[Record]) -> Result<Option<String>, ApiError> {
        let skip = self.query.token.as_deref().map(str::parse::<usize>);
        let skip = skip.transpose().map_err(|_| no_token())?.unwrap_or(0);
        for (n, record) in records.iter().enumerate().skip(skip) {
            self.take(record);
            if self.is_full().is_break() {
                return Ok(Some((n + 1).to_string()));
            }
        }
        Ok(None)
    }

    fn take(&mut self, record: &Record) {
        if let Some((event, bytes)) = event(record, self.query) {
            self.events.push(event);
            self.bytes += bytes;
        }
    }

    fn is_full(&self) -> ControlFlow<()> {
        if self.events.len() >= self.query.limit || self.bytes >= MAX_BYTES {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

fn no_token() -> ApiError {
    wrong("The specified nextToken is invalid.".to_owned())
}

fn wrong(message: String) -> ApiError {
    ApiError::new(ErrorName::InvalidParameter, message)
}

fn check_group(call: &Call) -> Result<(), ApiError> {
    let name = call.text("logGroupName")?;
    let name = name.or(call.text("logGroupIdentifier")?);
    let name = name.ok_or_else(|| wrong("logGroupName is missing".to_owned()))?;
    // An ARN ends with the name.
    if name == GROUP || name.ends_with(&format!(":log-group:{GROUP}")) {
        return Ok(());
    }
    let message = "The specified log group does not exist.";
    Err(ApiError::new(ErrorName::ResourceNotFound, message))
}

fn query(call: &Call) -> Result<Query, ApiError> {
    let body = call.body();
    let millis = |name: &str| -> Result<Option<i64>, ApiError> {
        let number: Option<u64> = body.number(name)?;
        Ok(number.map(|n| i64::try_from(n).unwrap_or(i64::MAX)))
    };
    let pattern = call.text("filterPattern")?.unwrap_or_default();
    let (from, to) = (millis("startTime")?, millis("endTime")?);
    let (from, to) = (from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX));
    if from > to {
        return Err(wrong("startTime is later than endTime".to_owned()));
    }
    let limit = body.number("limit")?.unwrap_or(MAX_EVENTS);
    if !(1..=MAX_EVENTS).contains(&limit) {
        return Err(wrong(format!("limit is not 1 to {MAX_EVENTS}")));
    }
    Ok(Query {
        filter: Filter::parse(pattern).map_err(|error| wrong(error.to_string()))?,
        from,
        to,
        token: call.text("nextToken")?.map(str::to_owned),
        limit,
    })
}

/// Whether a line may be of the time that is asked for, as far as that shows without reading all of
/// it: a record begins with its timestamp.
fn is_within(line: &[u8], query: &Query) -> bool {
    let text = line
        .strip_prefix(b"{\"timestamp\":\"")
        .and_then(|rest| rest.get(..23));
    let at = text.and_then(|text| instant(std::str::from_utf8(text).ok()?));
    at.is_none_or(|at| (query.from..=query.to).contains(&at))
}

/// An event with the length of its message; `None` for what is not asked for.
fn event(record: &Record, query: &Query) -> Option<(Value, usize)> {
    let at = instant(&record.timestamp)?;
    if !(query.from..=query.to).contains(&at) {
        return None;
    }
    let message = serde_json::to_string(&record.cloudwatch()?).ok()?;
    if !query.filter.fits(&message) {
        return None;
    }
    let bytes = message.len();
    let event = json!({
        "logStreamName": STREAM,
        "timestamp": at,
        "message": message,
        "ingestionTime": at,
        "eventId": event_id(at, &record.trace_id),
    });
    Some((event, bytes))
}

/// 56 digits, as AWS's have; the same whenever the event is found.
fn event_id(at: i64, trace: &str) -> String {
    let digits = trace.replace('-', "");
    let number = u128::from_str_radix(&digits, 16).unwrap_or_default() % 10_u128.pow(36);
    format!("{at:020}{number:036}")
}

/// Milliseconds of `YYYY-MM-DD HH:MM:SS.mmm`.
fn instant(text: &str) -> Option<i64> {
    let (whole, millis) = text.split_once('.')?;
    let at: UtcTime = format!("{}Z", whole.replace(' ', "T")).parse().ok()?;
    Some(at.unix() * 1000 + millis.parse::<i64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_an_instant() {
        assert_eq!(instant("2019-04-28 22:05:30.105"), Some(1_556_489_130_105));
        assert_eq!(instant("yesterday"), None);
    }
}
