// One entry for each reader of bytes from outside. The fuzz targets and the test that replays the
// corpus (tests/it/fuzz_corpus.rs) call the same ones. An entry may refuse its input, and nothing else.

use std::io::Cursor;
use std::sync::{Arc, OnceLock};

use nameplate::core::batch::{ListFormat, Rows, Slip};
use nameplate::core::cert::Certificate;
use nameplate::core::clock::daemon::{chrony, ntpd, ntpd_rs};
use nameplate::core::clock::kiss::Memory;
use nameplate::core::clock::last_seen;
use nameplate::core::clock::select::{Claim, select};
use nameplate::core::crl::Crl;
use nameplate::core::csr::{Csr, Keys};
use nameplate::core::der;
use nameplate::core::enrolment::Journal;
use nameplate::core::fleet;
use nameplate::core::ids::{CertificateId, Place};
use nameplate::core::intake;
use nameplate::core::isolate::{self, Fleet, Names, prove};
use nameplate::core::json;
use nameplate::core::key::{KeyFile, PublicKey};
use nameplate::core::key_uri::KeyUri;
use nameplate::core::ledger_file::Reader;
use nameplate::core::ledger_place::LedgerPlace;
use nameplate::core::logfilter::Filter;
use nameplate::core::mqtt::{Client, Protocol};
use nameplate::core::nts::{ke, packet};
use nameplate::core::path::{self, PathRequest, Pool, Usage};
use nameplate::core::pattern;
use nameplate::core::payload::{Format, decode_cbor};
use nameplate::core::pem;
use nameplate::core::policy::{Action, Compiled, Document, Facts, NamedPolicy, Request, decide};
use nameplate::core::policygen::{self, MAX_POLICIES, Options, THING_NAME, Wanted};
use nameplate::core::policylint;
use nameplate::core::profile::Profile;
use nameplate::core::renewal::Margin;
use nameplate::core::sntp::{self, Sent};
use nameplate::core::subject::Subject;
use nameplate::core::suppress::Suppressions;
use nameplate::core::template::{self, Template, jitp_parameters};
use nameplate::core::time::{Span, UtcTime, Validity};
use nameplate::effects::clock::SystemClock;
use nameplate::effects::entropy::OsEntropy;
use nameplate::sandbox::registry::Registry;
use nameplate::sandbox::rest::replay::{operations, replay};
use nameplate::sandbox::store::Store;
use nameplate::sandbox::{Shared, replay_mqtt};

/// Takes one input.
pub(crate) type Entry = fn(&[u8]);

/// Every entry by its target's name.
pub(crate) const ALL: &[(&str, Entry)] = &[
    ("cbor", cbor),
    ("certificate", certificate),
    ("crl", crl),
    ("csr", csr),
    ("csv", csv),
    ("generate", generate),
    ("intake", intake_bytes),
    ("isolate", isolate_policy),
    ("json", json_text),
    ("key", key),
    ("ledger", ledger),
    ("logfilter", logfilter),
    ("mqtt", mqtt),
    ("mqtt_client", mqtt_client),
    ("ndjson", ndjson),
    ("nts", nts),
    ("ntske", ntske),
    ("path", path_of),
    ("pem", pem_text),
    ("place", place),
    ("policy", policy),
    ("profile", profile),
    ("rest", rest),
    ("sntp", sntp_packet),
    ("subject", subject),
    ("template", template),
    ("time", time),
    ("timedaemon", timedaemon),
];

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// PEM, and what it holds written again, is the same.
pub(crate) fn pem_text(data: &[u8]) {
    let Ok(blocks) = pem::parse(data) else {
        return;
    };
    for block in &blocks {
        let again = pem::encode(&block.label, &block.der);
        if let Ok(read) = pem::parse(again.as_bytes()) {
            assert_eq!(read.len(), 1);
            assert_eq!(read[0].der, block.der);
        }
    }
    let _ = Certificate::all_from_pem(data);
}

