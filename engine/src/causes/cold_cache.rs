//! `ColdCache`: lookups that used to find their key do not any more, because the cache lost what it held.

use super::case::{Case, Found, Hurts, Store};
use super::{Along, Cause};
use crate::dependencies::redis::Redis;
use crate::model::ratio::percent;
use crate::model::{CacheTrend, CacheUse, Evidence, Policy, RedisFacts, Thresholds};

/// Its name.
pub(crate) const NAME: &str = "ColdCache";

/// Below this a cache is worth a look by people, whatever is usual for it (financehub's runbook).
const LOW: f64 = 0.8;

pub(super) const CAUSE: Cause = Cause {
    name: NAME,
    found_when: "the hit ratio of a Redis cache lies below four fifths of what is usual for it while the objectives are kept, and it was restarted, flushed, or lost keys; without such a loss it is Possible; a ratio that is merely below `below` is advice",
    explains: &[("WorkersSaturated", Along::Target)],
    thresholds: Thresholds { below: Some(LOW), ..Thresholds::NONE },
    diagnose,
    ..Cause::DEFAULT
};

/// The hit ratio below which a cache is worth a look, whatever is usual for it.
pub(crate) fn low(policy: Option<&Policy>) -> f64 {
    policy.and_then(|policy| super::thresholds(policy, &CAUSE).below).unwrap_or(LOW)
}

fn diagnose(case: &Case<'_>) -> Vec<Found> {
    let low = low(Some(case.policy()));
    case.each::<Redis>().filter_map(|cache| cold(&cache, low)).collect()
}

fn cold(cache: &Store<'_, Redis>, low: f64) -> Option<Found> {
    if cache.declared.usage != CacheUse::Cache {
        return None;
    }
    let (_, facts) = cache.facts.ok()?;
    let trend = cache.trend()?;
    let ratio = trend.ratio()?;
    let found = format!("{} of the lookups in {} find their key", percent(ratio), cache.name);
    let usual = trend.baseline.map(|usual| format!("{} are usual", percent(usual.ratio)));
    let (hurts, advice, sentence) = match (trend.is_cold(), &usual, &trend.loss) {
        (Some(true), Some(usual), Some(loss)) => {
            (Hurts::Perhaps, false, format!("{found}, {usual}: {}", loss.sentence()))
        }
        (Some(true), Some(usual), None) => {
            (Hurts::Unknown, false, format!("{found}, {usual}; that it lost keys was not seen"))
        }
        _ if ratio < low => {
            let usual = usual.unwrap_or_else(|| "what is usual is not known yet".to_owned());
            (Hurts::Unknown, true, format!("{found}, fewer than {}; {usual}", percent(low)))
        }
        _ => return None,
    };
    Some(Found {
        subject: cache.subject(),
        onset: trend.loss.map(|loss| loss.since),
        hurts,
        advice,
        evidence: evidence(&trend, facts),
        sentence,
    })
}

fn evidence(trend: &CacheTrend, facts: &RedisFacts) -> Vec<Evidence> {
    let mut evidence = vec![
        Evidence::new("hits", trend.hits.to_string()),
        Evidence::new("misses", trend.misses.to_string()),
        Evidence::new("keys", facts.keys.to_string()),
    ];
    if let Some(usual) = trend.baseline {
        evidence.push(Evidence::new("usual hit ratio", percent(usual.ratio)));
        evidence.push(Evidence::new("usual number of keys", usual.keys.to_string()));
    }
    if let Some(loss) = trend.loss {
        evidence.push(Evidence::new("loss", loss.sentence()));
    }
    evidence
}
