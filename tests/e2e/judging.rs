//! The judge of all these tests sees what it is there to see.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::{World, run};

#[test]
fn what_nobody_decided_is_noticed_whoever_did_it() {
    run(async {
        let mut world = World::new("undecided").await;
        assert_eq!(world.violations(), Vec::<String>::new());
        let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
        let cancel = "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'report' and \
             state = 'active'";
        lab::until(crate::support::SOON, async || {
            world.postgres.execute("orders", cancel).await.expect("asked");
            (!report.runs()).then_some(())
        })
        .await
        .expect("it is cancelled");
        let identity = &world.lab.operator_kubeconfig;
        let client = world.lab.control_plane.client_with(identity).await.expect("a client");
        let targets: Api<Deployment> = Api::namespaced(client, &world.namespace);
        let patch = Patch::Merge(json!({"spec": {"replicas": 7}}));
        targets.patch_scale("orders-api", &PatchParams::default(), &patch).await.expect("scaled");

        let violations = world.violations();
        let seen = |what: &str| violations.iter().any(|one| one.starts_with("S3") && one.contains(what));
        assert!(seen("was signalled, and no stored intent says so"), "{violations:#?}");
        assert!(seen("was set to 7, and no stored intent says so"), "{violations:#?}");
        world.judged = true;
    });
}
