//! The sandbox's own interface, on loopback alone: what it counted, who is connected, its faults
//! and its clock. Whoever has the token of the state folder may use it. Beside it, the page.

mod client;
mod page;
mod serve;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;

pub use client::{Admin, AdminError};
pub(super) use serve::AdminParts;
pub use serve::Controls;
pub(super) use watch::watch;

use super::Shared;
use super::clock::{ClockChange, SandboxClock};
use super::faults::{Fault, FaultName, Faults};
use super::logs::LiveConnection;
use crate::core::time::UtcTime;
use crate::ports::Clock;

/// The file of the token, mode 0600.
pub const TOKEN: &str = "admin-token";

/// What the sandbox tells of itself.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
pub struct Now {
    /// What its clock shows.
    pub time: UtcTime,
    /// How many times as fast as the machine's it runs.
    pub clock_rate: u32,
    /// The faults that are set, as they are given.
    pub faults: Vec<String>,
    /// What was counted since the start, by CloudWatch's names.
    pub metrics: BTreeMap<String, u64>,
    /// Who is connected.
    pub connections: Vec<LiveConnection>,
}

/// A change of the faults or the clock.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Sets a fault: `NAME[=VALUE]`.
    SetFault(String),
    /// Ends a fault.
    ClearFault(String),
    /// Ends all faults.
    ClearFaults,
    /// Changes the clock: `offset=+3h`.
    Clock(String),
}

/// What the interface works on.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) shared: Shared,
    pub(super) clock: Arc<SandboxClock>,
    pub(super) faults: Arc<Faults>,
    /// Who has it may use the interface.
    pub(super) token: Arc<str>,
}

impl Desk {
    fn now(&self) -> Now {
        let metrics = self.shared.logs.metrics();
        Now {
            time: self.clock.now(),
            clock_rate: self.clock.rate(),
            faults: self.faults.all().iter().map(Fault::to_string).collect(),
            metrics: metrics
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect(),
            connections: self.shared.logs.live(),
        }
    }

    fn change(&self, change: Change) -> Result<(), String> {
        match change {
            Change::SetFault(text) => self.faults.set(text.parse::<Fault>()?),
            Change::ClearFault(text) => self.faults.clear(text.parse::<FaultName>()?),
            Change::ClearFaults => self.faults.clear_all(),
            Change::Clock(text) => self.clock.change(text.parse::<ClockChange>()?),
        }
        Ok(())
    }
}

/// The interface.
pub(super) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/now", get(now))
        .route("/change", post(change))
        .layer(middleware::from_fn_with_state(desk.clone(), authorized))
        .with_state(desk)
}

/// The page, for whoever sits at this machine.
pub(super) fn page(desk: Desk, address: SocketAddr) -> Router {
    page::router(desk, address)
}

async fn now(State(desk): State<Desk>) -> Json<Now> {
    Json(desk.now())
}

async fn change(State(desk): State<Desk>, Json(change): Json<Change>) -> Response {
    match desk.change(change) {
        Ok(()) => Json(desk.now()).into_response(),
        Err(error) => refusal(StatusCode::BAD_REQUEST, &error),
    }
}

async fn authorized(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // Digests are compared, so that the time it takes tells nothing of the token.
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let wanted = digest(&desk.token);
    if given.is_some_and(|given| digest(given).as_ref() == wanted.as_ref()) {
        return next.run(request).await;
    }
    let message = "the token is not the one in the sandbox's state folder";
    refusal(StatusCode::FORBIDDEN, message)
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "message": message }))).into_response()
}
