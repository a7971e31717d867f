//! latency-operator: finds out why an API is slow, mends it with guarded remediations, and proves that it helped.
//!
//! # Layout
//! `engine`, a crate of its own, decides without any I/O. This crate does the I/O around it. Imports go one way, as listed: a
//! module imports only modules that stand above it. The table is checked by the engine's test `layers`.
//! - [`config`], [`clock`], [`telemetry`]: the configuration file; time; logs, metrics and health;
//! - [`api`]: the resources, and their conversion into the engine's values and back;
//! - [`connections`]: connections to data stores and Services, and the addresses that they may lead to;
//! - [`write`](mod@write): writes to Kubernetes objects; [`leader`]: the Lease;
//! - [`observe`]: reads metrics, data stores and Kubernetes; [`act`]: carries effects out. Neither imports the other;
//! - [`controller`]: evaluates policies and carries remediations out;
//! - [`cli`]: the command line, which puts all of them together.

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
