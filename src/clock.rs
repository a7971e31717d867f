//! The one clock of the operator.

use std::time::Instant;

use engine::model::later;
use jiff::Timestamp;

/// A wall clock that is read once and then counted on by the monotonic clock: it never goes backwards, and somebody who
/// sets the machine's clock shortens no cooldown and revives no deadline.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    monotonic: Instant,
}

impl Clock {
    /// Reads the wall clock, once.
    #[must_use]
    pub fn start() -> Self {
        Self { wall: Timestamp::now(), monotonic: Instant::now() }
    }

    /// The instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        later(self.wall, self.monotonic.elapsed())
    }
}
