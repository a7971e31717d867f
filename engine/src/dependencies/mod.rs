//! Data stores that a target depends on. One folder each: what a look at it shows, and what is remembered of it.

pub mod postgres;
pub mod redis;
