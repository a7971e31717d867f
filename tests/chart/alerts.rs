//! The alerts, by the real promtool: they are understood, each goes off when it should and not before, and says what to do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::Session;
use lab::packages::{PROMETHEUS, Programs};
use serde_json::Value;

use crate::support::{objects, run};

const LIMIT: Duration = Duration::from_secs(60);

fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).expect("the file")
}

/// Runs promtool, which must find nothing wrong.
async fn promtool(args: &[&str], file: &str) -> String {
    let session = Session::start().await.expect("a session");
    let programs = Programs::find(&session, &PROMETHEUS).await.expect("Prometheus");
    let spec = programs.spec("promtool", "promtool").args(args).arg(path(file));
    let finished = session.run(spec, LIMIT).await.expect("promtool runs");
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert!(finished.status.success(), "{said}");
    said
}

fn alerts() -> Vec<Value> {
    let file = &objects(&read("charts/latency-operator/files/alerts.yaml"))[0];
    let groups = file["groups"].as_array().expect("groups");
    groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

#[test]
fn promtool_understands_the_rules_and_each_alert_goes_off_when_it_should() {
    run(async {
        let said = promtool(&["check", "rules"], "charts/latency-operator/files/alerts.yaml").await;
        assert!(said.contains(&format!("{} rules found", alerts().len())), "{said}");
        let said = promtool(&["test", "rules"], "tests/chart/alerts.yaml").await;
        assert!(said.contains("SUCCESS"), "{said}");
    });
}

#[test]
fn each_alert_is_tried_both_ways_and_says_what_to_do() {
    let tests = &objects(&read("tests/chart/alerts.yaml"))[0];
    let mut goes_off = BTreeSet::new();
    let mut is_silent = BTreeSet::new();
    for test in tests["tests"].as_array().expect("tests") {
        for case in test["promql_expr_test"].as_array().expect("cases") {
            let asked = case["expr"].as_str().expect("an expression");
            let name = asked.split('"').nth(1).expect("a name").to_owned();
            assert!(
                asked.starts_with("ALERTS{alertname=\"") && asked.contains("alertstate=\"firing\""),
                "{asked}"
            );
            let samples = case.get("exp_samples").and_then(Value::as_array).map_or(0, Vec::len);
            if samples > 0 {
                goes_off.insert(name)
            } else {
                is_silent.insert(name)
            };
        }
    }
    for alert in alerts() {
        let name = alert["alert"].as_str().expect("a name");
        assert!(goes_off.contains(name), "no test lets {name} go off");
        assert!(is_silent.contains(name), "no test keeps {name} silent");
        let annotation = |kind: &str| alert["annotations"][kind].as_str().unwrap_or_default().to_owned();
        assert!(!annotation("summary").is_empty(), "{name} has no summary");
        let what = annotation("description");
        let says = ["ook at ", "kubectl ", "ask it ", "ave to decide"].iter().any(|word| what.contains(word));
        assert!(says, "{name} does not say what to do: {what}");
        assert!(["warning", "critical"].contains(&alert["labels"]["severity"].as_str().unwrap_or_default()));
    }
}
