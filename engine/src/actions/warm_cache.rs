//! `WarmCache`: asks the target for what it keeps in the cache, slowly, so that it fills the cache itself.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Act, Action, ActionKind, Checked, Evidence, Line, RungChanged, Settings, Traits, rung};
use crate::causes::cold_cache;
use crate::effects::{Effect, Progress, Requests, SendRequests};
use crate::model::ratio::percent;
use crate::model::{
    COLD, CacheKey, CacheTrend, Candidate, Change, Dependency, Finding, NoData, Policy, RedisFacts,
    RedisRole, ResourceKey, Rung, SecretRef, Severity, Situation, Snapshot, Subject, TargetRef, UndoSpec,
    duration::human, forget,
};

/// A cache that is fuller than this drops something else for each key that is warmed.
const FULL: f64 = 0.95;

pub(super) const LINE: Line = Line {
    kind: ActionKind::WarmCache,
    does: "sends GET requests to the target through its Service, at most `ratePerSecond` and `inFlight` at a time, so that it fills its cache; stops as soon as a database gets worse, keys are evicted, or the objectives are kept again; there is nothing to take back",
    answers: &[cold_cache::NAME],
    traits: Traits {
        adds_load: true,
        removes_capacity: false,
        touches_workload: false,
        disruptive: false,
        signals_sessions: false,
    },
    min_severity: Severity::P2,
    reversible: false,
};

/// Warm one cache: requests to the target that make it fill the cache itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmCache {
    /// The Redis dependency's name in the policy.
    pub dependency: String,
    /// The Secret that leads to it.
    pub secret: SecretRef,
    /// Which cache was found cold.
    pub cache: CacheKey,
    /// How.
    pub settings: Requests,
}

const ALLOWED: &[ActionKind] = &[ActionKind::WarmCache];

impl Settings for Requests {
    fn permissions(&self) -> &'static [ActionKind] {
        ALLOWED
    }

    fn propose(&self, snapshot: &Snapshot, _: &Rung, finding: &Finding) -> Option<Action> {
        let dependency = finding.subject.as_ref()?.dependency()?;
        let Dependency::Redis(declared) = snapshot.policy.dependencies.get(dependency)? else { return None };
        let (_, facts) = snapshot.observations.redis(dependency)?.ok()?;
        let resource = ResourceKey::cache(&snapshot.policy.id.namespace, &facts.server);
        let ResourceKey::Cache(cache) = resource else { return None };
        Some(Action::WarmCache(WarmCache {
            dependency: dependency.to_owned(),
            secret: declared.secret.clone(),
            cache,
            settings: self.clone(),
        }))
    }

    fn effect_within(&self, _: &Action) -> Option<Duration> {
        None
    }

    fn changes<'a>(&'a self, _: &'a Policy) -> Option<&'a TargetRef> {
        None
    }

    fn undo(&self, _: &Policy, _: &Action) -> Option<UndoSpec> {
        None
    }
}

impl Act for WarmCache {
    fn effect(&self) -> Effect {
        let (dependency, cache) = (self.dependency.clone(), self.cache.clone());
        Effect::SendRequests(SendRequests { dependency, cache, requests: self.settings.clone() })
    }

    fn subject(&self) -> Subject {
        Subject::Dependency { dependency: self.dependency.clone() }
    }

    fn resource(&self, _: &str) -> ResourceKey {
        ResourceKey::Cache(self.cache.clone())
    }

