//! What the operator goes by it alone writes: real users, a real account's token, the real admission policy of the installed chart.

use std::path::{Path, PathBuf};

use lab::Release;
use serde_json::{Value, json};

use crate::support::{Cluster, NAMESPACE, SOON, find, installed, rendered, run};

const NAME: &str = "latency-operator-ledger";
const ACCOUNT: &str = "system:serviceaccount:latency-operator:latency-operator";
const UNDO: &str = "latency-operator.dev/rollback";
const KINDS: [&str; 3] = ["latencyremediations", "latencyincidents", "latencypolicies"];

/// What somebody has who was given far too much.
fn everything() -> Value {
    json!([{
        "apiGroups": ["latency-operator.dev"],
        "resources": [
            "latencyremediations", "latencyremediations/status", "latencyincidents", "latencyincidents/status",
            "latencypolicies", "latencypolicies/status",
        ],
        "verbs": ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"],
    }])
}

/// What a hostile author would like to have done, and what they would like to have believed.
fn remediation() -> Value {
    json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyRemediation",
        "metadata": {"name": "orders-api-1-grow-1", "finalizers": [UNDO]},
        "spec": {
            "policyRef": {"name": "orders-api", "uid": "p"}, "targetRef": {"name": "orders-api"},
            "incident": "orders-api-1", "remediation": "grow", "attempt": 1, "mode": "Auto",
            "cause": {"name": "WorkersSaturated", "confidence": "Certain", "message": "because"}, "cooldown": "5m", "deadline": "5s",
            "action": {"type": "Scale", "scale": {"targetRef": {"name": "orders-api"}, "uid": "u", "from": 2, "to": 3}},
            "verification": {"after": "1s", "within": "30s", "window": "5s"},
            "rollback": {"maxHold": "1h", "step": 1, "watch": {"evaluation": {}, "objectives": [{
                "name": "p95", "type": "Latency", "latency": {"threshold": "500ms"},
                "source": {"type": "Prometheus", "prometheus": {"preset": "Django"}},
            }]}},
        },
    })
}

fn incident() -> Value {
    json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyIncident", "metadata": {"name": "orders-api-1"},
        "spec": {
            "policyRef": {"name": "orders-api", "uid": "p"}, "targetRef": {"name": "orders-api"}, "ordinal": 1,
            "firstBreachedAt": "2026-11-26T21:00:00Z", "openedAt": "2026-11-26T21:00:30Z",
        },
    })
}

fn policy() -> Value {
    json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy", "metadata": {"name": "orders-api"},
        "spec": {"targetRef": {"name": "orders-api"}},
    })
}

/// Of each kind: the object's name, a status, and another one.
fn of_kind(kind: &str) -> (&'static str, Value, Value) {
    match kind {
        "latencyremediations" => {
            ("orders-api-1-grow-1", json!({"phase": "Verifying"}), json!({"phase": "Proposed"}))
        }
        "latencyincidents" => ("orders-api-1", json!({"phase": "Open"}), json!({"phase": "Closed"})),
        "latencypolicies" => ("orders-api", json!({"incidentOrdinal": 1}), json!({"incidentOrdinal": 7})),
        other => panic!("{other}"),
    }
}

/// A namespace, with an object of each kind as the operator leaves it, and who was given too much.
struct Place<'a> {
    cluster: &'a Cluster,
    namespace: String,
    operator: PathBuf,
    writer: PathBuf,
}

impl<'a> Place<'a> {
    async fn new(cluster: &'a Cluster, namespace: &str) -> Self {
        cluster.plane.namespace(namespace).await.expect("a namespace");
        let operator = cluster.plane.kubeconfig_with_token(NAMESPACE, NAMESPACE).await.expect("a kubeconfig");
        let writer = cluster.person(namespace, &format!("writer-{namespace}"), everything()).await;
        let place = Self { cluster, namespace: namespace.to_owned(), operator, writer };
        // From now on the admission policy is asked: the API server has seen it.
        let refused = async || place.create(&place.writer, &incident(), true).await.err();
        let said = lab::until(SOON, refused).await.expect("the admission policy never was asked");
        place.is_told(&said, "latencyincidents", &place.writer_name());
        place.create(place.cluster.plane.kubeconfig(), &policy(), false).await.expect("a policy");
        for object in [remediation(), incident()] {
            place.create(&place.operator, &object, false).await.expect("the operator creates it");
        }
        place
    }

