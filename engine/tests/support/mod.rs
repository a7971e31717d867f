//! What the engine's tests share: the text format of scenarios, and a small world in which the shipped driver runs.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "test support: a panic is a failed test")]

pub(crate) mod builders;
pub(crate) mod cache;
pub(crate) mod cluster;
pub(crate) mod parse;
pub(crate) mod pool;
pub(crate) mod ports;
pub(crate) mod stage;
pub(crate) mod told;
pub(crate) mod workers;
pub(crate) mod world;
