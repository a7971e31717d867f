//! How far the demo is, for people who wait for it.

use std::time::Instant;

use lab::Session;

/// The steps of a demo, in their order.
pub(super) struct Progress {
    session: Session,
    begun: Instant,
    at: usize,
    of: usize,
}

impl Progress {
    /// Starts the clock. The incidents of a demo are two steps each: until all is calm, and the incident itself.
    pub(super) fn begin(session: &Session, incidents: usize) -> Self {
        Self { session: session.clone(), begun: Instant::now(), at: 0, of: 4 + 2 * incidents }
    }

    /// Says what begins now.
    pub(super) fn step(&mut self, what: &str) {
        self.at += 1;
        let seconds = self.begun.elapsed().as_secs();
        self.session.say(&format!("step {} of {}, after {seconds} s: {what}", self.at, self.of));
    }
}
