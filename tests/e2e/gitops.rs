//! What GitOps controllers see in the operator's objects, by the libraries that they are made of: kstatus and Flux' expressions,
//! and Argo CD's Lua with the checks of `examples/argocd/health`. The statuses are those that the operator has written.

use futures::TryStreamExt;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, WatchEvent, WatchParams};
use lab::GitOps;
use serde_json::{Value, json};

use crate::shown::{in_files, root};
use crate::support::{PASSWORD, SOON, World, kubectl, policy, run, slow};

/// Who looks, with what the examples tell them.
struct Gates<'a> {
    world: &'a World,
    gitops: GitOps,
    cel: Value,
}

impl<'a> Gates<'a> {
    async fn of(world: &'a World) -> Self {
        let gitops = GitOps::find_or_build(&world.lab.session).await.expect("the libraries");
        let flux = in_files("examples/flux");
        let checks = flux.iter().filter_map(|shown| shown.object["spec"]["healthCheckExprs"].as_array());
        let checks: Vec<&Value> = checks.flatten().collect();
        let [cel] = checks.as_slice() else { panic!("{} expressions are shown", checks.len()) };
        assert_eq!(cel["kind"], "LatencyPolicy");
        Self { world, gitops, cel: (*cel).clone() }
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let plural = match kind {
            "LatencyPolicy" => "latencypolicies",
            _ => "latencyincidents",
        };
        let kind = GroupVersionKind::gvk("latency-operator.dev", "v1alpha1", kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        Api::namespaced_with(self.world.client.clone(), &self.world.namespace, &resource)
    }

    /// The object as the API server shows it: no type of ours has read it.
    async fn object(&self, kind: &str, name: &str) -> Value {
        let object = self.api(kind).get(name).await.expect("the object");
        serde_json::to_value(object).expect("JSON")
    }

    /// What all three say about an object: kstatus, Flux' expressions, and Argo CD with its sentence.
    async fn judge(&self, object: &Value) -> String {
        let kind = object["kind"].as_str().expect("a kind").to_lowercase();
        let file = root().join(format!("examples/argocd/health/{kind}.lua"));
        let lua = std::fs::read_to_string(file).expect("the health check");
        // Of the other kinds the examples tell Flux nothing.
        let always = json!({"apiVersion": "v1", "kind": "Any", "current": "true"});
        let cel = if kind == "latencypolicy" { &self.cel } else { &always };
        let health = self.gitops.health(object, &lua, cel).await.expect("a health");
        let (kstatus, cel, lua) = (health.kstatus.status, health.cel.status, health.lua);
        format!("{kstatus}, {cel}, {}: {}", lua.status, lua.message)
    }

    async fn see(&self, name: &str) -> String {
        self.judge(&self.object("LatencyPolicy", name).await).await
    }

    /// Waits until they see this, and returns all of it.
    async fn until(&self, name: &str, begins: &str) -> String {
        let mut last = String::new();
        let found = lab::until(SOON, async || {
            last = self.see(name).await;
            last.starts_with(begins).then(|| last.clone())
        });
        let found = found.await;
        found.unwrap_or_else(|| {
            panic!("{name} is never {begins}; it is {last}\n{}", self.world.operator_log())
        })
    }

    /// Every version of a policy from `since` on that a gate could have seen, up to the first one of which `enough` is true.
    async fn versions(&self, name: &str, since: &str, enough: fn(&Value) -> bool) -> Vec<Value> {
        let api = self.api("LatencyPolicy");
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let stream = api.watch(&params, since).await.expect("a watch");
        let mut stream = std::pin::pin!(stream);
        let mut versions: Vec<Value> = Vec::new();
        while !versions.last().is_some_and(enough) {
            let next = lab::within(SOON, stream.try_next()).await;
            let next = next.unwrap_or_else(|| panic!("{name}: {versions:#?}"));
            if let Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) = next.expect("a watch") {
                versions.push(serde_json::to_value(object).expect("JSON"));
            }
        }
        versions
    }
}

fn named(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut object = policy();
    object["metadata"]["name"] = name.into();
    change(&mut object);
    object
}

fn has_conditions(object: &Value) -> bool {
    object["status"]["conditions"].as_array().is_some_and(|conditions| !conditions.is_empty())
}

fn says(object: &Value, kind: &str, status: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == status)
}

fn is_without_data(object: &Value) -> bool {
    says(object, "DataAvailable", "False")
}

/// The second version of the spec was looked at, and something is not there.
fn is_refused_as_changed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == 2 && says(object, "Ready", "False")
}

