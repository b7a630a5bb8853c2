//! Certificates by their device's name, from the ledger.

use crate::cli::settings::Settings;
use crate::cli::wire::factory::Factory;
use crate::core::record::CertificateRecord;
use crate::explain::{Failure, Kind};
use crate::ports::ledger::Filter;

/// A device's live certificate.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) id: Option<String>,
    pub(super) subject: String,
    pub(super) validity: crate::core::time::Validity,
}

impl From<CertificateRecord> for Named {
    fn from(record: CertificateRecord) -> Self {
        Self {
            name: record.device,
            id: record.id.map(|id| id.to_string()),
            subject: record.subject,
            validity: record.validity,
        }
    }
}

/// The live certificate of each device; of every device for `None`.
pub(super) fn live(settings: &Settings, names: Option<&[String]>) -> Result<Vec<Named>, Failure> {
    let factory = Factory::open(settings)?;
    let certificates = |device: Option<&String>| {
        let filter = Filter {
            device: device.cloned(),
            live_only: true,
            ..Filter::default()
        };
        factory.ledger.certificates(&filter)
    };
    let signed = |record: &CertificateRecord| record.id.is_some();
    let Some(names) = names else {
        let all = certificates(None)?.into_iter().filter(signed);
        return Ok(all.map(Named::from).collect());
    };
    let mut found = Vec::new();
    for name in names {
        let mut all = certificates(Some(name))?
            .into_iter()
            .filter(signed)
            .peekable();
        if all.peek().is_none() {
            let message = format!("the ledger knows no live certificate of a device `{name}`");
            return Err(Failure::new(Kind::Input, "device.unknown", message)
                .hint("`nameplate device list` shows those it knows; --cert names a file"));
        }
        found.extend(all.map(Named::from));
    }
    Ok(found)
}
