//! Warming a cache takes a while, and what let it begin may not last: before each request it is asked whether it may go on.
//! Everything about a run is decided here, one turn after the other; whoever carries it out only sends and counts.

use std::time::Duration;

use jiff::Timestamp;

use super::{Seen, Step, candidate_of, conclude, nothing_done, refused_by, write};
use crate::effects::{SendRequests, Warmed};
use crate::guards::{
    self, Context, GuardName, GuardVerdict, Ruling, Stage, WhileRunning, leadership, precondition,
};
use crate::model::Overall;
use crate::model::{
    CacheTrend, EffectSeen, ObjectiveAfter, Outcome, Phase, RedisFacts, Remediation, Snapshot,
    duration::human, later,
};

/// What a run does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Ask for this path, and say what became of it ([`Warming::answered`]).
    Send {
        /// The path.
        path: String,
    },
    /// Call again then, or when a request has been answered.
    Wait {
        /// When.
        until: Timestamp,
        /// What is waited for.
        why: String,
    },
    /// It is over, and every request has been answered or given up.
    Over(Warmed),
}

/// Whether a request may be sent now.
#[derive(Debug, PartialEq, Eq)]
enum Pace {
    Go,
    /// Not now: too little is known. It may be again.
    Hold(String),
    /// It ends here.
    Stop(String),
}

/// What was there when it began.
#[derive(Debug, Clone, PartialEq)]
struct Before {
    active_seconds: Vec<(String, f64)>,
    evicted: Option<(String, u64)>,
}

/// A database whose running statements are together older than twice what they were, and this many seconds more, got slower.
const SLOWER_BY: f64 = 10.0;
/// So many requests that fail in a row say that the target does not take them.
const FAILURES: u32 = 3;
/// How soon it is asked again whether it may go on.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// The time between two requests is longer than the rate demands, by chance, by up to this share: many that are warmed at one
/// time do not strike together.
const JITTER: f64 = 0.25;

/// One run, from the passing of the gate to its last answer.
#[derive(Debug, Clone)]
pub struct Warming {
    send: SendRequests,
    /// No request at or after this instant.
    until: Timestamp,
    next_at: Timestamp,
    before: Option<Before>,
    sent: u32,
    answered: u32,
    in_flight: u32,
    failures: u32,
    failed_with: String,
    stopped: Option<String>,
}

impl Warming {
    /// A run that begins at `now` and sends nothing at or after `fence`.
    #[must_use]
    pub fn new(send: &SendRequests, now: Timestamp, fence: Timestamp) -> Self {
        Self {
            send: send.clone(),
            until: later(now, send.requests.within).min(fence),
            next_at: now,
            before: None,
            sent: 0,
            answered: 0,
            in_flight: 0,
            failures: 0,
            failed_with: String::new(),
            stopped: None,
        }
    }

    /// What is to be done now. `chance` lies between 0 and 1. Pure.
    pub fn turn(&mut self, remediation: &Remediation, seen: &Seen<'_>, chance: f64) -> Turn {
        let settings = &self.send.requests;
        let planned = settings.planned();
        #[cfg(planted_bugs)]
        let planned = if crate::planted::is("warming_goes_round_for_ever") { u32::MAX } else { planned };
        if self.stopped.is_none() && self.sent < planned {
            if seen.now >= self.until {
                self.stopped = Some(format!("its time ({}) is over", human(settings.within)));
            } else if self.failures >= FAILURES {
                let failed_with = &self.failed_with;
                self.stopped = Some(format!("{FAILURES} requests in a row failed: {failed_with}"));
            } else if self.in_flight >= settings.in_flight || seen.now < self.next_at {
                return self.wait(seen, "the rate");
            } else {
                match self.pace(remediation, seen) {
                    Pace::Go => return self.send(seen.now, chance),
                    Pace::Hold(why) => return self.wait(seen, &why),
                    Pace::Stop(why) => self.stopped = Some(why),
                }
            }
        }
        if self.in_flight > 0 {
            return self.wait(seen, "answers");
        }
        Turn::Over(self.so_far())
    }

    /// One request was answered, or given up; `Err` says with what.
    pub fn answered(&mut self, answer: Result<(), String>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match answer {
            Ok(()) => {
                self.answered = self.answered.saturating_add(1);
                self.failures = 0;
            }
            Err(why) => {
                self.failures = self.failures.saturating_add(1);
                self.failed_with = why;
            }
        }
    }

