//! The labels of namespaces, as the watches of their metadata show them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::model::Budget;
use kube::ResourceExt;
use kube::runtime::watcher::Event;

use crate::api::convert::NamespaceLabels;
use crate::observe::kubernetes::NamespaceEvent;
use crate::scope::Scope;

/// The labels of all namespaces of all scopes. Cheap to clone.
#[derive(Clone)]
pub struct Namespaces {
    known: Arc<Mutex<Known>>,
    scopes: Arc<[Scope]>,
}

#[derive(Default)]
struct Known {
    labels: NamespaceLabels,
    /// Scopes of which no list is complete yet.
    unlisted: Vec<Scope>,
    /// Grows with every change.
    version: u64,
}

impl Namespaces {
    /// Nothing is known yet of the namespaces of these scopes.
    #[must_use]
    pub fn new(scopes: &[Scope]) -> Self {
        let known = Known { unlisted: scopes.to_vec(), ..Known::default() };
        Self { known: Arc::new(Mutex::new(known)), scopes: scopes.into() }
    }

    /// What takes in the events of a scope's watch.
    pub(super) fn follow(&self, scope: &Scope) -> impl FnMut(&NamespaceEvent) + Send + use<> {
        let (namespaces, scope) = (self.clone(), scope.clone());
        let mut listing = NamespaceLabels::new();
        move |event| match event {
            Event::Init => listing.clear(),
            Event::InitApply(object) => drop(listing.insert(object.name_any(), object.labels().clone())),
            Event::InitDone => namespaces.lock().list(&scope, std::mem::take(&mut listing)),
            Event::Apply(object) => namespaces.lock().set(object.name_any(), Some(object.labels())),
            Event::Delete(object) => namespaces.lock().set(object.name_any(), None),
        }
    }

    /// Whether each scope has been listed once.
    pub(super) fn are_listed(&self) -> bool {
        self.lock().unlisted.is_empty()
    }

    /// Whether a budget may apply to something that is watched.
    pub(super) fn are_reached_by(&self, budget: &Budget) -> bool {
        self.scopes.iter().any(|scope| scope.namespace().is_none_or(|namespace| budget.applies(namespace)))
    }

    /// Grows with every change of a label.
    pub(super) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Calls `read` with the labels of all namespaces.
    pub(super) fn read<T>(&self, read: impl FnOnce(&NamespaceLabels) -> T) -> T {
        read(&self.lock().labels)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn list(&mut self, scope: &Scope, listed: NamespaceLabels) {
        match scope.namespace() {
            None => self.labels = listed,
            Some(name) => {
                self.labels.remove(name);
                self.labels.extend(listed);
            }
        }
        self.unlisted.retain(|unlisted| unlisted != scope);
        self.version += 1;
    }

    fn set(&mut self, name: String, labels: Option<&BTreeMap<String, String>>) {
        let before = match labels {
            Some(labels) => self.labels.insert(name, labels.clone()),
            None => self.labels.remove(&name),
        };
        // Most changes of a namespace are no changes of its labels.
        if before.as_ref() != labels {
            self.version += 1;
        }
    }
}
