//! A PostgreSQL server for the tests: one for the whole binary, in a temporary folder, gone with the
//! test process however that ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs as an unprivileged user, because PostgreSQL refuses to be root's. When stdin ends, the test
/// process has.
const SCRIPT: &str = r#"
set -e
folder=$(mktemp -d /tmp/nameplate-postgres.XXXXXX)
cd "$folder"
trap 'rm -rf "$folder"' EXIT
PATH="$PATH:$(echo /usr/lib/postgresql/*/bin | tr ' ' :)"
initdb -D data -U keeper --auth=trust --no-sync --locale=C.UTF-8 >/dev/null
printf 'local all locked scram-sha-256\nlocal all all trust\nhostssl all all 127.0.0.1/32 trust\n' \
    >data/pg_hba.conf
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out roots.pem \
    -days 2 -subj /CN=Root 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout data/server.key -out server.csr \
    -subj /CN=localhost 2>/dev/null
printf 'subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n' >server.ext
openssl x509 -req -in server.csr -CA roots.pem -CAkey root.key -days 2 -extfile server.ext \
    -out data/server.crt 2>/dev/null
chmod 600 data/server.key
for port in $(shuf -i 20000-32000 -n 20); do
    postgres -D data -k "$folder" -p "$port" -c listen_addresses=127.0.0.1 -c ssl=on -c fsync=off \
        -c max_connections=200 -c shared_buffers=64MB >log 2>&1 &
    server=$!
    while kill -0 $server 2>/dev/null && ! pg_isready -q -h "$folder" -p "$port"; do sleep 0.05; done
    kill -0 $server 2>/dev/null && break
done
chmod 755 "$folder"
echo "$folder $port"
cat >/dev/null
kill -INT $server
wait $server || true
"#;

/// The running server.
pub(crate) struct Server {
    /// Where its socket and `roots.pem` are.
    pub(crate) folder: String,
    pub(crate) port: u16,
    _alive: ChildStdin,
}

/// The server; the first test that asks starts it.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(start)
}

fn start() -> Server {
    let is_root = std::fs::read_dir("/root").is_ok();
    let mut command = if is_root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", "sh", "-c", SCRIPT]);
        command
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]);
        command
    };
    #[expect(
        clippy::zombie_processes,
        reason = "it outlives every test, and ends when this process does"
    )]
    let mut child = command
        .current_dir("/tmp")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("runuser and PostgreSQL must be installed");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let (folder, port) = line
        .trim()
        .split_once(' ')
        .expect("PostgreSQL must be installed: apt-get install postgresql");
    Server {
        folder: folder.to_owned(),
        port: port.parse().unwrap(),
        _alive: child.stdin.take().unwrap(),
    }
}

impl Server {
    /// The socket as a URL's host.
    pub(crate) fn socket(&self) -> String {
        self.folder.replace('/', "%2F")
    }

    /// A new, empty database; its URL.
    pub(crate) fn database(&self) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let name = format!("ledger_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let url = |name: &str| format!("postgres://keeper@{}:{}/{name}", self.socket(), self.port);
        run_sql(&url("postgres"), &format!("CREATE DATABASE {name}"));
        url(&name)
    }

    /// The roots that its certificate is checked with.
    pub(crate) fn roots(&self) -> String {
        let path = Path::new(&self.folder).join("roots.pem");
        path.to_str().unwrap().to_owned()
    }
}

/// Runs statements as the database's owner.
pub(crate) fn run_sql(url: &str, sql: &str) {
    let mut client = postgres::Client::connect(url, postgres::NoTls).unwrap();
    client.batch_execute(sql).unwrap();
}
