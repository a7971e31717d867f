//! End to end: the operator as a process of its own, against a real API server, a real PostgreSQL, a real Prometheus.
//!
//! All tests of this binary share one control plane and one Prometheus; each has a namespace, a database server, an exporter
//! and an operator of its own. The exporter is the one stub: a real histogram whose content the test sets.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod acting;
mod budgets;
mod caching;
mod canaries;
mod draining;
mod examples;
mod failing;
mod gitops;
mod hostile;
mod input;
mod judging;
mod not_scaling;
mod observing;
mod pausing;
mod probing;
mod replicas;
mod scaling;
mod secrets;
mod shedding;
#[path = "../shown/mod.rs"]
mod shown;
mod support;
mod switched_off;
mod terminating;
mod together;
mod warming;
