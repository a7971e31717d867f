//! The life of one remediation, a step at a time.
//!
//! The gate is the compare-and-swap to `Executing`: the intent is durable before the effect. Whoever finds an `Executing`
//! that it did not write itself a moment ago looks at the world, and never does it again. Because all of this is decided
//! here, a simulation that feeds conflicts, lost answers and crashes exercises the code that runs in production.

use std::time::Duration;

use jiff::Timestamp;

use crate::guards::{self, Context, Stage};
use crate::model::{
    Action, Admission, Candidate, EffectSeen, Executing, GuardVerdict, Mode, NoData, ObjectiveAfter, Outcome,
    Phase, Policy, Reading, RecordKind, Refusal, Remediation, RemediationStatus, Snapshot, Verdict,
    duration::human, elapsed, later,
};
use crate::tick::{Overall, Situation};

/// What the effect that this process sent has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectReport {
    /// It was carried out.
    Sent,
    /// It found nothing to do: the precondition did not hold at the instant of acting. Nothing was done.
    NotMatched(String),
    /// It was refused before it did anything.
    Refused(String),
    /// The answer was lost: it may have been carried out, or may yet be until the fence.
    Lost(String),
}

/// What the world shows of the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It still runs.
    Running,
    /// Its session has gone, or runs another statement.
    Gone,
    /// It cannot be seen.
    Unreadable(NoData),
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
    /// The newest look at the policy, if there is a policy and it has been looked at.
    pub view: Option<(&'a Snapshot, &'a Situation)>,
    /// Ledger, replicas and ceilings.
    pub admission: Option<Admission<'a>>,
    /// When this very process began to pass the gate (before it sent the write), if it did and has sent no effect since.
    pub passed_gate_at: Option<Timestamp>,
    /// What the effect that this very process sent has answered.
    pub effect: Option<&'a EffectReport>,
    /// When this process first saw it in the phase Executing.
    pub executing_seen_at: Option<Timestamp>,
    /// What the world shows, where the last step asked to look.
    pub look: Option<&'a Look>,
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
        action: Action,
        /// No effect after this instant.
        fence: Timestamp,
    },
    /// Look what has become of the statement, and call again.
    Look(Action),
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
        Phase::Admitted => admitted(remediation, seen),
        Phase::Executing => executing(remediation, seen),
        Phase::Verifying => verifying(remediation, seen),
        Phase::Completed | Phase::Refused | Phase::Failed | Phase::DryRun | Phase::OutcomeUnknown => {
            Step::Done
        }
    }
}

fn admitted(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    if remediation.spec.dry_run {
        let sentence =
            format!("dry run: {}; {}", remediation.spec.action.sentence(), remediation.spec.reason);
        return end(remediation, seen, Phase::DryRun, sentence);
    }
    if remediation.deleting {
        return Step::Done;
    }
    let waited = elapsed(seen.now, remediation.created_at);
    let Some((snapshot, _)) = seen.view else {
        if waited < PATIENCE {
            return wait(seen, Duration::from_secs(1), "a current look at the policy");
        }
        let message = format!("there has been no current snapshot of the policy for {}", human(waited));
        return refuse(remediation, seen, "Freshness", message);
    };
    let candidate = candidate_of(remediation, &snapshot.policy);
    let admission = seen.admission.as_ref();
    let context =
        Context { stage: Stage::Gate, now: seen.now, candidate: &candidate, view: seen.view, admission };
    let verdicts = guards::evaluate(&context);
    let Some(refusal) = worst(&verdicts) else { return pass_gate(remediation, seen) };
    // A leader that has just taken over has not seen the breach itself yet: it waits until it may judge, and no longer.
    let settle = snapshot
        .policy
        .evaluation
        .breach_for
        .saturating_add(snapshot.policy.evaluation.interval.saturating_mul(2));
    let young = elapsed(seen.now, snapshot.operator.leading_since) < settle;
    let transient = verdicts.iter().filter(|verdict| !verdict.passed).all(|verdict| {
        matches!(&*verdict.guard, "Freshness" | "StillBreached" | "MinRequests" | "Confidence" | "Leadership")
    });
    if young && transient && waited < PATIENCE.saturating_add(settle) {
        return wait(seen, LOOK_EVERY, &refusal.message);
    }
    refuse(remediation, seen, &refusal.guard, refusal.message.clone())
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
    status.message = format!("{} because of {}", remediation.spec.action.sentence(), remediation.spec.cause);
    let sentence = format!("{}: {}", status.message, remediation.spec.reason);
    write(remediation, status, sentence)
}