    fn writer_name(&self) -> String {
        format!("writer-{}", self.namespace)
    }

    async fn run(&self, who: &Path, args: &[&str], input: &str) -> Result<String, String> {
        let args = [&["-n", self.namespace.as_str()], args].concat();
        self.cluster.kubectl_as(who, &args, input).await
    }

    async fn create(&self, who: &Path, object: &Value, try_only: bool) -> Result<String, String> {
        let dry = if try_only { "--dry-run=server" } else { "--dry-run=none" };
        self.run(who, &["create", dry, "-f", "-"], &object.to_string()).await
    }

    async fn patch(&self, who: &Path, kind: &str, patch: &Value) -> Result<String, String> {
        let (name, _, _) = of_kind(kind);
        self.run(who, &["patch", kind, name, "--type=merge", "-p", &patch.to_string()], "").await
    }

    async fn tell(&self, who: &Path, kind: &str, status: &Value) -> Result<String, String> {
        let (name, _, _) = of_kind(kind);
        let patch = json!({"status": status}).to_string();
        self.run(who, &["patch", kind, name, "--subresource=status", "--type=merge", "-p", &patch], "").await
    }

    /// The operator replaces a status, as it does.
    async fn operator_tells(&self, kind: &str, status: &Value) {
        let (name, _, _) = of_kind(kind);
        let text =
            self.run(&self.operator, &["get", kind, name, "-o", "json"], "").await.expect("it is there");
        let mut object: Value = serde_json::from_str(&text).expect("JSON");
        object["status"] = status.clone();
        let args = ["replace", "--subresource=status", "-f", "-"];
        self.run(&self.operator, &args, &object.to_string()).await.expect("the operator tells");
    }

    fn is_told(&self, said: &str, what: &str, who: &str) {
        let wanted = format!("{what}: only the operator ({ACCOUNT}) may write this, and {who} may not");
        assert!(said.contains(&wanted) && said.contains("Forbidden"), "{wanted}\n{said}");
    }

    /// The policy, as an incident names it.
    async fn owner(&self) -> Value {
        let args = ["get", "lp", "orders-api", "-o", "jsonpath={.metadata.uid}"];
        let uid = self.run(&self.operator, &args, "").await.expect("the policy");
        json!({
            "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy", "name": "orders-api", "uid": uid,
            "controller": true, "blockOwnerDeletion": true,
        })
    }

    async fn is_gone(&self, kind: &str) {
        let (name, _, _) = of_kind(kind);
        let args = ["get", kind, name, "--ignore-not-found", "-o", "name"];
        let gone = async || {
            let found = self.run(self.cluster.plane.kubeconfig(), &args, "").await.expect("it is looked for");
            found.is_empty().then_some(())
        };
        lab::until(SOON, gone).await.unwrap_or_else(|| panic!("{kind}/{name} is there"));
    }
}

#[test]
fn nobody_but_the_operator_creates_or_tells_whatever_rights_they_have() {
    run(async {
        let place = Place::new(installed().await, "ledger").await;
        let administrator = place.cluster.plane.kubeconfig();
        for (who, name) in
            [(place.writer.as_path(), place.writer_name()), (administrator, "lab-admin".into())]
        {
            for (object, kind) in [(remediation(), KINDS[0]), (incident(), KINDS[1])] {
                let mut another = object;
                another["metadata"]["name"] = json!("another");
                let said = place.create(who, &another, false).await.expect_err("it was accepted");
                place.is_told(&said, kind, &name);
            }
        }
        for kind in KINDS {
            let (_, status, another) = of_kind(kind);
            let what = format!("{kind}/status");
            // Where there was none, another one, and none any more.
            let said = place.tell(&place.writer, kind, &status).await.expect_err("it was accepted");
            place.is_told(&said, &what, &place.writer_name());
            place.operator_tells(kind, &status).await;
            for lie in [another, Value::Null] {
                for (who, name) in
                    [(place.writer.as_path(), place.writer_name()), (administrator, "lab-admin".into())]
                {
                    let said = place.tell(who, kind, &lie).await.expect_err("it was accepted");
                    place.is_told(&said, &what, &name);
                }
            }
        }
        // The definitions refuse it to everybody.
        for kind in &KINDS[..2] {
            let patch = json!({"spec": {"policyRef": {"name": "another"}}});
            place.patch(&place.writer, kind, &patch).await.expect_err("it was accepted");
        }
    });
}

