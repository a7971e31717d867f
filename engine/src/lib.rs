//! The brain of latency-operator: pure, synchronous, deterministic.
//!
//! There is no I/O in here, no clock, no environment and no randomness: `now` and everything else that is known comes in
//! as a value, and what was decided goes out as a value. So a scenario is a text file, and a simulation of ten thousand
//! hours exercises the code that runs in production.
//!
//! # The three functions
//! - [`tick()`]: one look at one policy (judge, diagnose, decide, guard), yields proposals;
//! - [`admit()`]: over all policies, who may go now;
//! - [`advance()`]: the life of one remediation, one step at a time.
//!
//! Beside them, [`investigate()`] shows people what `tick` sees, also while nothing is breached.
//!
//! # Layout
//! Imports go one way: `base`, [`stats`] <- [`dependencies`] <- [`model`] <- [`effects`] <- [`judge`] <- [`causes`] <- [`actions`] <- [`guards`] <- [`mod@tick`],
//! [`mod@admit`], [`mod@advance`], [`mod@survey`], [`retention`]. [`invariants`] is a second opinion on all of them and imports
//! only [`model`]. A test (`tests/layers.rs` of the workspace) fails on an import in the other direction. Adding a cause or a
//! guard is one new file and one line of its table.

pub mod actions;
pub mod admit;
pub mod advance;
mod base;
pub mod causes;
pub mod dependencies;
pub mod effects;
pub mod guards;
pub mod invariants;
mod investigate;
pub mod judge;
pub mod model;
#[cfg(planted_bugs)]
pub mod planted;
pub mod record;
pub mod replay;
pub mod retention;
mod rollback;
pub mod stats;
pub mod survey;
pub mod tick;

pub use admit::{Admitted, Proposal, admit};
pub use advance::{Seen, Step, advance};
pub use investigate::{Blind, Investigation, investigate};
pub use model::{Overall, Situation};
pub use survey::survey;
pub use tick::{State, Tick, settle, tick};
