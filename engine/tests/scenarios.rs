//! Incidents as text. `tests/scenarios/*.txt` say what the world does, `*.golden` beside them what was decided.
//!
//! The format is explained in `tests/scenarios/README.md`. After a change that is meant: `UPDATE_GOLDEN=1 cargo test -p
//! engine --test scenarios`, and read the diff.
#![expect(clippy::disallowed_methods, reason = "the tests read scenario files; the engine does not")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod support;

use std::path::{Path, PathBuf};

use support::{parse, world::World};

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of scenarios")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
}

fn play(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("the scenario");
    let scenario = parse::scenario(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    World::new(scenario.policy)
        .play(&scenario.ticks)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_scenario_is_decided_as_its_golden_file_says() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let files = scenarios();
    assert!(!files.is_empty(), "no scenario was found");
    for path in &files {
        let golden = path.with_extension("golden");
        let decided = play(path);
        if update {
            std::fs::write(&golden, &decided).expect("the golden file");
            continue;
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if expected != decided {
            wrong.push(format!("{}\n{}", path.display(), first_difference(&expected, &decided)));
        }
    }
    assert!(wrong.is_empty(), "{} of {} scenarios differ:\n{}", wrong.len(), files.len(), wrong.join("\n\n"));
}

/// The same text decides the same, byte for byte, as often as it is played.
#[test]
fn scenarios_are_deterministic() {
    for path in scenarios() {
        assert_eq!(play(&path), play(&path), "{}", path.display());
    }
}

fn first_difference(expected: &str, decided: &str) -> String {
    let mut expected_lines = expected.lines();
    let mut decided_lines = decided.lines();
    let mut line = 1;
    loop {
        match (expected_lines.next(), decided_lines.next()) {
            (None, None) => return "only the end of the last line differs".to_owned(),
            (a, b) if a == b => line += 1,
            (a, b) => {
                return format!(
                    "line {line}\n  expected: {}\n  decided:  {}",
                    a.unwrap_or("(the end)"),
                    b.unwrap_or("(the end)")
                );
            }
        }
    }
}
