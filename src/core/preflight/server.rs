//! Whether the server is there, speaks TLS, and is the one it should be.

use super::chain::{Path, Unsigned, unsigned};
use super::facts::{CertificateFile, ClientAuthFacts, Ended, Outcome, ServerFacts, Shown};
use super::{Board, Check, Weight, Window, access, connected};
use crate::core::cert::{Certificate, SERVER_AUTH};
use crate::core::chain::{Chain, Usage};
use crate::core::ids::hex;
use crate::core::key::KeyAlgorithm;
use crate::core::server::{amazon_roots, covers_name};

/// A handshake that takes longer than this is worth a word.
const SLOW_MS: u64 = 2_000;

pub(super) fn not_looked_at(offline: bool) -> Check {
    const ID: &str = "server.reach";
    if offline {
        return Check::skip(ID, "no server was looked at (--offline)");
    }
    Check::skip(ID, "no endpoint was named, so no server was looked at").remedy(
        "name it with --endpoint HOST[:PORT], or NAMEPLATE_ENDPOINT, or `endpoint` under [device] \
         in nameplate.toml",
    )
}

/// `own` is the device's leaf and its issuers, which the server must take.
pub(super) fn judge(server: &ServerFacts, own: &[Certificate], board: &mut Board) {
    let from = board.checks.len();
    look(server, own, board);
    if let Some(mqtt) = &server.mqtt {
        board.checks.push(connected::judge(mqtt));
    }
    for check in &mut board.checks[from..] {
        check.endpoint = Some(server.endpoint.to_string());
    }
}

fn look(server: &ServerFacts, own: &[Certificate], board: &mut Board) {
    let checks = &mut board.checks;
    checks.extend(access::judge_server_ca(server));
    let roots = match &server.server_ca {
        None => Some(amazon_roots()),
        Some(CertificateFile {
            error: Some(error), ..
        }) => {
            let remedy = "name a readable file of CA certificates with --server-ca";
            checks.push(Check::fail("server.ca", error.clone()).remedy(remedy));
            None
        }
        Some(file) => Some(file.all()),
    };
    match &server.outcome {
        Outcome::Failed(ended) => checks.extend(failed(server, ended)),
        Outcome::Seen {
            address,
            tls_version,
            chain,
            alpn,
            possession,
            client_auth,
            ended,
            ..
        } => {
            checks.extend(check_name_lookup(server));
            checks.push(reached(server, address));
            let asked = client_auth.as_ref();
            checks.push(check_tls(tls_version.as_deref(), ended.as_ref(), asked));
            checks.extend((server.elapsed_ms > SLOW_MS).then(|| slow(server.elapsed_ms)));
            let offered = server.alpn.as_deref();
            checks.extend(check_alpn(offered, alpn.as_deref(), ended.is_some()));
            checks.push(check_client_auth(asked, own));
            if let Some(roots) = roots {
                check_chain(server, (chain, *possession), &roots, board);
            }
        }
    }
}

fn reached(server: &ServerFacts, address: &str) -> Check {
    let fact = match &server.proxy {
        Some(proxy) => format!("`{}` through the proxy `{proxy}`", server.endpoint),
        None => format!("`{}` is {address}", server.endpoint),
    };
    Check::pass("server.reach", fact)
}

fn check_name_lookup(server: &ServerFacts) -> Option<Check> {
    let host = &server.endpoint.host;
    let literal = host.parse::<std::net::IpAddr>().is_ok();
    let first = server.addresses.first().filter(|_| !literal)?;
    let rest = match server.addresses.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    Some(Check::pass(
        "server.dns",
        format!("`{host}` has the address {first}{rest}"),
    ))
}

