//! Tables for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::exec::{HOUR, Micros};
use crate::world::Counts;

/// Hours of simulated time.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "shown to people")]
pub fn hours(span: Micros) -> f64 {
    span as f64 / HOUR as f64
}

fn rows(out: &mut String, title: &str, map: &BTreeMap<String, u64>) {
    let all: u64 = map.values().sum();
    let _ = writeln!(out, "{title:<22} {all:>9}");
    for (what, many) in map {
        let _ = writeln!(out, "  {what:<38} {many:>9}");
    }
}

/// What was simulated, and what came of it.
#[must_use]
pub fn table(
    counts: &Counts,
    simulated: Micros,
    cpu_seconds: f64,
    episodes: u64,
    violations: usize,
) -> String {
    let mut out = String::new();
    let hours = hours(simulated);
    let rate = if cpu_seconds > 0.0 { hours / cpu_seconds * 60.0 } else { 0.0 };
    let _ = writeln!(out, "simulated hours        {hours:>9.0}   in {episodes} episodes");
    let _ =
        writeln!(out, "CPU seconds            {cpu_seconds:>9.1}   {rate:.0} simulated hours per CPU minute");
    let _ = writeln!(out, "looks at policies      {:>9}", counts.ticks);
    let _ = writeln!(out, "steps of remediations  {:>9}", counts.steps);
    let _ = writeln!(out, "terms of leaders       {:>9}", counts.terms);
    rows(&mut out, "troubles and people", &counts.events);
    rows(&mut out, "faults", &counts.faults);
    rows(&mut out, "API requests", &counts.requests);
    rows(&mut out, "acts in the world", &counts.acts);
    rows(&mut out, "remediations ended", &counts.ends);
    rows(&mut out, "undos ended", &counts.undos);
    let _ = writeln!(out, "steps of undos         {:>9}", counts.undo_steps);
    rows(&mut out, "refusals", &counts.refusals);
    let _ = writeln!(out, "violations             {violations:>9}");
    out
}

/// The kinds of act that a run must have seen to mean anything.
pub const ACTS: [&str; 4] = ["CancelQuery (cancel)", "CancelQuery (terminate)", "TerminateIdle", "Scale"];

/// What a run has not seen, and so says nothing about.
#[must_use]
pub fn vacuous(counts: &Counts) -> Vec<&'static str> {
    let mut missing: Vec<&str> = ACTS.into_iter().filter(|act| !counts.acts.contains_key(*act)).collect();
    if counts.undo_steps == 0 {
        missing.push("steps of undos");
    }
    if !counts.ends.contains_key("Completed Worse") {
        missing.push("acts that made things worse");
    }
    missing
}
