//! Tunnels through an HTTP proxy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::dial::{connect_tcp, left, resolve};
use crate::core::endpoint::Endpoint;
use crate::core::proxy::{Proxy, answered};
use crate::ports::DialError;

/// Connects to the proxy and asks it for a tunnel; the address is the proxy's.
pub(super) fn tunnel(
    proxy: &Proxy,
    to: &Endpoint,
    deadline: Duration,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let failed = |reason: String| DialError::Proxy {
        proxy: proxy.endpoint.clone(),
        reason,
    };
    let reached = resolve(&proxy.endpoint, left(deadline))
        .and_then(|addresses| connect_tcp(&proxy.endpoint, &addresses, deadline));
    let (mut stream, address) = reached.map_err(|error| failed(error.to_string()))?;
    ask(&mut stream, proxy, to, deadline).map_err(failed)?;
    Ok((stream, address))
}

fn ask(
    stream: &mut TcpStream,
    proxy: &Proxy,
    to: &Endpoint,
    deadline: Duration,
) -> Result<(), String> {
    let io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            "it did not answer in time".to_owned()
        }
        _ => error.to_string(),
    };
    let within = left(deadline).max(Duration::from_millis(1));
    stream.set_write_timeout(Some(within)).map_err(io)?;
    stream.write_all(proxy.request(to).as_bytes()).map_err(io)?;
    let mut answer = Vec::new();
    loop {
        if answered(&answer)?.is_some() {
            return Ok(());
        }
        let left = left(deadline);
        if left.is_zero() {
            return Err("it did not answer in time".into());
        }
        stream.set_read_timeout(Some(left)).map_err(io)?;
        // Byte by byte: what comes after the answer belongs to the tunnel.
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => return Err("it closed the connection".into()),
            Ok(_) => answer.push(byte[0]),
            Err(error) => return Err(io(error)),
        }
    }
}
