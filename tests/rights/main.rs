//! Least privilege, measured: a compact run in which the operator does everything that it ever does, and then a comparison of
//! what it asked the API server for (as the server's audit log has it) with what it is granted, and with docs/rbac.md. The
//! chart's admission policies are in place meanwhile: they refuse nothing that it does.
//!
//! A binary of its own, so that the laboratory and its audit log are this run's alone, and nothing has to wait for other tests.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

mod document;
mod grants;
mod play;
#[path = "../e2e/support.rs"]
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
mod support;
mod used;

use std::collections::BTreeSet;

use lab::Release;
use serde_json::json;

use self::grants::Grant;
use self::support::{OPERATOR, World};
use self::used::Request;

/// The release of which docs/rbac.md speaks, and the Lease of it.
const RELEASE: &str = "latency-operator";

/// The texts with the Roles and ClusterRoles that the chart gives the operator.
async fn roles() -> Vec<String> {
    let release = Release::new(json!({})).named(RELEASE, RELEASE);
    let only = ["templates/rights.yaml", "templates/lease.yaml"];
    let rendered = support::lab().await.helm.template(&release, &only).await.expect("helm runs");
    vec![rendered.success("rendering the chart's rights").expect("it renders").stdout]
}

/// What was asked for, as by the one operator of a cluster: here each world has a Lease of its own.
fn requests(world: &World) -> Vec<Request> {
    let audited = world.lab.control_plane.audit_of(OPERATOR).expect("the audit log");
    let mut requests: Vec<Request> = used::requests(&audited).into_iter().collect();
    for request in &mut requests {
        if request.resource == "leases" && request.name == world.namespace {
            RELEASE.clone_into(&mut request.name);
        }
    }
    requests
}

#[test]
fn every_right_is_written_down_and_no_other() {
    support::run(async { compare(&Grant::read(&roles().await)) });
}

fn compare(granted: &BTreeSet<Grant>) {
    let documented = document::rights();
    let undocumented: Vec<String> =
        granted.iter().filter(|grant| !documented.contains_key(*grant)).map(ToString::to_string).collect();
    assert!(undocumented.is_empty(), "granted, and docs/rbac.md does not say what for: {undocumented:#?}");
    let withheld: Vec<String> =
        documented.keys().filter(|grant| !granted.contains(*grant)).map(ToString::to_string).collect();
    assert!(withheld.is_empty(), "docs/rbac.md names rights that are not granted: {withheld:#?}");
}

#[test]
fn every_right_is_used_or_explained_and_none_is_missing() {
    support::run(async {
        let world = play::everything().await;
        let requests = requests(&world);
        let granted = Grant::read(&roles().await);
        assert!(requests.len() > 20, "hardly anything was asked for: {requests:#?}");

        let mut troubles = Vec::new();
        for request in &requests {
            if request.forbidden || !granted.iter().any(|grant| grant.covers(request)) {
                troubles.push(format!("missing: {request} was asked for, and is not granted"));
            }
        }
        for (grant, unused_because) in document::rights() {
            let used = requests.iter().any(|request| grant.covers(request));
            match (used, unused_because) {
                (true, None) | (false, Some(_)) => {}
                (false, None) => troubles.push(format!("unused: {grant}, and docs/rbac.md does not say why")),
                (true, Some(why)) => troubles.push(format!("{grant} is used, and docs/rbac.md says: {why}")),
            }
        }
        assert!(troubles.is_empty(), "{}\n{}", troubles.join("\n"), world.operator_log());
    });
}
