//! Pages of lists: `marker`/`pageSize`/`nextMarker`, and `nextToken`/`maxResults`.

use serde_json::{Map, Value};

use super::call::Call;
use crate::core::ids::{hex, unhex};
use crate::core::time::UtcTime;
use crate::sandbox::registry::ApiError;

/// The default page, and the largest (API model: 1 to 250).
const DEFAULT_SIZE: usize = 25;
const MAX_SIZE: usize = 250;

/// The names of a style's parts.
pub(super) struct Style {
    token: &'static str,
    size: &'static str,
    next: &'static str,
}

/// `marker` and its like.
pub(super) const MARKER: Style = Style {
    token: "marker",
    size: "pageSize",
    next: "nextMarker",
};

/// `nextToken` and its like.
pub(super) const TOKEN: Style = Style {
    token: "nextToken",
    size: "maxResults",
    next: "nextToken",
};

/// One page of `all` under `name`: entries in order of their keys, which are distinct. A token is
/// the last key of the page before, so it stays good when entries come and go.
pub(super) fn page<T>(
    call: &Call,
    style: &Style,
    name: &str,
    list: Listing<T>,
) -> Result<Value, ApiError> {
    let size = call.number(style.size)?.unwrap_or(DEFAULT_SIZE);
    if !(1..=MAX_SIZE).contains(&size) {
        return Err(ApiError::invalid(format!(
            "{} is not 1 to {MAX_SIZE}",
            style.size
        )));
    }
    let after = call.query(style.token).map(name_of).transpose()?;
    let Listing {
        mut all,
        descending,
        show,
    } = list;
    all.sort_by(|a, b| {
        let order = a.0.cmp(&b.0);
        if descending { order.reverse() } else { order }
    });
    let is_later = |key: &str| match &after {
        None => true,
        Some(after) if descending => key < &after[..],
        Some(after) => key > &after[..],
    };
    let mut rest = all.into_iter().filter(|(key, _)| is_later(key)).peekable();
    let mut shown = Vec::new();
    let mut final_key = String::new();
    while shown.len() < size
        && let Some((key, item)) = rest.next()
    {
        shown.push(show(&item));
        final_key = key;
    }
    let mut answer = Map::new();
    answer.insert(name.to_owned(), shown.into());
    if rest.peek().is_some() {
        answer.insert(style.next.to_owned(), hex(final_key.as_bytes()).into());
    }
    Ok(answer.into())
}

/// What is listed, by key.
pub(super) struct Listing<T> {
    all: Vec<(String, T)>,
    descending: bool,
    show: Box<dyn Fn(&T) -> Value>,
}

impl<T> Listing<T> {
    /// In order of a name.
    pub(super) fn by_name(
        all: impl Iterator<Item = T>,
        name: impl Fn(&T) -> String,
        show: impl Fn(&T) -> Value + 'static,
    ) -> Self {
        Self {
            all: all.map(|item| (name(&item), item)).collect(),
            descending: false,
            show: Box::new(show),
        }
    }

    /// In order of creation, the newest first unless `isAscendingOrder` says otherwise.
    pub(super) fn by_date(
        call: &Call,
        all: impl Iterator<Item = T>,
        key: impl Fn(&T) -> (UtcTime, String),
        show: impl Fn(&T) -> Value + 'static,
    ) -> Result<Self, ApiError> {
        let key = |item: &T| {
            let (at, id) = key(item);
            // Instants before 1970 come before later ones, too.
            format!("{:013}/{id}", at.since(UtcTime::MIN).as_seconds())
        };
        let mut list = Self::by_name(all, key, show);
        list.descending = !call.flag("isAscendingOrder")?;
        Ok(list)
    }
}

/// The name that a page's token stands for.
fn name_of(token: &str) -> Result<String, ApiError> {
    unhex(token)
        .and_then(|name| String::from_utf8(name).ok())
        .ok_or_else(|| ApiError::invalid("the token is not one of ours"))
}
