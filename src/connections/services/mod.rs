//! From a Service or a target to the addresses that may be asked: those of its own ready Pods, and no others. A policy's
//! author names it; where the operator sends a request is decided here.
//!
//! One look costs three reads of the API server and, once a minute for all of them, two more for its own addresses; what was
//! found is trusted as long as the caller says, and not after a failure.

pub mod address;
mod dev;
mod pods;
mod rules;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use engine::model::{NoData, NoDataReason, TargetRef};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ListParams;
use kube::core::Selector;
use kube::{Api, Client};

pub use self::dev::DevOverride;
use self::rules::Read;
use super::cached::Cached;
use super::secrets::brief;
use super::workload;
use crate::api::text::shown;

/// How long the API server's own addresses are trusted.
const API_SERVER: Duration = Duration::from_secs(60);
/// So soon after a look nobody causes the next one: neither by having failed to reach what was found, nor because nothing was.
const AGAIN: Duration = Duration::from_secs(1);
/// What nobody asks for any more is kept so long.
const KEPT: Duration = Duration::from_secs(300);
/// Pods of one Service that are looked at: enough to take turns.
const MOST_PODS: u32 = 100;
/// Slices of one Service that are looked at; each has a hundred addresses.
const MOST_SLICES: u32 = 20;
/// The label by which a slice says whose it is.
const OF_SERVICE: &str = "kubernetes.io/service-name";

/// An address that may be asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The Pod that has it.
    pub pod: String,
    /// The Pod's address and port.
    pub address: SocketAddr,
}

type Found = Result<Vec<Endpoint>, NoData>;
/// Namespace and name of a Service, or of a target.
type Key = (String, String);
/// What was found of one Service, by port and by the Pods that were asked for.
type OfService = Cached<(String, String), Found>;

/// The Services that policies refer to. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    client: Client,
    /// Where this process reaches the API server.
    own: Arc<BTreeSet<IpAddr>>,
    overrides: Arc<[DevOverride]>,
    known: Cached<Key, OfService>,
    api_server: Cached<(), Result<BTreeSet<IpAddr>, NoData>>,
}

impl Services {
    /// Reads with this client. `api_server` is where it is reached, as far as this process was told by address: nothing is
    /// ever asked of it.
    #[must_use]
    pub fn new(
        client: Client,
        api_server: impl IntoIterator<Item = IpAddr>,
        overrides: Vec<DevOverride>,
    ) -> Self {
        Self {
            client,
            own: Arc::new(api_server.into_iter().map(address::plain).collect()),
            overrides: overrides.into(),
            known: Cached::new(KEPT),
            api_server: Cached::new(KEPT),
        }
    }

    /// The addresses of a Service that may be asked, by the Pod's name, at most a hundred; never none. `port` is the name or
    /// number of the Service's port. With `of`, only Pods that it selects. What was found no longer than `max_age` ago is
    /// believed; with zero it is looked for anew.
    ///
    /// # Errors
    /// There is no such address; the reason is that of the rule which refused, and says what to do.
    pub async fn endpoints(
        &self,
        namespace: &str,
        service: &str,
        port: &str,
        of: Option<&LabelSelector>,
        max_age: Duration,
    ) -> Found {
        let of = match of.map(|selector| Selector::try_from(selector.clone())).transpose() {
            Ok(of) => of,
            Err(error) => {
                let detail =
                    format!("the target's selector cannot be understood: {}", shown(&error.to_string(), 100));
                return Err(NoData::new(NoDataReason::NotOfTarget, detail));
            }
        };
        let selected = of.as_ref().map(ToString::to_string).unwrap_or_default();
        let asked = (port.to_owned(), selected);
        let look = self.look(namespace, service, port, of.as_ref());
        self.known((namespace, service), asked, max_age, look).await
    }

    /// The addresses of a target's own ready Pods, by the Pod's name, at most a hundred; never none. `port` is the name or
    /// number of a container's port. What was found no longer than `max_age` ago is believed. An override names the target
    /// where it would name a Service.
    ///
    /// # Errors
    /// There is no such address; the reason is that of the rule which refused, and says what to do.
    pub async fn pods(&self, namespace: &str, target: &TargetRef, port: &str, max_age: Duration) -> Found {
        let asked = (port.to_owned(), String::new());
        let look = self.look_for_pods(namespace, target, port);
        self.known((namespace, &target.to_string()), asked, max_age, look).await
    }

    /// What was found is used again for `max_age`; otherwise one looks for all who ask.
    async fn known(
        &self,
        (namespace, name): (&str, &str),
        asked: (String, String),
        max_age: Duration,
        look: impl Future<Output = Found>,
    ) -> Found {
        let key = (namespace.to_owned(), name.to_owned());
        let of_service = self.known.get(key, |_| Duration::MAX, |_| async { OfService::new(KEPT) }).await;
        let trusted = |found: &Found| if found.is_ok() { max_age } else { max_age.min(AGAIN) };
        of_service.get(asked, trusted, |_| look).await
    }

