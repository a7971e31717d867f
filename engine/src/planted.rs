//! Bugs that are planted on purpose, so that the simulation can show that it finds them. This file, and every line that asks
//! it, is compiled with `--cfg planted_bugs` only; a build without it contains nothing of it.

use std::cell::Cell;

thread_local! {
    static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Plants one bug in this thread, or none.
pub fn plant(name: Option<&'static str>) {
    PLANTED.with(|planted| planted.set(name));
}

/// Whether this bug is planted.
#[must_use]
pub fn is(name: &str) -> bool {
    PLANTED.with(|planted| planted.get() == Some(name))
}
