//! Bugs that are planted on purpose, to see that the simulation finds them. Compiled only with `--cfg planted_bugs`.

/// A bug, and where it is.
#[derive(Debug, Clone, Copy)]
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// Whether it is in the engine; the others are in the driver or in the statement that signals.
    pub engine: bool,
}

/// Whether this bug is planted now.
#[cfg(planted_bugs)]
#[must_use]
pub fn is(name: &str) -> bool {
    engine::planted::is(name)
}

/// Nothing is planted.
#[cfg(not(planted_bugs))]
#[must_use]
pub const fn is(_: &str) -> bool {
    false
}
