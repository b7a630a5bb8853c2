//! The only code that touches the machine: one adapter per file.

/// Modes and owners on the disk.
pub mod access;
/// The control plane through the AWS SDK.
#[cfg(feature = "operator")]
pub mod aws;
/// Looking around on the disk.
pub mod browse;
/// The system's clocks: the one place that asks what time it is.
pub mod clock;
/// Time daemons of this machine.
pub mod daemons;
/// TCP, and TLS by rustls with ring.
pub mod dial;
/// The operating system's random numbers.
pub mod entropy;
/// The disk.
pub mod files;
/// Identity folders in bulk.
#[cfg(feature = "operator")]
pub mod folders;
/// Commands and signals for those who use an identity.
pub mod hook;
/// The kernel's opinion of its clock: the one reviewed `unsafe` file.
pub mod kernel_clock;
/// Key pairs made and used in this process, by ring.
pub mod keys;
/// The ledger's databases.
#[cfg(feature = "operator")]
pub mod ledger;
/// The key exchange of Network Time Security.
pub mod nts;
/// Passphrases from files, descriptors and the terminal.
#[cfg(any(feature = "operator", feature = "pkcs11"))]
pub mod passphrase;
/// Keys in PKCS#11 tokens.
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
/// A look at a server's TLS face.
pub mod probe;
/// Tunnels through an HTTP proxy.
pub mod proxy;
/// What is known about time at build.
pub mod release;
/// Time servers over UDP.
pub mod sntp;
/// Lists from files and stdin; files that grow.
#[cfg(feature = "operator")]
pub mod streams;
/// Folders that change places.
pub mod swap;
/// Removing files by name.
pub mod tidy;
/// Work folders.
pub mod work;
