//! Words that this version does not know: the API server keeps them, and warns of them.

use serde_json::{Value, json};

use crate::support::{Cluster, SOON, installed, run};

/// What kubectl prints beside its result. Nothing is stored.
async fn warnings(cluster: &Cluster, change: impl FnOnce(&mut Value)) -> String {
    let mut policy = json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy",
        "metadata": {"name": "orders-api", "namespace": "default"},
        "spec": {
            "targetRef": {"name": "orders-api"},
            "dependencies": [{"name": "cache", "type": "Redis", "secretRef": {"name": "cache"}, "redis": {}}],
            "remediations": [{"name": "warm", "causes": ["ColdCache"], "action": {"type": "WarmCache", "warmCache": {
                "serviceName": "orders-api", "port": "http", "paths": ["/"],
            }}}],
        },
    });
    change(&mut policy);
    let args = ["create", "--dry-run=server", "-f", "-"];
    let finished = cluster.plane.kubectl_run(&args, &policy.to_string()).await.expect("kubectl runs");
    assert!(finished.status.success(), "{}", finished.stderr);
    finished.stderr
}

#[test]
fn an_unknown_word_is_kept_and_warned_of() {
    run(async {
        let cluster = installed().await;
        let mode = |policy: &mut Value| policy["spec"]["mode"] = json!("Pray");
        // The API server sees a new admission policy after a moment.
        let warned = async || Some(warnings(cluster, mode).await).filter(|said| said.contains("Warning"));
        let said = lab::until(SOON, warned).await.expect("a warning");
        assert!(
            said.contains("spec.mode has a word that this version does not know; it knows Observe and Auto"),
            "{said}"
        );
        let cause = |policy: &mut Value| policy["spec"]["remediations"][0]["causes"] = json!(["Gremlins"]);
        let said = warnings(cluster, cause).await;
        assert!(
            said.contains("spec.remediations[].causes[] has a word") && said.contains("ColdCache"),
            "{said}"
        );
        let role = |policy: &mut Value| policy["spec"]["dependencies"][0]["redis"]["role"] = json!("Queue");
        let said = warnings(cluster, role).await;
        assert!(said.contains("spec.dependencies[].redis.role has a word"), "{said}");
        assert_eq!(warnings(cluster, |_| ()).await, "", "all words are known");
    });
}