/// A DER certificate, and every question we ask of one.
pub(crate) fn certificate(data: &[u8]) {
    let Ok(leaf) = Certificate::from_der(data) else {
        return;
    };
    let _ = (leaf.is_self_issued(), leaf.is_signed_by(&leaf));
    let _ = (leaf.unsupported_algorithm(), leaf.key_algorithm());
    let _ = (leaf.serial_hex(), leaf.subject.to_string());
    let _ = jitp_parameters(&leaf.subject, leaf.id());
    assert_eq!(leaf.der(), data);
}

/// A key file, and a public key.
pub(crate) fn key(data: &[u8]) {
    let _ = KeyFile::parse(data);
    if let Ok(public) = PublicKey::from_spki(data) {
        let _ = (public.algorithm().to_string(), public.key_id());
    }
}

/// A list of devices as CSV.
pub(crate) fn csv(data: &[u8]) {
    list(data, ListFormat::Csv);
}

/// A list of devices as NDJSON.
pub(crate) fn ndjson(data: &[u8]) {
    list(data, ListFormat::Ndjson);
}

fn list(data: &[u8], format: ListFormat) {
    let input = Box::new(Cursor::new(data.to_vec()));
    let Ok(rows) = Rows::open(input, format, None) else {
        return;
    };
    for row in rows {
        match row {
            Ok(row) => assert!(
                row.value("name")
                    .is_none_or(|value| value.len() <= data.len())
            ),
            Err(Slip::Row(problems)) => assert!(!problems.is_empty()),
            Err(Slip::End(error)) => {
                let _ = error.to_string();
                return;
            }
        }
    }
}

/// A revocation list. What is written again is the same.
pub(crate) fn crl(data: &[u8]) {
    if let Ok(crl) = Crl::from_der(data) {
        let again = Crl::all_from_pem(crl.to_pem().as_bytes()).expect("what was written is read");
        assert_eq!((again.len(), again[0].der()), (1, crl.der()));
        assert_eq!(again[0].len(), crl.len());
    }
    let _ = Crl::all_from_pem(data);
}

/// Certificates one behind the other: the first is verified, the last is trusted. A certificate that
/// is trusted is not held against its own signature, so whatever it says is walked.
pub(crate) fn path_of(data: &[u8]) {
    let (mut all, mut rest) = (Vec::new(), data);
    while let Some((element, after)) = der::first(rest) {
        all.extend(Certificate::from_der(element.whole));
        rest = after;
    }
    let (Some(leaf), Some(root)) = (all.first().cloned(), all.pop()) else {
        return;
    };
    let (roots, when) = ([root], leaf.validity);
    let pool = Pool::new(&all, &roots, &[]);
    for usage in [Usage::Any, Usage::Client, Usage::Server, Usage::Ca] {
        let mut request = PathRequest::new(&leaf, when);
        (request.usage, request.strict) = (usage, usage == Usage::Server);
        let verdict = path::verify(&pool, &request);
        for fault in &verdict.faults {
            assert!(fault.at < verdict.path.len() && !fault.reason.to_string().is_empty());
        }
    }
}

/// Signing requests.
pub(crate) fn csr(data: &[u8]) {
    let _ = Csr::from_der(data);
    let _ = Csr::all(data, Keys::Any);
}

/// Whatever is given to `cert inspect`.
pub(crate) fn intake_bytes(data: &[u8]) {
    if let Ok(items) = intake::sort(data) {
        assert!(!items.is_empty());
    }
}

/// An exported ledger.
pub(crate) fn ledger(data: &[u8]) {
    let Some(text) = text(data) else {
        return;
    };
    let mut reader = Reader::new();
    for line in text.lines() {
        if reader.line(line).is_err() {
            return;
        }
    }
    let _ = reader.end();
}

/// Where a key or a ledger is. What is printed is read again as the same.
pub(crate) fn place(data: &[u8]) {
    let Some(text) = text(data) else {
        return;
    };
    if let Ok(uri) = text.parse::<KeyUri>() {
        let again = uri.to_string().parse::<KeyUri>();
        assert_eq!(again.ok().as_ref(), Some(&uri), "{uri}");
    }
    let _ = LedgerPlace::parse(text);
}

