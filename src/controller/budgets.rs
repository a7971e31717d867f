//! The administrator's ceilings, as the API server holds them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::model::{Budget, Limits};
use futures::{StreamExt, TryStreamExt};
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

use crate::api::{LatencyBudget, convert};
use crate::connections::secrets::brief;

type Object = DeserializeGuard<LatencyBudget>;

/// All LatencyBudgets. Cheap to clone. Until they have been read once nothing is begun.
#[derive(Clone)]
pub struct Budgets {
    known: Arc<Mutex<Known>>,
}

struct Known {
    /// Each budget, or why it cannot be understood.
    budgets: BTreeMap<String, Result<Budget, String>>,
    /// Why they are not all known.
    missing: Option<String>,
    /// A list that is under way.
    listing: BTreeMap<String, Result<Budget, String>>,
}

impl Known {
    fn limits(&self) -> Limits {
        let undecodable = self.budgets.iter().find_map(|(name, budget)| {
            let error = budget.as_ref().err()?;
            Some(format!("LatencyBudget {name} cannot be read: {error}"))
        });
        Limits {
            budgets: self.budgets.values().flatten().cloned().collect(),
            unreadable: self.missing.clone().or(undecodable),
            ..Limits::default()
        }
    }
}

impl Default for Budgets {
    fn default() -> Self {
        let missing = Some("they have not been read yet".to_owned());
        let known = Known { budgets: BTreeMap::new(), missing, listing: BTreeMap::new() };
        Self { known: Arc::new(Mutex::new(known)) }
    }
}

impl Budgets {
    /// The ceilings that hold now.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.lock().limits()
    }

    /// The ceilings as the API server holds them at this moment: what a watch showed may be minutes old.
    pub async fn refresh(&self, client: &Client) -> Limits {
        let api: Api<Object> = Api::all(client.clone());
        let listed = api.list(&ListParams::default()).await;
        let mut known = self.lock();
        match listed {
            Ok(list) => {
                known.budgets = list.items.iter().map(understood).collect();
                known.missing = None;
            }
            // There is no such kind, so there are none.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                known.budgets.clear();
                known.missing = None;
            }
            Err(error) => known.missing = Some(format!("they cannot be listed: {}", brief(&error))),
        }
        known.limits()
    }

    /// Follows them for ever.
    pub async fn follow(&self, watching: Client) {
        let api: Api<Object> = Api::all(watching);
        watcher(api, watcher::Config::default())
            .default_backoff()
            .inspect_ok(|event| self.see(event))
            .for_each(|result| {
                if let Err(error) = result {
                    tracing::debug!(%error, "the watch of LatencyBudgets");
                }
                std::future::ready(())
            })
            .await;
    }

    fn see(&self, event: &Event<Object>) {
        let mut known = self.lock();
        match event {
            Event::Init => known.listing.clear(),
            Event::InitApply(object) => {
                let (name, budget) = understood(object);
                known.listing.insert(name, budget);
            }
            Event::InitDone => {
                known.budgets = std::mem::take(&mut known.listing);
                known.missing = None;
            }
            Event::Apply(object) => {
                let (name, budget) = understood(object);
                known.budgets.insert(name, budget);
            }
            Event::Delete(object) => {
                known.budgets.remove(&object.name_any());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn understood(object: &Object) -> (String, Result<Budget, String>) {
    let budget = match &object.0 {
        Ok(budget) => Ok(convert::budget(budget)),
        Err(undecodable) => Err(undecodable.error.chars().take(200).collect()),
    };
    (object.name_any(), budget)
}