#[test]
fn nobody_but_the_operator_says_what_of_a_budget_is_used() {
    run(async {
        let place = Place::new(installed().await, "counted").await;
        let budget = json!({
            "apiVersion": "latency-operator.dev/v1alpha1", "kind": "RemediationBudget",
            "metadata": {"name": "counted"}, "spec": {"maxActionsPerHour": 10},
        });
        let administrator = place.cluster.plane.kubeconfig();
        place.create(administrator, &budget, false).await.expect("an administrator creates it");
        let usage = json!({"usage": {"actionsInLastHour": 3, "openRemediations": 0, "frozen": "None"}});
        let patch = json!({"status": usage}).to_string();
        let args = ["patch", "rb", "counted", "--subresource=status", "--type=merge", "-p", &patch];
        let said = place.run(administrator, &args, "").await.expect_err("it was accepted");
        place.is_told(&said, "remediationbudgets/status", "lab-admin");
    });
}

#[test]
fn others_label_annotate_and_delete() {
    run(async {
        let place = Place::new(installed().await, "labelled").await;
        for kind in KINDS {
            place.operator_tells(kind, &of_kind(kind).1).await;
        }
        for kind in &KINDS[..2] {
            let owners = json!([place.owner().await]);
            let held =
                if *kind == KINDS[0] { json!([UNDO, "lab.test/hold"]) } else { json!(["lab.test/hold"]) };
            let left = if *kind == KINDS[0] { json!([UNDO]) } else { json!([]) };
            for patch in [
                json!({"metadata": {"labels": {"team": "web"}}}),
                json!({"metadata": {"annotations": {"seen-by": "jane"}}}),
                json!({"metadata": {"finalizers": held, "ownerReferences": owners}}),
                json!({"metadata": {"finalizers": left, "ownerReferences": null}}),
            ] {
                let said = place.patch(&place.writer, kind, &patch).await;
                assert!(said.is_ok(), "{kind} {patch}: {said:?}");
            }
        }
        let delete = |kind| ["delete", kind, of_kind(kind).0, "--wait=false"];
        for kind in KINDS {
            place.run(&place.writer, &delete(kind), "").await.expect("it is deleted");
        }
        place.is_gone(KINDS[1]).await;
        // What is owed keeps it, until the operator lets go.
        let (name, _, _) = of_kind(KINDS[0]);
        let args = ["get", KINDS[0], name, "-o", "jsonpath={.metadata.deletionTimestamp}"];
        let since = place.run(&place.writer, &args, "").await.expect("it is there");
        assert!(!since.is_empty());
        place
            .patch(&place.operator, KINDS[0], &json!({"metadata": {"finalizers": []}}))
            .await
            .expect("it lets go");
        place.is_gone(KINDS[0]).await;
        // And the operator itself deletes what no window counts any more.
        for (object, kind) in [(remediation(), KINDS[0]), (incident(), KINDS[1])] {
            let mut object = object;
            object["metadata"]["finalizers"] = json!([]);
            place.create(&place.operator, &object, false).await.expect("it is created");
            place.run(&place.operator, &delete(kind), "").await.expect("it is deleted");
            place.is_gone(kind).await;
        }
    });
}

