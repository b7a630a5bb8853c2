//! The control plane's REST interface, as the API model has it (rest-json, `iot` 2015-05-28):
//! paths, query strings, headers, error names and statuses that an unmodified AWS SDK expects.
//!
//! Any SigV4 signature is taken, whatever the credentials: the sandbox has one account and no IAM.

mod ca;
mod call;
mod certificate;
mod group;
mod issue;
mod page;
mod policy;
mod template;
mod thing;

use std::sync::PoisonError;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use serde_json::{Value, json};

use super::Shared;
use super::registry::{ApiError, ErrorName, Registry};
use call::Call;

/// The largest body that is read, in bytes: above a policy document of 404 600 characters, the
/// largest member of the API model.
const MAX_BODY: usize = 1 << 20;

/// One operation of the API.
struct Operation {
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
}

const fn operation(
    method: MethodFilter,
    path: &'static str,
    run: fn(&mut Registry, &Call) -> Result<Value, ApiError>,
) -> Operation {
    let run = Handler::Quick(run);
    Operation { method, path, run }
}

const fn slow_operation(
    method: MethodFilter,
    path: &'static str,
    run: fn(&Shared, &Call) -> Result<Value, ApiError>,
) -> Operation {
    let run = Handler::Slow(run);
    Operation { method, path, run }
}

/// The router of the control plane.
pub fn router(shared: Shared) -> Router {
    let sets = [
        ca::OPERATIONS,
        certificate::OPERATIONS,
        group::OPERATIONS,
        issue::OPERATIONS,
        policy::OPERATIONS,
        template::OPERATIONS,
        thing::OPERATIONS,
        &[operation(MethodFilter::GET, "/endpoint", describe_endpoint)],
    ];
    let mut router = Router::new();
    for one in sets.into_iter().flatten() {
        let run = one.run;
        let handler = move |State(shared): State<Shared>, labels: RawPathParams, request| {
            serve(shared, run, labels, request)
        };
        router = router.route(one.path, on(one.method, handler));
    }
    router
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(shared)
}

async fn serve(shared: Shared, run: Handler, labels: RawPathParams, request: Request) -> Response {
    if let Err(error) = signed(&request) {
        return failure(&error);
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return failure(&ApiError::invalid(
            "the request's body is longer than 1048576 bytes, or broke off",
        ));
    };
    let labels = labels
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let answer = Call::new(&shared, &parts, labels, &body).and_then(|call| match run {
        Handler::Quick(run) => {
            let registry = &shared.registry;
            run(
                &mut registry.lock().unwrap_or_else(PoisonError::into_inner),
                &call,
            )
        }
        Handler::Slow(run) => tokio::task::block_in_place(|| run(&shared, &call)),
    });
    match answer {
        Ok(value) => success(&value),
        Err(error) => failure(&error),
    }
}

async fn unknown(request: Request) -> Response {
    let route = format!("{} {}", request.method(), request.uri().path());
    failure(&ApiError::new(
        ErrorName::UnknownOperation,
        format!("the sandbox does not speak `{route}`"),
    ))
}

/// Whether the request carries a signature, in its header or its query string.
fn signed(request: &Request) -> Result<(), ApiError> {
    let header = request.headers().contains_key(header::AUTHORIZATION);
    let query = request.uri().query().unwrap_or_default();
    if header || query.contains("X-Amz-Signature=") {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorName::MissingAuthenticationToken,
        "Missing Authentication Token: the request is not signed (SigV4)",
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
    let status = StatusCode::from_u16(error.name.status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(status, body.to_string());
    let name = HeaderValue::from_static(error.name.as_str());
    response.headers_mut().insert("x-amzn-errortype", name);
    response
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
