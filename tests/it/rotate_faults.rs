//! `device rotate` with each of its effects failing in turn, before or after it took effect: the
//! next run finishes, and never is there a moment in which the device's folder holds nothing that
//! works.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nameplate::core::bundle::{self, Secrecy};
use nameplate::core::cert::Certificate;
use nameplate::core::draft::{Extras, Purpose};
use nameplate::core::endpoint::Endpoint;
use nameplate::core::ids::{CertificateId, Place, PolicyName, TemplateName, ThingName};
use nameplate::core::key::{KeyAlgorithm, PrivateKey};
use nameplate::core::lifetime::{Lifetime, OnCaExpiry};
use nameplate::core::pem;
use nameplate::core::record::{
    AuthorityRecord, CertificateRecord, CertificateState, CrlRecord, IdentityPurpose, Intent,
    LedgerCheck, RotationRecord, SerialKey,
};
use nameplate::core::revocation::{Revocation, RevocationReason};
use nameplate::core::status::CertificateStatus;
use nameplate::core::template::PrerequisiteKind;
use nameplate::core::time::{Span, UtcTime};
use nameplate::effects::entropy::OsEntropy;
use nameplate::effects::files::Disk;
use nameplate::effects::keys::{LocalSigner, RingKeys};
use nameplate::effects::ledger::{SqlLedger, sqlite};
use nameplate::effects::swap::FolderSwap;
use nameplate::explain::Explain;
use nameplate::flows::ca_create::{self, CaCreate};
use nameplate::flows::device_issue::{self, DeviceIssue, KeySource, saved};
use nameplate::flows::device_revoke::DeviceRevoke;
use nameplate::flows::device_rotate::{DeviceRotate, Request, RotateError, Rotated};
use nameplate::flows::issuer::Issuer;
use nameplate::ports::cloud::*;
use nameplate::ports::ledger::{
    Checkpoint, Claim, Confirmation, Feed, Filter, Ledger, LedgerError, NextCrl, Run,
};
use nameplate::ports::{
    Channel, Clock, Dial, DialError, FileError, Files, Received, ServerSeen, Signer, Swap, Target,
};
use zeroize::Zeroizing;

/// Which effect fails, and whether it happened all the same.
#[derive(Clone, Copy, Debug, Default)]
struct Fault {
    at: usize,
    after: bool,
}

/// Counts effects and fails one.
#[derive(Default)]
struct Fuse {
    fault: Cell<Fault>,
    seen: Cell<usize>,
}

impl Fuse {
    fn arm(&self, fault: Fault) {
        self.fault.set(fault);
        self.seen.set(0);
    }

    fn guard<T, E>(
        &self,
        effect: impl FnOnce() -> Result<T, E>,
        broken: impl FnOnce() -> E,
    ) -> Result<T, E> {
        self.seen.set(self.seen.get() + 1);
        let fault = self.fault.get();
        let hit = self.seen.get() == fault.at;
        if hit && !fault.after {
            return Err(broken());
        }
        let done = effect()?;
        if hit { Err(broken()) } else { Ok(done) }
    }
}

fn file_broken(path: &Path) -> FileError {
    FileError::Write {
        path: path.to_owned(),
        source: std::io::Error::from(std::io::ErrorKind::StorageFull),
    }
}

#[derive(Default)]
struct Time(Cell<Duration>);

impl Clock for Time {
    fn now(&self) -> UtcTime {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }
    fn now_nanos(&self) -> i128 {
        i128::from(self.now().unix()) * 1_000_000_000
    }
    fn monotonic(&self) -> Duration {
        self.0.get()
    }
    fn sleep(&self, duration: Duration) {
        self.0.set(self.0.get() + duration);
    }
}

struct FaultyFiles<'a>(&'a Fuse);

