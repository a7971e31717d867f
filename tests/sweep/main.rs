//! The crash sweep: the operator is killed, frozen and lied to at every request of a full incident, on real parts, and
//! afterwards everything must be as if nothing had happened.
//!
//! `make test` plays a chosen few of the points, `SWEEP=full` (`make sweep`) all of them.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "in a test a panic is a failure, and this one's figures are read"
)]

mod judge;
mod play;
mod points;
mod story;
#[path = "../e2e/support.rs"]
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
mod support;

#[test]
fn nothing_is_done_twice_or_lost_wherever_it_is_broken() {
    support::run(async {
        let full = std::env::var("SWEEP").is_ok_and(|value| value == "full");
        let points = if full { points::all().await } else { points::chosen() };
        let points = match std::env::var("SWEEP_ONLY") {
            Ok(only) => points.into_iter().filter(|point| point.to_string().contains(&only)).collect(),
            Err(_) => points,
        };
        let least = if full { 100 } else { 15 };
        let results = play::all(points).await;
        let reached = results.iter().filter(|result| result.reached).count();
        let failed: Vec<&judge::Result> =
            results.iter().filter(|result| !result.troubles.is_empty()).collect();
        judge::print(&results);
        assert!(failed.is_empty(), "{} points failed", failed.len());
        let alone = std::env::var_os("SWEEP_ONLY").is_some();
        assert!(alone || reached >= least, "{reached} points are too few to show anything");
    });
}
