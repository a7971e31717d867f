//! The administrator's ceilings, as the API server holds them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use controller::objects::StoredBudget;
use controller::report::BudgetReport;
use engine::model::{Budget, Limits};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

use super::convert::budget_report;
use super::namespaces::Namespaces;
use crate::api::convert::SelectingBudget;
use crate::api::{MetadataOf, RemediationBudget, Stored, convert};
use crate::connections::secrets::brief;

type Object = Stored<RemediationBudget>;
/// The labels of a namespace that was read live; nothing where it does not exist.
type LiveLabels = Option<BTreeMap<String, String>>;

/// All RemediationBudgets. Cheap to clone. Until they have been read once nothing is begun.
#[derive(Clone)]
pub struct Budgets {
    known: Arc<Mutex<Known>>,
    namespaces: Namespaces,
}

struct Known {
    /// Each budget, or why it cannot be decoded.
    budgets: BTreeMap<String, Result<Kept, String>>,
    /// Why they are not all known.
    missing: Option<String>,
    /// A list that is under way.
    listing: BTreeMap<String, Result<Kept, String>>,
    /// The budgets that can be decoded, in the order of their names, where the labels of namespaces had this version.
    resolved: Option<(u64, Vec<Budget>)>,
}

/// A budget that can be decoded.
struct Kept {
    asked: SelectingBudget,
    generation: i64,
    report: BudgetReport,
}

impl Known {
    fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.budgets.values().flatten()
    }

    /// Whether the labels of namespaces decide where some budget applies.
    fn selects(&self) -> bool {
        self.kept().any(|kept| kept.asked.selects())
    }

    fn resolved(&mut self, namespaces: &Namespaces) -> &[Budget] {
        let version = namespaces.version();
        let resolved = match self.resolved.take().filter(|(known, _)| *known == version) {
            Some((_, resolved)) => resolved,
            None => namespaces.read(|labels| self.kept().map(|kept| kept.asked.among(labels)).collect()),
        };
        &self.resolved.insert((version, resolved)).1
    }

    fn limits(&mut self, namespaces: &Namespaces) -> Limits {
        let undecodable = self.budgets.iter().find_map(|(name, budget)| {
            let error = budget.as_ref().err()?;
            Some(format!("RemediationBudget {name} cannot be read: {error}"))
        });
        let unlisted = (self.selects() && !namespaces.are_listed())
            .then(|| "the namespaces that they select have not been listed yet".to_owned());
        Limits {
            budgets: self.resolved(namespaces).to_vec(),
            unreadable: self.missing.clone().or(undecodable).or(unlisted),
            ..Limits::default()
        }
    }

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

    fn see(&mut self, event: &Event<Object>) {
        self.resolved = None;
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => {
                let (name, budget) = understood(object);
                self.warn(&name, &budget);
                self.listing.insert(name, budget);
            }
            Event::InitDone => {
                self.budgets = std::mem::take(&mut self.listing);
                self.missing = None;
            }
            Event::Apply(object) => {
                let (name, budget) = understood(object);
                self.warn(&name, &budget);
                self.budgets.insert(name, budget);
            }
            Event::Delete(object) => drop(self.budgets.remove(&object.name_any())),
        }
    }

    /// Logs what a budget asks for in vain, once for each generation: a written status shows it again.
    fn warn(&self, name: &str, budget: &Result<Kept, String>) {
        let Ok(budget) = budget else { return };
        let before = self.budgets.get(name).and_then(|known| known.as_ref().ok());
        if before.is_some_and(|before| before.generation == budget.generation) {
            return;
        }
        for problem in &budget.asked.problems {
            tracing::warn!(budget = name, %problem, "a RemediationBudget has an unknown value");
        }
    }
}

impl Budgets {
    /// Budgets of which none has been read yet; the labels of these namespaces say where they apply.
    #[must_use]
    pub fn new(namespaces: Namespaces) -> Self {
        let missing = Some("they have not been read yet".to_owned());
        let known = Known { budgets: BTreeMap::new(), missing, listing: BTreeMap::new(), resolved: None };
        Self { known: Arc::new(Mutex::new(known)), namespaces }
    }

