//! Key pairs made and used in this process, by ring.

use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA256,
};
use zeroize::Zeroizing;

use crate::core::key::{KeyAlgorithm, KeyError, PrivateKey, PublicKey};
use crate::ports::{Keygen, SignError, Signer};

/// Makes keys with the operating system's randomness.
#[derive(Clone, Debug)]
pub struct RingKeys(SystemRandom);

impl Default for RingKeys {
    fn default() -> Self {
        Self(SystemRandom::new())
    }
}

impl Keygen for RingKeys {
    fn generate(&self, algorithm: KeyAlgorithm) -> Result<(PrivateKey, PublicKey), KeyError> {
        let (signing, point) = match algorithm {
            KeyAlgorithm::EcP256 => (&ECDSA_P256_SHA256_ASN1_SIGNING, 65),
            KeyAlgorithm::EcP384 => (&ECDSA_P384_SHA384_ASN1_SIGNING, 97),
            other => return Err(KeyError::Format(format!("{other} keys are not made here"))),
        };
        let document = EcdsaKeyPair::generate_pkcs8(signing, &self.0)
            .map_err(|_| KeyError::Format("the key could not be made".into()))?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        // ring's PKCS#8 ends with the public point, so it need not be computed a second time.
        let public = PublicKey::from_ec_point(&pkcs8[pkcs8.len() - point..])?;
        Ok((PrivateKey::from_pkcs8(pkcs8), public))
    }

    fn public_of(&self, key: &PrivateKey) -> Result<PublicKey, KeyError> {
        LocalSigner::new(key).map(|signer| signer.public)
    }

    fn sign_with(&self, key: &PrivateKey, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signer = LocalSigner::new(key).map_err(|error| SignError::Failed(error.to_string()))?;
        signer.sign(message)
    }
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Rsa(rsa::KeyPair),
}

/// Signs with a private key held in this process.
pub struct LocalSigner {
    pair: Pair,
    public: PublicKey,
    random: SystemRandom,
}

impl LocalSigner {
    /// Takes a PKCS#8 key: P-256, P-384, or RSA of 2048 to 4096 bits.
    ///
    /// # Errors
    /// `key.format` for any other key.
    pub fn new(key: &PrivateKey) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            EcdsaKeyPair::from_pkcs8(algorithm, key.pkcs8(), &random).ok()
        };
        if let Some(pair) = ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .or_else(|| ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING))
        {
            let public = PublicKey::from_ec_point(pair.public_key().as_ref())?;
            return Ok(Self {
                pair: Pair::Ecdsa(pair),
                public,
                random,
            });
        }
        let pair = rsa::KeyPair::from_pkcs8(key.pkcs8()).map_err(|_| {
            KeyError::Format(
                "the key is not one we can use: PKCS#8 with P-256, P-384 or RSA 2048 to 4096; \
                 an EC key needs its public key inside (openssl pkcs8 -topk8 -nocrypt adds it)"
                    .into(),
            )
        })?;
        let public = PublicKey::from_rsa(pair.public_key().as_ref())?;
        Ok(Self {
            pair: Pair::Rsa(pair),
            public,
            random,
        })
    }
}

impl Signer for LocalSigner {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let failed = |_| SignError::Failed("the signature could not be made".into());
        match &self.pair {
            Pair::Ecdsa(pair) => pair
                .sign(&self.random, message)
                .map(|s| s.as_ref().to_vec())
                .map_err(failed),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::key::KeyFile;

    #[test]
    fn a_made_key_signs_and_survives_encryption() {
        for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384] {
            let (key, public) = RingKeys::default().generate(algorithm).unwrap();
            assert_eq!(public.algorithm(), algorithm);
            assert_eq!(RingKeys::default().public_of(&key).unwrap(), public);
            let pem = key
                .to_encrypted_pem(b"correct horse", [7; 16], [9; 16])
                .unwrap();
            let KeyFile::Encrypted(der) = KeyFile::parse(pem.as_bytes()).unwrap() else {
                panic!("not encrypted")
            };
            assert!(matches!(
                PrivateKey::decrypt(&der, b"wrong"),
                Err(KeyError::Passphrase)
            ));
            assert_eq!(
                PrivateKey::decrypt(&der, b"correct horse").unwrap().pkcs8(),
                key.pkcs8()
            );
        }
    }
}