fn executing(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    match seen.effect {
        Some(EffectReport::Sent) => return sent(remediation, seen),
        Some(EffectReport::NotMatched(why)) => {
            return refuse(
                remediation,
                seen,
                "Precondition",
                format!("at the instant of acting {why}; nothing was done"),
            );
        }
        Some(EffectReport::Refused(why)) => {
            return end(
                remediation,
                seen,
                Phase::Failed,
                format!("it was refused and nothing was done: {why}"),
            );
        }
        Some(EffectReport::Lost(_)) | None => {}
    }
    let ours = remediation
        .status
        .executing
        .as_ref()
        .is_some_and(|e| e.holder == seen.holder && e.epoch == seen.epoch);
    if let Some(passed) = seen.passed_gate_at.filter(|_| ours && seen.effect.is_none()) {
        let fence = later(passed, remediation.spec.deadline);
        if seen.now >= fence {
            let sentence = format!(
                "{} passed before it could be done; nothing was sent",
                human(remediation.spec.deadline)
            );
            return end(remediation, seen, Phase::Failed, sentence);
        }
        if !seen.leading {
            return wait(seen, LOOK_EVERY, "the Lease is not provably held");
        }
        return Step::Effect { action: remediation.spec.action.clone(), fence };
    }
    resolve(remediation, seen)
}

fn sent(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    let mut status = remediation.status.clone();
    status.phase = Phase::Verifying;
    status.acted_at = Some(seen.now);
    status.message = format!("done: {}", remediation.spec.action.sentence());
    let sentence = status.message.clone();
    write(remediation, status, sentence)
}

/// An `Executing` whose effect this process knows nothing about. Once its fence has passed nothing can happen any more,
/// and the world is asked what did.
fn resolve(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    let since = seen.executing_seen_at.unwrap_or(seen.now);
    let settled = later(since, remediation.spec.deadline.saturating_add(CLOCK_SLACK));
    if seen.now < settled {
        let why = "the fence of an act whose answer is not known".to_owned();
        return Step::Wait { until: settled, why };
    }
    match seen.look {
        None => Step::Look(remediation.spec.action.clone()),
        Some(Look::Running) => {
            let mut status = remediation.status.clone();
            status.effect = Some(EffectSeen::NotSeen);
            let sentence = format!(
                "it was interrupted, and {}: nothing was done, or it had no effect",
                still(remediation)
            );
            conclude(remediation, seen, status, Phase::Failed, sentence)
        }
        Some(Look::Gone) => {
            unknown(remediation, seen, &format!("it was interrupted, and {} since", gone(remediation)))
        }
        Some(Look::Unreadable(no_data)) if elapsed(seen.now, settled) >= RESOLVE_WITHIN => unknown(
            remediation,
            seen,
            &format!("it was interrupted, and the database cannot be read ({no_data})"),
        ),
        Some(Look::Unreadable(no_data)) => wait(seen, Duration::from_secs(2), &no_data.to_string()),
    }
}

fn unknown(remediation: &Remediation, seen: &Seen<'_>, what: &str) -> Step {
    let mut status = remediation.status.clone();
    status.effect = Some(EffectSeen::Unknown);
    let sentence = format!("{what}: whether that was our doing cannot be told; it is not repeated");
    conclude(remediation, seen, status, Phase::OutcomeUnknown, sentence)
}

fn verifying(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    let acted_at = remediation.status.acted_at.unwrap_or(seen.now);
    match (remediation.status.effect, remediation.status.effect_at) {
        (Some(effect), Some(effect_at)) => judge(remediation, seen, effect, acted_at, effect_at),
        _ => see_effect(remediation, seen, acted_at),
    }
}

