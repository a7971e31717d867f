//! Chance, from a seed.

use rand_core::{Rng, SeedableRng};
use rand_xorshift::XorShiftRng;

/// A stream of chances that its seed decides.
#[derive(Debug, Clone)]
pub struct Dice(XorShiftRng);

impl Dice {
    /// The stream of that seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut dice = Self(XorShiftRng::seed_from_u64(seed));
        // Seeds that differ in few bits begin alike.
        for _ in 0..8 {
            dice.0.next_u64();
        }
        dice
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1).max(1);
        low + self.0.next_u64() % span
    }

    /// A place in something that has so many.
    pub fn below(&mut self, many: usize) -> usize {
        let many = u64::try_from(many).unwrap_or(1).max(1);
        usize::try_from(self.0.next_u64() % many).unwrap_or(0)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }
}