impl Files for FaultyFiles<'_> {
    fn read(&self, path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
        Disk.read(path, max)
    }
    fn write_new(&self, path: &Path, bytes: &[u8], secrecy: Secrecy) -> Result<(), FileError> {
        let write = || Disk.write_new(path, bytes, secrecy);
        self.0.guard(write, || file_broken(path))
    }
    fn replace(&self, path: &Path, bytes: &[u8], secrecy: Secrecy) -> Result<(), FileError> {
        let write = || Disk.replace(path, bytes, secrecy);
        self.0.guard(write, || file_broken(path))
    }
    fn create_dir(&self, path: &Path) -> Result<(), FileError> {
        self.0.guard(|| Disk.create_dir(path), || file_broken(path))
    }
    fn exists(&self, path: &Path) -> bool {
        Disk.exists(path)
    }
    fn mode(&self, path: &Path) -> Option<u32> {
        Disk.mode(path)
    }
}

struct FaultySwap<'a> {
    fuse: &'a Fuse,
    /// Whether the file system can exchange.
    exchanges: bool,
}

impl Swap for FaultySwap<'_> {
    fn exchange(&self, one: &Path, other: &Path) -> Result<bool, FileError> {
        if !self.exchanges {
            return Ok(false);
        }
        let exchange = || FolderSwap.exchange(one, other);
        self.fuse.guard(exchange, || file_broken(one))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let rename = || FolderSwap.rename(from, to);
        self.fuse.guard(rename, || file_broken(from))
    }
}

struct FaultyLedger<'a> {
    fuse: &'a Fuse,
    inner: &'a SqlLedger,
}

/// Tries again while the ledger is held: a program that another test starts keeps every open file,
/// and its lock, for the moment between fork and exec.
fn patiently<T, E: Explain>(mut act: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    for _ in 0..100 {
        match act() {
            Err(error) if error.code() == "ledger.held" => {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
    act()
}

impl FaultyLedger<'_> {
    fn guard<T>(&self, effect: impl FnOnce() -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        self.fuse.guard(effect, || LedgerError::Database {
            path: "ledger.sqlite".into(),
            why: "the disk is full".into(),
            retry: true,
        })
    }
}

impl Ledger for FaultyLedger<'_> {
    fn hold(&self) -> Result<Box<dyn std::any::Any>, LedgerError> {
        self.inner.hold()
    }
    fn hold_rotations(&self) -> Result<Box<dyn std::any::Any>, LedgerError> {
        patiently(|| self.inner.hold_rotations())
    }
    fn begin_run(&self, now: UtcTime) -> Result<Box<dyn Run>, LedgerError> {
        self.inner.begin_run(now)
    }
    fn claim(
        &self,
        run: &dyn Run,
        intents: &[Intent],
        now: UtcTime,
    ) -> Result<Vec<Claim>, LedgerError> {
        self.guard(|| self.inner.claim(run, intents, now))
    }
    fn confirm_block(
        &self,
        run: &dyn Run,
        all: &[Confirmation],
        mark: Option<&Checkpoint>,
        now: UtcTime,
    ) -> Result<(), LedgerError> {
        self.guard(|| self.inner.confirm_block(run, all, mark, now))
    }
    fn checkpoint(&self, output: &str) -> Result<Option<Checkpoint>, LedgerError> {
        self.inner.checkpoint(output)
    }
    fn add_authority(&self, authority: &AuthorityRecord) -> Result<(), LedgerError> {
        self.inner.add_authority(authority)
    }
    fn authorities(&self) -> Result<Vec<AuthorityRecord>, LedgerError> {
        self.inner.authorities()
    }
    fn confirm(&self, all: &[Confirmation], now: UtcTime) -> Result<(), LedgerError> {
        self.guard(|| self.inner.confirm(all, now))
    }
    fn abandon(&self, keys: &[SerialKey], now: UtcTime) -> Result<(), LedgerError> {
        self.guard(|| self.inner.abandon(keys, now))
    }
    fn live(
        &self,
        devices: &[&str],
        purpose: IdentityPurpose,
    ) -> Result<Vec<CertificateRecord>, LedgerError> {
        self.inner.live(devices, purpose)
    }
    fn certificate(&self, id: &CertificateId) -> Result<Option<CertificateRecord>, LedgerError> {
        self.inner.certificate(id)
    }
    fn certificates(&self, filter: &Filter) -> Result<Vec<CertificateRecord>, LedgerError> {
        self.inner.certificates(filter)
    }
    fn set_state(
        &self,
        id: &CertificateId,
        state: CertificateState,
        detail: &str,
        now: UtcTime,
    ) -> Result<(), LedgerError> {
        self.guard(|| self.inner.set_state(id, state, detail, now))
    }
    fn for_each_certificate(
        &self,
        filter: &Filter,
        each: &mut dyn FnMut(CertificateRecord) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        self.inner.for_each_certificate(filter, each)
    }
    fn revoke(
        &self,
        id: &CertificateId,
        reason: RevocationReason,
        now: UtcTime,
    ) -> Result<Revocation, LedgerError> {
        self.guard(|| self.inner.revoke(id, reason, now))
    }
    fn next_crl(&self, issuer: &CertificateId) -> Result<NextCrl, LedgerError> {
        self.inner.next_crl(issuer)
    }
    fn last_crl(&self, issuer: &CertificateId) -> Result<Option<CrlRecord>, LedgerError> {
        self.inner.last_crl(issuer)
    }
    fn save_crl(&self, crl: &CrlRecord) -> Result<(), LedgerError> {
        self.guard(|| self.inner.save_crl(crl))
    }
    fn promote(
        &self,
        old: &CertificateId,
        new: &CertificateId,
        now: UtcTime,
    ) -> Result<(), LedgerError> {
        self.guard(|| self.inner.promote(old, new, now))
    }
    fn set_folder(
        &self,
        id: &CertificateId,
        folder: &Path,
        now: UtcTime,
    ) -> Result<(), LedgerError> {
        self.guard(|| self.inner.set_folder(id, folder, now))
    }
    fn rotation(&self, device: &str) -> Result<Option<RotationRecord>, LedgerError> {
        self.inner.rotation(device)
    }
    fn save_rotation(&self, rotation: &RotationRecord) -> Result<(), LedgerError> {
        self.guard(|| self.inner.save_rotation(rotation))
    }
    fn end_rotation(&self, device: &str, outcome: &str, now: UtcTime) -> Result<(), LedgerError> {
        self.guard(|| self.inner.end_rotation(device, outcome, now))
    }
    fn verify(&self) -> Result<LedgerCheck, LedgerError> {
        self.inner.verify()
    }
    fn export(
        &self,
        each: &mut dyn FnMut(nameplate::core::ledger_file::Entry) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        self.inner.export(each)
    }
    fn import(&self, feed: &mut dyn FnMut() -> Feed) -> Result<Option<LedgerCheck>, LedgerError> {
        self.guard(|| self.inner.import(feed))
    }
}

/// A certificate at the target.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Entry {
    status: CertificateStatus,
    policies: BTreeSet<String>,
    things: BTreeSet<String>,
}

