//! The simulation of the operator: a seeded world around the three functions of the engine.
//!
//! Everything happens in virtual time, one event after the other, in one thread: the same script is the same trace, byte
//! for byte. The operator is the shipped driver (the crate `controller`) over the ports in [`ports`]; what happens in the
//! world is told to `engine::invariants`, which judges it.

pub mod bench;
pub mod dice;
pub mod episode;
pub mod exec;
pub mod happen;
mod lead;
pub mod network;
pub mod plan;
pub mod planted;
pub mod ports;
pub mod process;
pub mod readings;
pub mod regression;
pub mod report;
pub mod story;
pub mod watches;
pub mod work;
pub mod world;
