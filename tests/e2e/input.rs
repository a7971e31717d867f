//! Bad input: a clear word at admission, or `Stalled` with the field's path; everybody else goes on.

use latency_operator::connections::http::UrlPath;
use serde_json::{Value, json};

use crate::support::{World, kubectl, policy, run};

/// What `kubectl apply` says to a policy that is refused.
async fn refusal(world: &World, args: &[&str], object: &Value) -> String {
    let args: Vec<&str> =
        ["apply", "-n", &world.namespace, "-f", "-"].into_iter().chain(args.iter().copied()).collect();
    let finished =
        world.lab.control_plane.kubectl_run(&args, &object.to_string()).await.expect("kubectl runs");
    assert!(!finished.status.success(), "it was accepted: {object}");
    finished.stderr
}

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut policy = policy();
    change(&mut policy);
    policy
}

/// The API server's pattern and what the operator sends agree about paths.
async fn the_schema_of_a_probe(world: &World) {
    let probed = |field: &str, value: Value| {
        let mut probe = json!({"serviceName": "orders-api", "port": "http", "path": "/api/health"});
        probe[field] = value;
        changed(|p| {
            p["spec"]["objectives"][0]["source"] = json!({"type": "Probe", "probe": probe});
            p["metadata"]["name"] = "probed".into();
        })
    };
    let path = "spec.objectives[0].source.probe.";
    for (field, value) in [
        ("timeout", json!("99ms")),
        ("timeout", json!("31s")),
        ("port", json!(0)),
        ("port", json!(65_536)),
        ("port", json!("HTTP")),
        ("port", json!(true)),
        ("serviceName", json!("orders.other")),
        ("serviceName", json!("../pods")),
        ("scheme", json!("http")),
    ] {
        let said = refusal(world, &[], &probed(field, value)).await;
        assert!(said.contains(&format!("{path}{field}")), "{field} is not in: {said}");
    }
    let said = refusal(world, &[], &probed("timeout", json!("500ms"))).await;
    assert!(said.contains("source.probe.timeout must be longer than latency.threshold"), "{said}");
    // Every letter that there is, in both places where it matters.
    for letter in (0x20..0x80_u8).map(char::from).chain(['é', '\u{2028}']) {
        for path in [format!("/{letter}"), format!("/a{letter}")] {
            let object = probed("path", path.clone().into()).to_string();
            let args = ["create", "--dry-run=server", "-n", &world.namespace, "-f", "-"];
            let finished = world.lab.control_plane.kubectl_run(&args, &object).await.expect("kubectl runs");
            let admitted = finished.status.success();
            assert_eq!(admitted, UrlPath::parse(&path).is_ok(), "{path:?}: {}", finished.stderr);
        }
    }
    let object = probed("port", json!(8000)).to_string();
    let args = ["create", "--dry-run=server", "-n", &world.namespace, "-o", "json", "-f", "-"];
    let created: Value =
        serde_json::from_str(&kubectl(&world.lab.control_plane, &args, &object).await).expect("JSON");
    let probe = &created["spec"]["objectives"][0]["source"]["probe"];
    assert_eq!(
        (&probe["port"], &probe["timeout"], &probe["scheme"]),
        (&json!(8000), &json!("3s"), &json!("HTTP"))
    );
}

#[test]
fn the_schema_refuses_with_the_path_and_the_fix() {
    run(async {
        let world = World::new("admission").await;
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 14] = [
            (
                |p| p["spec"]["objectives"][0]["latency"]["percentile"] = "p95".into(),
                "spec.objectives[0].latency.percentile",
            ),
            (|p| p["spec"]["evaluation"]["interval"] = "-5s".into(), "spec.evaluation.interval"),
            (|p| p["spec"]["evaluation"]["window"] = "1e309h".into(), "spec.evaluation.window"),
            (|p| p["spec"]["evaluation"]["breachFor"] = "".into(), "spec.evaluation.breachFor"),
            (|p| p["spec"]["evaluation"]["interval"] = "500ms".into(), "must be from 1s to 1h"),
            (|p| p["spec"]["evaluation"]["window"] = "2s".into(), "must be from 5s to 1h"),
            (|p| p["spec"]["evaluation"]["noDataAfter"] = "0s".into(), "must be from 1s to 24h"),
            (|p| p["spec"]["verification"]["within"] = "5s".into(), "verification.after + evaluation.window"),
            (
                |p| p["spec"]["objectives"][0]["errorRatio"] = json!({"threshold": "1%"}),
                "set exactly the member that belongs to the type",
            ),
            (|p| p["spec"]["objectives"][0]["type"] = "ErrorRatio".into(), "errorRatio for ErrorRatio"),
            (
                |p| {
                    let again = p["spec"]["remediations"][0].clone();
                    p["spec"]["remediations"].as_array_mut().expect("a list").push(again);
                },
                "Duplicate value",
            ),
            (|p| p["spec"]["remediations"][0]["name"] = "Not_a_label".into(), "spec.remediations[0].name"),
            (|p| p["spec"]["targetRef"]["name"] = "../secrets".into(), "spec.targetRef.name"),
            (
                |p| p["spec"]["dependencies"] = json!(vec![p["spec"]["dependencies"][0].clone(); 9]),
                "spec.dependencies",
            ),
        ];
        for (change, word) in cases {
            let object = changed(change);
            let said = refusal(&world, &[], &object).await;
            assert!(said.contains(word), "{word} is not in: {said}");
            let said = refusal(&world, &["--server-side"], &object).await;
            // Of a doubled name server-side apply says the same in other words.
            let doubled = word == "Duplicate value" && said.contains("duplicate entries for key");
            assert!(said.contains(word) || doubled, "server-side: {word} is not in: {said}");
        }
        let unknown = changed(|p| p["spec"]["evaluation"]["nonsense"] = 1.into());
        assert!(refusal(&world, &[], &unknown).await.contains("nonsense"));
        assert!(refusal(&world, &["--server-side"], &unknown).await.contains("nonsense"));

        the_schema_of_a_probe(&world).await;

        world.apply(policy()).await;
        let moved = changed(|p| p["spec"]["targetRef"]["name"] = "another".into());
        let said = refusal(&world, &[], &moved).await;
        assert!(said.contains("targetRef is immutable"), "{said}");
    });
}

