//! Which files one identity consists of, their names and secrecy.

/// The private key, PKCS#8 PEM, mode 0600.
pub const KEY: &str = "device.key.pem";
/// In place of [`KEY`] where the key is in a token: its URI, one line, no secret.
pub const KEY_URI: &str = "device.key.uri";
/// The leaf certificate alone, PEM.
pub const CERTIFICATE: &str = "device.crt.pem";
/// Leaf, then its issuers without the root: what the device presents in TLS. PEM.
pub const CHAIN: &str = "chain.pem";
/// The issuers up to the root, PEM: the CA bundle that verifies the leaf.
pub const CA_BUNDLE: &str = "ca.pem";
/// What the service said when it provisioned the identity: the thing, its configuration. JSON.
pub const PROVISIONING: &str = "provisioning.json";

/// Whether a file holds a secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Secrecy {
    /// Mode 0600 from the first moment.
    Private,
    /// Mode 0644.
    Public,
}

impl Secrecy {
    /// The file mode.
    pub fn mode(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
        }
    }
}

/// One file of an identity folder.
pub struct File {
    /// Its name inside the folder.
    pub name: &'static str,
    /// Who may read it.
    pub secrecy: Secrecy,
    /// What it holds; zeroized on drop.
    pub bytes: zeroize::Zeroizing<Vec<u8>>,
}
