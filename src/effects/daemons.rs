//! Time daemons of this machine, by their sockets and files.

use std::io::{ErrorKind, Read};
use std::net::UdpSocket;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::clock::SystemClock;
use crate::core::clock::Daemon;
use crate::core::clock::daemon::ntpd_rs;
use crate::core::endpoint::Endpoint;
use crate::core::time::UtcTime;
use crate::ports::{Clock, DaemonPlace, Heard, Place, TimeDaemons};

/// The most of a datagram that is looked at.
const MAX_DATAGRAM: usize = 2048;

/// The machine's own daemons.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDaemons;

impl TimeDaemons for LocalDaemons {
    fn look(
        &self,
        places: &[DaemonPlace],
        timeout: Duration,
    ) -> Vec<Option<Result<Heard, String>>> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = places
                .iter()
                .map(|place| scope.spawn(move || look_at(place, timeout)))
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    let died = || Some(Err("the asking thread died".into()));
                    thread.join().unwrap_or_else(|_| died())
                })
                .collect()
        })
    }
}

fn look_at(place: &DaemonPlace, timeout: Duration) -> Option<Result<Heard, String>> {
    let heard = match (&place.at, place.daemon) {
        (Place::Path(folder), Daemon::Timesyncd) => return files(folder).map(Ok),
        (Place::Path(socket), Daemon::NtpdRs) => stream(socket, timeout),
        (Place::Path(socket), _) => datagram(socket, &place.question, timeout),
        (Place::Udp(endpoint), _) => udp(endpoint, &place.question, timeout),
    };
    match heard {
        Ok(bytes) => Some(Ok(Heard::Bytes(bytes))),
        // Nobody is there.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            None
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Some(Err("it did not answer in time".into()))
        }
        Err(error) => Some(Err(error.to_string())),
    }
}

fn udp(endpoint: &Endpoint, question: &[u8], timeout: Duration) -> std::io::Result<Vec<u8>> {
    let any = if endpoint.host.contains(':') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect((&endpoint.host[..], endpoint.port))?;
    socket.set_read_timeout(Some(timeout))?;
    socket.send(question)?;
    let mut bytes = vec![0; MAX_DATAGRAM];
    let count = socket.recv(&mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Our end of a datagram socket needs a name, in a folder that the daemon may write to: its own.
fn datagram(path: &Path, question: &[u8], timeout: Duration) -> std::io::Result<Vec<u8>> {
    let ours = Named(path.with_file_name(format!("nameplate.{}.sock", std::process::id())));
    if !path.exists() {
        return Err(ErrorKind::NotFound.into());
    }
    let socket = UnixDatagram::bind(&ours.0)?;
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&ours.0, everybody)?;
    socket.connect(path)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.send(question)?;
    let mut bytes = vec![0; MAX_DATAGRAM];
    let count = socket.recv(&mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// A socket file that goes when we do.
struct Named(PathBuf);

impl Drop for Named {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn stream(path: &Path, timeout: Duration) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(path)?;
    let deadline = SystemClock.monotonic() + timeout;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let left = deadline.saturating_sub(SystemClock.monotonic());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Ok(bytes),
            count if bytes.len() + count > ntpd_rs::MAX_BYTES => {
                return Err(std::io::Error::other("it says too much"));
            }
            count => bytes.extend_from_slice(&part[..count]),
        }
    }
}

/// systemd-timesyncd: `synchronized` in its run-time folder since it first set the clock, and `clock`
/// in its state folder, touched with the time every minute or so. `None` where it never ran.
fn files(run_time: &Path) -> Option<Heard> {
    let synchronised = run_time.join("synchronized").exists();
    let beside = run_time.join("clock");
    let places = [&beside, Path::new("/var/lib/systemd/timesync/clock")];
    let usual = run_time == Path::new("/run/systemd/timesync");
    let touched = places
        .iter()
        .take(if usual { 2 } else { 1 })
        .filter_map(|path| std::fs::metadata(path).ok()?.modified().ok())
        .filter_map(|at| at.duration_since(UNIX_EPOCH).ok())
        .filter_map(|at| i64::try_from(at.as_secs()).ok())
        .max();
    let saved = touched.map(UtcTime::from_unix);
    let ran = synchronised || saved.is_some();
    ran.then_some(Heard::Files {
        synchronised,
        saved,
    })
}
