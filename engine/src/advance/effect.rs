//! Whether an act was done, and whether it did what it does: by looking at the world.

use std::time::Duration;

use jiff::Timestamp;

use super::{CLOCK_SLACK, LOOK_EVERY, RESOLVE_WITHIN, Seen, Step, conclude, wait, warming, write};
use crate::actions::Evidence;
use crate::effects::{AfterCrash, Effect, Inspection, Progress};
use crate::model::Overall;
use crate::model::{EffectSeen, ObjectiveAfter, Outcome, Phase, Remediation, VerifySpec, elapsed, later};

/// What could not be read is asked for again after so long.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// An `Executing` whose effect this process knows nothing about. Once its fence has passed nothing can happen any more,
/// and the world is asked what did.
pub(super) fn resolve(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    let since = seen.executing_seen_at.unwrap_or(seen.now);
    let settled = later(since, remediation.spec.deadline.saturating_add(CLOCK_SLACK));
    #[cfg(planted_bugs)]
    let settled = if crate::planted::is("resolves_before_the_fence") { since } else { settled };
    if seen.now < settled {
        let why = "the fence of an act whose answer is not known".to_owned();
        return Step::Wait { until: settled, why };
    }
    let effect = remediation.spec.action.act().effect();
    let inspection = match (&effect, seen.inspection) {
        (Effect::SendRequests(_), _) => return warming::interrupted(remediation, seen),
        (Effect::SignalSession(_) | Effect::SetReplicas(_), None) => return Step::Inspect(effect),
        (Effect::SignalSession(_) | Effect::SetReplicas(_), Some(inspection)) => inspection,
    };
    if let Inspection::Unreadable(no_data) = inspection
        && elapsed(seen.now, settled) < RESOLVE_WITHIN
    {
        return wait(seen, READ_AGAIN, &no_data.to_string());
    }
    #[cfg(planted_bugs)]
    if *inspection == Inspection::Gone && crate::planted::is("gone_counts_as_our_doing") {
        let mut status = remediation.status.clone();
        status.phase = Phase::Verifying;
        status.acted_at = Some(seen.now);
        return write(remediation, status, "planted".to_owned());
    }
    match effect.after_crash(inspection) {
        AfterCrash::Done(what) => done(remediation, seen, format!("it was interrupted, and done: {what}")),
        AfterCrash::NotDone(what) => not_done(remediation, seen, format!("it was interrupted, and {what}")),
        AfterCrash::Unknown(what) => unknown(remediation, seen, &format!("it was interrupted, and {what}")),
    }
}

fn done(remediation: &Remediation, seen: &Seen<'_>, sentence: String) -> Step {
    let mut status = remediation.status.clone();
    status.phase = Phase::Verifying;
    status.acted_at = status.executing.as_ref().map(|executing| executing.started_at).or(Some(seen.now));
    status.message.clone_from(&sentence);
    write(remediation, status, sentence)
}

fn not_done(remediation: &Remediation, seen: &Seen<'_>, sentence: String) -> Step {
    let mut status = remediation.status.clone();
    status.effect = Some(EffectSeen::NotSeen);
    // What was sent may yet arrive: the undo stays owed for a while, and then finds nothing to take back.
    if let Some(undo) = &mut status.undo {
        undo.due_at = later(seen.now, super::undo::LATE);
    }
    conclude(remediation, seen, status, Phase::Failed, sentence)
}

fn unknown(remediation: &Remediation, seen: &Seen<'_>, what: &str) -> Step {
    let mut status = remediation.status.clone();
    status.effect = Some(EffectSeen::Unknown);
    let sentence = format!("{what}: whether that was our doing cannot be told; it is not repeated");
    conclude(remediation, seen, status, Phase::OutcomeUnknown, sentence)
}

/// Whether the action did what it does.
pub(super) fn see(remediation: &Remediation, seen: &Seen<'_>, acted_at: Timestamp) -> Step {
    let (action, verify) = (&remediation.spec.action, &remediation.spec.verify);
    let effect = action.act().effect();
    let waited = elapsed(seen.now, acted_at);
    let evidence = Evidence { inspection: seen.inspection, view: seen.view, acted_at, waited };
    let Some(progress) = action.act().progress(&evidence) else { return Step::Inspect(effect) };
    let (first, last) = patience(&effect, verify);
    let patient = waited < first.max(CLOCK_SLACK);
    let breached = seen.view.is_some_and(|(_, situation)| matches!(situation.overall, Overall::Breached(_)));
    let (effect, sentence) = match progress {
        Progress::Confirmed(sentence) => (EffectSeen::Confirmed, sentence),
        Progress::NotYet(why) | Progress::Unreadable(why) if patient => return wait(seen, LOOK_EVERY, &why),
        Progress::NotYet(why) if verify.effect_within.is_some() && breached => {
            return in_vain(remediation, seen, &why);
        }
        Progress::NotYet(sentence) | Progress::NotSeen(sentence) => (EffectSeen::NotSeen, sentence),
        // One slow answer is no verdict: a session that is not known to run on is not ended.
        Progress::Unreadable(why) if waited < last => return wait(seen, READ_AGAIN, &why),
        Progress::Unreadable(sentence) | Progress::Unknown(sentence) => (EffectSeen::Unknown, sentence),
    };
    let mut status = remediation.status.clone();
    status.effect = Some(effect);
    status.effect_at = Some(seen.now);
    status.message.clone_from(&sentence);
    write(remediation, status, sentence)
}

/// How long an effect that does not show is waited for, and how long one that cannot be read.
fn patience(effect: &Effect, verify: &VerifySpec) -> (Duration, Duration) {
    // What is left then must do for a full window.
    let last = verify.within.saturating_sub(verify.after.saturating_add(verify.window));
    let last = last.saturating_add(effect.lasts());
    match effect {
        // Pods take their time, and so does a cache.
        Effect::SetReplicas(_) | Effect::SendRequests(_) => (last, last),
        Effect::SignalSession(_) => (verify.effect_within.unwrap_or(verify.after).min(verify.within), last),
    }
}

/// It did nothing, the breach goes on, and something stronger may follow: there is no window to wait for.
fn in_vain(remediation: &Remediation, seen: &Seen<'_>, what: &str) -> Step {
    let mut status = remediation.status.clone();
    status.effect = Some(EffectSeen::NotSeen);
    status.effect_at = Some(seen.now);
    status.objective = Some(ObjectiveAfter::NotRecovered);
    status.outcome = Some(Outcome::of(EffectSeen::NotSeen, ObjectiveAfter::NotRecovered));
    conclude(remediation, seen, status, Phase::Completed, format!("it did nothing: {what}"))
}
