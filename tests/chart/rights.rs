//! What the operator is granted: what its actions need, where it needs it.

use std::collections::BTreeSet;

use engine::actions::ACTIONS;
use serde_json::{Value, json};

use crate::support::{find, rendered, run};

/// Everything that these rules grant, one verb at a time: `group/resource[name] verb`.
fn grants(role: &Value) -> BTreeSet<String> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|word| word.as_str().expect("a word").to_owned()).collect()
    };
    let mut found = BTreeSet::new();
    for rule in role["rules"].as_array().expect("rules") {
        let names = words(&rule["resourceNames"]);
        let names = if names.is_empty() { String::new() } else { format!("[{}]", names.join(",")) };
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                for verb in words(&rule["verbs"]) {
                    assert!(
                        found.insert(format!("{group}/{resource}{names} {verb}")),
                        "granted twice: {rule}"
                    );
                }
            }
        }
    }
    found
}

fn set(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

const SCALE: [&str; 4] = [
    "apps/deployments/scale patch",
    "apps/statefulsets/scale patch",
    "autoscaling/horizontalpodautoscalers list",
    "keda.sh/scaledobjects list",
];

/// What each action needs of Kubernetes, beside what looking needs. Sessions are signalled in the database; what WarmCache
/// asks for is found as what a probe asks for.
fn of_action(action: &str) -> BTreeSet<String> {
    match action {
        "Scale" | "ShedWorkers" => set(&SCALE),
        "CancelQuery" | "TerminateIdle" | "WarmCache" => BTreeSet::new(),
        other => panic!("which rights does {other} need?"),
    }
}

async fn with_actions(actions: &[String]) -> BTreeSet<String> {
    let all = rendered(&json!({"config": {"actions": actions}})).await;
    grants(find(&all, "ClusterRole", "latency-operator"))
}

#[test]
fn an_action_brings_exactly_its_rights_and_takes_them_along_when_it_is_switched_off() {
    run(async {
        let kinds: Vec<String> = ACTIONS.iter().map(|line| line.kind.to_string()).collect();
        let (whole, none) = (with_actions(&kinds).await, with_actions(&[]).await);
        for kind in &kinds {
            let alone = with_actions(std::slice::from_ref(kind)).await;
            let brought: BTreeSet<String> = alone.difference(&none).cloned().collect();
            assert_eq!(brought, of_action(kind), "with {kind} alone");
            // What another action needs, too, stays.
            let others: Vec<String> = kinds.iter().filter(|other| *other != kind).cloned().collect();
            let needed: BTreeSet<String> = others.iter().flat_map(|other| of_action(other)).collect();
            let left = with_actions(&others).await;
            let gone: BTreeSet<String> = whole.difference(&left).cloned().collect();
            let own: BTreeSet<String> = of_action(kind).difference(&needed).cloned().collect();
            assert_eq!(gone, own, "without {kind}");
            assert!(left.is_subset(&whole));
        }
    });
}

/// What looking and telling need in every namespace.
const LOOKS: [&str; 35] = [
    "/pods list",
    "/secrets get",
    "/services get",
    "apps/deployments get",
    "apps/deployments list",
    "apps/deployments watch",
    "apps/statefulsets get",
    "apps/statefulsets list",
    "apps/statefulsets watch",
    "discovery.k8s.io/endpointslices list",
    "events.k8s.io/events create",
    "latency-operator.dev/latencyincidents create",
    "latency-operator.dev/latencyincidents delete",
    "latency-operator.dev/latencyincidents get",
    "latency-operator.dev/latencyincidents list",
    "latency-operator.dev/latencyincidents/status update",
    "latency-operator.dev/latencypolicies get",
    "latency-operator.dev/latencypolicies list",
    "latency-operator.dev/latencypolicies watch",
    "latency-operator.dev/latencypolicies/finalizers update",
    "latency-operator.dev/latencypolicies/status patch",
    "latency-operator.dev/latencypolicies/status update",
    "latency-operator.dev/latencyremediations create",
    "latency-operator.dev/latencyremediations delete",
    "latency-operator.dev/latencyremediations get",
    "latency-operator.dev/latencyremediations list",
    "latency-operator.dev/latencyremediations patch",
    "latency-operator.dev/latencyremediations watch",
    "latency-operator.dev/latencyremediations/status update",
    "latency-operator.dev/remediationbudgets list",
    "latency-operator.dev/remediationbudgets watch",
    "latency-operator.dev/remediationbudgets/status patch",
    "/namespaces get",
    "/namespaces list",
    "/namespaces watch",
];

#[test]
fn who_only_looks_may_change_nothing_but_the_operators_own_kinds_and_events() {
    run(async {
        assert_eq!(with_actions(&[]).await, set(&LOOKS));
    });
}

#[test]
fn in_named_namespaces_the_rights_are_theirs_alone() {
    run(async {
        let all = rendered(&json!({"config": {"watchNamespaces": ["shop", "web"]}})).await;
        let of_cluster = grants(find(&all, "ClusterRole", "latency-operator"));
        let named = "/namespaces[shop,web]";
        let wanted = [
            "latency-operator.dev/remediationbudgets list".to_owned(),
            "latency-operator.dev/remediationbudgets watch".to_owned(),
            "latency-operator.dev/remediationbudgets/status patch".to_owned(),
            format!("{named} get"),
            format!("{named} list"),
            format!("{named} watch"),
        ];
        assert_eq!(of_cluster, wanted.into_iter().collect());
        let is_cluster =
            |right: &str| right.contains("/namespaces ") || right.contains("/remediationbudgets");
        let wanted: BTreeSet<String> =
            set(&LOOKS).into_iter().filter(|right| !is_cluster(right)).chain(set(&SCALE)).collect();
        let roles: Vec<&Value> = all
            .iter()
            .filter(|object| object["kind"] == "Role" && object["metadata"]["name"] == "latency-operator")
            .collect();
        let places: Vec<&Value> = roles.iter().map(|role| &role["metadata"]["namespace"]).collect();
        assert_eq!(places, ["shop", "web"]);
        for role in roles {
            assert_eq!(grants(role), wanted);
        }
        let server = find(&all, "Role", "latency-operator-api-server");
        assert_eq!(server["metadata"]["namespace"], "default");
        let wanted = ["/services[kubernetes] get", "discovery.k8s.io/endpointslices list"];
        assert_eq!(grants(server), set(&wanted));
        for name in ["latency-operator-author-rights", "latency-operator-ledger", "latency-operator-words"] {
            let binding = find(&all, "ValidatingAdmissionPolicyBinding", name);
            let selected = &binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"][0];
            assert_eq!(selected["values"], json!(["shop", "web"]), "{name}");
        }
    });
}

#[test]
fn the_lease_is_one_by_name() {
    run(async {
        for (values, name) in
            [(json!({}), "latency-operator"), (json!({"config": {"lease": {"name": "mine"}}}), "mine")]
        {
            let all = rendered(&values).await;
            let role = find(&all, "Role", "latency-operator-lease");
            assert_eq!(role["metadata"]["namespace"], "latency-operator");
            let of = |verb: &str| format!("coordination.k8s.io/leases[{name}] {verb}");
            let mut wanted: BTreeSet<String> =
                ["get", "update", "delete"].iter().map(|verb| of(verb)).collect();
            wanted.insert("coordination.k8s.io/leases create".to_owned());
            assert_eq!(grants(role), wanted);
        }
    });
}

#[test]
fn people_see_everything_and_write_policies_only() {
    run(async {
        let all = rendered(&json!({})).await;
        let view = find(&all, "ClusterRole", "latency-operator-view");
        let edit = find(&all, "ClusterRole", "latency-operator-edit");
        for right in grants(view) {
            assert!(["get", "list", "watch"].iter().any(|verb| right.ends_with(verb)), "{right}");
        }
        for right in grants(edit) {
            assert!(right.starts_with("latency-operator.dev/latencypolicies "), "{right}");
        }
        let joins = |role: &Value, to: &str| {
            let label = format!("rbac.authorization.k8s.io/aggregate-to-{to}");
            role["metadata"]["labels"].get(&label) == Some(&json!("true"))
        };
        assert!(["view", "edit", "admin"].iter().all(|to| joins(view, to)));
        assert!(!joins(edit, "view") && joins(edit, "edit") && joins(edit, "admin"));
    });
}

#[test]
fn every_binding_is_of_the_operators_account() {
    run(async {
        let values = json!({"config": {"watchNamespaces": ["shop"]}, "serviceAccount": {"name": "healer"}});
        let all = rendered(&values).await;
        let bindings: Vec<&Value> = all
            .iter()
            .filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("RoleBinding")))
            .collect();
        assert_eq!(bindings.len(), 4);
        let account = json!([{"kind": "ServiceAccount", "name": "healer", "namespace": "latency-operator"}]);
        for binding in bindings {
            assert_eq!(binding["subjects"], account);
        }
        find(&all, "ServiceAccount", "healer");
        for (kind, name) in [("Deployment", "latency-operator"), ("Job", "latency-operator-drain")] {
            assert_eq!(find(&all, kind, name)["spec"]["template"]["spec"]["serviceAccountName"], "healer");
        }
    });
}
