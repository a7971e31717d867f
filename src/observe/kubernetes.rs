//! The guarded workload and the pauses around it.
//!
//! In calm times metadata from a watch is enough (annotations, uid, deletion); how many replicas are ready is read live once
//! something is broken. Nothing is watched but metadata.

use std::collections::BTreeMap;
use std::fmt::Debug;

use controller::objects::LiveTarget;
use controller::ports::Detail;
use engine::model::{NoDataReason, Observed, Pause, PausedBy, Target, TargetKind, TargetRef, Workload};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::api::{MetadataOf, OPT_OUT, PAUSED_REASON, PAUSED_UNTIL};
use crate::connections::secrets::brief;
use crate::connections::workload;
use crate::scope::Scope;

type Metadata<K> = Store<MetadataOf<K>>;
/// What the watch of namespaces shows.
pub type NamespaceEvent = watcher::Event<MetadataOf<Namespace>>;

/// The metadata of everything that can be guarded, and of the namespaces.
#[derive(Clone)]
pub struct Workloads {
    /// Asks; the watches have a client of their own.
    client: Client,
    deployments: Metadata<Deployment>,
    stateful_sets: Metadata<StatefulSet>,
    namespaces: Metadata<Namespace>,
}

impl Workloads {
    /// Starts the watches of a scope. The returned future runs them, for ever. `namespace_seen` is called with each event of
    /// a namespace, of which this keeps no labels.
    pub fn watch<Seen>(
        client: &Client,
        watching: &Client,
        scope: &Scope,
        namespace_seen: Seen,
    ) -> (Self, impl Future<Output = ()> + Send + use<Seen>)
    where
        Seen: FnMut(&NamespaceEvent) + Send + 'static,
    {
        let (deployments, one) = follow(scope.api(watching.clone()), watcher::Config::default(), |_| ());
        let (stateful_sets, two) = follow(scope.api(watching.clone()), watcher::Config::default(), |_| ());
        let config = match scope {
            Scope::Cluster => watcher::Config::default(),
            Scope::Namespace(name) => watcher::Config::default().fields(&format!("metadata.name={name}")),
        };
        let (namespaces, three) = follow(Api::all(watching.clone()), config, namespace_seen);
        let workloads = Self { client: client.clone(), deployments, stateful_sets, namespaces };
        (workloads, async {
            futures::future::join3(one, two, three).await;
        })
    }

    /// Waits until each watch has seen everything once.
    ///
    /// # Errors
    /// The watches were stopped.
    pub async fn wait_until_ready(&self) -> anyhow::Result<()> {
        self.deployments.wait_until_ready().await?;
        self.stateful_sets.wait_until_ready().await?;
        self.namespaces.wait_until_ready().await?;
        Ok(())
    }

    /// The target as the watch shows it, and live where the `detail` says so.
    pub async fn target(
        &self,
        namespace: &str,
        target: &TargetRef,
        detail: Detail,
        now: Timestamp,
    ) -> Observed<Target> {
        let Some(metadata) = self.metadata(namespace, target) else {
            let detail = format!("{target} does not exist in namespace {namespace}");
            return Observed::missing(NoDataReason::NotFound, detail);
        };
        if metadata.deletion_timestamp.is_some() {
            return Observed::missing(NoDataReason::Deleting, format!("{target} is being deleted"));
        }
        let workload = match detail {
            Detail::Watched => None,
            Detail::Live { autoscalers } => match self.workload(namespace, target, autoscalers, now).await {
                Ok(workload) => Some(workload),
                Err(error) => {
                    let detail = format!("{target}: {}", brief(&error));
                    return Observed::missing(NoDataReason::ApiUnavailable, detail);
                }
            },
        };
        let annotation = |name: &str| metadata.annotations.as_ref().and_then(|all| all.get(name)).cloned();
        let value =
            Target { uid: metadata.uid.clone().unwrap_or_default(), workload, opt_out: annotation(OPT_OUT) };
        Observed::Known { at: now, value }
    }

    /// The pauses on target and namespace.
    #[must_use]
    pub fn pauses(&self, namespace: &str, target: &TargetRef) -> Vec<Pause> {
        let target = self.metadata(namespace, target);
        let place = self.namespaces.get(&ObjectRef::new(namespace)).map(|found| found.metadata.clone());
        pauses(target.as_ref(), place.as_ref())
    }

