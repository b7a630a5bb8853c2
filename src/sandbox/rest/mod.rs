//! The control plane's REST interface, as the API model has it (rest-json, `iot` 2015-05-28):
//! paths, query strings, headers, error names and statuses that an unmodified AWS SDK expects.
//!
//! The signature tells the account and the Region (`sandbox::auth`); there is no IAM.

mod authorize;
mod billing;
mod ca;
mod call;
mod certificate;
mod data;
mod dynamic;
mod group;
mod issue;
mod logs;
mod page;
mod policy;
mod principal;
/// One operation without a network.
pub mod replay;
mod tags;
mod task;
mod template;
mod thing;
mod types;

use std::sync::{Arc, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodFilter, get, on};
use serde_json::{Value, json};

use super::Shared;
use super::auth::Keyring;
use super::quota::Quotas;
use super::registry::{ApiError, ErrorName, Registry};
use super::worlds::Worlds;
use crate::ports::Clock;
use call::Call;

/// The largest body that is read, in bytes: above a policy document of 404 600 characters, the
/// largest member of the API model.
const MAX_BODY: usize = 1 << 20;

/// One operation of the API.
struct Operation {
    /// Its name in the API model.
    name: &'static str,
    method: MethodFilter,
    path: &'static str,
    run: Handler,
}

/// How an operation is run.
#[derive(Clone, Copy)]
enum Handler {
    /// While it holds the registry.
    Quick(fn(&mut Registry, &Call) -> Result<Value, ApiError>),
    /// On a thread that may block, without holding anything.
    Slow(fn(&Shared, &Call) -> Result<Value, ApiError>),
    /// As `Slow`, with a body that is no JSON.
    Raw(fn(&Shared, &Call) -> Result<Value, ApiError>),
}

const fn operation(
    name: &'static str,
    method: MethodFilter,
    path: &'static str,
    run: fn(&mut Registry, &Call) -> Result<Value, ApiError>,
) -> Operation {
    let run = Handler::Quick(run);
    Operation {
        name,
        method,
        path,
        run,
    }
}

const fn slow_operation(
    name: &'static str,
    method: MethodFilter,
    path: &'static str,
    run: fn(&Shared, &Call) -> Result<Value, ApiError>,
) -> Operation {
    let run = Handler::Slow(run);
    Operation {
        name,
        method,
        path,
        run,
    }
}

const fn raw_operation(
    name: &'static str,
    method: MethodFilter,
    path: &'static str,
    run: fn(&Shared, &Call) -> Result<Value, ApiError>,
) -> Operation {
    let run = Handler::Raw(run);
    Operation {
        name,
        method,
        path,
        run,
    }
}

/// Every operation.
const SETS: &[&[Operation]] = &[
    authorize::OPERATIONS,
    billing::OPERATIONS,
    ca::OPERATIONS,
    certificate::OPERATIONS,
    data::CONNECTIVITY,
    data::OPERATIONS,
    dynamic::OPERATIONS,
    group::OPERATIONS,
    issue::OPERATIONS,
    policy::OPERATIONS,
    principal::OPERATIONS,
    tags::OPERATIONS,
    task::OPERATIONS,
    template::OPERATIONS,
    thing::OPERATIONS,
    types::OPERATIONS,
    ENDPOINT,
    LOGS,
];

/// Whom the control plane serves, and how.
pub struct Front {
    /// Every account and Region.
    pub worlds: Arc<Worlds>,
    /// Whose signatures are taken.
    pub keyring: Keyring,
    /// How many calls a second.
    pub quotas: Quotas,
    /// The machine's own time, by which clients sign.
    pub machine: Arc<dyn Clock + Send + Sync>,
}

/// The router of the control plane.
pub fn router(front: Arc<Front>) -> Router {
    let mut router = Router::new();
    for one in SETS.iter().copied().flatten() {
        let handler = move |State(front): State<Arc<Front>>, labels: RawPathParams, request| async move {
            let outcome = serve(&front, one, labels, request).await;
            match outcome {
                Ok(value) => success(&value),
                Err(error) if one.path == "/" => typed_failure(&error),
                Err(error) => failure(&error),
            }
        };
        router = router.route(one.path, on(one.method, handler));
    }
    router
        .route("/registration-reports/{id}/{file}", get(task::report))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(front)
}

