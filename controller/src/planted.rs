//! Bugs that the simulation plants in the driver, to see that it finds them. Compiled only with `--cfg planted_bugs`.

/// Whether this bug is planted now.
#[cfg(planted_bugs)]
pub(crate) fn is(name: &str) -> bool {
    engine::planted::is(name)
}

/// Nothing is planted.
#[cfg(not(planted_bugs))]
pub(crate) const fn is(_: &str) -> bool {
    false
}