    /// What it has come to.
    #[must_use]
    pub fn so_far(&self) -> Warmed {
        Warmed {
            planned: self.send.requests.planned(),
            sent: self.sent,
            answered: self.answered,
            stopped: self.stopped.clone(),
        }
    }

    fn send(&mut self, now: Timestamp, chance: f64) -> Turn {
        let settings = &self.send.requests;
        let paths = u32::try_from(settings.paths.len()).unwrap_or(u32::MAX).max(1);
        let place = usize::try_from(self.sent % paths).unwrap_or_default();
        let path = settings.paths.get(place).cloned().unwrap_or_default();
        let apart = Duration::from_secs(1) / settings.rate_per_second.max(1);
        self.next_at = later(now, apart.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0)));
        self.sent = self.sent.saturating_add(1);
        self.in_flight = self.in_flight.saturating_add(1);
        Turn::Send { path }
    }

    fn wait(&self, seen: &Seen<'_>, why: &str) -> Turn {
        let soon = later(seen.now, ASK_AGAIN);
        let until = if seen.now < self.next_at { self.next_at } else { soon };
        Turn::Wait { until: until.min(soon), why: why.to_owned() }
    }

    fn pace(&mut self, remediation: &Remediation, seen: &Seen<'_>) -> Pace {
        #[cfg(planted_bugs)]
        if crate::planted::is("warming_asks_nobody") {
            return Pace::Go;
        }
        let own = (remediation.namespace.clone(), remediation.name.clone());
        let is_gone = seen.admission.as_ref().is_some_and(|admission| !admission.ledger.knows(&own));
        if remediation.deleting || is_gone {
            return Pace::Stop("its LatencyRemediation is being deleted, or gone".to_owned());
        }
        // The process ends soon, and what has been asked for stays good: it ends here, and not in the middle.
        if let Some(draining) = seen.draining() {
            return Pace::Stop(leadership::Fact::from(draining).to_string());
        }
        if !seen.leading {
            return Pace::Hold("the Lease is not provably held".to_owned());
        }
        let Some((snapshot, situation)) = seen.view else {
            return Pace::Hold("there is no current snapshot of the policy".to_owned());
        };
        if situation.overall == Overall::Healthy {
            return Pace::Stop("the objectives are kept again".to_owned());
        }
        let before = self.before.get_or_insert_with(|| Before::of(snapshot, &self.send));
        if let Some(worse) = before.worse(snapshot, &self.send) {
            return Pace::Stop(worse);
        }
        let trend = situation.caches.get(&self.send.dependency);
        let cold = trend.and_then(CacheTrend::is_cold);
        if cold == Some(false) {
            return Pace::Stop(format!("{} is warm again", self.send.dependency));
        }
        let candidate = candidate_of(remediation, &snapshot.policy);
        let admission = seen.admission.as_ref();
        let context =
            Context { stage: Stage::Gate, now: seen.now, candidate: &candidate, view: seen.view, admission };
        let mut pace = Pace::Go;
        for verdict in guards::evaluate(&context) {
            match means(&verdict) {
                Pace::Go => {}
                hold @ Pace::Hold(_) if pace == Pace::Go => pace = hold,
                Pace::Hold(_) => {}
                stop @ Pace::Stop(_) => return stop,
            }
        }
        pace
    }
}

/// What a guard's answer means to a run that has begun.
fn means(verdict: &GuardVerdict) -> Pace {
    match (&verdict.ruling, verdict.guard.line().while_running) {
        (Ruling::Pass(_), _) | (_, WhileRunning::NotAsked) => Pace::Go,
        (_, WhileRunning::Holds) | (Ruling::Unknown(_), WhileRunning::HoldsIfUnknown) => {
            Pace::Hold(verdict.to_string())
        }
        (Ruling::Refuse(_), WhileRunning::HoldsIfUnknown) | (_, WhileRunning::Stops) => {
            Pace::Stop(verdict.to_string())
        }
    }
}

impl Before {
    fn of(snapshot: &Snapshot, send: &SendRequests) -> Self {
        let active = |(name, _): (&String, _)| {
            let (_, facts) = snapshot.observations.postgres(name)?.ok()?;
            Some((name.clone(), facts.active_seconds))
        };
        let cache = cache(snapshot, send);
        Self {
            active_seconds: snapshot.policy.databases().filter_map(active).collect(),
            evicted: cache.map(|facts| (facts.server.run_id.clone(), facts.counters.evicted)),
        }
    }