#[test]
fn what_is_owed_is_kept_by_its_finalizer_from_all_who_may_not_abandon_it() {
    run(async {
        let place = Place::new(installed().await, "owing").await;
        let free = json!({"metadata": {"finalizers": null}});
        let held = json!({"metadata": {"finalizers": [UNDO]}});
        let refused = async |patch: &Value| {
            let said = place.patch(&place.writer, KINDS[0], patch).await.expect_err("it was accepted");
            let wanted = "writer-owing may not, for want of the verb abandon on latencyremediations orders-api-1-grow-1 \
                          in namespace owing";
            assert!(said.contains(wanted) && said.contains(UNDO) && said.contains(ACCOUNT), "{said}");
        };
        refused(&free).await;
        // Whoever is given that verb, and whoever may do everything.
        let mut rules = everything();
        let verbs = json!({
            "apiGroups": ["latency-operator.dev"], "resources": ["latencyremediations"],
            "resourceNames": [of_kind(KINDS[0]).0], "verbs": ["abandon"],
        });
        rules.as_array_mut().expect("rules").push(verbs);
        let heir = place.cluster.person("owing", "heir-owing", rules).await;
        for who in [heir.as_path(), place.cluster.plane.kubeconfig()] {
            place.patch(who, KINDS[0], &free).await.expect("it lets go");
            refused(&held).await;
            place.patch(who, KINDS[0], &held).await.expect("it holds");
        }
        // The verb is for that alone.
        let said = place.tell(&heir, KINDS[0], &of_kind(KINDS[0]).1).await.expect_err("it was accepted");
        place.is_told(&said, "latencyremediations/status", "heir-owing");
    });
}

#[test]
fn the_clusters_own_roles_write_nothing_of_it() {
    run(async {
        let place = Place::new(installed().await, "editing").await;
        for role in ["edit", "admin"] {
            let name = format!("{role}-editing");
            let (user, role) = (format!("--user={name}"), format!("--clusterrole={role}"));
            place.cluster.kubectl(&["create", "rolebinding", &name, "-n", "editing", &role, &user], "").await;
            let who = place.cluster.plane.kubeconfig_for(&name, &[]).expect("a kubeconfig");
            let args = ["auth", "can-i", "create", "latencypolicies.latency-operator.dev"];
            let may = async || place.run(&who, &args, "").await.ok();
            lab::until(SOON, may).await.expect("the role never had what is aggregated to it");
            let mut another = incident();
            another["metadata"]["name"] = json!("another");
            let mut tried = vec![place.create(&who, &another, false).await];
            for kind in KINDS {
                tried.push(place.tell(&who, kind, &of_kind(kind).1).await);
            }
            for kind in &KINDS[..2] {
                tried.push(place.patch(&who, kind, &json!({"metadata": {"labels": {"team": "web"}}})).await);
                tried.push(place.run(&who, &["delete", kind, of_kind(kind).0], "").await);
            }
            for said in tried {
                let said = said.expect_err("it was accepted");
                assert!(said.contains(&format!("User \"{name}\" cannot")), "{said}");
            }
        }
    });
}

#[test]
fn controllers_of_the_cluster_tidy_up() {
    run(async {
        let place = Place::new(installed().await, "tidying").await;
        let gone = json!({
            "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy", "name": "gone", "uid": "gone",
        });
        let mut owned = incident();
        owned["metadata"] = json!({"name": "owned", "ownerReferences": [place.owner().await, gone]});
        place.create(&place.operator, &owned, false).await.expect("it is created");
        // The garbage collector takes the owner away that is not there.
        let args = ["get", "li", "owned", "-o", "jsonpath={.metadata.ownerReferences[*].name}"];
        let tidied = async || {
            let owners = place.run(&place.operator, &args, "").await.expect("it has stayed");
            (owners == "orders-api").then_some(())
        };
        lab::until(SOON, tidied).await.expect("the garbage collector never took the owner away");
        // And everything goes with the namespace.
        place
            .patch(&place.operator, KINDS[0], &json!({"metadata": {"finalizers": []}}))
            .await
            .expect("it lets go");
        place.cluster.kubectl(&["delete", "namespace", "tidying", "--timeout=50s"], "").await;
    });
}

