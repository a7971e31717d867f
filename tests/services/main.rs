//! From a Service to addresses, on a real API server: whatever leads elsewhere than to the ready Pods of the Service is
//! refused, with a reason. A listener stands behind every Service: it would be reached if a rule were not asked.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod asking;
mod probing;
mod refusing;
mod scraping;
mod support;