#[derive(Default)]
struct Plane {
    fuse: Fuse,
    entries: RefCell<BTreeMap<String, Entry>>,
}

fn id_of(arn: &str) -> &str {
    arn.rsplit_once('/').unwrap().1
}

impl Plane {
    fn guard<T>(&self, effect: impl FnOnce() -> CloudResult<T>) -> CloudResult<T> {
        self.fuse.guard(effect, || CloudError {
            kind: CloudErrorKind::Unavailable,
            operation: "Any",
            target: "the fake".into(),
            name: "InternalFailure".into(),
            message: "no".into(),
            request_id: None,
        })
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Entry)) -> CloudResult<()> {
        self.guard(|| {
            change(self.entries.borrow_mut().get_mut(id).unwrap());
            Ok(())
        })
    }

    fn entry(&self, id: &CertificateId) -> Option<Entry> {
        self.entries.borrow().get(id.as_str()).cloned()
    }

    fn works(&self, id: &CertificateId) -> bool {
        self.entry(id) == Some(whole(CertificateStatus::Active))
    }
}

/// With everything that the device has.
fn whole(status: CertificateStatus) -> Entry {
    Entry {
        status,
        policies: ["nameplate-device", "logs"].map(str::to_owned).into(),
        things: ["pump".to_owned()].into(),
    }
}

macro_rules! not_asked {
    ($($name:ident($($arg:ty),*) -> $out:ty;)*) => {
        $(fn $name(&self, $(_: $arg),*) -> CloudResult<$out> {
            panic!("{} is not asked", stringify!($name))
        })*
    };
}