    fn permissions(&self) -> &'static [ActionKind] {
        ALLOWED
    }

    fn follows_up(&self) -> bool {
        false
    }

    fn sentence(&self) -> String {
        let Self { dependency, settings, .. } = self;
        format!(
            "warm {dependency} by {} requests to Service {}, {} a second",
            settings.planned(),
            settings.service,
            settings.rate_per_second
        )
    }

    fn precondition(&self, snapshot: &Snapshot, candidate: &Candidate) -> Checked {
        let settings = rung(snapshot, candidate)?.warm_cache().ok_or(RungChanged::OtherRung)?;
        if *settings != self.settings {
            return Err(Condition::OtherSettings.into());
        }
        let facts = self.still_cold(snapshot)?;
        let cache = self.dependency.clone();
        match facts.role {
            RedisRole::Primary => {}
            role @ RedisRole::Replica { .. } => return Err(Condition::Replica { cache, role }.into()),
        }
        if facts.memory.refuses_writes() {
            return Err(Condition::TakesNothing { cache }.into());
        }
        if let Some(share) = facts.memory.share().filter(|share| *share >= FULL) {
            return Err(Condition::NearlyFull { cache, share }.into());
        }
        let workload = snapshot.observations.target.known().and_then(|target| target.workload.as_ref());
        if workload.is_some_and(|workload| workload.ready == 0) {
            return Err(Condition::NobodyReady { target: snapshot.policy.target.clone() }.into());
        }
        Ok(Condition::TakesMore { cache, keys: facts.keys }.into())
    }

    /// It takes several looks to tell whether a cache is cold.
    fn is_cause_visible(&self, situation: &Situation) -> bool {
        situation.caches.get(&self.dependency).and_then(CacheTrend::is_cold).is_some()
    }

    /// Whether lookups find their keys again, in looks that were all made since the first request. Where it is not known what
    /// is usual (this process has not seen it healthy), what people call low is the measure.
    fn progress(&self, evidence: &Evidence<'_>) -> Option<Progress> {
        let (name, waited) = (&self.dependency, human(evidence.waited));
        let trend = evidence.view.and_then(|(_, situation)| situation.caches.get(name));
        let trend = trend.filter(|trend| trend.from >= evidence.acted_at);
        let policy = evidence.view.map(|(snapshot, _)| &snapshot.policy);
        let usual = trend.and_then(|trend| trend.baseline);
        let warm_from = usual.map_or_else(|| cold_cache::low(policy), |usual| usual.ratio * COLD);
        Some(match trend.and_then(CacheTrend::ratio) {
            None => Progress::Unreadable(format!("the hit ratio of {name} could not be read {waited} later")),
            Some(ratio) => {
                let found =
                    format!("{} of the lookups in {name} found their key {waited} later", percent(ratio));
                if ratio >= warm_from {
                    Progress::Confirmed(found)
                } else {
                    Progress::NotYet(format!("{found}, {} are needed", percent(warm_from)))
                }
            }
        })
    }

    fn manual_rollback(&self, _: &str, _: &Change) -> Option<String> {
        None
    }
}

impl WarmCache {
    /// The cache as it is now, if it is still the one that was found cold. A restart makes no other one of it.
    fn still_cold<'a>(&self, snapshot: &'a Snapshot) -> Result<&'a RedisFacts, Condition> {
        let cache = self.dependency.clone();
        let Some(Dependency::Redis(declared)) = snapshot.policy.dependencies.get(&cache) else {
            return Err(Condition::NotDeclared { cache });
        };
        if declared.secret != self.secret {
            let (now, then) = (declared.secret.name.clone(), self.secret.name.clone());
            return Err(Condition::OtherSecret { cache, now, then });
        }
        let facts = match snapshot.observations.redis(&cache) {
            Some(Ok((_, facts))) => facts,
            Some(Err(why)) => return Err(Condition::Unreadable { cache, why: why.clone() }),
            None => return Err(Condition::NotRead { cache }),
        };
        let CacheKey { host, port, database, .. } = &self.cache;
        let server = &facts.server;
        if (&server.host, &server.port, &server.database) != (host, port, database) {
            return Err(Condition::OtherServer { cache });
        }
        Ok(facts)
    }
}

