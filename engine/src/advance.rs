//! The life of one remediation, a step at a time.
//!
//! The gate is the compare-and-swap to `Executing`: the intent is durable before the effect. Whoever finds an `Executing`
//! that it did not write itself a moment ago looks at the world, and never does it again. Because all of this is decided
//! here, a simulation that feeds conflicts, lost answers and crashes exercises the code that runs in production.

mod effect;
mod undo;
mod warming;

pub use warming::{Turn, Warming};

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::causes;
use crate::effects::{Effect, Inspection, Warmed};
use crate::guards::{self, Context, GuardName, GuardVerdict, Stage, freshness, leadership, precondition};
use crate::model::{
    Admission, Candidate, Draining, EffectSeen, Executing, ObjectiveAfter, Outcome, Phase, Policy, Reading,
    Refusal, Remediation, RemediationStatus, Snapshot, UndoState, Verdict, duration::human, elapsed, later,
};
use crate::model::{Overall, Situation};
use crate::record::RecordKind;

/// What the effect that this process sent has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectReport {
    /// It was carried out.
    Sent,
    /// It ran for a while and is over.
    Warmed(Warmed),
    /// It found nothing to do: the precondition did not hold at the instant of acting. Nothing was done.
    NotMatched(String),
    /// It was refused before it did anything.
    Refused(String),
    /// The answer was lost: it may have been carried out, or may yet be until the fence.
    Lost(String),
}

/// Everything that is known besides the remediation itself.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The instant.
    pub now: Timestamp,
    /// This operator's identity.
    pub holder: &'a str,
    /// Its term.
    pub epoch: u64,
    /// It provably holds the Lease at this instant.
    pub leading: bool,
    /// The newest look at the policy, if there is a policy and it has been looked at; without one, for what is owed, the
    /// newest look at what the undo watches.
    pub view: Option<(&'a Snapshot, &'a Situation)>,
    /// There certainly is no such policy any more.
    pub policy_gone: bool,
    /// Ledger, replicas and ceilings.
    pub admission: Option<Admission<'a>>,
    /// When this very process began to pass the gate (before it sent the write), if it did and has sent no effect since.
    pub passed_gate_at: Option<Timestamp>,
    /// What the effect that this very process sent has answered.
    pub effect: Option<&'a EffectReport>,
    /// When this process first saw it in the phase Executing.
    pub executing_seen_at: Option<Timestamp>,
    /// What the world shows, where the last step asked for an inspection.
    pub inspection: Option<&'a Inspection>,
}

impl Seen<'_> {
    /// The operator is being uninstalled.
    fn draining(&self) -> Option<Draining> {
        self.admission.as_ref()?.fleet.draining(self.now)
    }
}

/// What is to be done next. One thing at a time.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Write this status, with the resourceVersion that was read. Then publish the record.
    Write {
        /// The status.
        status: Box<RemediationStatus>,
        /// What to say once it is written.
        record: RecordKind,
    },
    /// Do it, once, so that it cannot happen after the fence.
    Effect {
        /// What.
        effect: Effect,
        /// No effect after this instant.
        fence: Timestamp,
    },
    /// Inspect what the effect is about, and call again.
    Inspect(Effect),
    /// Take a change back: only if it is still ours. Doing it twice does no more than once.
    Restore {
        /// What.
        effect: Effect,
        /// Not after this instant.
        fence: Timestamp,
    },
    /// Nothing is owed any more: take the finalizer away.
    Release,
    /// Call again then, or when something new is known.
    Wait {
        /// When.
        until: Timestamp,
        /// What is waited for.
        why: String,
    },
    /// Nothing follows.
    Done,
}

/// How long an admitted remediation waits for a current view of its policy before it is refused.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the world is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long an interrupted act is looked for before its outcome counts as unknown.
const RESOLVE_WITHIN: Duration = Duration::from_secs(600);
/// Clocks of two operators need not agree to the second.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// The next step of a remediation. Pure.
#[must_use]
pub fn advance(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    match remediation.status.phase {
        Phase::AwaitingApproval => {
            let sentence = "this version asks nobody for approval; nothing was done".to_owned();
            end(remediation, seen, Phase::Expired, sentence)
        }
        Phase::Admitted => admitted(remediation, seen),
        Phase::Executing => executing(remediation, seen),
        Phase::Verifying => verifying(remediation, seen),
        Phase::Completed
        | Phase::Denied
        | Phase::Expired
        | Phase::Refused
        | Phase::Failed
        | Phase::DryRun
        | Phase::OutcomeUnknown => undo::next(remediation, seen),
    }
}

