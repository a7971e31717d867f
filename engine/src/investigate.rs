//! Looking for causes on request: for a diagnosis by hand, a check of an installation, or a recording.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::causes;
use crate::model::{Finding, Memory, NoData, Observed, Snapshot};

/// What an investigation shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Investigation {
    /// The causes that were found, roots before symptoms; each symptom names its root.
    pub findings: Vec<Finding>,
    /// What is worth knowing and nothing is done about automatically.
    pub advice: Vec<Finding>,
    /// What could not be seen. While this is not empty, "nothing found" does not mean that there is nothing.
    pub blind: Vec<Blind>,
}

/// Something that could not be seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Blind {
    /// An objective has no reading.
    Objective {
        /// Its name.
        name: String,
        /// Why.
        why: NoData,
    },
    /// A dependency could not be read.
    Dependency {
        /// Its name.
        name: String,
        /// Why; none where it has not been looked at.
        why: Option<NoData>,
    },
    /// A dependency can be read in part only.
    Partial {
        /// Its name.
        name: String,
        /// The statement that an administrator runs to change that.
        grant: String,
    },
    /// The target could not be read.
    Target {
        /// Why.
        why: NoData,
    },
    /// A cause is not looked for.
    Cause {
        /// Its name.
        name: String,
        /// The setting that is missing.
        setting: String,
    },
}

/// Looks for causes of slowness that began at `since`, whether or not an objective is broken. Pure. `state` is what
/// [`tick`](crate::tick()) returned for this snapshot: some causes take two looks, and some need a baseline.
#[must_use]
pub fn investigate(snapshot: &Snapshot, state: &Memory, since: Timestamp) -> Investigation {
    let found = causes::diagnose(snapshot, state, since);
    let (advice, findings) = found.into_iter().partition(|finding| finding.advice);
    Investigation { findings, advice, blind: blind(snapshot) }
}

fn blind(snapshot: &Snapshot) -> Vec<Blind> {
    let policy = &snapshot.policy;
    let mut blind = Vec::new();
    for objective in &policy.objectives {
        let measured = snapshot.observations.measurements.get(&objective.name);
        if let Some(why) = measured.and_then(Observed::missing_because) {
            blind.push(Blind::Objective { name: objective.name.clone(), why: why.clone() });
        }
    }
    for (name, _) in policy.by_kind() {
        let name = name.clone();
        match snapshot.observations.dependencies.get(&name) {
            Some(Observed::Known { value, .. }) => {
                let partial = value.partial().map(ToOwned::to_owned);
                blind.extend(partial.map(|grant| Blind::Partial { name, grant }));
            }
            Some(Observed::Missing(why)) => blind.push(Blind::Dependency { name, why: Some(why.clone()) }),
            None => blind.push(Blind::Dependency { name, why: None }),
        }
    }
    if let Observed::Missing(why) = &snapshot.observations.target {
        blind.push(Blind::Target { why: why.clone() });
    }
    blind.extend(
        causes::not_looked_for(policy)
            .map(|(name, setting)| Blind::Cause { name: name.to_owned(), setting: setting.to_owned() }),
    );
    blind
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guards::testing::Setup;
    use crate::model::{Confidence, Coverage, NoDataReason, Thresholds, later};

    #[test]
    fn causes_are_found_although_nothing_is_breached() {
        let mut setup = Setup::acting();
        setup.snapshot.incident = None;
        let mut state = crate::State::default();
        for second in 0..2 {
            let value = setup.postgres().clone().into();
            let at = later(setup.now, Duration::from_secs(second));
            setup.snapshot.observations.dependencies.insert("db".into(), Observed::Known { at, value });
            state = crate::tick(&setup.snapshot, &state).state;
        }
        assert_eq!(state.memory.breach, None);
        let mut found = |older_than: u64| {
            let set = Thresholds { older_than: Some(Duration::from_secs(older_than)), ..Thresholds::NONE };
            setup.snapshot.policy.thresholds.insert("RunawayQuery".into(), set);
            let Investigation { findings, advice, .. } =
                investigate(&setup.snapshot, &state.memory, setup.now);
            [findings, advice]
                .map(|found| found.iter().map(|f| (f.cause.to_string(), f.confidence)).collect::<Vec<_>>())
        };
        let runaway = || vec![("RunawayQuery".to_owned(), Confidence::Certain)];
        assert_eq!(found(5), [runaway(), vec![]]);
        assert_eq!(found(3600), [vec![], runaway()], "it is too young for more than advice");
    }

    #[test]
    fn what_cannot_be_seen_is_named() {
        let mut setup = Setup::acting();
        let blind = |setup: &Setup| investigate(&setup.snapshot, &Memory::default(), setup.now).blind;
        assert_eq!(blind(&setup), []);
        setup.postgres().coverage = Coverage::Partial { grant: "GRANT x".into() };
        assert_eq!(blind(&setup), [Blind::Partial { name: "db".into(), grant: "GRANT x".into() }]);
        let missing = Observed::missing(NoDataReason::Timeout, "no answer");
        setup.snapshot.observations.dependencies.insert("db".into(), missing);
        setup.snapshot.observations.target = Observed::missing(NoDataReason::PermissionDenied, "no");
        let late = Observed::missing(NoDataReason::Timeout, "late");
        setup.snapshot.observations.measurements.insert("p95".into(), late);
        let kinds: Vec<_> = blind(&setup).iter().map(std::mem::discriminant).collect();
        let why = || NoData::new(NoDataReason::Timeout, "");
        let wanted = [
            Blind::Objective { name: String::new(), why: why() },
            Blind::Dependency { name: String::new(), why: None },
            Blind::Target { why: why() },
        ];
        assert_eq!(kinds, wanted.each_ref().map(std::mem::discriminant));
        setup.snapshot.policy.concurrency_per_pod = None;
        let (name, setting) = ("WorkersSaturated".to_owned(), "spec.target.concurrencyPerPod".to_owned());
        assert!(blind(&setup).contains(&Blind::Cause { name, setting }));
        setup.snapshot.observations.dependencies.clear();
        assert!(blind(&setup).contains(&Blind::Dependency { name: "db".into(), why: None }));
    }
}
