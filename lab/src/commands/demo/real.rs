//! The demo on a real node: the application as Pods of its own Deployment, and the operator from its chart and image.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{Cluster, Error, Helm, Release, Result, workspace};
use serde_json::{Value, json};

use super::cluster::{self, LIMIT, NAMESPACE, OPERATOR, TARGET};
use super::database::{APPLICATION, NAME};
use super::stack::Stack;
use super::upstream;

/// Where Pods find the database and the cache: the names of Services.
pub(super) const DATABASE: (&str, u16) = ("orders-db", 5432);
pub(super) const CACHE: (&str, u16) = ("orders-redis", 6379);
const PROMETHEUS: (&str, u16) = ("prometheus", 9090);
const MONITORING: &str = "monitoring";
/// The application's own passwords.
const SECRET: &str = "orders-api";
/// Where a Pod may write.
const SCRATCH: &str = "/tmp";
/// The machine's own libraries and programs.
const SYSTEM: [&str; 4] = ["/usr", "/lib", "/lib64", "/bin"];

/// Makes what runs beside the cluster Services of it.
pub(super) async fn publish(stack: &Stack, cluster: &Cluster) -> Result<()> {
    stack.plane().namespace(MONITORING).await?;
    let database = stack.database.server.port();
    stack.hold(cluster.publish((NAMESPACE, DATABASE.0), DATABASE.1, database).await?);
    stack.hold(cluster.publish((MONITORING, PROMETHEUS.0), PROMETHEUS.1, stack.prometheus.port()).await?);
    if let Some(cache) = stack.known_cache() {
        stack.hold(cluster.publish((NAMESPACE, CACHE.0), CACHE.1, cache.server.port()).await?);
    }
    Ok(())
}

/// The Secret that the Pods take their passwords from.
pub(super) fn secret(stack: &Stack) -> Value {
    let mut data = json!({"PGPASSWORD": stack.database.password(APPLICATION)});
    if let (Some(cache), Some(data)) = (stack.known_cache(), data.as_object_mut()) {
        data.insert("REDIS_URL".to_owned(), cache.url_at(&format!("{}:{}", CACHE.0, CACHE.1)).into());
    }
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": NAMESPACE},
        "stringData": data,
    })
}

/// Makes the objects of demo/manifests/ run: the Deployment's container gets what kwok does not need, which is this machine's
/// Python in an image with nothing in it.
pub(super) fn run(objects: &mut Value, stack: &Stack) -> Result<()> {
    let missing =
        || Error::setup("reading demo/manifests/", "there is no Deployment with a container", "mend it");
    let items = objects.pointer_mut("/items").and_then(Value::as_array_mut).ok_or_else(missing)?;
    let deployment = items.iter_mut().find(|item| cluster::text(item, "/kind") == "Deployment");
    let pod = deployment.and_then(|one| one.pointer_mut("/spec/template/spec")).ok_or_else(missing)?;
    let folders = folders(stack);
    merge(pod, volumes(&folders));
    // There is a scheduler.
    pod.as_object_mut().map(|pod| pod.remove("nodeName"));
    let container = pod.pointer_mut("/containers/0").ok_or_else(missing)?;
    let application = workspace::root().join("demo/app").display().to_string();
    let config = format!("{application}/gunicorn.conf.py");
    let mut command = stack.venv.command("gunicorn");
    command.extend(["--config", &config, "--chdir", &application].map(str::to_owned));
    merge(
        container,
        json!({
            "image": lab::node::EMPTY_IMAGE,
            "imagePullPolicy": "Never",
            "command": command,
            "workingDir": SCRATCH,
            "env": environment(stack)?,
            "envFrom": [{"secretRef": {"name": SECRET}}],
            "volumeMounts": mounts(&folders),
            "securityContext": {
                "readOnlyRootFilesystem": true,
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
            },
        }),
    );
    Ok(())
}

