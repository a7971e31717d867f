//! One look at one policy: judge -> diagnose -> decide -> guard.

mod episode;
mod ladder;
mod said;

use std::collections::BTreeSet;

use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use crate::admit::{Admitted, Proposal};
use crate::causes::workers_saturated::Load;
use crate::guards::GuardVerdict;
use crate::model::{
    ByName, CacheTrend, Dependency, Escalation, Finding, Learning, Memory, Observed, Overall, Reading,
    Situation, Snapshot, Verdict,
};
use crate::record::{DecisionRecord, RecordKind, Said, Slot};
use crate::{causes, judge};

/// What a tick hands to the next one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What was seen.
    pub memory: Memory,
    /// What was said last about each thing.
    pub said: LiteMap<Slot, Said>,
}

/// What a tick yields.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// What to remember.
    pub state: State,
    /// What was made of the snapshot.
    pub situation: Situation,
    /// What was decided and why, `changed` where it was not said before.
    pub records: Vec<DecisionRecord>,
    /// What should be done, if `admit` agrees.
    pub proposals: Vec<Proposal>,
}

/// Looks once at a policy. Pure: the same input yields the same output, and nothing is published.
#[must_use]
pub fn tick(snapshot: &Snapshot, state: &State) -> Tick {
    let State { mut memory, mut said } = state.clone();
    let readings = judge_objectives(snapshot, &mut memory);
    let overall = fold(&readings);
    learn_dependencies(snapshot, &mut memory, overall);
    learn_saturation(snapshot, &mut memory);

    let episode = episode::follow(snapshot, &mut memory, &readings, overall);
    let mut situation = Situation {
        now: snapshot.now,
        readings,
        overall,
        breach: memory.breach,
        incident: episode.incident,
        caches: trends(snapshot, &memory),
        findings: Vec::new(),
        proposed: Vec::new(),
        calm: memory.calm,
    };
    situation.findings = find_causes(snapshot, &memory, &situation);
    if !situation.findings.is_empty() {
        memory.last_found_at = Some(snapshot.now);
    }
    let decided = ladder::decide(snapshot, &memory, &situation);
    let would = decided.proposals.iter().filter(|proposal| !proposal.candidate.is_dry_run());
    situation.proposed =
        would.filter_map(|proposal| snapshot.root(&proposal.candidate.action.act().subject())).collect();

    let mut kinds = describe(snapshot, &memory, &situation);
    kinds.extend(episode.record);
    if situation.incident.is_some() {
        kinds.extend(situation.findings.iter().cloned().map(RecordKind::Cause));
    }
    kinds.extend(decided.records);
    let mut pending: Vec<Slot> =
        decided.proposals.iter().map(|proposal| rung_slot(&proposal.candidate.rung)).collect();
    if !pending.is_empty() {
        pending.push(Slot("escalation".to_owned()));
    }
    let records = said::publishable(snapshot, &mut said, &situation, kinds, &pending);
    Tick { state: State { memory, said }, situation, records, proposals: decided.proposals }
}

/// Adds what `admit` answered to a tick's proposals, in their order. A proposal that was refused is a record, not an
/// object.
pub fn settle(snapshot: &Snapshot, tick: &mut Tick, answers: &[Admitted]) {
    let incident = tick.situation.incident.as_ref().map(|incident| incident.name.clone());
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let goes = |answer: &Admitted| matches!(answer, Admitted::Yes { .. });
    let mut pairs: Vec<_> = tick.proposals.iter().zip(answers).collect();
    // One word for each rung: what goes, or else the first refusal.
    pairs.sort_by_key(|(_, answer)| !goes(answer));
    for (Proposal { candidate, .. }, answer) in pairs {
        if !told.insert(&candidate.rung) {
            continue;
        }
        let kind = match answer {
            Admitted::Passed => continue,
            Admitted::Yes { .. } => RecordKind::Proposed {
                rung: candidate.rung.clone(),
                remediation: candidate.object_name(),
                cause: candidate.cause.clone(),
                action: candidate.action.act().sentence(),
                dry_run: candidate.is_dry_run(),
            },
            Admitted::No { refusals } => RecordKind::Blocked {
                rung: candidate.rung.clone(),
                cause: candidate.cause.clone(),
                action: candidate.action.act().sentence(),
                refusals: refusals.clone(),
            },
        };
        tick.records.push(said::say(snapshot, &mut tick.state.said, incident.clone(), kind));
    }
    if let Some((why, sentence)) = hopeless(answers) {
        let kind = RecordKind::Escalated { why, sentence };
        tick.records.push(said::say(snapshot, &mut tick.state.said, incident, kind));
    }
}

/// Nothing may go, and no later look changes that soon: people have to.
fn hopeless(answers: &[Admitted]) -> Option<(Escalation, String)> {
    let mut first = None;
    for answer in answers {
        let Admitted::No { refusals } = answer else { return None };
        let escalates =
            |refusal: &GuardVerdict| Some((refusal.guard.line().escalates_as?, refusal.fact().clone()));
        let found = refusals.iter().find_map(escalates)?;
        first.get_or_insert(found);
    }
    first.map(|(why, fact)| (why, fact.to_string()))
}

