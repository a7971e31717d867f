//! Which addresses of a target's Pods may be asked. Nobody writes these addresses down: they are those of the Pods' status.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use engine::model::{NoData, NoDataReason, TargetKind, TargetRef};
use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, PodSpec};
use kube::ResourceExt;

use super::Endpoint;
use super::address::{forbidden, plain};

/// The label that a Deployment gives its ReplicaSets and Pods; the name of a ReplicaSet ends with it.
const TEMPLATE: &str = "pod-template-hash";

/// Why a Pod is not asked, gravest last: the gravest is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Refused {
    NotReady,
    NoSuchPort(Vec<String>),
    HostNetwork,
    Forbidden(IpAddr, &'static str),
}

/// The addresses that may be asked, by the Pod's name, one for each Pod; and name and number of the port, the name empty where
/// there is none. The target comes with its uid.
///
/// # Errors
/// There is none; says why.
pub(super) fn choose(
    (target, uid): (&TargetRef, &str),
    port: &str,
    pods: &[Pod],
    api_server: &BTreeSet<IpAddr>,
) -> Result<(Vec<Endpoint>, [String; 2]), NoData> {
    let mut chosen: Vec<Endpoint> = Vec::new();
    let mut names = [String::new(), String::new()];
    let mut refused: Option<Refused> = None;
    for pod in pods.iter().filter(|pod| is_own(pod, target, uid)) {
        match ask(pod, port, api_server) {
            Ok((address, meant)) => {
                names = [meant.name.unwrap_or_default(), address.port().to_string()];
                chosen.push(Endpoint { pod: pod.name_any(), address });
            }
            Err(why) => refused = refused.max(Some(why)),
        }
    }
    chosen.sort();
    if chosen.is_empty() { Err(told(target, port, refused)) } else { Ok((chosen, names)) }
}

/// Whether the target made the Pod. A Deployment makes it through a ReplicaSet, whose name is the Deployment's, a dash and the hash
/// of the template.
fn is_own(pod: &Pod, target: &TargetRef, uid: &str) -> bool {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let Some(owner) = owner else { return false };
    match target.kind {
        TargetKind::StatefulSet => owner.kind == "StatefulSet" && owner.uid == uid,
        TargetKind::Deployment => {
            let hash = pod.labels().get(TEMPLATE).map(String::as_str).unwrap_or_default();
            let replica_set = format!("{}-{hash}", target.name);
            owner.kind == "ReplicaSet" && !hash.is_empty() && owner.name == replica_set
        }
    }
}

/// The Pod's address, and its port.
fn ask(pod: &Pod, port: &str, api_server: &BTreeSet<IpAddr>) -> Result<(SocketAddr, ContainerPort), Refused> {
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    // The address of a Pod that has ended may be another one's by now.
    let runs = status.and_then(|status| status.phase.as_deref()) == Some("Running")
        && pod.metadata.deletion_timestamp.is_none();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
    let address = status.and_then(|status| status.pod_ip.as_deref()?.parse::<IpAddr>().ok());
    let (true, true, Some(address)) = (runs, is_ready, address) else { return Err(Refused::NotReady) };
    if let Some(class) = forbidden(address) {
        return Err(Refused::Forbidden(address, class));
    }
    if api_server.contains(&plain(address)) {
        return Err(Refused::Forbidden(address, "the API server"));
    }
    let host = status.and_then(|status| status.host_ip.as_deref()?.parse::<IpAddr>().ok());
    if spec.and_then(|spec| spec.host_network) == Some(true) || host == Some(address) {
        return Err(Refused::HostNetwork);
    }
    let is_meant = |known: &&ContainerPort| {
        known.name.as_deref() == Some(port) || known.container_port.to_string() == port
    };
    let meant = ports(spec).find(is_meant);
    let number =
        meant.and_then(|known| u16::try_from(known.container_port).ok()).filter(|number| *number != 0);
    match (meant, number) {
        (Some(meant), Some(number)) => Ok((SocketAddr::new(address, number), meant.clone())),
        _ => Err(Refused::NoSuchPort(ports(spec).map(written).collect())),
    }
}

/// The TCP ports of everything that runs beside each other: containers, and init containers that stay.
fn ports(spec: Option<&PodSpec>) -> impl Iterator<Item = &ContainerPort> {
    let stays = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let containers = spec.into_iter().flat_map(|spec| &spec.containers);
    let sidecars = spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten()).filter(stays);
    let all = containers.chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    all.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP")
}

fn written(port: &ContainerPort) -> String {
    match &port.name {
        Some(name) => format!("{} ({name})", port.container_port),
        None => port.container_port.to_string(),
    }
}