fn secret(name: &str, port: &str, mut data: Value) -> Value {
    data["host"] = "127.0.0.1".into();
    data["port"] = port.into();
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "labels": {"latency-operator.dev/allowed": "true"}},
        "stringData": data,
    })
}

#[test]
fn a_breach_is_healthy_what_nobody_can_mend_from_outside_has_failed_and_the_rest_is_on_its_way() {
    run(async {
        let mut world = World::new("gitops").await;
        let gates = Gates::of(&world).await;
        let begin = gates.api("LatencyPolicy").list(&Default::default()).await.expect("a list");
        let begin = begin.metadata.resource_version.expect("a version");

        // Nobody has looked at it. Without the definition's default kstatus would take it for settled.
        world.apply(policy()).await;
        let new =
            "InProgress, InProgress, Progressing: the operator has not looked at this version of it yet";
        assert_eq!(gates.see("orders-api").await, new);
        let mut bare = gates.object("LatencyPolicy", "orders-api").await;
        assert_eq!(bare["status"], json!({"observedGeneration": -1, "conditions": []}));
        bare.as_object_mut().expect("an object").remove("status");
        let any = json!({"apiVersion": "v1", "kind": "Any", "current": "true"});
        let bare = gates.gitops.health(&bare, "return {status = 'Healthy'}", &any).await.expect("a health");
        assert_eq!(
            bare.kstatus.status, "Current",
            "kstatus has learnt it: the default is not needed any more"
        );

        world
            .apply(named("secretless", |p| {
                p["spec"]["dependencies"][0]["secretRef"]["name"] = "missing".into();
            }))
            .await;
        world.apply(named("targetless", |p| p["spec"]["targetRef"]["name"] = "nobody".into())).await;
        world.apply(named("stalled", |p| p["spec"]["mode"] = "Whatever".into())).await;
        world.operate().await;
        let gates = Gates::of(&world).await;
        let settled = gates.until("orders-api", "Current").await;
        assert_eq!(settled, "Current, Current, Healthy: Accepted: the policy is being watched");
        let versions = gates.versions("orders-api", &begin, has_conditions).await;
        for (index, version) in versions.iter().enumerate() {
            let seen = gates.judge(version).await;
            let last = index + 1 == versions.len();
            assert_eq!(seen.starts_with("Current"), last, "version {index} of {}: {seen}", versions.len());
        }

        // What may come without a change of the policy is on its way, however long it takes; no version of it looked settled.
        let seen = gates.until("secretless", "InProgress, InProgress, Progressing: SecretNotFound: ").await;
        assert!(seen.contains("spec.dependencies[db]"), "{seen}");
        for version in gates.versions("secretless", &begin, is_without_data).await {
            let seen = gates.judge(&version).await;
            assert!(seen.starts_with("InProgress, InProgress, Progressing"), "{seen}");
            assert!(
                !says(&version, "DataAvailable", "True"),
                "nothing was read of its database: {version:#}"
            );
        }
        gates.until("targetless", "InProgress, InProgress, Progressing: TargetNotFound: ").await;
        let seen = gates.until("stalled", "Failed, Failed, Degraded: InvalidSpec: ").await;
        assert!(seen.contains("spec.mode: this version does not know Whatever"), "{seen}");
        for version in gates.versions("stalled", &begin, has_conditions).await {
            let seen = gates.judge(&version).await;
            assert!(!seen.starts_with("Current"), "{seen}");
        }
        // Mended, there is no trace of it.
        world.apply(named("stalled", |_| ())).await;
        gates.until("stalled", "Current, Current, Healthy: Accepted").await;

        // What was settled is judged anew with each change of it.
        world.patch(json!({"dependencies": [{
            "name": "db", "type": "PostgreSQL", "secretRef": {"name": "missing"}, "postgresql": {"clientRoles": ["orders"], "cancellableRoles": ["reporting"]},
        }]}))
        .await;
        gates.until("orders-api", "InProgress, InProgress, Progressing: SecretNotFound: ").await;
        for version in gates.versions("orders-api", &begin, is_refused_as_changed).await {
            let seen = gates.judge(&version).await;
            let changed = version["metadata"]["generation"] == 2;
            assert!(!changed || !seen.starts_with("Current"), "{seen}");
        }
        let port = world.postgres.port().to_string();
        let database = json!({"dbname": "orders", "user": "latency_operator", "password": PASSWORD});
        world.apply(secret("missing", &port, database)).await;
        gates.until("orders-api", "Current, Current, Healthy: Accepted").await;
    });
}

