//! Connections that break as the faults say, before and around what is said on them.

use std::future::Future;
use std::net::Shutdown;
use std::pin::pin;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

use super::connection::stopped;
use super::faults::{FaultName, Faults};
use super::logs::{Logs, Record, Stage, Why};

/// The header of a TLS record, which rustls counts into a fragment's size.
const RECORD_HEADER: usize = 5;

/// TLS with records as small as the faults say.
pub(super) fn fragmented(config: &Arc<ServerConfig>, faults: &Faults) -> Arc<ServerConfig> {
    let Some(bytes) = faults.get(FaultName::TlsFragments) else {
        return Arc::clone(config);
    };
    let mut config = ServerConfig::clone(config);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    config.max_fragment_size = Some(bytes.saturating_add(RECORD_HEADER));
    Arc::new(config)
}

/// Lets a connection go on, late or not at all, and breaks it off when its time is over.
pub(super) async fn meet<F: Future<Output = ()>>(
    (faults, logs): (&Faults, &Logs),
    mut tcp: TcpStream,
    mut stop: watch::Receiver<bool>,
    serve: impl FnOnce(TcpStream) -> F,
) {
    if faults.drops() {
        return note(logs, &tcp, FaultName::ConnectionDrop);
    }
    if faults.has(FaultName::ConnectionHalfOpen) {
        note(logs, &tcp, FaultName::ConnectionHalfOpen);
        tokio::select! {
            () = swallow(&mut tcp) => {}
            () = stopped(&mut stop) => {}
        }
        return;
    }
    let delay = faults.span(FaultName::ConnectionDelay);
    if !delay.is_zero() {
        tokio::select! {
            () = sleep(delay) => {}
            () = stopped(&mut stop) => return,
        }
    }
    if !faults.has(FaultName::ConnectionCut) {
        return serve(tcp).await;
    }
    let Some((tcp, twin)) = twin(tcp) else { return };
    let mut served = pin!(serve(tcp));
    tokio::select! {
        () = &mut served => return,
        () = sleep(faults.span(FaultName::ConnectionCut)) => {}
    }
    // Both sides see the connection end; what is served here then cleans up after itself.
    let _ = twin.shutdown(Shutdown::Both);
    served.await;
}

fn twin(tcp: TcpStream) -> Option<(TcpStream, std::net::TcpStream)> {
    let tcp = tcp.into_std().ok()?;
    let twin = tcp.try_clone().ok()?;
    Some((TcpStream::from_std(tcp).ok()?, twin))
}

/// Reads until the client gives up.
async fn swallow(tcp: &mut TcpStream) {
    let mut bytes = [0; 1024];
    while matches!(tcp.read(&mut bytes).await, Ok(read) if read > 0) {}
}

fn note(logs: &Logs, tcp: &TcpStream, fault: FaultName) {
    let name = fault.as_str();
    let remedy = format!("end the fault: `nameplate sandbox fault clear {name}`");
    let why = Why::new(Stage::Tcp, format!("fault.{name}"), remedy);
    let details = format!("the fault `{name}` is set");
    if let Ok(address) = tcp.peer_addr() {
        let record = Record::failure("Connect", "SERVER_ERROR", details).why(why);
        logs.write(record.of(address, None, None));
    }
}
