//! What the tests share: one control plane for all, one namespace with a listener for each.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use engine::model::{NoData, NoDataReason, Scheme};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use lab::control_plane::NODE;
use lab::{ControlPlane, ControlPlaneOptions, Helm, Release, Session};
use latency_operator::connections::Services;
use latency_operator::connections::http::{Get, UrlPath, get, host};
use latency_operator::connections::services::{DevOverride, Endpoint};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

pub(crate) const SOON: Duration = Duration::from_secs(60);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime"));
static PLANE: OnceCell<(ControlPlane, Helm)> = OnceCell::const_new();

/// Runs a test on the runtime that all tests and the control plane live on.
pub(crate) fn run(test: impl Future<Output = ()>) {
    RUNTIME.block_on(test);
}

async fn start() -> (ControlPlane, Helm) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let session = Session::start().await.expect("a session");
    let plane = ControlPlane::start(&session, ControlPlaneOptions::default()).await.expect("a control plane");
    let helm = Helm::find_or_build(&session).await.expect("helm");
    (plane, helm)
}

async fn kubectl(plane: &ControlPlane, args: &[&str], input: &str) {
    let finished = plane.kubectl_run(args, input).await.expect("kubectl runs");
    assert!(finished.status.success(), "kubectl {args:?}: {}", finished.stderr);
}

/// A namespace with two Pods of a Deployment, and a listener that every Service of it leads to.
pub(crate) struct Rig {
    pub(crate) plane: &'static ControlPlane,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// As whom the addresses are looked for.
    pub(crate) user: String,
    pub(crate) services: Services,
    /// With the rights of the chart.
    pub(crate) operator: Client,
    connections: Arc<AtomicUsize>,
}

impl Rig {
    /// `services` are the names of all Services that the test makes.
    pub(crate) async fn new(namespace: &str, services: &[&str]) -> Self {
        let (plane, helm) = PLANE.get_or_init(start).await;
        plane.namespace(namespace).await.expect("a namespace");
        plane.deployment(namespace, "orders", 2).await.expect("a Deployment");
        let (address, connections) = listener().await;
        // A release of the test's own: the audit log tells it apart by its account.
        let account = format!("operator-{namespace}");
        let release = Release::new(json!({ "fullnameOverride": account })).named("operator", namespace);
        plane.rights_of(helm, &release).await.expect("the chart's rights");
        let identity = plane.kubeconfig_with_token(namespace, &account).await.expect("a kubeconfig");
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let operator = plane.client_with(&identity).await.expect("a client");
        let elsewhere = |service: &&str| DevOverride {
            namespace: namespace.to_owned(),
            service: (*service).to_owned(),
            port: "http".to_owned(),
            to: address,
        };
        Self {
            plane,
            client: plane.client().await.expect("a client"),
            namespace: namespace.to_owned(),
            user,
            services: Services::new(operator.clone(), [], services.iter().map(elsewhere).collect()),
            operator,
            connections,
        }
    }

    /// Creates it as it stands there.
    pub(crate) async fn create(&self, namespace: &str, object: Value) {
        kubectl(self.plane, &["create", "-n", namespace, "-f", "-"], &object.to_string()).await;
    }

    /// Deletes an object of the namespace.
    pub(crate) async fn delete(&self, resource: &str, name: &str) {
        kubectl(self.plane, &["delete", "-n", &self.namespace, resource, name], "").await;
    }

