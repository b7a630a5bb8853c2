//! Where a ledger is: a file, or a PostgreSQL server by its URL, as libpq writes it.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::explain::{Explain, Kind};

/// Where a ledger is.
#[derive(Clone, Debug)]
pub enum LedgerPlace {
    /// An SQLite file.
    File(PathBuf),
    /// A PostgreSQL server.
    Server(ServerAccess),
}

impl LedgerPlace {
    /// A path, or `postgres://…` or `postgresql://…`.
    ///
    /// # Errors
    /// `ledger.url` when the URL cannot be read.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Server(ServerAccess {
                url: ServerUrl::parse(text)?,
                password_file: None,
                password: None,
                pass_file: None,
            }));
        }
        Ok(Self::File(text.into()))
    }
}

/// Whether the connection is encrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encryption {
    /// Where it leaves the machine.
    Auto,
    /// Never.
    Off,
    /// Always, and the server proves its name.
    On,
}

/// A server's URL. Its password is never shown.
#[derive(Clone)]
pub struct ServerUrl {
    /// Without the parameters that are read here.
    url: Zeroizing<String>,
    shown: String,
    has_password: bool,
    /// `sslmode`
    pub encryption: Encryption,
    /// `sslrootcert`: the roots that the server's certificate is checked with, instead of the
    /// public ones.
    pub roots: Option<PathBuf>,
}

impl ServerUrl {
    fn parse(text: &str) -> Result<Self, UrlError> {
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let (scheme, rest) = address.split_once("://").unwrap_or_default();
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.matches('@').count() > 1 || path.contains('@') {
            return Err(UrlError::Unescaped);
        }
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let mut parsed = Self {
            url: Zeroizing::new(address.to_owned()),
            shown: shown(scheme, (name, host), path),
            has_password: !password.is_empty(),
            encryption: Encryption::Auto,
            roots: None,
        };
        let mut separator = '?';
        for parameter in query.split('&').filter(|one| !one.is_empty()) {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("sslmode", mode) => parsed.encryption = encryption(mode)?,
                ("sslrootcert", path) => parsed.roots = Some(decoded(path)?.into()),
                (key, _) => {
                    parsed.has_password |= key == "password";
                    parsed.url.push(separator);
                    parsed.url.push_str(parameter);
                    separator = '&';
                }
            }
        }
        Ok(parsed)
    }

    /// What to connect to, the password included.
    pub fn secret_url(&self) -> &str {
        &self.url
    }

    /// Whether a password is in the URL.
    pub fn has_password(&self) -> bool {
        self.has_password
    }
}

/// How people see it: without the password and the parameters.
impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn shown(scheme: &str, (user, host): (&str, &str), path: &str) -> String {
    let at = if user.is_empty() { "" } else { "@" };
    format!("{scheme}://{user}{at}{host}{path}")
}

fn encryption(mode: &str) -> Result<Encryption, UrlError> {
    match mode {
        "disable" => Ok(Encryption::Off),
        "allow" | "prefer" => Ok(Encryption::Auto),
        "require" | "verify-ca" | "verify-full" => Ok(Encryption::On),
        _ => Err(UrlError::Parameter("sslmode")),
    }
}

fn decoded(text: &str) -> Result<String, UrlError> {
    let wrong = || UrlError::Parameter("sslrootcert");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        let (high, low) = digit().zip(digit()).ok_or_else(wrong)?;
        bytes.push(high << 4 | low);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// A server and what proves who we are.
#[derive(Clone, Debug)]
pub struct ServerAccess {
    /// The server.
    pub url: ServerUrl,
    /// A file that holds the password alone.
    pub password_file: Option<PathBuf>,
    /// The password, from the environment.
    pub password: Option<Zeroizing<String>>,
    /// A file of passwords as libpq reads it; need not be there.
    pub pass_file: Option<PathBuf>,
}

/// What a line of a password file is looked up by.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// A host name, an address, or `localhost` for a socket in the usual folder.
    pub host: &'a str,
    /// The port.
    pub port: &'a str,
    /// The database.
    pub database: &'a str,
    /// The user.
    pub user: &'a str,
}

