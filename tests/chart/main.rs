//! The chart, by the real helm, the real promtool and a real API server: what it renders is what the API server takes, the
//! operator's own configuration reader understands it, each right has an action that needs it, and nobody gets more rights by
//! writing a policy, or what the operator alone writes, than they have.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod alerts;
mod authors;
mod configuration;
mod dashboard;
mod definitions;
mod installing;
mod ledger;
mod pods;
mod rights;
mod support;
mod tenants;
mod values;
mod words;
mod working;
