//! What the demo has in Kubernetes: the application's Deployment, the operator's rights, and the policy.

use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use lab::{Error, Helm, Release, Result, workspace};
use serde_json::{Value, json};

use super::cache::{self, Cache};
use super::database::{self, NAME, OPERATOR as OPERATOR_ROLE};
use super::fault::Fault;
use super::mode::Mode;
use super::stack::Stack;

pub(super) const NAMESPACE: &str = "shop";
/// The Deployment, and the policy that guards it.
pub(super) const TARGET: &str = "orders-api";
/// The account as which the operator talks to the API server, and its namespace.
pub(super) const OPERATOR: &str = "latency-operator";
/// Where the edge's series carry the namespace of what they serve.
pub(super) const EDGE_NAMESPACE_LABEL: &str = "exported_namespace";
/// Many times what anything here takes.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Installs the operator's kinds and rights, and the application.
pub(super) async fn prepare(stack: &Stack) -> Result<()> {
    stack
        .session
        .say("applying crds/, the chart's account and rights, demo/manifests/ and the Secrets that lead to the data stores");
    tokio::try_join!(stack.plane.namespace(NAMESPACE), stack.plane.namespace(OPERATOR))?;
    let helm = Helm::find_or_build(&stack.session).await?;
    stack.plane.rights_of(&helm, &Release::new(json!({}))).await?;
    let mut items = vec![database_secret(stack)];
    items.extend(stack.known_cache().map(cache_secret));
    let own = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let mut args = vec!["apply".to_owned(), "--server-side".to_owned()];
    for path in ["crds", "demo/manifests"] {
        args.extend(["--filename".to_owned(), workspace::root().join(path).display().to_string()]);
    }
    args.extend(["--filename".to_owned(), "-".to_owned()]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    kubectl(stack, &args, &own.to_string()).await?;
    let established = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
    kubectl(stack, &established, "").await.map(drop)
}

/// Applies the policy of a fault, and waits until the operator says that it watches and that all is well.
pub(super) async fn watch_over(stack: &Stack, fault: Fault, mode: Mode) -> Result<()> {
    stack.session.say(&format!("applying {} in mode {}", fault.policy(), mode.name()));
    let policy = mode.of(&database::read(&fault.policy())?)?;
    kubectl(stack, &["apply", "--server-side", "--filename", "-"], &policy).await?;
    let policies = objects(stack.plane.client().await?, "LatencyPolicy", "latencypolicies");
    let mut last = String::new();
    let look = lab::until(LIMIT, async || {
        let policy = policies.get_opt(TARGET).await.ok().flatten()?;
        let seen = policy.data.pointer("/status/observedGeneration").and_then(Value::as_i64);
        if seen != policy.metadata.generation {
            return None;
        }
        let conditions = policy.data.pointer("/status/conditions").and_then(Value::as_array)?;
        last = conditions.iter().map(describe).collect::<Vec<_>>().join("\n    ");
        ["Ready", "DataAvailable", "WithinObjective"].iter().all(|kind| holds(conditions, kind)).then_some(())
    });
    let found = look.await;
    stack.must_run()?;
    found.ok_or_else(|| {
        Error::setup(
            format!("waiting until the policy {TARGET} is Ready, DataAvailable and WithinObjective"),
            format!("it is not after {LIMIT:?}; its conditions are:\n    {last}"),
            "each condition says what it lacks",
        )
    })
}

fn holds(conditions: &[Value], kind: &str) -> bool {
    let is = |condition: &&Value| text(condition, "/type") == kind;
    conditions.iter().find(is).is_some_and(|condition| text(condition, "/status") == "True")
}

fn describe(condition: &Value) -> String {
    let part = |name: &str| text(condition, name);
    format!("{}={} ({}): {}", part("/type"), part("/status"), part("/reason"), part("/message"))
}

/// The text at a place of an object; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Runs kubectl and returns what it prints; it must succeed.
pub(super) async fn kubectl(stack: &Stack, args: &[&str], input: &str) -> Result<String> {
    let finished = stack.plane.kubectl_run(args, input).await?;
    Ok(finished.success(&format!("running kubectl {}", args.join(" ")))?.stdout)
}

/// One of the operator's kinds, without its types: the laboratory does not depend on what it tests.
pub(super) fn objects(client: Client, kind: &str, plural: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("latency-operator.dev", "v1alpha1", kind);
    Api::namespaced_with(client, NAMESPACE, &ApiResource::from_gvk_with_plural(&kind, plural))
}

/// The operator's configuration file: times of the laboratory, where everything is a loopback away.
pub(super) fn operator_config(prometheus: &str) -> String {
    json!({
        "apiVersion": "config.latency-operator.dev/v1alpha1",
        "backends": [{
            "name": "default",
            "url": prometheus,
            "scrapeInterval": "1s",
            "timeout": "2s",
            "edgeNamespaceLabel": EDGE_NAMESPACE_LABEL,
        }],
        "watchNamespaces": [NAMESPACE],
        "lease": {"namespace": OPERATOR, "duration": "3s", "renewDeadline": "2s", "retryPeriod": "500ms"},
    })
    .to_string()
}

/// The label is the owner's word that the operator may read it.
fn secret(name: &str, data: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"latency-operator.dev/allowed": "true"},
        },
        "stringData": data,
    })
}

fn database_secret(stack: &Stack) -> Value {
    let data = json!({
        "host": "127.0.0.1",
        "port": stack.database.server.port().to_string(),
        "dbname": NAME,
        "user": OPERATOR_ROLE,
        "password": stack.database.password(OPERATOR_ROLE),
    });
    secret("orders-db", &data)
}

fn cache_secret(cache: &Cache) -> Value {
    let data = json!({
        "host": "127.0.0.1",
        "port": cache.server.port().to_string(),
        "user": cache::OPERATOR,
        "password": cache.operator,
    });
    secret("orders-redis", &data)
}