/// Whether the network or the server is at fault, and how far it went.
fn failed(server: &ServerFacts, ended: &Ended) -> Vec<Check> {
    let message = &ended.message;
    let network = |id| Check::fail(id, message).weigh(Weight::Network);
    let mut before = Vec::new();
    let mut last = match &ended.code[..] {
        "dial.dns" => network("server.dns"),
        "dial.proxy" => network("server.proxy"),
        "dial.not-tls" | "dial.tls" | "dial.alert" => Check::fail("server.tls", message),
        "server.unreadable" => Check::fail("server.trust", message),
        // Accepted over TCP, and then nothing, or the end: a load balancer without a server behind
        // it, a firewall that looks into TLS, a server that is overloaded.
        _ if message.contains("the TLS handshake") => network("server.tls"),
        _ => network("server.reach"),
    };
    if last.id == "server.tls" {
        before.extend(check_name_lookup(server));
        let fact = format!("`{}` takes TCP connections", server.endpoint);
        before.push(Check::pass("server.reach", fact));
    }
    last.remedy = match &ended.code[..] {
        "dial.timeout" if last.id == "server.tls" => Some(
            "it takes connections and says nothing: a firewall that drops TLS, or an overloaded \
             server; try again, with a longer --timeout"
                .into(),
        ),
        "dial.closed" if last.id == "server.tls" => Some(
            "it closes connections before TLS: a firewall, or a server that is not ready; try again"
                .into(),
        ),
        "dial.alert" => Some(of_alert(message).into()),
        _ => ended.hint.clone(),
    };
    before.push(last);
    before
}

/// What an alert that comes before any certificate is about.
fn of_alert(message: &str) -> &'static str {
    if message.contains("handshake_failure") {
        "server and device share no cipher suite: the server's certificate or key is not fit for TLS, \
         or it wants suites that are no longer safe; look at its log"
    } else if message.contains("protocol_version") {
        "the server speaks no TLS 1.2 or 1.3: it must be brought up to date"
    } else if message.contains("unrecognized_name") {
        "the server does not know this name: use the endpoint's own, as describe-endpoint gives it"
    } else {
        "look at the server's log"
    }
}

/// A server that wants a certificate may end TLS 1.2 when it gets none: that is as it should be.
fn check_tls(
    version: Option<&str>,
    ended: Option<&Ended>,
    asked: Option<&ClientAuthFacts>,
) -> Check {
    const ID: &str = "server.tls";
    let version = version.unwrap_or("TLS");
    match ended {
        Some(ended) if asked.is_none() => Check::fail(ID, format!("{} ({version})", ended.message))
            .remedy(
                ended
                    .hint
                    .clone()
                    .unwrap_or_else(|| "look at the server's log".into()),
            ),
        _ => Check::pass(ID, format!("speaks {version}")),
    }
}

fn slow(elapsed_ms: u64) -> Check {
    let fact = format!(
        "connecting took {}.{} s",
        elapsed_ms / 1000,
        elapsed_ms % 1000 / 100
    );
    Check::warn("server.slow", fact).remedy("give the device's client a longer time-out than that")
}

fn check_alpn(offered: Option<&str>, taken: Option<&str>, ended: bool) -> Option<Check> {
    const ID: &str = "server.alpn";
    let offered = offered?;
    Some(match taken {
        Some(taken) => Check::pass(ID, format!("took `{taken}` by ALPN")),
        None if ended => Check::skip(ID, "the handshake ended before ALPN was agreed on"),
        None => Check::fail(ID, format!("the server does not take `{offered}` by ALPN"))
            .remedy("use port 8883, or the endpoint of type iot:Data-ATS on 443"),
    })
}

/// What the server wants of a device, against what this one has.
fn check_client_auth(asked: Option<&ClientAuthFacts>, own: &[Certificate]) -> Check {
    const ID: &str = "server.client-auth";
    let Some(asked) = asked else {
        return Check::warn(ID, "the server did not ask for a client certificate")
            .remedy("AWS IoT asks for one; look at the endpoint and the port");
    };
    let Some(leaf) = own.first() else {
        return Check::skip(ID, "there is no certificate to show");
    };
    let algorithm = leaf.key_algorithm();
    if !asked.schemes.iter().any(|scheme| signs(algorithm, scheme)) {
        let fact = format!(
            "the server takes no signature by a key of {algorithm}, but {}",
            asked.schemes.join(", ")
        );
        return Check::fail(ID, fact).remedy("issue the identity again with a P-256 key");
    }
    let named = |name: &[u8]| asked.authorities.contains(&hex(name));
    let known = asked.authorities.is_empty()
        || own
            .iter()
            .any(|one| named(&one.issuer_der) || named(&one.subject_der));
    if known {
        return Check::pass(ID, format!("asks for a certificate and takes {algorithm}"));
    }
    let count = asked.authorities.len();
    let fact = format!(
        "the server names {count} CA{} whose certificates it takes, and not `{}`",
        if count == 1 { "" } else { "s" },
        leaf.issuer
    );
    Check::warn(ID, fact).remedy("register the CA at this endpoint, or use the right one")
}