#[test]
fn what_this_version_does_not_know_is_stalled_with_its_path_and_others_go_on() {
    run(async {
        let mut world = World::new("stalled").await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_condition("Ready", "True").await;
        type Change = fn(&mut Value);
        let cases: [(&str, Change, &str); 7] = [
            ("mode", |p| p["spec"]["mode"] = "Approve".into(), "spec.mode: Approve is not available"),
            (
                "cause",
                |p| p["spec"]["remediations"][0]["causes"] = json!(["Gremlins"]),
                "spec.remediations[0].causes[0]",
            ),
            (
                "mismatch",
                |p| p["spec"]["remediations"][0]["causes"] = json!(["IdleInTransaction"]),
                "does not help against",
            ),
            (
                "objective",
                |p| p["spec"]["objectives"][0] = json!({"name": "p95", "type": "Vibes"}),
                "spec.objectives[0].type",
            ),
            (
                "source",
                |p| p["spec"]["objectives"][0]["source"] = json!({"type": "TeaLeaves"}),
                "spec.objectives[0].source.type",
            ),
            (
                "dependency",
                |p| {
                    p["spec"]["dependencies"][0] =
                        json!({"name": "db", "type": "Abacus", "secretRef": {"name": "orders-db"}});
                },
                "spec.dependencies[0].type",
            ),
            ("kind", |p| p["spec"]["targetRef"]["kind"] = "DaemonSet".into(), "spec.targetRef.kind"),
        ];
        // Of these the rest of the policy can be used without them.
        let skipped: [(&str, Change, &str); 2] = [
            (
                "action",
                |p| p["spec"]["remediations"][0]["action"] = json!({"type": "Pray"}),
                "spec.remediations[0].action.type",
            ),
            (
                "threshold",
                |p| p["spec"]["diagnosis"]["thresholds"][0]["cause"] = "Nobody".into(),
                "spec.diagnosis.thresholds[0].cause",
            ),
        ];
        for (name, change, _) in cases.into_iter().chain(skipped) {
            let mut object = changed(change);
            object["metadata"]["name"] = name.into();
            world.apply(object).await;
        }
        for (name, _, word) in cases {
            let said = world.until_condition_of(name, "Stalled", "True").await;
            assert!(said.contains(word), "{name}: {word} is not in: {said}");
            assert!(world.condition_of(name, "Ready").await.starts_with("False"), "{name}");
        }
        for (name, _, word) in skipped {
            let said = world.until_condition_of(name, "Ready", "False/PartlyUnknown").await;
            assert!(said.contains(word), "{name}: {word} is not in: {said}");
            assert_eq!(world.condition_of(name, "Stalled").await, "", "{name}");
            world.until_condition_of(name, "WithinObjective", "True").await;
        }
        let events = world.events_on("LatencyPolicy", "cause").await;
        assert!(events.iter().any(|event| event.starts_with("PolicyStalled: ")), "{events:#?}");
        world.until_condition("Ready", "True").await;
        world.until_calm().await;

        // Mended, it is looked after like any other.
        let mut mended = policy();
        mended["metadata"]["name"] = "cause".into();
        world.apply(mended).await;
        world.until_condition_of("cause", "Ready", "True").await;
        assert_eq!(world.condition_of("cause", "Stalled").await, "");
    });
}

