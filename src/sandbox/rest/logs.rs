//! CloudWatch Logs over the sandbox's own records: `FilterLogEvents` of the group `AWSIotLogsV2`
//! (JSON 1.1, API version 2014-03-28).

use serde_json::{Value, json};

use super::call::Call;
use crate::core::logfilter::Filter;
use crate::core::time::UtcTime;
use crate::sandbox::Shared;
use crate::sandbox::logs::Record;
use crate::sandbox::registry::{ApiError, ErrorName};

/// The header that names the operation, and the only one there is.
pub(super) const TARGET: &str = "x-amz-target";
pub(super) const FILTER_LOG_EVENTS: &str = "Logs_20140328.FilterLogEvents";
/// AWS IoT's log group, and the one stream that we put everything into.
const GROUP: &str = "AWSIotLogsV2";
const STREAM: &str = "sandbox";
/// The most events of one answer (API model).
const MAX_EVENTS: usize = 10_000;

/// What is asked for.
struct Query {
    filter: Filter,
    from: i64,
    to: i64,
    skip: usize,
    limit: usize,
}

pub(super) fn filter_log_events(shared: &Shared, call: &Call) -> Result<Value, ApiError> {
    check_group(call)?;
    let query = query(call)?;
    let streams = call.body().list("logStreamNames")?;
    let prefix = call.text("logStreamNamePrefix")?.unwrap_or_default();
    let searched = (streams.is_empty() || streams.iter().any(|one| one == STREAM))
        && STREAM.starts_with(prefix);
    let records = if searched {
        shared.logs.recent()
    } else {
        Vec::new()
    };
    let mut found = records
        .iter()
        .enumerate()
        .filter_map(|(n, record)| event(n, record, &query))
        .skip(query.skip);
    let events: Vec<Value> = found.by_ref().take(query.limit).collect();
    let more = found.next().is_some();
    let mut answer = json!({ "events": events, "searchedLogStreams": [] });
    if more {
        answer["nextToken"] = (query.skip + query.limit).to_string().into();
    }
    Ok(answer)
}

fn check_group(call: &Call) -> Result<(), ApiError> {
    let name = call.text("logGroupName")?;
    let name = name.or(call.text("logGroupIdentifier")?);
    let name = name.ok_or_else(|| super::call::missing("logGroupName"))?;
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
    let skip = call.text("nextToken")?.map(str::parse).transpose();
    let limit = body.number("limit")?.unwrap_or(MAX_EVENTS);
    if !(1..=MAX_EVENTS).contains(&limit) {
        return Err(ApiError::invalid(format!("limit is not 1 to {MAX_EVENTS}")));
    }
    Ok(Query {
        filter: Filter::parse(pattern)
            .map_err(|error| ApiError::new(ErrorName::InvalidParameter, error.to_string()))?,
        from: millis("startTime")?.unwrap_or(i64::MIN),
        to: millis("endTime")?.unwrap_or(i64::MAX),
        skip: skip
            .map_err(|_| ApiError::invalid("the token is not one of ours"))?
            .unwrap_or(0),
        limit,
    })
}

fn event(number: usize, record: &Record, query: &Query) -> Option<Value> {
    let at = instant(&record.timestamp)?;
    let message = serde_json::to_string(&record.cloudwatch()?).ok()?;
    let wanted = (query.from..query.to).contains(&at) && query.filter.fits(&message);
    wanted.then(|| {
        json!({
            "logStreamName": STREAM,
            "timestamp": at,
            "message": message,
            "ingestionTime": at,
            "eventId": format!("{at:020}{number:036}"),
        })
    })
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
