//! What examples and documents show, on the real API server: in dry runs as strict as it can be, then really applied, with an
//! operator that has to accept them.

use engine::guards::gitops_manager;
use engine::model::{MANAGER, TargetKind, TargetRef};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use lab::{ControlPlane, GitOps, Session, helm};
use latency_operator::connections::workload;
use serde_json::{Value, json};

use crate::shown::{Shown, in_documents, in_files, objects, root};
use crate::support::{SOON, World, eventually, kubectl, run};

const OVERLAYS: [(&str, &str, &str); 2] =
    [("staging", "shop-staging", "staging-orders-api"), ("production", "shop", "orders-api")];

async fn dry_run(plane: &ControlPlane, namespace: &str, shown: &Shown) {
    let mode = ["--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"];
    let args = [&["apply", "-n", namespace, "-f", "-"][..], &mode].concat();
    let finished = plane.kubectl_run(&args, &shown.object.to_string()).await.expect("kubectl runs");
    // A validation that was skipped would be a warning.
    assert!(finished.status.success() && finished.stderr.is_empty(), "{}: {}", shown.place, finished.stderr);
}

async fn kustomized(plane: &ControlPlane, overlay: &str) -> String {
    let folder = root().join("examples/kustomize/overlays").join(overlay);
    kubectl(plane, &["kustomize", folder.to_str().expect("a path")], "").await
}

/// Waits until the operator has looked at the policy, and returns its conditions.
async fn conditions(world: &World, namespace: &str, name: &str) -> Vec<String> {
    let plane = &world.lab.control_plane;
    let look = async || {
        let policy = kubectl(plane, &["get", "lp", "-n", namespace, name, "-o", "json"], "").await;
        let policy: Value = serde_json::from_str(&policy).expect("JSON");
        let status = &policy["status"];
        let conditions = status["conditions"].as_array().filter(|conditions| !conditions.is_empty())?;
        let seen = status["observedGeneration"] == policy["metadata"]["generation"];
        let text = |condition: &Value| {
            let part = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            format!("{} {}/{}: {}", part("type"), part("status"), part("reason"), part("message"))
        };
        seen.then(|| conditions.iter().map(text).collect::<Vec<_>>())
    };
    eventually(&format!("{namespace}/{name} is looked at"), SOON, look).await
}

fn accepted(name: &str, conditions: &[String]) {
    assert!(!conditions.iter().any(|condition| condition.starts_with("Stalled")), "{name}: {conditions:#?}");
    assert!(
        conditions.iter().any(|condition| condition.starts_with("Ready True")),
        "{name}: {conditions:#?}"
    );
}

#[test]
fn plain_and_kustomized_examples_are_accepted() {
    run(async {
        let mut world = World::new("examples").await;
        let plane = &world.lab.control_plane;
        plane.deployment("examples", "orders-celery", 2).await.expect("the workers");
        for shown in in_files("examples/plain") {
            dry_run(plane, "examples", &shown).await;
        }
        for shown in in_documents().iter().chain(&in_files("demo/policies")) {
            // Their namespaces are not there.
            let mut object = shown.object.clone();
            object["metadata"].as_object_mut().expect("metadata").remove("namespace");
            dry_run(plane, "examples", &Shown { place: shown.place.clone(), object }).await;
        }
        let plain = root().join("examples/plain");
        let plain = plain.to_str().expect("a path");
        kubectl(plane, &["apply", "--server-side", "-n", "examples", "-f", plain], "").await;
        for (overlay, namespace, _) in OVERLAYS {
            plane.namespace(namespace).await.expect("a namespace");
            let text = kustomized(plane, overlay).await;
            for shown in objects(overlay, &text) {
                dry_run(plane, namespace, &shown).await;
            }
            kubectl(plane, &["apply", "--server-side", "-f", "-"], &text).await;
        }
        world.neighbours = OVERLAYS.iter().map(|(_, namespace, _)| (*namespace).to_owned()).collect();
        world.operate().await;

        for name in ["orders-api", "orders-api-full", "reports-api"] {
            accepted(name, &conditions(&world, "examples", name).await);
        }
        let paused = conditions(&world, "examples", "reports-api").await;
        assert!(
            paused
                .iter()
                .any(|condition| condition
                    .starts_with("RemediationAllowed False/Paused: the policy is paused")),
            "{paused:#?}"
        );
        for (overlay, namespace, policy) in OVERLAYS {
            // Ready: the renamed Deployment and the Secret with the hash at its end were found.
            let conditions = conditions(&world, namespace, policy).await;
            accepted(overlay, &conditions);
            let acts =
                conditions.iter().any(|condition| condition.starts_with("RemediationAllowed True/Auto"));
            assert_eq!(acts, overlay == "production", "{conditions:#?}");
        }
        // The budget is of the cluster, and other tests act in it.
        kubectl(&world.lab.control_plane, &["delete", "rb", "production"], "").await;
    });
}