    /// Target and namespace as the API server holds them at this moment: the uid of a target that is there to stay, whether
    /// it has opted out, and the pauses on both.
    ///
    /// # Errors
    /// The API server cannot be asked, or does not know them.
    pub async fn live(&self, namespace: &str, target: &TargetRef) -> kube::Result<LiveTarget> {
        let places: Api<MetadataOf<Namespace>> = Api::all(self.client.clone());
        let of_target = async {
            match target.kind {
                TargetKind::Deployment => {
                    let all: Api<MetadataOf<Deployment>> = Api::namespaced(self.client.clone(), namespace);
                    all.get(&target.name).await.map(|found| found.metadata)
                }
                TargetKind::StatefulSet => {
                    let all: Api<MetadataOf<StatefulSet>> = Api::namespaced(self.client.clone(), namespace);
                    all.get(&target.name).await.map(|found| found.metadata)
                }
            }
        };
        let (target, place) = tokio::try_join!(of_target, places.get(namespace))?;
        let stays = target.deletion_timestamp.is_none();
        Ok(LiveTarget {
            uid: target.uid.clone().filter(|_| stays),
            opt_out: target.annotations.as_ref().and_then(|all| all.get(OPT_OUT)).cloned(),
            pauses: pauses(Some(&target), Some(&place.metadata)),
        })
    }

    /// The target's reference for Events, with its uid.
    #[must_use]
    pub fn reference(
        &self,
        namespace: &str,
        target: &TargetRef,
    ) -> Option<k8s_openapi::api::core::v1::ObjectReference> {
        let metadata = self.metadata(namespace, target)?;
        Some(k8s_openapi::api::core::v1::ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some(target.kind.to_string()),
            namespace: Some(namespace.to_owned()),
            name: Some(target.name.clone()),
            uid: metadata.uid,
            ..Default::default()
        })
    }

    fn metadata(&self, namespace: &str, target: &TargetRef) -> Option<kube::core::ObjectMeta> {
        match target.kind {
            TargetKind::Deployment => {
                let found = self.deployments.get(&ObjectRef::new(&target.name).within(namespace))?;
                Some(found.metadata.clone())
            }
            TargetKind::StatefulSet => {
                let found = self.stateful_sets.get(&ObjectRef::new(&target.name).within(namespace))?;
                Some(found.metadata.clone())
            }
        }
    }

    /// The target's replicas as the API server holds them at this moment, and where `scales`, what else sets them.
    ///
    /// # Errors
    /// The API server cannot be asked, or does not know it.
    pub async fn workload(
        &self,
        namespace: &str,
        target: &TargetRef,
        scales: bool,
        now: Timestamp,
    ) -> kube::Result<Workload> {
        let read = workload::read(&self.client, namespace, target);
        if !scales {
            return Ok(read.await?.workload);
        }
        let (read, autoscalers) =
            tokio::join!(read, workload::autoscalers(&self.client, namespace, target, now));
        Ok(Workload { autoscalers, ..read?.workload })
    }
}

fn pauses(target: Option<&kube::core::ObjectMeta>, namespace: Option<&kube::core::ObjectMeta>) -> Vec<Pause> {
    let on = |metadata: Option<&kube::core::ObjectMeta>, by| {
        metadata
            .and_then(|metadata| metadata.annotations.as_ref())
            .and_then(|annotations| pause(annotations, by))
    };
    [on(target, PausedBy::Target), on(namespace, PausedBy::Namespace)].into_iter().flatten().collect()
}

/// The pause that annotations declare.
#[must_use]
pub fn pause(annotations: &BTreeMap<String, String>, by: PausedBy) -> Option<Pause> {
    let until = annotations.get(PAUSED_UNTIL)?;
    Some(Pause {
        by,
        until: until.chars().take(64).collect(),
        reason: annotations.get(PAUSED_REASON).map(|reason| reason.chars().take(256).collect()),
    })
}

fn follow<K, Seen>(
    api: Api<MetadataOf<K>>,
    config: watcher::Config,
    seen: Seen,
) -> (Metadata<K>, impl Future<Output = ()> + Send + use<K, Seen>)
where
    Seen: FnMut(&watcher::Event<MetadataOf<K>>) + Send + 'static,
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let watch = watcher(api, config)
        .default_backoff()
        .inspect_ok(seen)
        // Ten thousand of them are kept: nothing but what is looked at.
        .modify(|object| {
            let metadata = object.meta_mut();
            (metadata.labels, metadata.owner_references, metadata.finalizers) = (None, None, None);
            object
                .annotations_mut()
                .retain(|name, _| [PAUSED_UNTIL, PAUSED_REASON, OPT_OUT].contains(&&**name));
        })
        .reflect(writer)
        .for_each(|event| {
            if let Err(error) = event {
                tracing::debug!(%error, "a watch of metadata was interrupted");
            }
            std::future::ready(())
        });
    (reader, watch)
}
