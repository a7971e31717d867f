//! The definitions in `crds/` are those of the code, and their rules say what they mean, without any API server.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

use std::path::Path;

use engine::actions::ACTIONS;
use kube::CustomResourceExt;
use latency_operator::api::{self, LatencyPolicy, RemediationBudget, vocabulary};
use serde_json::{Value, json};

#[test]
fn the_folder_holds_what_the_binary_prints() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("crds/").map(|file| file.expect("a file").path()).collect();
    files.sort();
    let mut wanted: Vec<_> = api::definitions()
        .iter()
        .map(|definition| folder.join(format!("{}.yaml", definition.spec.names.plural)))
        .collect();
    wanted.sort();
    assert_eq!(files, wanted);
    for definition in api::definitions() {
        let path = folder.join(format!("{}.yaml", definition.spec.names.plural));
        let printed = format!("---\n{}", serde_saphyr::to_string(&definition).expect("YAML"));
        let stored = std::fs::read_to_string(&path).expect("the file");
        assert!(stored == printed, "{} is not what the code says; run: make crds", path.display());
    }
}

/// Compares a generated file with what the code says, or with UPDATE_SCHEMAS writes it.
fn generated(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("the folder");
        std::fs::write(&file, text).expect("the file");
    }
    let stored = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(stored == text, "{path} is not what the code says; run: make crds");
}

fn definition_of(kind: &str) -> Value {
    let found = api::definitions().into_iter().find(|definition| definition.spec.names.kind == kind);
    let schema = serde_json::to_value(&found.expect("the kind").spec.versions[0].schema).expect("a schema");
    schema["openAPIV3Schema"].clone()
}

#[test]
fn editors_get_the_words_that_fields_know() {
    let schema = vocabulary::editor_schema("LatencyPolicy", &definition_of("LatencyPolicy"));
    assert_eq!(schema["properties"]["spec"]["properties"]["mode"]["enum"], json!(["Observe", "Auto"]));
    let remediation = &schema["properties"]["spec"]["properties"]["remediations"]["items"]["properties"];
    assert!(remediation["causes"]["items"]["enum"].as_array().is_some_and(|causes| causes.len() >= 4));
    let frozen = vocabulary::editor_schema("RemediationBudget", &definition_of("RemediationBudget"));
    let types = &frozen["properties"]["spec"]["properties"]["freeze"]["properties"]["type"]["enum"];
    assert_eq!(types, &json!(["None", "Actions", "ActionsAndRollbacks"]));
    for (path, schema) in
        [("schemas/latencypolicy.json", &schema), ("schemas/remediationbudget.json", &frozen)]
    {
        generated(path, &format!("{}\n", serde_json::to_string_pretty(schema).expect("JSON")));
    }
    let warnings = serde_saphyr::to_string(&vocabulary::warnings()).expect("YAML");
    generated("charts/latency-operator/files/words.yaml", &warnings);
    let actions = ACTIONS.iter().map(|line| line.kind.to_string()).collect::<Vec<_>>();
    generated_part("values.yaml", "  actions: [", "]", &actions.join(", "));
    let lines: Vec<String> = actions.iter().map(|action| format!("\n              \"{action}\"")).collect();
    let begin = "\"actions\": {\n          \"type\": \"array\",\n          \"uniqueItems\": true,\n          \"items\": {\n            \"type\": \"string\",\n            \"enum\": [";
    generated_part("values.schema.json", begin, "\n            ]", &lines.join(","));
}

/// The same for a part of a file of the chart, after `begin` and before `end`.
fn generated_part(file: &str, begin: &str, end: &str, text: &str) {
    let file = format!("charts/latency-operator/{file}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
    let stored = std::fs::read_to_string(&path).expect("the file");
    let (before, rest) = stored.split_once(begin).unwrap_or_else(|| panic!("{file} has no {begin}"));
    let (_, after) = rest.split_once(end).unwrap_or_else(|| panic!("{file} has no {end}"));
    generated(&file, &format!("{before}{begin}{text}{end}{after}"));
}

#[test]
fn every_word_is_in_the_description_of_its_field() {
    for field in vocabulary::fields() {
        let mut here = definition_of(field.kind);
        let mut description = String::new();
        for step in field.path.split('.') {
            here = here["properties"][step.trim_end_matches("[]")].clone();
            description = here["description"].as_str().unwrap_or_default().to_owned();
            if step.ends_with("[]") {
                here = here["items"].clone();
            }
        }
        assert!(here["type"] == "string", "{} is no word: {here}", field.path);
        // Causes are a list of their own in the documents.
        for word in field.words.iter().filter(|_| !field.path.ends_with("causes[]")) {
            assert!(
                description.contains(word),
                "the description of {} lacks {word}: {description}",
                field.path
            );
        }
    }
}

/// Every schema below `schema`, with its path.
fn walk<'a>(path: &str, schema: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    found.push((path.to_owned(), schema));
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            walk(&format!("{path}.{name}"), property, found);
        }
    }
    if let Some(items) = schema.get("items") {
        walk(&format!("{path}[]"), items, found);
    }
}

#[test]
fn every_field_is_described_and_every_list_and_text_is_bounded() {
    for definition in api::definitions() {
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).expect("a schema");
        let root = &schema["openAPIV3Schema"]["properties"];
        let mut found = Vec::new();
        walk("spec", &root["spec"], &mut found);
        walk("status", &root["status"], &mut found);
        for (path, schema) in found {
            // Conditions are the API machinery's own type.
            if path.contains("conditions[]") {
                continue;
            }
            let place = format!("{} {path}", definition.spec.names.kind);
            assert!(
                schema.get("description").is_some() || path.ends_with("[]"),
                "{place} has no description"
            );
            match schema.get("type").and_then(Value::as_str) {
                Some("string") => assert!(schema.get("maxLength").is_some(), "{place} has no maxLength"),
                Some("array") => assert!(schema.get("maxItems").is_some(), "{place} has no maxItems"),
                Some("number") => panic!("{place} is a floating-point number"),
                _ => {}
            }
        }
    }
}

