//! The price of an action. Everything about one is in its files, so that a further one changes no others: outside of them, code
//! asks what an action answers for, or dispatches on its effect, and names none.
#![expect(clippy::disallowed_methods, reason = "the test reads source files; the engine does not")]
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "in a test a panic is a failure")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The files of actions.
const SLICES: [&str; 2] = ["engine/src/actions/", "src/api/actions/"];
/// Other files that name an action, each with the reason. The list only shrinks.
const NAMED: [(&str, &str); 3] = [
    (
        "engine/src/invariants/act.rs",
        "ending a session needs the permission of TerminateIdle, whatever ends it",
    ),
    ("engine/src/invariants/set_replicas.rs", "a second opinion on how far each action may set replicas"),
    ("sim/src/world/setup.rs", "the policies that are simulated"),
];
/// The enums that have a variant for each action.
const ENUMS: [&str; 3] = ["Action::", "RungAction::", "ActionKind::"];

#[test]
fn no_other_file_names_an_action() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned();
    let mut files = Vec::new();
    for folder in ["engine/src", "controller/src", "src", "sim/src"] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 200, "only {} files were read", files.len());
    let mut naming = BTreeSet::new();
    for file in files {
        let place = file.strip_prefix(&root).expect("a file of the workspace").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).expect("a source file");
        if !SLICES.iter().any(|slice| place.starts_with(slice)) && names_an_action(&text) {
            naming.insert(place);
        }
    }
    let known: BTreeSet<String> = NAMED.iter().map(|(place, _)| (*place).to_owned()).collect();
    assert_eq!(naming, known);
}

#[test]
fn a_name_is_found_in_code_and_not_in_tests_or_comments() {
    assert!(names_an_action("match action { Action::Scale(_) => 1 }"));
    assert!(names_an_action("if kind == ActionKind::WarmCache {}"));
    assert!(!names_an_action("/// As [`Action::Scale`] does."));
    assert!(!names_an_action("Action::requeue(SECOND)"));
    assert!(!names_an_action("fn one() {}\n#[cfg(test)]\nmod tests { Action::Scale }"));
}

/// Whether code that is no test names one of the actions.
fn names_an_action(text: &str) -> bool {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let acts = ["TerminateQuery".to_owned()];
    let kinds = engine::actions::ACTIONS.iter().map(|line| line.kind.to_string()).chain(acts);
    let names: Vec<String> = kinds.flat_map(|kind| ENUMS.map(|of| format!("{of}{kind}"))).collect();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.into_iter().any(|line| names.iter().any(|name| line.contains(name)))
}

/// The source files below a folder, without those that are tests as a whole.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let tests = name == "tests.rs" || name == "testing.rs" || name.ends_with("_tests.rs");
        if path.is_dir() {
            if name != "tests" {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") && !tests {
            found.push(path);
        }
    }
}
