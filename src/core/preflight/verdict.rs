//! From checks to one answer, and from the answer to its cause.

use super::facts::Facts;
use super::{Board, Check, Prediction, Status, Weight, Window};
use crate::core::time::{TimeBounds, UtcTime};

/// The answer as a whole.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Connect.
    Ready,
    /// It cannot be told: the clock or the network comes first.
    CannotTell,
    /// Something must be mended first.
    NotReady,
}

/// What the facts come to.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Verdict {
    /// The answer.
    pub answer: Answer,
    /// The check that decided it; `None` when ready.
    pub cause: Option<&'static str>,
    /// One line.
    pub summary: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The endpoint to connect to, when ready: the first that can be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The answer for each endpoint, in order.
    pub endpoints: Vec<EndpointVerdict>,
    /// What the system clock says.
    pub clock: UtcTime,
    /// Where the true time lies.
    pub interval: TimeBounds,
    /// The windows that were held against it.
    pub windows: Vec<Window>,
    /// What was foretold of a time on the shelf, if that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shelf: Option<Prediction>,
    /// Every check, in order.
    pub checks: Vec<Check>,
}

/// The answer for one endpoint: what holds for the device, and what holds for it alone.
#[derive(Clone, Debug, serde::Serialize)]
pub struct EndpointVerdict {
    /// Which.
    pub endpoint: String,
    /// The answer.
    pub answer: Answer,
    /// The check that decided it; `None` when ready.
    pub cause: Option<&'static str>,
    /// One line.
    pub summary: String,
}

/// What decides, first that which explains the others: a clock that is known to be wrong makes every
/// statement about dates worthless.
const RANKED: [Weight; 4] = [
    Weight::ClockWrong,
    Weight::Definite,
    Weight::ClockUnknown,
    Weight::Network,
];

pub(super) fn conclude(facts: &Facts, board: Board) -> Verdict {
    let mut checks = board.checks;
    explain(&mut checks);
    let names: Vec<String> = facts
        .servers
        .iter()
        .map(|server| server.endpoint.to_string())
        .collect();
    let each: Vec<(EndpointVerdict, Option<&Check>)> = names
        .iter()
        .map(|name| of_endpoint(name, &checks))
        .collect();
    // The first of the best: with one way open, the device can connect.
    let best = each.iter().min_by_key(|(verdict, _)| verdict.answer);
    let cause = match best {
        Some((_, cause)) => *cause,
        None => deciding(&checks, None),
    };
    let (answer, mut summary) = summarise(cause, &checks);
    let endpoint = best
        .filter(|_| answer == Answer::Ready)
        .map(|(verdict, _)| verdict.endpoint.clone());
    if let (Some(endpoint), true) = (&endpoint, names.len() > 1) {
        summary = format!("{summary}; connect to `{endpoint}`");
    }
    Verdict {
        answer,
        cause: cause.map(|check| check.id),
        summary,
        remedy: cause.and_then(|check| check.remedy.clone()),
        endpoint,
        endpoints: each.into_iter().map(|(verdict, _)| verdict).collect(),
        clock: facts.clock.wall(),
        interval: board.time.bounds,
        windows: board.windows,
        shelf: board.prediction,
        checks,
    }
}

fn of_endpoint<'a>(name: &str, checks: &'a [Check]) -> (EndpointVerdict, Option<&'a Check>) {
    let cause = deciding(checks, Some(name));
    let (answer, summary) = summarise(cause, checks);
    let verdict = EndpointVerdict {
        endpoint: name.to_owned(),
        answer,
        cause: cause.map(|check| check.id),
        summary: if cause.is_some() {
            summary
        } else {
            "can be used".to_owned()
        },
    };
    (verdict, cause)
}

/// The check that decides, among those of the device and those of one endpoint.
fn deciding<'a>(checks: &'a [Check], endpoint: Option<&str>) -> Option<&'a Check> {
    let mine = |check: &&Check| check.endpoint.is_none() || check.endpoint.as_deref() == endpoint;
    RANKED.iter().find_map(|weight| {
        checks
            .iter()
            .filter(mine)
            .find(|check| check.weight == *weight && check.because.is_none())
    })
}

/// Ties what follows from something else to it, so that one cause is not told as many.
fn explain(checks: &mut [Check]) {
    explain_undated(checks);
    for n in 0..checks.len() {
        let check = &checks[n];
        if check.status != Status::Fail {
            continue;
        }
        let explains = |id: &&&str| {
            // What is said of a server explains only what else is said of it.
            let place = Some(&check.endpoint).filter(|_| id.starts_with("server"));
            let place = place.and_then(Option::as_deref);
            checks.iter().any(|other| {
                other.id == **id
                    && other.status == Status::Fail
                    && other.endpoint.as_deref() == place
            })
        };
        checks[n].because = reasons(check.id).iter().find(explains).copied();
    }
    explain_connect(checks);
}