/// A certificate profile, and a list of suppressions.
pub(crate) fn profile(data: &[u8]) {
    let Some(text) = text(data) else {
        return;
    };
    for error in [
        Profile::parse(text, "p.toml").err().map(|e| e.to_string()),
        Suppressions::parse(text, "p.toml")
            .err()
            .map(|e| e.to_string()),
    ] {
        assert!(error.is_none_or(|error| error.contains("p.toml")));
    }
}

/// JSON, read strictly.
pub(crate) fn json_text(data: &[u8]) {
    if let Some(text) = text(data) {
        let _ = json::parse(text, 32);
    }
}

/// A provisioning template: linted and evaluated.
pub(crate) fn template(data: &[u8]) {
    let Some(Ok(template)) = text(data).map(Template::parse) else {
        return;
    };
    let values = jitp_parameters(
        &Subject::common_name("pump-1"),
        &CertificateId::of_der(b"certificate"),
    );
    let _ = template.missing_parameters(&values);
    let (Ok(account), Ok(region)) = ("123456789012".parse(), "eu-west-1".parse()) else {
        return;
    };
    let place = Place { account, region };
    for usage in [
        template::Usage::Jitp,
        template::Usage::FleetProvisioning,
        template::Usage::RegisterThing,
    ] {
        let _ = template.lint(usage);
        let asked = template::Asked {
            usage,
            values: &values,
            subject: None,
            existing: &template::ExistingThings::default(),
            place: &place,
        };
        let _ = template.foresee(&asked, &mut template::Gate::default());
        if let Err(error) = template.render(usage, &values) {
            let _ = template.reason(&error, &values);
        }
    }
}

/// An AWS IoT policy: the compiled decision is the plain one, and what is mended can be read and
/// has nothing left to mend.
pub(crate) fn policy(data: &[u8]) {
    let Some(text) = text(data) else {
        return;
    };
    let request = policylint::Request::default();
    let linted = policylint::lint(text, &request);
    let Ok(document) = Document::parse(text) else {
        return;
    };
    if !linted.fixes.is_empty() {
        let fixed = policylint::fix(text, &request, |_| true);
        assert!(Document::parse_any_size(&fixed.text).is_ok());
        let again = policylint::fix(&fixed.text, &request, |_| true);
        assert_eq!(again.text, fixed.text);
    }
    let policies = [NamedPolicy {
        name: "p".to_owned(),
        document: Arc::new(document),
    }];
    let facts = Facts::new("c").with("iot:Certificate.Subject.CommonName", vec!["a".into()]);
    let compiled = Compiled::new(&policies, &facts);
    for action in Action::all() {
        for resource in ["*", "arn:aws:iot:us-east-1:123456789012:topic/a", text] {
            let request = Request { action, resource };
            let plain = decide(&policies, &facts, request).outcome;
            assert_eq!(compiled.decide(request).outcome, plain);
        }
    }
}

fn a_place() -> Option<Place> {
    let (account, region) = ("123456789012".parse().ok()?, "us-east-1".parse().ok()?);
    Some(Place { account, region })
}

/// A policy whose isolation is to be proved, of devices whose names are a first line that is no
/// JSON, as a regular expression: what a counterexample says is allowed, is.
pub(crate) fn isolate_policy(data: &[u8]) {
    let (Some(text), Some(place)) = (text(data), a_place()) else {
        return;
    };
    let (names, text) = match text.split_once('\n') {
        Some((line, rest)) if !line.contains('{') => (Names::matching(line), rest),
        _ => (Ok(Names::All), text),
    };
    let (Ok(names), Ok(document)) = (names, Document::parse(text)) else {
        return;
    };
    let policies = [NamedPolicy {
        name: "p".to_owned(),
        document: Arc::new(document),
    }];
    let mut fleet = Fleet::new(place, &policies);
    fleet.names = names;
    fleet.exclusive = data.len() % 2 == 1;
    fleet.shared = isolate::Shared {
        topics: vec!["shared/#".to_owned()],
        ..isolate::Shared::default()
    };
    let verdict = prove(&fleet);
    assert!(!verdict.proved() || verdict.counterexamples.is_empty());
    for found in verdict.counterexamples {
        let [one, two] = found.devices;
        assert_ne!(one.thing, two.thing);
        for device in [one, two] {
            let mut facts = Facts::new(&device.client_id);
            for (key, value) in &device.values {
                facts = facts.with(key, vec![value.clone()]);
            }
            if device.attached {
                facts = facts
                    .with("iot:Connection.Thing.IsAttached", vec!["true".to_owned()])
                    .with(THING_NAME, vec![device.thing]);
            }
            for packet in device.packets {
                let action = Action::parse(packet.action).expect("an action of its own");
                let resource = &packet.resource;
                let request = Request { action, resource };
                assert!(decide(&policies, &facts, request).allowed());
            }
        }
    }
}

