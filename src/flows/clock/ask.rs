//! Asks time servers, with NTS and without, no more often than they allow.

use std::time::Duration;

use zeroize::Zeroizing;

use super::gather::{ClockGather, ClockRequest};
use crate::core::clock::kiss::{Held, Memory};
use crate::core::clock::{NtsProof, TimeServerFacts};
use crate::core::endpoint::Endpoint;
use crate::core::nts::packet::{self, Fresh, ID_BYTES};
use crate::core::nts::trust::{Accepted, Trust};
use crate::core::nts::{KEY_BYTES, NtsError};
use crate::core::sntp::{self, PACKET_BYTES};
use crate::ports::{Answered, NtsSession, Question, Unanswered};

/// A server was asked a moment ago: the wait is short enough to be waited.
const SHORT_WAIT_S: u64 = 2;

/// One question on its way, and what its answer is held against.
struct Asked {
    /// The server as the user named it.
    server: Endpoint,
    nonce: u64,
    question: Question,
    secured: Option<Secured>,
}

struct Secured {
    id: [u8; ID_BYTES],
    key: Zeroizing<[u8; KEY_BYTES]>,
    accepted: Accepted,
}

impl ClockGather<'_> {
    pub(super) fn ask(
        &self,
        request: &ClockRequest,
        trust: &Trust,
        memory: &mut Memory,
    ) -> Vec<TimeServerFacts> {
        let now = self.kernel.uptime_s().unwrap_or(0);
        self.keep_distance(&request.time_servers, memory, now);
        let mut facts = Vec::new();
        let mut asked = Vec::new();
        for server in &request.time_servers {
            match memory
                .held(&server.to_string(), now)
                .filter(|held| held.kiss.is_some())
            {
                Some(held) => facts.push(silent(server, false, held.to_string())),
                None => asked.push(self.plain(server)),
            }
        }
        let sessions = self
            .nts
            .exchange(&request.nts_servers, trust, request.timeout);
        for (server, session) in request.nts_servers.iter().zip(sessions) {
            match session.and_then(|session| self.secured(server, session)) {
                Ok(question) => asked.push(question),
                Err(why) => facts.push(silent(server, true, why)),
            }
        }
        let questions: Vec<Question> = asked.iter().map(|asked| asked.question.clone()).collect();
        let answers = self
            .time_source
            .ask(&questions, request.timeout, self.clock);
        for (asked, answer) in asked.into_iter().zip(answers) {
            note(memory, &asked, &answer, now);
            facts.push(asked.facts(answer));
        }
        facts
    }

    /// A user who asks twice in a second does not become a burden to the server.
    fn keep_distance(&self, servers: &[Endpoint], memory: &Memory, now: u64) {
        let held = |server: &Endpoint| memory.held(&server.to_string(), now);
        let recent = |held: &Held| held.kiss.is_none();
        let waits = servers.iter().filter_map(held).filter(recent);
        if let Some(longest) = waits.map(|held| held.left_s).max() {
            let seconds = longest.min(SHORT_WAIT_S);
            self.clock.sleep(Duration::from_secs(seconds));
        }
    }

    fn plain(&self, server: &Endpoint) -> Asked {
        let nonce = self.nonce();
        Asked {
            server: server.clone(),
            nonce,
            question: Question {
                server: server.clone(),
                packet: sntp::request(nonce).to_vec(),
            },
            secured: None,
        }
    }

    fn secured(&self, server: &Endpoint, session: NtsSession) -> Result<Asked, String> {
        let mut fresh = Fresh {
            origin: self.nonce(),
            id: [0; ID_BYTES],
            nonce: [0; packet::NONCE_BYTES],
        };
        self.entropy.fill(&mut fresh.id);
        self.entropy.fill(&mut fresh.nonce);
        let cookie = session.offer.cookies.first();
        let cookie = cookie.ok_or_else(|| NtsError::NoCookie.to_string())?;
        let packet = packet::request(&fresh, cookie, &session.to_server);
        let packet = packet.map_err(|error| error.to_string())?;
        let host = session.offer.server.clone();
        Ok(Asked {
            server: server.clone(),
            nonce: fresh.origin,
            question: Question {
                server: Endpoint {
                    host: host.unwrap_or_else(|| session.address.to_string()),
                    port: session.offer.port.unwrap_or(Endpoint::NTP_PORT),
                    alpn: false,
                },
                packet,
            },
            secured: Some(Secured {
                id: fresh.id,
                key: session.to_client,
                accepted: session.accepted,
            }),
        })
    }

    fn nonce(&self) -> u64 {
        let mut nonce = [0; 8];
        self.entropy.fill(&mut nonce);
        u64::from_be_bytes(nonce)
    }
}

impl Asked {
    fn facts(self, answer: Result<Answered, Unanswered>) -> TimeServerFacts {
        let mut facts = silent(&self.server, self.secured.is_some(), String::new());
        facts.nonce = self.nonce;
        let answered = match answer {
            Ok(answered) => answered,
            Err(error) => {
                facts.error = Some(error.to_string());
                return facts;
            }
        };
        facts.error = None;
        facts.address = Some(answered.address);
        facts.sent_nanos = narrow(answered.sent_nanos);
        facts.received_nanos = narrow(answered.received_nanos);
        let Some(secured) = self.secured else {
            // One byte more than is right shows that it was too long.
            facts.reply = answered.bytes;
            facts.reply.truncate(PACKET_BYTES + 1);
            return facts;
        };
        let sent = &self.question.packet;
        match packet::verify(&answered.bytes, sent, &secured.id, &secured.key) {
            Ok(header) => {
                facts.reply = header.to_vec();
                facts.nts = Some(NtsProof {
                    certificate: secured.accepted.window,
                    clock_waived: secured.accepted.clock_waived,
                });
            }
            Err(error) => facts.error = Some(error.to_string()),
        }
        facts
    }
}

/// An unauthenticated refusal of an NTS server is not remembered: anybody could have sent it.
fn note(memory: &mut Memory, asked: &Asked, answer: &Result<Answered, Unanswered>, now: u64) {
    let name = asked.server.to_string();
    if asked.secured.is_some() {
        return;
    }
    memory.asked(&name, now);
    if let Ok(answered) = answer {
        match sntp::kiss(&answered.bytes, asked.nonce) {
            Some(code) => memory.kissed(&name, &code, now),
            None if answered.bytes.get(24..32) == Some(&asked.nonce.to_be_bytes()[..]) => {
                memory.answered(&name);
            }
            None => {}
        }
    }
}

fn silent(server: &Endpoint, by_nts: bool, why: String) -> TimeServerFacts {
    TimeServerFacts {
        server: server.clone(),
        nonce: 0,
        sent_nanos: 0,
        received_nanos: 0,
        reply: Vec::new(),
        error: Some(why),
        address: None,
        by_nts,
        nts: None,
    }
}

pub(super) fn narrow(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}
