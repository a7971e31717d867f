//! Whether an act was done, and whether it did what it does: by looking at the world.

use std::time::Duration;

use jiff::Timestamp;

use super::{CLOCK_SLACK, LOOK_EVERY, Look, RESOLVE_WITHIN, Seen, Step, conclude, wait, warming, write};
use crate::causes::cold_cache;
use crate::model::Overall;
use crate::model::ratio::percent;
use crate::model::{
    Action, COLD, CacheTrend, EffectSeen, ObjectiveAfter, Outcome, Phase, Remediation, Scale, WarmCache,
    WorkloadNow, duration::human, elapsed, later,
};

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
    if matches!(remediation.spec.action, Action::WarmCache(_)) {
        return warming::interrupted(remediation, seen);
    }
    match (seen.look, &remediation.spec.action) {
        (None, action) => Step::Look(action.clone()),
        (Some(Look::Workload(now)), Action::Scale(scale)) => resolve_scale(remediation, seen, scale, now),
        (Some(Look::Running), _) | (Some(Look::Workload(_)), _) => {
            let mut status = remediation.status.clone();
            status.effect = Some(EffectSeen::NotSeen);
            let sentence = format!(
                "it was interrupted, and {}: nothing was done, or it had no effect",
                still(remediation)
            );
            conclude(remediation, seen, status, Phase::Failed, sentence)
        }
        #[cfg(planted_bugs)]
        (Some(Look::Gone), _) if crate::planted::is("gone_counts_as_our_doing") => {
            let mut status = remediation.status.clone();
            status.phase = Phase::Verifying;
            status.acted_at = Some(seen.now);
            write(remediation, status, "planted".to_owned())
        }
        (Some(Look::Gone), _) => {
            unknown(remediation, seen, &format!("it was interrupted, and {} since", gone(remediation)))
        }
        (Some(Look::Unreadable(no_data)), _) if elapsed(seen.now, settled) >= RESOLVE_WITHIN => unknown(
            remediation,
            seen,
            &format!("it was interrupted, and what it was done to cannot be read ({no_data})"),
        ),
        (Some(Look::Unreadable(no_data)), _) => wait(seen, READ_AGAIN, &no_data.to_string()),
    }
}

/// Who has set the replicas is written down beside them: an act of ours is known for ours.
fn resolve_scale(remediation: &Remediation, seen: &Seen<'_>, scale: &Scale, now: &WorkloadNow) -> Step {
    if now.uid != scale.uid {
        return unknown(
            remediation,
            seen,
            &format!("it was interrupted, and {} is another one now", scale.target),
        );
    }
    if now.replicas == scale.to && now.is_ours() {
        let mut status = remediation.status.clone();
        status.phase = Phase::Verifying;
        status.acted_at = status.executing.as_ref().map(|executing| executing.started_at).or(Some(seen.now));
        let sentence =
            format!("it was interrupted, and done: {} has {} replicas", scale.target, now.replicas);
        status.message.clone_from(&sentence);
        return write(remediation, status, sentence);
    }
    if now.replicas == scale.from {
        // What was sent may yet arrive: the undo stays owed for a while, and then finds nothing to take back.
        let mut status = remediation.status.clone();
        status.effect = Some(EffectSeen::NotSeen);
        if let Some(undo) = &mut status.undo {
            undo.due_at = later(seen.now, super::undo::LATE);
        }
        let sentence =
            format!("it was interrupted, and {} still has {} replicas", scale.target, now.replicas);
        return conclude(remediation, seen, status, Phase::Failed, sentence);
    }
    let what = format!("it was interrupted, and {} has set {} replicas since", now.others(), now.replicas);
    unknown(remediation, seen, &what)
}

fn unknown(remediation: &Remediation, seen: &Seen<'_>, what: &str) -> Step {
    let mut status = remediation.status.clone();
    status.effect = Some(EffectSeen::Unknown);
    let sentence = format!("{what}: whether that was our doing cannot be told; it is not repeated");
    conclude(remediation, seen, status, Phase::OutcomeUnknown, sentence)
}

