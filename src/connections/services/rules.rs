//! Which addresses of a Service may be asked. Whoever may write an EndpointSlice, or a Service without a selector, writes
//! addresses down; only those are believed that the Pods behind the Service have themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use engine::model::{NoData, NoDataReason};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{self as discovery, EndpointSlice};
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use super::Endpoint;
use super::address::{forbidden, plain};

/// Who keeps a slice, as it says itself: good enough to choose the words of a refusal.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROL_PLANE: &str = "endpointslice-controller.k8s.io";

/// Whose addresses are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The labels of its Pods; never empty.
    pub(super) selector: BTreeMap<String, String>,
    /// The port's name, by which the slices know it; empty for the only one.
    pub(super) port_name: String,
    /// The port's number at the Service.
    pub(super) port: String,
}

/// What a Service says about itself.
///
/// # Errors
/// It is one whose addresses are not asked, or has no such port.
pub(super) fn wanted(service: &Service, name: &str, port: &str) -> Result<Wanted, NoData> {
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        let detail = format!(
            "Service {name} is of type ExternalName, which may lead anywhere; name one that selects Pods"
        );
        return Err(NoData::new(NoDataReason::ExternalService, detail));
    }
    let selector = spec.and_then(|spec| spec.selector.clone()).unwrap_or_default();
    if selector.is_empty() {
        let detail = format!(
            "Service {name} has no selector, so that its addresses are written by hand; name one that selects Pods"
        );
        return Err(NoData::new(NoDataReason::NoSelector, detail));
    }
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let meant = ports.iter().find(|known| {
        let name = known.name.as_deref().unwrap_or_default();
        let is_tcp = known.protocol.as_deref().unwrap_or("TCP") == "TCP";
        is_tcp && ((!name.is_empty() && name == port) || known.port.to_string() == port)
    });
    let Some(meant) = meant else {
        let has: Vec<String> = ports.iter().map(|known| known.port.to_string()).collect();
        let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
        let detail = format!("Service {name} has no TCP port {port}; it has {has}");
        return Err(NoData::new(NoDataReason::NoSuchPort, detail));
    };
    Ok(Wanted { selector, port_name: meant.name.clone().unwrap_or_default(), port: meant.port.to_string() })
}

/// What was read to find the addresses.
pub(super) struct Read<'a> {
    pub(super) namespace: &'a str,
    pub(super) service: &'a str,
    pub(super) slices: &'a [EndpointSlice],
    /// The Pods that the Service selects, live.
    pub(super) pods: &'a [Pod],
    /// There are more Pods than these: an address may be that of another one.
    pub(super) more_pods: bool,
    /// The addresses of the API server.
    pub(super) api_server: &'a BTreeSet<IpAddr>,
    /// The Pods must be of this selector too.
    pub(super) of: Option<&'a Selector>,
}

