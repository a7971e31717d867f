//! Probes: whose turn it is, who shares what, and what is made of Pods that do not answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::model::{NoDataReason, Observed, Policy, ProbeAnswer, Probed};
use latency_operator::api::{LatencyPolicy, convert};
use latency_operator::clock::Clock;
use latency_operator::connections::Services;
use latency_operator::connections::services::DevOverride;
use latency_operator::observe::probe::Probes;
use latency_operator::telemetry::Metrics;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Rig, SOON, run};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// What stands behind one Pod: it says the same to everybody, or nothing.
struct Server {
    address: std::net::SocketAddr,
    asked: Arc<AtomicUsize>,
    /// Permits to answer; each request takes one.
    answers: Arc<tokio::sync::Semaphore>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(answer: &'static str, answers: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (asked, answers) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Semaphore::new(answers)));
        let (counted, allowed) = (asked.clone(), answers.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (counted, allowed) = (counted.clone(), allowed.clone());
                tokio::spawn(async move {
                    let _ = stream.read(&mut [0; 1024]).await;
                    counted.fetch_add(1, Ordering::SeqCst);
                    allowed.acquire().await.expect("a permit").forget();
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { address, asked, answers, task }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn policy(namespace: &str, interval: &str, timeout: &str) -> Policy {
    let object: LatencyPolicy = serde_json::from_value(json!({
        "metadata": {"name": "orders", "namespace": namespace, "uid": "u"},
        "spec": {
            "targetRef": {"name": "orders"}, "evaluation": {"interval": interval},
            "objectives": [{
                "name": "health", "type": "Latency", "latency": {"threshold": "50ms"},
                "source": {"type": "Probe", "probe": {
                    "serviceName": "orders", "port": "http", "path": "/api/health", "timeout": timeout,
                }},
            }],
        },
    }))
    .expect("a policy");
    convert::policy(&object).expect("a valid policy")
}

async fn probes(rig: &Rig, servers: &[&Server]) -> Probes {
    let to = |server: &&Server| DevOverride {
        namespace: rig.namespace.clone(),
        service: "orders".to_owned(),
        port: "80".to_owned(),
        to: server.address,
    };
    let services = Services::new(rig.client.clone(), [], servers.iter().map(to).collect());
    Probes::new(services, Clock::at(jiff::Timestamp::now()), Metrics::new(false))
}

async fn rig(namespace: &str) -> Rig {
    let rig = Rig::new(namespace, &[]).await;
    rig.service("orders", "orders", "http").await;
    rig.until_written("orders", |slice| slice.endpoints.len() == 2).await;
    rig
}

async fn probe(probes: &Probes, policy: &Policy) -> Observed<Probed> {
    probes.probed(policy).await.remove("health").expect("the objective")
}

fn reason(observed: &Observed<Probed>) -> NoDataReason {
    let Observed::Missing(no_data) = observed else { panic!("{observed:?}") };
    no_data.reason
}

#[test]
fn pods_take_turns_and_equal_probes_are_sent_once() {
    run(async {
        let rig = rig("turns").await;
        let (one, other) = (Server::start(OK, 1000).await, Server::start(OK, 1000).await);
        let (probes, policy) = (probes(&rig, &[&one, &other]).await, policy("turns", "15s", "3s"));
        let together = futures::future::join_all((0..50).map(|_| probe(&probes, &policy))).await;
        assert!(together.iter().all(|seen| matches!(
            seen.known(),
            Some(Probed { answer: ProbeAnswer::Status { status: 200, .. }, .. })
        )));
        assert_eq!(one.asked() + other.asked(), 1, "one request for all");
        let first = one.asked();
        // What was just answered is shared; soon it is the other one's turn.
        lab::until(SOON, async || {
            probe(&probes, &policy).await;
            (one.asked() > 0 && other.asked() > 0).then_some(())
        })
        .await
        .expect("they take turns");
        assert!(one.asked().abs_diff(other.asked()) <= 1, "{first}");
    });
}

#[test]
fn a_look_does_not_wait_for_an_answer_and_the_next_one_finds_it() {
    run(async {
        let rig = rig("waiting").await;
        let server = Server::start(OK, 1).await;
        let (probes, policy) = (probes(&rig, &[&server]).await, policy("waiting", "1s", "30s"));
        let first = probe(&probes, &policy).await;
        assert!(first.known().is_some());
        // Now nothing is answered: the latest answer stands for a while, then nothing is known, and no request is added.
        let unknown = lab::until(SOON, async || {
            let seen = probe(&probes, &policy).await;
            if seen.known().is_some() {
                assert_eq!(seen, first);
                return None;
            }
            Some(seen)
        });
        assert_eq!(reason(&unknown.await.expect("it is old")), NoDataReason::Timeout);
        assert_eq!(server.asked(), 2);
        server.answers.add_permits(1000);
        let newer = async || Some(probe(&probes, &policy).await).filter(|seen| seen.at() > first.at());
        lab::until(SOON, newer).await.expect("an answer");
    });
}

#[test]
fn who_never_answers_is_seen_to_hang_and_who_is_not_there_is_not() {
    run(async {
        let rig = rig("hanging").await;
        let mute = Server::start(OK, 0).await;
        let seen = probe(&probes(&rig, &[&mute]).await, &policy("hanging", "15s", "200ms")).await;
        assert!(seen.known().expect("it is seen").hangs());

        let policy = policy("hanging", "15s", "10s");
        for (answer, expected) in
            [("SSH-2.0-OpenSSH_9.6\r\n", NoDataReason::BadAnswer), ("", NoDataReason::BadAnswer)]
        {
            let server = Server::start(answer, 1000).await;
            assert_eq!(reason(&probe(&probes(&rig, &[&server]).await, &policy).await), expected);
        }
        let gone = Server::start(OK, 1000).await;
        let probes = probes(&rig, &[&gone]).await;
        assert!(probe(&probes, &policy).await.known().is_some());
        let address = gone.address;
        drop(gone);
        let refused = lab::until(SOON, async || {
            let seen = probe(&probes, &policy).await;
            seen.known().is_none().then_some(seen)
        });
        let Some(Observed::Missing(no_data)) = refused.await else { panic!("it is still there") };
        assert_eq!(no_data.reason, NoDataReason::Unreachable);
        assert_eq!(
            no_data.detail,
            "a Pod of Service orders, port http: no connection: it was refused; does a container listen there?"
        );
        assert!(!no_data.detail.contains(&address.to_string()));

        // Its Pods go: after the failure the addresses are looked for anew.
        rig.delete("service", "orders").await;
        let reasons = lab::until(SOON, async || {
            let seen = reason(&probe(&probes, &policy).await);
            (seen == NoDataReason::ServiceNotFound).then_some(BTreeSet::from([seen]))
        });
        reasons.await.expect("the Service has gone");
    });
}