/// Whether a key of this kind makes signatures of this scheme.
fn signs(key: KeyAlgorithm, scheme: &str) -> bool {
    match key {
        KeyAlgorithm::EcP256 => scheme == "ecdsa_secp256r1_sha256",
        KeyAlgorithm::EcP384 => scheme == "ecdsa_secp384r1_sha384",
        KeyAlgorithm::EcP521 => scheme == "ecdsa_secp521r1_sha512",
        KeyAlgorithm::Ed25519 => scheme == "ed25519",
        KeyAlgorithm::Rsa(_) => scheme.starts_with("rsa_"),
        KeyAlgorithm::EcOther | KeyAlgorithm::Unknown => false,
    }
}

fn check_chain(
    server: &ServerFacts,
    (chain, possession): (&[Shown], Option<bool>),
    roots: &[Certificate],
    board: &mut Board,
) {
    let checks = &mut board.checks;
    let Some(Shown(leaf)) = chain.first() else {
        checks.push(Check::fail(
            "server.trust",
            "the server showed no certificate",
        ));
        return;
    };
    let host = &server.endpoint.host;
    checks.extend(check_form(leaf, possession));
    checks.push(check_name(leaf, host));
    let mut pool: Vec<Certificate> = roots.to_vec();
    pool.extend(chain.iter().skip(1).map(|shown| shown.0.clone()));
    let path = Path::find(leaf.clone(), &pool);
    let shown: Vec<Certificate> = chain.iter().map(|shown| shown.0.clone()).collect();
    checks.extend(check_trust(server, &path, &shown, roots));
    checks.extend(check_order(shown));
    check_window(leaf, &path, board);
}

fn check_window(leaf: &Certificate, path: &Path, board: &mut Board) {
    let issuers = path.issuers_window();
    let window = issuers.and_then(|window| window.overlap(&leaf.validity));
    let window = window.unwrap_or(leaf.validity);
    board.windows.push(Window {
        label: "server",
        validity: window,
    });
    let mut check = board
        .time
        .check("server.window", "the server's certificate", &window);
    if check.weight == Weight::Definite {
        check.remedy = Some("the server's operator must renew its certificate".into());
    }
    board.checks.push(check);
    if let Some(ca) = issuers.filter(|ca| ca.not_after < leaf.validity.not_after) {
        let fact = format!(
            "the server's certificate ends at {}, but its issuers already at {}",
            leaf.validity.not_after, ca.not_after
        );
        board.checks.push(Check::warn("server.outlives", fact));
    }
}

/// What is wrong with the certificate itself, whoever signed it. Said of one that is right: nothing
/// but that its key was proved.
fn check_form(leaf: &Certificate, possession: Option<bool>) -> Vec<Check> {
    let renew = "the server's operator must replace its certificate";
    let fail = |id, fact: String| Check::fail(id, fact).remedy(renew);
    let mut checks = Vec::new();
    if leaf.version != 3 {
        let fact = format!("the server's certificate is X.509 version {}", leaf.version);
        checks.push(fail("server.version", fact));
    }
    if let Some(why) = leaf.unsupported_algorithm() {
        checks.push(fail(
            "server.algorithm",
            format!("the server's certificate: {why}"),
        ));
    }
    if let Some(oid) = leaf.unknown_critical.first() {
        let fact = format!("the server's certificate has an unknown critical extension ({oid})");
        checks.push(fail("server.extensions", fact));
    }
    let signs = leaf.key_usage.is_none_or(|usage| usage.digital_signature);
    if leaf.is_ca == Some(true) {
        let fact = "the server's certificate is a CA, not a server's".to_owned();
        checks.push(fail("server.usage", fact));
    } else if !leaf.allows_usage(SERVER_AUTH) || !signs {
        let fact = "the server's certificate may not be used by a TLS server".to_owned();
        checks.push(fail("server.usage", fact));
    } else if leaf.extended_key_usage.is_none() && leaf.version == 3 {
        let fact = "the server's certificate has no extended key usage";
        checks.push(Check::warn("server.usage", fact));
    }
    // Of a certificate that is broken elsewhere nobody verifies a signature.
    match possession.filter(|_| checks.is_empty()) {
        Some(true) => checks.push(Check::pass(
            "server.key",
            "the server holds its certificate's key",
        )),
        Some(false) => checks.push(fail(
            "server.key",
            "the server does not hold the key of the certificate that it shows".to_owned(),
        )),
        None => {}
    }
    checks
}

