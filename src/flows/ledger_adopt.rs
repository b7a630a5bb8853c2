//! `ledger import --certificates`: devices' certificates that are there but not in the ledger, made
//! elsewhere or before the ledger was lost.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use crate::core::bundle;
use crate::core::cert::Certificate;
use crate::core::ids::{CertificateId, ThingName};
use crate::core::record::{AuthorityRecord, IdentityPurpose, Intent, SerialKey};
use crate::flows::cert_gather::Artifact;
use crate::ports::Clock;
use crate::ports::ledger::{Claim, Confirmation, Ledger, LedgerError, Run};

/// How many are written down in one transaction.
const BLOCK: usize = 512;

/// What the flow may use.
pub struct Adopt<'a> {
    /// When.
    pub clock: &'a dyn Clock,
    /// The record.
    pub ledger: &'a dyn Ledger,
}

/// What became of one certificate.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Outcome {
    /// Where it is.
    pub source: String,
    /// Its id.
    pub id: CertificateId,
    /// The device it is for; `None` when its subject names none.
    pub device: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub taken: Taken,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(tag = "outcome", content = "why", rename_all = "kebab-case")]
pub enum Taken {
    /// It is now in the ledger.
    Adopted,
    /// It was before.
    Known,
    /// It is not, and why.
    Left(String),
}

/// One certificate with its issuer, ready to be written down.
struct Found<'a> {
    source: &'a str,
    certificate: &'a Certificate,
    issuer: &'a AuthorityRecord,
    device: String,
    folder: Option<PathBuf>,
}

impl Adopt<'_> {
    /// Takes in every device certificate among `artifacts` that a CA of the ledger signed. Of one
    /// device's, the one that began last becomes its live identity. CA certificates are passed
    /// over.
    ///
    /// # Errors
    /// `ledger.*`.
    pub fn run(
        &self,
        artifacts: &[Artifact],
        batch: Option<&str>,
    ) -> Result<Vec<Outcome>, LedgerError> {
        let authorities = self.ledger.authorities()?;
        let mut outcomes = Vec::new();
        let mut found = Vec::new();
        for artifact in artifacts {
            let certificates = artifact.items.iter().filter_map(|item| item.certificate());
            for certificate in certificates.filter(|one| one.is_ca != Some(true)) {
                match look(artifact, certificate, &authorities) {
                    Ok(one) => found.push(one),
                    Err(outcome) => outcomes.push(*outcome),
                }
            }
        }
        found.sort_by_key(|one| Reverse(one.certificate.validity.not_before));
        found.dedup_by_key(|one| one.certificate.id().clone());
        let run = self.ledger.begin_run(self.clock.now())?;
        for block in found.chunks(BLOCK) {
            outcomes.extend(self.block(&*run, block, batch)?);
        }
        outcomes.sort_by(|a, b| (&a.source, &a.device).cmp(&(&b.source, &b.device)));
        Ok(outcomes)
    }

    fn block(
        &self,
        run: &dyn Run,
        block: &[Found<'_>],
        batch: Option<&str>,
    ) -> Result<Vec<Outcome>, LedgerError> {
        let mut outcomes = Vec::with_capacity(block.len());
        let mut new = Vec::with_capacity(block.len());
        for one in block {
            match self.ledger.certificate(one.certificate.id())? {
                Some(_) => outcomes.push(one.outcome(Taken::Known)),
                None => new.push(one),
            }
        }
        let now = self.clock.now();
        let intents: Vec<Intent> = new.iter().map(|one| one.intent(batch)).collect();
        let claims = self.ledger.claim(run, &intents, now)?;
        let mut confirmations = Vec::new();
        for (one, claim) in new.into_iter().zip(claims) {
            let why = match claim {
                Claim::Claimed => {
                    confirmations.push(one.confirmation());
                    outcomes.push(one.outcome(Taken::Adopted));
                    continue;
                }
                Claim::Live(other) => format!(
                    "the device has another live identity, {}",
                    other
                        .id
                        .as_ref()
                        .map_or("not signed yet", CertificateId::as_str)
                ),
                Claim::Busy => "another process is issuing for this device".to_owned(),
                Claim::Leftover(_) => {
                    "a run that died left this device unfinished; issue for it once more first"
                        .to_owned()
                }
            };
            outcomes.push(one.outcome(Taken::Left(why)));
        }
        self.ledger.confirm_block(run, &confirmations, None, now)?;
        Ok(outcomes)
    }
}

fn look<'a>(
    artifact: &'a Artifact,
    certificate: &'a Certificate,
    authorities: &'a [AuthorityRecord],
) -> Result<Found<'a>, Box<Outcome>> {
    let device = certificate.subject.first("CN").map(str::to_owned);
    let left = |why: &str| {
        Box::new(Outcome {
            source: artifact.name.clone(),
            id: certificate.id().clone(),
            device: device.clone(),
            taken: Taken::Left(why.to_owned()),
        })
    };
    let Some(name) = device.clone() else {
        return Err(left(
            "its subject has no common name, so no device is named",
        ));
    };
    if name.parse::<ThingName>().is_err() {
        return Err(left("its common name is no thing name"));
    }
    let issuer = authorities
        .iter()
        .find(|ca| certificate.is_signed_by(&ca.certificate))
        .ok_or_else(|| left("no CA of this ledger signed it"))?;
    let path = Path::new(&artifact.name);
    let is_identity = path
        .file_name()
        .is_some_and(|name| name == bundle::CERTIFICATE || name == bundle::CHAIN);
    let folder = path.parent().filter(|_| is_identity && path.is_absolute());
    Ok(Found {
        source: &artifact.name,
        certificate,
        issuer,
        device: name,
        folder: folder.map(Path::to_owned),
    })
}

impl Found<'_> {
    fn key(&self) -> SerialKey {
        SerialKey {
            issuer: self.issuer.certificate.id().clone(),
            serial: self.certificate.serial.clone(),
        }
    }

    fn intent(&self, batch: Option<&str>) -> Intent {
        Intent {
            key: self.key(),
            device: self.device.clone(),
            purpose: IdentityPurpose::Operational,
            subject: self.certificate.subject.to_string(),
            validity: self.certificate.validity,
            key_algorithm: self.certificate.key_algorithm().to_string(),
            folder: self.folder.clone(),
            batch: batch.map(str::to_owned),
            replaces: None,
            flaw: None,
        }
    }

    fn confirmation(&self) -> Confirmation {
        Confirmation {
            key: self.key(),
            id: self.certificate.id().clone(),
            der: self.certificate.der().to_vec(),
        }
    }

    fn outcome(&self, taken: Taken) -> Outcome {
        Outcome {
            source: self.source.to_owned(),
            id: self.certificate.id().clone(),
            device: Some(self.device.clone()),
            taken,
        }
    }
}