/// A list, or a log, of what devices do: what is written from it can be read, and has no errors.
pub(crate) fn generate(data: &[u8]) {
    let (Some(text), Some(place)) = (text(data), a_place()) else {
        return;
    };
    let options = Options {
        place,
        variable: THING_NAME.to_owned(),
        persistent: data.len() % 2 == 1,
        will: None,
    };
    for read in [policygen::read_list, policygen::read_traffic] {
        let mut wanted = Wanted::default();
        if read(text, &mut wanted).is_err() {
            continue;
        }
        for document in policygen::generate(&wanted, &options, MAX_POLICIES).unwrap_or_default() {
            assert!(Document::parse(&document).is_ok(), "{document}");
        }
    }
}

/// A subject and a subject pattern. What is printed is read again as the same.
pub(crate) fn subject(data: &[u8]) {
    let Some(text) = text(data) else {
        return;
    };
    if let Ok(subject) = text.parse::<Subject>() {
        let again: Subject = subject
            .to_string()
            .parse()
            .expect("what was printed is read");
        assert_eq!(subject, again);
    }
    let _ = pattern::placeholders(text);
    let _ = pattern::fill(text, &|name| (name == "name").then_some("a,b=c\\"));
}

/// Instants, durations and margins.
pub(crate) fn time(data: &[u8]) {
    let Some(text) = text(data) else {
        return;
    };
    let now = UtcTime::from_unix(1_800_000_000);
    if let Ok(at) = UtcTime::parse_relative(text, now) {
        assert_eq!(at.to_string().parse::<UtcTime>().ok(), Some(at));
    }
    if let Ok(span) = text.parse::<Span>() {
        let _ = (now.plus(span), now.minus(span), span.to_string());
    }
    if let Ok(margin) = text.parse::<Margin>() {
        let window = Validity {
            not_before: now,
            not_after: now.plus(Span::days(365)),
        };
        assert!(margin.opens(&window) <= window.not_after);
    }
}

/// A time server's answer.
pub(crate) fn sntp_packet(data: &[u8]) {
    let Some((nonce, packet)) = data.split_first_chunk() else {
        return;
    };
    let sent = Sent {
        nonce: u64::from_be_bytes(*nonce),
        sent_nanos: 1_800_000_000_000_000_000,
        received_nanos: 1_800_000_000_100_000_000,
        floor_nanos: 1_700_000_000_000_000_000,
    };
    if let Ok(answer) = sntp::read(packet, &sent) {
        let claim = Claim::around(answer.offset_nanos, answer.uncertainty_nanos);
        assert!(select(&[claim]).is_some());
    }
}

/// A key exchange's records: an offer that is taken is complete, and can be used.
pub(crate) fn ntske(data: &[u8]) {
    if let Ok(offer) = ke::read(data) {
        assert!(ke::is_complete(data));
        assert!((1..=8).contains(&offer.cookies.len()));
        for cookie in offer.cookies {
            assert!(
                packet::request(&nts_fresh(), &cookie, &[1; 32])
                    .unwrap()
                    .len()
                    < 1024
            );
        }
    }
}

fn nts_fresh() -> packet::Fresh {
    packet::Fresh {
        origin: 7,
        id: [3; packet::ID_BYTES],
        nonce: [4; packet::NONCE_BYTES],
    }
}