/// The password of the first line that fits: `host:port:database:user:password`, where a field may
/// be `*`, and `\:` and `\\` stand for themselves (PostgreSQL, "The Password File").
pub fn password_in(file: &str, account: Account<'_>) -> Option<Zeroizing<String>> {
    let wanted = [account.host, account.port, account.database, account.user];
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    lines.map(fields).find_map(|mut fields| {
        let fits = |(field, wanted): (&String, &&str)| field == "*" || field == wanted;
        let all = fields.len() == 5 && fields.iter().zip(&wanted).all(fits);
        all.then(|| Zeroizing::new(fields.swap_remove(4)))
    })
}

fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut rest = line.chars();
    while let Some(next) = rest.next() {
        // What follows the fourth colon is the password, colons and all.
        let last = fields.len() - 1;
        match next {
            '\\' => fields[last].extend(rest.next()),
            ':' if fields.len() < 5 => fields.push(String::new()),
            other => fields[last].push(other),
        }
    }
    fields
}

/// A ledger's URL that cannot be read. It is not repeated, because a password may be in it.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// A password on the command line.
    #[error("the ledger's URL holds a password, and every user of this machine sees command lines")]
    Argv,
    /// A parameter's value.
    #[error("the ledger's URL has a `{0}` that is not known")]
    Parameter(&'static str),
    /// User and host cannot be told apart.
    #[error("the ledger's URL holds more than one `@`")]
    Unescaped,
}

impl Explain for UrlError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        "ledger.url"
    }
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Argv => "leave it out, and name a file that holds it with \
                 NAMEPLATE_LEDGER_PASSWORD_FILE, or set PGPASSWORD"
                .into(),
            Self::Parameter("sslmode") => {
                "write disable, prefer, require, verify-ca or verify-full".into()
            }
            Self::Parameter(_) => "write `%` as %25".into(),
            Self::Unescaped => {
                "write `@` in a name or password as %40, `:` as %3A, `/` as %2F".into()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> ServerUrl {
        match LedgerPlace::parse(text).unwrap() {
            LedgerPlace::Server(access) => access.url,
            LedgerPlace::File(path) => panic!("{}", path.display()),
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let long = "postgres://me:s3cret@db.example:5433/np?connect_timeout=3&sslmode=require";
        for (text, shown, has) in [
            (long, "postgres://me@db.example:5433/np", true),
            ("postgres:///np", "postgres:///np", false),
            (
                "postgresql://h/np?user=u&password=s3cret",
                "postgresql://h/np",
                true,
            ),
        ] {
            let url = server(text);
            assert_eq!(format!("{url}"), shown);
            assert!(!format!("{url:?}").contains("s3cret"));
            assert_eq!(url.has_password(), has);
        }
        let url = server(long);
        assert_eq!(url.encryption, Encryption::On);
        assert!(url.secret_url().ends_with("/np?connect_timeout=3"));
        let error = LedgerPlace::parse("postgres://me:s3c@ret@db/np").unwrap_err();
        assert!(!error.to_string().contains("s3c"));
        assert!(LedgerPlace::parse("postgres://h/d?sslmode=x").is_err());
        let url = server("postgres://h/d?sslrootcert=%2Fa%20b.pem");
        assert_eq!(url.roots, Some("/a b.pem".into()));
    }

    #[test]
    fn anything_else_is_a_path() {
        for text in ["ledger.sqlite", "/a/postgres:", "C:/x"] {
            assert!(matches!(LedgerPlace::parse(text), Ok(LedgerPlace::File(_))));
        }
    }

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let file = "# comment\nother:*:*:*:no\ndb\\:1:5432:np:me:pa:ss\\\\\n*:*:*:me:late\n";
        let account = |host, user| Account {
            host,
            port: "5432",
            database: "np",
            user,
        };
        let found = |host, user| password_in(file, account(host, user));
        assert_eq!(found("db:1", "me").unwrap().as_str(), "pa:ss\\");
        assert_eq!(found("x", "me").unwrap().as_str(), "late");
        assert_eq!(found("x", "you"), None);
    }
}
