//! Recordings of incidents, replayed: what was decided when they were recorded is decided again, byte for byte.
//!
//! `tests/recordings/<version>-<scenario>.jsonl` has the format of `latency-operator run --record`. Those of older versions of the
//! format were written by the code of that time. After a change of decisions that is meant: `UPDATE_RECORDINGS=1 cargo test -p engine
//! --test recordings`, and read the diff. It writes the recordings of this version again, and the decisions of the older ones.
#![expect(clippy::disallowed_methods, reason = "the tests read recordings; the engine does not")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod support;

use std::path::{Path, PathBuf};

use engine::record::{DecisionRecord, RecordKind};
use engine::replay::{Evaluation, Header, Reader, Replay, VERSION};
use serde_json::Value;
use support::{parse, world::World};

/// The scenarios that are recorded by this version. None has a restart: a replay remembers what a process remembered.
const SCENARIOS: [&str; 5] = [
    "runaway-healed",
    "blind-database",
    "metrics-lost-in-an-open-incident",
    "cold-cache-is-warmed",
    "saturated-target-is-scaled-and-scaled-back",
];

/// The recordings of older versions.
const OLDER: [(u32, &str); 2] = [(1, "cold-cache-is-warmed"), (1, "runaway-healed")];

fn all() -> Vec<(u32, &'static str)> {
    OLDER.into_iter().chain(SCENARIOS.map(|scenario| (VERSION, scenario))).collect()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn file(version: u32, scenario: &str) -> PathBuf {
    folder("recordings").join(format!("{version}-{scenario}.jsonl"))
}

/// A recording of this version, as the recorder writes it.
fn record(scenario: &str) -> String {
    let text =
        std::fs::read_to_string(folder("scenarios").join(format!("{scenario}.txt"))).expect("the scenario");
    let scenario = parse::scenario(&text).expect("it is understood");
    let evaluations = World::new(scenario.policy).record(&scenario.ticks).expect("it can be played");
    let mut lines = vec![serde_json::to_string(&Header::new("0.1.0")).expect("JSON")];
    lines.extend(evaluations.iter().map(|evaluation| serde_json::to_string(evaluation).expect("JSON")));
    lines.join("\n") + "\n"
}

/// What this version decides on each evaluation of a recording, beside what is written there.
fn replay(text: &str) -> Vec<(Vec<DecisionRecord>, Evaluation)> {
    let (header, lines) = text.split_once('\n').expect("a header");
    let header: Header = serde_json::from_str(header).expect("a header");
    let (mut reader, mut replay) = (Reader::new(&header).expect("a known version"), Replay::default());
    let evaluations = lines.lines().map(|line| {
        let evaluation = reader.read(&mut serde_json::Deserializer::from_str(line)).expect("an evaluation");
        (replay.decide(&evaluation), evaluation)
    });
    evaluations.collect()
}

/// The same recording with the decisions of this version.
fn renewed(text: &str) -> String {
    let decided = replay(text);
    let (header, lines) = text.split_once('\n').expect("a header");
    let renew = |(line, (records, _)): (&str, (Vec<DecisionRecord>, Evaluation))| {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        line["records"] = serde_json::to_value(records).expect("JSON");
        line.to_string()
    };
    let lines: Vec<String> = lines.lines().zip(decided).map(renew).collect();
    format!("{header}\n{}\n", lines.join("\n"))
}

fn text(records: &[DecisionRecord]) -> String {
    serde_json::to_string(records).expect("JSON")
}

#[test]
fn every_recording_is_decided_as_it_was() {
    let update = std::env::var_os("UPDATE_RECORDINGS").is_some();
    for (version, scenario) in all() {
        let path = file(version, scenario);
        if update {
            let written = std::fs::read_to_string(&path);
            let renewed = if version == VERSION {
                record(scenario)
            } else {
                renewed(&written.expect("it was recorded"))
            };
            std::fs::write(&path, renewed).expect("the recording");
            continue;
        }
        let recording =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let evaluations = replay(&recording);
        assert!(evaluations.len() > 5, "{}: {} evaluations", path.display(), evaluations.len());
        for (index, (decided, evaluation)) in evaluations.iter().enumerate() {
            let place = format!("{}, line {}", path.display(), index + 2);
            assert_eq!(text(decided), text(&evaluation.records), "{place}");
        }
    }
}

/// Each has an incident, and what admission answered is a part of it.
#[test]
fn a_recording_has_an_incident_and_needs_its_answers() {
    for scenario in SCENARIOS {
        let recording = std::fs::read_to_string(file(VERSION, scenario)).expect("it was recorded");
        let evaluations = replay(&recording);
        let records = || evaluations.iter().flat_map(|(decided, _)| decided);
        assert!(
            records().any(|record| matches!(record.kind, RecordKind::Incident { .. })),
            "{scenario}: no incident"
        );
        let proposes = records().any(|record| matches!(record.kind, RecordKind::Proposed { .. }));
        let is_blind = matches!(scenario, "blind-database" | "metrics-lost-in-an-open-incident");
        assert!(proposes || is_blind, "{scenario}: nothing was proposed");
        // Without its admission answers the same snapshots lead to other decisions.
        let mut without = Replay::default();
        let differs = evaluations.iter().any(|(decided, evaluation)| {
            let evaluation = Evaluation { answers: Vec::new(), ..evaluation.clone() };
            without.decide(&evaluation) != *decided
        });
        assert_eq!(differs, proposes, "{scenario}");
    }
}

#[test]
fn a_file_that_nobody_replays_is_found() {
    let mut known: Vec<PathBuf> = all().iter().map(|(version, scenario)| file(*version, scenario)).collect();
    let entries = std::fs::read_dir(folder("recordings")).expect("the folder of recordings");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    known.sort();
    found.sort();
    assert_eq!(found, known);
}
