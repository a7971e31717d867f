//! latency-operator: finds out why an API is slow, mends it with guarded remediations, and proves that it helped.
//!
//! # Layout
//! Imports go one way. `engine` (a crate of its own) decides, without any I/O; this crate does the I/O around it:
//! - [`api`]: the resources, and their conversion into the engine's values.
pub mod act;
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connections;
pub mod controller;
pub mod leader;
pub mod observe;
pub mod telemetry;
pub mod write;
