//! `SlowRedis`: the server serves one command at a time, and some take their time.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::Cause;
use super::case::{Case, Found, Hurts, Store, on_our_clock};
use crate::dependencies::redis::Redis;
use crate::model::duration::human;
use crate::model::{Evidence, RedisFacts, SLOW_PING, elapsed};

/// Such a share of the time spent in slow commands holds up everybody else noticeably.
const BUSY: f64 = 0.1;
/// Two slow answers to PING in a row are no accident.
const TWICE: u32 = 2;

pub(super) const CAUSE: Cause = Cause {
    name: "SlowRedis",
    found_when: "the slow log's commands of the last window took at least a tenth of it, or two PINGs in a row took 100 ms or longer",
    advice: true,
    diagnose,
    ..Cause::DEFAULT
};

fn diagnose(case: &Case<'_>) -> Vec<Found> {
    let window = case.policy().evaluation.window;
    case.each::<Redis>().filter_map(|cache| held_up(&cache, window)).collect()
}

fn held_up(cache: &Store<'_, Redis>, window: Duration) -> Option<Found> {
    let (read_at, facts) = cache.facts.ok()?;
    let (took, first, slowest) = slow(facts, window);
    let pings = cache.trend().map_or(0, |trend| trend.slow_pings);
    let busy = took.as_secs_f64() >= window.as_secs_f64() * BUSY;
    if !busy && (facts.ping < SLOW_PING || pings < TWICE) {
        return None;
    }
    let name = cache.name;
    let ping = human(facts.ping);
    let sentence = match slowest.filter(|_| busy) {
        Some((command, count)) => format!(
            "slow commands kept {name} busy for {} of the last {}, {count} of them {command}; a PING took {ping}",
            human(took),
            human(window)
        ),
        None => format!("{name} takes {ping} to answer a PING"),
    };
    let since = if busy { first } else { facts.clock };
    Some(Found {
        subject: cache.subject(),
        onset: Some(on_our_clock(read_at, facts.clock, since)),
        hurts: Hurts::Perhaps,
        advice: false,
        evidence: vec![
            Evidence::new("PING", ping),
            Evidence::new("time in slow commands", human(took)),
            Evidence::new("window", human(window)),
        ],
        sentence,
    })
}

/// The time that the slow log's commands of the window took, when the first of them ran, and the command that took most
/// with its number of runs.
fn slow(facts: &RedisFacts, window: Duration) -> (Duration, Timestamp, Option<(&str, usize)>) {
    let recent = || facts.slow.iter().filter(|slow| elapsed(facts.clock, slow.at) < window);
    let mut by_name: BTreeMap<&str, (Duration, usize)> = BTreeMap::new();
    for slow in recent() {
        let (took, count) = by_name.entry(&slow.name).or_default();
        *took = took.saturating_add(slow.took);
        *count += 1;
    }
    let took = by_name.values().fold(Duration::ZERO, |sum, (took, _)| sum.saturating_add(*took));
    let first = recent().map(|slow| slow.at).min().unwrap_or(facts.clock);
    let most = by_name.iter().max_by_key(|(_, (took, _))| *took).map(|(name, (_, count))| (*name, *count));
    (took, first, most)
}
