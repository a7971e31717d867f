//! What the controllers share.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::{self, ActionKind, Snapshot, Survey};
use engine::{Situation, survey};
use kube::Client;
use tokio::sync::{Semaphore, mpsc};

use super::budgets::Budgets;
use super::events::Publisher;
use super::keeper::{Keeper, PolicyKey};
use super::policy::Runtimes;
use super::remediation::{Locals, Runs, Watches};
use crate::clock::Clock;
use crate::config::LeaseConfig;
use crate::connections::{Registry, Secrets, Services};
use crate::leader::Leadership;
use crate::observe::kubernetes::Workloads;
use crate::observe::postgres::Databases;
use crate::observe::probe::Probes;
use crate::observe::prometheus::Prometheus;
use crate::observe::redis::Caches;
use crate::telemetry::Metrics;

/// See [`Shared::status_writes`]: as many as an API server answers within a blink.
pub const STATUS_WRITES: usize = 32;

/// A policy's newest look: what the gate judges.
pub type View = Arc<(Snapshot, Situation)>;

/// What all scopes share.
pub struct Shared {
    /// Reads; it retries by itself.
    pub client: Client,
    /// Watches: it waits for long.
    pub watching: Client,
    /// Changes what is there; it never retries: a lost answer means look.
    pub mutating: Client,
    /// The one clock.
    pub clock: Clock,
    /// This process' term.
    pub leadership: Leadership,
    /// The Lease's times.
    pub lease: LeaseConfig,
    /// The ledger's owner.
    pub keeper: Keeper,
    /// Ceilings over all policies.
    pub budgets: Budgets,
    /// Actions that are switched on.
    pub actions: model::Shared<Vec<ActionKind>>,
    /// Database roles that are never touched.
    pub protected_roles: model::Shared<Vec<String>>,
    /// Secrets that policies refer to.
    pub secrets: Secrets,
    /// Connections to data stores.
    pub registry: Registry,
    /// From Services to addresses that may be asked.
    pub services: Services,
    /// Looks at databases.
    pub databases: Databases,
    /// Looks at Redis servers.
    pub caches: Caches,
    /// Metrics backends.
    pub prometheus: Prometheus,
    /// Requests of its own.
    pub probes: Probes,
    /// Events.
    pub publisher: Publisher,
    /// The operator's own metrics.
    pub metrics: Metrics,
    /// Statuses of policies that are being written at one time: a new operator has one to write for each policy, and each
    /// request that is under way takes a connection of its own.
    pub status_writes: Semaphore,
    /// When this process began to lead.
    pub leading_since: jiff::Timestamp,
    /// The newest look at each policy.
    pub views: Views,
}

type Surveyed = (Instant, Arc<Survey>);

/// The newest look at each policy: what the gate judges. Cheap to clone.
#[derive(Clone, Default)]
pub struct Views {
    newest: Arc<Mutex<HashMap<PolicyKey, View>>>,
    /// All of them together, and when that was put together.
    survey: Arc<Mutex<Option<Surveyed>>>,
}

/// All policies are put together anew after so long: it takes a millisecond for ten thousand of them, and each that proposes
/// something asks.
const SURVEY: Duration = Duration::from_millis(500);

impl Views {
    /// A policy's newest look.
    #[must_use]
    pub fn of(&self, policy: &PolicyKey) -> Option<View> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).get(policy).cloned()
    }

    /// All policies together, as they were half a second ago at most.
    #[must_use]
    pub fn survey(&self) -> Arc<Survey> {
        let mut known = self.survey.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, survey)) = known.as_ref()
            && at.elapsed() < SURVEY
        {
            return survey.clone();
        }
        let views: BTreeMap<PolicyKey, View> = {
            let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            newest.clone().into_iter().collect()
        };
        let survey = Arc::new(survey(views.values().map(|view| (&view.0, &view.1))));
        *known = Some((Instant::now(), survey.clone()));
        survey
    }

    /// Keeps a policy's newest look, or forgets it.
    pub fn set(&self, policy: &PolicyKey, view: Option<View>) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        match view {
            Some(view) => newest.insert(policy.clone(), view),
            None => newest.remove(policy),
        };
    }
}

/// What the controllers of one scope share.
pub struct Context {
    /// What all scopes share.
    pub shared: Arc<Shared>,
    /// The workloads of the scope.
    pub workloads: Workloads,
    /// What is remembered of each policy.
    pub runtimes: Runtimes,
    /// What this process knows about the remediations that it carries out.
    pub locals: Locals,
    /// The runs of warming that are under way.
    pub runs: Runs,
    /// What is looked at in place of a policy that is invalid or gone.
    pub watches: Watches,
    /// Places for evaluations that are under way.
    pub places: Semaphore,
    /// Names remediations that should be looked at again, because their policy was.
    pub wake: mpsc::UnboundedSender<(String, String)>,
}
