//! `WarmCache`: asks the target for what it keeps in the cache, slowly, so that it fills the cache itself.

use super::{Remedy, Traits, rung};
use crate::causes::cold_cache;
use crate::model::ratio::percent;
use crate::model::{
    Action, ActionKind, CacheKey, Candidate, Dependency, Finding, Observed, RedisFacts, RedisRole,
    ResourceKey, Rung, RungAction, Snapshot, WarmCache,
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
    let facts = snapshot.caches.get(dependency)?.known()?;
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

fn precondition(snapshot: &Snapshot, candidate: &Candidate) -> Result<String, String> {
    let Action::WarmCache(warm) = &candidate.action else { return Err("it is another action".to_owned()) };
    let RungAction::WarmCache(settings) = &rung(snapshot, candidate)?.action else {
        return Err("the rung does something else now".to_owned());
    };
    if *settings != warm.settings {
        return Err("the rung warms in another way now than what was decided on".to_owned());
    }
    let facts = cache(snapshot, warm)?;
    let name = &warm.dependency;
    match facts.role {
        RedisRole::Primary => {}
        role @ RedisRole::Replica { .. } => {
            return Err(format!("{name} is {role}: what the target writes to a cache does not go there"));
        }
    }
    if facts.memory.refuses_writes() {
        return Err(format!("{name} is at maxmemory and its policy is noeviction: it would take nothing"));
    }
    if let Some(share) = facts.memory.share().filter(|share| *share >= FULL) {
        let share = percent(share);
        return Err(format!("{name} uses {share} of maxmemory: each key that is warmed would evict another"));
    }
    let workload = snapshot.target.known().and_then(|target| target.workload.as_ref());
    if workload.is_some_and(|workload| workload.ready == 0) {
        return Err(format!("no replica of {} is ready to answer", snapshot.policy.target));
    }
    Ok(format!("{name} holds {} keys and takes more", facts.keys))
}

/// The cache as it is now, if it is still the one that was found cold. A restart makes no other one of it.
fn cache<'a>(snapshot: &'a Snapshot, warm: &WarmCache) -> Result<&'a RedisFacts, String> {
    let name = &warm.dependency;
    let Some(Dependency::Redis(declared)) = snapshot.policy.dependencies.get(name) else {
        return Err(format!("the policy declares no Redis dependency {name} any more"));
    };
    if declared.secret != warm.secret {
        return Err(format!(
            "the dependency {name} now uses Secret {}, not {}",
            declared.secret, warm.secret
        ));
    }
    let facts = match snapshot.caches.get(name) {
        Some(Observed::Known { value, .. }) => value,
        Some(Observed::Missing(no_data)) => return Err(format!("{name} cannot be read: {no_data}")),
        None => return Err(format!("{name} has not been read")),
    };
    let CacheKey { host, port, database, .. } = &warm.cache;
    let server = &facts.server;
    if (&server.host, &server.port, &server.database) != (host, port, database) {
        return Err(format!("{name} leads to another server now than the one that was found cold"));
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::Stage;
    use crate::guards::testing::{Setup, refused};
    use crate::model::RedisMemory;

    fn refusal(change: impl FnOnce(&mut Setup)) -> Option<String> {
        let mut setup = Setup::warming();
        change(&mut setup);
        refused(&setup, "Precondition", Stage::Gate)
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
        assert!(refusal(|setup| setup.snapshot.caches.clear()).unwrap().contains("has not been read"));
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
