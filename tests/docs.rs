//! What the documents claim, the code says too. Tables between `<!-- table: name -->` and `<!-- end -->` are made from the
//! code; after a change that is meant: `UPDATE_DOCS=1 cargo test --test docs`, and read the diff.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod fields;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::CommandFactory;
use controller::conditions::{SAYINGS, Stalled, must_be_mended};
use controller::reasons::REASONS;
use engine::actions::ACTIONS;
use engine::causes::CAUSES;
use engine::guards::{GUARDS, Stage};
use engine::invariants::INVARIANTS;
use engine::model::NoDataReason;
use engine::model::duration::format;
use latency_operator::api::{LatencyPolicy, RemediationBudget, convert};
use latency_operator::config::Config;
use latency_operator::observe::prometheus::presets::{PRESETS, Place};
use latency_operator::telemetry::Metrics;
use latency_operator::telemetry::metrics::PolicyLabels;
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rule: Vec<String> = head.iter().map(|_| "---".to_owned()).collect();
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{}{rows}", line(&head), line(&rule))
}

/// Compares (or with UPDATE_DOCS writes) the table of that name in a document.
fn check(document: &str, name: &str, wanted: &str) {
    let text = read(document);
    let begin = format!("<!-- table: {name} -->\n");
    let start = text.find(&begin).unwrap_or_else(|| panic!("{document} has no {begin}")) + begin.len();
    let end =
        start + text[start..].find("<!-- end -->").unwrap_or_else(|| panic!("{document}: {name} has no end"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let written = format!("{}{wanted}{}", &text[..start], &text[end..]);
        std::fs::write(root().join(document), written).expect("the document");
        return;
    }
    assert!(
        text[start..end] == *wanted,
        "{document}, table {name}, is not what the code says; it should be:\n{wanted}"
    );
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn codes(texts: &[&str]) -> String {
    if texts.is_empty() {
        "-".to_owned()
    } else {
        texts.iter().map(|text| code(text)).collect::<Vec<_>>().join(", ")
    }
}

#[test]
fn causes() {
    let rows = CAUSES.iter().map(|cause| {
        let older_than = cause.thresholds.older_than.map_or("-".to_owned(), format);
        let explains: Vec<&str> = cause.symptoms().collect();
        vec![code(cause.name), cause.found_when.to_owned(), older_than, codes(&explains)]
    });
    check(
        "docs/causes.md",
        "causes",
        &table(&["cause", "found when", "`olderThan`", "explains"], rows.collect()),
    );
}

#[test]
fn remediations() {
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let rows = ACTIONS.iter().map(|line| {
        let traits = line.traits;
        vec![
            code(&line.kind.to_string()),
            line.does.to_owned(),
            codes(line.answers),
            yes(traits.disruptive),
            yes(traits.adds_load),
            yes(traits.removes_capacity),
            yes(line.reversible),
        ]
    });
    let head = ["action", "does", "answers", "disruptive", "adds load", "removes capacity", "reversible"];
    check("docs/remediations.md", "remediations", &table(&head, rows.collect()));
}

#[test]
fn guards() {
    let stage = |stage: &Stage| match stage {
        Stage::Propose => "propose",
        Stage::Admit => "admit",
        Stage::Gate => "gate",
    };
    let rows = GUARDS.iter().map(|guard| {
        let stages: Vec<&str> = guard.stages.iter().map(stage).collect();
        let mut row = vec![code(guard.name.as_str()), guard.refuses.to_owned(), stages.join(", ")];
        row.extend(
            ACTIONS.iter().map(|line| if guard.applies.to(line.kind) { "yes" } else { "no" }.to_owned()),
        );
        row
    });
    let kinds: Vec<String> = ACTIONS.iter().map(|line| code(&line.kind.to_string())).collect();
    let mut head = vec!["guard", "refuses", "asked at"];
    head.extend(kinds.iter().map(String::as_str));
    check("docs/guards.md", "guards", &table(&head, rows.collect()));
}

#[test]
fn every_guard_says_how_to_clear_it() {
    let guards = GUARDS.iter().map(|guard| vec![code(guard.name.as_str())]);
    one_row_each("docs/guards.md", "guards", guards.collect());
}

#[test]
fn events() {
    let rows = REASONS.iter().map(|reason| {
        vec![
            code(reason.name),
            if reason.warning { "Warning" } else { "Normal" }.to_owned(),
            reason.when.to_owned(),
        ]
    });
    check("docs/events.md", "events", &table(&["reason", "type", "told when"], rows.collect()));
}

#[test]
fn reasons_for_stalled() {
    let rows = Stalled::ALL.iter().map(|(why, when)| vec![code(why.reason()), (*when).to_owned()]);
    check("docs/policy.md", "stalled", &table(&["reason of `Stalled`", "said when"], rows.collect()));
}

#[test]
fn metrics() {
    // A family without a series is not exposed: each is used once.
    let metrics = Metrics::new(true);
    let labels = PolicyLabels { namespace: "shop".into(), policy: "orders-api".into() };
    metrics.evaluated("healthy", Duration::ZERO);
    metrics.read("postgres", Duration::ZERO);
    metrics.no_data("Empty");
    metrics.refused("Mode");
    metrics.incident("P1");
    metrics.remediated("CancelQuery", "Completed", "Healed");
    metrics.event("CauseFound");
    metrics.wrote("LatencyPolicy", "ok");
    metrics.policy(&labels, true, Some(true), Some(0.1));
    let exposed = metrics.expose();
    let kinds: Vec<(&str, &str)> =
        exposed.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let rows = exposed.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')).map(
        |(name, help)| {
            let kind = kinds.iter().find(|(known, _)| *known == name).map_or("", |(_, kind)| *kind);
            let shown = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            vec![code(&shown), kind.to_owned(), help.trim_end_matches('.').to_owned()]
        },
    );
    check("docs/metrics.md", "metrics", &table(&["metric", "type", "what"], rows.collect()));
}

/// The variants of an enumeration and their documentation, from its source.
fn variants(source: &str, name: &str) -> Vec<Vec<String>> {
    let start = source.find(&format!("pub enum {name} {{")).expect("the enumeration");
    let body = &source[start..start + source[start..].find("\n}").expect("its end")];
    let mut rows = Vec::new();
    let mut told = String::new();
    for line in body.lines().skip(1).map(str::trim) {
        if let Some(doc) = line.strip_prefix("/// ") {
            told = format!("{told} {doc}");
        } else if let Some(variant) = line.strip_suffix(',') {
            rows.push(vec![code(variant), told.trim().to_owned()]);
            told.clear();
        }
    }
    rows
}

#[test]
fn reasons_for_no_data() {
    let rows = variants(&read("engine/src/base/nodata.rs"), "NoDataReason");
    assert!(rows.len() > 20, "{rows:?}");
    check("docs/signals.md", "nodata", &table(&["reason", "what it means"], rows));
}

/// The rows of a table that is written by hand, between `<!-- rows: name -->` and `<!-- end -->`.
fn rows(document: &str, name: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let begin = format!("<!-- rows: {name} -->\n");
    let (_, below) = text.split_once(&begin).unwrap_or_else(|| panic!("{document} has no {begin}"));
    let (table, _) = below.split_once("<!-- end -->").unwrap_or_else(|| panic!("{name} has no end"));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = table.lines().skip(2).map(cells).collect();
    for row in &rows {
        assert!(row.iter().all(|cell| !cell.is_empty()), "{document}, {name}, says nothing: {row:?}");
    }
    rows
}

/// That a table has one row for each of these, and no other one. The first cells are compared.
fn one_row_each(document: &str, name: &str, wanted: Vec<Vec<String>>) {
    let cells = wanted.first().expect("some").len();
    let found: Vec<Vec<String>> = rows(document, name).iter().map(|row| row[..cells].to_vec()).collect();
    let set = |rows: &[Vec<String>]| rows.iter().cloned().collect::<BTreeSet<_>>();
    let (there, wanted) = (set(&found), set(&wanted));
    assert_eq!(there.len(), found.len(), "{document}, {name}, says something twice");
    let missing: Vec<_> = wanted.difference(&there).collect();
    let unknown: Vec<_> = there.difference(&wanted).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "{document}, {name}: add {missing:?}, remove {unknown:?}"
    );
}

