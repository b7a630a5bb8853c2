//! One operation without a network: for the fuzz targets, and whoever drives them.

use std::collections::HashMap;

use axum::http::Request;

use super::call::Call;
use super::{Handler, SETS};
use crate::sandbox::Shared;
use crate::sandbox::registry::ApiError;

/// Runs an operation by its name, with `text` for every label of its path and every header that it
/// reads. Operations that make keys or run beside are left out. `None` when there is no such
/// operation, or `query` is no query string.
pub fn replay(
    shared: &Shared,
    operation: &str,
    text: &str,
    query: &str,
    body: &[u8],
) -> Option<Result<serde_json::Value, ApiError>> {
    let mut all = SETS.iter().copied().flatten();
    let found = all.find(|one| one.name == operation)?;
    let Handler::Quick(run) = found.run else {
        return None;
    };
    let mut request = Request::builder().uri(format!("/?{query}"));
    for header in [
        "x-amzn-principal",
        "x-amzn-iot-principal",
        "x-amzn-iot-policy",
    ] {
        request = request.header(header, text);
    }
    let (parts, ()) = request.body(()).ok()?.into_parts();
    let labels: HashMap<String, String> = ["name", "id", "version", "target"]
        .map(|label| (label.to_owned(), text.to_owned()))
        .into();
    let answer = Call::new(shared, &parts, labels, body).and_then(|call| {
        let registry = shared.registry.lock();
        let mut registry = registry.unwrap_or_else(std::sync::PoisonError::into_inner);
        run(&mut registry, &call)
    });
    Some(answer)
}

/// The names of the operations that [`replay`] runs.
pub fn operations() -> impl Iterator<Item = &'static str> {
    let all = SETS.iter().copied().flatten();
    let quick = all.filter(|one| matches!(one.run, Handler::Quick(_)));
    quick.map(|one| one.name)
}
