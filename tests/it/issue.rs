//! `device issue`: whatever goes wrong on disk, no certificate without its key, and the next run
//! finishes.

use std::cell::Cell;
use std::path::Path;

use nameplate::core::bundle::{self, Secrecy};
use nameplate::core::cert::Certificate;
use nameplate::core::draft::{Extras, Purpose};
use nameplate::core::key::{KeyAlgorithm, PrivateKey};
use nameplate::core::lifetime::{Lifetime, OnCaExpiry};
use nameplate::core::time::{Span, UtcTime};
use nameplate::effects::entropy::OsEntropy;
use nameplate::effects::files::Disk;
use nameplate::effects::keys::{LocalSigner, RingKeys};
use nameplate::effects::ledger::sqlite;
use nameplate::flows::ca_create::{self, CaCreate};
use nameplate::flows::device_issue::{DeviceIssue, KeySource, Request, saved};
use nameplate::flows::issuer::Issuer;
use nameplate::ports::ledger::{Filter, Ledger};
use nameplate::ports::{Clock, FileError, Files, Keygen, Signer};
use zeroize::Zeroizing;

struct At(UtcTime);

impl Clock for At {
    fn now(&self) -> UtcTime {
        self.0
    }
    fn now_nanos(&self) -> i128 {
        i128::from(self.0.unix()) * 1_000_000_000
    }
    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
    fn sleep(&self, _: std::time::Duration) {}
}

/// A disk whose n-th write fails.
struct Faulty {
    left: Cell<usize>,
}

impl Faulty {
    fn write(&self, path: &Path) -> Result<(), FileError> {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        if left == 1 {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(FileError::Write {
                path: path.to_owned(),
                source,
            });
        }
        Ok(())
    }
}

impl Files for Faulty {
    fn read(&self, path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
        Disk.read(path, max)
    }
    fn write_new(&self, path: &Path, bytes: &[u8], secrecy: Secrecy) -> Result<(), FileError> {
        self.write(path)?;
        Disk.write_new(path, bytes, secrecy)
    }
    fn replace(&self, path: &Path, bytes: &[u8], secrecy: Secrecy) -> Result<(), FileError> {
        self.write(path)?;
        Disk.replace(path, bytes, secrecy)
    }
    fn create_dir(&self, path: &Path) -> Result<(), FileError> {
        self.write(path)?;
        Disk.create_dir(path)
    }
    fn exists(&self, path: &Path) -> bool {
        Disk.exists(path)
    }
    fn mode(&self, path: &Path) -> Option<u32> {
        Disk.mode(path)
    }
}

fn signer_of(key: &PrivateKey) -> Result<Box<dyn Signer>, nameplate::core::key::KeyError> {
    Ok(Box::new(LocalSigner::new(key)?))
}

fn year() -> Lifetime {
    Lifetime {
        not_before: None,
        not_after: None,
        span: Span::days(365),
        backdate: Span::seconds(3_600),
        on_ca_expiry: OnCaExpiry::Fail,
    }
}

#[test]
fn a_failing_disk_never_leaves_a_certificate_without_its_key_and_the_next_run_finishes() {
    let (given_key, given) = RingKeys::default().generate(KeyAlgorithm::EcP256).unwrap();
    // The last write that can fail, counted from 1, and whether the folder gets a key.
    for (source, writes, with_key) in [
        (KeySource::New(KeyAlgorithm::EcP256), 5, true),
        (KeySource::Given(given_key, given.clone()), 5, true),
        (KeySource::Elsewhere(given, None), 4, false),
    ] {
        (1..=writes + 1).for_each(|fail_at| fails_once(&source, (fail_at, writes), with_key));
    }
}

fn fails_once(source: &KeySource, (fail_at, writes): (usize, usize), with_key: bool) {
    let clock = At("2026-06-01T12:00:00Z".parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let ledger = sqlite::open(&folder.path().join("ledger.sqlite")).unwrap();
    let ca_folder = folder.path().join("ca");
    let create = CaCreate {
        clock: &clock,
        entropy: &OsEntropy::default(),
        files: &Disk,
        keygen: &RingKeys::default(),
        ledger: &ledger,
        signer_of: &signer_of,
    };
    let ca = create
        .run(&ca_create::Request {
            name: "ca",
            folder: ca_folder.clone(),
            subject: "CN=ca".parse().unwrap(),
            lifetime: Lifetime {
                span: Span::days(1_000),
                ..year()
            },
            path_len: Some(0),
            algorithm: KeyAlgorithm::EcP256,
            elsewhere: None,
            passphrase: None,
            parent: None,
            flaw: None,
        })
        .unwrap();
    let key = ca_create::read_key(&Disk, &ca_folder.join(ca_create::KEY), None).unwrap();
    let signer = LocalSigner::new(&key).unwrap();
    let chain = [ca.authority.certificate];
    let out = folder.path().join("pump");
    let request = Request {
        device: "pump".into(),
        subject: "CN=pump".parse().unwrap(),
        lifetime: year(),
        key: source.clone(),
        folder: out.clone(),
        issuer: Issuer {
            name: "ca",
            chain: &chain,
            signer: &signer,
            flawed: false,
        },
        template: None,
        purpose: Purpose::Device,
        alternative_names: Vec::new(),
        extras: Extras::default(),
        replaces: None,
        flaw: None,
    };
    let issue = |files: &dyn Files| {
        DeviceIssue {
            clock: &clock,
            entropy: &OsEntropy::default(),
            files,
            keygen: &RingKeys::default(),
            ledger: &ledger,
            signer_of: &signer_of,
        }
        .run(&request)
    };
    let faulty = Faulty {
        left: Cell::new(fail_at),
    };
    let first = issue(&faulty);
    assert_eq!(
        first.is_ok(),
        fail_at > writes,
        "fault at write {fail_at}: {first:?}"
    );
    let has = |name| Disk.exists(&out.join(name));
    assert!(
        has(bundle::KEY) || !has(bundle::CERTIFICATE) || !with_key,
        "fault at write {fail_at}"
    );
    if fail_at <= writes {
        issue(&Disk).unwrap();
    }
    assert_eq!(has(bundle::KEY), with_key);
    let leaf = Disk.read(&out.join(bundle::CERTIFICATE), 65_536).unwrap();
    let leaf = Certificate::all_from_pem(&leaf).unwrap().remove(0);
    let whole = saved(&Disk, &RingKeys::default(), &out);
    assert_eq!(whole.is_some(), with_key, "a complete folder");
    let filter = Filter {
        live_only: true,
        ..Filter::default()
    };
    let live = ledger.certificates(&filter).unwrap();
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].id.as_ref(), Some(leaf.id()));
    assert_eq!(Disk.mode(&out.join(bundle::KEY)), with_key.then_some(0o600));
    assert_eq!(ledger.verify().unwrap().broken, None);
}
