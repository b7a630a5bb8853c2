//! The identity folder that a journal becomes.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Enrol, EnrolError, Kept};
use crate::core::bundle::{self, Secrecy};
use crate::core::cert::Certificate;
use crate::core::ids::CertificateId;
use crate::core::pem;
use crate::core::time::UtcTime;
use crate::ports::Files;

/// What the service said when it provisioned the identity, and what it was asked: kept beside it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Provisioning {
    /// The thing.
    pub thing_name: Option<String>,
    /// The client id under which it has connected.
    pub client_id: Option<String>,
    /// The template.
    pub template: Option<String>,
    /// What it was asked with.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// The template's `DeviceConfiguration`; none when the answer was lost.
    pub device_configuration: Option<Map<String, Value>>,
    /// When.
    pub provisioned: Option<UtcTime>,
}

impl Provisioning {
    /// What is kept in this identity folder; nothing where it was not provisioned from here.
    pub fn read(files: &dyn Files, folder: &Path) -> Self {
        let path = folder.join(bundle::PROVISIONING);
        let text = files.read(&path, pem::MAX_BYTES as u64).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }
}

/// Builds the folder, whatever an earlier run left of it: the leaf comes last, so that a folder that
/// holds it holds everything.
///
/// # Errors
/// `file.*`, `enrolment.journal`.
pub fn build(
    enrol: &Enrol<'_>,
    kept: &Kept<'_>,
    provisioning: &Provisioning,
    folder: &Path,
) -> Result<(), EnrolError> {
    let identity = kept.identity()?;
    let pem_of = |all: &[Certificate]| all.iter().map(Certificate::to_pem).collect::<String>();
    enrol.work.remove(folder)?;
    enrol.files.create_dir(folder)?;
    let write = |name: &str, bytes: &[u8], secrecy: Secrecy| {
        enrol.files.write_new(&folder.join(name), bytes, secrecy)
    };
    write(
        bundle::KEY,
        identity.key.to_pem().as_bytes(),
        Secrecy::Private,
    )?;
    write(
        bundle::CHAIN,
        pem_of(&identity.chain).as_bytes(),
        Secrecy::Public,
    )?;
    if let Some(ca) = &kept.journal.ca_pem {
        write(bundle::CA_BUNDLE, ca.as_bytes(), Secrecy::Public)?;
    }
    let told = serde_json::to_vec_pretty(provisioning).unwrap_or_default();
    write(bundle::PROVISIONING, &told, Secrecy::Public)?;
    let leaf = pem_of(&identity.chain[..1]);
    write(bundle::CERTIFICATE, leaf.as_bytes(), Secrecy::Public)?;
    Ok(())
}

/// The certificate in an identity folder that also holds a key.
pub fn leaf_in(files: &dyn Files, folder: &Path) -> Option<CertificateId> {
    let text = files
        .read(&folder.join(bundle::CERTIFICATE), pem::MAX_BYTES as u64)
        .ok()?;
    let all = Certificate::all_from_pem(&text).ok()?;
    let leaf = all.first().map(|leaf| leaf.id().clone());
    leaf.filter(|_| files.exists(&folder.join(bundle::KEY)))
}