/// Whether the action did what it does.
pub(super) fn see(remediation: &Remediation, seen: &Seen<'_>, acted_at: Timestamp) -> Step {
    let waited = elapsed(seen.now, acted_at);
    let verify = &remediation.spec.verify;
    // What is left then must do for a full window.
    let last = verify.within.saturating_sub(verify.after.saturating_add(verify.window));
    let patience = match &remediation.spec.action {
        // Pods take their time.
        Action::Scale(_) => last,
        Action::WarmCache(warm) => return see_warmed(remediation, seen, warm, acted_at),
        Action::CancelQuery(_) | Action::TerminateQuery(_) | Action::TerminateIdle(_) => {
            verify.effect_within.unwrap_or(verify.after).min(verify.within)
        }
    };
    let patient = waited < patience.max(CLOCK_SLACK);
    let breached = seen.view.is_some_and(|(_, situation)| matches!(situation.overall, Overall::Breached(_)));
    let (effect, sentence) = match (seen.look, &remediation.spec.action) {
        (None, action) => return Step::Look(action.clone()),
        (Some(Look::Workload(now)), Action::Scale(scale)) => match replicas(scale, now) {
            Ok(done) => (EffectSeen::Confirmed, format!("{done} {} later", human(waited))),
            Err((not_yet, true)) if patient => return wait(seen, LOOK_EVERY, &not_yet),
            Err((why, _)) => (EffectSeen::NotSeen, format!("{why} {} later", human(waited))),
        },
        (Some(Look::Gone), Action::Scale(scale)) => {
            (EffectSeen::Unknown, format!("{} was gone {} later", scale.target, human(waited)))
        }
        (Some(Look::Gone), _) => {
            (EffectSeen::Confirmed, format!("{} {} later", gone(remediation), human(waited)))
        }
        (Some(Look::Running | Look::Workload(_) | Look::Unreadable(_)), _) if patient => {
            return wait(seen, LOOK_EVERY, "the effect");
        }
        (Some(Look::Running), _) if verify.effect_within.is_some() && breached => {
            return in_vain(remediation, seen, waited);
        }
        (Some(Look::Running | Look::Workload(_)), _) => {
            (EffectSeen::NotSeen, format!("{} {} later", still(remediation), human(waited)))
        }
        // One slow answer is no verdict: who is not known to run on is not ended.
        (Some(Look::Unreadable(no_data)), _) if waited < last => {
            return wait(seen, READ_AGAIN, &no_data.to_string());
        }
        (Some(Look::Unreadable(no_data)), _) => {
            (EffectSeen::Unknown, format!("the effect cannot be seen: {no_data}"))
        }
    };
    let mut status = remediation.status.clone();
    status.effect = Some(effect);
    status.effect_at = Some(seen.now);
    status.message.clone_from(&sentence);
    write(remediation, status, sentence)
}

/// Whether lookups find their keys again, in looks that were all made since the first request. Where it is not known what is
/// usual (this process has not seen it healthy), what people call low is the measure.
fn see_warmed(remediation: &Remediation, seen: &Seen<'_>, warm: &WarmCache, acted_at: Timestamp) -> Step {
    let verify = &remediation.spec.verify;
    let waited = elapsed(seen.now, acted_at);
    let patience = verify.within.saturating_sub(verify.after.saturating_add(verify.window));
    let patience = patience.saturating_add(remediation.spec.action.lasts());
    let name = &warm.dependency;
    let trend = seen.view.and_then(|(_, situation)| situation.caches.get(name));
    let trend = trend.filter(|trend| trend.from >= acted_at);
    let policy = seen.view.map(|(snapshot, _)| &snapshot.policy);
    let usual = trend.and_then(|trend| trend.baseline);
    let warm_from = usual.map_or_else(|| cold_cache::low(policy), |usual| usual.ratio * COLD);
    let (effect, sentence) = match trend.and_then(CacheTrend::ratio) {
        Some(ratio) if ratio >= warm_from => (
            EffectSeen::Confirmed,
            format!("{} of the lookups in {name} found their key {} later", percent(ratio), human(waited)),
        ),
        _ if waited < patience.max(CLOCK_SLACK) => return wait(seen, LOOK_EVERY, "the hit ratio"),
        Some(ratio) => (
            EffectSeen::NotSeen,
            format!(
                "{} of the lookups in {name} found their key {} later, {} are needed",
                percent(ratio),
                human(waited),
                percent(warm_from)
            ),
        ),
        None => (
            EffectSeen::Unknown,
            format!("the hit ratio of {name} could not be read {} later", human(waited)),
        ),
    };
    let mut status = remediation.status.clone();
    status.effect = Some(effect);
    status.effect_at = Some(seen.now);
    status.message.clone_from(&sentence);
    write(remediation, status, sentence)
}

/// Whether all replicas are ready; if not, why, and whether that may change by waiting.
fn replicas(scale: &Scale, now: &WorkloadNow) -> Result<String, (String, bool)> {
    if now.uid != scale.uid {
        return Err((format!("{} was another one", scale.target), false));
    }
    if now.replicas != scale.to || !now.is_ours() {
        return Err((format!("{} had set {} replicas", now.others(), now.replicas), false));
    }
    let ready = format!("{} of {} replicas were ready", now.ready, now.replicas);
    if now.ready >= scale.to { Ok(ready) } else { Err((ready, true)) }
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
        Action::Scale(_) => "the replicas are what they were",
        Action::WarmCache(_) => "the cache is still cold",
    }
}

fn gone(remediation: &Remediation) -> &'static str {
    match remediation.spec.action {
        Action::CancelQuery(_) => "the statement was gone",
        Action::TerminateQuery(_) | Action::TerminateIdle(_) => "the session was gone",
        Action::Scale(_) => "the target was gone",
        Action::WarmCache(_) => "the cache was gone",
    }
}
