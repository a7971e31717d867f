//! Hostile input: thousands of mutants of valid objects and answers, from a seed each, through the code that reads them and
//! the code that decides. Nothing panics; what is refused is refused with the field's path; nothing is done that the
//! original would not have done.
//!
//! The same seed is the same mutant. Which one failed is printed with the document; `MUTANT=17` plays that one alone.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod budgets;
#[path = "../../sim/src/dice.rs"]
#[allow(dead_code, reason = "the simulation uses all of it")]
mod dice;
mod each;
mod incidents;
mod mutate;
mod policies;
mod reach;
mod remediations;
mod rows;
#[path = "../../engine/tests/support/mod.rs"]
mod support;
mod worlds;