    /// What has got worse since.
    fn worse(&self, snapshot: &Snapshot, send: &SendRequests) -> Option<String> {
        for (name, before) in &self.active_seconds {
            let Some(Ok((_, facts))) = snapshot.observations.postgres(name) else { continue };
            let now = facts.active_seconds;
            if now > before * 2.0 + SLOWER_BY {
                return Some(format!(
                    "the database {name} got slower: its running statements are {now:.0} s old together, {before:.0} s when it began"
                ));
            }
        }
        let facts = cache(snapshot, send)?;
        let (run_id, before) = self.evicted.as_ref()?;
        // A server that was started anew counts from nothing.
        let before = if facts.server.run_id == *run_id { *before } else { 0 };
        let evicted = facts.counters.evicted.saturating_sub(before);
        (evicted > 0).then(|| format!("{} has begun to evict keys ({evicted})", send.dependency))
    }
}

/// The cache that is warmed, where it could be read.
fn cache<'a>(snapshot: &'a Snapshot, send: &SendRequests) -> Option<&'a RedisFacts> {
    let (_, facts) = snapshot.observations.redis(&send.dependency)?.ok()?;
    Some(facts)
}

/// The run is over.
pub(super) fn ended(remediation: &Remediation, seen: &Seen<'_>, warmed: &Warmed) -> Step {
    if warmed.sent == 0 {
        let why = warmed.stopped.clone().unwrap_or_else(|| "there was nothing to ask for".to_owned());
        let fact = precondition::Fact::NothingSent { why };
        return refused_by(&nothing_done(remediation), seen, GuardName::Precondition, fact);
    }
    let breached = seen.view.is_some_and(|(_, situation)| matches!(situation.overall, Overall::Breached(_)));
    if warmed.answered == 0 && breached {
        // There is nothing to wait for.
        let mut status = remediation.status.clone();
        status.acted_at = began_at(remediation, seen);
        status.effect = Some(EffectSeen::NotSeen);
        status.effect_at = Some(seen.now);
        status.objective = Some(ObjectiveAfter::NotRecovered);
        status.outcome = Some(Outcome::of(EffectSeen::NotSeen, ObjectiveAfter::NotRecovered));
        return conclude(remediation, seen, status, Phase::Completed, format!("it did nothing: {warmed}"));
    }
    judged_from_its_beginning(remediation, seen, format!("done: {warmed}"))
}

/// It was interrupted. What was sent can only have filled the cache: it counts as done and is not repeated. That it was what
/// filled it is not claimed, for whether anything was sent is not known.
pub(super) fn interrupted(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    #[cfg(planted_bugs)]
    if crate::planted::is("warming_is_begun_again") && seen.leading && seen.effect.is_none() {
        let fence = later(seen.now, remediation.spec.deadline);
        return Step::Effect { effect: remediation.spec.action.act().effect(), fence };
    }
    let mut remediation = remediation.clone();
    #[cfg(planted_bugs)]
    if crate::planted::is("warming_claims_what_it_has_not_seen") {
        return judged_from_its_beginning(&remediation, seen, "planted".to_owned());
    }
    (remediation.status.effect, remediation.status.effect_at) = (Some(EffectSeen::Unknown), Some(seen.now));
    let sentence =
        "it was interrupted: how many requests were sent is not known, and none is sent again".to_owned();
    judged_from_its_beginning(&remediation, seen, sentence)
}

/// What was well before the first request and is not now got worse by it.
fn judged_from_its_beginning(remediation: &Remediation, seen: &Seen<'_>, sentence: String) -> Step {
    let mut status = remediation.status.clone();
    status.phase = Phase::Verifying;
    status.acted_at = began_at(remediation, seen);
    status.message.clone_from(&sentence);
    write(remediation, status, sentence)
}

fn began_at(remediation: &Remediation, seen: &Seen<'_>) -> Option<Timestamp> {
    let executing = remediation.status.executing.as_ref();
    executing.map(|executing| executing.started_at).or(Some(seen.now))
}

#[cfg(test)]
#[path = "warming_tests.rs"]
mod tests;
