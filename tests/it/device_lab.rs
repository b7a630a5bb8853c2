//! Real servers and hand-made identities for the tests of `preflight` and `connect`: OpenSSL,
//! chronyd, mosquitto and libfaketime. What is missing on the machine fails the test.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const CLIENT: &str = "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth\n";
pub(crate) const SERVER: &str = "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n";

/// A folder with a CA, whose things are gone when it is dropped.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
}

/// A child process that does not outlive its test.
pub(crate) struct Running {
    child: Child,
    pub(crate) port: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the program said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self}"))
    }

    /// The first check with this id.
    pub(crate) fn check(&self, id: &str) -> Value {
        let json = self.json();
        let checks = json["verdict"]["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["id"] == id);
        check.cloned().unwrap_or(Value::Null)
    }

    /// The status of the first check with this id.
    pub(crate) fn status(&self, id: &str) -> String {
        let json = self.json();
        let checks = json["verdict"]["checks"].as_array().unwrap().clone();
        let check = checks.iter().find(|check| check["id"] == id);
        check.map_or("absent".into(), |check| {
            check["status"].as_str().unwrap().to_owned()
        })
    }

    pub(crate) fn cause(&self) -> String {
        self.json()["verdict"]["cause"]
            .as_str()
            .unwrap_or("none")
            .to_owned()
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        lab.ca("ca");
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn openssl(&self, fake_time: Option<&str>, args: &str) {
        let mut command = Command::new("openssl");
        if let Some(at) = fake_time {
            fake(&mut command, at);
        }
        let output = command
            .args(args.split(' '))
            .current_dir(self.dir.path())
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "{args}: {output:?}");
    }

    /// A root CA: `NAME.key`, `NAME.pem`. Valid from 2026-11 on for ten years.
    pub(crate) fn ca(&self, name: &str) {
        self.openssl(
            None,
            &format!("ecparam -name prime256v1 -genkey -noout -out {name}.key"),
        );
        self.openssl(
            Some("@2026-11-02 00:00:00"),
            &format!(
                "req -x509 -new -key {name}.key -subj /CN={name} -days 3650 -out {name}.pem \
                 -addext keyUsage=critical,keyCertSign,cRLSign"
            ),
        );
    }

    /// `NAME.key` and `NAME.pem`, signed by `CA`, good for a year from `from`.
    pub(crate) fn leaf(&self, name: &str, cn: &str, ca: &str, extensions: &str, from: &str) {
        fs::write(self.path("ext"), extensions).unwrap();
        self.openssl(None, "ecparam -name prime256v1 -genkey -noout -out sec1");
        self.openssl(
            None,
            &format!("pkcs8 -topk8 -nocrypt -in sec1 -out {name}.key"),
        );
        self.openssl(
            None,
            &format!("req -new -key {name}.key -subj /CN={cn} -out csr"),
        );
        self.openssl(
            Some(from),
            &format!(
                "x509 -req -in csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days 365 \
                 -extfile ext -out {name}.pem"
            ),
        );
    }

    /// An identity folder for `NAME`, as nameplate lays it out.
    pub(crate) fn identity(&self, name: &str, ca: &str, extensions: &str, from: &str) -> String {
        self.leaf(name, name, ca, extensions, from);
        let folder = self.path(&format!("{name}.d"));
        fs::create_dir(&folder).unwrap();
        let read = |file: &str| fs::read_to_string(self.path(file)).unwrap();
        let key = folder.join("device.key.pem");
        fs::write(&key, read(&format!("{name}.key"))).unwrap();
        set_mode(&key, 0o600);
        let leaf = read(&format!("{name}.pem"));
        let issuer = read(&format!("{ca}.pem"));
        fs::write(folder.join("device.crt.pem"), &leaf).unwrap();
        fs::write(folder.join("chain.pem"), format!("{leaf}{issuer}")).unwrap();
        fs::write(folder.join("ca.pem"), issuer).unwrap();
        folder.to_str().unwrap().to_owned()
    }

    /// A good device.
    pub(crate) fn good(&self) -> String {
        self.identity("pump-1", "ca", CLIENT, "@2026-11-02 00:00:00")
    }

    /// chronyd on a loopback port, with its clock moved by `shift` (`+3h`); never touches ours.
    pub(crate) fn chronyd(&self, shift: Option<&str>) -> Running {
        let port = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let name = |kind: &str| self.text(&format!("chrony-{port}.{kind}"));
        let conf = format!(
            "port {port}\nbindaddress 127.0.0.1\nallow 127.0.0.0/8\nlocal stratum 1\ncmdport 0\n\
             bindcmdaddress /\npidfile {}\ndriftfile {}\nuser root\n",
            name("pid"),
            name("drift")
        );
        fs::write(name("conf"), conf).unwrap();
        let mut command = Command::new("/usr/sbin/chronyd");
        command.args(["-x", "-d", "-f", &name("conf")]);
        if let Some(shift) = shift {
            fake(&mut command, shift);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let running = Running {
            child: child.expect("chrony is installed"),
            port,
        };
        let mut question = [0_u8; 48];
        question[0] = 0x23;
        question[47] = 1;
        wait_for("chronyd", || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            socket.connect(("127.0.0.1", port)).unwrap();
            let mut answer = [0; 64];
            socket.send(&question).is_ok() && socket.recv(&mut answer).is_ok_and(|n| n == 48)
        });
        running
    }

    /// chronyd that follows `source` and is asked on its command port and by `chronyd.sock`; it may
    /// not steer the clock.
    pub(crate) fn chrony_client(&self, source: &str) -> Running {
        let port = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let (host, source_port) = source.split_once(':').unwrap();
        let (conf, socket) = (self.text("client.conf"), self.text("chronyd.sock"));
        let text = format!(
            "server {host} port {source_port} iburst minpoll 0 maxpoll 0 xleave\nport 0\n\
             cmdport {port}\nbindcmdaddress 127.0.0.1\nbindcmdaddress {socket}\n\
             pidfile {}\nuser root\n",
            self.text("client.pid")
        );
        fs::write(&conf, text).unwrap();
        // chronyd keeps its socket in a folder that is nobody else's.
        set_mode(self.dir.path(), 0o750);
        let child = Command::new("/usr/sbin/chronyd")
            .args(["-x", "-d", "-f", &conf])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let running = Running {
            child: child.expect("chrony is installed"),
            port,
        };
        let port = port.to_string();
        wait_for("chronyd's first update", || {
            let output = Command::new("chronyc")
                .args(["-h", "127.0.0.1", "-p", &port, "-c", "tracking"])
                .output()
                .expect("chrony is installed");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            said.trim_end().ends_with("Normal")
        });
        running
    }

    /// chronyd with NTS, its key exchange on the port returned.
    pub(crate) fn chronyd_nts(&self, leaf: &str, shift: Option<&str>) -> Running {
        let ntp = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let port = free_port();
        let name = |kind: &str| self.text(&format!("nts-{port}.{kind}"));
        let conf = format!(
            "port {ntp}\nbindaddress 127.0.0.1\nallow 127.0.0.0/8\nlocal stratum 1\ncmdport 0\n\
             bindcmdaddress /\npidfile {}\ndriftfile {}\nuser root\nntsport {port}\n\
             ntsserverkey {}\nntsservercert {}\nntsntpserver 127.0.0.1\n",
            name("pid"),
            name("drift"),
            self.text(&format!("{leaf}.key")),
            self.text(&format!("{leaf}.pem"))
        );
        fs::write(name("conf"), conf).unwrap();
        let mut command = Command::new("/usr/sbin/chronyd");
        command.args(["-x", "-d", "-f", &name("conf")]);
        if let Some(shift) = shift {
            fake(&mut command, shift);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let running = Running {
            child: child.expect("chrony is installed"),
            port,
        };
        wait_for("chronyd's key exchange", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        running
    }

    /// mosquitto that wants a client certificate from `ca`.
    pub(crate) fn mosquitto(&self) -> Running {
        self.mosquitto_with("")
    }

    /// The same with more lines of configuration.
    pub(crate) fn mosquitto_with(&self, more: &str) -> Running {
        self.leaf("broker", "broker", "ca", SERVER, "@2026-11-02 00:00:00");
        let files = [
            self.path("ca.pem"),
            self.path("broker.pem"),
            self.path("broker.key"),
        ];
        mosquitto(self.dir.path(), &files, more)
    }

    /// `openssl s_server` with this leaf.
    pub(crate) fn s_server(&self, name: &str) -> Running {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        let files = [
            "-quiet",
            "-cert",
            &self.text(&cert),
            "-key",
            &self.text(&key),
        ];
        self.s_server_with(&files, Stdio::null())
    }

    /// `openssl s_server` with these flags; what it says goes to `log`.
    pub(crate) fn s_server_with(&self, flags: &[&str], log: Stdio) -> Running {
        let port = free_port();
        let mut command = Command::new("openssl");
        command
            .args(["s_server", "-accept", &format!("127.0.0.1:{port}")])
            .args(flags)
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(Stdio::null());
        let running = Running {
            child: command.spawn().expect("openssl is installed"),
            port,
        };
        wait_for("s_server", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        running
    }
}

/// mosquitto that wants a client certificate: the files are the CA's, its own and its key's; `more` are
/// further lines of its configuration.
fn mosquitto(folder: &Path, [ca, certificate, key]: &[PathBuf; 3], more: &str) -> Running {
    let port = free_port();
    let conf = format!(
        "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n\
         require_certificate true\nuse_identity_as_username true\nallow_anonymous false\n\
         user root\n{more}",
        ca.display(),
        certificate.display(),
        key.display()
    );
    let file = folder.join("mosquitto.conf");
    fs::write(&file, conf).unwrap();
    let mut command = Command::new("/usr/sbin/mosquitto");
    command
        .arg("-c")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let running = Running {
        child: command.spawn().expect("mosquitto is installed"),
        port,
    };
    wait_for("mosquitto", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    running
}

/// nginx on a loopback port, as a TLS server with these directives.
pub(crate) fn nginx(lab: &Lab, directives: &str) -> Running {
    let port = free_port();
    let folder = lab.path(&format!("nginx-{port}"));
    fs::create_dir(&folder).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let conf = format!(
        "daemon off;\nworker_processes 1;\nuser root;\npid {};\nerror_log {};\nevents {{}}\n\
         http {{\naccess_log off;\nclient_body_temp_path {t};\nproxy_temp_path {t};\n\
         fastcgi_temp_path {t};\nuwsgi_temp_path {t};\nscgi_temp_path {t};\nserver {{\n\
         listen 127.0.0.1:{port} ssl;\n{directives}\n}}\n}}\n",
        at("pid"),
        at("log"),
        t = at("temp"),
    );
    fs::write(folder.join("conf"), conf).unwrap();
    let mut command = Command::new("/usr/sbin/nginx");
    command
        .args(["-p", &at(""), "-e", &at("log"), "-c", &at("conf")])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let running = Running {
        child: command.spawn().expect("nginx is installed"),
        port,
    };
    wait_for(&format!("nginx ({})", at("log")), || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    running
}

/// An HTTP proxy that tunnels every CONNECT to a port of this machine: whoever gives `login`
/// (`Basic …`), or anybody.
pub(crate) fn tunnel_to(port: u16, login: Option<&'static str>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || tunnel(client, port, login));
        }
    });
    own
}

fn tunnel(mut client: TcpStream, port: u16, login: Option<&str>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let known =
        login.is_none_or(|login| head.contains(&format!("Proxy-Authorization: {login}\r\n")));
    if !head.starts_with("CONNECT ") || !known {
        let _ = client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
        return;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)) else {
        let _ = client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
        return;
    };
    let _ = client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
}

/// Runs the program, at a faked time if one is given.
pub(crate) fn nameplate(fake_time: Option<&str>, args: &[&str]) -> Said {
    let output = command(fake_time, args).output().unwrap();
    output.into()
}

pub(crate) fn command(fake_time: Option<&str>, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nameplate"));
    command
        .args(args)
        .env("HOME", "/nonexistent")
        .current_dir(std::env::temp_dir());
    for (name, _) in std::env::vars() {
        if name.starts_with("NAMEPLATE_") || name.starts_with("XDG_") {
            command.env_remove(name);
        }
    }
    // This machine's own memory is not the device's.
    command
        .env("NAMEPLATE_STATE_DIR", "/proc/nonexistent/state")
        .env("NAMEPLATE_RUN_DIR", "/proc/nonexistent/run");
    if let Some(at) = fake_time {
        fake(&mut command, at);
    }
    command
}

fn fake(command: &mut Command, at: &str) {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten();
    let library = folders
        .map(|folder| folder.path().join("faketime/libfaketime.so.1"))
        .find(|path| path.exists())
        .expect("faketime is installed");
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME", at)
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("TZ", "UTC");
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{what} did not start"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Answers every datagram with what `answer` makes of it.
pub(crate) fn fake_time_server(answer: fn(&[u8]) -> Option<Vec<u8>>) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut bytes = [0; 128];
        while let Ok((count, from)) = socket.recv_from(&mut bytes) {
            if let Some(reply) = answer(&bytes[..count]) {
                let _ = socket.send_to(&reply, from);
            }
        }
    });
    port
}

/// A TCP port where something answers that is not TLS.
pub(crate) fn plain_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 512];
            let _ = stream.read(&mut bytes);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    port
}
