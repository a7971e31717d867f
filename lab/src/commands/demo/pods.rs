//! Keeps the ready Pods of the Deployment behind the edge and in sight of Prometheus; where kwok plays them, one Gunicorn for
//! each of them as well.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, ResourceExt};
use lab::{Ending, Process, Result, Signal, workspace};

use super::cluster::{LIMIT, NAMESPACE, TARGET};
use super::database::{APPLICATION, NAME};
use super::edge;
use super::stack::{self, Stack};
use super::upstream;

/// Longer than the workers' own grace.
const STOP_LIMIT: Duration = Duration::from_secs(10);

pub(super) struct Pods<'a> {
    stack: &'a Stack,
    running: BTreeMap<String, Server>,
}

/// What serves for one Pod.
struct Server {
    /// What plays its container; a real one runs by itself.
    process: Option<Process>,
    address: String,
    metrics: String,
}

impl<'a> Pods<'a> {
    pub(super) fn new(stack: &'a Stack) -> Self {
        Self { stack, running: BTreeMap::new() }
    }

    /// Follows the Pods until that fails.
    pub(super) async fn keep(&mut self) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.stack.plane().client().await?, NAMESPACE);
        let (known, writer) = reflector::store();
        let labels = watcher::Config::default().labels(&format!("app={TARGET}"));
        let mut changes = std::pin::pin!(reflector(writer, watcher(pods, labels)).default_backoff());
        // A Gunicorn that has died makes no change in Kubernetes.
        let mut seconds = edge::seconds();
        loop {
            tokio::select! {
                // What fails is tried again by the watcher itself.
                _ = changes.next() => {}
                _ = seconds.tick() => {}
            }
            let ready = known.state();
            let ready = ready.iter().filter(|pod| is_ready(pod));
            self.reconcile(ready.map(|pod| (pod.name_any(), address(pod))).collect()).await?;
        }
    }

    /// With the ready Pods, by name, and the address that each has.
    async fn reconcile(&mut self, ready: BTreeMap<String, Option<String>>) -> Result<()> {
        let has_ended =
            |server: &Server| server.process.as_ref().is_some_and(|it| it.exit_status().is_some());
        let gone: Vec<Server> = self
            .running
            .extract_if(.., |name, server| !ready.contains_key(name) || has_ended(server))
            .map(|(_, server)| server)
            .collect();
        let new: Vec<_> = ready.iter().filter(|(name, _)| !self.running.contains_key(*name)).collect();
        if gone.is_empty() && new.is_empty() {
            return Ok(());
        }
        let is_real = self.stack.kubernetes.real().is_some();
        let serve = async |name: &str, address: Option<&str>| match (is_real, address) {
            (true, Some(address)) => Ok(Some(Server::real(address))),
            // A Pod that is ready has one.
            (true, None) => Ok(None),
            (false, _) => start(self.stack, name).await.map(Some),
        };
        let started = new.iter().map(|(name, address)| serve(name, address.as_deref()));
        let started = futures::future::try_join_all(started).await?;
        let started = new.into_iter().zip(started).filter_map(|((name, _), server)| Some((name, server?)));
        for (name, server) in started {
            self.running.insert(name.clone(), server);
        }
        self.announce().await?;
        // Only now does nobody send them anything new: what they have begun they finish.
        for process in gone.into_iter().filter_map(|server| server.process) {
            process.stop(Signal::TERM, STOP_LIMIT).await?;
        }
        let names: Vec<&str> = self.running.keys().map(String::as_str).collect();
        self.stack.session.say(&format!("behind the edge: {}", names.join(", ")));
        Ok(())
    }

    /// Tells the edge and Prometheus who serves now.
    async fn announce(&self) -> Result<()> {
        let upstreams: Vec<String> = self.running.values().map(|server| server.address.clone()).collect();
        self.stack.caddy.set_upstreams(&upstreams).await?;
        let pods = self.running.iter().map(|(name, server)| {
            let labels = [("namespace", NAMESPACE), ("pod", name.as_str())];
            lab::prometheus::Target::new("orders", &server.metrics, &labels)
        });
        self.stack
            .prometheus
            .set_targets(std::iter::once(stack::edge_target(&self.stack.caddy)).chain(pods).collect())
    }
}

impl Server {
    /// A container of a real Pod; the ports are those of demo/manifests/.
    fn real(address: &str) -> Self {
        Self { process: None, address: format!("{address}:8000"), metrics: format!("{address}:9000") }
    }
}

async fn start(stack: &Stack, pod: &str) -> Result<Server> {
    let session = &stack.session;
    let address = format!("127.0.0.1:{}", session.free_port()?);
    let metrics = format!("127.0.0.1:{}", session.free_port()?);
    let application = workspace::root().join("demo/app");
    let database = &stack.database;
    let spec = stack
        .venv
        .module(pod, "gunicorn")
        .arg("--config")
        .arg(application.join("gunicorn.conf.py"))
        .arg("--chdir")
        .arg(&application)
        .env("BIND", &address)
        .env("METRICS_BIND", &metrics)
        .env("PROMETHEUS_MULTIPROC_DIR", session.folder().join(format!("metrics-of-{pod}")))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("UPSTREAM_DELAY_FILE", upstream::delay_file(session)?)
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", database.server.port().to_string())
        .env("PGDATABASE", NAME)
        .env("PGUSER", APPLICATION)
        .env("PGPASSWORD", database.password(APPLICATION))
        .envs(stack.known_cache().map(|cache| ("REDIS_URL".into(), cache.url().into())))
        .ending(Ending::Term);
    let process = session.spawn(spec).await?;
    let health = format!("http://{address}/api/health");
    let look = || async { lab::http::get(&process, &health).await.ok() };
    process.ready("answers on /api/health", LIMIT, look).await?;
    Ok(Server { process: Some(process), address, metrics })
}

fn address(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.pod_ip.clone()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_is_going_is_not_ready() {
        let pod = |metadata: serde_json::Value, status: &str| -> Pod {
            let conditions = json!([{"type": "Ready", "status": status}]);
            serde_json::from_value(json!({"metadata": metadata, "status": {"conditions": conditions}}))
                .unwrap()
        };
        assert!(is_ready(&pod(json!({}), "True")));
        assert!(!is_ready(&pod(json!({}), "False")));
        assert!(!is_ready(&pod(json!({"deletionTimestamp": "2026-11-23T07:00:00Z"}), "True")));
        assert!(!is_ready(&Pod::default()));
    }
}
