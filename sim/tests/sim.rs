//! The simulation repeats itself, and what it once found stays mended.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

use std::path::{Path, PathBuf};

use sim::episode::{Script, play, shrink};
use sim::exec::{HOUR, MINUTE};
use sim::plan::draw;
use sim::regression::Regression;

/// A short script: an hour of faults.
fn short(seed: u64) -> Script {
    let restless = HOUR + 10 * MINUTE;
    Script { seed, restless, plan: draw(seed, restless) }
}

#[test]
fn the_same_seed_is_the_same_trace_byte_for_byte() {
    let (one, two) = (play(&short(1)), play(&short(1)));
    assert!(one.trace.len() > 100, "hardly anything happened");
    assert_eq!(one.trace.join("\n"), two.trace.join("\n"));
    let other = play(&short(2));
    assert_ne!(one.trace, other.trace, "the seed decides nothing");
}

#[test]
fn an_episode_is_judged_to_its_end() {
    let outcome = play(&Script::of(1_000_003));
    assert_eq!(outcome.violations, vec![]);
    assert_eq!(outcome.lasted, Script::of(1_000_003).lasts());
    assert!(outcome.counts.acts.values().sum::<u64>() > 0, "nothing was done");
}

#[test]
fn a_script_that_violates_nothing_is_not_made_shorter() {
    let script = short(3);
    assert_eq!(shrink(&script, "S1", 4), script);
}

fn regressions() -> Vec<(PathBuf, Regression)> {
    let all =
        Regression::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions")).expect("regressions");
    assert!(!all.is_empty(), "no regression was found");
    all
}

#[test]
fn what_was_once_found_stays_mended() {
    for (path, regression) in regressions() {
        let violations = play(&regression.script).violations;
        if regression.unmended.is_some() {
            // Whoever mends it takes that word away.
            let violated = violations.first().map(|violation| violation.id.clone());
            assert_eq!(violated, Some(regression.violates), "{} is mended", path.display());
        } else {
            assert_eq!(violations, vec![], "{}", path.display());
        }
    }
}

/// A script that no longer brings its bug about guards against nothing.
#[cfg(planted_bugs)]
#[test]
fn what_was_once_found_is_found_again_where_it_is_planted() {
    for (path, regression) in regressions() {
        let Some(bug) = regression.bug else { continue };
        engine::planted::plant(sim::planted::named(Some(&bug)));
        let violations = play(&regression.script).violations;
        engine::planted::plant(None);
        let violated = violations.first().map(|violation| violation.id.clone());
        assert_eq!(violated, Some(regression.violates), "{}", path.display());
    }
}

/// Where 1,000 hours need not meet a bug, a script must.
#[test]
fn each_rare_bug_has_a_script_that_brings_it_about() {
    let scripted: Vec<String> = regressions().into_iter().filter_map(|(_, known)| known.bug).collect();
    for bug in sim::planted::RARE {
        assert!(scripted.iter().any(|known| known == bug.name), "no script brings {} about", bug.name);
    }
}

/// The driver's question follows the engine's at the same instant: without it everything is as it was.
#[cfg(planted_bugs)]
#[test]
fn the_lease_has_been_asked_for_before_the_driver_asks() {
    let script = Script::of(1_000_004);
    let with = play(&script).trace;
    engine::planted::plant(sim::planted::named(Some("effect_without_the_lease")));
    let without = play(&script).trace;
    engine::planted::plant(None);
    assert!(with == without, "something happened otherwise");
}
