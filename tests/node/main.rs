//! On a real node: the image and the chart, as a user has them.
//!
//! The tests of this binary share one cluster in a bottle (see `lab/README.md`) and run one after the other. The binary runs
//! itself again in there. Where a bottle cannot be, they are skipped by name; in CI that is a failure.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "in a test a panic is a failure, and its harness talks"
)]

mod docs;
mod installing;
mod leaving;
mod support;

use std::process::ExitCode;

use lab::bottle;
use libtest_mimic::{Arguments, Trial};

/// A test's name and what it does.
type Test = (&'static str, fn());

const TESTS: &[&[Test]] = &[installing::TESTS, leaving::TESTS];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share a node.
    arguments.test_threads = Some(1);
    let missing = if bottle::is_inside() { None } else { bottle::missing() };
    if !arguments.list && missing.is_none() && !bottle::is_inside() {
        return enter();
    }
    if let Some(missing) = &missing {
        println!("skipped: {missing}");
        if std::env::var_os("CI").is_some() {
            eprintln!("in CI a real node is required");
            return ExitCode::FAILURE;
        }
    }
    if bottle::is_inside() {
        bottle::prepare().expect("the bottle");
    }
    let trial = |(name, test): &Test| {
        let test = *test;
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(*name, run).with_ignored_flag(missing.is_some())
    };
    let trials = TESTS.iter().flat_map(|tests| tests.iter()).map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// In there nothing can be fetched or built: all is made ready before.
fn enter() -> ExitCode {
    support::prepare();
    if std::env::var_os(support::IMAGE).is_none() {
        lab::workspace::build_image().expect("an image");
    }
    let status = bottle::enter().expect("a bottle");
    ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
}
