//! Network Time Security (RFC 8915): a TLS key exchange hands out keys and cookies, and with them NTP
//! answers prove who sent them.

/// The records of the key exchange.
pub mod ke;
/// Extension fields of NTP packets.
pub mod packet;
/// Whether a key exchange's server is the one it should be, when the clock may be wrong.
pub mod trust;

/// AEAD_AES_SIV_CMAC_256 (RFC 5297), which every NTS server has (RFC 8915 §5.1).
pub const AES_SIV_CMAC_256: u16 = 15;
/// Bytes of its key.
pub const KEY_BYTES: usize = 32;
/// The label for TLS's key exporter (RFC 8915 §4.3).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-network-time-security";
/// The protocol's name in ALPN.
pub const ALPN: &[u8] = b"ntske/1";
/// The port of the key exchange.
pub const KE_PORT: u16 = 4460;

/// The exporter's context for the key from client to server, or back: protocol, algorithm, direction.
pub fn exporter_context(to_client: bool) -> [u8; 5] {
    let [high, low] = AES_SIV_CMAC_256.to_be_bytes();
    [0, 0, high, low, u8::from(to_client)]
}

/// What is wrong with an NTS server's bytes.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NtsError {
    /// The authenticator is not made with our key, or the packet was changed.
    #[error("its answer's authenticator is wrong: changed on the way, or not from this server")]
    Authenticator,
    /// A record or field does not end where it should.
    #[error("its bytes are cut off or do not fit together: {0}")]
    Malformed(&'static str),
    /// It has thrown our cookie away.
    #[error("it does not know its own cookie (NTSN); ask again")]
    Nak,
    /// It gave no cookie.
    #[error("it gave no cookie")]
    NoCookie,
    /// It refuses, by error record.
    #[error("it refuses the key exchange: error {0}")]
    Refused(u16),
    /// Neither the protocol nor the algorithm that must be there.
    #[error("it offers neither NTP version 4 nor AEAD_AES_SIV_CMAC_256")]
    Unsupported,
    /// Not an answer to our packet.
    #[error("its answer carries another request's identifier: forged, or late")]
    Identifier,
}

#[cfg(test)]
mod tests;