    /// The ceilings that hold now.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.lock().limits(&self.namespaces)
    }

    /// All budgets that can be decoded and may apply to something that is watched, with their statuses. Before namespaces are
    /// listed it is not known where a selector applies.
    #[must_use]
    pub fn stored(&self) -> Vec<StoredBudget> {
        let mut known = self.lock();
        let resolved = known.resolved(&self.namespaces).to_vec();
        let listed = self.namespaces.are_listed();
        let here = |(budget, kept): &(Budget, &Kept)| {
            self.namespaces.are_reached_by(budget) && (listed || !kept.asked.selects())
        };
        let stored = |(budget, kept): (Budget, &Kept)| StoredBudget {
            budget,
            generation: kept.generation,
            problems: kept.asked.problems.iter().map(ToString::to_string).collect(),
            report: kept.report.clone(),
        };
        resolved.into_iter().zip(known.kept()).filter(here).map(stored).collect()
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
                known.resolved = None;
                Ok(known.limits(&self.namespaces))
            }
            Err(error) if known.is_not_installed(&error) => Ok(known.limits(&self.namespaces)),
            Err(error) => {
                let unreadable = Some(format!("they cannot be listed: {}", brief(&error)));
                Err(Limits { unreadable, ..known.limits(&self.namespaces) })
            }
        }
    }

    /// As [`Self::refresh`], for something that is done in `namespace`: its labels are read at this moment, too.
    ///
    /// # Errors
    /// The budgets cannot be listed, or the labels cannot be read.
    pub async fn refresh_for(&self, client: &Client, namespace: &str) -> Result<Limits, Limits> {
        // The budgets last, so that nothing slow lies between a freeze and its being respected.
        let early = if self.lock().selects() { Some(live_labels(client, namespace).await) } else { None };
        let limits = self.refresh(client).await?;
        if !self.lock().selects() {
            return Ok(limits);
        }
        let labels = match early {
            Some(labels) => labels,
            None => live_labels(client, namespace).await,
        };
        match labels {
            Ok(labels) => Ok(self.adjusted(limits, namespace, labels.as_ref())),
            Err(error) => {
                let why = format!("the labels of namespace {namespace} cannot be read: {}", brief(&error));
                Err(Limits { unreadable: Some(why), ..limits })
            }
        }
    }

    fn adjusted(&self, limits: Limits, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> Limits {
        let known = self.lock();
        let adjusted = |budget: Budget| match known.budgets.get(&budget.name) {
            Some(Ok(kept)) => kept.asked.adjusted(budget, namespace, labels),
            Some(Err(_)) | None => budget,
        };
        let budgets = limits.budgets.into_iter().map(adjusted).collect();
        Limits { budgets, ..limits }
    }

    /// Follows them for ever.
    pub async fn follow(&self, watching: Client) {
        let api: Api<Object> = Api::all(watching);
        watcher(api, watcher::Config::default())
            .default_backoff()
            .inspect_ok(|event| self.lock().see(event))
            .for_each(|result| {
                if let Err(error) = result {
                    if let watcher::Error::InitialListFailed(error) = &error {
                        self.lock().is_not_installed(error);
                    }
                    tracing::debug!(%error, "the watch of RemediationBudgets");
                }
                std::future::ready(())
            })
            .await;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn live_labels(client: &Client, namespace: &str) -> kube::Result<LiveLabels> {
    let places: Api<MetadataOf<Namespace>> = Api::all(client.clone());
    let found = places.get_opt(namespace).await?;
    Ok(found.map(|found| found.metadata.labels.unwrap_or_default()))
}

fn understood(object: &Object) -> (String, Result<Kept, String>) {
    let budget = match &object.0 {
        Ok(budget) => Ok(Kept {
            asked: convert::budget(budget),
            generation: budget.metadata.generation.unwrap_or_default(),
            report: budget.status.as_ref().map(budget_report).unwrap_or_default(),
        }),
        Err(undecodable) => Err(undecodable.error.clone()),
    };
    (object.name_any(), budget)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::scope::Scope;

    fn budgets(scopes: &[Scope], specs: &[Value]) -> Budgets {
        let budgets = Budgets::new(Namespaces::new(scopes));
        let object = |(at, spec): (usize, &Value)| {
            let object = json!({
                "metadata": {"name": format!("budget-{at}"), "generation": 1}, "spec": spec,
                "status": {"observedGeneration": -1},
            });
            Event::InitApply(serde_json::from_value(object).unwrap())
        };
        let events = specs.iter().enumerate().map(object).chain([Event::InitDone]);
        events.for_each(|event| budgets.lock().see(&event));
        budgets
    }

    fn namespace(name: &str, tier: &str) -> MetadataOf<Namespace> {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"tier": tier}}})).unwrap()
    }

    fn api_error(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(kube::core::Status { code, ..kube::core::Status::default() }))
    }

    #[test]
    fn a_kind_that_is_not_installed_has_no_budgets_and_a_404_drops_none_that_are_known() {
        let none = Budgets::new(Namespaces::new(&[]));
        assert!(!none.lock().is_not_installed(&api_error(500)) && none.limits().unreadable.is_some());
        assert!(none.lock().is_not_installed(&api_error(404)) && none.limits().unreadable.is_none());
        let some = budgets(&[], &[]);
        some.lock().budgets.insert("quiet".into(), Err("undecodable".into()));
        assert!(!some.lock().is_not_installed(&api_error(404)) && some.limits().unreadable.is_some());
    }

    #[tokio::test]
    async fn one_failed_list_refuses_once_and_is_forgotten() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let budgets = budgets(&[], &[]);
        let refused = budgets.refresh(&client).await.unwrap_err();
        assert!(refused.unreadable.unwrap().contains("cannot be listed"));
        assert_eq!(budgets.limits().unreadable, None);
    }

    #[test]
    fn a_selector_follows_the_labels_of_namespaces_once_they_are_listed() {
        let everywhere = budgets(&[Scope::Cluster], &[json!({"freeze": {"type": "Actions"}})]);
        assert_eq!(everywhere.limits().unreadable, None, "no selector needs them");
        let spec = json!({"namespaceSelector": {"matchLabels": {"tier": "production"}}});
        let budgets = budgets(&[Scope::Cluster], &[spec]);
        let applies = |namespace: &str| budgets.limits().budgets[0].applies(namespace);
        assert!(budgets.limits().unreadable.unwrap().contains("not been listed"));
        let mut see = budgets.namespaces.follow(&Scope::Cluster);
        see(&Event::Init);
        see(&Event::InitApply(namespace("shop", "production")));
        see(&Event::InitApply(namespace("web", "test")));
        assert!(budgets.limits().unreadable.is_some() && applies("web"));
        see(&Event::InitDone);
        assert_eq!(budgets.limits().unreadable, None);
        assert!(applies("shop") && !applies("web") && applies("new"));
        see(&Event::Apply(namespace("web", "production")));
        see(&Event::Apply(namespace("shop", "test")));
        assert!(!applies("shop") && applies("web"));
        see(&Event::Delete(namespace("shop", "test")));
        assert!(applies("shop"));
        let live = BTreeMap::from([("tier".to_owned(), "test".to_owned())]);
        let adjusted = budgets.adjusted(budgets.limits(), "web", Some(&live));
        assert!(!adjusted.budgets[0].applies("web") && applies("web"), "what the watch shows stays");
    }

    #[test]
    fn the_stored_budgets_have_their_problems_and_statuses() {
        let specs = [json!({}), json!({"deniedActions": ["Restart"]})];
        let stored = budgets(&[Scope::Cluster], &specs).stored();
        assert_eq!((stored[0].budget.name.as_str(), stored[0].problems.len()), ("budget-0", 0));
        assert!(stored[1].problems[0].starts_with("spec.deniedActions[0]: "), "{:?}", stored[1].problems);
        assert_eq!((stored[1].generation, stored[1].report.observed_generation), (1, Some(-1)));
    }

    #[test]
    fn a_budget_of_namespaces_that_are_not_watched_is_not_reported() {
        let scope = Scope::Namespace("shop".into());
        let spec = json!({"namespaceSelector": {"matchLabels": {"tier": "production"}}});
        let budgets = budgets(std::slice::from_ref(&scope), &[spec]);
        assert_eq!(budgets.stored(), [], "it is not known yet");
        let mut see = budgets.namespaces.follow(&scope);
        see(&Event::InitApply(namespace("shop", "test")));
        see(&Event::InitDone);
        assert_eq!(budgets.stored(), []);
        see(&Event::Apply(namespace("shop", "production")));
        assert_eq!(budgets.stored().len(), 1);
    }
}