/// Puts the members of an object into another one.
fn merge(into: &mut Value, members: Value) {
    if let (Some(into), Value::Object(members)) = (into.as_object_mut(), members) {
        into.extend(members);
    }
}

fn environment(stack: &Stack) -> Result<Value> {
    let text = |name: &str, value: &str| json!({"name": name, "value": value});
    let delay = upstream::delay_file(&stack.session)?;
    Ok(json!([
        text("BIND", "0.0.0.0:8000"),
        text("METRICS_BIND", "0.0.0.0:9000"),
        text("PROMETHEUS_MULTIPROC_DIR", &format!("{SCRATCH}/metrics")),
        text("PYTHONDONTWRITEBYTECODE", "1"),
        text("HOME", SCRATCH),
        text("LANG", "C.UTF-8"),
        text("UPSTREAM_DELAY_FILE", &delay.display().to_string()),
        text("PGHOST", DATABASE.0),
        text("PGPORT", &DATABASE.1.to_string()),
        text("PGDATABASE", NAME),
        text("PGUSER", APPLICATION),
    ]))
}

/// What the Pods read of this machine, each at its own place.
fn folders(stack: &Stack) -> Vec<PathBuf> {
    let system = SYSTEM.iter().map(PathBuf::from).filter(|folder| folder.exists());
    let delay = upstream::folder(&stack.session);
    system.chain(stack.venv.folders()).chain([workspace::root().join("demo/app"), delay]).collect()
}

fn volumes(folders: &[PathBuf]) -> Value {
    let of_machine = folders.iter().enumerate().map(|(number, folder)| {
        json!({"name": format!("machine-{number}"), "hostPath": {"path": folder, "type": "Directory"}})
    });
    let scratch = json!({"name": "scratch", "emptyDir": {}});
    json!({"volumes": of_machine.chain([scratch]).collect::<Vec<_>>()})
}

fn mounts(folders: &[PathBuf]) -> Vec<Value> {
    let of_machine = folders.iter().enumerate().map(|(number, folder)| {
        json!({"name": format!("machine-{number}"), "mountPath": folder, "readOnly": true})
    });
    of_machine.chain([json!({"name": "scratch", "mountPath": SCRATCH})]).collect()
}

/// Installs the operator as a user does: with the chart, from the image.
pub(super) async fn install(stack: &Stack) -> Result<()> {
    let url = format!("http://{}.{MONITORING}:{}", PROMETHEUS.0, PROMETHEUS.1);
    stack.session.say(&format!(
        "helm install {OPERATOR} charts/latency-operator, with the metrics backend {url} and otherwise as it comes"
    ));
    let helm = Helm::find_or_build(&stack.session).await?;
    let release = Release::new(json!({"config": {"backends": [cluster::backend(&url)]}}));
    helm.install(stack.plane(), &release).await?.success("installing the chart")?;
    let deployment = format!("deployment/{OPERATOR}");
    let timeout = format!("--timeout={}s", LIMIT.as_secs());
    let rolled_out = ["rollout", "status", "-n", OPERATOR, &deployment, &timeout];
    cluster::kubectl(stack, &rolled_out, "").await?;
    let established = ["wait", "--for=condition=Established", &timeout, "crd", "--all"];
    cluster::kubectl(stack, &established, "").await.map(drop)
}

/// What a person would look at first who wants to know what went wrong.
pub(super) async fn look(cluster: &Cluster) -> String {
    let script = format!(
        "set +e; kubectl get pods -A -o wide; kubectl get events -n {NAMESPACE} --sort-by=.lastTimestamp | tail -15; \
         kubectl logs -n {NAMESPACE} -l app={TARGET} --tail=10 --prefix; \
         kubectl logs -n {OPERATOR} -l app.kubernetes.io/name={OPERATOR} --tail=15 --prefix"
    );
    match cluster.shell(&script, Path::new("/"), Duration::from_secs(60)).await {
        Ok(finished) => format!("{}{}", finished.stdout, finished.stderr),
        Err(error) => error.to_string(),
    }
}
