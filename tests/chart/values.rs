//! Values: what is unknown is refused with its path, and what is known is written down for people.

use std::collections::BTreeSet;
use std::path::Path;

use engine::actions::ACTIONS;
use lab::Release;
use serde_json::{Value, json};

use crate::support::{NAMESPACE, helm, installed, matrix, objects, refused, run};

fn chart(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/latency-operator").join(file);
    std::fs::read_to_string(path).expect("the file")
}

fn schema() -> Value {
    serde_json::from_str(&chart("values.schema.json")).expect("JSON")
}

#[test]
fn every_set_of_values_is_linted_without_a_warning() {
    run(async {
        for (name, values) in matrix() {
            let done = helm().await.lint(&values).await.expect("helm runs");
            assert!(done.status.success(), "{name}: {}{}", done.stdout, done.stderr);
            assert!(!done.stdout.contains("[WARNING]"), "{name}: {}", done.stdout);
        }
    });
}

/// Whatever may not be, and a part of what is said of it.
fn mistakes() -> Vec<(Value, &'static [&'static str])> {
    let backend = |change: Value| {
        let mut backend = json!({"name": "default", "url": "http://prometheus:9090"});
        for (name, value) in change.as_object().expect("an object") {
            backend[name] = value.clone();
        }
        json!({"config": {"backends": [backend]}})
    };
    let secret = json!({"name": "prometheus", "key": "token"});
    vec![
        (json!({"replica": 3}), &["'replica' not allowed"]),
        (json!({"image": {"name": "x"}}), &["'/image'", "'name' not allowed"]),
        (json!({"config": {"lease": {"duraton": "3s"}}}), &["'/config/lease'", "'duraton' not allowed"]),
        (backend(json!({"bearerToken": "x"})), &["'/config/backends/0'", "'bearerToken' not allowed"]),
        (backend(json!({"url": "prometheus:9090"})), &["'/config/backends/0/url'"]),
        (backend(json!({"name": "Default"})), &["'/config/backends/0/name'"]),
        (backend(json!({"timeout": "fast"})), &["'/config/backends/0/timeout'"]),
        (backend(json!({"bearerTokenSecret": {"name": "x"}})), &["bearerTokenSecret", "'key'"]),
        (
            backend(json!({"bearerTokenSecret": secret, "bearerTokenFile": "/token"})),
            &["'/config/backends/0'", "'not' failed"],
        ),
        (
            backend(json!({"caSecret": secret, "caConfigMap": secret})),
            &["'/config/backends/0'", "'not' failed"],
        ),
        (json!({"config": {"actions": ["Explode"]}}), &["'/config/actions/0'"]),
        (json!({"config": {"secrets": "All"}}), &["'/config/secrets'"]),
        (json!({"config": {"lease": {"duration": "1500ms"}}}), &["'/config/lease/duration'"]),
        (json!({"image": {"digest": "latest"}}), &["'/image/digest'"]),
        (json!({"drain": {"within": "2h"}}), &["'/drain/within'"]),
        (json!({"drain": {"within": "61m"}}), &["'/drain/within'"]),
        (json!({"drain": {"within": "3601s"}}), &["'/drain/within'"]),
        (
            json!({"authorRights": {"enabled": false}}),
            &["config.secrets: AuthorChecked needs authorRights.enabled: true", "config.secrets: Labelled"],
        ),
        (
            json!({"serviceMonitor": {"enabled": true}, "service": {"enabled": false}}),
            &["serviceMonitor.enabled needs service.enabled"],
        ),
        (json!({"serviceAccount": {"create": false}}), &["serviceAccount.name"]),
    ]
}

#[test]
fn what_may_not_be_is_refused_with_its_path() {
    run(async {
        for (values, words) in mistakes() {
            let said = refused(&values).await;
            for word in words {
                assert!(said.contains(word), "{values}: {word} is not in: {said}");
            }
        }
    });
}

#[test]
fn an_older_cluster_is_refused() {
    run(async {
        let release = Release::new(json!({}));
        let old = helm().await.template_for("1.29.15", &release, &[]).await.expect("helm runs");
        assert!(!old.status.success() && old.stderr.contains(">=1.30.0-0"), "{}", old.stderr);
        // As distributions write it.
        let new = helm().await.template_for("1.30.0-eks-1", &release, &[]).await.expect("helm runs");
        new.success("rendering for 1.30").expect("it is accepted");
    });
}

