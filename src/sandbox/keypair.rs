//! Key pairs as AWS IoT makes them for a device: RSA of 2048 bits, the private key in PKCS#1.

use std::convert::Infallible;

use ring::rand::{SecureRandom, SystemRandom};
use rsa::PrivateKey;
use rsa::pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::rand_core::{TryCryptoRng, TryRng};
use zeroize::Zeroizing;

use super::registry::{ApiError, ErrorName};
use crate::core::key::PublicKey;
use crate::core::pem;

/// The size of AWS IoT's keys.
const BITS: usize = 2048;

/// A key pair on its way to a device.
pub(super) struct KeyPair {
    /// `RSA PRIVATE KEY`, PEM.
    pub(super) private_pem: Zeroizing<String>,
    /// `PUBLIC KEY`, PEM.
    pub(super) public_pem: String,
    /// The public key.
    pub(super) public: PublicKey,
}

impl KeyPair {
    /// Makes one; takes some tenths of a second.
    pub(super) fn generate() -> Result<Self, ApiError> {
        let failed = || ApiError::new(ErrorName::InternalFailure, "the key could not be made");
        let key = PrivateKey::new(&mut Random(SystemRandom::new()), BITS);
        let key = key.map_err(|_| failed())?;
        let private = key.to_pkcs1_der().map_err(|_| failed())?;
        let public = key.to_public_key().to_pkcs1_der().map_err(|_| failed())?;
        let public = PublicKey::from_rsa(public.as_bytes()).map_err(|_| failed())?;
        Ok(Self {
            private_pem: Zeroizing::new(pem::encode("RSA PRIVATE KEY", private.as_bytes())),
            public_pem: pem::encode("PUBLIC KEY", public.spki()),
            public,
        })
    }
}

/// ring's randomness, as the `rsa` crate asks for it.
struct Random(SystemRandom);

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        #[expect(
            clippy::expect_used,
            reason = "a machine without randomness can make no key; weak ones would be worse"
        )]
        self.0
            .fill(bytes)
            .expect("the operating system's randomness");
        Ok(())
    }
}

impl TryCryptoRng for Random {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::key::{KeyAlgorithm, KeyFile};

    #[test]
    fn a_pair_is_rsa_2048_and_both_halves_are_read_back() {
        let pair = KeyPair::generate().unwrap();
        assert_eq!(pair.public.algorithm(), KeyAlgorithm::Rsa(2048));
        assert!(
            pair.public_pem
                .starts_with("-----BEGIN PUBLIC KEY-----\nMIIBIjAN")
        );
        let key = KeyFile::parse(pair.private_pem.as_bytes()).unwrap();
        assert!(matches!(key, KeyFile::Clear(_)));
    }
}