#[test]
fn what_to_do_is_said_of_everything_that_a_condition_can_say() {
    let document = "docs/operating.md";
    let sayings = SAYINGS
        .iter()
        .map(|saying| vec![code(saying.r#type), format!("{:?}", saying.status), code(saying.reason)]);
    let stalled =
        Stalled::ALL.iter().map(|(why, _)| vec![code("Stalled"), "True".into(), code(why.reason())]);
    one_row_each(document, "conditions", sayings.chain(stalled).collect());

    let reasons = variants(&read("engine/src/base/nodata.rs"), "NoDataReason").into_iter().map(|row| {
        let reason = row[0].trim_matches('`').to_owned();
        let known: NoDataReason = serde_json::from_value(json!(reason)).expect("a reason");
        vec![code(&reason), if must_be_mended(known) { "False" } else { "-" }.to_owned()]
    });
    one_row_each(document, "nodata", reasons.collect());
}

#[test]
fn what_to_do_is_said_of_every_event_that_is_a_warning() {
    let warnings = REASONS.iter().filter(|reason| reason.warning).map(|reason| vec![code(reason.name)]);
    one_row_each("docs/operating.md", "events", warnings.collect());
}

#[test]
fn every_field_of_every_kind() {
    for plural in ["latencypolicies", "latencyincidents", "latencyremediations", "remediationbudgets"] {
        let definition: Value = serde_saphyr::from_str(&read(&format!("crds/{plural}.yaml"))).expect("YAML");
        let rows = fields::rows(&definition);
        assert!(rows.len() > 8, "{rows:?}");
        let head = ["field", "type", "default", "limits", "what"];
        check("docs/reference.md", plural, &table(&head, rows));
    }
    let files = std::fs::read_dir(root().join("crds")).expect("crds/").count();
    assert_eq!(files, 4, "a kind is missing in docs/reference.md");
}

/// The book has every document, and nothing that is not there.
#[test]
fn the_book_is_complete() {
    let summary = read("docs/SUMMARY.md");
    let linked =
        summary.split("](").skip(1).map(|part| part.split(')').next().unwrap_or_default().to_owned());
    let linked: Vec<String> = linked.collect();
    let folder = std::fs::read_dir(root().join("docs")).expect("docs/");
    let there = folder.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned());
    let there: BTreeSet<String> =
        there.filter(|name| name.ends_with(".md") && name != "SUMMARY.md").collect();
    assert_eq!(linked.iter().cloned().collect::<BTreeSet<_>>(), there);
    assert_eq!(linked.len(), there.len(), "something is in it twice");
    // And the overview of the folder has them, too.
    let overview = read("docs/README.md");
    for name in there.iter().filter(|name| *name != "README.md") {
        assert!(overview.contains(&format!("]({name})")), "docs/README.md does not name {name}");
    }
}

#[test]
fn presets() {
    let rows = PRESETS.iter().map(|preset| {
        let place = match preset.place {
            Place::Application => "the application: namespace and the target's pods are matched",
            Place::Edge => "an edge: the namespace under the backend's `edgeNamespaceLabel` is matched; `matchLabels` required",
        };
        vec![code(&format!("{:?}", preset.preset)), place.to_owned(), code(&format!("{}_bucket", preset.histogram))]
    });
    check(
        "docs/signals.md",
        "presets",
        &table(&["preset", "where it sits", "latency histogram"], rows.collect()),
    );
}

#[test]
fn flags() {
    let command = latency_operator::cli::Cli::command();
    let mut rows = Vec::new();
    for subcommand in command.get_subcommands() {
        for argument in subcommand.get_arguments().filter(|argument| argument.get_long().is_some()) {
            let default: Vec<String> = argument
                .get_default_values()
                .iter()
                .map(|value| value.to_string_lossy().into_owned())
                .collect();
            rows.push(vec![
                code(subcommand.get_name()),
                code(&format!("--{}", argument.get_long().unwrap_or_default())),
                if default.is_empty() { "-".to_owned() } else { code(&default.join(" ")) },
                argument.get_help().map(ToString::to_string).unwrap_or_default(),
            ]);
        }
    }
    rows.retain(|row| row[1] != "`--help`");
    check("docs/configuration.md", "flags", &table(&["subcommand", "flag", "default", "what"], rows));
}

#[test]
fn invariants() {
    let rows = INVARIANTS.iter().map(|invariant| vec![invariant.id.to_owned(), invariant.says.to_owned()]);
    check("docs/reliability.md", "invariants", &table(&["", "what must be true"], rows.collect()));
}

/// What the engine remembers, field by field: the table says why each may be lost.
#[test]
fn every_field_of_the_memory_is_accounted_for() {
    let source = read("engine/src/model/memory.rs");
    let start = source.find("pub struct Memory {").expect("the struct");
    let body = &source[start..start + source[start..].find("\n}").expect("its end")];
    let document = read("docs/state.md");
    let fields: Vec<&str> =
        body.lines().filter_map(|l| l.trim().strip_prefix("pub ")?.split_once(':').map(|(f, _)| f)).collect();
    assert!(fields.len() > 4, "{fields:?}");
    for field in fields.iter().skip(1).chain(&["said"]) {
        assert!(document.contains(&format!("| `{field}` |")), "docs/state.md does not account for {field}");
    }
}

/// The code blocks of a document in that language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = read(document);
    let fence = format!("```{language}\n");
    let parts = text.split(fence.as_str()).skip(1);
    parts.map(|part| part[..part.find("```").expect("the end of a block")].to_owned()).collect()
}

#[test]
fn every_policy_that_is_shown_is_valid() {
    let mut shown = 0;
    for document in ["README.md", "docs/policy.md"] {
        for block in blocks(document, "yaml").iter().filter(|block| block.contains("kind: LatencyPolicy")) {
            let policy: LatencyPolicy =
                serde_saphyr::from_str(block).unwrap_or_else(|error| panic!("{document}: {error}"));
            convert::policy(&policy).unwrap_or_else(|problems| panic!("{document}: {problems:?}"));
            shown += 1;
        }
    }
    assert!(shown >= 2, "{shown} policies are shown");
    let ten = blocks("README.md", "yaml")
        .into_iter()
        .find(|block| block.contains("kind: LatencyPolicy"))
        .expect("one");
    assert!(ten.lines().count() <= 12, "the short policy has {} lines", ten.lines().count());
}

#[test]
fn the_budget_that_is_shown_is_understood_to_its_last_field() {
    let blocks = blocks("docs/budgets.md", "yaml");
    let [block] = blocks.as_slice() else { panic!("{} budgets are shown", blocks.len()) };
    let written: Value = serde_saphyr::from_str(block).expect("YAML");
    let budget: RemediationBudget = serde_saphyr::from_str(block).expect("a budget");
    let read = serde_json::to_value(&budget.spec).expect("JSON");
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&written["spec"]), keys(&read), "every field is shown, and none that there is not");
    let budget = convert::budget(&budget);
    assert_eq!(budget.problems, []);
    assert!(budget.selects());
}

