//! `WarmCache`: asks the target for what it keeps in the cache, slowly, so that it fills the cache itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Checked, Remedy, RungChanged, Traits, rung};
use crate::causes::cold_cache;
use crate::model::ratio::percent;
use crate::model::{
    Action, ActionKind, CacheKey, Candidate, Dependency, Finding, NoData, RedisFacts, RedisRole, ResourceKey,
    Rung, RungAction, Snapshot, TargetRef, WarmCache, forget,
};

/// A cache that is fuller than this drops something else for each key that is warmed.
const FULL: f64 = 0.95;

pub(super) const REMEDY: Remedy = Remedy {
    kind: ActionKind::WarmCache,
    does: "sends GET requests to the target through its Service, at most `ratePerSecond` and `inFlight` at a time, so that it fills its cache; stops as soon as a database gets worse, keys are evicted, or the objectives are kept again; there is nothing to take back",
    answers: &[cold_cache::NAME],
    traits: Traits { adds_load: true, removes_capacity: false, touches_workload: false, disruptive: false },
    propose,
    precondition,
    undo: None,
};

fn propose(snapshot: &Snapshot, rung: &Rung, finding: &Finding) -> Option<(Action, ResourceKey)> {
    let RungAction::WarmCache(settings) = &rung.action else { return None };
    let dependency = finding.subject.as_ref()?.dependency()?;
    let Dependency::Redis(declared) = snapshot.policy.dependencies.get(dependency)? else { return None };
    let (_, facts) = snapshot.observations.redis(dependency)?.ok()?;
    let resource = ResourceKey::cache(&snapshot.policy.id.namespace, &facts.server);
    let ResourceKey::Cache(cache) = resource.clone() else { return None };
    let action = Action::WarmCache(WarmCache {
        dependency: dependency.to_owned(),
        secret: declared.secret.clone(),
        cache,
        settings: settings.clone(),
    });
    Some((action, resource))
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
            Self::OtherSettings => f.write_str("the rung warms in another way now than what was decided on"),
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

fn precondition(snapshot: &Snapshot, candidate: &Candidate) -> Checked {
    let Action::WarmCache(warm) = &candidate.action else { return Err(RungChanged::OtherAction.into()) };
    let RungAction::WarmCache(settings) = &rung(snapshot, candidate)?.action else {
        return Err(RungChanged::OtherRung.into());
    };
    if *settings != warm.settings {
        return Err(Condition::OtherSettings.into());
    }
    let facts = still_cold(snapshot, warm)?;
    let cache = warm.dependency.clone();
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

/// The cache as it is now, if it is still the one that was found cold. A restart makes no other one of it.
fn still_cold<'a>(snapshot: &'a Snapshot, warm: &WarmCache) -> Result<&'a RedisFacts, Condition> {
    let cache = warm.dependency.clone();
    let Some(Dependency::Redis(declared)) = snapshot.policy.dependencies.get(&cache) else {
        return Err(Condition::NotDeclared { cache });
    };
    if declared.secret != warm.secret {
        let (now, then) = (declared.secret.name.clone(), warm.secret.name.clone());
        return Err(Condition::OtherSecret { cache, now, then });
    }
    let facts = match snapshot.observations.redis(&cache) {
        Some(Ok((_, facts))) => facts,
        Some(Err(why)) => return Err(Condition::Unreadable { cache, why: why.clone() }),
        None => return Err(Condition::NotRead { cache }),
    };
    let CacheKey { host, port, database, .. } = &warm.cache;
    let server = &facts.server;
    if (&server.host, &server.port, &server.database) != (host, port, database) {
        return Err(Condition::OtherServer { cache });
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::testing::{Setup, refused};
    use crate::guards::{GuardName, Stage};
    use crate::model::RedisMemory;

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
