//! What may be asked, and how often the API server is asked for it.

use std::time::Duration;

use engine::model::NoDataReason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use latency_operator::connections::Services;
use serde_json::json;

use crate::support::{Rig, SOON, endpoint, run};

#[test]
fn the_ready_pods_of_a_service_are_asked_and_nobody_else() {
    run(async {
        let rig = Rig::new("asking", &["orders"]).await;
        rig.service("orders", "orders", "http").await;
        rig.until_written("orders", |slice| slice.endpoints.len() == 2).await;
        // Without a laboratory's flag.
        let services = Services::new(rig.client.clone(), [], Vec::new());
        let target = |labels: serde_json::Value| -> LabelSelector {
            serde_json::from_value(json!({ "matchLabels": labels })).expect("a selector")
        };
        let other = target(json!({"app": "orders", "tier": "worker"}));
        let found = services.endpoints("asking", "orders", "http", Some(&other), Duration::ZERO).await;
        assert_eq!(found.expect_err("other Pods").reason, NoDataReason::NotOfTarget);
        let found = services.endpoints("asking", "orders", "8000", None, Duration::ZERO).await;
        let refusal = found.expect_err("no such port");
        assert_eq!(refusal.reason, NoDataReason::NoSuchPort);
        assert!(refusal.detail.ends_with("it has 80"), "{refusal}");

        let orders = rig.orders().await;
        // Beside them, addresses that somebody has written by hand: they are left out.
        rig.slice("orders", "IPv4", json!({"addresses": ["10.0.0.250"]})).await;
        rig.slice("orders", "IPv4", endpoint("10.0.0.251", "asking", &orders[0].0)).await;
        let asked = rig.ask("orders").await.expect("addresses");
        assert_eq!(rig.connections(), 2);
        let pods: Vec<&String> = asked.iter().map(|endpoint| &endpoint.pod).collect();
        assert_eq!(pods, orders.iter().map(|(pod, _)| pod).collect::<Vec<_>>());

        // They are the Pods' own addresses, by the port of the Pods.
        for port in ["http", "80"] {
            let found = services
                .endpoints("asking", "orders", port, Some(&target(json!({"app": "orders"}))), Duration::ZERO)
                .await;
            let found: Vec<String> =
                found.expect("addresses").iter().map(|endpoint| endpoint.address.to_string()).collect();
            assert_eq!(found, orders.iter().map(|(_, ip)| format!("{ip}:8000")).collect::<Vec<_>>());
        }
    });
}

#[test]
fn what_was_found_is_trusted_as_long_as_the_caller_says_and_not_after_a_failure() {
    run(async {
        let rig = Rig::new("trusting", &["orders"]).await;
        rig.service("orders", "orders", "http").await;
        rig.until_written("orders", |slice| slice.endpoints.len() == 2).await;
        let long = Duration::from_secs(3600);
        let ask = async |max_age| rig.services.endpoints("trusting", "orders", "http", None, max_age).await;
        let together = futures::future::join_all((0..50).map(|_| ask(long))).await;
        assert!(together.iter().all(Result::is_ok));
        assert_eq!(rig.reads(), (3, 2), "a Service, its slices, its Pods, and once the API server's own");
        ask(Duration::ZERO).await.expect("addresses");
        assert_eq!(rig.reads(), (6, 2));
        // At once it would be the same.
        rig.services.doubt("trusting", "orders");
        ask(long).await.expect("addresses");
        assert_eq!(rig.reads(), (6, 2));
        let anew = lab::until(SOON, async || {
            rig.services.doubt("trusting", "orders");
            ask(long).await.expect("addresses");
            (rig.reads() == (9, 2)).then_some(())
        });
        anew.await.expect("after a failure it is looked for anew");
    });
}
