//! `device issue`: whatever goes wrong on disk, no certificate without its key, and the next run
//! finishes.

use std::cell::Cell;
use std::path::Path;

use nameplate::core::bundle::{self, Secrecy};
use nameplate::core::draft::Purpose;
use nameplate::core::key::{KeyAlgorithm, PrivateKey};
use nameplate::core::lifetime::{Lifetime, OnCaExpiry};
use nameplate::core::time::{Span, UtcTime};
use nameplate::effects::entropy::OsEntropy;
use nameplate::effects::files::Disk;
use nameplate::effects::keys::{LocalSigner, RingKeys};
use nameplate::effects::ledger::sqlite;
use nameplate::flows::ca_create::{self, CaCreate};
use nameplate::flows::device_issue::{DeviceIssue, Request, saved};
use nameplate::flows::issuer::Issuer;
use nameplate::ports::ledger::{Filter, Ledger};
use nameplate::ports::{Clock, FileError, Files, Signer};
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
    let clock = At("2026-06-01T12:00:00Z".parse().unwrap());
    for fail_at in 1..=6 {
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
            algorithm: KeyAlgorithm::EcP256,
            folder: out.clone(),
            issuer: Issuer {
                name: "ca",
                chain: &chain,
                signer: &signer,
            },
            template: None,
            purpose: Purpose::Device,
            alternative_names: Vec::new(),
            replaces: None,
        };
        let issue = |files: &dyn Files| {
            DeviceIssue {
                clock: &clock,
                entropy: &OsEntropy::default(),
                files,
                keygen: &RingKeys::default(),
                ledger: &ledger,
            }
            .run(&request)
        };
        let faulty = Faulty {
            left: Cell::new(fail_at),
        };
        let first = issue(&faulty);
        assert_eq!(
            first.is_ok(),
            fail_at == 6,
            "fault at write {fail_at}: {first:?}"
        );
        let has = |name| Disk.exists(&out.join(name));
        assert!(
            has(bundle::KEY) || !has(bundle::CERTIFICATE),
            "fault at write {fail_at}"
        );
        if fail_at < 6 {
            issue(&Disk).unwrap();
        }
        let leaf = saved(&Disk, &RingKeys::default(), &out).expect("a complete folder");
        let filter = Filter {
            live_only: true,
            ..Filter::default()
        };
        let live = ledger.certificates(&filter).unwrap();
        assert_eq!(live.len(), 1);
        assert_eq!(live[0].id.as_ref(), Some(leaf.id()));
        assert_eq!(Disk.mode(&out.join(bundle::KEY)), Some(0o600));
        assert_eq!(ledger.verify().unwrap().broken, None);
    }
}
