//! The simulation of the operator: a seeded world around the three functions of the engine.
//!
//! Everything happens in virtual time, one event after the other, in one thread: the same script is the same trace, byte
//! for byte. What the operator does around the functions is mirrored in [`operator`], request by request; what happens in
//! the world is told to `engine::invariants`, which judges it.

pub mod dice;
pub mod episode;
pub mod exec;
pub mod happen;
pub mod operator;
pub mod plan;
pub mod planted;
pub mod regression;
pub mod report;
pub mod story;
pub mod world;
