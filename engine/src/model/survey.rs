//! All policies at one time, as far as one of them has to know about the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DatabaseKey, PolicyRef, ResourceKey, SessionIdentity, TargetRef, forget};

/// So many targets are a storm's least number: of fewer, half is an accident.
pub const STORM: usize = 5;

/// One culprit in one database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Root {
    /// The database, without the namespace from which it is reached.
    database: (String, String, String),
    /// Its process id and start: a blocker may run one statement after the other.
    session: (i32, Timestamp),
}

impl Root {
    /// A session of a database.
    #[must_use]
    pub fn of(key: &DatabaseKey, session: &SessionIdentity) -> Self {
        let DatabaseKey { system_identifier, database, peer, .. } = key.clone();
        Self { database: (system_identifier, database, peer), session: session.session() }
    }

    /// The same, where the resource is a database.
    #[must_use]
    pub fn of_resource(resource: &ResourceKey, session: &SessionIdentity) -> Option<Self> {
        match resource {
            ResourceKey::Database(key) => Some(Self::of(key, session)),
            ResourceKey::Cache(_) | ResourceKey::Workload(_) => None,
        }
    }
}

/// Targets that share something, and how many of them are in trouble.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// All targets.
    pub targets: BTreeSet<(String, TargetRef)>,
    /// Those about which nothing is known.
    pub dark: BTreeSet<(String, TargetRef)>,
    /// Those that are breached for reasons of their own, or for none that is known.
    pub breached: BTreeSet<(String, TargetRef)>,
    /// What several are breached by counts once.
    pub roots: BTreeSet<Root>,
}

impl Tally {
    /// Whether so many are in trouble that something which they share must be broken; the numbers.
    fn storm(&self, of: impl FnOnce() -> StormOf) -> Option<Storm> {
        let (dark, breached, roots) = (self.dark.len(), self.breached.len(), self.roots.len());
        let targets = self.targets.len();
        (targets >= STORM && (dark + breached + roots) * 2 > targets).then(|| Storm {
            of: of(),
            targets,
            dark,
            breached,
            roots,
        })
    }
}

/// More targets are in trouble than can be a coincidence: something that they share is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storm {
    /// Which targets.
    pub of: StormOf,
    /// How many there are.
    pub targets: usize,
    /// Those about which nothing is known.
    pub dark: usize,
    /// Those that are breached for reasons of their own, or for none that is known.
    pub breached: usize,
    /// Culprits by which several are breached.
    pub roots: usize,
}

/// Whose targets are counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StormOf {
    /// Those of all policies.
    All,
    /// Those that are judged by this metrics backend.
    Backend(String),
}

impl Storm {
    /// Keeps whose targets they are, and none of the numbers.
    pub(crate) fn forget_numbers(&mut self) {
        let Self { of: _, targets, dark, breached, roots } = self;
        [targets, dark, breached, roots].into_iter().for_each(forget);
    }
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, targets, dark, breached, roots } = self;
        match of {
            StormOf::All => f.write_str("of all policies together: ")?,
            StormOf::Backend(name) => write!(f, "of those that the metrics backend {name} is about: ")?,
        }
        write!(
            f,
            "{targets} targets, {dark} without data, {breached} breached, and {roots} culprits that others share"
        )
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// All of them.
    pub all: Tally,
    /// Those that are judged by the same metrics backend.
    pub by_backend: BTreeMap<String, Tally>,
    /// Which backends a policy is judged by.
    pub backends: BTreeMap<PolicyRef, BTreeSet<String>>,
    /// The policies that change a workload by themselves, oldest first.
    pub owners: BTreeMap<(String, TargetRef), Vec<(Timestamp, PolicyRef)>>,
    /// Who proposes to act on a culprit, oldest first, and how many policies suffer from it.
    pub actors: BTreeMap<Root, (BTreeSet<(Timestamp, PolicyRef)>, usize)>,
}

impl Survey {
    /// The older policy that changes the same workload by itself, if there is one.
    #[must_use]
    pub fn older(&self, policy: &PolicyRef, target: &TargetRef) -> Option<&PolicyRef> {
        let owners = self.owners.get(&(policy.namespace.clone(), target.clone()))?;
        owners.iter().map(|(_, owner)| owner).next().filter(|first| *first != policy)
    }

    /// Whether the policy is in the middle of a storm; the numbers.
    #[must_use]
    pub fn storm(&self, policy: &PolicyRef) -> Option<Storm> {
        let of_backends = || {
            let mut backends = self.backends.get(policy).into_iter().flatten();
            backends.find_map(|name| self.by_backend.get(name)?.storm(|| StormOf::Backend(name.clone())))
        };
        self.all.storm(|| StormOf::All).or_else(of_backends)
    }

    /// Who acts for all that suffer from a culprit, where these are many and somebody else was elected; the number of policies.
    #[must_use]
    pub fn elected(&self, root: &Root, policy: &PolicyRef) -> Option<(&PolicyRef, usize)> {
        let (actors, policies) = self.actors.get(root)?;
        let (_, first) = actors.first()?;
        (*policies >= STORM && first != policy).then_some((first, *policies))
    }
}
