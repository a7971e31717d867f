//! Which Secrets are read, and what a Secret may look like.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{PASSWORD, World, kubectl, run};

/// Everything is as CloudNativePG writes it for the role of an application, but that the server is on loopback: `host` and
/// `uri` say so. What other clients read leads nowhere.
fn of_cloudnativepg(name: &str, port: u16) -> Value {
    let (host, nowhere) = ("127.0.0.1", "orders-db-rw.nowhere.invalid");
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {
            "name": name,
            "labels": {"cnpg.io/cluster": "orders-db", "cnpg.io/userType": "app", "cnpg.io/reload": "true"},
            "annotations": {"cnpg.io/operatorVersion": "1.27.0"},
        },
        "stringData": {
            "username": "orders", "user": "orders", "password": PASSWORD, "dbname": "orders",
            "host": host, "port": port.to_string(),
            "uri": format!("postgresql://orders:{PASSWORD}@{host}:{port}/orders"),
            "jdbc-uri": format!("jdbc:postgresql://{nowhere}:{port}/orders?password={PASSWORD}&user=orders"),
            "fqdn-uri": format!("postgresql://orders:{PASSWORD}@{nowhere}:{port}/orders"),
            "fqdn-jdbc-uri": format!("jdbc:postgresql://{nowhere}:{port}/orders?password={PASSWORD}&user=orders"),
            "pgpass": format!("{nowhere}:{port}:orders:orders:{PASSWORD}\n"),
        },
    })
}

/// The policy of the README, about the database behind this Secret.
fn ten_lines(name: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "latency-operator.dev/v1alpha1",
        "kind": "LatencyPolicy",
        "metadata": {"name": name},
        "spec": {
            "targetRef": {"name": "orders-api"},
            // Between two bounds of the exporter's histogram.
            "objectives": [{"name": "p95", "type": "Latency", "latency": {"threshold": "200ms"}}],
            "dependencies": [{"name": "db", "type": "PostgreSQL", "secretRef": {"name": secret}, "postgresql": {}}],
        },
    })
}

#[test]
fn a_secret_as_cloudnativepg_writes_it_serves_ten_lines_and_a_grant_makes_them_whole() {
    run(async {
        let mut world = World::new("cloudnativepg").await;
        world.apply(of_cloudnativepg("orders-db-app", world.postgres.port())).await;
        world.operate_with("secrets: AuthorChecked\n").await;
        world.apply(ten_lines("orders-api", "orders-db-app")).await;

        world.until_condition("Ready", "True/Accepted").await;
        world.until_condition("WithinObjective", "True/Kept").await;
        let partial = world.until_condition("DataAvailable", "False/Partial").await;
        let grant = "GRANT pg_read_all_stats TO orders";
        assert!(partial.ends_with(&format!("db is readable in part only; run: {grant}")), "{partial}");
        let ready = world.condition("Ready").await;
        assert!(ready.contains("objective p95: 200ms is judged at the next bucket bound, 250ms"), "{ready}");
        assert!(ready.contains(grant), "{ready}");
        let event = world.until_event("DataPartial").await;
        assert!(event.contains(grant), "{event}");
        let printed =
            kubectl(&world.lab.control_plane, &["describe", "lp", "-n", &world.namespace], "").await;
        assert!(printed.contains(grant), "{printed}");

        // A healthy database is looked at once a minute.
        world.postgres.execute("orders", grant).await.expect("granted");
        let full = lab::until(Duration::from_secs(150), async || {
            world.condition("DataAvailable").await.starts_with("True/Readable").then_some(())
        });
        assert!(full.await.is_some(), "{}", world.operator_log());
        world.until_event("DataRestored").await;
        assert!(!world.condition("Ready").await.contains("GRANT"));
        let log = world.operator_log();
        assert!(log.contains("secrets=AuthorChecked"), "which Secrets are read is not in\n{log}");
        assert!(!log.contains(PASSWORD), "the password is in the log");
    });
}

#[test]
fn an_unlabelled_secret_is_read_where_its_author_was_asked_and_nowhere_else() {
    run(async {
        let mut world = World::new("labelled").await;
        let port = world.postgres.port();
        let mut forbidden = of_cloudnativepg("forbidden", port);
        forbidden["metadata"]["labels"]["latency-operator.dev/allowed"] = "false".into();
        world.apply(of_cloudnativepg("plain", port)).await;
        world.apply(forbidden).await;
        world.operate().await;
        world.apply(ten_lines("plain", "plain")).await;
        world.apply(ten_lines("forbidden", "forbidden")).await;
        let said = world.until_condition_of("plain", "Ready", "False/SecretNotAllowed").await;
        for way_out in ["label it latency-operator.dev/allowed: \"true\"", "set secrets: AuthorChecked"] {
            assert!(said.contains(way_out), "{way_out} is not in: {said}");
        }
        assert!(world.operator_log().contains("secrets=Labelled"), "{}", world.operator_log());

        world.operate_with("secrets: AuthorChecked\n").await;
        world.until_condition_of("plain", "Ready", "True/Accepted").await;
        // Whoever owns a Secret has the last word, whoever was asked.
        let said = world.until_condition_of("forbidden", "Ready", "False/SecretNotAllowed").await;
        assert!(said.contains("says something else than \"true\""), "{said}");
    });
}