/// Without the configuration of name references a policy would go on naming what there is no more.
#[test]
fn kustomize_follows_every_name_that_a_policy_refers_to() {
    run(async {
        let plane = &crate::support::lab().await.control_plane;
        for (overlay, _, name) in OVERLAYS {
            let shown = objects(overlay, &kustomized(plane, overlay).await);
            let of = |kind: &str| {
                let found = shown.iter().find(|shown| shown.kind() == kind).expect("one of each kind");
                found.object["metadata"]["name"].as_str().expect("a name").to_owned()
            };
            let policy = shown.iter().find(|shown| shown.is_ours()).expect("a policy");
            let spec = &policy.object["spec"];
            assert_eq!((spec["targetRef"]["name"].as_str(), of("Deployment").as_str()), (Some(name), name));
            assert_eq!(spec["dependencies"][0]["secretRef"]["name"], of("Secret"));
            assert!(of("Secret").contains("orders-db-"), "{}", of("Secret"));
            assert_eq!(spec["objectives"][1]["source"]["probe"]["serviceName"], of("Service"));
        }
    });
}

#[test]
fn what_argo_cd_and_flux_are_told_is_valid_by_their_own_definitions() {
    run(async {
        // In a laboratory of its own: their definitions are no business of others.
        let session = Session::start().await.expect("a session");
        let plane = ControlPlane::start(&session, Default::default()).await.expect("a control plane");
        let gitops = GitOps::find_or_build(&session).await.expect("the definitions");
        let ours = root().join("crds");
        for file in gitops.definitions().iter().chain([&ours]) {
            let file = file.to_str().expect("a path");
            kubectl(&plane, &["apply", "--server-side", "-f", file], "").await;
        }
        kubectl(&plane, &["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"], "").await;
        for namespace in ["argocd", "flux-system", "shop"] {
            plane.namespace(namespace).await.expect("a namespace");
        }
        let mut kinds = Vec::new();
        for shown in in_files("examples/argocd").iter().chain(&in_files("examples/flux")) {
            dry_run(&plane, shown.object["metadata"]["namespace"].as_str().expect("a namespace"), shown)
                .await;
            kinds.push(shown.kind().to_owned());
        }
        for kind in ["Application", "GitRepository", "HelmRelease", "Kustomization"] {
            assert!(kinds.iter().any(|known| known == kind), "{kind} is not among {kinds:?}");
        }
        // And it is looked at: what they do not know is refused.
        let mut wrong =
            in_files("examples/flux").into_iter().find(|shown| shown.kind() == "HelmRelease").expect("one");
        wrong.object["spec"]["nonsense"] = true.into();
        let args = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
        let refused = plane.kubectl_run(&args, &wrong.object.to_string()).await.expect("kubectl runs");
        assert!(refused.stderr.contains("spec.nonsense"), "{}", refused.stderr);

        // Whom the admission policy asks about: the account that Flux applies with.
        let rights = root().join("examples/flux/rights.yaml");
        kubectl(&plane, &["apply", "-f", rights.to_str().expect("a path")], "").await;
        for (verb, what) in [
            ("get", "secrets/orders-db-gm5dh24gdk"),
            ("patch", "deployments.apps/orders-api --subresource=scale"),
            ("create", "latencypolicies.latency-operator.dev"),
        ] {
            let mut args =
                vec!["auth", "can-i", "-n", "shop", "--as=system:serviceaccount:shop:deployer", verb];
            args.extend(what.split(' '));
            kubectl(&plane, &args, "").await;
        }
        let elsewhere =
            ["auth", "can-i", "-n", "argocd", "--as=system:serviceaccount:shop:deployer", "get", "secrets"];
        let answer = plane.kubectl_run(&elsewhere, "").await.expect("kubectl runs");
        assert_eq!(answer.stdout.trim(), "no");
    });
}