fn rung_slot(rung: &str) -> Slot {
    Slot(format!("rung/{rung}"))
}

fn judge_objectives(snapshot: &Snapshot, state: &mut Memory) -> Vec<Reading> {
    state
        .objectives
        .retain(|name, _| snapshot.policy.objectives.iter().any(|objective| objective.name == *name));
    let observations = &snapshot.observations;
    let hangs = |name: &str| matches!(observations.probed(name), Some(Ok((_, probed))) if probed.hangs());
    let hung = snapshot.policy.probes().map(|(name, _)| name).find(|name| hangs(name));
    let evaluation = &snapshot.policy.evaluation;
    let mut readings = Vec::with_capacity(snapshot.policy.objectives.len());
    for objective in &snapshot.policy.objectives {
        let traffic = observations.traffic(&objective.name);
        let memory = state.objectives.entry(objective.name.clone()).or_default();
        memory.is_of(evaluation.window, &objective.source);
        let reading = match objective.source.timed() {
            Some(source) => {
                judge::probe::judge(objective, source, observations.probed(&objective.name), snapshot.now)
            }
            None => judge::judge(objective, traffic, hung, memory, snapshot.now),
        };
        let traffic = traffic.and_then(Result::ok).map(|(_, traffic)| traffic);
        judge::remember(memory, &reading, traffic);
        readings.push(reading);
    }
    readings
}

/// An objective that its exporter's buckets cannot show says nothing, ever; the others speak for all.
fn fold(readings: &[Reading]) -> Overall {
    let worst = readings.iter().filter_map(Reading::breach).map(|breach| breach.severity).max();
    let mut judged = readings.iter().filter(|reading| reading.can_be_judged()).peekable();
    match worst {
        Some(severity) => Overall::Breached(severity),
        None if judged.peek().is_some() && judged.all(|one| one.verdict == Verdict::Healthy) => {
            Overall::Healthy
        }
        None => Overall::NoData,
    }
}

/// What is usual is learned only while nothing is wrong.
fn learn_dependencies(snapshot: &Snapshot, state: &mut Memory, overall: Overall) {
    let healthy = overall == Overall::Healthy && state.breach.is_none() && snapshot.incident.is_none();
    let learning = Learning { window: snapshot.policy.evaluation.window, healthy };
    let declared = &snapshot.policy.dependencies;
    state.dependencies.retain(|name, _| declared.contains_key(name));
    for (name, observed) in &snapshot.observations.dependencies {
        if !declared.contains_key(name) {
            continue;
        }
        let look = observed.as_result().ok();
        state.dependencies.entry(name.clone()).or_default().learn(snapshot.now, look, learning);
    }
}

/// How those caches do that can be read now.
fn trends(snapshot: &Snapshot, state: &Memory) -> ByName<CacheTrend> {
    let trend = |(name, _): (&String, _)| {
        let (_, facts) = snapshot.observations.redis(name)?.ok()?;
        let memory = state.dependencies.get(name)?.redis()?;
        Some((name.clone(), memory.trend(facts, snapshot.policy.evaluation.window)?))
    };
    snapshot.policy.each(Dependency::redis).filter_map(trend).collect()
}

/// A reading that cannot be had, or that shows a free worker, begins it anew.
fn learn_saturation(snapshot: &Snapshot, state: &mut Memory) {
    let traffic = snapshot.observations.all_traffic().map(|(_, traffic)| traffic);
    let load = Load::of(&snapshot.policy, snapshot.observations.target.known(), traffic);
    let full = load.is_some_and(Load::is_full);
    state.saturated.note(full, snapshot.now);
}

/// Causes are looked for while something is broken or an incident is open; in calm times nobody is to blame.
fn find_causes(snapshot: &Snapshot, state: &Memory, situation: &Situation) -> Vec<Finding> {
    let first = match (&situation.incident, situation.breach) {
        // An incident may be open for hours with good times in between: what was there in those is not to blame.
        (Some(incident), _) => state
            .last_healthy_at
            .map_or(incident.first_breached_at, |healthy| incident.first_breached_at.max(healthy)),
        (None, Some(breach)) => breach.first_at,
        (None, None) => return Vec::new(),
    };
    causes::diagnose(snapshot, state, first)
}

