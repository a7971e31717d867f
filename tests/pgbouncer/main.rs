//! What is read from PgBouncer, against a real one in front of a real PostgreSQL: each test has a pair of its own. What another
//! version answers is recorded.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod connecting;
mod granting;
mod reading;
mod recorded;
mod starving;
mod support;
