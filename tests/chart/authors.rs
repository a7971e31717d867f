//! Nobody gets rights by writing a policy: real users, real roles, the real admission policy of the installed chart.

use std::path::{Path, PathBuf};

use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use lab::Release;
use latency_operator::api::LatencyPolicy;
use serde_json::{Value, json};

use crate::support::{Cluster, SOON, find, installed, rendered, run};

const NAME: &str = "latency-operator-author-rights";

/// A namespace, and the people in it.
struct Place {
    cluster: &'static Cluster,
    namespace: String,
}

impl Place {
    /// From now on the admission policy is asked: the API server has seen it.
    async fn new(namespace: &str) -> Self {
        let cluster = installed().await;
        cluster.plane.namespace(namespace).await.expect("a namespace");
        let place = Self { cluster, namespace: namespace.to_owned() };
        let stranger = place.person("stranger", &[]).await;
        let refused = async || place.create(&stranger, &policy(&[])).await.err();
        let said = lab::until(SOON, refused).await.expect("the admission policy never was asked");
        assert!(said.contains("spec.targetRef.name"), "{said}");
        place
    }

    /// Somebody who may write policies and has these rights beside: group, resource, name, verb.
    async fn person(&self, name: &str, rights: &[(&str, &str, &[&str], &str)]) -> PathBuf {
        let mut rules = vec![json!({
            "apiGroups": ["latency-operator.dev"], "resources": ["latencypolicies"],
            "verbs": ["get", "list", "create", "update", "patch", "delete"],
        })];
        rules.extend(rights.iter().map(|(group, resource, names, verb)| {
            json!({"apiGroups": [group], "resources": [resource], "resourceNames": names, "verbs": [verb]})
        }));
        let name = format!("{name}-{}", self.namespace);
        self.cluster.person(&self.namespace, &name, json!(rules)).await
    }

    /// Tries to create it; nothing is stored.
    async fn create(&self, who: &Path, policy: &Value) -> Result<String, String> {
        let args = ["create", "-n", &self.namespace, "--dry-run=server", "-f", "-"];
        self.cluster.kubectl_as(who, &args, &policy.to_string()).await
    }

    /// Changes the policy that is there.
    async fn patch(&self, who: &Path, patch: &Value) -> Result<String, String> {
        let patch = patch.to_string();
        let args = ["patch", "lp", "orders-api", "-n", &self.namespace, "--type=merge", "-p", &patch];
        self.cluster.kubectl_as(who, &args, "").await
    }

    /// The administrator writes it, whatever was there.
    async fn stored(&self, policy: &Value) {
        let mut policy = policy.clone();
        policy["metadata"]["namespace"] = json!(self.namespace);
        let args = ["delete", "lp", "orders-api", "-n", &self.namespace, "--ignore-not-found"];
        self.cluster.kubectl(&args, "").await;
        self.cluster.apply(&policy).await;
    }
}

const SCALES: (&str, &str, &[&str], &str) = ("apps", "deployments/scale", &["orders-api"], "patch");

fn dependency(kind: &str, place: usize, secret: &str) -> Value {
    let (word, settings) = match kind {
        "maintenance" => {
            let settings = json!({"maintenanceSecretRef": {"name": secret}});
            let own = json!({"name": "mine"});
            return json!({"name": format!("d{place}"), "type": "PostgreSQL", "secretRef": own, "postgresql": settings});
        }
        "postgresql" => ("PostgreSQL", json!({})),
        _ => ("Redis", json!({})),
    };
    json!({"name": format!("d{place}"), "type": word, "secretRef": {"name": secret}, (kind): settings})
}

fn policy(dependencies: &[Value]) -> Value {
    let mut policy = json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy", "metadata": {"name": "orders-api"},
        "spec": {"mode": "Auto", "targetRef": {"name": "orders-api"}},
    });
    if !dependencies.is_empty() {
        policy["spec"]["dependencies"] = json!(dependencies);
    }
    policy
}

#[test]
fn whoever_may_not_scale_the_workers_may_not_let_them_be_shed() {
    run(async {
        let place = Place::new("shedding").await;
        let workers = |kind: &str| {
            let settings =
                json!({"targetRef": {"kind": kind, "name": "orders-celery"}, "clientRoles": ["celery"]});
            policy(&[json!({"name": "celery", "type": "Workers", "workers": settings})])
        };
        let owner = place.person("owner", &[SCALES]).await;
        for (kind, resource) in [("Deployment", "deployments"), ("StatefulSet", "statefulsets")] {
            let said = place.create(&owner, &workers(kind)).await.expect_err("it was accepted");
            let wanted = format!(
                "spec.dependencies[0].workers.targetRef.name: owner-shedding may not patch {resource}/scale of orders-celery in \
                 namespace shedding"
            );
            assert!(said.contains(&wanted) && said.contains("Forbidden"), "{said}");
        }
        let both = ("apps", "deployments/scale", ["orders-api", "orders-celery"].as_slice(), "patch");
        let of_both = place.person("of-both", &[both]).await;
        place.create(&of_both, &workers("Deployment")).await.expect("it is accepted");
    });
}

