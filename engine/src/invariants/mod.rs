//! What must always be true of the operator's effect on the world, checked from outside.
//!
//! The checker knows nothing of how decisions are made: it asks no guard, and neither [`crate::admit()`] nor
//! [`crate::advance()`]. It is told [`Fact`]s, which a simulation, an API server's audit log or a database's log can
//! produce, and says which of the [`INVARIANTS`] they violate. So it can judge the code that decides, and the code around
//! it.
//!
//! `act.rs` has what holds for every act, and one file for each effect has what holds for that.

mod act;
mod ceilings;
mod end;
mod facts;
mod send_requests;
mod set_replicas;
mod signal_session;
mod status;
mod timeline;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::facts::{Fact, Place, Reading, Replicas, Request, Seen, Signal, SignalKind, Victim, What};
use self::timeline::Timeline;
use crate::effects::Effect;
use crate::model::{
    ActionKind, Budget, Draining, EntryKey, MANAGER, Policy, PolicyRef, Remediation, TargetRef, earlier,
};

/// One thing that must always be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invariant {
    /// Its short name: S safety, U undo, H honesty, L liveness.
    pub id: &'static str,
    /// What must be true.
    pub says: &'static str,
}

/// All of them.
pub const INVARIANTS: &[Invariant] = &[
    Invariant {
        id: "S1",
        says: "Two acts on one database or workload are at least the longer of their cooldowns apart, across policies, restarts, leaders, and delete and recreate of the policy; only another remediation of the same incident, or ending a session whose statement was cancelled in vain, may follow sooner. An act whose record a person has deleted does not count.",
    },
    Invariant {
        id: "S2",
        says: "One remediation takes effect at most once; its phases only go forward, and who passed its gate never changes.",
    },
    Invariant {
        id: "S3",
        says: "Every effect was preceded by a durable intent: a stored LatencyRemediation in phase Executing with exactly this action.",
    },
    Invariant {
        id: "S4",
        says: "Once faults have ceased, no remediation stays open, Executing least of all.",
    },
    Invariant {
        id: "S5",
        says: "An act adds replicas, no more than the remediation's `step` (rounded up) and never beyond its `max`.",
    },
    Invariant {
        id: "S6",
        says: "A write of replicas replaces exactly the value, on exactly the workload (by uid), that was decided on.",
    },
    Invariant {
        id: "S7",
        says: "An act never scales what an autoscaler scales or a GitOps controller has set, nor what another policy has changed and not yet taken back.",
    },
    Invariant {
        id: "S8",
        says: "A signal hits the session and the statement that were diagnosed: pid, start of session and statement, database, server.",
    },
    Invariant {
        id: "S9",
        says: "A signal never hits the operator's own session, a superuser, a replication role, a protected or maintenance session, a role that the policy does not list, or a transaction that has written where writes are denied.",
    },
    Invariant {
        id: "S10",
        says: "A signal never reaches a standby, nor a server that has been restarted since the diagnosis.",
    },
    Invariant {
        id: "S11",
        says: "Acts in any 60 minutes stay within the policy's, the namespace's and the cluster's ceilings, and so do acts that are being verified at one time. An act whose record a person has deleted does not count.",
    },
    Invariant {
        id: "S13",
        says: "Nothing is done but on a fresh reading of the acting operator that says Breached.",
    },
    Invariant {
        id: "S14",
        says: "Nothing is done before the acting operator has itself seen the breach for `breachFor`, without good times in between.",
    },
    Invariant {
        id: "S15",
        says: "Nothing is done for a policy that does not exist any more, observes or is paused, or whose budget is frozen, denies the action or lets it observe only.",
    },
    Invariant { id: "S16", says: "Nothing is done in the name of a term that is over." },
    Invariant {
        id: "S17",
        says: "Nothing is done while of at least 5 targets more than half are without data.",
    },
    Invariant {
        id: "S18",
        says: "No act of an earlier term reaches a database or workload after an act of a later term has.",
    },
    Invariant {
        id: "S19",
        says: "A signal is not delivered after its deadline by the true clock, whatever the operator's clock says.",
    },
    Invariant { id: "S21", says: "Taking back never replaces a value that somebody else has set since." },
    Invariant {
        id: "S22",
        says: "Warming asks only for the paths that were decided, each at most as often as was decided, not after its deadline, and for each request anew only as long as S13 and S15 to S17 let it.",
    },
    Invariant {
        id: "S23",
        says: "Nothing is done while the Lease is marked by who uninstalls the operator.",
    },
    Invariant {
        id: "U1",
        says: "While replicas that were added stand and nobody else has set others, a stored LatencyRemediation owes them, or says that they were abandoned because the policy is gone, or because the time of who uninstalls the operator was over.",
    },
    Invariant {
        id: "U2",
        says: "Capacity is taken away only on a fresh reading that says Healthy, of objectives and databases; or at once where the act made things worse.",
    },
    Invariant {
        id: "U3",
        says: "Taking back never goes below the replicas before the act, nor further than one step at a time, a window apart (an interval apart, and as far as the time demands, only while the operator is being uninstalled), nor anywhere but where the stored undo says, nor while everything is frozen.",
    },
    Invariant {
        id: "H2",
        says: "What a status claims is what happened: no effect is Confirmed that was not, and none denied that was.",
    },
    Invariant { id: "H3", says: "Every refusal names its guard and says why." },
    Invariant { id: "L1", says: "Once faults have ceased and nobody changes anything, writes stop." },
    Invariant { id: "L2", says: "Once faults have ceased and all is well, every incident is closed." },
    Invariant {
        id: "L4",
        says: "Once faults have ceased, everything that is being deleted goes, and nothing that could be taken back stays owed.",
    },
];

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which: see [`INVARIANTS`].
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// What happened, with the numbers.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.id, self.at, self.message)
    }
}

