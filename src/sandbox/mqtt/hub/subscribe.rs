//! SUBSCRIBE and UNSUBSCRIBE.

use std::sync::Arc;

use super::super::packet::{Filter, Outgoing, Subscribe, code};
use super::super::topics;
use super::super::trie::{Entry, Options};
use super::route::How;
use super::session::Subscription;
use super::{CLIENT_ERROR, End, Turn, why_limit};
use crate::core::policy::Action;
use crate::sandbox::logs::{Record, Stage, Why};

/// The most subscriptions of one connection.
const MAX_SUBSCRIPTIONS: usize = 50;
/// The most filters of one SUBSCRIBE.
const MAX_FILTERS: usize = 8;

/// What becomes of one filter.
enum Judged {
    Granted { fresh: bool },
    Refused { code: u8, why: String },
}

impl Turn<'_> {
    pub(super) fn subscribe(&mut self, link: u64, subscribe: Subscribe) {
        let v5 = self.is_v5(link);
        if let Some((code, details)) = forbidden(&subscribe, v5) {
            return self.wrong(link, "Subscribe", code, details);
        }
        // "The message broker doesn't send a PUBACK or SUBACK when QoS level 2 is requested."
        if !v5 && subscribe.filters.iter().any(|filter| filter.qos > 1) {
            let details = "AWS IoT has no QoS 2: it does not answer the SUBSCRIBE";
            return self.log_wrong(link, "Subscribe", details.to_owned(), None);
        }
        let mut codes = Vec::new();
        let mut granted = Vec::new();
        let mut why = None;
        let too_many = subscribe.filters.len() > MAX_FILTERS;
        for filter in &subscribe.filters {
            let judged = if too_many {
                self.over_the_limit(link, filter, subscribe.filters.len())
            } else {
                self.judge(link, filter)
            };
            // The connection may be over by now.
            let Some(judged) = judged else { return };
            match judged {
                Judged::Granted { fresh } => {
                    self.log(link, Record::success("Subscribe").topic(&filter.text));
                    codes.push(filter.qos.min(1));
                    granted.push((filter, fresh));
                }
                Judged::Refused { code, why: reason } => {
                    codes.push(code);
                    why = why.or(Some(reason));
                }
            }
        }
        let why = why.and_then(|why| self.told(link, &why));
        let id = subscribe.id;
        self.send(link, Outgoing::Suback { id, codes, why });
        self.subscribed(link, &granted);
    }

    fn over_the_limit(&mut self, link: u64, filter: &Filter, count: usize) -> Option<Judged> {
        let why = format!("{count} filters in one SUBSCRIBE are over {MAX_FILTERS}");
        let record = Record::failure("Subscribe", CLIENT_ERROR, why.clone());
        self.refuse_filter(
            link,
            record.topic(&filter.text),
            (code::QUOTA, End::ClientError),
            why,
        )
    }

    /// Decides about one filter, and puts it in place. `None` when it has ended the connection.
    fn judge(&mut self, link: u64, filter: &Filter) -> Option<Judged> {
        if let Some(why) = topics::filter_problem(&filter.text) {
            let record = Record::failure("Subscribe", CLIENT_ERROR, why.clone());
            let outcome = (code::FILTER, End::ClientError);
            return self.refuse_filter(link, record.topic(&filter.text), outcome, why);
        }
        let access = self.access(link)?;
        if let Err(denied) = access.may(Stage::Subscribe, Action::Subscribe, &filter.text) {
            let why = denied.details.clone();
            let record = super::denied_record("Subscribe", denied).topic(&filter.text);
            let outcome = (code::NOT_AUTHORIZED, End::AuthError);
            return self.refuse_filter(link, record, outcome, why);
        }
        if let Some(why) = self.throttle_subscribe() {
            let remedy = "subscribe to fewer filters, or later, with jitter";
            let said = Why::new(Stage::Subscribe, "quota.subscribe", remedy);
            let said = self.who(link, said);
            let record = Record::failure("Subscribe", "THROTTLED", why.clone()).why(said);
            self.log(link, record.topic(&filter.text));
            let code = self.over_quota(link);
            return Some(Judged::Refused { code, why });
        }
        let session = self.hub.session_of(link)?;
        let known = session.subscriptions.iter();
        let known = known.filter(|one| *one.filter == *filter.text).count() > 0;
        if !known && session.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            let why = format!("a connection has at most {MAX_SUBSCRIPTIONS} subscriptions");
            self.log_wrong(link, "Subscribe", why.clone(), Some(&filter.text));
            let code = self.over_quota(link);
            return Some(Judged::Refused { code, why });
        }
        self.add(link, filter);
        Some(Judged::Granted { fresh: !known })
    }

    /// The SUBACK's code for a filter over a quota.
    fn over_quota(&self, link: u64) -> u8 {
        if self.is_v5(link) {
            code::QUOTA
        } else {
            code::UNSPECIFIED
        }
    }

    /// MQTT 5 says so in the SUBACK; of MQTT 3.1.1 it ends the connection.
    fn refuse_filter(
        &mut self,
        link: u64,
        record: Record,
        outcome: (u8, End),
        why: String,
    ) -> Option<Judged> {
        let why_not = record.why.clone();
        let why_not = *why_not.unwrap_or_else(|| Box::new(why_limit(Stage::Subscribe)));
        let why_not = self.who(link, why_not);
        self.log(link, record.why(why_not));
        let (code, end) = outcome;
        if self.is_v5(link) {
            return Some(Judged::Refused { code, why });
        }
        self.end(link, end, None, None);
        None
    }

    fn add(&mut self, link: u64, filter: &Filter) {
        let Some(session) = self.hub.session_of_mut(link) else {
            return;
        };
        let subscription = Subscription {
            filter: filter.text.as_str().into(),
            options: Options {
                qos: filter.qos.min(1),
                no_local: filter.no_local,
                as_published: filter.as_published,
            },
        };
        let key = session.key;
        let mut all = session.subscriptions.iter_mut();
        match all.find(|one| one.filter == subscription.filter) {
            Some(one) => *one = subscription.clone(),
            None => session.subscriptions.push(subscription.clone()),
        }
        self.hub.plant(key, &subscription);
    }

    /// After the SUBACK: retained messages, the event, and the session's record.
    fn subscribed(&mut self, link: u64, granted: &[(&Filter, bool)]) {
        let Some(key) = self.hub.links.get(&link).copied() else {
            return;
        };
        if granted.is_empty() {
            return;
        }
        self.keep_session(key);
        for (filter, fresh) in granted {
            let wanted = match filter.retain_handling {
                0 => true,
                1 => *fresh,
                _ => false,
            };
            // AWS IoT sends retained messages for exact filters only.
            if !wanted || topics::shared(&filter.text).is_some() || !topics::is_exact(&filter.text)
            {
                continue;
            }
            if let Some(message) = self.retained(&filter.text) {
                let how = How {
                    qos: filter.qos.min(message.qos),
                    retain: true,
                    group: None,
                };
                self.give(key, &message, how);
            }
        }
        let topics: Vec<&str> = granted.iter().map(|one| &*one.0.text).collect();
        self.subscription_event(key, "subscribed", &topics);
    }

    pub(super) fn unsubscribe(&mut self, link: u64, id: u16, filters: &[String]) {
        let Some(key) = self.hub.links.get(&link).copied() else {
            return;
        };
        let mut gone = Vec::new();
        let mut codes = Vec::new();
        for filter in filters {
            let Some(session) = self.hub.sessions.get_mut(&key) else {
                return;
            };
            let before = session.subscriptions.len();
            session.subscriptions.retain(|one| *one.filter != **filter);
            if session.subscriptions.len() < before {
                self.hub.uproot(key, filter);
                self.log(link, Record::success("Unsubscribe").topic(filter));
                gone.push(&**filter);
            }
            let valid = topics::filter_problem(filter).is_none();
            codes.push(if valid { code::SUCCESS } else { code::FILTER });
        }
        self.send(link, Outgoing::Unsuback { id, codes });
        if !gone.is_empty() {
            self.keep_session(key);
            self.subscription_event(key, "unsubscribed", &gone);
        }
    }
}