impl ControlPlane for Plane {
    fn place(&self) -> CloudResult<Place> {
        Ok(Place {
            account: "123456789012".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
        })
    }
    fn attach_policy(&self, name: &PolicyName, arn: &str) -> CloudResult<()> {
        self.change(id_of(arn), |entry| {
            entry.policies.insert(name.to_string());
        })
    }
    fn attached_policies(&self, arn: &str) -> CloudResult<Vec<PolicyName>> {
        let policies = &self.entries.borrow()[id_of(arn)].policies;
        Ok(policies.iter().map(|name| name.parse().unwrap()).collect())
    }
    fn register_certificate(&self, asked: &CertificateRegistration) -> CloudResult<Registered> {
        assert!(asked.ca_pem.is_some());
        let all = Certificate::all_from_pem(asked.certificate_pem.as_bytes()).unwrap();
        let id = all[0].id().clone();
        self.guard(|| {
            let entry = Entry {
                status: asked.status,
                policies: BTreeSet::new(),
                things: BTreeSet::new(),
            };
            let before = self.entries.borrow_mut().insert(id.to_string(), entry);
            assert_eq!(before, None, "registered twice");
            Ok(())
        })?;
        Ok(Registered {
            arn: self.place()?.arn("cert", &id),
            id,
        })
    }
    fn describe_certificate(&self, id: &CertificateId) -> CloudResult<Option<CertificateView>> {
        Ok(self.entry(id).map(|entry| view(id, entry.status)))
    }
    fn update_certificate(&self, id: &CertificateId, to: CertificateStatus) -> CloudResult<()> {
        self.change(id.as_str(), |entry| entry.status = to)
    }
    fn attach_thing(&self, thing: &AttachedThing, arn: &str) -> CloudResult<()> {
        self.change(id_of(arn), |entry| {
            entry.things.insert(thing.name.to_string());
        })
    }
    fn things_of(&self, arn: &str) -> CloudResult<Vec<AttachedThing>> {
        let things = &self.entries.borrow()[id_of(arn)].things;
        let thing = |name: &String| AttachedThing {
            name: name.parse().unwrap(),
            exclusive: true,
        };
        Ok(things.iter().map(thing).collect())
    }

    not_asked! {
        endpoint() -> String;
        registration_code() -> String;
        register_ca(&CaRegistration) -> CertificateId;
        describe_ca(&CertificateId) -> Option<CaView>;
        update_ca(&CertificateId, &CaUpdate) -> ();
        list_cas() -> Vec<CaSummary>;
        create_template(&NewTemplate) -> ();
        describe_template(&TemplateName) -> Option<TemplateView>;
        list_templates() -> Vec<TemplateSummary>;
        create_template_version(&TemplateName, &str) -> i32;
        update_template(&TemplateName, &TemplateUpdate) -> ();
        template_versions(&TemplateName) -> Vec<TemplateVersion>;
        template_version(&TemplateName, i32) -> Option<String>;
        delete_template_version(&TemplateName, i32) -> ();
        create_policy(&PolicyName, &str) -> ();
        get_policy(&PolicyName) -> Option<PolicyView>;
        create_policy_version(&PolicyName, &str) -> String;
        policy_versions(&PolicyName) -> Vec<PolicyVersion>;
        delete_policy_version(&PolicyName, &str) -> ();
        detach_policy(&PolicyName, &str) -> ();
        delete_certificate(&CertificateId) -> ();
        delete_thing(&ThingName) -> ();
        certificates_by_ca(&CertificateId) -> Vec<CertificateSummary>;
        has(PrerequisiteKind, &str) -> bool;
        describe_thing(&ThingName) -> Option<ThingView>;
        describe_things(&[ThingName]) -> Vec<Option<ThingView>>;
        groups_of(&ThingName) -> Vec<ThingName>;
        groups_of_things(&[ThingName]) -> Vec<Vec<ThingName>>;
        list_things() -> Vec<ThingView>;
        detach_thing(&ThingName, &str) -> ();
        principals_of(&ThingName) -> Vec<String>;
    }
}

fn view(id: &CertificateId, status: CertificateStatus) -> CertificateView {
    CertificateView {
        id: id.clone(),
        arn: String::new(),
        status,
        ca: None,
    }
}

/// Accepts what works at the target.
struct FaultyDial<'a>(&'a Plane);