/// What the world's slowness excuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tolerance {
    /// Between the last live look before the gate and the arrival of the effect: the gate's write, and the deadline.
    pub hearing: Duration,
    /// So long a write that was sent may be under way before the API server takes it.
    pub late: Duration,
    /// Between an effect and the instant that the operator notes for it: the deadline, and what clocks may differ.
    pub clock: Duration,
    /// After faults have ceased everything must be over by then.
    pub settle: Duration,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            hearing: Duration::from_secs(12),
            late: Duration::from_secs(60),
            clock: Duration::from_secs(7),
            settle: Duration::from_secs(4 * 3600),
        }
    }
}

/// So long what was done matters to some rule: the longest cooldown.
const KEPT: Duration = Duration::from_secs(25 * 3600);

/// A LatencyRemediation as it is stored, and what became of it in the world.
#[derive(Debug, Clone)]
struct Intent {
    stored: Remediation,
    /// What its action asks of the world: worked out once for each version that is stored, and judged far more often.
    effect: Effect,
    /// What the effect reaches.
    thing: Thing,
    /// When it was first stored as Executing.
    executing_at: Option<Timestamp>,
    /// How often each path was asked for.
    requests: BTreeMap<String, u32>,
    /// When it took effect.
    landed: Option<Timestamp>,
    /// When capacity was last taken away for it.
    stepped: Option<Timestamp>,
    /// When the step down that is stored now was written down.
    writing_since: Option<Timestamp>,
    /// What spoke against it when its gate was passed; it matters once it takes effect.
    doubts: Vec<(&'static str, String)>,
}

/// Which life of the Lease, and the term in it.
type Term = (u64, u64);

/// An act that reached the world.
#[derive(Debug, Clone)]
struct Act {
    at: Timestamp,
    /// From when on the resource rests: a write that was under way for longer than its deadline counts from there.
    rests_from: Timestamp,
    key: EntryKey,
    policy: PolicyRef,
    incident: String,
    rung: String,
    kind: ActionKind,
    effect: Effect,
    thing: Thing,
    cooldown: Duration,
    term: Term,
}

/// What is acted on, as the world knows it: there are no namespaces in it, and no operator's names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Database(String, String),
    Cache(String, u32),
    Workload(String),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(server, database) => write!(f, "database {database} of server {server}"),
            Self::Cache(peer, database) => write!(f, "database {database} of the Redis server at {peer}"),
            Self::Workload(uid) => write!(f, "workload {uid}"),
        }
    }
}

/// A workload's replicas, as far as facts have told.
#[derive(Debug, Clone)]
struct Standing {
    replicas: u32,
    manager: String,
}

type Seens = VecDeque<(Timestamp, Seen, Option<Seen>)>;

/// The readings of one operator for one policy.
#[derive(Debug, Clone, Default)]
struct Readings {
    /// Those of the last minutes.
    newest: Seens,
    /// Since when it has seen a breach, without good times in between.
    breached_since: Option<Timestamp>,
}

/// Judges a stream of facts.
#[derive(Debug, Clone, Default)]
pub struct Checker {
    tolerance: Tolerance,
    violations: Vec<Violation>,
    policies: BTreeMap<(String, String), Timeline<Option<Policy>>>,
    pauses: BTreeMap<Place, Timeline<Option<String>>>,
    budgets: Timeline<Vec<Budget>>,
    lease: Timeline<(Option<String>, Term)>,
    /// In which life of the Lease each holder has held it.
    lives: BTreeMap<String, u64>,
    draining: Timeline<Option<Draining>>,
    readings: BTreeMap<(PolicyRef, String), Readings>,
    intents: BTreeMap<EntryKey, Intent>,
    /// When each was deleted, of late: whoever acts on it hears of it a little later.
    gone: BTreeMap<EntryKey, Timestamp>,
    acts: VecDeque<Act>,
    standing: BTreeMap<String, Standing>,
    scalers: BTreeMap<(String, TargetRef), Timeline<Vec<String>>>,
    /// The incidents that are not closed.
    open: BTreeSet<EntryKey>,
    quiet_since: Option<Timestamp>,
    last_write: Option<(Timestamp, String)>,
}