#[test]
fn whoever_may_not_scale_the_target_may_not_let_it_be_scaled() {
    run(async {
        let place = Place::new("scaling").await;
        let nobody = place.person("nobody", &[]).await;
        let said = place.create(&nobody, &policy(&[])).await.expect_err("it was accepted");
        let wanted = "spec.targetRef.name: nobody-scaling may not patch deployments/scale of orders-api in namespace scaling";
        assert!(said.contains(wanted) && said.contains("Forbidden"), "{said}");

        let owner = place.person("owner", &[SCALES]).await;
        place.create(&owner, &policy(&[])).await.expect("it is accepted");
        // A type of a later version may need no Secret.
        let of_later = json!({"name": "later", "type": "Later"});
        place.create(&owner, &policy(&[of_later])).await.expect("it names no Secret");
        let mut other = policy(&[]);
        other["spec"]["targetRef"] = json!({"name": "orders-api", "kind": "StatefulSet"});
        let said = place.create(&owner, &other).await.expect_err("it was accepted");
        assert!(said.contains("may not patch statefulsets/scale of orders-api"), "{said}");
        other["spec"]["targetRef"] = json!({"name": "billing-api"});
        let said = place.create(&owner, &other).await.expect_err("it was accepted");
        assert!(said.contains("may not patch deployments/scale of billing-api"), "{said}");
        let sets = ("apps", "statefulsets/scale", ["orders-api"].as_slice(), "patch");
        let of_sets = place.person("of-sets", &[sets]).await;
        other["spec"]["targetRef"] = json!({"name": "orders-api", "kind": "StatefulSet"});
        place.create(&of_sets, &other).await.expect("it is accepted");
    });
}

#[test]
fn whoever_may_not_read_a_secret_may_not_name_it_at_any_place() {
    run(async {
        let place = Place::new("secrets").await;
        let mine: (&str, &str, &[&str], &str) = ("", "secrets", &["mine"], "get");
        let owner = place.person("owner", &[SCALES, mine]).await;
        for (kind, field) in [
            ("postgresql", "secretRef"),
            ("redis", "secretRef"),
            ("maintenance", "postgresql.maintenanceSecretRef"),
        ] {
            let all = |theirs: Option<usize>| -> Vec<Value> {
                let secret = |place| if theirs == Some(place) { "theirs" } else { "mine" };
                (0..8).map(|place| dependency(kind, place, secret(place))).collect()
            };
            place.create(&owner, &policy(&all(None))).await.expect("all are hers");
            for index in 0..8 {
                let said =
                    place.create(&owner, &policy(&all(Some(index)))).await.expect_err("it was accepted");
                let wanted = format!(
                    "spec.dependencies[{index}].{field}.name: owner-secrets may not get Secret theirs in namespace secrets"
                );
                assert!(said.contains(&wanted), "{kind} {index}: {said}");
            }
        }
        let mixed = [dependency("redis", 0, "mine"), dependency("postgresql", 1, "mine")];
        place.create(&owner, &policy(&mixed)).await.expect("all are hers");
        // Listing is another right, and no help.
        let lists = ("", "secrets", [].as_slice(), "list");
        let reader = place.person("reader", &[SCALES, lists]).await;
        let said = place.create(&reader, &policy(&mixed)).await.expect_err("it was accepted");
        assert!(said.contains("spec.dependencies[0].secretRef.name"), "{said}");
    });
}

#[test]
fn whoever_may_edit_a_policy_may_always_stop_it_and_nothing_more() {
    run(async {
        let place = Place::new("stopping").await;
        let written = policy(&[dependency("postgresql", 0, "theirs"), dependency("redis", 1, "theirs")]);
        let editor = place.person("editor", &[]).await;
        let pause = json!({"metadata": {"annotations": {"latency-operator.dev/paused-until": "forever"}}});
        for stop in [
            pause,
            json!({"metadata": {"labels": {"team": "web"}}}),
            json!({"spec": {"mode": "Observe"}}),
            json!({"spec": {"mode": null}}),
            // Nothing changes.
            json!({"spec": {"mode": "Auto"}}),
        ] {
            place.stored(&written).await;
            let said = place.patch(&editor, &stop).await;
            assert!(said.is_ok(), "{stop}: {said:?}");
        }
        for more in [
            json!({"spec": {"historyLimit": 21}}),
            json!({"spec": {"mode": "Observe", "historyLimit": 21}}),
            json!({"spec": {"mode": "Observe", "dependencies": null}}),
            json!({"spec": {"mode": "Approve"}}),
            json!({"spec": {"guards": {"maxActionsPerHour": 7}}}),
            json!({"spec": {"remediations": [
                {"name": "warm", "action": {"type": "WarmCache", "warmCache": {"serviceName": "orders-api", "port": "http", "paths": ["/"]}}},
            ]}}),
        ] {
            place.stored(&written).await;
            let said = place.patch(&editor, &more).await.expect_err("it was accepted");
            assert!(said.contains("editor-stopping may not"), "{more}: {said}");
        }
        let mut stopped = written.clone();
        stopped["spec"]["mode"] = json!("Observe");
        place.stored(&stopped).await;
        let said =
            place.patch(&editor, &json!({"spec": {"mode": "Auto"}})).await.expect_err("it was accepted");
        assert!(said.contains("editor-stopping may not"), "{said}");
        // Whoever has the rights changes what they like.
        let theirs: (&str, &str, &[&str], &str) = ("", "secrets", &["theirs"], "get");
        let owner = place.person("owner", &[SCALES, theirs]).await;
        place
            .patch(&owner, &json!({"spec": {"mode": "Auto", "historyLimit": 21}}))
            .await
            .expect("it is accepted");
        // And whoever may delete it deletes it.
        let args = ["delete", "lp", "orders-api", "-n", "stopping"];
        place.cluster.kubectl_as(&editor, &args, "").await.expect("it is deleted");
    });
}