fn admitted(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    if remediation.spec.is_dry_run() {
        let sentence =
            format!("dry run: {}; {}", remediation.spec.action.act().sentence(), remediation.spec.reason);
        return end(remediation, seen, Phase::DryRun, sentence);
    }
    if remediation.deleting {
        return if remediation.held { Step::Release } else { Step::Done };
    }
    let waited = elapsed(seen.now, remediation.created_at);
    let draining = seen.draining();
    let Some((snapshot, _)) = seen.view else {
        // There is nothing to wait for: no look would let it through.
        if let Some(draining) = draining {
            return refused_by(remediation, seen, GuardName::Leadership, leadership::Fact::from(draining));
        }
        if waited < PATIENCE {
            return wait(seen, Duration::from_secs(1), "a current look at the policy");
        }
        let fact = freshness::Fact::NoSnapshotFor { waited };
        return refused_by(remediation, seen, GuardName::Freshness, fact);
    };
    let candidate = candidate_of(remediation, &snapshot.policy);
    let admission = seen.admission.as_ref();
    let context =
        Context { stage: Stage::Gate, now: seen.now, candidate: &candidate, view: seen.view, admission };
    let verdicts = guards::evaluate(&context);
    // Of several that refuse, the one that will not change its mind is named.
    let refusals = || verdicts.iter().filter(|verdict| !verdict.passed());
    let uninstalled = |verdict: &&GuardVerdict| draining.is_some() && verdict.guard == GuardName::Leadership;
    let foremost = refusals().find(uninstalled).or_else(|| refusals().next());
    let Some(refusal) = foremost else { return pass_gate(remediation, seen) };
    // A leader that has just taken over has not seen the breach itself yet: it waits until it may judge, and no longer.
    let settle = snapshot
        .policy
        .evaluation
        .breach_for
        .saturating_add(snapshot.policy.evaluation.interval.saturating_mul(2));
    let young = elapsed(seen.now, snapshot.operator.leading_since) < settle;
    let transient = refusals().all(|verdict| verdict.guard.line().transient);
    if young && transient && draining.is_none() && waited < PATIENCE.saturating_add(settle) {
        return wait(seen, LOOK_EVERY, &refusal.fact().to_string());
    }
    refused_by(remediation, seen, refusal.guard, refusal.fact())
}

fn pass_gate(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    let mut status = remediation.status.clone();
    status.phase = Phase::Executing;
    status.executing = Some(Executing {
        holder: seen.holder.to_owned(),
        epoch: seen.epoch,
        started_at: seen.now,
        deadline: remediation.spec.deadline,
    });
    status.undo = undo::owed(&remediation.spec, seen.now);
    status.message =
        format!("{} because of {}", remediation.spec.action.act().sentence(), remediation.spec.cause);
    let sentence = format!("{}: {}", status.message, remediation.spec.reason);
    write(remediation, status, sentence)
}

fn executing(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    match seen.effect {
        Some(EffectReport::Sent) => return sent(remediation, seen),
        Some(EffectReport::Warmed(warmed)) => return warming::ended(remediation, seen, warmed),
        Some(EffectReport::NotMatched(why)) => {
            let by = match remediation.spec.action.act().effect() {
                Effect::SetReplicas(_) => "Contested",
                Effect::SignalSession(_) | Effect::SendRequests(_) => GuardName::Precondition.as_str(),
            };
            let fact = precondition::Fact::NotMatched { why: why.clone() };
            return refuse(&nothing_done(remediation), seen, by, fact.to_string());
        }
        Some(EffectReport::Refused(why)) => {
            return end(
                &nothing_done(remediation),
                seen,
                Phase::Failed,
                format!("it was refused and nothing was done: {why}"),
            );
        }
        Some(EffectReport::Lost(_)) | None => {}
    }
    #[cfg(planted_bugs)]
    if crate::planted::is("interrupted_act_is_repeated") && seen.effect.is_none() && seen.leading {
        let fence = later(seen.now, remediation.spec.deadline);
        return Step::Effect { effect: remediation.spec.action.act().effect(), fence };
    }
    let ours = remediation
        .status
        .executing
        .as_ref()
        .is_some_and(|e| e.holder == seen.holder && e.epoch == seen.epoch);
    if let Some(passed) = seen.passed_gate_at.filter(|_| ours && seen.effect.is_none()) {
        let fence = later(passed, remediation.spec.deadline);
        #[cfg(planted_bugs)]
        if crate::planted::is("deadline_from_now") && seen.leading {
            let fence = later(seen.now, remediation.spec.deadline);
            return Step::Effect { effect: remediation.spec.action.act().effect(), fence };
        }
        if seen.now >= fence {
            let sentence = format!(
                "{} passed before it could be done; nothing was sent",
                human(remediation.spec.deadline)
            );
            return end(&nothing_done(remediation), seen, Phase::Failed, sentence);
        }
        if !seen.leading {
            return wait(seen, LOOK_EVERY, "the Lease is not provably held");
        }
        return Step::Effect { effect: remediation.spec.action.act().effect(), fence };
    }
    effect::resolve(remediation, seen)
}

