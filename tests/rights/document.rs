//! docs/rbac.md: of each right what it is for, and of one that the run does not use, why it is granted.

use std::collections::BTreeMap;
use std::path::Path;

use crate::grants::Grant;

const USED: &str = "yes";

/// The rights of the table, each with the reason why the run does not use it, where it does not.
pub(crate) fn rights() -> BTreeMap<Grant, Option<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rbac.md");
    let text = std::fs::read_to_string(path).expect("docs/rbac.md");
    let (_, table) = text.split_once("<!-- rights -->").expect("the beginning of the table");
    let (table, _) = table.split_once("<!-- end -->").expect("the end of the table");
    let rows = table.lines().filter(|line| line.starts_with("| `") || line.starts_with("| core "));
    let mut rights = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [group, resources, verbs, place, purpose, switch, used] = cells.as_slice() else {
            panic!("{row}")
        };
        assert!(!purpose.is_empty() && !switch.is_empty(), "it says nothing: {row}");
        let why = (*used != USED).then(|| (*used).to_owned());
        assert!(why.as_ref().is_none_or(|why| why.len() > 10), "it says nothing: {row}");
        for resource in words(resources) {
            for verb in words(verbs) {
                let (namespace, names) = place_of(place);
                let group = if *group == "core" { String::new() } else { group.trim_matches('`').to_owned() };
                let resource = resource.clone();
                let grant = Grant { namespace, group, resource, verb, names };
                assert!(rights.insert(grant, why.clone()).is_none(), "it is there twice: {row}");
            }
        }
    }
    assert!(rights.len() > 20, "{rights:?}");
    rights
}

/// `` `get`, `list` ``
fn words(cell: &str) -> Vec<String> {
    cell.split(',').map(|word| word.trim().trim_matches('`').to_owned()).collect()
}

/// `cluster`, or `` `namespace` ``, or either with ``: `name`, `name` ``.
fn place_of(cell: &str) -> (String, Vec<String>) {
    let (place, names) =
        cell.split_once(':').map_or((cell, Vec::new()), |(place, names)| (place, words(names)));
    let namespace =
        if place.trim() == "cluster" { String::new() } else { place.trim().trim_matches('`').to_owned() };
    (namespace, names)
}