#[test]
fn a_spec_that_could_change_is_the_operators_and_without_a_release_all_is_as_the_rights_say() {
    run(async {
        let cluster = Cluster::empty().await;
        let release = Release::new(json!({}));
        let done = cluster.helm.install(&cluster.plane, &release).await.expect("helm runs");
        done.success("installing").expect("it is installed");
        cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"], "").await;
        let place = Place::new(&cluster, "shop").await;
        // A definition that lets it be changed.
        let name = "crd/latencyremediations.latency-operator.dev";
        let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations";
        let patch = json!([{"op": "remove", "path": path}]).to_string();
        cluster.kubectl(&["patch", name, "--type=json", "-p", &patch], "").await;
        let patch = json!({"spec": {"cause": {"message": "as I say"}}});
        let refused = async || {
            let said = place.patch(&place.writer, KINDS[0], &patch).await.expect_err("it was accepted");
            said.contains("only the operator").then_some(said)
        };
        let said = lab::until(SOON, refused).await.expect("the definition never changed");
        place.is_told(&said, KINDS[0], "writer-shop");
        place.patch(&place.operator, KINDS[0], &patch).await.expect("the operator may");

        // No Node runs the drain here: what is owed is left. The way out is that of docs/configuration.md.
        let done =
            cluster.helm.uninstall(&cluster.plane, &release, &["--no-hooks"]).await.expect("helm runs");
        done.success("uninstalling").expect("it is gone");
        let free = json!({"metadata": {"finalizers": null}});
        let freed = async || place.patch(&place.writer, KINDS[0], &free).await.ok();
        lab::until(SOON, freed).await.expect("the admission policy never went");
        let mut another = incident();
        another["metadata"]["name"] = json!("another");
        place.create(&place.writer, &another, false).await.expect("nobody is asked any more");
    });
}

#[test]
fn the_expressions_are_of_the_right_types() {
    run(async {
        let all = rendered(&json!({})).await;
        let right = find(&all, "ValidatingAdmissionPolicy", NAME);
        let mut wrong = right.clone();
        let text = wrong["spec"]
            .to_string()
            .replace("object.spec", "object.spek")
            .replace("finalizers.or", "finals.or");
        wrong["spec"] = serde_json::from_str(&text).expect("JSON");
        let told = |told: &[String]| {
            let of = |field: &str| {
                told.iter().any(|warning| warning.contains(&format!("undefined field '{field}'")))
            };
            of("spek") && of("finals")
        };
        installed().await.types_are_right(right, &wrong, told).await;
    });
}

#[test]
fn every_status_is_the_operators_and_the_operator_is_the_account_that_it_runs_as() {
    run(async {
        let values = json!({"serviceAccount": {"name": "healer"}});
        let all = rendered(&values).await;
        let policy = find(&all, "ValidatingAdmissionPolicy", NAME);
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        let condition = policy["spec"]["matchConditions"][0]["expression"].as_str().expect("an expression");
        assert_eq!(condition, "request.userInfo.username != 'system:serviceaccount:latency-operator:healer'");
        let asked = &policy["spec"]["matchConstraints"]["resourceRules"][0]["resources"];
        let definitions: Vec<&Value> =
            all.iter().filter(|object| object["kind"] == "CustomResourceDefinition").collect();
        assert!(definitions.len() >= 4);
        for definition in definitions {
            let has_status = definition["spec"]["versions"][0]["subresources"].get("status").is_some();
            let status =
                json!(format!("{}/status", definition["spec"]["names"]["plural"].as_str().expect("it")));
            let is_asked = asked.as_array().expect("resources").contains(&status);
            assert_eq!(is_asked, has_status, "{status}");
        }
        let without =
            rendered(&json!({"config": {"secrets": "Labelled"}, "authorRights": {"enabled": false}})).await;
        assert!(!without.iter().any(|object| object["metadata"]["name"] == NAME));
    });
}
