//! Each shape that leads elsewhere, as somebody with rights in the namespace can write it down.

use std::time::Duration;

use engine::model::NoDataReason;
use kube::api::DeleteParams;
use latency_operator::connections::Services;
use serde_json::json;

use crate::support::{Rig, endpoint, run, slice};

/// No container has a port of that name.
const NONE: &str = "nonesuch";

#[test]
fn services_that_select_no_pods_are_refused() {
    run(async {
        let rig = Rig::new("elsewhere", &["external", "selectorless"]).await;
        let ports = json!([{"name": "http", "port": 80}]);
        rig.create(
            "elsewhere",
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "external"},
                "spec": {"type": "ExternalName", "externalName": "localhost", "ports": ports},
            }),
        )
        .await;
        rig.refused("external", NoDataReason::ExternalService, "name one that selects Pods").await;

        rig.create(
            "elsewhere",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "selectorless"}, "spec": {"ports": ports}}),
        )
        .await;
        let (pod, address) = rig.orders().await.remove(0);
        rig.slice("selectorless", "IPv4", endpoint(&address, "elsewhere", &pod)).await;
        rig.refused("selectorless", NoDataReason::NoSelector, "name one that selects Pods").await;
        rig.refused("nowhere", NoDataReason::ServiceNotFound, "does not exist in namespace elsewhere").await;
        assert_eq!(rig.connections(), 0);
    });
}

#[test]
fn addresses_written_by_hand_are_refused() {
    run(async {
        let names = ["nobody", "another-address", "another-namespace", "no-labels", "by-name", "ended"];
        let rig = Rig::new("foreign", &names).await;
        let (pod, address) = rig.orders().await.remove(0);
        for name in names {
            rig.service(name, if name == "ended" { "ended" } else { "orders" }, NONE).await;
        }
        let foreign = NoDataReason::ForeignAddress;

        rig.slice("nobody", "IPv4", json!({"addresses": ["10.0.0.250"]})).await;
        rig.refused("nobody", foreign, "10.0.0.250, which is said to be that of no Pod").await;

        rig.slice("another-address", "IPv4", endpoint("10.0.0.250", "foreign", &pod)).await;
        rig.refused("another-address", foreign, "which its Pod does not have").await;

        // A Pod of somebody else, with its true address.
        let other = Rig::new("foreign-other", &[]).await;
        let (theirs, their_address) = other.orders().await.remove(0);
        rig.slice("another-namespace", "IPv4", endpoint(&their_address, "foreign-other", &theirs)).await;
        rig.refused("another-namespace", foreign, "something else than a Pod of the namespace").await;

        rig.pod("bare", |_| ()).await;
        let bare = rig.pods().get("bare").await.expect("the Pod").status.and_then(|status| status.pod_ip);
        rig.slice("no-labels", "IPv4", endpoint(&bare.expect("an address"), "foreign", "bare")).await;
        rig.refused("no-labels", foreign, "has not the labels that the Service selects").await;

        rig.slice("by-name", "FQDN", endpoint("metadata.google.internal", "foreign", &pod)).await;
        rig.refused("by-name", foreign, "which is no IP address").await;

        // The address of a Pod that has ended may be another one's by now.
        rig.pod("ended", |_| ()).await;
        let ended = rig.pods().get("ended").await.expect("the Pod").status.and_then(|status| status.pod_ip);
        rig.status("ended", json!({"phase": "Succeeded"})).await;
        rig.slice("ended", "IPv4", endpoint(&ended.expect("an address"), "foreign", "ended")).await;
        rig.refused("ended", NoDataReason::NoReadyAddress, "kubectl get pods -n foreign -l app=ended").await;
        assert_eq!(rig.connections(), 0);
        // The same with nothing wrong about it is asked.
        rig.slice("nobody", "IPv4", endpoint(&address, "foreign", &pod)).await;
        assert_eq!(rig.ask("nobody").await.expect("an address").len(), 1);
        assert_eq!(rig.connections(), 1);
    });
}

