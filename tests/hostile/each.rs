//! Every mutant of a document, one after the other; one that fails is printed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use latency_operator::api::Stored;
use latency_operator::api::convert::Problem;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::mutate::{Mutant, mutant};

/// Plays so many mutants, and returns how many of them `check` says were accepted.
pub(crate) fn mutant_of(original: &Value, many: u64, check: impl Fn(u64, &Mutant) -> bool) -> u64 {
    let only = std::env::var("MUTANT").ok().and_then(|number| number.parse::<u64>().ok());
    let mut accepted = 0;
    for seed in only.map_or(0..many, |seed| seed..seed + 1) {
        let mutant = mutant(original, seed);
        match catch_unwind(AssertUnwindSafe(|| check(seed, &mutant))) {
            Ok(yes) => accepted += u64::from(yes),
            Err(_) => panic!("MUTANT={seed}: {mutant}"),
        }
    }
    accepted
}

/// The object as the operator reads it, or why it cannot be read.
pub(crate) fn read<K>(mutant: &Mutant) -> Result<K, String>
where
    K: DeserializeOwned + kube::Resource,
{
    let Stored(read) = serde_json::from_value(mutant.value.clone()).expect("one bad object stops no watch");
    read.map_err(|undecodable| {
        let said = undecodable.error;
        assert!(names_a_touched_place(&said, mutant), "the place is not named: {said}");
        assert!(can_be_told(&said), "this cannot be told: {said}");
        said
    })
}

/// Whether problems can be told, and lie in the part of the object that was changed.
pub(crate) fn are_told(problems: &[Problem], mutant: &Mutant) {
    assert!(!problems.is_empty(), "it is refused for no reason");
    assert!(problems.len() <= 21, "{} problems at once", problems.len());
    for problem in problems {
        let said = problem.to_string();
        assert!(can_be_told(&said), "this cannot be told: {said}");
        assert!(problem.path.starts_with("spec") || problem.path.starts_with("status"), "no path: {said}");
        assert!(!problem.message.is_empty(), "it says nothing: {said}");
    }
    let named = problems.iter().any(|problem| names_a_touched_place(&problem.to_string(), mutant));
    assert!(named, "the place is not named: {problems:?}");
}

/// Short, and without what controls a terminal.
pub(crate) fn can_be_told(said: &str) -> bool {
    said.chars().count() <= 700 && !said.contains(char::is_control)
}

/// Whether the message begins with the path of something that was changed, of what it is part of, or of a part of it; down to the
/// entries of the lists of a spec, because what is wrong may be that two fields do not fit. A name that leads nowhere says where it
/// should lead.
fn names_a_touched_place(said: &str, mutant: &Mutant) -> bool {
    let named = top(said.split(": ").next().unwrap_or_default());
    mutant.touched.iter().map(|place| top(place)).any(|touched| {
        let lies_there = touched.starts_with(named.as_str()) || named.starts_with(touched.as_str());
        named == "." || lies_there || said.contains(&format!("in {touched}"))
    })
}

/// `spec.remediations[3].causes[0]` is in `spec.remediations`.
fn top(path: &str) -> String {
    let mut steps = path.split(['.', '[']);
    let first = steps.next().unwrap_or_default();
    let second = steps.next().map(|step| step.trim_end_matches(']')).unwrap_or_default();
    if second.is_empty() { first.to_owned() } else { format!("{first}.{second}") }
}
