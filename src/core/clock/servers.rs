//! What time servers say: each answer by itself, then all together.

use super::facts::{ClockFacts, TimeServerFacts};
use super::reading::{Bounds, Part, Reading, Source, Trust};
use super::select::{Claim, select};
use super::{NANOS, Piece, SET_IT, offset_in_words};
use crate::core::check::{Check, Weight};
use crate::core::sntp::{self, Answer, Sent};
use crate::core::time::UtcTime;

/// A clock this near to the time servers is right.
const GOOD_NANOS: i64 = 10_000_000_000;
/// A clock further off than this is wrong: AWS takes signed requests within five minutes (IAM
/// user guide, "Signature Version 4"), and certificates have no such grace.
const WRONG_NANOS: i64 = 300_000_000_000;
/// So many plain servers must agree before one liar among them does not matter.
const MAJORITY: usize = 3;

/// What came of asking.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) checks: Vec<Check>,
    pub(super) readings: Vec<Reading>,
    pub(super) pieces: Vec<Piece>,
}

/// One server and what it is worth.
struct Heard<'a> {
    facts: &'a TimeServerFacts,
    answer: Result<Answer, String>,
}

/// What a group of servers agrees on.
struct Agreed {
    bounds: Bounds,
    trust: Trust,
}

/// The servers of one kind.
struct Group {
    id: &'static str,
    source: Source,
    noun: &'static str,
}

const PLAIN: Group = Group {
    id: "clock.ntp",
    source: Source::Ntp,
    noun: "time server",
};
const PROVEN: Group = Group {
    id: "clock.nts",
    source: Source::Nts,
    noun: "NTS server",
};

pub(super) fn judge(clock: &ClockFacts) -> Asked {
    let mut asked = Asked::default();
    let (proven, plain): (Vec<Heard>, Vec<Heard>) = clock
        .time_servers
        .iter()
        .map(|facts| hear(facts, clock))
        .partition(|heard| heard.facts.by_nts);
    if clock.time_servers.is_empty() {
        let nobody = Check::skip(PLAIN.id, "no time server was asked");
        asked.checks.push(nobody);
        return asked;
    }
    let authority = PROVEN.judge(clock, &proven, None, &mut asked);
    PLAIN.judge(clock, &plain, authority.as_ref(), &mut asked);
    asked
}

fn hear<'a>(facts: &'a TimeServerFacts, clock: &ClockFacts) -> Heard<'a> {
    let answer = read(facts, clock.floor);
    Heard { facts, answer }
}

fn read(server: &TimeServerFacts, floor: UtcTime) -> Result<Answer, String> {
    if let Some(error) = &server.error {
        return Err(error.clone());
    }
    let sent = Sent {
        nonce: server.nonce,
        sent_nanos: server.sent_nanos.into(),
        received_nanos: server.received_nanos.into(),
        floor_nanos: i128::from(floor.unix()) * i128::from(NANOS),
    };
    let answer = sntp::read(&server.reply, &sent).map_err(|error| error.to_string())?;
    match (&server.nts, server.by_nts) {
        (None, true) => Err("nothing proves its answer".into()),
        (Some(proof), _) => {
            let said = Bounds::around(server.sent_nanos, answer.offset_nanos, 0).whole_seconds();
            if proof.certificate.contains(said.earliest) {
                return Ok(answer);
            }
            Err(format!(
                "it says {}, when its own certificate is not valid",
                said.earliest
            ))
        }
        (None, false) => Ok(answer),
    }
}

