//! Randomness.

/// Cryptographically secure random bytes.
pub trait Entropy {
    /// Fills the whole slice with fresh random bytes.
    fn fill(&self, bytes: &mut [u8]);
}
