//! Whether the server is there, speaks TLS, and is the one it should be.

use super::facts::{CertificateFile, Outcome, ServerFacts, Shown};
use super::identity::Path;
use super::{Board, Check, Weight, Window};
use crate::core::cert::Certificate;
use crate::core::chain::Usage;
use crate::core::server::{amazon_roots, covers_name};

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

pub(super) fn judge(server: &ServerFacts, board: &mut Board) {
    let checks = &mut board.checks;
    let roots = match &server.server_ca {
        None => amazon_roots(),
        Some(CertificateFile {
            error: Some(error), ..
        }) => {
            let remedy = "name a readable file of CA certificates with --server-ca";
            checks.push(Check::fail("server.ca", error.clone()).remedy(remedy));
            return;
        }
        Some(file) => file.all(),
    };
    match &server.outcome {
        Outcome::Failed {
            code,
            message,
            hint,
        } => {
            let mut check = failed(code, message);
            check.remedy.clone_from(hint);
            checks.push(check);
        }
        Outcome::Seen {
            address,
            tls_version,
            chain,
        } => {
            checks.push(Check::pass(
                "server.reach",
                format!("`{}` is {address}", server.endpoint),
            ));
            let version = tls_version.as_deref().unwrap_or("TLS");
            checks.push(Check::pass("server.tls", format!("speaks {version}")));
            check_chain(server, chain, &roots, board);
        }
    }
}

/// Whether the network or the server is at fault.
fn failed(code: &str, message: &str) -> Check {
    match code {
        "dial.not-tls" | "dial.tls" | "dial.alert" => Check::fail("server.tls", message),
        "server.unreadable" => Check::fail("server.trust", message),
        _ => Check::fail("server.reach", message).weigh(Weight::Network),
    }
}

fn check_chain(server: &ServerFacts, chain: &[Shown], roots: &[Certificate], board: &mut Board) {
    let checks = &mut board.checks;
    let Some(Shown(leaf)) = chain.first() else {
        checks.push(Check::fail(
            "server.trust",
            "the server showed no certificate",
        ));
        return;
    };
    let host = &server.endpoint.host;
    checks.push(check_name(leaf, host));
    let mut pool: Vec<Certificate> = roots.to_vec();
    pool.extend(chain.iter().skip(1).map(|shown| shown.0.clone()));
    let path = Path::find(leaf.clone(), &pool);
    checks.push(match path.verify(roots, Usage::Server) {
        Ok(()) => Check::pass(
            "server.trust",
            format!("vouched for by {}", path.top().subject),
        ),
        Err(why) => Check::fail(
            "server.trust",
            format!("the server is not to be trusted: {why}"),
        )
        .remedy(if server.server_ca.is_some() {
            "name the CA that issued the server's certificate with --server-ca"
        } else {
            "only Amazon's roots are trusted; name another CA with --server-ca"
        }),
    });
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
