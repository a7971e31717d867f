//! `ColdCache`: lookups that used to find their key do not any more, because the cache lost what it held.

use super::{Cache, Cause, Detector};
use crate::model::ratio::percent;
use crate::model::{CacheTrend, CacheUse, Confidence, Evidence, Finding, RedisFacts};

/// Its name.
pub(crate) const NAME: &str = "ColdCache";

/// Below this a cache is worth a look by people, whatever is usual for it (financehub's runbook).
pub(crate) const LOW: f64 = 0.8;

pub(super) const CAUSE: Cause = Cause {
    name: NAME,
    found_when: "the hit ratio of a Redis cache lies below four fifths of what is usual for it while the objectives are kept, and it was started anew, flushed, or lost keys; without such a loss it is Possible; a ratio that is merely below `hitRatioBelow` is advice",
    explains: &["WorkersSaturated"],
    hit_ratio_below: Some(LOW),
    diagnose: Detector::Cache(diagnose),
    ..Cause::DEFAULT
};

fn diagnose(cache: &Cache<'_>) -> Option<Finding> {
    if cache.declared.usage != CacheUse::Cache {
        return None;
    }
    let (_, facts) = cache.facts.ok()?;
    let trend = cache.trend.as_ref()?;
    let ratio = trend.ratio()?;
    let low = cache.policy.hit_ratio_below(NAME, LOW);
    let name = cache.name;
    let now = percent(ratio);
    let (confidence, advice, sentence) = match (trend.is_cold(), trend.baseline, &trend.loss) {
        (Some(true), Some(usual), Some(loss)) => (
            cache.confidence(Some(loss.since)),
            false,
            format!(
                "{now} of the lookups in {name} find their key, {} are usual: {}",
                percent(usual.ratio),
                loss.sentence()
            ),
        ),
        (Some(true), Some(usual), None) => (
            Confidence::Possible,
            false,
            format!(
                "{now} of the lookups in {name} find their key, {} are usual; that it lost keys was not seen",
                percent(usual.ratio)
            ),
        ),
        _ if ratio < low => (
            Confidence::Possible,
            true,
            match trend.baseline {
                Some(usual) => format!(
                    "{now} of the lookups in {name} find their key, fewer than {}; {} are usual",
                    percent(low),
                    percent(usual.ratio)
                ),
                None => format!(
                    "{now} of the lookups in {name} find their key, fewer than {}; what is usual is not known yet",
                    percent(low)
                ),
            },
        ),
        _ => return None,
    };
    Some(Finding {
        cause: NAME.into(),
        confidence,
        advice,
        subject: Some(cache.subject()),
        onset: trend.loss.map(|loss| loss.since),
        evidence: evidence(trend, facts),
        sentence,
        explained_by: None,
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