impl Dial for FaultyDial<'_> {
    fn open(&self, target: &Target<'_>) -> Result<Box<dyn Channel>, DialError> {
        let address = "127.0.0.1:1".parse().unwrap();
        let refused = || DialError::Refused {
            endpoint: target.endpoint.clone(),
            address,
        };
        let accepted = self.0.works(target.identity.chain[0].id());
        let chain = Vec::new();
        self.0.fuse.guard(
            || {
                Ok(Box::new(Line {
                    accepted,
                    seen: ServerSeen {
                        address,
                        tls_version: None,
                        cipher_suite: None,
                        alpn: None,
                        chain,
                    },
                }) as Box<dyn Channel>)
            },
            refused,
        )
    }
}

struct Line {
    accepted: bool,
    seen: ServerSeen,
}

impl Channel for Line {
    fn peer(&self) -> &ServerSeen {
        &self.seen
    }
    fn send(&mut self, _: &[u8]) -> Result<(), DialError> {
        Ok(())
    }
    fn receive(&mut self, _: Duration) -> Result<Received, DialError> {
        Ok(if self.accepted {
            Received::Bytes(vec![0x20, 2, 0, 0])
        } else {
            Received::Closed
        })
    }
    fn close(self: Box<Self>) {}
}

fn signer_of(key: &PrivateKey) -> Result<Box<dyn Signer>, nameplate::core::key::KeyError> {
    Ok(Box::new(LocalSigner::new(key)?))
}

fn lifetime(days: i64) -> Lifetime {
    Lifetime {
        not_before: None,
        not_after: None,
        span: Span::days(days),
        backdate: Span::seconds(3_600),
        on_ca_expiry: OnCaExpiry::Fail,
    }
}

/// A device that has been provisioned, its ledger and its target.
struct Lab {
    place: tempfile::TempDir,
    clock: Time,
    ledger: SqlLedger,
    chain: [Certificate; 1],
    signer: LocalSigner,
    plane: Plane,
    exchanges: bool,
    first: CertificateId,
}

impl Lab {
    fn new(folder: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let clock = Time::default();
        let ledger = sqlite::open(&place.path().join("ledger.sqlite")).unwrap();
        let ca = CaCreate {
            clock: &clock,
            entropy: &OsEntropy::default(),
            files: &Disk,
            keygen: &RingKeys::default(),
            ledger: &ledger,
            signer_of: &signer_of,
        }
        .run(&ca_create::Request {
            name: "ca",
            folder: place.path().join("ca"),
            subject: "CN=ca".parse().unwrap(),
            lifetime: lifetime(1_000),
            path_len: Some(0),
            algorithm: KeyAlgorithm::EcP256,
            elsewhere: None,
            passphrase: None,
            parent: None,
            flaw: None,
        })
        .unwrap();
        let key_file = place.path().join("ca").join(ca_create::KEY);
        let key = ca_create::read_key(&Disk, &key_file, None).unwrap();
        let mut lab = Self {
            first: ca.authority.certificate.id().clone(),
            signer: LocalSigner::new(&key).unwrap(),
            chain: [ca.authority.certificate],
            place,
            clock,
            ledger,
            plane: Plane::default(),
            exchanges: true,
        };
        lab.first = lab.issue_first(folder);
        let entry = whole(CertificateStatus::Active);
        let id = lab.first.to_string();
        lab.plane.entries.borrow_mut().insert(id, entry);
        lab
    }

    fn issue_first(&self, folder: &str) -> CertificateId {
        let issue = DeviceIssue {
            clock: &self.clock,
            entropy: &OsEntropy::default(),
            files: &Disk,
            keygen: &RingKeys::default(),
            ledger: &self.ledger,
            signer_of: &signer_of,
        };
        let request = device_issue::Request {
            device: "pump".into(),
            subject: "CN=pump".parse().unwrap(),
            lifetime: lifetime(365),
            key: KeySource::New(KeyAlgorithm::EcP384),
            folder: self.path(folder),
            issuer: self.issuer(),
            template: None,
            purpose: Purpose::Device,
            alternative_names: Vec::new(),
            extras: Extras::default(),
            replaces: None,
            flaw: None,
        };
        issue.run(&request).unwrap().certificate.id().clone()
    }

