//! How a device's certificate is shown.

use crate::core::record::CertificateRecord;
use crate::core::time::UtcTime;

/// One certificate of a device.
#[derive(serde::Serialize)]
pub(super) struct CertificateView {
    #[serde(flatten)]
    pub(super) record: CertificateRecord,
    remaining_seconds: i64,
    #[serde(skip)]
    now: UtcTime,
}

impl CertificateView {
    pub(super) fn new(record: CertificateRecord, now: UtcTime) -> Self {
        Self {
            remaining_seconds: record.validity.not_after.since(now).as_seconds(),
            record,
            now,
        }
    }

    /// From when to when, and what is left.
    pub(super) fn window(&self) -> String {
        self.record.validity.describe(self.now)
    }

    /// One line for a list.
    pub(super) fn line(&self) -> String {
        let id = self.record.id.as_ref().map_or("-", |id| id.short());
        let live = if self.record.live { "live" } else { "" };
        let flaw = self.record.flaw.as_ref();
        let flaw = flaw.map_or_else(String::new, |flaw| format!(" FLAW {flaw}"));
        format!(
            "{:<24} {:<11} {:<4} {:<12} {}{flaw}",
            self.record.device,
            self.record.state,
            live,
            id,
            self.window()
        )
    }
}
