//! How the laboratory tells people what it is doing, so that minutes of building never look like a hang.

use std::io::Write;
use std::sync::Arc;

/// Receives one line for each thing that takes long or that a person wants to know.
pub trait Say: Send + Sync {
    /// Says one line, without a line break at its end.
    fn say(&self, line: &str);
}

/// Says everything on standard error, past the capture of `cargo test`: a first run builds for minutes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Say for Stderr {
    fn say(&self, line: &str) {
        // One write for the line: lines of parallel test binaries do not mix. Nobody listening is no failure.
        let _ = std::io::stderr().write_all(format!("lab: {line}\n").as_bytes());
    }
}

/// What is passed around: one voice, shared by all that happens in a session.
pub type Voice = Arc<dyn Say>;