#[test]
fn what_a_policy_refers_to_must_be_there() {
    run(async {
        let mut world = World::new("references").await;
        world.operate().await;
        world.policy(|p| p["spec"]["targetRef"]["name"] = "nobody".into()).await;
        let said = world.until_condition("Ready", "False/TargetNotFound").await;
        assert!(said.contains("spec.targetRef") && said.contains("Deployment/nobody"), "{said}");
        let other = |name: &str, change: &dyn Fn(&mut Value)| {
            let mut object = policy();
            object["metadata"]["name"] = name.into();
            change(&mut object);
            object
        };
        world
            .apply(other("backend", &|p| {
                p["spec"]["objectives"][0]["source"] =
                    json!({"type": "Prometheus", "prometheus": {"backendName": "elsewhere", "preset": "Django"}});
            }))
            .await;
        let said = world.until_condition_of("backend", "Ready", "False/NoBackend").await;
        assert!(said.contains("elsewhere"), "{said}");
        world.apply(other("edge", &|p| {
            p["spec"]["objectives"][0]["source"] = json!({
                "type": "Prometheus", "prometheus": {"preset": "Caddy", "matchLabels": {"server": "orders"}},
            });
        }))
        .await;
        let said = world.until_condition_of("edge", "Ready", "False/NoBackend").await;
        assert!(said.contains("edgeNamespaceLabel"), "{said}");

        world
            .apply(other("secret", &|p| {
                p["spec"]["dependencies"][0]["secretRef"]["name"] = "missing".into();
            }))
            .await;
        world.until_condition_of("secret", "Ready", "False/SecretNotFound").await;
        let unlabelled = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "missing"},
            "stringData": {"uri": "postgres://u:p@127.0.0.1/x"},
        });
        world.apply(unlabelled.clone()).await;
        let said = world.until_condition_of("secret", "Ready", "False/SecretNotAllowed").await;
        assert!(said.contains("latency-operator.dev/allowed"), "{said}");
        for (data, word) in [
            (json!({"host": "127.0.0.1"}), "dbname"),
            (json!({"uri": "not a uri"}), "cannot be parsed"),
            (json!({"uri": "postgres://u:p@127.0.0.1/x?sslrootcert=/etc/passwd"}), "sslrootcert"),
        ] {
            let mut secret = unlabelled.clone();
            secret["metadata"]["labels"] = json!({"latency-operator.dev/allowed": "true"});
            secret["stringData"] = data;
            let args = ["replace", "--force", "-n", &world.namespace, "-f", "-"];
            kubectl(&world.lab.control_plane, &args, &secret.to_string()).await;
            let said = lab::until(crate::support::SOON, async || {
                let said = world.condition_of("secret", "Ready").await;
                said.contains(word).then_some(said)
            });
            let said = said.await.unwrap_or_else(|| panic!("{word} was never said"));
            assert!(said.starts_with("False/SecretInvalid"), "{said}");
        }
    });
}

#[test]
fn a_target_in_deletion_is_told() {
    run(async {
        let mut world = World::new("deleting").await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_condition("Ready", "True").await;
        let patch = json!({"metadata": {"finalizers": ["lab.test/hold"]}}).to_string();
        let plane = &world.lab.control_plane;
        let hold = ["patch", "deployment", "-n", "deleting", "orders-api", "--type=merge", "-p", &patch];
        kubectl(plane, &hold, "").await;
        kubectl(plane, &["delete", "deployment", "-n", "deleting", "orders-api", "--wait=false"], "").await;
        let said = world.until_condition("Ready", "False/TargetUnavailable").await;
        assert!(said.contains("is being deleted"), "{said}");
        let release = json!({"metadata": {"finalizers": null}}).to_string();
        let release = ["patch", "deployment", "-n", "deleting", "orders-api", "--type=merge", "-p", &release];
        kubectl(plane, &release, "").await;
        world.until_condition("Ready", "False/TargetNotFound").await;
    });
}

#[test]
fn ten_lines_are_a_whole_policy() {
    run(async {
        let mut world = World::new("ten-lines").await;
        world.operate().await;
        world
            .apply(json!({
                "apiVersion": "latency-operator.dev/v1alpha1",
                "kind": "LatencyPolicy",
                "metadata": {"name": "orders-api"},
                "spec": {
                    "targetRef": {"name": "orders-api"},
                    "dependencies": [
                        {"name": "db", "type": "PostgreSQL", "secretRef": {"name": "orders-db"}, "postgresql": {}},
                    ],
                },
            }))
            .await;
        world.until_condition("Ready", "True/Accepted: the policy is being watched").await;
        world.until_condition("RemediationAllowed", "False/ObserveOnly").await;
        let printed = kubectl(&world.lab.control_plane, &["get", "lp", "-n", "ten-lines"], "").await;
        assert!(printed.contains("Observe") && printed.contains("orders-api"), "{printed}");
        let explained =
            kubectl(&world.lab.control_plane, &["explain", "lp.spec.evaluation.breachFor"], "").await;
        assert!(explained.contains("How long a breach must last"), "{explained}");
    });
}
