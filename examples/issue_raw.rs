//! The raw limit that `scripts/bench/issue` measures against: P-256 key and signature over a
//! to-be-signed part's 400 bytes, on every core, nothing written. Prints the rate a second.

use std::time::Instant;

use nameplate::core::key::KeyAlgorithm;
use nameplate::effects::keys::{LocalSigner, RingKeys};
use nameplate::ports::{Keygen, Signer};

#[expect(
    clippy::cast_precision_loss,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench fails by panicking, and its counts are small"
)]
fn main() {
    let count: usize = std::env::args()
        .nth(1)
        .map_or(10_000, |n| n.parse().unwrap());
    let keys = RingKeys::default();
    let ca = LocalSigner::new(&keys.generate(KeyAlgorithm::EcP256).unwrap().0).unwrap();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..count / threads {
                    keys.generate(KeyAlgorithm::EcP256).unwrap();
                    ca.sign(&[7; 400]).unwrap();
                }
            });
        }
    });
    println!("{:.0}", count as f64 / started.elapsed().as_secs_f64());
}
