//! The demo as people run it: a real API is broken, and nobody but the operator heals it.

use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// One database has one CPU: two demos at once would break each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs it to its end and returns what it showed. The operator is the one that `LATENCY_OPERATOR_BINARY` names; without
/// that the demo builds the one of this checkout.
fn demo(fault: &str, more: &[&str]) -> Result<String> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    // What it is doing goes to the terminal at once: a first run builds for minutes.
    command.args(["demo", "--fault", fault]).args(more).env_remove("KEEP").env_remove("COMPARE");
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
const CANCELLED: [&str; 2] = ["canceling statement due to user request", "CancelQueries Healed"];

#[test]
fn a_blocker_is_healed() -> Result<()> {
    let shown = demo("blocker", &[])?;
    shows(&shown, &IN_ANY_CASE);
    shows(&shown, &SIGNALLED);
    shows(&shown, &CANCELLED);
    shows(&shown, &["begins demo/sql/fault-blocker.sql", "CauseFound: BlockingQuery (Certain)"]);
    Ok(())
}

#[test]
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

#[test]
fn a_transaction_that_was_left_open_is_healed() -> Result<()> {
    let shown = demo("idle", &[])?;
    shows(&shown, &IN_ANY_CASE);
    shows(&shown, &SIGNALLED);
    shows(&shown, &["begins demo/sql/fault-idle.sql", "CauseFound: IdleInTransaction (Certain)"]);
    shows(&shown, &["terminating connection due to administrator command", "TerminateIdle Healed"]);
    Ok(())
}

#[test]
fn workers_that_wait_for_a_slow_upstream_are_joined_by_others() -> Result<()> {
    let shown = demo("saturation", &[])?;
    shows(&shown, &IN_ANY_CASE);
    shows(&shown, &["the price service takes 400 ms instead of 20 ms", "CauseFound: WorkersSaturated"]);
    shows(&shown, &["Scale from 2 to 4 replicas", "capacity is added: 2 -> 4"]);
    shows(&shown, &["the price service is as fast as before", "undo Done", "capacity is taken back: 4 -> "]);
    Ok(())
}

#[test]
fn a_cache_that_was_flushed_is_filled_again() -> Result<()> {
    let shown = demo("coldcache", &[])?;
    shows(&shown, &IN_ANY_CASE);
    shows(&shown, &["FLUSHALL: it holds nothing any more", "it was flushed (keys: 100, then 0)"]);
    shows(&shown, &["it holds all portfolios again", "WarmCache Healed", "requests filled it"]);
    Ok(())
}