/// The values of the chart that Argo CD and Flux would hand over.
fn values() -> Vec<(String, Value)> {
    let shown = in_files("examples").into_iter().filter_map(|shown| {
        let spec = &shown.object["spec"];
        let found = [&spec["source"]["helm"]["valuesObject"], &spec["values"]];
        let values = found.into_iter().find(|values| values.is_object())?.clone();
        Some((shown.place, values))
    });
    shown.collect()
}

#[test]
fn the_values_that_are_shown_are_those_of_the_chart() {
    run(async {
        let values = values();
        assert_eq!(values.len(), 2, "{values:?}");
        assert_eq!(values[0].1, values[1].1, "both show the same installation");
        let chart = root().join("charts/latency-operator");
        if !chart.exists() {
            return;
        }
        let session = &crate::support::lab().await.session;
        let helm = helm(session).await.expect("helm");
        for (place, values) in values {
            let spec = lab::Spec::new("helm", &helm)
                .args(["template", "latency-operator"])
                .arg(&chart)
                .args(["--namespace", "latency-operator", "--kube-version", "1.35.0", "--values", "-"])
                .input(values.to_string());
            let rendered = session.run(spec, SOON).await.expect("helm runs");
            assert!(rendered.status.success(), "{place}: {}", rendered.stderr);
            assert!(rendered.stdout.contains("kind: Deployment"), "{place}: {}", rendered.stdout);
        }
    });
}

/// Server-side apply, as a GitOps controller does it, with or without a number of replicas.
async fn apply(api: &Api<Deployment>, manager: &str, spec: Value) {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders-api"}, "spec": spec,
    });
    let params = PatchParams::apply(manager).force();
    api.patch("orders-api", &params, &Patch::Apply(&object)).await.expect("applied");
}

fn from_git(replicas: Option<i32>) -> Value {
    let labels = json!({"app": "orders-api"});
    let mut spec = json!({
        "paused": true, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}},
    });
    if let Some(replicas) = replicas {
        spec["replicas"] = replicas.into();
    }
    spec
}

/// As docs/gitops.md tells it: who has a number of replicas in Git hands it over before it is taken out, and from then on
/// nobody fights about it.
#[test]
fn a_number_of_replicas_is_handed_over_before_it_is_taken_out_of_git() {
    run(async {
        let plane = &crate::support::lab().await.control_plane;
        let client = plane.client().await.expect("a client");
        let target = TargetRef { kind: TargetKind::Deployment, name: "orders-api".into() };
        for (namespace, manager) in
            [("handover-flux", "kustomize-controller"), ("handover-argo", "argocd-controller")]
        {
            plane.namespace(namespace).await.expect("a namespace");
            let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
            let look = async || {
                let read = workload::read(&client, namespace, &target).await.expect("the workload").now();
                (read.replicas, gitops_manager(&read.managers).map(ToString::to_string))
            };
            // Taken out without more ado it falls to one.
            apply(&api, manager, from_git(Some(4))).await;
            assert_eq!(look().await, (4, Some(manager.to_owned())));
            apply(&api, manager, from_git(None)).await;
            assert_eq!(look().await, (1, None));

            apply(&api, manager, from_git(Some(4))).await;
            let field = json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders-api"},
                "spec": {"replicas": 4},
            });
            let handover =
                ["apply", "--server-side", "--field-manager=handover", "--validate=false", "-n", namespace];
            kubectl(plane, &[&handover[..], &["-f", "-"]].concat(), &field.to_string()).await;
            assert_eq!(look().await, (4, Some(manager.to_owned())));
            apply(&api, manager, from_git(None)).await;
            assert_eq!(
                look().await,
                (4, None),
                "the number stays, and the guard Ownership lets the operator act"
            );

            // The operator's act outlives every later apply, and its undo finds what it wrote.
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let scale = json!({"spec": {"replicas": 6}});
            api.patch_scale("orders-api", &params, &Patch::Merge(&scale)).await.expect("scaled");
            apply(&api, manager, from_git(None)).await;
            assert_eq!(look().await, (6, None));
            // A number in Git is a later writer's.
            apply(&api, manager, from_git(Some(4))).await;
            assert_eq!(look().await, (4, Some(manager.to_owned())));
        }
    });
}
