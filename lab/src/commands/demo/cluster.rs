//! What the demo has in Kubernetes: the application's Deployment, the operator's rights, and the policy.

use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use lab::{Cluster, Error, Helm, Release, Result, workspace};
use serde_json::{Value, json};

use super::cache;
use super::database::{self, NAME, OPERATOR as OPERATOR_ROLE};
use super::fault::Fault;
use super::mode::Mode;
use super::real;
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
    tokio::try_join!(stack.plane().namespace(NAMESPACE), stack.plane().namespace(OPERATOR))?;
    match stack.kubernetes.real() {
        None => prepare_played(stack).await,
        Some(cluster) => prepare_real(stack, cluster).await,
    }
}

async fn prepare_played(stack: &Stack) -> Result<()> {
    stack
        .session
        .say("applying crds/, the chart's account and rights, demo/manifests/ and the Secrets that lead to the data stores");
    let helm = Helm::find_or_build(&stack.session).await?;
    stack.plane().rights_of(&helm, &Release::new(json!({}))).await?;
    let [crds, manifests] = ["crds", "demo/manifests"].map(|path| workspace::root().join(path));
    let [crds, manifests] = [&crds, &manifests].map(|path| path.display().to_string());
    let args = ["apply", "--server-side", "--filename", &crds, "--filename", &manifests, "--filename", "-"];
    kubectl(stack, &args, &list(secrets(stack)).to_string()).await?;
    let established = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
    kubectl(stack, &established, "").await.map(drop)
}

/// The chart brings the definitions, the account and the rights.
async fn prepare_real(stack: &Stack, cluster: &Cluster) -> Result<()> {
    stack.session.say("applying demo/manifests/, as Pods that run, Services for the data stores, and the Secrets that lead there");
    real::publish(stack, cluster).await?;
    let manifests = workspace::root().join("demo/manifests").display().to_string();
    let read = ["create", "--dry-run=client", "--output=json", "--filename", &manifests];
    // One object after the other.
    let read = kubectl(stack, &read, "").await?;
    let objects: std::result::Result<Vec<Value>, _> =
        serde_json::Deserializer::from_str(&read).into_iter().collect();
    let objects = objects.map_err(|error| {
        Error::setup("reading demo/manifests/ as JSON", error.to_string(), "see what kubectl printed")
    })?;
    let mut all = list(objects);
    real::run(&mut all, stack)?;
    if let Some(items) = all.pointer_mut("/items").and_then(Value::as_array_mut) {
        items.extend(secrets(stack));
        items.push(real::secret(stack));
    }
    kubectl(stack, &["apply", "--server-side", "--filename", "-"], &all.to_string()).await?;
    let timeout = format!("--timeout={}s", LIMIT.as_secs());
    let deployment = format!("deployment/{TARGET}");
    let rolled_out = ["rollout", "status", "-n", NAMESPACE, &deployment, &timeout];
    kubectl(stack, &rolled_out, "").await.map(drop)
}

fn list(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// What leads the operator to the data stores.
fn secrets(stack: &Stack) -> Vec<Value> {
    let is_real = stack.kubernetes.real().is_some();
    let (host, port) = match is_real {
        true => real::DATABASE,
        false => ("127.0.0.1", stack.database.server.port()),
    };
    let database = json!({
        "host": host,
        "port": port.to_string(),
        "dbname": NAME,
        "user": OPERATOR_ROLE,
        "password": stack.database.password(OPERATOR_ROLE),
    });
    let cache = stack.known_cache().map(|cache| {
        let (host, port) = if is_real { real::CACHE } else { ("127.0.0.1", cache.server.port()) };
        let data = json!({
            "host": host,
            "port": port.to_string(),
            "user": cache::OPERATOR,
            "password": cache.operator,
        });
        secret("orders-redis", &data)
    });
    std::iter::once(secret("orders-db", &database)).chain(cache).collect()
}

/// Applies the policy of a fault, and waits until the operator says that it watches and that all is well.
pub(super) async fn watch_over(stack: &Stack, fault: Fault, mode: Mode) -> Result<()> {
    stack.session.say(&format!("applying {} in mode {}", fault.policy(), mode.name()));
    let policy = mode.of(&database::read(&fault.policy())?)?;
    kubectl(stack, &["apply", "--server-side", "--filename", "-"], &policy).await?;
    let policies = objects(stack.plane().client().await?, "LatencyPolicy", "latencypolicies");
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
            format!("it is not after {}; its conditions are:\n    {last}", lab::patience::told(LIMIT)),
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
    let finished = stack.plane().kubectl_run(args, input).await?;
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
        "kind": "OperatorConfig",
        "backends": [backend(prometheus)],
        "watchNamespaces": [NAMESPACE],
        "lease": lab::operator::lease(OPERATOR, "latency-operator"),
    })
    .to_string()
}

/// The metrics backend, as the configuration and the chart's values have it.
pub(super) fn backend(url: &str) -> Value {
    json!({
        "name": "default",
        "url": url,
        "scrapeInterval": "1s",
        "timeout": "2s",
        "edgeNamespaceLabel": EDGE_NAMESPACE_LABEL,
    })
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
