//! What stands before the control plane: its faults, and the records of what it refuses.

use std::net::SocketAddr;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::Desk;
use crate::ports::Clock;
use crate::sandbox::faults::FaultName;
use crate::sandbox::logs::{CONTROL_PLANE, Record, Stage, Why};

/// The largest error body that is read for the record.
const MAX_ERROR: usize = 64 * 1024;

/// Delays and throttles calls as the faults say, and writes a record of each that is refused.
pub(in crate::sandbox) async fn watch(
    State(desk): State<Desk>,
    request: Request,
    next: Next,
) -> Response {
    let delay = desk.faults.span(FaultName::RestDelay);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let from = from.map(|ConnectInfo(address)| *address);
    let asks = request.method() == Method::GET;
    let call = format!("{} {}", request.method(), request.uri().path());
    let response = if desk.faults.throttles_call(desk.clock.monotonic()) {
        throttled(request.uri().path())
    } else {
        next.run(request).await
    };
    // "It is not there" is an answer to a question, not a refusal.
    if asks && response.status() == StatusCode::NOT_FOUND {
        return response;
    }
    if response.status().is_client_error() || response.status().is_server_error() {
        return record(&desk, from, &call, response).await;
    }
    response
}

/// The paths of `iot-data`.
const DATA: [&str; 3] = ["/topics/", "/retainedMessage", "/connections/"];

/// 400, or of `iot-data` 429, as AWS has it.
fn throttled(path: &str) -> Response {
    let of_data = DATA.iter().any(|data| path.starts_with(data));
    let body = r#"{"message":"Rate exceeded"}"#;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = if of_data {
        StatusCode::TOO_MANY_REQUESTS
    } else {
        StatusCode::BAD_REQUEST
    };
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(
        "x-amzn-errortype",
        HeaderValue::from_static("ThrottlingException"),
    );
    response.extensions_mut().insert(ByFault);
    response
}

/// Marks an answer that a fault has made.
#[derive(Clone)]
struct ByFault;

async fn record(desk: &Desk, from: Option<SocketAddr>, call: &str, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let name = parts.headers.get("x-amzn-errortype");
    let name = name.and_then(|name| name.to_str().ok());
    let name = name.map_or_else(|| parts.status.to_string(), str::to_owned);
    let Ok(bytes) = to_bytes(body, MAX_ERROR).await else {
        return Response::from_parts(parts, Body::empty());
    };
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let message = json["message"].as_str().unwrap_or("no message");
    let why = if parts.extensions.get::<ByFault>().is_some() {
        let remedy = "wait and try again, with back-off; or end the fault: `nameplate sandbox fault \
                      clear rest-throttle`";
        Why::new(Stage::Rest, "fault.rest-throttle", remedy)
    } else {
        Why::new(Stage::Rest, format!("rest.{name}"), remedy(&name))
    };
    let mut record = Record::failure(CONTROL_PLANE, &name, format!("{call}: {message}")).why(why);
    record.protocol = Some("HTTP".into());
    record.source_ip = from.map(|address| address.ip().to_string());
    record.source_port = from.map(|address| address.port());
    desk.shared.logs.write(record);
    Response::from_parts(parts, Body::from(bytes))
}

fn remedy(name: &str) -> &'static str {
    match name {
        "ThrottlingException" => "wait and try again, with back-off, as AWS's SDKs do",
        "ResourceNotFoundException" => "create it first, or look at its name and its Region",
        "ResourceAlreadyExistsException" => "use what is there, or another name",
        "DeleteConflictException" => "detach it from what uses it first",
        "MissingAuthenticationTokenException" => {
            "sign the request (SigV4): any credentials will do unless --auth known is set"
        }
        "InternalFailureException" => "look at the disk of the state folder, then try again",
        _ => "change the request as the details say",
    }
}