/// What the precondition comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Condition {
    TakesMore { cache: String, keys: u64 },
    OtherSettings,
    NotDeclared { cache: String },
    OtherSecret { cache: String, now: String, then: String },
    Unreadable { cache: String, why: NoData },
    NotRead { cache: String },
    OtherServer { cache: String },
    Replica { cache: String, role: RedisRole },
    TakesNothing { cache: String },
    NearlyFull { cache: String, share: f64 },
    NobodyReady { target: TargetRef },
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakesMore { cache, keys } => write!(f, "{cache} holds {keys} keys and takes more"),
            Self::OtherSettings => {
                f.write_str("the remediation warms in another way now than what was decided on")
            }
            Self::NotDeclared { cache } => {
                write!(f, "the policy declares no Redis dependency {cache} any more")
            }
            Self::OtherSecret { cache, now, then } => {
                write!(f, "the dependency {cache} now uses Secret {now}, not {then}")
            }
            Self::Unreadable { cache, why } => write!(f, "{cache} cannot be read: {why}"),
            Self::NotRead { cache } => write!(f, "{cache} has not been read"),
            Self::OtherServer { cache } => {
                write!(f, "{cache} leads to another server now than the one that was found cold")
            }
            Self::Replica { cache, role } => {
                write!(f, "{cache} is {role}: what the target writes to a cache does not go there")
            }
            Self::TakesNothing { cache } => {
                write!(f, "{cache} is at maxmemory and its policy is noeviction: it would take nothing")
            }
            Self::NearlyFull { cache, share } => {
                let share = percent(*share);
                write!(f, "{cache} uses {share} of maxmemory: each key that is warmed would evict another")
            }
            Self::NobodyReady { target } => write!(f, "no replica of {target} is ready to answer"),
        }
    }
}

impl Condition {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::TakesMore { keys, .. } => forget(keys),
            Self::NearlyFull { share, .. } => forget(share),
            Self::Unreadable { why, .. } => why.forget_numbers(),
            Self::OtherSettings
            | Self::NotDeclared { .. }
            | Self::OtherSecret { .. }
            | Self::NotRead { .. }
            | Self::OtherServer { .. }
            | Self::Replica { .. }
            | Self::TakesNothing { .. }
            | Self::NobodyReady { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::testing::{Setup, refused};
    use crate::guards::{GuardName, Stage};
    use crate::model::{RedisMemory, RungAction};

    fn refusal(change: impl FnOnce(&mut Setup)) -> Option<String> {
        let mut setup = Setup::warming();
        change(&mut setup);
        refused(&setup, GuardName::Precondition, Stage::Gate)
    }

    fn of_cache(change: impl FnOnce(&mut RedisFacts)) -> Option<String> {
        refusal(|setup| change(setup.cache()))
    }

    #[test]
    fn it_must_still_be_that_cache_and_that_rung() {
        assert_eq!(of_cache(|_| ()), None);
        assert_eq!(of_cache(|facts| facts.server.run_id = "another life".into()), None);
        assert!(of_cache(|facts| facts.server.host = "elsewhere".into()).unwrap().contains("another server"));
        let another_way = refusal(|setup| {
            let RungAction::WarmCache(settings) = &mut setup.snapshot.policy.rungs[0].action else {
                panic!()
            };
            settings.rate_per_second += 1;
        });
        assert!(another_way.unwrap().contains("another way"));
        assert!(
            refusal(|setup| setup.snapshot.observations.dependencies.clear())
                .unwrap()
                .contains("has not been read")
        );
    }

    #[test]
    fn a_cache_that_takes_nothing_more_is_not_warmed() {
        let memory = |used, policy: &str| RedisMemory { used, max: Some(100), policy: policy.into() };
        assert_eq!(of_cache(|facts| facts.memory = memory(94, "allkeys-lru")), None);
        assert!(
            of_cache(|facts| facts.memory = memory(95, "allkeys-lru")).unwrap().contains("evict another")
        );
        assert!(of_cache(|facts| facts.memory = memory(100, "noeviction")).unwrap().contains("take nothing"));
        let replica = of_cache(|facts| facts.role = RedisRole::Replica { link_up: true });
        assert!(replica.unwrap().contains("a replica"));
        assert!(refusal(|setup| setup.workload().ready = 0).unwrap().contains("ready to answer"));
    }
}