    fn issuer(&self) -> Issuer<'_> {
        Issuer {
            name: "ca",
            chain: &self.chain,
            signer: &self.signer,
            flawed: false,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn rotate(&self) -> Result<Rotated, RotateError> {
        let fuse = &self.plane.fuse;
        let ledger = FaultyLedger {
            fuse,
            inner: &self.ledger,
        };
        let swap = FaultySwap {
            fuse,
            exchanges: self.exchanges,
        };
        DeviceRotate {
            issue: DeviceIssue {
                clock: &self.clock,
                entropy: &OsEntropy::default(),
                files: &FaultyFiles(fuse),
                keygen: &RingKeys::default(),
                ledger: &ledger,
                signer_of: &signer_of,
            },
            plane: &self.plane,
            dial: &FaultyDial(&self.plane),
            swap: &swap,
        }
        .run(
            &Request {
                device: "pump".into(),
                issuer: self.issuer(),
                lifetime: lifetime(365),
                endpoint: Endpoint::parse("a.example", 8883).unwrap(),
                server_roots: Vec::new(),
                timeout: Duration::from_secs(2),
            },
            &mut |_| {},
        )
    }

    /// The identity that stands in `folder`, whole.
    fn stands_in(&self, folder: &str) -> Option<CertificateId> {
        let leaf = saved(&Disk, &RingKeys::default(), &self.path(folder))?;
        Some(leaf.id().clone())
    }

    /// Where the file system cannot exchange, the old identity's name is free for a moment.
    fn device_can_connect(&self, folder: &str) -> bool {
        let here = self.stands_in(folder);
        let kept = || self.stands_in(&format!("{folder}.old"));
        let found = if self.exchanges {
            here
        } else {
            here.or_else(kept)
        };
        found.is_some_and(|id| self.plane.works(&id))
    }

    /// What holds when a rotation is done.
    fn assert_done(&self, rotated: &Rotated, folder: &str, case: &str) {
        let new = rotated.new.id();
        assert_eq!(rotated.old, self.first, "{case}");
        assert_eq!(self.stands_in(folder).as_ref(), Some(new), "{case}");
        let old_folder = format!("{folder}.old");
        assert_eq!(
            self.stands_in(&old_folder),
            Some(self.first.clone()),
            "{case}"
        );
        assert!(
            !Disk.exists(&self.path(&format!("{folder}.next"))),
            "{case}"
        );
        let expected = BTreeMap::from([
            (self.first.to_string(), whole(CertificateStatus::Inactive)),
            (new.to_string(), whole(CertificateStatus::Active)),
        ]);
        assert_eq!(*self.plane.entries.borrow(), expected, "{case}");
        let all = self.ledger.certificates(&Filter::default()).unwrap();
        let signed: Vec<_> = all.iter().filter(|record| record.id.is_some()).collect();
        assert_eq!(signed.len(), 2, "{case}: {all:?}");
        let record = |id| self.ledger.certificate(id).unwrap().unwrap();
        assert!(record(new).live, "{case}");
        assert_eq!(record(new).folder, Some(self.path(folder)), "{case}");
        assert_eq!(record(&self.first).state, CertificateState::Deactivated);
        assert_eq!(record(&self.first).folder, Some(self.path(&old_folder)));
        assert_eq!(self.ledger.rotation("pump").unwrap().map(|r| r.step), None);
        assert_eq!(self.ledger.verify().unwrap().broken, None, "{case}");
    }
}

/// How many effects a rotation has that nothing disturbs.
fn effects(exchanges: bool) -> usize {
    let mut lab = Lab::new("pump");
    lab.exchanges = exchanges;
    lab.plane.fuse.arm(Fault::default());
    let rotated = lab.rotate().unwrap();
    assert!(!rotated.resumed);
    assert_eq!(rotated.new.key_algorithm(), KeyAlgorithm::EcP384);
    lab.assert_done(&rotated, "pump", "undisturbed");
    lab.plane.fuse.seen.get()
}

fn sweep(exchanges: bool) {
    let count = effects(exchanges);
    assert!(count > 20, "{count}");
    for fault in (1..=count).flat_map(|at| [false, true].map(|after| Fault { at, after })) {
        let case = format!("{fault:?} of {count}, exchanges: {exchanges}");
        let mut lab = Lab::new("pump");
        lab.exchanges = exchanges;
        lab.plane.fuse.arm(fault);
        let first = lab.rotate();
        assert!(lab.device_can_connect("pump"), "{case}");
        lab.plane.fuse.arm(Fault::default());
        let rotated = match first {
            // Dialling is tried again within the run.
            Ok(rotated) => rotated,
            Err(_) if lab.ledger.rotation("pump").unwrap().is_none() && ended(&lab) => continue,
            Err(_) => lab
                .rotate()
                .unwrap_or_else(|error| panic!("{case}: {error:?}")),
        };
        lab.assert_done(&rotated, "pump", &case);
    }
}

/// Whether all was done and only the answer was lost.
fn ended(lab: &Lab) -> bool {
    let first = lab.ledger.certificate(&lab.first).unwrap().unwrap();
    first.state == CertificateState::Deactivated
}

#[test]
fn any_effect_may_fail_and_the_next_run_finishes() {
    sweep(true);
}

#[test]
fn any_effect_may_fail_where_folders_cannot_be_exchanged() {
    sweep(false);
}

#[test]
fn a_folder_whose_own_name_looks_like_a_kept_one_stays_where_it_is() {
    let lab = Lab::new("site.old");
    let rotated = lab.rotate().unwrap();
    lab.assert_done(&rotated, "site.old", "site.old");
}

#[test]
fn a_second_rotation_keeps_the_first_ones_files_and_a_rotation_excludes_another() {
    let lab = Lab::new("pump");
    let first = lab.rotate().unwrap();
    let held = patiently(|| lab.ledger.hold_rotations()).unwrap();
    assert!(matches!(
        lab.rotate(),
        Err(RotateError::Ledger(LedgerError::HeldRotations(_)))
    ));
    drop(held);
    let second = lab.rotate().unwrap();
    assert_eq!(second.old, *first.new.id());
    let kept = format!("pump.old-{}", second.old.short());
    assert_eq!(second.old_folder, lab.path(&kept));
    assert_eq!(lab.stands_in(&kept), Some(second.old.clone()));
    assert_eq!(lab.stands_in("pump.old"), Some(first.old));
    assert_eq!(lab.stands_in("pump").as_ref(), Some(second.new.id()));
}

#[test]
fn what_was_revoked_during_a_rotation_stays_so() {
    for fault_at in 1..effects(true) {
        let lab = Lab::new("pump");
        lab.plane.fuse.arm(Fault {
            at: fault_at,
            after: true,
        });
        let _ = lab.rotate();
        lab.plane.fuse.arm(Fault::default());
        let revoke = DeviceRevoke {
            clock: &lab.clock,
            ledger: &lab.ledger,
            plane: Some(&lab.plane),
        };
        patiently(|| revoke.run("pump", RevocationReason::KeyCompromise)).unwrap();
        assert!(lab.rotate().is_err(), "after {fault_at}");
        for (id, entry) in lab.plane.entries.borrow().iter() {
            assert_eq!(
                entry.status,
                CertificateStatus::Revoked,
                "{id} after {fault_at}"
            );
        }
        let live = Filter {
            live_only: true,
            ..Filter::default()
        };
        assert!(lab.ledger.certificates(&live).unwrap().is_empty());
        assert_eq!(lab.ledger.verify().unwrap().broken, None);
    }
}

#[test]
fn what_the_target_revoked_by_itself_is_not_switched_on_or_weakened() {
    let lab = Lab::new("pump");
    let revoke_first = || {
        let mut entries = lab.plane.entries.borrow_mut();
        entries.get_mut(lab.first.as_str()).unwrap().status = CertificateStatus::Revoked;
    };
    revoke_first();
    let refused = lab.rotate();
    assert!(
        matches!(refused, Err(RotateError::NotActive { .. })),
        "{refused:?}"
    );
    assert_eq!(lab.ledger.rotation("pump").unwrap().map(|r| r.step), None);
    assert!(!lab.path("pump.next").join(bundle::KEY).exists());
    assert!(
        Disk.read(
            &lab.path("pump").join(bundle::CERTIFICATE),
            pem::MAX_BYTES as u64
        )
        .is_ok()
    );
}
