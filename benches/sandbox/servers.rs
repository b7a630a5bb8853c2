//! The servers that are measured, each a process of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt;

use crate::fleet::{REGION, provider};

/// How long a server may take to start.
const START: Duration = Duration::from_mins(1);

/// A server that runs until it is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) port: u16,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Its resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap()
    }

    /// The processor time that it has taken, in ticks of 10 ms, as seconds.
    pub(crate) fn cpu(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The fields after the name, which may have spaces: utime is the 12th of them.
        let fields: Vec<&str> = text
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11..13]
            .iter()
            .map(|n| n.parse::<f64>().unwrap())
            .sum();
        ticks / 100.0
    }
}

/// `sandbox serve` over a state folder; also how long it took until it listened.
pub(crate) fn sandbox(state: &Path) -> (Process, Duration) {
    let begun = Instant::now();
    let program = std::env::var_os("NAMEPLATE_BENCH_PROGRAM");
    let child = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_nameplate").into()))
        .args(["sandbox", "serve", "--control", "127.0.0.1:0"])
        .args(["--mqtt", "127.0.0.1:0", "--jitp-delay", "0s", "--state"])
        .arg(state)
        .env("AWS_REGION", REGION)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut process = Process { child, port: 0 };
    loop {
        let text = fs::read_to_string(state.join("running.json")).unwrap_or_default();
        let running: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if running["pid"] == process.child.id() {
            process.port = u16::try_from(running["mqtt_port"].as_u64().unwrap()).unwrap();
            break;
        }
        assert!(begun.elapsed() < START, "the sandbox does not start");
        assert!(
            process.child.try_wait().unwrap().is_none(),
            "the sandbox has ended"
        );
        std::thread::sleep(Duration::from_micros(200));
    }
    TcpStream::connect((Ipv4Addr::LOCALHOST, process.port)).unwrap();
    (process, begun.elapsed())
}

/// mosquitto with the certificates in a folder; `None` where it is not installed.
pub(crate) fn mosquitto(folder: &Path) -> Option<Process> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let file = |name| folder.join(name).display().to_string();
    let text = format!(
        "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
         use_identity_as_username true\npersistence false\nlog_type none\nset_tcp_nodelay true\n\
         acl_file {}\nuser root\n",
        file("devices.pem"),
        file("server.pem"),
        file("server.key"),
        file("acl"),
    );
    fs::write(folder.join("acl"), "pattern write devices/%u/telemetry\n").unwrap();
    fs::write(folder.join("mosquitto.conf"), text).unwrap();
    let child = Command::new("mosquitto")
        .args(["-c", &file("mosquitto.conf")])
        .env(
            "PATH",
            "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/bin",
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let process = Process { child, port };
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(begun.elapsed() < START, "mosquitto does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(process)
}

/// This program once more, as [`serve_handshakes`].
pub(crate) fn bare(folder: &Path) -> Process {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--bare")
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    Process {
        port: line.trim().parse().unwrap(),
        child,
    }
}

/// Does mutual handshakes, verifies the client by its CA, and closes; until stdin ends. The runtime
/// and TLS are the sandbox's.
pub(crate) fn serve_handshakes(folder: &Path) {
    let read = |name| fs::read(folder.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(&read("devices.pem")).unwrap();
    roots.add(ca).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
    let chain = vec![CertificateDer::from_pem_slice(&read("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&read("server.key")).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.spawn(async move {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        loop {
            let Ok((tcp, _)) = listener.accept().await else {
                continue;
            };
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let _ = tcp.set_nodelay(true);
                if let Ok(mut stream) = acceptor.accept(tcp).await {
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