/// Why one endpoint is not asked, gravest last: the gravest of a Service is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Refused {
    /// Or it may be the address of a Pod that was not read.
    NotReady,
    NotOfTarget,
    HostNetwork(IpAddr),
    Foreign(String, &'static str),
    ApiServer(IpAddr),
    Forbidden(IpAddr, &'static str),
}

/// The addresses that may be asked, by the Pod's name, one for each Pod.
///
/// # Errors
/// There is none; says why.
pub(super) fn choose(wanted: &Wanted, read: &Read<'_>) -> Result<Vec<Endpoint>, NoData> {
    let mut chosen: Vec<Endpoint> = Vec::new();
    let mut refused: Option<Refused> = None;
    for slice in read.slices {
        let port = port_of(slice, &wanted.port_name);
        let by_control_plane = slice.labels().get(MANAGED_BY).is_some_and(|by| by == CONTROL_PLANE);
        for endpoint in &slice.endpoints {
            // The addresses of one endpoint are interchangeable; consumers are to use the first.
            let Some(text) = endpoint.addresses.first() else { continue };
            let asked = match (text.parse::<IpAddr>(), port) {
                (Ok(address), Some(port)) => ask(read, endpoint, address, by_control_plane)
                    .map(|pod| Endpoint { pod, address: SocketAddr::new(address, port) }),
                (Ok(_), None) => Err(Refused::NotReady),
                // A name, where the slice is of the type FQDN.
                (Err(_), _) => Err(Refused::Foreign(text.clone(), "which is no IP address")),
            };
            match asked {
                Ok(endpoint) => chosen.push(endpoint),
                Err(why) => refused = refused.max(Some(why)),
            }
        }
    }
    // A Pod with addresses of two families is asked at the first of them.
    chosen.sort();
    chosen.dedup_by(|second, first| second.pod == first.pod);
    if chosen.is_empty() { Err(told(wanted, read, refused)) } else { Ok(chosen) }
}

fn port_of(slice: &EndpointSlice, name: &str) -> Option<u16> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let known = ports.iter().find(|known| {
        let is_tcp = known.protocol.as_deref().unwrap_or("TCP") == "TCP";
        is_tcp && known.name.as_deref().unwrap_or_default() == name
    });
    known?.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

/// The Pod behind an address that may be asked.
fn ask(
    read: &Read<'_>,
    endpoint: &discovery::Endpoint,
    address: IpAddr,
    by_control_plane: bool,
) -> Result<String, Refused> {
    if let Some(class) = forbidden(address) {
        return Err(Refused::Forbidden(address, class));
    }
    if read.api_server.contains(&plain(address)) {
        return Err(Refused::ApiServer(address));
    }
    let foreign = |why| Refused::Foreign(address.to_string(), why);
    let reference =
        endpoint.target_ref.as_ref().ok_or_else(|| foreign("which is said to be that of no Pod"))?;
    if reference.kind.as_deref() != Some("Pod") || reference.namespace.as_deref() != Some(read.namespace) {
        return Err(foreign("which is said to be that of something else than a Pod of the namespace"));
    }
    let Some(pod) = read.pods.iter().find(|pod| is_meant(pod, reference)) else {
        let unknown = foreign("whose Pod does not exist or has not the labels that the Service selects");
        // The control plane writes down what was there a moment ago.
        return Err(if read.more_pods || by_control_plane { Refused::NotReady } else { unknown });
    };
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    let on_host = status.into_iter().flat_map(|status| {
        status
            .host_ips
            .iter()
            .flatten()
            .filter_map(|host| host.ip.parse().ok())
            .chain(status.host_ip.as_ref().and_then(|ip| ip.parse().ok()))
    });
    if spec.and_then(|spec| spec.host_network) == Some(true)
        || on_host.into_iter().any(|ip: IpAddr| ip == address)
    {
        return Err(Refused::HostNetwork(address));
    }
    let mut own = status.and_then(|status| status.pod_ips.as_deref()).unwrap_or_default().iter();
    if !own.any(|own| own.ip.parse() == Ok(address)) {
        return Err(foreign("which its Pod does not have"));
    }
    // The address of a Pod that has ended may be another one's by now.
    let runs = status.and_then(|status| status.phase.as_deref()) == Some("Running")
        && pod.metadata.deletion_timestamp.is_none();
    let conditions = endpoint.conditions.as_ref();
    let is_ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true)
        && !conditions.and_then(|conditions| conditions.terminating).unwrap_or_default();
    if !runs || !is_ready {
        return Err(Refused::NotReady);
    }
    match read.of {
        Some(target) if !target.matches(pod.labels()) => Err(Refused::NotOfTarget),
        Some(_) | None => Ok(pod.name_any()),
    }
}

/// Whether the Pod is the one that a slice refers to. Its namespace is that of the list.
fn is_meant(pod: &Pod, reference: &ObjectReference) -> bool {
    pod.metadata.name == reference.name && (reference.uid.is_none() || pod.metadata.uid == reference.uid)
}

