//! `CacheEvicting`: the cache is full, and drops what it holds or takes nothing more.

use super::{Cache, Cause, Detector};
use crate::model::ratio::percent;
use crate::model::{Confidence, Evidence, Finding};

pub(super) const CAUSE: Cause = Cause {
    name: "CacheEvicting",
    found_when: "a Redis server drops keys for want of memory (`evicted_keys` grows), or is at `maxmemory` under the policy noeviction, so that every write fails; Possible where that was so well before the breach",
    diagnose: Detector::Cache(diagnose),
    ..Cause::DEFAULT
};

fn diagnose(cache: &Cache<'_>) -> Option<Finding> {
    let (_, facts) = cache.facts.ok()?;
    let refuses = facts.memory.refuses_writes();
    let evicted = cache.trend.as_ref().map_or(0, |trend| trend.evicted);
    let since = cache.memory.and_then(crate::model::CacheMemory::pressed_since);
    if !refuses && (evicted == 0 || since.is_none()) {
        return None;
    }
    let name = cache.name;
    let used = facts
        .memory
        .share()
        .map_or_else(|| "an unlimited memory".to_owned(), |share| format!("{} of maxmemory", percent(share)));
    let policy = &facts.memory.policy;
    let sentence = if refuses {
        format!("{name} uses {used} and its policy is noeviction: every write to it fails")
    } else {
        format!("{name} uses {used} and dropped {evicted} keys lately ({policy})")
    };
    let confidence = if since.is_some() { cache.confidence(since) } else { Confidence::Possible };
    Some(Finding {
        cause: CAUSE.name.into(),
        confidence,
        advice: true,
        subject: Some(cache.subject()),
        onset: since,
        evidence: vec![
            Evidence::new("memory used", used),
            Evidence::new("keys dropped", evicted.to_string()),
            Evidence::new("maxmemory-policy", policy.clone()),
        ],
        sentence,
        explained_by: None,
    })
}