impl super::Hub {
    /// Puts a subscription where messages find it.
    pub(super) fn plant(&mut self, key: u64, subscription: &Subscription) {
        let filter: Arc<str> = Arc::clone(&subscription.filter);
        let entry = Entry {
            session: key,
            options: subscription.options,
        };
        match topics::shared(&filter) {
            Some((group, inner)) => self.trie.insert(inner, Some(group), entry),
            None => self.trie.insert(&filter, None, entry),
        }
    }

    /// Takes a subscription from where messages find it.
    pub(super) fn uproot(&mut self, key: u64, filter: &str) {
        match topics::shared(filter) {
            Some((group, inner)) => self.trie.remove(inner, Some(group), key),
            None => self.trie.remove(filter, None, key),
        }
    }
}

/// What AWS IoT ends an MQTT 5 connection for.
fn forbidden(subscribe: &Subscribe, v5: bool) -> Option<(u8, String)> {
    if subscribe.identified {
        let details = "AWS IoT has no subscription identifiers";
        return Some((code::SUBSCRIPTION_ID, details.to_owned()));
    }
    let mut filters = subscribe.filters.iter();
    let selfish = filters.any(|one| one.no_local && topics::shared(&one.text).is_some());
    (v5 && selfish).then(|| {
        let details = "a shared subscription with No Local";
        (code::PROTOCOL, details.to_owned())
    })
}
