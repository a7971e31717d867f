//! What is read from Redis, against real servers: each test has one of its own. What no real server does is done by a listener
//! of the test's own.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod connecting;
mod encrypted;
mod granting;
mod hostile;
mod reading;
mod remembering;
mod support;