/// The same with nothing to take back.
fn nothing_done(remediation: &Remediation) -> Remediation {
    let mut remediation = remediation.clone();
    if let Some(undo) = &mut remediation.status.undo {
        undo.state = UndoState::None;
    }
    remediation
}

fn sent(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    let mut status = remediation.status.clone();
    status.phase = Phase::Verifying;
    status.acted_at = Some(seen.now);
    status.message = format!("done: {}", remediation.spec.action.act().sentence());
    let sentence = status.message.clone();
    write(remediation, status, sentence)
}

fn verifying(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    let acted_at = remediation.status.acted_at.unwrap_or(seen.now);
    if let Some(trouble) = worse(remediation, seen, acted_at) {
        return made_worse(remediation, seen, acted_at, &trouble);
    }
    if let Some(draining) = seen.draining().filter(|_| remediation.owes())
        && (draining.is_late(seen.now) || is_well(seen))
    {
        return cut_short(remediation, seen, acted_at);
    }
    match (remediation.status.effect, remediation.status.effect_at) {
        (Some(effect), Some(effect_at)) => judge(remediation, seen, effect, acted_at, effect_at),
        _ => effect::see(remediation, seen, acted_at),
    }
}

/// What the act has done to a database, if it has: one that was well at the gate is in trouble that began after the act,
/// and the objectives are still broken. That they merely rose is no evidence.
fn worse(remediation: &Remediation, seen: &Seen<'_>, acted_at: Timestamp) -> Option<String> {
    let adds_load = remediation.spec.action.kind().line().traits.adds_load;
    let (_, situation) =
        seen.view.filter(|(snapshot, _)| adds_load && snapshot.now > later(acted_at, CLOCK_SLACK))?;
    if !matches!(situation.overall, Overall::Breached(_)) {
        return None;
    }
    let trouble = causes::trouble_in_databases(&situation.findings, &remediation.spec.cause)
        .find(|finding| finding.onset.is_none_or(|onset| later(onset, CLOCK_SLACK) >= acted_at))?;
    Some(format!("{} ({}): {}", trouble.cause, trouble.confidence, trouble.sentence))
}

fn is_well(seen: &Seen<'_>) -> bool {
    seen.view.is_some_and(|(_, situation)| situation.overall == Overall::Healthy)
}

/// The operator is being uninstalled, and what was done has to be taken back before: nobody waits for a verdict. Until
/// things are well, or its time is over, it is watched on: it may yet turn out to have made things worse.
fn cut_short(remediation: &Remediation, seen: &Seen<'_>, acted_at: Timestamp) -> Step {
    let mut status = remediation.status.clone();
    let effect = *status.effect.get_or_insert(EffectSeen::Unknown);
    status.effect_at.get_or_insert(seen.now);
    status.objective = Some(ObjectiveAfter::Inconclusive);
    status.outcome = Some(Outcome::of(effect, ObjectiveAfter::Inconclusive));
    let span = human(elapsed(seen.now, acted_at));
    let sentence =
        format!("the operator is being uninstalled: {span} after the act no verdict is waited for");
    conclude(remediation, seen, status, Phase::Completed, sentence)
}

fn made_worse(remediation: &Remediation, seen: &Seen<'_>, acted_at: Timestamp, trouble: &str) -> Step {
    let mut status = remediation.status.clone();
    let effect = *status.effect.get_or_insert(EffectSeen::Unknown);
    status.effect_at.get_or_insert(seen.now);
    status.objective = Some(ObjectiveAfter::Worse);
    status.outcome = Some(Outcome::of(effect, ObjectiveAfter::Worse));
    let span = human(elapsed(seen.now, acted_at));
    let sentence = format!(
        "it made things worse: what is depended on was well before, and {span} after the act: {trouble}"
    );
    conclude(remediation, seen, status, Phase::Completed, sentence)
}

