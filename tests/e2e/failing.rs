//! What cannot be read is never acted on, and never taken for health.

use engine::model::{Incident, PolicyRef};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use lab::postgres::Stop;
use lab::{Prometheus, PrometheusOptions};
use serde_json::json;

use crate::support::{PASSWORD, SOON, World, eventually, hanging, kubectl, run, slow};

const RUNAWAY: &str = "application_name = 'report' and state = 'active'";

/// No remediation, no signal.
async fn nothing_was_done(world: &World) {
    assert_eq!(world.signals(), 0);
    let all = world.remediations().list(&ListParams::default()).await.expect("remediations").items;
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn a_database_without_grants_is_diagnosed_in_part_and_the_grant_is_named() {
    run(async {
        let mut world = World::new("no-grants").await;
        let revoke = "revoke pg_monitor, pg_signal_backend from latency_operator";
        world.postgres.execute("orders", revoke).await.expect("revoked");
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_condition("WithinObjective", "True").await;
        let told = world.until_condition("DataAvailable", "False/Partial").await;
        assert!(told.contains("GRANT pg_read_all_stats TO latency_operator"), "{told}");
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        world.until_event("ObjectiveBreached").await;
        world.until_condition("WithinObjective", "False").await;
        // Long enough for everything that would follow.
        world.until_looked(5).await;
        assert!(report.runs());
        nothing_was_done(&world).await;

        let grant = "grant pg_monitor, pg_signal_backend to latency_operator";
        world.postgres.execute("orders", grant).await.expect("granted");
        assert!(report.ended().await.is_err(), "granted, it acts");
        world.until_event("RemediationCompleted").await;
    });
}

#[test]
fn without_the_right_to_signal_the_refusal_names_the_grant() {
    run(async {
        let mut world = World::new("no-signal").await;
        world
            .postgres
            .execute("orders", "revoke pg_signal_backend from latency_operator")
            .await
            .expect("revoked");
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        let event = world.until_event("RemediationBlocked").await;
        assert!(event.contains("GRANT pg_signal_backend TO latency_operator"), "{event}");
        assert!(report.runs());
        nothing_was_done(&world).await;
    });
}

#[test]
fn a_wrong_password_is_told_and_a_new_one_is_used_without_a_restart() {
    run(async {
        let mut world = World::new("password").await;
        world.secret("wrong").await;
        world.operate().await;
        world.policy(|_| ()).await;
        let told = world.until_condition("Ready", "False/AuthenticationFailed").await;
        assert!(told.contains("mend user and password in the Secret"), "{told}");
        world.secret(PASSWORD).await;
        world.until_condition("Ready", "True").await;
        world.until_calm().await;

        // Rotated: the open connection goes on until it breaks, then the new password is there.
        world
            .postgres
            .execute("orders", "alter role latency_operator password 'rotated'")
            .await
            .expect("rotated");
        world.secret("rotated").await;
        world.signals_itself = true;
        let kick =
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'latency_operator'";
        world.postgres.execute("orders", kick).await.expect("disconnected");
        // Who is disconnected says so in its own time.
        eventually("the disconnection is logged", SOON, async || (world.signals() > 0).then_some(())).await;
        let signalled = world.signals();
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        world.until_event("RemediationCompleted").await;
        assert!(report.ended().await.is_err());
        assert_eq!(world.signals(), signalled + 1);
    });
}

#[test]
fn a_stopped_database_is_told_and_nothing_is_done() {
    run(async {
        let mut world = World::new("stopped").await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        world.postgres.stop(Stop::Fast).await.expect("stopped");
        world.exporter.set(slow());
        world.until_event("ObjectiveBreached").await;
        let told = world.until_condition("DataAvailable", "False/Unreachable").await;
        assert!(told.contains("db:"), "{told}");
        world.until_condition("Ready", "True").await;
        let all = world.remediations().list(&ListParams::default()).await.expect("remediations").items;
        assert!(all.is_empty(), "{all:#?}");
    });
}

#[test]
fn prometheus_that_stops_or_talks_rubbish_in_a_breach_is_no_data_and_no_recovery() {
    run(async {
        let mut world = World::new("blind").await;
        let mut prometheus =
            Prometheus::start(&world.lab.session, PrometheusOptions::default()).await.expect("Prometheus");
        world.backend = prometheus.url().to_owned();
        let labels = [("namespace", "blind"), ("pod", "orders-api-6d4cf56db6-x7k2p")];
        prometheus.add_target("app", &world.exporter.address(), &labels).expect("a target");
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        world.annotate("lp", "orders-api", Some("forever")).await;
        let _suffering = world.suffer_while(RUNAWAY, slow());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        world.until_event("RemediationBlocked").await;

        prometheus.stop().await.expect("stopped");
        let told = world.until_condition("DataAvailable", "False/Unreachable").await;
        assert!(told.contains("p95:"), "{told}");
        world.annotate("lp", "orders-api", None).await;
        let rubbish = Rubbish::on(prometheus.url()).await;
        world.until_condition("DataAvailable", "False/BadAnswer").await;
        world.until_condition("RemediationAllowed", "True").await;
        // It is still the same open incident, and nothing was done in the dark.
        let condition = world.condition("WithinObjective").await;
        assert!(condition.starts_with("False/IncidentOpen"), "{condition}");
        assert!(report.runs());
        nothing_was_done(&world).await;
        drop(rubbish);

        prometheus.start_again().await.expect("started again");
        assert!(report.ended().await.is_err(), "seen anew, it acts");
        world.until_event("ObjectiveRecovered").await;
        assert_eq!(world.signals(), 1);
        let incidents = world.incidents().list(&ListParams::default()).await.expect("incidents").items;
        assert_eq!(incidents.len(), 1, "one episode, one incident");
    });
}

#[test]
fn silence_is_not_hanging() {
    run(async {
        let mut world = World::new("silence").await;
        world.operate().await;
        world.policy(|_| ()).await;
        world.until_calm().await;
        world.exporter.set(hanging().in_flight(0));
        let told = world.until_condition("DataAvailable", "False/TooFewRequests").await;
        assert!(told.contains("50 are needed"), "{told}");
        let events = world.events().await;
        assert!(!events.iter().any(|event| event.starts_with("ObjectiveBreached")), "{events:#?}");
    });
}

#[test]
fn an_object_that_cannot_be_decoded_is_told_and_stops_nobody() {
    run(async {
        let mut world = World::alone("undecodable").await;
        world.operate().await;
        // The API server's schema would refuse it: it is stored while the schema is off.
        let plane = &world.lab.control_plane;
        let args = ["get", "crd", "latencypolicies.latency-operator.dev", "-o", "json"];
        let mut definition: serde_json::Value =
            serde_json::from_str(&kubectl(plane, &args, "").await).expect("a CRD");
        let kept = definition.clone();
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
            serde_json::json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        kubectl(plane, &["replace", "-f", "-"], &definition.to_string()).await;
        let mut broken = crate::support::policy();
        broken["metadata"]["name"] = "broken".into();
        broken["spec"]["evaluation"] = 5.into();
        let stored = lab::until(SOON, async || {
            let args = ["apply", "--server-side", "--validate=false", "-n", "undecodable", "-f", "-"];
            let finished = plane.kubectl_run(&args, &broken.to_string()).await.expect("kubectl runs");
            finished.status.success().then_some(())
        });
        stored.await.expect("the broken object is stored");
        world.policy(|_| ()).await;
        world.until_condition("Ready", "True").await;
        let told = lab::until(SOON, async || {
            let args = ["get", "lp", "-n", "undecodable", "broken", "-o", "jsonpath={.status.conditions}"];
            let conditions = kubectl(plane, &args, "").await;
            conditions.contains("Undecodable").then_some(conditions)
        });
        assert!(told.await.expect("a condition").contains("cannot be decoded"));
        let events = world.events_on("LatencyPolicy", "broken").await;
        assert!(events.iter().any(|event| event.starts_with("PolicyInvalid: ")), "{events:#?}");
        kubectl(plane, &["delete", "lp", "-n", "undecodable", "broken"], "").await;
        let mut mended: serde_json::Value =
            serde_json::from_str(&kubectl(plane, &args, "").await).expect("a CRD");
        mended["spec"] = kept["spec"].clone();
        kubectl(plane, &["replace", "-f", "-"], &mended.to_string()).await;
    });
}

/// Answers everything with something that is no Prometheus answer.
struct Rubbish(tokio::task::JoinHandle<()>);

impl Rubbish {
    async fn on(url: &str) -> Self {
        let address = url.trim_start_matches("http://").to_owned();
        let listener = tokio::net::TcpListener::bind(&address).await.expect("the port is free");
        let app = axum::Router::new().fallback(|| async { "<html>it works</html>" });
        Self(tokio::spawn(async move {
            axum::serve(listener, app).await.expect("it serves");
        }))
    }
}

impl Drop for Rubbish {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A leader has taken a number and was frozen before it created the incident. Its request may arrive at any time, and find the
/// name taken.
#[test]
fn an_incident_of_which_only_the_number_was_taken_is_created_by_the_successor_and_closed() {
    run(async {
        let mut world = World::new("number-taken").await;
        world.policy(|_| ()).await;
        let policy = world.policies().get("orders-api").await.expect("the policy");
        let id = PolicyRef {
            namespace: world.namespace.clone(),
            name: "orders-api".into(),
            uid: policy.uid().expect("a uid"),
        };
        let name = Incident::name_of(&id, 3);
        let status = json!({"status": {"incidentOrdinal": 3, "activeIncident": name}});
        let params = PatchParams::default();
        world.policies().patch_status("orders-api", &params, &Patch::Merge(&status)).await.expect("a status");
        world.operate().await;
        world.until_calm().await;
        let closed = eventually("the incident", SOON, async || {
            let found = world.incidents().get_opt(&name).await.expect("an answer")?;
            let phase = found.status.as_ref()?.phase.clone()?;
            (phase.0 == "Closed").then_some(found)
        });
        let mut late = closed.await;
        eventually("the end of it", SOON, async || {
            let policy = world.policies().get("orders-api").await.expect("the policy");
            let status = policy.status?;
            (status.active_incident.is_none() && status.incident_ordinal == Some(3)).then_some(())
        })
        .await;
        (late.metadata.resource_version, late.metadata.uid) = (None, None);
        let answer = world.incidents().create(&PostParams::default(), &late).await;
        assert!(
            matches!(answer, Err(kube::Error::Api(status)) if status.code == 409),
            "nobody would close it"
        );
        assert_eq!(world.incidents().list(&ListParams::default()).await.expect("a list").items.len(), 1);
    });
}
