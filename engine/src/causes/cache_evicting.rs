//! `CacheEvicting`: the cache is full, and drops what it holds or takes nothing more.

use super::Cause;
use super::case::{Case, Found, Hurts, Store};
use crate::dependencies::redis::Redis;
use crate::model::Evidence;
use crate::model::ratio::percent;

pub(super) const CAUSE: Cause = Cause {
    name: "CacheEvicting",
    found_when: "a Redis server drops keys for want of memory (`evicted_keys` grows), or is at `maxmemory` under the policy noeviction, so that every write fails; Possible where that was so well before the breach",
    advice: true,
    diagnose,
    ..Cause::DEFAULT
};

fn diagnose(case: &Case<'_>) -> Vec<Found> {
    case.each::<Redis>().filter_map(|cache| pressed(&cache)).collect()
}

fn pressed(cache: &Store<'_, Redis>) -> Option<Found> {
    let (_, facts) = cache.facts.ok()?;
    let refuses = facts.memory.refuses_writes();
    let evicted = cache.trend().map_or(0, |trend| trend.evicted);
    let since = facts.history.pressed().since();
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
    Some(Found {
        subject: cache.subject(),
        onset: since,
        hurts: Hurts::Perhaps,
        advice: false,
        evidence: vec![
            Evidence::new("memory used", used),
            Evidence::new("keys dropped", evicted.to_string()),
            Evidence::new("maxmemory-policy", policy.clone()),
        ],
        sentence,
    })
}
