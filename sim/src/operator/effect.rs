//! Sending an effect, once: mirrors `src/controller/remediation/effect.rs` and `src/act`.

use std::rc::Rc;

use engine::advance::EffectReport;
use engine::guards::gitops_manager;
use engine::model::{Action, Remediation, Scale, WorkloadNow, elapsed, later};
use jiff::Timestamp;

use super::remediation::key_of;
use super::{Operator, warm};
use crate::exec::MS;
use crate::planted;
use crate::world::api::ApiError;
use crate::world::database::Signalled;
use crate::world::faults::Op;
use crate::world::instant;
use crate::world::setup::database_of;

/// Does it, and notes what was answered.
pub(super) async fn send(
    operator: &Rc<Operator>,
    remediation: &Remediation,
    action: &Action,
    fence: Timestamp,
) {
    note(operator, remediation, EffectReport::Lost("it was interrupted".into()));
    let report = if operator.leading() || planted::is("effect_without_the_lease") {
        carry_out(operator, remediation, action, fence).await
    } else {
        Some(EffectReport::Refused("the Lease was no longer provably held".into()))
    };
    if let Some(report) = report {
        note(operator, remediation, report);
    }
}

fn note(operator: &Operator, remediation: &Remediation, report: EffectReport) {
    let mut locals = operator.locals.borrow_mut();
    locals.entry(key_of(remediation)).or_default().effect = Some(report);
}

/// What was answered; nothing yet where it goes on by itself.
async fn carry_out(
    operator: &Rc<Operator>,
    remediation: &Remediation,
    action: &Action,
    fence: Timestamp,
) -> Option<EffectReport> {
    Some(match action {
        Action::CancelQuery(_) | Action::TerminateQuery(_) | Action::TerminateIdle(_) => {
            let mut report = signal(operator, remediation, action, fence).await;
            if matches!(report, EffectReport::Lost(_)) && planted::is("lost_effect_is_sent_again") {
                report = signal(operator, remediation, action, later(fence, remediation.spec.deadline)).await;
            }
            report
        }
        Action::Scale(scale) => write(operator, remediation, scale, Op::Scale, fence).await,
        Action::WarmCache(warm) => {
            warm::begin(operator, remediation, warm, fence);
            return None;
        }
    })
}

async fn signal(
    operator: &Operator,
    remediation: &Remediation,
    action: &Action,
    fence: Timestamp,
) -> EffectReport {
    let policy = (remediation.namespace.clone(), remediation.spec.policy.name.clone());
    let view = operator.views.borrow().get(&policy).cloned();
    let clock = view.zip(action.session()).and_then(|(view, target)| {
        let observed = view.0.databases.get(&target.dependency)?;
        let facts = observed.known().filter(|facts| facts.server == target.server)?;
        Some((facts.clock, observed.at()?))
    });
    let place = action.session().and_then(|target| database_of(&target.secret));
    let (Some((server, ours)), Some(place)) = (clock, place) else {
        return EffectReport::Refused("the database's clock is not known".into());
    };
    let fence = later(server, elapsed(fence, ours));
    let key = (remediation.namespace.clone(), remediation.name.clone());
    let action = action.clone();
    let answer = operator
        .send(
            Op::Signal,
            false,
            move |world| world.signal(place, &action, fence, &key),
            |error| match error {
                ApiError::Lost => Signalled::Lost,
                ApiError::Conflict | ApiError::NotFound | ApiError::Refused => Signalled::Refused,
            },
        )
        .await;
    match answer {
        Signalled::Sent => EffectReport::Sent,
        Signalled::NotMatched => EffectReport::NotMatched("the session had gone".into()),
        Signalled::Refused => EffectReport::Refused("the database refused".into()),
        Signalled::Lost => EffectReport::Lost("the connection broke".into()),
    }
}

/// Sets the replicas back, if they are still what we set.
pub(super) async fn restore(
    operator: &Operator,
    remediation: &Remediation,
    scale: &Scale,
    fence: Timestamp,
) -> EffectReport {
    if !operator.leading() {
        return EffectReport::Refused("the Lease was no longer provably held".into());
    }
    write(operator, remediation, scale, Op::Restore, fence).await
}

/// The compare-and-swap of replicas: mirrors `src/act/scale.rs`.
async fn write(
    operator: &Operator,
    remediation: &Remediation,
    scale: &Scale,
    op: Op,
    fence: Timestamp,
) -> EffectReport {
    let namespace = remediation.namespace.clone();
    loop {
        if elapsed(fence, operator.now()).is_zero() {
            return EffectReport::Refused("there was no time left".into());
        }
        let (place, target) = (namespace.clone(), scale.target.clone());
        let read = operator.ask(Op::ReadScale, move |world| world.read_workload(&place, &target)).await;
        let (now, version) = match read {
            Ok(read) => read,
            Err(ApiError::NotFound) => return EffectReport::NotMatched("it was gone".into()),
            Err(_) => return EffectReport::Refused("the API server did not answer".into()),
        };
        if let Err(why) = may_be_set(scale, op, &now) {
            return EffectReport::NotMatched(why);
        }
        if elapsed(fence, operator.now()).is_zero() && !planted::is("fence_only_before_the_read") {
            return EffectReport::Refused("there was no time left".into());
        }
        let version = if planted::is("scale_without_precondition") { None } else { Some(version) };
        let (place, wanted) = (namespace.clone(), scale.clone());
        let key = (namespace.clone(), remediation.name.clone());
        let at = instant(operator.sim.now());
        let sent = operator.ask(op, move |world| world.write_scale(&place, &wanted, version, &key, at)).await;
        match sent {
            Ok(()) => return EffectReport::Sent,
            Err(ApiError::Conflict) => operator.sim.sleep(20 * MS).await,
            Err(ApiError::NotFound | ApiError::Refused) => return EffectReport::Refused("refused".into()),
            Err(ApiError::Lost) => return EffectReport::Lost("no answer".into()),
        }
    }
}

fn may_be_set(scale: &Scale, op: Op, now: &WorkloadNow) -> Result<(), String> {
    let undoes = op == Op::Restore;
    if now.uid != scale.uid {
        return Err("it was another one of that name".into());
    }
    if undoes && planted::is("undo_overwrites_people") {
        return Ok(());
    }
    if now.replicas != scale.from {
        return Err("somebody had set other replicas".into());
    }
    if undoes && !now.is_ours() {
        return Err("somebody had set the replicas".into());
    }
    if !undoes && gitops_manager(&now.managers).is_some() {
        return Err("Git had set the replicas".into());
    }
    Ok(())
}