/// Where the objective stands in the first full window that begins `after` past the effect.
fn judge(
    remediation: &Remediation,
    seen: &Seen<'_>,
    effect: EffectSeen,
    acted_at: Timestamp,
    effect_at: Timestamp,
) -> Step {
    let verify = &remediation.spec.verify;
    let due = later(effect_at, verify.after.saturating_add(verify.window));
    let last = later(acted_at, verify.within.saturating_add(remediation.spec.action.lasts()));
    let judged = seen.view.and_then(|(_, situation)| after_due(situation, due));
    let (objective, numbers) = match judged {
        Some((Overall::Healthy, numbers)) => (ObjectiveAfter::Recovered, numbers),
        Some((Overall::Breached(_), numbers)) => (ObjectiveAfter::NotRecovered, numbers),
        Some((Overall::NoData, _)) | None if seen.now < last => {
            return Step::Wait {
                until: due.max(later(seen.now, LOOK_EVERY)).min(last),
                why: "a full window".to_owned(),
            };
        }
        Some((Overall::NoData, numbers)) => (ObjectiveAfter::Inconclusive, numbers),
        None => (ObjectiveAfter::Inconclusive, "the objectives have not been read since".to_owned()),
    };
    let outcome = Outcome::of(effect, objective);
    let mut status = remediation.status.clone();
    status.objective = Some(objective);
    status.outcome = Some(outcome);
    let verdict = match outcome {
        Outcome::Healed => "it helped",
        Outcome::RecoveredUnattributed => "the objectives are kept again, but no effect of ours was seen",
        Outcome::Ineffective => "it did not help",
        Outcome::Worse => "it made things worse",
        Outcome::Inconclusive => "whether it helped cannot be said",
    };
    let span = human(elapsed(seen.now, acted_at));
    conclude(
        remediation,
        seen,
        status,
        Phase::Completed,
        format!("{verdict}, {span} after the act: {numbers}"),
    )
}

/// All readings together, if each of them was made at or after `due`.
fn after_due(situation: &Situation, due: Timestamp) -> Option<(Overall, String)> {
    let judged = |reading: &&Reading| reading.at >= due || matches!(reading.verdict, Verdict::NoData(_));
    if situation.now < due || !situation.readings.iter().all(|reading| judged(&reading)) {
        return None;
    }
    let numbers: Vec<String> = situation
        .readings
        .iter()
        .map(|reading| format!("{}: {}", reading.objective, reading.sentence()))
        .collect();
    Some((situation.overall, numbers.join("; ")))
}

/// The candidate that a remediation was made from, with the policy's limits as they are now.
fn candidate_of(remediation: &Remediation, policy: &Policy) -> Candidate {
    let spec = &remediation.spec;
    Candidate {
        policy: spec.policy.clone(),
        target: spec.target.clone(),
        incident: spec.incident.clone(),
        rung: spec.rung.clone(),
        attempt: spec.attempt,
        mode: spec.mode,
        cause: spec.cause.clone(),
        confidence: spec.confidence,
        // Every action today is done to what its cause was found in.
        subject: spec.action.act().subject(),
        reason: spec.reason.clone(),
        action: spec.action.clone(),
        resource: spec.resource.clone(),
        cooldown: spec.cooldown.max(policy.guards.cooldown),
        max_actions_per_hour: policy.guards.max_actions_per_hour,
        verify: spec.verify.clone(),
        undo: spec.undo.clone(),
    }
}

fn wait(seen: &Seen<'_>, span: Duration, why: &str) -> Step {
    Step::Wait { until: later(seen.now, span), why: why.to_owned() }
}

fn refused_by(remediation: &Remediation, seen: &Seen<'_>, guard: GuardName, fact: impl fmt::Display) -> Step {
    refuse(remediation, seen, guard.as_str(), fact.to_string())
}

/// The status is what people and other programs read: from here on it is a name and a sentence.
fn refuse(remediation: &Remediation, seen: &Seen<'_>, by: &'static str, message: String) -> Step {
    let mut status = remediation.status.clone();
    status.refused = Some(Refusal { guard: by.into(), message: message.clone() });
    conclude(remediation, seen, status, Phase::Refused, format!("refused by {by}: {message}"))
}

fn end(remediation: &Remediation, seen: &Seen<'_>, phase: Phase, sentence: String) -> Step {
    conclude(remediation, seen, remediation.status.clone(), phase, sentence)
}

fn conclude(
    remediation: &Remediation,
    seen: &Seen<'_>,
    mut status: RemediationStatus,
    phase: Phase,
    sentence: String,
) -> Step {
    status.phase = phase;
    status.completed_at = Some(seen.now);
    status.message.clone_from(&sentence);
    write(remediation, status, sentence)
}

fn write(remediation: &Remediation, status: RemediationStatus, sentence: String) -> Step {
    let record = RecordKind::Remediation {
        name: remediation.name.clone(),
        action: remediation.spec.action.act().sentence(),
        phase: status.phase,
        outcome: status.outcome,
        sentence,
    };
    Step::Write { status: Box::new(status), record }
}

#[cfg(test)]
#[path = "advance_tests.rs"]
mod tests;