#[test]
fn every_configuration_that_is_shown_is_valid() {
    let shown = blocks("docs/configuration.md", "yaml");
    let shown: Vec<&String> = shown.iter().filter(|block| block.contains("apiVersion: config.")).collect();
    assert!(!shown.is_empty());
    for block in shown {
        Config::parse(block).unwrap_or_else(|error| panic!("docs/configuration.md: {error}"));
    }
}

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

/// The headings of a document, as they are called in links.
fn anchors(text: &str) -> BTreeSet<String> {
    // What looks like a heading in a block of code is a comment.
    let outside = text.split("```").step_by(2);
    let lines = outside.flat_map(str::lines).filter(|line| line.starts_with("# ") || line.starts_with("##"));
    lines.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// All documents, from the root of the repository.
fn documents() -> Vec<String> {
    let mut documents: Vec<String> = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md"]
        .into_iter()
        .chain(["examples/README.md", "charts/latency-operator/README.md"])
        .map(ToOwned::to_owned)
        .collect();
    let folder = std::fs::read_dir(root().join("docs")).expect("docs/");
    documents
        .extend(folder.map(|file| format!("docs/{}", file.expect("a file").file_name().to_string_lossy())));
    documents
}

/// Links within the documents lead somewhere, to a heading that is there where they name one.
#[test]
fn no_link_is_dead() {
    for document in documents() {
        let (text, place) = (read(&document), root().join(&document));
        for part in text.split("](").skip(1) {
            let link = part.split(')').next().unwrap_or_default();
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { place.clone() } else { place.parent().expect("a folder").join(file) };
            assert!(target.exists(), "{document} links to {link}");
            if !heading.is_empty() {
                let target = std::fs::read_to_string(&target).expect("a document");
                assert!(anchors(&target).contains(heading), "{document} links to {link}: no such heading");
            }
        }
    }
}

/// Tests that a document names as what shows a claim are there.
#[test]
fn every_test_that_is_named_is_there() {
    let mut named = 0;
    for document in documents() {
        let text = read(&document);
        for part in text.split("`tests/").skip(1) {
            let path = part.split(['`', ' ']).next().unwrap_or_default();
            let folders = ["tests", "engine/tests", "sim/tests", "lab/tests"];
            let is_there = folders.iter().any(|folder| root().join(folder).join(path).exists());
            assert!(is_there, "{document} names tests/{path}");
            named += 1;
        }
    }
    assert!(named > 20, "{named}");
}
