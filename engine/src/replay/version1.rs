//! Version 1 of the format: what was read lay beside the policy, in one map for each kind, and a look at Redis had no history.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use super::Evaluation;
use crate::Admitted;
use crate::model::{
    ByName, ClosedIncident, Facts, Incident, Measurement, Observations, Observed, OperatorHealth, PastAct,
    Pause, Policy, PostgresFacts, Probed, RedisFacts, Remediation, Snapshot, Target, Traffic,
};
use crate::record::DecisionRecord;

#[derive(Deserialize)]
struct Written {
    snapshot: WrittenSnapshot,
    #[serde(default)]
    answers: Vec<Admitted>,
    #[serde(default)]
    records: Vec<DecisionRecord>,
}

#[derive(Deserialize)]
struct WrittenSnapshot {
    now: Timestamp,
    policy: Policy,
    target: Observed<Target>,
    traffic: ByName<Observed<Traffic>>,
    probes: ByName<Observed<Probed>>,
    databases: ByName<Observed<PostgresFacts>>,
    caches: ByName<Observed<RedisFacts>>,
    pauses: Vec<Pause>,
    incident: Option<Incident>,
    closed: Option<ClosedIncident>,
    next_ordinal: u64,
    remediations: Vec<Remediation>,
    history: Vec<PastAct>,
    operator: OperatorHealth,
}

/// Reads a recording of version 1, line by line. It keeps the last look at each Redis server, so that the next one gets its history.
#[derive(Debug, Default)]
pub(super) struct Reader {
    looks: BTreeMap<(String, String), (Timestamp, RedisFacts)>,
}

impl Reader {
    pub(super) fn read<'de, D: Deserializer<'de>>(&mut self, line: D) -> Result<Evaluation, D::Error> {
        let Written { snapshot, answers, records } = Written::deserialize(line)?;
        Ok(Evaluation { snapshot: self.snapshot(snapshot), answers, records })
    }

    fn snapshot(&mut self, written: WrittenSnapshot) -> Snapshot {
        let traffic = written.traffic.into_iter().map(|(name, read)| (name, read.map(Measurement::from)));
        let probes = written.probes.into_iter().map(|(name, read)| (name, read.map(Measurement::from)));
        let databases = written.databases.into_iter().map(|(name, read)| (name, read.map(Facts::from)));
        let policy = &written.policy.id.uid;
        let caches = written.caches.into_iter().map(|(name, read)| {
            let read = self.with_history(policy, &name, read).map(Facts::from);
            (name, read)
        });
        let observations = Observations {
            measurements: traffic.chain(probes).collect(),
            dependencies: databases.chain(caches).collect(),
            target: written.target,
            pauses: written.pauses,
        };
        Snapshot {
            now: written.now,
            policy: written.policy,
            observations,
            incident: written.incident,
            closed: written.closed,
            next_ordinal: written.next_ordinal,
            remediations: written.remediations,
            history: written.history,
            operator: written.operator,
        }
    }

    fn with_history(
        &mut self,
        policy: &str,
        cache: &str,
        read: Observed<RedisFacts>,
    ) -> Observed<RedisFacts> {
        let Observed::Known { at, value } = read else { return read };
        let key = (policy.to_owned(), cache.to_owned());
        let value = match self.looks.get(&key) {
            // Several evaluations shared a look.
            Some((before, facts)) if *before == at => facts.clone(),
            before => (*value).clone().after(at, before.map(|(_, facts)| &**facts)),
        };
        self.looks.insert(key, (at, value.clone()));
        Observed::Known { at, value }
    }
}