fn check_trust(
    server: &ServerFacts,
    path: &Path,
    shown: &[Certificate],
    roots: &[Certificate],
) -> Vec<Check> {
    const ID: &str = "server.trust";
    let why = match path.verify(roots, Usage::Server) {
        Ok(()) => {
            let fact = format!("vouched for by {}", path.top().subject);
            let mut checks = vec![Check::pass(ID, fact)];
            checks.extend(check_key_id(path));
            return checks;
        }
        Err(why) => why,
    };
    let mut checks: Vec<Check> = intercepted(server, path).into_iter().collect();
    checks.push(untrusted(server, path, (shown, roots), &why));
    checks
}

fn untrusted(
    server: &ServerFacts,
    path: &Path,
    (shown, roots): (&[Certificate], &[Certificate]),
    why: &str,
) -> Check {
    const ID: &str = "server.trust";
    let name_it = if server.server_ca.is_some() {
        "name the CA that issued the server's certificate with --server-ca"
    } else {
        "only Amazon's roots are trusted; name another CA with --server-ca"
    };
    let fact = |why: String| format!("the server is not to be trusted: {why}");
    let Some(top) = path.dangling() else {
        return Check::fail(ID, fact(why.to_owned())).remedy(name_it);
    };
    let pool: Vec<Certificate> = roots.iter().chain(shown).cloned().collect();
    match unsigned(top, &pool) {
        Unsigned::Broken(issuer) => {
            let why = format!("the signature is broken: it is not what `{issuer}` signed");
            Check::fail(ID, fact(why)).remedy("the server's operator must replace its certificate")
        }
        Unsigned::OtherKey(issuer) => {
            let why = format!("a CA of the name `{issuer}` signed it, with another key");
            Check::fail(ID, fact(why)).remedy(name_it)
        }
        Unsigned::Unknown => {
            let why = format!(
                "its issuer `{}` is neither trusted nor sent by it",
                top.issuer
            );
            let remedy = format!(
                "{name_it}; if it is an intermediate, the server's operator must send it too"
            );
            Check::fail(ID, fact(why)).remedy(remedy)
        }
    }
}

fn check_key_id(path: &Path) -> Option<Check> {
    path.misnamed().map(|(one, issuer)| {
        let fact = format!(
            "the authority key identifier of `{}` is not `{}`'s: OpenSSL finds no issuer",
            one.subject, issuer.subject
        );
        Check::warn("server.key-id", fact)
            .remedy("the server's operator must replace its certificate")
    })
}

/// AWS's name on a certificate that no CA of Amazon's leads to: somebody in between answers for it.
fn intercepted(server: &ServerFacts, path: &Path) -> Option<Check> {
    let host = &server.endpoint.host;
    let amazon = host
        .rsplit_once("amazonaws.com")
        .is_some_and(|(before, rest)| before.ends_with('.') && matches!(rest, "" | ".cn"));
    let leaf = path.leaf();
    if !amazon || server.server_ca.is_some() || !covers_name(leaf, host) {
        return None;
    }
    let by = &path.top().issuer;
    let fact = match &server.proxy {
        Some(proxy) => format!("the proxy `{proxy}` reads along: `{by}` answers for `{host}`"),
        None => format!("somebody between reads along: `{by}` answers for `{host}`, not Amazon"),
    };
    Some(Check::fail("server.intercepted", fact).remedy(
        "let this host and port through without TLS inspection; mutual TLS cannot be inspected",
    ))
}

fn check_order(shown: Vec<Certificate>) -> Option<Check> {
    let at = Chain::new(shown)?.break_in_order()?;
    let place = if at == 0 {
        "its own certificate".to_owned()
    } else {
        format!("certificate {at}")
    };
    let fact = format!("the server's chain is not in order: {place} is not signed by the next one");
    // TLS 1.3 lets a client sort them (RFC 8446 §4.4.2); small TLS libraries do not.
    Some(
        Check::warn("server.order", fact)
            .remedy("the server's operator must send its own certificate first, then each issuer"),
    )
}

fn check_name(leaf: &Certificate, host: &str) -> Check {
    const ID: &str = "server.name";
    if covers_name(leaf, host) {
        return Check::pass(ID, format!("its certificate is for `{host}`"));
    }
    let names = match &leaf.alternative_names[..] {
        [] => "no name at all".to_owned(),
        names => names.join(", "),
    };
    let fact = format!("the server's certificate is not for `{host}` but for {names}");
    Check::fail(ID, fact).remedy("use the endpoint's own name")
}
