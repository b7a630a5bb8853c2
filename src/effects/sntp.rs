//! Time servers over UDP.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::dial::resolve;
use crate::ports::{Answered, Clock, DialError, Question, TimeSource, Unanswered};

/// The most of a datagram that we look at.
const MAX_BYTES: usize = 2048;
/// How many addresses of one server are tried.
const MAX_ADDRESSES: usize = 4;

/// The machine's network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Udp;

impl TimeSource for Udp {
    fn ask(
        &self,
        questions: &[Question],
        timeout: Duration,
        clock: &(dyn Clock + Sync),
    ) -> Vec<Result<Answered, Unanswered>> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = questions
                .iter()
                .map(|question| scope.spawn(move || ask_one(question, timeout, clock)))
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    let died = || Unanswered::Unreachable("the asking thread died".into());
                    thread.join().unwrap_or_else(|_| Err(died()))
                })
                .collect()
        })
    }
}

fn ask_one(
    question: &Question,
    timeout: Duration,
    clock: &dyn Clock,
) -> Result<Answered, Unanswered> {
    let deadline = clock.monotonic() + timeout;
    let addresses = resolve(&question.server, timeout).map_err(|error| match error {
        DialError::Dns { reason, .. } => Unanswered::Dns(reason),
        _ => Unanswered::Dns("no answer in time".into()),
    })?;
    let tried = &addresses[..addresses.len().min(MAX_ADDRESSES)];
    let mut last = Unanswered::Timeout;
    for (n, address) in tried.iter().enumerate() {
        let others = u32::try_from(tried.len() - n).unwrap_or(1);
        let share = deadline.saturating_sub(clock.monotonic()) / others;
        match ask_address(*address, &question.packet, share, clock) {
            Ok(answered) => return Ok(answered),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask_address(
    address: SocketAddr,
    packet: &[u8],
    timeout: Duration,
    clock: &dyn Clock,
) -> Result<Answered, Unanswered> {
    let failed = |error: std::io::Error| Unanswered::Unreachable(error.to_string());
    let any = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).map_err(failed)?;
    // A connected socket takes datagrams from this address only.
    socket.connect(address).map_err(failed)?;
    let sent_nanos = clock.now_nanos();
    let start = clock.monotonic();
    socket.send(packet).map_err(failed)?;
    let mut stray = Err(Unanswered::Timeout);
    loop {
        let left = timeout.saturating_sub(clock.monotonic().saturating_sub(start));
        if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            return stray;
        }
        let mut bytes = vec![0; MAX_BYTES];
        let Ok(count) = socket.recv(&mut bytes).map_err(|error| {
            if error.kind() == std::io::ErrorKind::ConnectionRefused {
                stray = Err(failed(error));
            }
        }) else {
            return stray;
        };
        let passed =
            i128::try_from(clock.monotonic().saturating_sub(start).as_nanos()).unwrap_or(i128::MAX);
        bytes.truncate(count);
        // A datagram for another request may be forged: remember it, and wait for the true one.
        let ours = bytes.get(24..32) == packet.get(40..48);
        let answered = Answered {
            address: address.to_string(),
            sent_nanos,
            received_nanos: sent_nanos.saturating_add(passed),
            bytes,
        };
        if ours {
            return Ok(answered);
        }
        stray = Ok(answered);
    }
}
