//! latency-operator: finds out why an API is slow, mends it with guarded remediations, and proves that it helped.
//!
//! # Layout
//! The crate `engine` decides, without any I/O. The crate `controller` drives it over ports. This crate does the I/O behind the
//! ports. Imports go one way, as listed: a module imports only modules that stand above it. The table is checked by the
//! engine's test `layers`.
//! - [`config`], [`clock`], [`telemetry`], [`scope`]: the configuration file; time; logs, metrics and health; which namespaces;
//! - [`api`]: the resources, and their conversion into the engine's values and back;
//! - [`connections`]: connections to data stores and Services, and the addresses that they may lead to;
//! - [`observe`]: reads metrics, data stores and Kubernetes; [`act`]: carries effects out. Neither imports the other;
//! - [`kube`](mod@kube): the ports of the crate `controller` on Kubernetes, and the queues that feed it;
//! - [`notify`]: the sinks of announcements: the log, counters and Events;
//! - [`cli`]: the command line, which puts all of them together.

pub mod act;
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connections;
pub mod kube;
pub mod notify;
pub mod observe;
pub mod scope;
pub mod telemetry;