/// Whether the action did what it does.
fn see_effect(remediation: &Remediation, seen: &Seen<'_>, acted_at: Timestamp) -> Step {
    let waited = elapsed(seen.now, acted_at);
    let verify = &remediation.spec.verify;
    let patient = waited < verify.effect_within.unwrap_or(verify.after).max(CLOCK_SLACK);
    let breached = seen.view.is_some_and(|(_, situation)| matches!(situation.overall, Overall::Breached(_)));
    let (effect, sentence) = match seen.look {
        None => return Step::Look(remediation.spec.action.clone()),
        Some(Look::Gone) => (EffectSeen::Confirmed, format!("{} {} later", gone(remediation), human(waited))),
        Some(Look::Running | Look::Unreadable(_)) if patient => return wait(seen, LOOK_EVERY, "the effect"),
        Some(Look::Running) if verify.effect_within.is_some() && breached => {
            return in_vain(remediation, seen, waited);
        }
        Some(Look::Running) => {
            (EffectSeen::NotSeen, format!("{} {} later", still(remediation), human(waited)))
        }
        Some(Look::Unreadable(no_data)) => {
            (EffectSeen::Unknown, format!("the effect cannot be seen: {no_data}"))
        }
    };
    let mut status = remediation.status.clone();
    status.effect = Some(effect);
    status.effect_at = Some(seen.now);
    status.message.clone_from(&sentence);
    write(remediation, status, sentence)
}

/// It did nothing, the breach goes on, and something stronger may follow: there is no window to wait for.
fn in_vain(remediation: &Remediation, seen: &Seen<'_>, waited: Duration) -> Step {
    let mut status = remediation.status.clone();
    status.effect = Some(EffectSeen::NotSeen);
    status.effect_at = Some(seen.now);
    status.objective = Some(ObjectiveAfter::NotRecovered);
    status.outcome = Some(Outcome::of(EffectSeen::NotSeen, ObjectiveAfter::NotRecovered));
    let sentence = format!("it did nothing: {} {} later", still(remediation), human(waited));
    conclude(remediation, seen, status, Phase::Completed, sentence)
}

fn still(remediation: &Remediation) -> &'static str {
    match remediation.spec.action {
        Action::CancelQuery(_) => "the statement still runs",
        Action::TerminateQuery(_) | Action::TerminateIdle(_) => "the session is still there",
    }
}

fn gone(remediation: &Remediation) -> &'static str {
    match remediation.spec.action {
        Action::CancelQuery(_) => "the statement was gone",
        Action::TerminateQuery(_) | Action::TerminateIdle(_) => "the session was gone",
    }
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
    let last = later(acted_at, verify.within);
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
        mode: if spec.dry_run { Mode::Observe } else { Mode::Auto },
        cause: spec.cause.clone(),
        confidence: spec.confidence,
        reason: spec.reason.clone(),
        action: spec.action.clone(),
        resource: spec.resource.clone(),
        cooldown: spec.cooldown.max(policy.guards.cooldown),
        max_actions_per_hour: policy.guards.max_actions_per_hour,
        verify: spec.verify.clone(),
    }
}

fn worst(verdicts: &[GuardVerdict]) -> Option<&GuardVerdict> {
    verdicts.iter().find(|verdict| !verdict.passed)
}

fn wait(seen: &Seen<'_>, span: Duration, why: &str) -> Step {
    Step::Wait { until: later(seen.now, span), why: why.to_owned() }
}

fn refuse(remediation: &Remediation, seen: &Seen<'_>, guard: &str, message: String) -> Step {
    let mut status = remediation.status.clone();
    status.refused = Some(Refusal { guard: guard.to_owned().into(), message: message.clone() });
    conclude(remediation, seen, status, Phase::Refused, format!("refused by {guard}: {message}"))
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
        action: remediation.spec.action.sentence(),
        phase: status.phase,
        outcome: status.outcome,
        sentence,
    };
    Step::Write { status: Box::new(status), record }
}

#[cfg(test)]
#[path = "advance_tests.rs"]
mod tests;
