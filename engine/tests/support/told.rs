//! What a scenario's world tells the checker of invariants: facts about the world, and nothing of what was thought.

use std::collections::BTreeMap;

use engine::effects::{SessionTarget, Signal as How};
use engine::invariants::{Checker, Fact, Place, Reading, Replicas, Seen, Signal, Tolerance, Victim, What};
use engine::model::{
    Budget, EntryKey, ObjectiveKind, Pause, PausedBy, Policy, Remediation, Session, TargetRef, WorkloadKey,
};
use jiff::Timestamp;

use super::cluster::Cluster;
use super::parse::{Probe, Traffic};

pub(crate) struct Told {
    checker: Checker,
    /// Nobody checks: what is stored did not come from the operator, and the world does not fit to it.
    pub(crate) is_deaf: bool,
    policy: Option<Policy>,
    pauses: Vec<Pause>,
    budgets: Option<Vec<Budget>>,
    replicas: BTreeMap<TargetRef, (WorkloadKey, u32, String)>,
    scalers: BTreeMap<TargetRef, Vec<String>>,
    stored: BTreeMap<String, Remediation>,
}

impl Told {
    pub(crate) fn new() -> Self {
        Self {
            checker: Checker::new(Tolerance::default()),
            is_deaf: false,
            policy: None,
            pauses: Vec::new(),
            budgets: None,
            replicas: BTreeMap::new(),
            scalers: BTreeMap::new(),
            stored: BTreeMap::new(),
        }
    }

    /// A fact; nothing that must always be true is violated by it.
    pub(crate) fn tell(&mut self, at: Timestamp, what: What) {
        if self.is_deaf {
            return;
        }
        let fact = Fact { at, what };
        self.checker.see(&fact);
        let violations = self.checker.violations();
        assert!(violations.is_empty(), "{}\nafter {fact:?}", violations[0]);
    }

    /// What people have changed since.
    pub(crate) fn people(
        &mut self,
        at: Timestamp,
        policy: Option<&Policy>,
        pauses: &[Pause],
        budgets: Vec<Budget>,
    ) {
        if self.policy.as_ref() != policy {
            match (policy, &self.policy) {
                (Some(policy), _) => self.tell(at, What::Policy(Box::new(policy.clone()))),
                (None, Some(gone)) => self.tell(at, What::PolicyGone(gone.id.clone())),
                (None, None) => {}
            }
            self.policy = policy.cloned();
        }
        if let Some(policy) = policy.filter(|_| self.pauses != pauses) {
            let (namespace, name) = (policy.id.namespace.clone(), policy.id.name.clone());
            for by in [PausedBy::Policy, PausedBy::Target, PausedBy::Namespace] {
                let place = match by {
                    PausedBy::Policy => Place::Policy(namespace.clone(), name.clone()),
                    PausedBy::Target => Place::Target(namespace.clone(), policy.target.clone()),
                    PausedBy::Namespace => Place::Namespace(namespace.clone()),
                };
                let until = pauses.iter().rfind(|pause| pause.by == by).map(|pause| pause.until.clone());
                self.tell(at, What::Paused { place, until });
            }
            self.pauses = pauses.to_vec();
        }
        if self.budgets.as_ref() != Some(&budgets) {
            self.tell(at, What::Budgets(budgets.clone()));
            self.budgets = Some(budgets);
        }
    }

    /// What has become of the workload since, by whomever but the operator.
    pub(crate) fn workload(&mut self, at: Timestamp, cluster: &Cluster, namespace: &str, target: &TargetRef) {
        let key = WorkloadKey { namespace: namespace.to_owned(), target: target.clone(), uid: cluster.uid() };
        let (replicas, manager, scalers) = cluster.standing();
        let now = (key.clone(), replicas, manager.clone());
        let known = self.replicas.get(target);
        if known != Some(&now) {
            let from = known.filter(|(before, ..)| *before == key).map(|(_, from, _)| *from);
            self.replicas.insert(target.clone(), now);
            let replicas =
                Replicas { workload: key, from, to: replicas, manager, sent: None, remediation: None };
            self.tell(at, What::Replicas(replicas));
        }
        let known = self.scalers.entry(target.clone()).or_default();
        if *known != scalers {
            known.clone_from(&scalers);
            let (namespace, target) = (namespace.to_owned(), target.clone());
            self.tell(at, What::Scalers { namespace, target, scalers });
        }
    }

    /// What there was to be seen.
    pub(crate) fn reading(
        &mut self,
        at: Timestamp,
        policy: &Policy,
        traffic: &Traffic,
        probe: &Probe,
        databases: Seen,
    ) {
        let exceeds = |probed: bool, limit: std::time::Duration| {
            policy.objectives.iter().any(|objective| match &objective.kind {
                ObjectiveKind::Latency { target, .. } => {
                    probed == objective.source.timed().is_some() && limit > *target
                }
                ObjectiveKind::ErrorRatio { .. } => false,
            })
        };
        let slow_at = |limit| exceeds(false, limit);
        let probed = match probe {
            _ if policy.probes().next().is_none() => None,
            Probe::Answer(500.., _) | Probe::Hangs => Some(Seen::Breached),
            Probe::Answer(300.., _) | Probe::NoData(_) => Some(Seen::Dark),
            Probe::Answer(_, total) if exceeds(true, *total) => Some(Seen::Breached),
            Probe::Answer(..) => None,
        };
        let objectives = match traffic {
            _ if probed == Some(Seen::Breached) => Seen::Breached,
            Traffic::NoData(_) => Seen::Dark,
            #[allow(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
            Traffic::Flows { requests, in_flight, .. } if *requests < engine::judge::MIN_REQUESTS as f64 => {
                // So few complete and so many wait: they hang.
                if *in_flight > *requests { Seen::Breached } else { Seen::Quiet }
            }
            Traffic::Flows { slow, .. } if slow_at(*slow) => Seen::Breached,
            Traffic::Flows { .. } => probed.unwrap_or(Seen::Healthy),
        };
        let policy = policy.id.clone();
        let reading = Reading { policy, reader: "operator".into(), objectives, databases: Some(databases) };
        self.tell(at, What::Reading(reading));
    }

    pub(crate) fn signal(
        &mut self,
        at: Timestamp,
        key: EntryKey,
        signal: How,
        target: &SessionTarget,
        hit: &Session,
    ) {
        use engine::invariants::SignalKind::{Cancel, Terminate};
        let kind = if signal.ends_session() { Terminate } else { Cancel };
        let signal = Signal {
            kind,
            system_identifier: target.server.system_identifier.clone(),
            database: hit.database.clone(),
            started_at: Some(target.server.started_at),
            standby: Some(false),
            pid: hit.identity.pid,
            backend_start: Some(hit.identity.backend_start),
            query_start: Some(hit.identity.query_start),
            victim: Some(Victim {
                role: hit.role.clone(),
                untouchable: hit.privileged,
                protected: hit.protected || hit.maintenance,
                wrote: hit.wrote,
            }),
            remediation: Some(key),
        };
        self.tell(at, What::Signal(signal));
    }

    /// What is stored, where it has changed.
    pub(crate) fn stored<'a>(&mut self, at: Timestamp, all: impl Iterator<Item = &'a Remediation>) {
        for remediation in all {
            if self.stored.get(&remediation.name) != Some(remediation) {
                self.stored.insert(remediation.name.clone(), remediation.clone());
                self.tell(at, What::Remediation(Box::new(remediation.clone())));
            }
        }
    }
}