fn told(target: &TargetRef, port: &str, refused: Option<Refused>) -> NoData {
    let (reason, detail) = match refused {
        None | Some(Refused::NotReady) => {
            (NoDataReason::NoReadyAddress, format!("{target} has no ready Pod; check its Pods"))
        }
        Some(Refused::NoSuchPort(has)) => {
            let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
            let detail = format!(
                "the containers of {target} declare no TCP port {port}; they declare {has}; add it to their ports"
            );
            (NoDataReason::NoSuchPort, detail)
        }
        Some(Refused::HostNetwork) => {
            let of = "use the network of their node, whose address is not asked";
            let detail = format!("the Pods of {target} {of}; they are asked only without hostNetwork");
            (NoDataReason::HostNetwork, detail)
        }
        Some(Refused::Forbidden(address, class)) => {
            let detail =
                format!("a Pod of {target} has the address {address} ({class}), which is never asked");
            (NoDataReason::ForbiddenAddress, detail)
        }
    };
    NoData::new(reason, detail)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TARGET: &str = "orders-api";

    fn pod(kind: TargetKind) -> Value {
        let (kind, name, uid) = match kind {
            TargetKind::Deployment => ("ReplicaSet", "orders-api-6d4c", "rs"),
            TargetKind::StatefulSet => ("StatefulSet", TARGET, "u"),
        };
        let owner =
            json!({"kind": kind, "name": name, "uid": uid, "apiVersion": "apps/v1", "controller": true});
        json!({
            "metadata": {"name": "p", "labels": {TEMPLATE: "6d4c"}, "ownerReferences": [owner]},
            "spec": {"containers": [{"name": "app", "ports": [
                {"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"name": "metrics", "containerPort": 9100},
            ]}]},
            "status": {
                "phase": "Running", "hostIP": "192.168.0.7", "podIP": "10.0.0.1",
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        })
    }

    fn choose_of(kind: TargetKind, port: &str, pods: &[Value]) -> Result<Vec<String>, NoData> {
        let target = TargetRef { kind, name: TARGET.to_owned() };
        let pods: Vec<Pod> = pods.iter().map(|pod| serde_json::from_value(pod.clone()).unwrap()).collect();
        let api_server = BTreeSet::from(["10.0.0.9".parse().unwrap()]);
        let (chosen, names) = choose((&target, "u"), port, &pods, &api_server)?;
        assert_eq!(names, ["metrics", "9100"]);
        Ok(chosen.iter().map(|endpoint| endpoint.address.to_string()).collect())
    }

    #[test]
    fn the_ready_pods_of_both_kinds_are_asked_at_a_port_by_name_or_number() {
        for kind in [TargetKind::Deployment, TargetKind::StatefulSet] {
            for port in ["metrics", "9100"] {
                assert_eq!(choose_of(kind, port, &[pod(kind)]).unwrap(), ["10.0.0.1:9100"]);
            }
        }
    }

    #[test]
    fn each_rule_refuses_with_a_reason_of_its_own() {
        let cases: [(&str, Value, NoDataReason); 10] = [
            ("/metadata/ownerReferences/0/name", json!("orders-6d4c"), NoDataReason::NoReadyAddress),
            ("/metadata/ownerReferences/0/controller", json!(false), NoDataReason::NoReadyAddress),
            ("/metadata/labels/pod-template-hash", json!(""), NoDataReason::NoReadyAddress),
            ("/status/phase", json!("Succeeded"), NoDataReason::NoReadyAddress),
            ("/status/conditions/0/status", json!("False"), NoDataReason::NoReadyAddress),
            ("/status/podIP", json!("127.0.0.1"), NoDataReason::ForbiddenAddress),
            ("/status/podIP", json!("169.254.169.254"), NoDataReason::ForbiddenAddress),
            ("/status/podIP", json!("10.0.0.9"), NoDataReason::ForbiddenAddress),
            ("/status/podIP", json!("192.168.0.7"), NoDataReason::HostNetwork),
            ("/spec/containers/0/ports/1/name", json!("http"), NoDataReason::NoSuchPort),
        ];
        for (place, value, expected) in cases {
            let mut spoiled = pod(TargetKind::Deployment);
            *spoiled.pointer_mut(place).unwrap() = value;
            let refused = choose_of(TargetKind::Deployment, "metrics", &[spoiled]).unwrap_err();
            assert_eq!(refused.reason, expected, "{place}: {refused}");
        }
        let mut going = pod(TargetKind::Deployment);
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let refused = choose_of(TargetKind::Deployment, "metrics", &[going]).unwrap_err();
        assert_eq!(refused.reason, NoDataReason::NoReadyAddress);
        let refused = choose_of(TargetKind::Deployment, "dns", &[pod(TargetKind::Deployment)]).unwrap_err();
        assert!(refused.detail.contains("they declare 9100 (metrics)"), "{refused}");
    }
}
