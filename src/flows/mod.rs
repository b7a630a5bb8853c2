//! One file per verb that must order two or more effects: a straight top-to-bottom function.

/// `ca create`.
#[cfg(feature = "operator")]
pub mod ca_create;
/// `ca crl`.
#[cfg(feature = "operator")]
pub mod ca_crl;
/// `ca import`.
#[cfg(feature = "operator")]
pub mod ca_import;
/// Registering a CA at the target.
#[cfg(feature = "operator")]
pub mod ca_register;
/// Certificates from files, folders, stdin or a server.
#[cfg(feature = "operator")]
pub mod cert_gather;
/// Who is trusted and what helps when certificates are verified.
#[cfg(feature = "operator")]
pub mod cert_verify;
/// What time it is: evidence, waiting for it, setting the clock.
pub mod clock;
/// The first connect that knows JITP.
pub mod connect;
/// `device batch`.
#[cfg(feature = "operator")]
pub mod device_batch;
/// `device export`.
#[cfg(feature = "operator")]
pub mod device_export;
/// Certificates that are wrong on purpose.
#[cfg(feature = "operator")]
pub mod device_flaw;
/// `device issue`.
#[cfg(feature = "operator")]
pub mod device_issue;
/// `device renew`.
pub mod device_renew;
/// Revoke a device, here and at the target.
#[cfg(feature = "operator")]
pub mod device_revoke;
/// Replace a device's identity without a gap.
#[cfg(feature = "operator")]
pub mod device_rotate;
/// Signs the requests of devices that keep their keys.
#[cfg(feature = "operator")]
pub mod device_sign;
/// A new identity from fleet provisioning, resumable at every step.
pub mod enrol;
/// A device's identity, read from its files.
pub mod identity;
/// `init`.
#[cfg(feature = "operator")]
pub mod init;
/// A CA that is ready to sign.
#[cfg(feature = "operator")]
pub mod issuer;
/// Certificates made elsewhere, taken into the ledger.
#[cfg(feature = "operator")]
pub mod ledger_adopt;
/// A whole ledger to a file and back.
#[cfg(feature = "operator")]
pub mod ledger_transfer;
/// Which certificates to ask whether they are due.
pub mod needs_renewal;
/// Gathers what the checks before the first connect need.
pub mod preflight;
/// `provision`.
pub mod provision;
/// Take away what has expired.
#[cfg(feature = "operator")]
pub mod sweep;
/// What differs between a template and the target's.
#[cfg(feature = "operator")]
pub mod template_diff;
/// What is wrong or doubtful in a template, here and at the target.
#[cfg(feature = "operator")]
pub mod template_lint;
/// What a template makes of every device of a list.
#[cfg(feature = "operator")]
pub mod template_plan;
/// Registering a template and its policy at the target.
#[cfg(feature = "operator")]
pub mod template_register;