/// What can be seen: objectives, dependencies, target. A missing thing is said only once it has been missing for
/// `missingDataAfter` looks: a single failed read is nobody's business.
fn describe(snapshot: &Snapshot, state: &Memory, situation: &Situation) -> Vec<RecordKind> {
    let patience = snapshot.policy.evaluation.missing_data_after;
    let mut kinds = Vec::new();
    for reading in &situation.readings {
        let missing = state.objectives.get(&reading.objective).map_or(0, |memory| memory.missing.looks());
        if missing == 0 || missing >= patience {
            kinds.push(RecordKind::Objective(reading.clone()));
        }
    }
    for (name, _) in snapshot.policy.by_kind() {
        let missing = state.dependencies.get(name).map_or(0, |memory| memory.missing.looks());
        let (missing, partial) = match snapshot.observations.dependencies.get(name) {
            Some(Observed::Known { value, .. }) => (None, value.partial().map(ToOwned::to_owned)),
            Some(Observed::Missing(no_data)) if missing >= patience => (Some(no_data.clone()), None),
            Some(Observed::Missing(_)) | None => continue,
        };
        kinds.push(RecordKind::Dependency { name: name.clone(), missing, partial });
    }
    let missing = match &snapshot.observations.target {
        Observed::Known { .. } => None,
        Observed::Missing(no_data) => Some(no_data.clone()),
    };
    kinds.push(RecordKind::Target { missing });
    kinds
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guards::testing::Setup;
    use crate::guards::{Fact, GuardName, Lacking, Ruling};
    use crate::model::{NoData, NoDataReason, Traffic, TrafficWindow, earlier};

    #[test]
    fn what_has_not_helped_of_late_is_told_to_people_unless_something_else_may_go() {
        let setup = Setup::acting();
        let proposal = Proposal { candidate: setup.candidate.clone(), verdicts: Vec::new() };
        let refusal =
            |guard: GuardName| GuardVerdict { guard, ruling: Ruling::Refuse(Fact::Lacking(Lacking::Ledger)) };
        let settled = |answers: &[Admitted]| {
            let mut tick = tick(&setup.snapshot, &State::default());
            tick.proposals = answers.iter().map(|_| proposal.clone()).collect();
            settle(&setup.snapshot, &mut tick, answers);
            let escalated = |record: &DecisionRecord| {
                let RecordKind::Escalated { why, .. } = &record.kind else { return None };
                Some(*why)
            };
            tick.records.iter().find_map(escalated)
        };
        let no = |guards: &[GuardName]| Admitted::No {
            refusals: guards.iter().map(|guard| refusal(*guard)).collect(),
        };
        let yes = Admitted::Yes { verdicts: Vec::new() };
        let (cooldown, ineffective) = (GuardName::Cooldown, GuardName::Ineffective);
        assert_eq!(settled(&[no(&[cooldown, ineffective])]), Some(Escalation::Ineffective));
        assert_eq!(settled(&[no(&[cooldown])]), None);
        assert_eq!(settled(&[no(&[ineffective]), no(&[cooldown])]), None, "the other one may go soon");
        assert_eq!(settled(&[no(&[ineffective]), yes]), None);
    }

    #[test]
    fn saturation_is_counted_from_anew_after_a_free_worker_or_a_reading_that_is_missing() {
        let mut setup = Setup::scaling();
        let traffic = |in_flight: Option<f64>| {
            Traffic::from(TrafficWindow {
                window: Duration::from_secs(10),
                buckets: vec![],
                in_flight: match in_flight {
                    Some(value) => Observed::Known { at: setup.now, value },
                    None => Observed::missing(NoDataReason::Empty, ""),
                },
                errors: Observed::missing(NoDataReason::Empty, ""),
                views: Observed::missing(NoDataReason::NotYetRead, ""),
            })
        };
        let since = earlier(setup.now, Duration::from_secs(5));
        let saturated = || {
            let mut state = Memory::default();
            state.saturated.note(true, since);
            state
        };
        // Four ready pods with four workers each.
        for (in_flight, expected) in [(16.0, Some(since)), (15.0, None), (16.0, Some(since)), (-1.0, None)] {
            let mut state = saturated();
            let traffic = traffic(Some(in_flight).filter(|value| *value > 0.0));
            let measured = Observed::Known { at: setup.now, value: traffic.into() };
            setup.snapshot.observations.measurements.insert("p95".into(), measured);
            learn_saturation(&setup.snapshot, &mut state);
            assert_eq!(state.saturated.since(), expected, "{in_flight}");
        }
        let mut state = saturated();
        setup.snapshot.policy.concurrency_per_pod = None;
        learn_saturation(&setup.snapshot, &mut state);
        assert_eq!(state.saturated.since(), None);
    }

    #[test]
    fn an_objective_that_the_buckets_cannot_show_is_spoken_for_by_the_others() {
        let reading = &Setup::acting().situation.readings[0];
        let with = |verdict: Verdict| Reading { verdict, ..reading.clone() };
        let unseen = with(Verdict::NoData(NoData::new(NoDataReason::TargetBeyondBuckets, "")));
        let missing = with(Verdict::NoData(NoData::new(NoDataReason::Timeout, "")));
        let healthy = with(Verdict::Healthy);
        assert_eq!(fold(&[healthy.clone(), unseen.clone()]), Overall::Healthy);
        assert!(matches!(fold(&[reading.clone(), unseen.clone()]), Overall::Breached(_)));
        assert_eq!(fold(std::slice::from_ref(&unseen)), Overall::NoData);
        assert_eq!(fold(&[healthy, unseen, missing]), Overall::NoData);
        assert_eq!(fold(&[]), Overall::NoData);
    }
}
