//! The operating system's random numbers.

use ring::rand::{SecureRandom, SystemRandom};

use crate::ports::Entropy;

/// getrandom(2), through ring.
#[derive(Clone, Debug)]
pub struct OsEntropy(SystemRandom);

impl Default for OsEntropy {
    fn default() -> Self {
        Self(SystemRandom::new())
    }
}

impl Entropy for OsEntropy {
    /// # Panics
    /// When the kernel gives no random numbers: nothing can be issued safely then.
    #[expect(
        clippy::expect_used,
        reason = "without randomness no key may be made; stop at once"
    )]
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes).expect("the kernel gives random numbers");
    }
}
