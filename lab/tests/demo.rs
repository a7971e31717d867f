//! The demo as people run it: a real API is broken, and nobody but the operator heals it.
//!
//! Each fault takes about a minute, and nothing else may run beside it. So `make test` plays a sample: a query that is cancelled, a
//! cache that is filled, and replicas on a real node. `make demos` plays every fault.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the harness of a test talks")]

use std::process::{Command, ExitCode, Stdio};

use lab::bottle;
use libtest_mimic::{Arguments, Failed, Trial};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A test's name and what it does.
type Test = (&'static str, fn() -> Result<()>);

const SAMPLE: [Test; 2] = [
    (
        "a_runaway_query_is_healed_and_what_would_have_been_is_seen_beside_it",
        a_runaway_query_is_healed_and_what_would_have_been_is_seen_beside_it,
    ),
    ("a_cache_that_was_flushed_is_filled_again", a_cache_that_was_flushed_is_filled_again),
];
/// With `DEMOS=all`.
const OTHERS: [Test; 3] = [
    ("a_blocker_is_healed", a_blocker_is_healed),
    ("a_transaction_that_was_left_open_is_healed", a_transaction_that_was_left_open_is_healed),
    (
        "workers_that_wait_for_a_slow_upstream_are_joined_by_others",
        workers_that_wait_for_a_slow_upstream_are_joined_by_others,
    ),
];
/// As root and where there can be namespaces.
const ON_A_REAL_NODE: [Test; 1] =
    [("on_a_real_node_the_pods_are_real_and_so_is_the_operator", on_a_real_node_the_pods_are_real)];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One database has one CPU: two demos at once would break each other.
    arguments.test_threads = Some(1);
    let missing = if arguments.list { None } else { bottle::missing() };
    if let Some(missing) = &missing {
        println!("skipped: {missing}");
        if std::env::var_os("CI").is_some() {
            eprintln!("in CI a real node is required");
            return ExitCode::FAILURE;
        }
    }
    let trial = |(name, test): Test| {
        Trial::test(name, move || test().map_err(|error| Failed::from(error.to_string())))
    };
    let real = ON_A_REAL_NODE.map(|test| trial(test).with_ignored_flag(missing.is_some()));
    let mut trials: Vec<Trial> = SAMPLE.map(trial).into_iter().chain(real).collect();
    if std::env::var("DEMOS").is_ok_and(|which| which == "all") {
        trials.extend(OTHERS.map(trial));
    } else {
        println!("`make demos` plays as well: {}", OTHERS.map(|(name, _)| name).join(", "));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs it to its end and returns what it showed. The operator is the one that `LATENCY_OPERATOR_BINARY` names; without
/// that the demo builds the one of this checkout.
fn demo(fault: &str, more: &[&str]) -> Result<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    // What it is doing goes to the terminal at once: a first run builds for minutes.
    command
        .args(["demo", "--fault", fault])
        .args(more)
        .env_remove("KEEP")
        .env_remove("COMPARE")
        .env_remove("NODE");
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output()?;
    let shown = String::from_utf8(output.stdout)?;
    if output.status.success() {
        return Ok(shown);
    }
    Err(format!("the demo of {fault} ended with {}:\n{shown}", output.status).into())
}

fn shows(shown: &str, expected: &[&str]) {
    for text in expected {
        assert!(shown.contains(text), "{text:?} is missing in\n{shown}");
    }
    assert!(!shown.contains('\x1b'), "colours are for terminals");
}

const IN_ANY_CASE: [&str; 4] = ["too slow", "RemediationCompleted", "well again", "Healed: "];
const SIGNALLED: [&str; 1] = ["the fault's own, and no other"];
const CANCELLED: [&str; 2] = ["canceling statement due to user request", "CancelQuery Healed"];

fn a_blocker_is_healed() -> Result<()> {
    let shown = demo("blocker", &[])?;
    shows(&shown, &IN_ANY_CASE);
    shows(&shown, &SIGNALLED);
    shows(&shown, &CANCELLED);
    shows(&shown, &["begins demo/sql/fault-blocker.sql", "CauseFound: BlockingQuery (Certain)"]);
    Ok(())
}

fn a_runaway_query_is_healed_and_what_would_have_been_is_seen_beside_it() -> Result<()> {
    let shown = demo("runaway", &["--compare"])?;
    shows(&shown, &IN_ANY_CASE);
    shows(&shown, &CANCELLED);
    shows(&shown, &["begins demo/sql/fault-runaway.sql", "CauseFound: RunawayQuery (Certain)"]);
    shows(&shown, &["without (mode Observe)", "with (mode Auto)", "did nothing; dry run: cancel what"]);
    shows(&shown, &["in mode Observe: nothing", "in mode Auto: session ", SIGNALLED[0]]);
    shows(&shown, &["is terminated, as by people who were called", "In mode Observe it did nothing"]);
    Ok(())
}

fn a_transaction_that_was_left_open_is_healed() -> Result<()> {
    let shown = demo("idle", &[])?;
    shows(&shown, &IN_ANY_CASE);
    shows(&shown, &SIGNALLED);
    shows(&shown, &["begins demo/sql/fault-idle.sql", "CauseFound: IdleInTransaction (Certain)"]);
    shows(&shown, &["terminating connection due to administrator command", "TerminateIdle Healed"]);
    Ok(())
}

fn workers_that_wait_for_a_slow_upstream_are_joined_by_others() -> Result<()> {
    let shown = demo("saturation", &[])?;
    shows(&shown, &IN_ANY_CASE);
    shows(&shown, &["the price service takes 400 ms instead of 20 ms", "CauseFound: WorkersSaturated"]);
    shows(&shown, &["Scale from 2 to 4 replicas", "capacity is added: 2 -> 4"]);
    shows(&shown, &["the price service is as fast as before", "undo Done", "capacity is taken back: 4 -> "]);
    Ok(())
}

fn a_cache_that_was_flushed_is_filled_again() -> Result<()> {
    let shown = demo("coldcache", &[])?;
    shows(&shown, &IN_ANY_CASE);
    shows(&shown, &["FLUSHALL: it holds nothing any more", "it was flushed (keys: 100, then 0)"]);
    shows(&shown, &["it holds all portfolios again", "WarmCache Healed", "requests filled it"]);
    Ok(())
}

fn on_a_real_node_the_pods_are_real() -> Result<()> {
    let image = image()?;
    let shown = demo("saturation", &["--node", "real", "--image", &image])?;
    shows(&shown, &IN_ANY_CASE);
    shows(
        &shown,
        &["CauseFound: WorkersSaturated", "capacity is added: 2 -> 4", "capacity is taken back: 4 -> "],
    );
    shows(&shown, &["undo Done", "; 0 failed"]);
    // Every one of them ran from its start to the end of the demo.
    let pods: Vec<&str> = shown.lines().filter(|line| line.contains("198.18.")).collect();
    for (namespace, name) in [("latency-operator ", "latency-operator-"), ("shop ", "orders-api-")] {
        let own: Vec<_> = pods.iter().filter(|pod| pod.starts_with(namespace)).collect();
        assert!(own.len() >= 2, "two Pods of {namespace} were expected:\n{shown}");
        for pod in own {
            let columns: Vec<&str> = pod.split_whitespace().collect();
            assert!(columns.get(1).is_some_and(|column| column.starts_with(name)), "{pod}");
            assert_eq!(columns.get(4), Some(&"0"), "it was started anew: {pod}");
        }
    }
    Ok(())
}

/// The image that is named, or that of this checkout.
fn image() -> Result<String> {
    let named = std::env::var("LATENCY_OPERATOR_IMAGE").ok();
    Ok(named.map_or_else(|| lab::workspace::build_image().map(|path| path.display().to_string()), Ok)?)
}