#[test]
fn a_pause_a_dependency_in_part_and_a_breach_hold_up_no_gate() {
    run(async {
        let mut world = World::new("gitops-held").await;
        world.operate().await;
        world.apply(policy()).await;
        world.until_calm().await;
        let gates = Gates::of(&world).await;

        world.annotate("lp", "orders-api", Some("forever")).await;
        world.until_condition("RemediationAllowed", "False/Paused").await;
        // What a GitOps controller applies again takes no annotation away that it does not know.
        world.apply(policy()).await;
        let paused = "Current, Current, Healthy: Paused: the policy is paused until forever";
        assert_eq!(gates.see("orders-api").await, paused);
        world.patch(json!({"mode": "Observe"})).await;
        world.annotate("lp", "orders-api", None).await;
        world.until_condition("RemediationAllowed", "False/ObserveOnly").await;
        gates.until("orders-api", "Current, Current, Healthy: Accepted").await;

        // A role that may not see the sessions of others.
        let port = world.postgres.port().to_string();
        let reporting = json!({"dbname": "orders", "user": "reporting", "password": PASSWORD});
        world.apply(secret("in-part", &port, reporting)).await;
        world
            .apply(named("in-part", |p| {
                p["spec"]["dependencies"][0]["secretRef"]["name"] = "in-part".into();
            }))
            .await;
        world.until_condition_of("in-part", "DataAvailable", "False/Partial").await;
        let seen = gates.see("in-part").await;
        assert!(
            seen.starts_with("Current, Current, Healthy: Accepted: dependency db is readable in part"),
            "{seen}"
        );

        world.exporter.set(slow());
        world.until_condition("WithinObjective", "False").await;
        let seen = gates.see("orders-api").await;
        assert!(seen.starts_with("Current, Current, Healthy: IncidentOpen: open (P"), "{seen}");
        let incidents = world.incidents().list(&Default::default()).await.expect("incidents").items;
        let incident = incidents
            .into_iter()
            .find(|incident| incident.spec.policy_ref.name.0 == "orders-api")
            .and_then(|incident| incident.metadata.name)
            .expect("an incident");
        let seen = gates.judge(&gates.object("LatencyIncident", &incident).await).await;
        assert!(seen.contains("Progressing: P") || seen.contains("Degraded: "), "{seen}");
        world.exporter.set(crate::support::calm());
        world.until_condition("WithinObjective", "True").await;
        let closed = lab::until(SOON, async || {
            let seen = gates.judge(&gates.object("LatencyIncident", &incident).await).await;
            seen.contains("Healthy: RecoveredAlone").then_some(())
        });
        closed.await.expect("the incident is closed");
    });
}

#[test]
fn a_change_that_nobody_has_looked_at_is_on_its_way() {
    run(async {
        let mut world = World::new("gitops-unseen").await;
        world.operate().await;
        world.apply(policy()).await;
        world.until_condition("Ready", "True").await;
        let gates = Gates::of(&world).await;
        gates.until("orders-api", "Current, Current, Healthy").await;
        drop(gates);
        world.operator.take().expect("an operator").kill().await.expect("it is killed");
        world.patch(json!({"historyLimit": 7})).await;
        let gates = Gates::of(&world).await;
        let unseen =
            "InProgress, InProgress, Progressing: the operator has not looked at this version of it yet";
        assert_eq!(gates.see("orders-api").await, unseen);
        drop(gates);
        world.operate().await;
        let gates = Gates::of(&world).await;
        gates.until("orders-api", "Current, Current, Healthy").await;
        // Somebody else's finalizer holds it.
        let patch = json!({"metadata": {"finalizers": ["lab.test/hold"]}}).to_string();
        let plane = &world.lab.control_plane;
        let namespace = world.namespace.as_str();
        kubectl(plane, &["patch", "lp", "-n", namespace, "orders-api", "--type=merge", "-p", &patch], "")
            .await;
        kubectl(plane, &["delete", "lp", "-n", namespace, "orders-api", "--wait=false"], "").await;
        let seen = gates.see("orders-api").await;
        assert!(
            seen.starts_with("Terminating, ") && seen.ends_with("Progressing: it is being deleted"),
            "{seen}"
        );
        let release = json!({"metadata": {"finalizers": null}}).to_string();
        kubectl(plane, &["patch", "lp", "-n", namespace, "orders-api", "--type=merge", "-p", &release], "")
            .await;
    });
}