/// What may stand behind a failed check, most telling first.
fn reasons(id: &str) -> &'static [&'static str] {
    match id {
        "identity.key" => &["identity.algorithm"],
        "chain.trust" | "chain.order" | "chain.complete" => &[
            "identity.version",
            "identity.usage",
            "identity.extensions",
            "identity.algorithm",
            "chain.signed",
        ],
        "server.tls" => &["server.algorithm", "server.version", "server.key"],
        "server.trust" => &[
            "server.intercepted",
            "server.version",
            "server.extensions",
            "server.algorithm",
            "server.usage",
        ],
        _ => &[],
    }
}

/// Dates that cannot be judged are the clock's fault.
fn explain_undated(checks: &mut [Check]) {
    let of_clock = |check: &&Check| check.id.starts_with("clock");
    let weighs = |weight| {
        let mut clock = checks.iter().filter(of_clock);
        clock.find(|check| check.weight == weight)
    };
    let cause = weighs(Weight::ClockWrong).or_else(|| weighs(Weight::ClockUnknown));
    let Some(cause) = cause.map(|check| check.id) else {
        return;
    };
    for check in checks.iter_mut() {
        if check.weight == Weight::ClockUnknown && !check.id.starts_with("clock") {
            check.because = Some(cause);
        }
    }
}

/// A CONNECT that failed is the last link: what is wrong with the identity explains it.
fn explain_connect(checks: &mut [Check]) {
    let identity = checks
        .iter()
        .find(|check| check.endpoint.is_none() && check.weight == Weight::Definite)
        .map(|check| check.id);
    let Some(identity) = identity else {
        return;
    };
    let failed = |check: &&mut Check| check.id == "mqtt.connect" && check.status == Status::Fail;
    for check in checks.iter_mut().filter(failed) {
        check.because = Some(identity);
    }
}

fn summarise(cause: Option<&Check>, checks: &[Check]) -> (Answer, String) {
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let Some(cause) = cause else {
        let warned = match count(Status::Warn) {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            n => format!(", {n} warnings"),
        };
        let passed = count(Status::Pass);
        return (Answer::Ready, format!("{passed} checks passed{warned}"));
    };
    let fact = &cause.fact;
    match cause.weight {
        Weight::ClockWrong | Weight::ClockUnknown => {
            (Answer::CannotTell, format!("fix the clock first: {fact}"))
        }
        Weight::Network => (Answer::CannotTell, fact.clone()),
        Weight::Definite | Weight::None => (Answer::NotReady, fact.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &'static str, weight: Weight, endpoint: Option<&str>) -> Check {
        let mut check = match weight {
            Weight::None => Check::pass(id, id),
            Weight::ClockUnknown => Check::skip(id, id),
            _ => Check::fail(id, id),
        };
        check.weight = weight;
        check.endpoint = endpoint.map(str::to_owned);
        check
    }

    fn told(mut checks: Vec<Check>, endpoint: Option<&str>) -> Option<&'static str> {
        explain(&mut checks);
        deciding(&checks, endpoint).map(|check| check.id)
    }

    #[test]
    fn the_cause_comes_before_what_follows_from_it() {
        use Weight::{ClockUnknown, ClockWrong, Definite, Network};
        for (first, second, cause) in [
            (("identity.window", Definite), ("clock.ntp", ClockWrong), 1),
            (
                ("identity.window", ClockUnknown),
                ("clock.interval", ClockUnknown),
                1,
            ),
            (
                ("clock.interval", ClockUnknown),
                ("identity.usage", Definite),
                1,
            ),
            (
                ("server.trust", Definite),
                ("server.intercepted", Definite),
                1,
            ),
            (("server.tls", Definite), ("server.key", Definite), 1),
            (("chain.trust", Definite), ("identity.usage", Definite), 1),
            (
                ("mqtt.connect", Definite),
                ("identity.key-match", Definite),
                1,
            ),
            (("server.reach", Network), ("chain.order", Definite), 1),
            (("identity.usage", Definite), ("server.name", Definite), 0),
            (("clock.floor", ClockWrong), ("identity.files", Definite), 0),
        ] {
            let here = Some("a:1");
            let both = [first, second].map(|(id, weight)| {
                let of_server = id.starts_with("server") || id.starts_with("mqtt");
                check(id, weight, here.filter(|_| of_server))
            });
            let expected = [first.0, second.0][cause];
            assert_eq!(told(both.to_vec(), here), Some(expected));
        }
        assert_eq!(
            told(vec![check("identity.files", Weight::None, None)], None),
            None
        );
    }

    #[test]
    fn one_endpoint_does_not_explain_another() {
        let checks = vec![
            check("server.intercepted", Weight::Definite, Some("a:1")),
            check("server.trust", Weight::Definite, Some("b:1")),
        ];
        assert_eq!(told(checks.clone(), Some("b:1")), Some("server.trust"));
        assert_eq!(told(checks, Some("c:1")), None);
    }
}
