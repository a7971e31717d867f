//! Statistics over time, written once: counters that start again, conditions that hold for a while, and what is usual.
//!
//! They know nothing of what they count. Time comes in with each sample, and memory is bounded whatever comes in.

mod baseline;
mod counter;
mod held;
#[cfg(test)]
mod properties;

pub use baseline::{Samples, median};
pub use counter::{Counters, Counting, grown};
pub use held::{Credit, Held, LastTwo};