    /// What was found could not be reached: it is looked for anew at the next call.
    pub fn doubt(&self, namespace: &str, service: &str) {
        if let Some(of_service) = self.known.peek(&(namespace.to_owned(), service.to_owned())) {
            of_service.doubt_all(AGAIN);
        }
    }

    async fn look_for_pods(&self, namespace: &str, target: &TargetRef, port: &str) -> Found {
        let workload = workload::read(&self.client, namespace, target).await;
        let workload = workload.map_err(|error| {
            if matches!(&error, kube::Error::Api(status) if status.code == 404) {
                let detail = format!("{target} does not exist in namespace {namespace}");
                return NoData::new(NoDataReason::NotFound, detail);
            }
            unread(&error, &format!("get {target}"), namespace)
        })?;
        let selector = Selector::try_from(workload.selector.clone()).map_err(|error| {
            let why = shown(&error.to_string(), 100);
            NoData::new(
                NoDataReason::NotOfTarget,
                format!("the selector of {target} cannot be understood: {why}"),
            )
        })?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let selected = ListParams::default().labels_from(&selector).limit(MOST_PODS);
        let (pods, api_server) = tokio::join!(pods.list(&selected), self.api_server());
        let pods = pods.map_err(|error| unread(&error, "list Pods", namespace))?;
        let uid = workload.metadata.uid.as_deref().unwrap_or_default();
        let (mut endpoints, ports) = pods::choose((target, uid), port, &pods.items, &api_server?)?;
        let [name, number] = &ports;
        dev::apply(&self.overrides, namespace, &target.name, [name, number], &mut endpoints);
        Ok(endpoints)
    }

    async fn look(&self, namespace: &str, service: &str, port: &str, of: Option<&Selector>) -> Found {
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let object = services.get_opt(service).await;
        let object = object.map_err(|error| unread(&error, &format!("get Service {service}"), namespace))?;
        let Some(object) = object else {
            let detail = format!("Service {service} does not exist in namespace {namespace}");
            return Err(NoData::new(NoDataReason::ServiceNotFound, detail));
        };
        let wanted = rules::wanted(&object, service, port)?;
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), namespace);
        let of_service = ListParams::default().labels(&format!("{OF_SERVICE}={service}")).limit(MOST_SLICES);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let selector: Selector = wanted.selector.clone().into_iter().collect();
        let selected = ListParams::default().labels_from(&selector).limit(MOST_PODS);
        let (slices, pods, api_server) =
            tokio::join!(slices.list(&of_service), pods.list(&selected), self.api_server());
        let slices = slices.map_err(|error| unread(&error, "list EndpointSlices", namespace))?;
        let pods = pods.map_err(|error| unread(&error, "list Pods", namespace))?;
        let mut endpoints = rules::choose(
            &wanted,
            &Read {
                namespace,
                service,
                slices: &slices.items,
                pods: &pods.items,
                more_pods: pods.metadata.continue_.is_some_and(|more| !more.is_empty()),
                api_server: &api_server?,
                of,
            },
        )?;
        dev::apply(&self.overrides, namespace, service, [&wanted.port_name, &wanted.port], &mut endpoints);
        Ok(endpoints)
    }

    /// The API server's addresses: those of `default/kubernetes`, inside and outside of it, and that which is used.
    async fn api_server(&self) -> Result<BTreeSet<IpAddr>, NoData> {
        let trusted = |found: &Result<_, _>| if found.is_ok() { API_SERVER } else { Duration::ZERO };
        self.api_server.get((), trusted, |_| self.look_for_api_server()).await
    }

    async fn look_for_api_server(&self) -> Result<BTreeSet<IpAddr>, NoData> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), "default");
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), "default");
        let of_service = ListParams::default().labels(&format!("{OF_SERVICE}=kubernetes")).limit(MOST_SLICES);
        let (service, slices) = tokio::join!(services.get_opt("kubernetes"), slices.list(&of_service));
        let service = service.map_err(|error| unread(&error, "get Service kubernetes", "default"))?;
        let slices = slices.map_err(|error| unread(&error, "list EndpointSlices", "default"))?;
        let inside =
            service.and_then(|service| service.spec).map(|spec| spec.cluster_ips.unwrap_or_default());
        let outside =
            slices.items.into_iter().flat_map(|slice| slice.endpoints).flat_map(|one| one.addresses);
        let all = inside.into_iter().flatten().chain(outside);
        let mut found: BTreeSet<IpAddr> =
            all.filter_map(|text| text.parse().ok()).map(address::plain).collect();
        found.extend(self.own.iter());
        Ok(found)
    }
}

fn unread(error: &kube::Error, what: &str, namespace: &str) -> NoData {
    if let kube::Error::Api(status) = error
        && status.code == 403
    {
        let detail = format!("the operator may not {what} in namespace {namespace}; grant it");
        return NoData::new(NoDataReason::PermissionDenied, detail);
    }
    NoData::new(NoDataReason::ApiUnavailable, format!("to {what}: {}", brief(error)))
}