/// Every object of the schema that has properties, with its path.
fn objects_of(path: &str, schema: &Value, found: &mut Vec<(String, Value)>) {
    if schema.get("properties").is_some() {
        found.push((path.to_owned(), schema.clone()));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        objects_of(&format!("{path}.{name}"), property, found);
    }
    if let Some(items) = schema.get("items") {
        objects_of(&format!("{path}[]"), items, found);
    }
}

#[test]
fn no_object_of_ours_lets_unknown_names_pass() {
    let schema = schema();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let mut found = Vec::new();
    objects_of("", &schema, &mut found);
    assert!(found.len() > 10, "{found:?}");
    for (path, object) in found {
        assert_eq!(object["additionalProperties"], false, "{path} lets unknown names pass");
    }
}

/// The paths of all values, as far as the schema knows what is in them.
fn paths(path: &str, schema: &Value, values: &Value, found: &mut BTreeSet<String>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        found.insert(path.to_owned());
        return;
    };
    for (name, property) in properties {
        // Helm's own, for charts that have this one as a part.
        if path.is_empty() && name == "global" {
            continue;
        }
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let value = values.get(name).unwrap_or_else(|| panic!("values.yaml does not show {path}"));
        paths(&path, property, value, found);
    }
}

#[test]
fn every_value_is_in_values_yaml_with_a_line_that_says_what_it_is() {
    let text = chart("values.yaml");
    let values = &objects(&text)[0];
    let mut known = BTreeSet::new();
    paths("", &schema(), values, &mut known);
    let lines: Vec<&str> = text.lines().collect();
    for path in &known {
        let (depth, name) = (path.matches('.').count(), path.rsplit('.').next().expect("a name"));
        let wanted = format!("{}{name}:", "  ".repeat(depth));
        let described = lines
            .windows(2)
            .any(|pair| pair[1].starts_with(&wanted) && pair[0].trim_start().starts_with("# -- "));
        assert!(described, "values.yaml does not say what {path} is");
    }
    assert!(known.len() > 50, "{known:?}");
}

#[test]
fn the_actions_are_those_of_the_code() {
    let kinds: Vec<String> = ACTIONS.iter().map(|line| line.kind.to_string()).collect();
    let of_schema = &schema()["properties"]["config"]["properties"]["actions"]["items"]["enum"];
    assert_eq!(of_schema, &json!(kinds));
    assert_eq!(objects(&chart("values.yaml"))[0]["config"]["actions"], json!(kinds));
}

async fn notes(mut values: Value) -> String {
    // Beside the release that is installed.
    values["fullnameOverride"] = json!("another");
    values["crds"] = json!({"install": false});
    let cluster = installed().await;
    let release = Release::new(values).named("another", NAMESPACE);
    let done = cluster.helm.try_install(&cluster.plane, &release).await.expect("helm runs");
    let told = done.success("trying an installation").expect("notes").stdout;
    told.split_once("NOTES:").expect("notes").1.to_owned()
}

#[test]
fn the_notes_say_what_to_do_next() {
    run(async {
        let said = notes(json!({})).await;
        assert!(said.contains("No metrics backend is configured"), "{said}");
        assert!(said.contains("--set 'config.backends[0].url="), "{said}");
        assert!(said.contains("kind: LatencyPolicy"), "{said}");
        assert!(said.contains("needs the right to get that Secret"), "{said}");
        let said = notes(json!({
            "config": {
                "backends": [{"name": "default", "url": "http://prometheus:9090"}], "watchNamespaces": ["web"],
                "secrets": "Labelled",
            },
        }))
        .await;
        assert!(!said.contains("No metrics backend"), "{said}");
        assert!(said.contains("watches web.") && said.contains("namespace: web"), "{said}");
        assert!(said.contains("must carry the label latency-operator.dev/allowed"), "{said}");
        let other = json!({"backends": [{"name": "thanos", "url": "http://thanos:9090"}], "actions": []});
        let said = notes(json!({ "config": other })).await;
        assert!(said.contains("is called \"default\"") && said.contains("thanos"), "{said}");
        assert!(said.contains("does nothing"), "{said}");
    });
}
