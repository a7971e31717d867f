//! The driver: it evaluates policies and carries remediations out, over ports.
//!
//! The engine decides, this crate drives, and a port reaches the world. `src/kube` implements the ports on Kubernetes, the
//! simulation implements them on a simulated world; both run the code in here.
//!
//! # Layout
//! - [`ports`]: the traits, and [`objects`]: the values that cross them;
//! - [`policy`]: one evaluation of one policy, in five steps; it acts on nothing but the operator's own objects;
//! - [`remediation`]: carries out the steps that [`engine::advance()`] returns, also for a policy that is paused, invalid or gone;
//! - [`report`], [`conditions`], [`reasons`], [`announcement`]: from records to statuses and announcements, without I/O;
//! - [`ledger_store`], [`fleet`]: what is known over all policies; `budgets`: how much of each budget is used;
//! - [`election`]: one leader, by a Lease.

mod announce;
pub mod announcement;
mod budgets;
pub mod conditions;
pub mod election;
pub mod fleet;
pub mod ledger_store;
pub mod objects;
pub mod observe;
mod planted;
pub mod policy;
pub mod ports;
pub mod reasons;
pub mod remediation;
pub mod report;
mod retention;
mod timeout;

use std::sync::Arc;
use std::time::Duration;

use engine::model::{ActionKind, OperatorHealth, Shared, earlier};
use jiff::Timestamp;

use self::fleet::Evaluations;
use self::ledger_store::LedgerStore;
use self::policy::PolicyMemories;
use self::ports::{Environment, Leading, Ports};
use self::remediation::{InFlight, UndoWatches};

/// Namespace and name of a policy.
pub type PolicyKey = (String, String);

/// When an object is due again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// After this long, or as soon as it changes.
    After(Duration),
    /// Only once it changes.
    OnChange,
}

/// What one term of a leader is configured with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Actions that the administrator has not switched off.
    pub enabled_actions: Shared<Vec<ActionKind>>,
    /// Database roles that are never touched.
    pub protected_roles: Shared<Vec<String>>,
    /// Without contact to the API server for longer than this nothing is done: the Lease's duration.
    pub api_contact_within: Duration,
    /// When this process began to lead.
    pub leading_since: Timestamp,
}

/// Both controllers of a leader, and everything that they remember.
pub struct Controllers<E: Environment> {
    /// The ways to the world.
    pub ports: Ports<E>,
    /// The configuration of this term.
    pub settings: Settings,
    /// All LatencyRemediations, and the ledger over them.
    pub ledger: LedgerStore,
    /// The newest evaluation of each policy.
    pub evaluations: Evaluations,
    memories: PolicyMemories,
    in_flight: InFlight,
    undo_watches: UndoWatches,
}

impl<E: Environment> Controllers<E> {
    /// The controllers of a term that begins with a consistent list of all LatencyRemediations.
    #[must_use]
    pub fn new(ports: Ports<E>, settings: Settings, ledger: LedgerStore) -> Arc<Self> {
        let memories = PolicyMemories::new(ports::Timer::monotonic(&ports.time));
        Arc::new(Self {
            ports,
            settings,
            ledger,
            evaluations: Evaluations::default(),
            memories,
            in_flight: InFlight::default(),
            undo_watches: UndoWatches::default(),
        })
    }

    /// What the operator knows about itself at `now`.
    fn health(&self, now: Timestamp) -> OperatorHealth {
        OperatorHealth {
            leading_since: self.settings.leading_since,
            api_contact_at: earlier(now, self.ports.leading.since_contact()),
            api_contact_within: self.settings.api_contact_within,
            enabled_actions: self.settings.enabled_actions.clone(),
            protected_roles: self.settings.protected_roles.clone(),
        }
    }

    fn now(&self) -> Timestamp {
        ports::Timer::now(&self.ports.time)
    }
}