/// An answer with NTS extension fields. The right identifier is put in, so that more than the first
/// check is reached; whoever has not the key proves nothing.
pub(crate) fn nts(data: &[u8]) {
    let request = packet::request(&nts_fresh(), &[6; 100], &[1; 32]).unwrap();
    assert!(packet::verify(data, &request, &[3; 32], &[2; 32]).is_err());
    let Some((header, fields)) = data.split_at_checked(48) else {
        return;
    };
    let identified = [header, &[1, 4, 0, 36], &[3; 32], fields].concat();
    assert!(packet::verify(&identified, &request, &[3; 32], &[2; 32]).is_err());
}

/// What time daemons say, and what is kept of the time.
pub(crate) fn timedaemon(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    match kind % 5 {
        0 => drop(chrony::read(data, 7)),
        1 => drop(ntpd::read(data, 7)),
        2 => drop(ntpd_rs::read(data)),
        3 => {
            if let Ok(at) = last_seen::read(data) {
                assert_eq!(last_seen::read(last_seen::write(at).as_bytes()), Ok(at));
            }
        }
        _ => drop(Memory::read(data, 7).held("a:123", 7)),
    }
}

/// A payload of fleet provisioning: what is taken is JSON.
pub(crate) fn cbor(data: &[u8]) {
    if let Ok(value) = decode_cbor(data) {
        assert!(!value.to_string().is_empty());
    }
    for format in [Format::Json, Format::Cbor] {
        let _ = (
            fleet::issued(format, data),
            fleet::registered(format, data),
            fleet::rejected("RegisterThing", format, data).to_string(),
        );
    }
    if let Ok(journal) = Journal::parse(data) {
        let _ = (journal.certificate(), journal.key());
        assert!(Journal::parse(&journal.to_bytes()).is_ok());
    }
}

/// What a server says to a client of either MQTT, in one piece and in two.
pub(crate) fn mqtt_client(data: &[u8]) {
    for protocol in [Protocol::V3, Protocol::V5] {
        for cut in [0, data.len() / 2] {
            let Ok((mut client, _)) = Client::connect(protocol, "fuzz", 30) else {
                continue;
            };
            let (front, back) = data.split_at(cut);
            if client.hear(front).is_ok() && client.hear(back).is_ok() {
                let _ = (client.replies(), client.publish("a/b", b"x"));
            }
        }
    }
}

/// What three MQTT clients send, in frames; when they are gone nothing is left of them.
pub(crate) fn mqtt(data: &[u8]) {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    let certificate = CERTIFICATE.get_or_init(|| {
        let all = Certificate::all_from_pem(include_bytes!("device.pem"));
        all.expect("it is a certificate").remove(0)
    });
    if let Some(place) = a_place() {
        replay_mqtt(certificate, &place, data);
    }
}

/// A filter pattern in the first line, the record in the rest.
pub(crate) fn logfilter(data: &[u8]) {
    let Some((pattern, record)) = text(data).and_then(|text| text.split_once('\n')) else {
        return;
    };
    if let Ok(filter) = Filter::parse(pattern) {
        filter.fits(record);
    }
}

/// Operation, label and query string in the first line, the body in the rest; then every list, which
/// must still show what there is.
pub(crate) fn rest(data: &[u8]) {
    let Some((line, body)) = text(data).and_then(|text| text.split_once('\n')) else {
        return;
    };
    let mut words = line.splitn(3, ' ');
    let mut next = || words.next().unwrap_or_default();
    let (operation, label, query) = (next(), next(), next());
    if label.bytes().any(|byte| !(0x20..0x7f).contains(&byte)) {
        return;
    }
    let place = Place {
        account: "123456789012".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
    };
    let registry = Registry::open(place, Store::memory()).unwrap();
    let shared = Shared::alone(
        registry,
        Arc::new(SystemClock),
        Arc::new(OsEntropy::default()),
    );
    let _ = replay(&shared, operation, label, query, body.as_bytes());
    for list in operations().filter(|name| name.starts_with("List")) {
        let _ = replay(&shared, list, label, "", b"");
    }
}