fn told(wanted: &Wanted, read: &Read<'_>, refused: Option<Refused>) -> NoData {
    let Read { namespace, service, .. } = read;
    let (reason, detail) = match refused {
        None | Some(Refused::NotReady) => {
            let labels: Vec<String> =
                wanted.selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let look = format!("kubectl get pods -n {namespace} -l {}", labels.join(","));
            (
                NoDataReason::NoReadyAddress,
                format!("Service {service} has no ready Pod; look at them: {look}"),
            )
        }
        Some(Refused::NotOfTarget) => {
            let fix = "name the Service that leads to the target";
            (NoDataReason::NotOfTarget, format!("the Pods of Service {service} are not the target's; {fix}"))
        }
        Some(Refused::HostNetwork(_)) => {
            let fix = "they are asked only without hostNetwork";
            let of = "use the network of their node, whose address is not asked";
            (NoDataReason::HostNetwork, format!("the Pods of Service {service} {of}; {fix}"))
        }
        Some(Refused::Foreign(address, why)) => {
            let fix = "remove the EndpointSlice that says so";
            let detail =
                format!("Service {service} leads to {}, {why}; {fix}", crate::api::text::shown(&address, 60));
            (NoDataReason::ForeignAddress, detail)
        }
        Some(Refused::ApiServer(address)) => {
            let fix = "remove the EndpointSlice that says so";
            let detail =
                format!("Service {service} leads to {address}, the API server, which is never asked; {fix}");
            (NoDataReason::ForbiddenAddress, detail)
        }
        Some(Refused::Forbidden(address, class)) => {
            let fix = "remove the EndpointSlice that says so";
            let detail =
                format!("Service {service} leads to {address} ({class}), which is never asked; {fix}");
            (NoDataReason::ForbiddenAddress, detail)
        }
    };
    NoData::new(reason, detail)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A Service with one Pod and one slice, as the control plane makes them; each test spoils one thing.
    struct Scene {
        service: Value,
        slices: Vec<Value>,
        pods: Vec<Value>,
        more_pods: bool,
        of: Option<Selector>,
    }

    fn pod(name: &str, address: &str) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "labels": {"app": "orders", "tier": "web"}},
            "spec": {"containers": []},
            "status": {"phase": "Running", "hostIP": "192.168.0.7", "hostIPs": [{"ip": "192.168.0.7"}], "podIPs": [{"ip": address}]},
        })
    }

    fn endpoint(pod: &str, address: &str) -> Value {
        json!({
            "addresses": [address],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "shop", "name": pod, "uid": format!("uid-{pod}")},
        })
    }

    fn slice(endpoints: &[Value]) -> Value {
        json!({
            "metadata": {"name": "orders-1"}, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "http", "protocol": "TCP", "port": 8000}, {"name": "dns", "protocol": "UDP", "port": 53}],
        })
    }

    impl Scene {
        fn new() -> Self {
            Self {
                service: json!({"spec": {
                    "type": "ClusterIP", "selector": {"app": "orders"},
                    "ports": [{"name": "http", "port": 80, "targetPort": 8000}, {"name": "dns", "port": 53, "protocol": "UDP"}],
                }}),
                slices: vec![slice(&[endpoint("a", "10.0.0.1")])],
                pods: vec![pod("a", "10.0.0.1")],
                more_pods: false,
                of: None,
            }
        }

        fn ask(&self, port: &str) -> Result<Vec<String>, NoData> {
            let service: Service = serde_json::from_value(self.service.clone()).unwrap();
            let wanted = wanted(&service, "orders", port)?;
            let read = |value: &Value| serde_json::from_value::<EndpointSlice>(value.clone()).unwrap();
            let slices: Vec<EndpointSlice> = self.slices.iter().map(read).collect();
            let read = |value: &Value| serde_json::from_value::<Pod>(value.clone()).unwrap();
            let pods: Vec<Pod> = self.pods.iter().map(read).collect();
            let chosen = choose(
                &wanted,
                &Read {
                    namespace: "shop",
                    service: "orders",
                    slices: &slices,
                    pods: &pods,
                    more_pods: self.more_pods,
                    api_server: &BTreeSet::from(["10.9.9.9".parse().unwrap()]),
                    of: self.of.as_ref(),
                },
            )?;
            Ok(chosen.iter().map(|endpoint| format!("{} {}", endpoint.pod, endpoint.address)).collect())
        }

        fn refusal(&self) -> NoData {
            self.ask("http").expect_err("refused")
        }
    }

    #[test]
    fn a_ready_pod_of_the_service_is_asked_at_its_own_address() {
        let mut scene = Scene::new();
        for port in ["http", "80"] {
            assert_eq!(scene.ask(port).unwrap(), ["a 10.0.0.1:8000"]);
        }
        // Only the name and number of the Service's own port are meant.
        for port in ["8000", "dns", "53", "", "https"] {
            let refusal = scene.ask(port).unwrap_err();
            assert_eq!(refusal.reason, NoDataReason::NoSuchPort, "{port}");
        }
        // A port without a name has none in the slice either.
        scene.service["spec"]["ports"] = json!([{"port": 80}]);
        scene.slices[0]["ports"] = json!([{"name": "", "port": 8000}]);
        assert_eq!(scene.ask("80").unwrap(), ["a 10.0.0.1:8000"]);
    }

    #[test]
    fn each_pod_is_asked_once_and_in_the_same_order() {
        let mut scene = Scene::new();
        scene.pods = vec![pod("b", "10.0.0.2"), pod("a", "10.0.0.1")];
        scene.pods[0]["status"]["podIPs"] = json!([{"ip": "10.0.0.2"}, {"ip": "fd00::2"}]);
        scene.slices = vec![
            slice(&[endpoint("b", "fd00::2")]),
            slice(&[endpoint("b", "10.0.0.2"), endpoint("a", "10.0.0.1")]),
        ];
        assert_eq!(scene.ask("http").unwrap(), ["a 10.0.0.1:8000", "b 10.0.0.2:8000"]);
    }

    #[test]
    fn services_that_may_lead_anywhere_are_refused() {
        let mut scene = Scene::new();
        scene.service["spec"]["type"] = "ExternalName".into();
        assert_eq!(scene.refusal().reason, NoDataReason::ExternalService);
        let mut scene = Scene::new();
        for none in [Value::Null, json!({})] {
            scene.service["spec"]["selector"] = none;
            assert_eq!(scene.refusal().reason, NoDataReason::NoSelector);
        }
    }

    #[test]
    fn what_is_not_ready_is_not_asked() {
        type Change = fn(&mut Scene);
        for change in [
            (|s| s.slices.clear()) as Change,
            |s| s.slices[0]["endpoints"][0]["conditions"]["ready"] = false.into(),
            |s| s.slices[0]["endpoints"][0]["conditions"]["terminating"] = true.into(),
            |s| s.slices[0]["ports"][0]["port"] = Value::Null,
            |s| s.pods[0]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
            |s| s.pods[0]["status"]["phase"] = "Succeeded".into(),
            |s| {
                s.pods.clear();
                s.more_pods = true;
            },
            |s| {
                s.pods.clear();
                s.slices[0]["metadata"]["labels"] = json!({MANAGED_BY: CONTROL_PLANE});
            },
        ] {
            let mut scene = Scene::new();
            change(&mut scene);
            let refusal = scene.refusal();
            assert_eq!(refusal.reason, NoDataReason::NoReadyAddress, "{refusal}");
            assert!(refusal.detail.ends_with("kubectl get pods -n shop -l app=orders"), "{refusal}");
        }
    }

    #[test]
    fn an_address_that_no_pod_of_the_service_has_is_refused() {
        type Change = fn(&mut Scene);
        for (change, why) in [
            ((|s| s.slices[0]["endpoints"][0]["targetRef"] = Value::Null) as Change, "that of no Pod"),
            (|s| s.slices[0]["endpoints"][0]["targetRef"]["kind"] = "Node".into(), "something else"),
            (|s| s.slices[0]["endpoints"][0]["targetRef"]["namespace"] = "other".into(), "something else"),
            (|s| s.slices[0]["endpoints"][0]["targetRef"]["namespace"] = Value::Null, "something else"),
            (|s| s.slices[0]["endpoints"][0]["targetRef"]["name"] = "z".into(), "does not exist or has not"),
            (
                |s| s.slices[0]["endpoints"][0]["targetRef"]["uid"] = "older".into(),
                "does not exist or has not",
            ),
            (|s| s.slices[0]["endpoints"][0]["addresses"][0] = "10.0.0.2".into(), "its Pod does not have"),
            (|s| s.slices[0]["endpoints"][0]["addresses"][0] = "example.com".into(), "no IP address"),
            (|s| s.pods[0]["status"]["podIPs"] = Value::Null, "its Pod does not have"),
            // The Pods are listed by the Service's selector.
            (|s| s.pods.clear(), "has not the labels"),
        ] {
            let mut scene = Scene::new();
            change(&mut scene);
            let refusal = scene.refusal();
            assert_eq!(refusal.reason, NoDataReason::ForeignAddress, "{refusal}");
            assert!(refusal.detail.contains(why), "{refusal}");
        }
    }

    #[test]
    fn the_address_of_a_node_is_not_asked() {
        let mut scene = Scene::new();
        scene.pods[0]["spec"]["hostNetwork"] = true.into();
        assert_eq!(scene.refusal().reason, NoDataReason::HostNetwork);
        for place in ["hostIP", "hostIPs"] {
            let mut scene = Scene::new();
            scene.pods[0]["status"].as_object_mut().unwrap().retain(|name, _| !name.starts_with("hostIP"));
            let value = if place == "hostIP" { json!("10.0.0.1") } else { json!([{"ip": "10.0.0.1"}]) };
            scene.pods[0]["status"][place] = value;
            assert_eq!(scene.refusal().reason, NoDataReason::HostNetwork, "{place}");
        }
    }

    #[test]
    fn an_address_that_is_never_asked_stays_so_also_where_a_pod_claims_it() {
        for (address, what) in [
            ("127.0.0.1", "(loopback)"),
            ("169.254.169.254", "(link-local)"),
            ("::ffff:169.254.169.254", "(link-local)"),
            ("fd00:ec2::254", "(cloud metadata)"),
            ("10.9.9.9", "the API server"),
            ("::ffff:10.9.9.9", "the API server"),
        ] {
            let mut scene = Scene::new();
            scene.pods[0] = pod("a", address);
            scene.slices[0] = slice(&[endpoint("a", address)]);
            let refusal = scene.refusal();
            assert_eq!(refusal.reason, NoDataReason::ForbiddenAddress, "{refusal}");
            assert!(refusal.detail.contains(what), "{refusal}");
        }
    }

    #[test]
    fn the_gravest_refusal_is_told_and_the_good_addresses_are_asked_all_the_same() {
        let mut scene = Scene::new();
        let nobodys = json!({"addresses": ["10.0.0.9"]});
        scene.slices.push(slice(&[nobodys, json!({"addresses": ["127.0.0.1"]})]));
        assert_eq!(scene.ask("http").unwrap(), ["a 10.0.0.1:8000"]);
        scene.slices[0]["endpoints"][0]["conditions"]["ready"] = false.into();
        assert_eq!(scene.refusal().reason, NoDataReason::ForbiddenAddress);
    }

    #[test]
    fn where_the_target_is_meant_the_pods_of_something_else_are_not_asked() {
        let mut scene = Scene::new();
        let selector = |tier| Selector::from_iter([("app", "orders"), ("tier", tier)]);
        scene.of = Some(selector("web"));
        assert_eq!(scene.ask("http").unwrap(), ["a 10.0.0.1:8000"]);
        scene.of = Some(selector("worker"));
        assert_eq!(scene.refusal().reason, NoDataReason::NotOfTarget);
    }
}
