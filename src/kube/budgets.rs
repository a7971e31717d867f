//! The administrator's ceilings, as the API server holds them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::model::{Budget, Limits};
use futures::{StreamExt, TryStreamExt};
use kube::api::ListParams;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

use crate::api::{LatencyBudget, Stored, convert};
use crate::connections::secrets::brief;

type Object = Stored<LatencyBudget>;

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

impl Known {
    /// Whether there is no such kind, so that there are none. Where there have been some, a 404 may come from anything on the
    /// way, and says nothing.
    fn is_not_installed(&mut self, error: &kube::Error) -> bool {
        let not_found = matches!(error, kube::Error::Api(status) if status.code == 404);
        let none = not_found && self.budgets.is_empty();
        if none {
            self.missing = None;
        }
        none
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
    ///
    /// # Errors
    /// They cannot be listed now: the ceilings that then hold, which let nothing through. What the watch shows is not touched
    /// by that: one failed list must not stop everything until the next one, which nobody would ask for.
    pub async fn refresh(&self, client: &Client) -> Result<Limits, Limits> {
        let api: Api<Object> = Api::all(client.clone());
        let listed = api.list(&ListParams::default()).await;
        let mut known = self.lock();
        match listed {
            Ok(list) => {
                known.budgets = list.items.iter().map(understood).collect();
                known.missing = None;
                Ok(known.limits())
            }
            Err(error) if known.is_not_installed(&error) => Ok(known.limits()),
            Err(error) => {
                let unreadable = Some(format!("they cannot be listed: {}", brief(&error)));
                Err(Limits { unreadable, ..known.limits() })
            }
        }
    }

    /// Follows them for ever.
    pub async fn follow(&self, watching: Client) {
        let api: Api<Object> = Api::all(watching);
        watcher(api, watcher::Config::default())
            .default_backoff()
            .inspect_ok(|event| self.see(event))
            .for_each(|result| {
                if let Err(error) = result {
                    if let watcher::Error::InitialListFailed(error) = &error {
                        self.lock().is_not_installed(error);
                    }
                    tracing::debug!(%error, "the watch of LatencyBudgets");
                }
                std::future::ready(())
            })
            .await;
    }

    fn see(&self, event: &Event<Object>) {
        if let Event::Apply(Stored(Ok(budget))) | Event::InitApply(Stored(Ok(budget))) = event {
            for word in convert::unknown_actions(budget) {
                tracing::warn!(
                    budget = budget.name_any(),
                    "spec.deniedActions: {word} is no action of this version, so nothing is denied by it"
                );
            }
        }
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
        Err(undecodable) => Err(undecodable.error.clone()),
    };
    (object.name_any(), budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let budgets = Budgets::default();
        Known { missing: None, ..Arc::into_inner(budgets.known).unwrap().into_inner().unwrap() }
    }

    fn api_error(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(kube::core::Status { code, ..kube::core::Status::default() }))
    }

    #[test]
    fn a_kind_that_is_not_installed_has_no_budgets_and_a_404_drops_none_that_are_known() {
        let mut none = Known { missing: Some("not yet".into()), ..known() };
        assert!(!none.is_not_installed(&api_error(500)) && none.limits().unreadable.is_some());
        assert!(none.is_not_installed(&api_error(404)) && none.limits().unreadable.is_none());
        let mut some = known();
        some.budgets.insert("quiet".into(), Err("undecodable".into()));
        assert!(!some.is_not_installed(&api_error(404)) && some.limits().unreadable.is_some());
    }

    #[tokio::test]
    async fn one_failed_list_refuses_once_and_is_forgotten() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let budgets = Budgets { known: Arc::new(Mutex::new(known())) };
        let refused = budgets.refresh(&client).await.unwrap_err();
        assert!(refused.unreadable.unwrap().contains("cannot be listed"));
        assert_eq!(budgets.limits().unreadable, None);
    }
}
