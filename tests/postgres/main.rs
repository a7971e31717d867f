//! What is read from PostgreSQL, and what is done to it, against real servers: each test has one of its own.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "in a test a panic is a failure"
)]

mod cancel;
mod classes;
mod connecting;
mod coverage;
mod granting;
mod hostile;
mod locks;
mod matching;
mod race;
mod settings;
mod snapshot;
mod support;
mod terminate;