fn violations(change: impl FnOnce(&mut Value), old: Option<&Value>) -> String {
    let mut policy = json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy",
        "metadata": {"name": "orders-api", "namespace": "shop"},
        "spec": {"targetRef": {"name": "orders-api"}},
    });
    change(&mut policy);
    let schema = serde_json::to_value(LatencyPolicy::crd()).expect("a CRD")["spec"]["versions"][0]["schema"]
        ["openAPIV3Schema"]
        .clone();
    match kube_cel::Validator::new().validate(&schema, &policy, old) {
        Ok(()) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

fn probed() -> Value {
    let probe = json!({
        "serviceName": "orders-api", "port": 8000, "path": "/", "timeout": "3s", "scheme": "HTTP", "failures": 2, "of": 3,
    });
    json!({
        "name": "health", "type": "Latency", "severity": "P1", "latency": {"percentile": 95, "threshold": "300ms"},
        "source": {"type": "Probe", "probe": probe},
    })
}

type Change = fn(&mut Value);

const PROBES: [(Change, &str); 6] = [
    (|o| o["source"] = json!({"type": "Probe"}), "set exactly the member"),
    (|o| o["source"]["prometheus"] = json!({"preset": "Django"}), "probe for Probe"),
    (|o| o["source"]["type"] = "Prometheus".into(), "prometheus for Prometheus"),
    (|o| o["latency"]["threshold"] = "3s".into(), "must be longer than latency.threshold"),
    (|o| o["source"]["probe"]["timeout"] = "31s".into(), "must be 100ms to 30s"),
    (
        |o| {
            o["type"] = "ErrorRatio".into();
            o["errorRatio"] = json!({"threshold": "1%"});
            drop(o.as_object_mut().expect("an object").remove("latency"));
        },
        "a Probe measures latency",
    ),
];

#[test]
fn the_rules_of_a_policy_hold_offline_too() {
    assert_eq!(violations(|_| (), None), "", "ten lines are enough");
    let refused = |change: fn(&mut Value)| violations(change, None);
    assert!(
        refused(|p| p["spec"]["verification"] = json!({"within": "30s"})).contains("verification.within")
    );
    assert!(refused(|p| p["spec"]["evaluation"] = json!({"interval": "500ms"})).contains("from 1s to 1h"));
    assert!(
        refused(|p| p["spec"]["evaluation"] = json!({"interval": "5m"}))
            .contains("at least evaluation.interval")
    );
    let objective = |p: &mut Value| p["spec"]["objectives"] = json!([{"name": "a", "type": "Latency"}]);
    assert!(refused(objective).contains("latency for Latency"));
    assert_eq!(violations(|p| p["spec"]["objectives"] = json!([probed()]), None), "");
    for (change, word) in PROBES {
        let mut object = probed();
        change(&mut object);
        let said = violations(|p| p["spec"]["objectives"] = json!([object]), None);
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    let old = json!({
        "metadata": {"name": "orders-api"}, "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"}},
    });
    assert!(violations(|_| (), Some(&old)).contains("targetRef is immutable"));
}

fn check_budget(spec: &Value) -> Result<(), String> {
    let schema = serde_json::to_value(RemediationBudget::crd()).expect("a CRD")["spec"]["versions"][0]["schema"]
        ["openAPIV3Schema"]
        .clone();
    let budget = json!({"metadata": {"name": "night"}, "spec": spec});
    kube_cel::Validator::new().validate(&schema, &budget, None).map_err(|errors| errors.to_string())
}

#[test]
fn a_selector_has_values_where_its_operator_needs_them() {
    let check =
        |requirement: Value| check_budget(&json!({"namespaceSelector": {"matchExpressions": [requirement]}}));
    assert_eq!(check(json!({"key": "tier", "operator": "In", "values": ["production"]})), Ok(()));
    assert_eq!(check(json!({"key": "tier", "operator": "Exists"})), Ok(()));
    // A later version may know more operators.
    assert_eq!(check(json!({"key": "tier", "operator": "Gt", "values": ["1"]})), Ok(()));
    for requirement in
        [json!({"key": "tier", "operator": "In"}), json!({"key": "tier", "operator": "NotIn", "values": []})]
    {
        assert!(check(requirement).is_err_and(|error| error.contains("need values")));
    }
    let exists = json!({"key": "tier", "operator": "Exists", "values": ["production"]});
    assert!(check(exists).is_err_and(|error| error.contains("have no values")));
}

#[test]
fn a_freeze_window_ends_after_it_begins() {
    let check = |from: &str, until: &str| {
        check_budget(&json!({"freezeWindows": [{"name": "w", "from": from, "until": until}]}))
    };
    // As instants, not as texts.
    assert_eq!(check("2026-12-24T23:00:00Z", "2026-12-24T23:00:00-08:00"), Ok(()));
    assert_eq!(check("2026-12-24T23:00:00+09:00", "2026-12-24T15:00:00Z"), Ok(()));
    let refused = check("2026-12-27T00:00:00Z", "2026-12-24T00:00:00Z");
    assert!(refused.is_err_and(|error| error.contains("ends after it begins")));
}
