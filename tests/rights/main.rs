//! Least privilege, measured: a compact run in which the operator does everything that it ever does, and then a comparison of
//! what it asked the API server for (as the server's audit log has it) with what it is granted, and with docs/rbac.md.
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

use std::path::Path;

use self::grants::Grant;
use self::support::OPERATOR;

/// The texts with the Roles and ClusterRoles that the operator is given, each ClusterRole in the whole cluster.
fn roles() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    vec![std::fs::read_to_string(root.join("deploy/rbac.yaml")).expect("the roles")]
}

#[test]
fn every_right_is_written_down_and_no_other() {
    let granted = Grant::read(&roles());
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
        let requests = used::requests(&world.lab.control_plane.audit_of(OPERATOR).expect("the audit log"));
        let granted = Grant::read(&roles());
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