#[test]
fn addresses_that_are_never_asked_are_refused_also_where_a_pod_claims_them() {
    run(async {
        let rig = Rig::new("forbidden", &["metadata", "api-server", "cluster-ip"]).await;
        // Loopback and link-local addresses cannot be written into a slice: the API server has the same opinion.
        for address in ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "::1", "fe80::1"] {
            let kind = if address.contains(':') { "IPv6" } else { "IPv4" };
            let object = slice("metadata", kind, &endpoint(address, "forbidden", "metadata")).to_string();
            let args = ["create", "-n", "forbidden", "-f", "-"];
            let finished = rig.plane.kubectl_run(&args, &object).await.expect("kubectl runs");
            assert!(!finished.status.success(), "{address} is admitted");
        }
        let api_server = json!({"addresses": ["fd00:77::1"], "conditions": {"ready": true}});
        rig.create("default", slice("kubernetes", "IPv6", &api_server)).await;
        let cases = [
            ("metadata", "fd00:ec2::254", "(cloud metadata), which is never asked"),
            ("api-server", "fd00:77::1", "the API server, which is never asked"),
        ];
        for (name, address, why) in cases {
            rig.service(name, name, NONE).await;
            rig.pod(name, |_| ()).await;
            let own = rig.pods().get(name).await.expect("the Pod").status.and_then(|status| status.pod_ip);
            rig.status(name, json!({"podIPs": [{"ip": own}, {"ip": address}]})).await;
            rig.slice(name, "IPv6", endpoint(address, "forbidden", name)).await;
            rig.refused(name, NoDataReason::ForbiddenAddress, why).await;
        }
        // The address by which everybody in the cluster reaches it.
        rig.service("cluster-ip", "orders", NONE).await;
        let pod = rig.orders().await.remove(0).0;
        rig.slice("cluster-ip", "IPv4", endpoint("10.96.0.1", "forbidden", &pod)).await;
        rig.refused("cluster-ip", NoDataReason::ForbiddenAddress, "10.96.0.1, the API server").await;
        assert_eq!(rig.connections(), 0);
    });
}

#[test]
fn pods_of_the_node_and_pods_that_are_not_ready_are_refused() {
    run(async {
        let names = ["host", "going", "unready"];
        let rig = Rig::new("unready", &names).await;
        for name in names {
            rig.service(name, name, "http").await;
            rig.pod(name, |pod| {
                if name == "host" {
                    pod["spec"]["hostNetwork"] = true.into();
                }
            })
            .await;
            if name == "host" {
                // kwok's Node has no address to give.
                let ip = "10.0.0.240";
                rig.status(name, json!({"hostIP": ip, "podIP": ip, "podIPs": [{"ip": ip}]})).await;
            }
            rig.until_written(name, |slice| !slice.endpoints.is_empty()).await;
        }
        rig.refused("host", NoDataReason::HostNetwork, "without hostNetwork").await;

        rig.ask("going").await.expect("still ready");
        rig.pods().delete("going", &DeleteParams::default()).await.expect("deleted");
        let look = "kubectl get pods -n unready -l app=going";
        rig.refused("going", NoDataReason::NoReadyAddress, look).await;
        let terminating = |slice: &k8s_openapi::api::discovery::v1::EndpointSlice| {
            // Going, or gone.
            slice.endpoints.iter().all(|one| one.conditions.as_ref().and_then(|c| c.ready) != Some(true))
        };
        rig.until_written("going", terminating).await;
        rig.refused("going", NoDataReason::NoReadyAddress, look).await;

        rig.ask("unready").await.expect("still ready");
        rig.status("unready", json!({"conditions": [{"type": "Ready", "status": "False"}]})).await;
        rig.until_written("unready", terminating).await;
        rig.refused("unready", NoDataReason::NoReadyAddress, "has no ready Pod").await;
        assert_eq!(rig.connections(), 2);
    });
}

#[test]
fn what_the_operator_may_not_read_is_told_with_the_right_to_grant() {
    run(async {
        let rig = Rig::new("unpermitted", &[]).await;
        let identity = rig.plane.kubeconfig_for("nobody-in-particular", &[]).expect("a kubeconfig");
        let client = rig.plane.client_with(&identity).await.expect("a client");
        let services = Services::new(client, [], Vec::new());
        let found = services.endpoints("unpermitted", "orders", "http", None, Duration::ZERO).await;
        let refusal = found.expect_err("no right");
        assert_eq!(refusal.reason, NoDataReason::PermissionDenied);
        assert_eq!(
            refusal.detail,
            "the operator may not get Service orders in namespace unpermitted; grant it"
        );
    });
}