/// Runs one operation in the place that its caller means.
async fn serve(
    front: &Front,
    operation: &Operation,
    labels: RawPathParams,
    request: Request,
) -> Result<Value, ApiError> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await;
    let home = front.worlds.home().logs.place();
    let now = front.machine.now();
    let bytes = body.as_deref().unwrap_or_default();
    let place = front.keyring.identify(&parts, bytes, home, now);
    let (place, body) = match (place, body) {
        (Err(error), _) => return Err(error),
        (_, Err(_)) => {
            let message = "the request's body is longer than 1048576 bytes, or broke off";
            return Err(ApiError::invalid(message));
        }
        (Ok(place), Ok(body)) => (place, body),
    };
    let tick = front.machine.monotonic();
    let taken = front.quotas.take(&place, operation.name, tick);
    taken.map_err(|error| data::throttled(operation, error))?;
    let shared = front.worlds.of(&place)?;
    let labels = labels
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let call = match operation.run {
        Handler::Raw(_) => Call::new(&shared, &parts, labels, b"")?.with_payload(&body),
        _ => Call::new(&shared, &parts, labels, &body)?,
    };
    match operation.run {
        Handler::Quick(run) => {
            let registry = shared.registry.lock();
            run(&mut registry.unwrap_or_else(PoisonError::into_inner), &call)
        }
        Handler::Slow(run) | Handler::Raw(run) => {
            tokio::task::block_in_place(|| run(&shared, &call))
        }
    }
}

async fn unknown(request: Request) -> Response {
    let route = format!("{} {}", request.method(), request.uri().path());
    failure(&ApiError::new(
        ErrorName::UnknownOperation,
        format!("the sandbox does not speak `{route}`"),
    ))
}

fn success(value: &Value) -> Response {
    let body = if value.is_null() {
        String::new()
    } else {
        value.to_string()
    };
    respond(StatusCode::OK, body)
}

fn failure(error: &ApiError) -> Response {
    let mut body = json!({ "message": error.message });
    if let Some((id, arn)) = &error.resource {
        body["resourceId"] = id.clone().into();
        body["resourceArn"] = arn.clone().into();
    }
    let status = StatusCode::from_u16(error.status);
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(status, body.to_string());
    let name = HeaderValue::from_static(error.name.as_str());
    response.headers_mut().insert("x-amzn-errortype", name);
    response
}

/// As the JSON protocol has it: the name is a member of the body.
fn typed_failure(error: &ApiError) -> Response {
    let body = json!({ "__type": error.name.as_str(), "message": error.message });
    let status = StatusCode::from_u16(error.status);
    respond(
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        body.to_string(),
    )
}

fn respond(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    let id = super::registry::uuid().unwrap_or_default();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}

const LOGS: &[Operation] = &[slow_operation(
    "FilterLogEvents",
    MethodFilter::POST,
    "/",
    json_operation,
)];

/// The JSON protocol has one path; a header says what is asked.
fn json_operation(shared: &Shared, call: &Call) -> Result<Value, ApiError> {
    match call.header(logs::TARGET)? {
        logs::FILTER_LOG_EVENTS => logs::filter_log_events(shared, call),
        other => {
            let shown: String = other.chars().take(80).collect();
            Err(ApiError::new(
                ErrorName::UnknownOperation,
                format!("the sandbox does not speak `{shown}`"),
            ))
        }
    }
}

const ENDPOINT: &[Operation] = &[operation(
    "DescribeEndpoint",
    MethodFilter::GET,
    "/endpoint",
    describe_endpoint,
)];

fn describe_endpoint(_: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    match call.query("endpointType") {
        None | Some("iot:Data" | "iot:Data-ATS") => {
            Ok(json!({ "endpointAddress": &*call.endpoint }))
        }
        Some(other) => Err(ApiError::invalid(format!(
            "the sandbox has no endpoint of type `{other}`"
        ))),
    }
}
