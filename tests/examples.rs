//! What documents, examples and the demo show of the product's kinds is right: by the schema, by its rules, and for this version
//! of the operator. On a real API server the examples are tried in `tests/e2e`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod shown;

use engine::actions::ACTIONS;
use engine::model::Policy;
use latency_operator::api::{self, LatencyPolicy, RemediationBudget, convert};
use serde_json::Value;
use shown::{Shown, in_documents, in_files, root};

/// The schema of a kind.
fn schema(kind: &str) -> Value {
    let definition = api::definitions().into_iter().find(|definition| definition.spec.names.kind == kind);
    let definition = definition.unwrap_or_else(|| panic!("{kind} is none of ours"));
    serde_json::to_value(&definition.spec.versions[0].schema).expect("a schema")["openAPIV3Schema"].clone()
}

/// Fields that the schema does not have, as strict validation would refuse them.
fn undeclared(path: &str, schema: &Value, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                match (&schema["properties"][name], &schema["additionalProperties"]) {
                    (Value::Null, Value::Null) => found.push(path),
                    (Value::Null, any) => undeclared(&path, any, value, found),
                    (known, _) => undeclared(&path, known, value, found),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                undeclared(&format!("{path}[{index}]"), &schema["items"], item, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A policy as the API server stores it, with its defaults, and as the operator understands it.
fn understood(place: &str, object: &Value) -> Policy {
    let policy: LatencyPolicy =
        serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{place}: {error}"));
    convert::policy(&policy).unwrap_or_else(|problems| panic!("{place}: {problems:?}"))
}

/// With the defaults filled in, which rules may rely on.
fn stored(object: &Value) -> Value {
    match object["kind"].as_str() {
        Some("LatencyPolicy") => {
            serde_json::from_value::<LatencyPolicy>(object.clone()).and_then(serde_json::to_value)
        }
        Some("RemediationBudget") => {
            serde_json::from_value::<RemediationBudget>(object.clone()).and_then(serde_json::to_value)
        }
        other => panic!("{other:?} is written by the operator, not by people"),
    }
    .expect("an object of its kind")
}

fn problems(shown: &Shown) -> Vec<String> {
    let schema = schema(shown.kind());
    let mut found = Vec::new();
    undeclared("spec", &schema["properties"]["spec"], &shown.object["spec"], &mut found);
    let found = found.into_iter().map(|path| format!("{}: there is no {path}", shown.place));
    let rules = kube_cel::Validator::new().validate(&schema, &stored(&shown.object), None);
    let broken = rules.err().map(|errors| format!("{}: {errors}", shown.place));
    found.chain(broken).collect()
}

#[test]
fn everything_that_is_shown_is_valid_and_understood() {
    let (documents, examples, demo) = (in_documents(), in_files("examples"), in_files("demo/policies"));
    // Where there are none, nothing has been looked for in the right place.
    let many = [documents.len(), examples.iter().filter(|shown| shown.is_ours()).count(), demo.len()];
    assert!(many[0] >= 3 && many[1] >= 5 && many[2] >= 5, "{many:?} are shown");
    let ours = documents.iter().chain(&examples).chain(&demo).filter(|shown| shown.is_ours());
    for shown in ours {
        assert_eq!(problems(shown), Vec::<String>::new());
        match shown.kind() {
            "LatencyPolicy" => drop(understood(&shown.place, &shown.object)),
            _ => {
                let budget: RemediationBudget =
                    serde_json::from_value(shown.object.clone()).expect("a RemediationBudget");
                assert_eq!(convert::budget(&budget).problems, [], "{}", shown.place);
            }
        }
    }
}

#[test]
fn what_is_wrong_is_found() {
    let broken = |change: fn(&mut Value)| {
        let mut shown = in_files("examples/plain")
            .into_iter()
            .find(|shown| shown.object["metadata"]["name"] == "orders-api-full")
            .expect("the full policy");
        change(&mut shown.object);
        problems(&shown).join("; ")
    };
    assert_eq!(broken(|_| ()), "");
    let deep = |p: &mut Value| p["spec"]["remediations"][2]["action"]["scale"]["steps"] = "50%".into();
    assert!(broken(deep).contains("there is no spec.remediations[2].action.scale.steps"));
    let rule = |p: &mut Value| p["spec"]["verification"]["within"] = "1m".into();
    assert!(broken(rule).contains("verification.within"));
}

#[test]
fn the_full_policy_shows_every_action_and_the_short_one_is_short() {
    let find = |file: &str| {
        let shown = in_files("examples/plain").into_iter().find(|shown| shown.place.ends_with(file));
        shown.unwrap_or_else(|| panic!("{file} is not there"))
    };
    let full = find("full.yaml");
    let rungs = understood(&full.place, &full.object).rungs.len();
    let shown = |index: usize| full.object["spec"]["remediations"][index]["action"]["type"].clone();
    let shown: Vec<Value> = (0..rungs).map(shown).collect();
    for line in ACTIONS {
        assert!(shown.contains(&line.kind.to_string().into()), "{} does not show {}", full.place, line.kind);
    }
    let text = std::fs::read_to_string(root().join("examples/plain/minimal.yaml")).expect("the short policy");
    let lines = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(lines <= 10, "the short policy has {lines} lines");
}

/// Argo CD reads the checks from its ConfigMap, the tests read them from their files.
#[test]
fn the_config_map_of_argo_cd_has_the_health_checks_as_they_are_tried() {
    let shown = in_files("examples/argocd");
    let map = shown.iter().find(|shown| shown.kind() == "ConfigMap").expect("argocd-cm");
    let data = map.object["data"].as_object().expect("its data");
    let mut checked = 0;
    for definition in api::definitions() {
        let kind = &definition.spec.names.kind;
        let key = format!("resource.customizations.health.{}_{kind}", definition.spec.group);
        let Some(text) = data.get(&key) else { continue };
        let file = root().join(format!("examples/argocd/health/{}.lua", kind.to_lowercase()));
        let tried = std::fs::read_to_string(&file).expect("the health check");
        assert!(text.as_str() == Some(&tried), "{key} is not what {} says", file.display());
        checked += 1;
    }
    assert_eq!((checked, shown::files("examples/argocd/health", "lua").len()), (data.len(), data.len()));
}

/// What the examples of Argo CD and Flux point at is in this repository.
#[test]
fn every_path_leads_somewhere() {
    let mut paths = Vec::new();
    for shown in in_files("examples") {
        let spec = &shown.object["spec"];
        for path in [&spec["source"]["path"], &spec["path"], &spec["chart"]["spec"]["chart"]] {
            paths.extend(path.as_str().map(|path| (shown.place.clone(), path.to_owned())));
        }
    }
    let (charts, others): (Vec<_>, Vec<_>) =
        paths.into_iter().partition(|(_, path)| path.trim_start_matches("./").starts_with("charts/"));
    assert_eq!((charts.len(), others.len()), (2, 2), "{charts:?}, {others:?}");
    for (place, path) in others {
        assert!(root().join(&path).join("kustomization.yaml").exists(), "{place} points at {path}");
    }
    for (place, path) in charts {
        assert_eq!(path.trim_start_matches("./"), "charts/latency-operator", "{place}");
    }
}