impl Checker {
    /// A checker that has been told nothing yet.
    #[must_use]
    pub fn new(tolerance: Tolerance) -> Self {
        Self { tolerance, ..Self::default() }
    }

    /// All violations so far, in the order in which they were found.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Takes in the next fact.
    pub fn see(&mut self, fact: &Fact) {
        let at = fact.at;
        match &fact.what {
            What::Policy(policy) => {
                let key = (policy.id.namespace.clone(), policy.id.name.clone());
                self.policies.entry(key).or_default().push(at, Some((**policy).clone()));
            }
            What::PolicyGone(policy) => {
                let key = (policy.namespace.clone(), policy.name.clone());
                self.policies.entry(key).or_default().push(at, None);
            }
            What::Paused { place, until } => {
                self.pauses.entry(place.clone()).or_default().push(at, until.clone());
            }
            What::Budgets(budgets) => self.budgets.push(at, budgets.clone()),
            What::Remediation(stored) => {
                self.last_write = Some((at, stored.name.clone()));
                self.stored(at, stored);
            }
            What::RemediationGone(key) => self.gone(at, key),
            What::Incident { key, open: true } => drop(self.open.insert(key.clone())),
            What::Incident { key, open: false } => drop(self.open.remove(key)),
            What::Erased(key) => self.acts.retain(|act| act.key != *key),
            What::Lease { holder, epoch } => self.leads(at, holder.as_ref(), *epoch),
            What::Draining(draining) => self.draining.push(at, *draining),
            What::Reading(reading) => self.read(at, reading),
            What::Signal(signal) => self.signalled(at, signal),
            What::Request(request) => self.requested(at, request),
            What::Replicas(replicas) if replicas.manager == MANAGER => {
                self.last_write = Some((at, format!("replicas of {}", replicas.workload.target)));
                self.scaled(at, replicas);
            }
            What::Replicas(replicas) => self.stands(replicas),
            What::Scalers { namespace, target, scalers } => {
                let key = (namespace.clone(), target.clone());
                self.scalers.entry(key).or_default().push(at, scalers.clone());
            }
            What::WorkloadGone(workload) => {
                self.standing.remove(&workload.uid);
            }
            What::Wrote(what) => self.last_write = Some((at, what.clone())),
            What::Quiet => self.quiet_since = Some(at),
        }
    }

    fn violated(&mut self, id: &str, at: Timestamp, message: String) {
        self.violations.push(Violation { id: id.to_owned(), at, message });
    }

    /// A Lease that was deleted and created again counts its terms anew.
    fn leads(&mut self, at: Timestamp, holder: Option<&String>, epoch: u64) {
        let life = match self.lease.last() {
            Some((_, (life, before))) => life + u64::from(epoch < *before),
            None => 0,
        };
        if let Some(holder) = holder {
            self.lives.insert(holder.clone(), life);
        }
        self.lease.push(at, (holder.cloned(), (life, epoch)));
    }

    fn read(&mut self, at: Timestamp, reading: &Reading) {
        let key = (reading.policy.clone(), reading.reader.clone());
        let readings = self.readings.entry(key).or_default();
        let oldest = earlier(at, Duration::from_secs(300));
        while readings.newest.front().is_some_and(|(then, ..)| *then < oldest) {
            readings.newest.pop_front();
        }
        readings.newest.push_back((at, reading.objectives, reading.databases));
        match reading.objectives {
            Seen::Breached => {
                readings.breached_since.get_or_insert(at);
            }
            Seen::Healthy => readings.breached_since = None,
            Seen::Ambiguous | Seen::Quiet | Seen::Dark => {}
        }
    }

    fn stands(&mut self, replicas: &Replicas) {
        let standing = Standing { replicas: replicas.to, manager: replicas.manager.clone() };
        self.standing.insert(replicas.workload.uid.clone(), standing);
    }

    /// The readings of that operator for that policy in the last `span`, newest first, if it has told any.
    fn readings_of(&self, policy: &PolicyRef, reader: &str) -> Option<&Readings> {
        self.readings.get(&(policy.clone(), reader.to_owned()))
    }

    /// Whether anybody has told readings at all: an audit log cannot.
    fn knows_readings(&self) -> bool {
        !self.readings.is_empty()
    }

    fn forget_old(&mut self, at: Timestamp) {
        let oldest = earlier(at, KEPT);
        while self.acts.front().is_some_and(|act| act.at < oldest) {
            self.acts.pop_front();
        }
    }
}

/// The database, cache or workload that an effect reaches.
fn thing_of(effect: &Effect) -> Thing {
    match effect {
        Effect::SignalSession(signal) => {
            let server = &signal.target.server;
            Thing::Database(server.system_identifier.clone(), server.database.clone())
        }
        Effect::SetReplicas(set) => Thing::Workload(set.uid.clone()),
        Effect::SendRequests(send) => Thing::Cache(send.cache.peer.clone(), send.cache.database),
    }
}

#[cfg(test)]
mod tests;