#[test]
fn the_operator_itself_is_not_asked_for_what_it_says_of_a_policy() {
    run(async {
        let place = Place::new("telling").await;
        place.stored(&policy(&[])).await;
        let account = place.cluster.plane.kubeconfig_with_token("latency-operator", "latency-operator").await;
        let client =
            place.cluster.plane.client_with(&account.expect("a kubeconfig")).await.expect("a client");
        let policies: Api<LatencyPolicy> = Api::namespaced(client, "telling");
        let mut seen = policies.get("orders-api").await.expect("the policy");
        seen.status = Some(serde_json::from_value(json!({"observedGeneration": 1})).expect("a status"));
        policies.replace_status("orders-api", &PostParams::default(), &seen).await.expect("it is written");
        let patch = Patch::Merge(json!({"spec": {"mode": "Observe"}}));
        let refused =
            policies.patch("orders-api", &PatchParams::default(), &patch).await.expect_err("it may not");
        assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
    });
}

#[test]
fn the_expressions_are_of_the_right_types() {
    run(async {
        let all = rendered(&json!({})).await;
        let right = find(&all, "ValidatingAdmissionPolicy", NAME);
        let mut wrong = right.clone();
        let rules = wrong["spec"]["validations"].as_array_mut().expect("validations");
        for rule in rules.iter_mut() {
            let text =
                rule["expression"].as_str().expect("an expression").replace("ecretRef.name", "ecretRef.nam");
            rule["expression"] = json!(text);
        }
        let told = |told: &[String]| {
            told.len() == 24 && told.iter().all(|warning| warning.contains("undefined field 'nam'"))
        };
        installed().await.types_are_right(right, &wrong, told).await;
    });
}

/// The path of every Secret that a spec can name.
fn secrets_of(path: &str, schema: &Value, found: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let is_reference = name.to_lowercase().ends_with("secretref");
        if is_reference { found.push(path) } else { secrets_of(&path, property, found) }
    }
    if let Some(items) = schema.get("items") {
        secrets_of(&format!("{path}[]"), items, found);
    }
}

#[test]
fn every_secret_that_a_policy_can_name_is_asked_for() {
    run(async {
        let all = rendered(&json!({})).await;
        let definition = find(&all, "CustomResourceDefinition", "latencypolicies.latency-operator.dev");
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut found = Vec::new();
        secrets_of("object.spec", schema, &mut found);
        assert!(found.len() >= 2, "{found:?}");
        let most = schema["properties"]["dependencies"]["maxItems"].as_u64().expect("a bound");
        let policy = find(&all, "ValidatingAdmissionPolicy", NAME);
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        let rules: Vec<&str> = policy["spec"]["validations"]
            .as_array()
            .expect("validations")
            .iter()
            .map(|rule| rule["expression"].as_str().expect("an expression"))
            .collect();
        for path in found {
            for place in 0..most {
                let name = format!("{}.name", path.replace("[]", &format!("[{place}]")));
                let asked = rules.iter().any(|rule| rule.contains(&format!("name({name}).check('get')")));
                assert!(asked, "nobody is asked for {name}");
            }
        }
    });
}

#[test]
fn without_the_admission_policy_anybody_is_let_through() {
    run(async {
        // What the other tests see is the policy's doing, and nothing else's.
        let cluster = Cluster::empty().await;
        let release =
            Release::new(json!({"config": {"secrets": "Labelled"}, "authorRights": {"enabled": false}}));
        let done = cluster.helm.install(&cluster.plane, &release).await.expect("helm runs");
        done.success("installing").expect("it is installed");
        cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"], "").await;
        cluster.plane.namespace("shop").await.expect("a namespace");
        let rules = json!([{"apiGroups": ["latency-operator.dev"], "resources": ["latencypolicies"], "verbs": ["create"]}]);
        let anybody = cluster.person("shop", "anybody", rules).await;
        let text = policy(&[dependency("postgresql", 7, "theirs")]).to_string();
        let args = ["create", "-n", "shop", "-f", "-"];
        cluster.kubectl_as(&anybody, &args, &text).await.expect("it is accepted");
    });
}
