//! Everything that is known at one instant: what is read, from where, and how it becomes a Snapshot.

pub mod kubernetes;
pub mod postgres;
pub mod probe;
pub mod prometheus;
