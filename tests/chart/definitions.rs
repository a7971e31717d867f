//! The chart's version is the workspace's, its definitions are those of `crds/`, and they stay when the release goes.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{find, objects, rendered, run};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn names(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = std::fs::read_dir(&folder).expect("the folder");
    let mut names: Vec<String> =
        files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_chart_is_of_the_workspaces_version() {
    let chart = &objects(&read("charts/latency-operator/Chart.yaml"))[0];
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["kubeVersion"], ">=1.30.0-0");
}

#[test]
fn the_chart_carries_the_definitions_of_the_code() {
    let carried = "charts/latency-operator/files/crds";
    assert_eq!(names(carried), names("crds"), "run: make crds");
    for name in names("crds") {
        let same = read(&format!("crds/{name}")) == read(&format!("{carried}/{name}"));
        assert!(same, "{name} in the chart is another one than in crds/; run: make crds");
    }
}

#[test]
fn what_is_installed_is_the_definition_with_labels_and_it_stays() {
    run(async {
        let all = rendered(&json!({})).await;
        for name in names("crds") {
            let wanted = &objects(&read(&format!("crds/{name}")))[0];
            let kept = wanted["metadata"]["name"].as_str().expect("a name");
            let mut found = find(&all, "CustomResourceDefinition", kept).clone();
            let metadata = found["metadata"].as_object_mut().expect("metadata");
            let annotations = metadata.remove("annotations").expect("annotations");
            assert_eq!(annotations, json!({"helm.sh/resource-policy": "keep"}));
            let labels = metadata.remove("labels").expect("labels");
            assert_eq!(labels["app.kubernetes.io/managed-by"], "Helm");
            assert_eq!(&found, wanted, "{name} is rendered as something else");
        }
        let none = rendered(&json!({"crds": {"install": false}})).await;
        assert!(!none.iter().any(|object: &Value| object["kind"] == "CustomResourceDefinition"));
    });
}
