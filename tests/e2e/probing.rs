//! The Probe source: requests of the operator's own to a Service of the API server, whose Pods the laboratory plays.

use std::net::SocketAddr;
use std::time::Duration;

use kube::api::ListParams;
use lab::Operator;
use lab::control_plane::AuditEvent;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::{OPERATOR, SOON, World, eventually, hanging, run};

/// How the application answers.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    After(Duration),
    Never,
    With(&'static str),
}

const QUICK: Manner = Manner::After(Duration::ZERO);

/// What plays the application: it can be gone, and come back at the same address.
struct Application {
    address: SocketAddr,
    manner: watch::Sender<Manner>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Application {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let manner = watch::Sender::new(QUICK);
        let mut application = Self { address, manner, task: None };
        application.serve(listener);
        application
    }

    fn serve(&mut self, listener: TcpListener) {
        let manner = self.manner.subscribe();
        self.task = Some(tokio::spawn(async move {
            // With the listener all that it has accepted goes.
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let manner = *manner.borrow();
                serving.spawn(async move {
                    let _ = stream.read(&mut [0; 1024]).await;
                    let status = match manner {
                        Manner::After(pause) => {
                            tokio::time::sleep(pause).await;
                            "200 OK"
                        }
                        Manner::Never => std::future::pending().await,
                        Manner::With(status) => status,
                    };
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        }));
    }

    fn answers(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    async fn goes(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    async fn comes_back(&mut self) {
        let bind = async || TcpListener::bind(self.address).await.ok();
        let listener = lab::until(SOON, bind).await.expect("the same address");
        self.serve(listener);
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn health(timeout: &str) -> Value {
    json!({
        "name": "health", "type": "Latency",
        "latency": {"threshold": "300ms"}, "severity": "P2", "raise": [{"level": "P1", "above": "10s"}],
        "source": {"type": "Probe", "probe": {
            "serviceName": "orders-api", "port": "http", "path": "/api/health?full=1", "timeout": timeout,
        }},
    })
}

/// A world whose target is reached through a Service, and an operator that is told where its Pods are in truth.
async fn world(namespace: &str, application: &Application) -> World {
    let mut world = World::new(namespace).await;
    world
        .apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders-api"},
            "spec": {"selector": {"app": "orders-api"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        }))
        .await;
    let elsewhere = format!("--dev-service-override={namespace}/orders-api:http={}", application.address);
    let options = world.options().arg(elsewhere);
    world.operator = Some(Operator::start(&world.lab.session, options).await.expect("an operator"));
    world
}

#[test]
fn what_the_probe_sees_is_judged_told_and_over_when_it_is_over() {
    run(async {
        let mut application = Application::start().await;
        let world = world("probing", &application).await;
        world.policy(|policy| policy["spec"]["objectives"] = json!([health("20s")])).await;
        world.until_calm().await;
        assert!(world.operator_log().contains("for a laboratory"), "{}", world.operator_log());

        application.answers(Manner::After(Duration::from_millis(400)));
        let event = world.until_event("ObjectiveBreached").await;
        assert!(event.contains("health: GET /api/health?… took 4"), "{event}");
        assert!(event.contains("(connect ") && event.contains("first byte 4"), "{event}");
        assert!(event.ends_with("300ms are promised"), "{event}");
        let incidents = world.incidents().list(&ListParams::default()).await.expect("incidents").items;
        assert_eq!(incidents.len(), 1);
        application.answers(QUICK);
        world.until_event("ObjectiveRecovered").await;

        // Nobody there is no slowness: nothing is known.
        application.goes().await;
        let told = world.until_condition("DataAvailable", "False/Unreachable").await;
        assert!(told.contains("health: ") && told.contains("does a container listen there?"), "{told}");
        application.comes_back().await;
        world.until_condition("DataAvailable", "True").await;
        application.answers(Manner::With("404 Not Found"));
        let told = world.until_condition("DataAvailable", "False/HttpError").await;
        assert!(told.contains("was answered with 404"), "{told}");
        application.answers(Manner::With("302 Found"));
        world.until_condition("DataAvailable", "False/Redirected").await;
        application.answers(QUICK);
        world.until_calm().await;

        // The API server was asked for what the permissions grant, and now and then only.
        let reads = world.lab.control_plane.audit_of(OPERATOR).expect("the audit log");
        let of = |resource: &str| {
            let here = |object: &lab::control_plane::ObjectRef| {
                object.resource == resource && object.namespace == world.namespace
            };
            reads.iter().filter(|event| event.object_ref.as_ref().is_some_and(here)).count()
        };
        assert!(of("services") > 0 && of("pods") > 0 && of("endpointslices") > 0);
        let is_here = |event: &&AuditEvent| {
            event.object_ref.as_ref().is_some_and(|object| object.namespace == world.namespace)
        };
        let refused = reads.iter().filter(is_here).filter(|event| event.code() == 403).count();
        assert_eq!(refused, 0, "a right is missing in the chart");
    });
}

#[test]
fn a_probe_that_hangs_is_a_breach_and_tells_silence_from_a_standstill() {
    run(async {
        let application = Application::start().await;
        let world = world("probing-hangs", &application).await;
        world
            .policy(|policy| {
                let objectives = policy["spec"]["objectives"].as_array_mut().expect("objectives");
                objectives.push(health("1s"));
            })
            .await;
        world.until_calm().await;
        // Hardly anything completes, and the exporter knows of nobody who waits.
        world.exporter.set(hanging().in_flight(0));
        let told = world.until_condition("DataAvailable", "False/TooFewRequests").await;
        assert!(told.contains("50 are needed"), "{told}");
        application.answers(Manner::Never);
        let event = world.until_event("ObjectiveBreached").await;
        assert!(event.contains("health: GET /api/health?… was not answered within 1"), "{event}");
        assert!(event.contains("P1"), "{event}");
        let told = eventually("the exporter's silence is understood", SOON, async || {
            let log = world.operator_log();
            log.contains("and the probe health is not answered in time").then_some(())
        });
        told.await;
        application.answers(QUICK);
        world.exporter.set(crate::support::calm());
        world.until_event("ObjectiveRecovered").await;
    });
}

#[test]
fn a_service_that_leads_elsewhere_is_told_and_not_asked() {
    run(async {
        let application = Application::start().await;
        let world = world("probing-elsewhere", &application).await;
        world.policy(|policy| policy["spec"]["objectives"] = json!([health("3s")])).await;
        world.until_calm().await;
        for (spec, reason) in [
            (json!({"selector": {"app": "nobody"}}), "NoReadyAddress"),
            (json!({"selector": null}), "NoSelector"),
            (
                json!({"type": "ExternalName", "externalName": "localhost", "clusterIP": null}),
                "ExternalService",
            ),
        ] {
            let patch = json!({ "spec": spec }).to_string();
            let args =
                ["patch", "service", "-n", &world.namespace, "orders-api", "--type=merge", "-p", &patch];
            crate::support::kubectl(&world.lab.control_plane, &args, "").await;
            // What was found is believed for a minute while it answers; it does not any more.
            application.answers(Manner::With("503 Service Unavailable"));
            let told = world.until_condition("DataAvailable", &format!("False/{reason}")).await;
            assert!(told.contains("health: "), "{told}");
        }
    });
}