    /// A Service that selects `app: <app>`. Where its Pods have no port `target`, the control plane writes no address down,
    /// and only what is written by hand is there.
    pub(crate) async fn service(&self, name: &str, app: &str, target: &str) {
        self.create(
            &self.namespace,
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"selector": {"app": app}, "ports": [{"name": "http", "port": 80, "targetPort": target}]},
            }),
        )
        .await;
    }

    /// An EndpointSlice that somebody has written by hand.
    pub(crate) async fn slice(&self, service: &str, kind: &str, endpoint: Value) {
        self.create(&self.namespace, slice(service, kind, &endpoint)).await;
    }

    /// A Pod of its own, running and ready, with what `change` does to it.
    pub(crate) async fn pod(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}});
        pod["spec"] = lab::control_plane::pod_template(name)["spec"].clone();
        assert_eq!(pod["spec"]["nodeName"], NODE);
        change(&mut pod);
        self.create(&self.namespace, pod).await;
        let runs = async || {
            let status = self.pods().get(name).await.expect("the Pod").status?;
            (status.phase.as_deref() == Some("Running")).then_some(())
        };
        lab::until(SOON, runs).await.expect("kwok runs the Pod");
    }

    /// Changes the status of a Pod, as its kubelet would.
    pub(crate) async fn status(&self, pod: &str, status: Value) {
        let patch = Patch::Strategic(json!({ "status": status }));
        self.pods().patch_status(pod, &PatchParams::default(), &patch).await.expect("a status");
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Name and address of the Deployment's Pods.
    pub(crate) async fn orders(&self) -> Vec<(String, String)> {
        let all = self.pods().list(&ListParams::default().labels("app=orders")).await.expect("Pods").items;
        all.into_iter()
            .map(|pod| {
                (pod.metadata.name.expect("a name"), pod.status.and_then(|s| s.pod_ip).expect("an address"))
            })
            .collect()
    }

    /// Waits until the control plane has written the endpoints of the Service down as `is` says.
    pub(crate) async fn until_written(&self, service: &str, is: impl Fn(&EndpointSlice) -> bool) {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.namespace);
        let of = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let seen = async || slices.list(&of).await.expect("slices").items.iter().any(&is).then_some(());
        lab::until(SOON, seen).await.unwrap_or_else(|| panic!("the slices of {service}"));
    }

    /// Looks for the addresses of a Service, and asks each of them.
    pub(crate) async fn ask(&self, service: &str) -> Result<Vec<Endpoint>, NoData> {
        let found = self.services.endpoints(&self.namespace, service, "http", None, Duration::ZERO).await?;
        for endpoint in &found {
            let request = Get {
                address: endpoint.address,
                scheme: Scheme::Http,
                host: host(service, &self.namespace),
                path: UrlPath::parse("/").expect("a path"),
            };
            assert_eq!(get(&request, lab::patience(SOON)).await.expect("an answer").status, 200);
        }
        Ok(found)
    }

    /// Asks, and is refused for that reason, with that in the sentence.
    pub(crate) async fn refused(&self, service: &str, reason: NoDataReason, why: &str) {
        let before = self.connections();
        let refusal = self.ask(service).await.expect_err("a refusal");
        assert_eq!(refusal.reason, reason, "{service}: {refusal}");
        assert!(refusal.detail.contains(why), "{service}: {refusal}");
        assert_eq!(self.connections(), before, "{service} was asked");
    }

    /// How often the listener was reached.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How often the API server was asked in this namespace, and about itself.
    pub(crate) fn reads(&self) -> (usize, usize) {
        let events = self.plane.audit_of(&self.user).expect("the audit log");
        let of = |namespace: &str| {
            let inside = |object: &lab::control_plane::ObjectRef| object.namespace == namespace;
            events.iter().filter(|event| event.object_ref.as_ref().is_some_and(inside)).count()
        };
        (of(&self.namespace), of("default"))
    }
}

pub(crate) fn slice(service: &str, kind: &str, endpoint: &Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": kind,
        "metadata": {
            "generateName": format!("{service}-"),
            "labels": {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "somebody"},
        },
        "ports": [{"name": "http", "protocol": "TCP", "port": 8000}], "endpoints": [endpoint],
    })
}

/// An endpoint that is said to be that of a Pod.
pub(crate) fn endpoint(address: &str, namespace: &str, pod: &str) -> Value {
    json!({
        "addresses": [address], "conditions": {"ready": true},
        "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod},
    })
}

/// Answers everything, and counts.
async fn listener() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            });
        }
    });
    (address, connections)
}