impl Group {
    fn judge(
        &self,
        clock: &ClockFacts,
        heard: &[Heard<'_>],
        authority: Option<&Agreed>,
        asked: &mut Asked,
    ) -> Option<Agreed> {
        if heard.is_empty() {
            return None;
        }
        let answers: Vec<&Answer> = heard
            .iter()
            .filter_map(|heard| heard.answer.as_ref().ok())
            .collect();
        let claims: Vec<Claim> = answers
            .iter()
            .map(|answer| Claim::around(answer.offset_nanos, answer.uncertainty_nanos))
            .collect();
        let Some(found) = select(&claims) else {
            self.show(clock, heard, None, asked);
            asked.checks.push(self.no_majority(heard, authority));
            return None;
        };
        let agreed = self.agreed(clock, (found.low, found.high), found.truechimers.len());
        let refuted = authority.is_some_and(|other| other.bounds.narrow(agreed.bounds).is_none());
        self.show(clock, heard, Some(&found.truechimers), asked);
        let count = (found.truechimers.len(), answers.len());
        let check = self.say_offset(i64::midpoint(found.low, found.high), count);
        asked.checks.push(if refuted {
            Check::warn(self.id, format!("{}; NTS proves otherwise", check.fact))
                .remedy("trust NTS, and ask other time servers")
        } else {
            check
        });
        asked.pieces.push(Piece {
            trust: agreed.trust,
            bounds: agreed.bounds,
            source: self.source,
            two_sided: true,
        });
        Some(agreed)
    }

    fn agreed(&self, clock: &ClockFacts, (low, high): (i64, i64), agreeing: usize) -> Agreed {
        let wall = i128::from(clock.wall_nanos);
        let trust = match self.source {
            Source::Nts => Trust::Authenticated,
            _ if agreeing >= MAJORITY => Trust::Majority,
            _ => Trust::Network,
        };
        Agreed {
            bounds: Bounds {
                earliest: wall + i128::from(low),
                latest: wall + i128::from(high),
            },
            trust,
        }
    }

    /// One reading a server, and a warning for each that is not believed.
    fn show(
        &self,
        clock: &ClockFacts,
        heard: &[Heard<'_>],
        truechimers: Option<&[usize]>,
        asked: &mut Asked,
    ) {
        let most = truechimers.map_or(0, <[usize]>::len);
        let trust = self.agreed(clock, (0, 0), most).trust;
        let mut number = 0;
        for Heard { facts, answer } in heard {
            let name = facts.server.to_string();
            let reading = Reading::new(self.source, name.clone(), trust);
            let answer = match answer {
                Ok(answer) => answer,
                Err(why) => {
                    asked.checks.push(server_check(&name, why));
                    asked.readings.push(reading.note(why));
                    continue;
                }
            };
            let note = note(facts, answer);
            let mut reading = reading
                .measured(
                    clock.wall_nanos,
                    answer.offset_nanos,
                    answer.uncertainty_nanos,
                )
                .note(note);
            if !truechimers.is_some_and(|all| all.contains(&number)) {
                reading.part = Part::Refuted;
            }
            if truechimers.is_some() && reading.part == Part::Refuted {
                let said = offset_in_words(answer.offset_nanos);
                let fact = format!("disagrees with the majority: it says {said}");
                asked.checks.push(server_check(&name, &fact));
            }
            asked.readings.push(reading);
            number += 1;
        }
    }

    fn no_majority(&self, heard: &[Heard<'_>], authority: Option<&Agreed>) -> Check {
        let said: Vec<String> = heard
            .iter()
            .filter_map(|heard| Some((heard.facts, heard.answer.as_ref().ok()?)))
            .map(|(facts, answer)| {
                format!(
                    "`{}` says {}",
                    facts.server,
                    offset_in_words(answer.offset_nanos)
                )
            })
            .collect();
        if said.is_empty() {
            return Check::warn(
                self.id,
                format!("no {} gave an answer to believe", self.noun),
            )
            .remedy(match self.source {
                Source::Nts => {
                    "check the server's name and --nts-ca, and that TCP port 4460 and UDP port \
                         123 are open"
                }
                _ => "check the server's name, and that UDP port 123 is open",
            });
        }
        let fact = format!("{}s disagree: {}", self.noun, said.join(", "));
        let check = if authority.is_some() {
            Check::warn(self.id, fact)
        } else {
            Check::fail(self.id, fact).weigh(Weight::ClockUnknown)
        };
        check.remedy("ask at least three servers, so that a majority can be found")
    }

    fn say_offset(&self, middle: i64, (agreeing, answers): (usize, usize)) -> Check {
        let fact = format!(
            "{agreeing} of {answers} {}{} agree: {}",
            self.noun,
            if answers == 1 { "" } else { "s" },
            offset_in_words(middle)
        );
        match middle.saturating_abs() {
            ..=GOOD_NANOS => Check::pass(self.id, fact),
            off if off <= WRONG_NANOS => Check::warn(self.id, fact).remedy(SET_IT),
            _ => Check::fail(self.id, fact)
                .weigh(Weight::ClockWrong)
                .remedy(SET_IT),
        }
    }
}

fn server_check(name: &str, why: &str) -> Check {
    Check::warn("clock.ntp-server", format!("`{name}`: {why}"))
}

fn note(facts: &TimeServerFacts, answer: &Answer) -> String {
    let mut note = format!("stratum {}", answer.stratum);
    if let Some(address) = &facts.address {
        note = format!("{note}, {address}");
    }
    match &facts.nts {
        Some(proof) if proof.clock_waived => {
            format!("{note}; its certificate was held against the last known time, not the clock")
        }
        _ => note,
    }
}
