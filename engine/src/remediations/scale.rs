//! `Scale`: adds replicas to the target, a step of what there is, never beyond `max`; and takes them away again.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Checked, Remedy, RungChanged, Traits, rung};
use crate::model::{
    Action, ActionKind, Candidate, Finding, NoData, Observed, ResourceKey, Rung, RungAction, Scale,
    ScaleSettings, ScaleStep, Snapshot, Target, TargetRef, UndoSpec, Watch, Workload, WorkloadKey, forget,
};

pub(super) const REMEDY: Remedy = Remedy {
    kind: ActionKind::Scale,
    does: "adds replicas to the target, `step` of what there is, up to `maxReplicas`; they are taken away again when calm has returned or after `maxHold`, a quarter of them at a time",
    answers: &["WorkersSaturated"],
    traits: Traits { adds_load: true, removes_capacity: false, touches_workload: true, disruptive: false },
    propose,
    precondition,
    undo: Some(undo),
};

fn propose(snapshot: &Snapshot, rung: &Rung, _: &Finding) -> Option<(Action, ResourceKey)> {
    let RungAction::Scale(settings) = &rung.action else { return None };
    let target = snapshot.observations.target.known()?;
    let from = target.workload.as_ref()?.desired;
    let key = WorkloadKey {
        namespace: snapshot.policy.id.namespace.clone(),
        target: snapshot.policy.target.clone(),
        uid: target.uid.clone(),
    };
    let action = Action::Scale(Scale {
        target: snapshot.policy.target.clone(),
        uid: target.uid.clone(),
        from,
        to: stepped(from, settings),
    });
    Some((action, ResourceKey::Workload(key)))
}

/// One step up from `from`: at least one replica, never beyond `max`, and never fewer than there are.
fn stepped(from: u32, settings: &ScaleSettings) -> u32 {
    let step = match settings.step {
        ScaleStep::Count(count) => count.max(1),
        ScaleStep::Share(share) => {
            let mut step = 1;
            // Replicas are counted in integers; a share of them is rounded up without a detour over floats that do not fit.
            while f64::from(step) < f64::from(from) * share && step < from {
                step += 1;
            }
            step
        }
    };
    from.saturating_add(step).min(settings.max).max(from)
}

/// What the precondition comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Condition {
    HasRoom { target: TargetRef, replicas: u32, max: u32 },
    OtherTarget { target: TargetRef },
    OtherReplicas { target: TargetRef, now: u32, then: u32 },
    AtZero { target: TargetRef },
    AtMaximum { target: TargetRef, replicas: u32, max: u32 },
    TooFar { target: TargetRef, from: u32, most: u32, to: u32 },
    NoWorkload(NoWorkload),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HasRoom { target, replicas, max } => {
                write!(f, "{target} has {replicas} of at most {max} replicas")
            }
            Self::OtherTarget { target } => {
                write!(f, "{target} is another one now than the one that was looked at")
            }
            Self::OtherReplicas { target, now, then } => {
                write!(f, "{target} has {now} replicas now, {then} were decided on")
            }
            Self::AtZero { target } => {
                write!(f, "{target} has no replicas: somebody scaled it to zero on purpose")
            }
            Self::AtMaximum { target, replicas, max } => {
                write!(f, "{target} has {replicas} of at most {max} replicas (scale.maxReplicas)")
            }
            Self::TooFar { target, from, most, to } => {
                write!(f, "{target} may go from {from} to {most} replicas (scale.step), {to} were decided on")
            }
            Self::NoWorkload(why) => why.fmt(f),
        }
    }
}

impl Condition {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::HasRoom { replicas: one, max: other, .. }
            | Self::OtherReplicas { now: one, then: other, .. }
            | Self::AtMaximum { replicas: one, max: other, .. } => {
                forget(one);
                forget(other);
            }
            Self::TooFar { from, most, to, .. } => {
                forget(from);
                forget(most);
                forget(to);
            }
            Self::NoWorkload(why) => why.forget_numbers(),
            Self::OtherTarget { .. } | Self::AtZero { .. } => {}
        }
    }
}

fn precondition(snapshot: &Snapshot, candidate: &Candidate) -> Checked {
    let Action::Scale(scale) = &candidate.action else { return Err(RungChanged::OtherAction.into()) };
    let RungAction::Scale(settings) = &rung(snapshot, candidate)?.action else {
        return Err(RungChanged::OtherRung.into());
    };
    let (found, workload) = workload(snapshot).map_err(Condition::NoWorkload)?;
    let target = scale.target.clone();
    let (replicas, max) = (scale.from, settings.max);
    if found.uid != scale.uid || snapshot.policy.target != target {
        return Err(Condition::OtherTarget { target }.into());
    }
    if workload.desired != scale.from {
        return Err(Condition::OtherReplicas { target, now: workload.desired, then: scale.from }.into());
    }
    if scale.from == 0 {
        return Err(Condition::AtZero { target }.into());
    }
    if scale.to <= scale.from || scale.to > settings.max {
        return Err(Condition::AtMaximum { target, replicas, max }.into());
    }
    let most = stepped(scale.from, settings);
    if scale.to > most {
        return Err(Condition::TooFar { target, from: scale.from, most, to: scale.to }.into());
    }
    Ok(Condition::HasRoom { target, replicas, max }.into())
}

/// Why the target's replicas are not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum NoWorkload {
    Unreadable(NoData),
    NotRead,
}

impl fmt::Display for NoWorkload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(no_data) => write!(f, "the target cannot be read: {no_data}"),
            Self::NotRead => f.write_str("the target's replicas have not been read"),
        }
    }
}

impl NoWorkload {
    pub(crate) fn forget_numbers(&mut self) {
        match self {
            Self::Unreadable(no_data) => no_data.forget_numbers(),
            Self::NotRead => {}
        }
    }
}

/// The target and its replicas, or why they are not known.
pub(crate) fn workload(snapshot: &Snapshot) -> Result<(&Target, &Workload), NoWorkload> {
    let target = match &snapshot.observations.target {
        Observed::Known { value, .. } => value,
        Observed::Missing(no_data) => return Err(NoWorkload::Unreadable(no_data.clone())),
    };
    let workload = target.workload.as_ref().ok_or(NoWorkload::NotRead)?;
    Ok((target, workload))
}

/// A quarter of what is added goes at a time, rounded up: at most four steps, and never more than a quarter by mistake.
fn undo(snapshot: &Snapshot, rung: &Rung, action: &Action) -> Option<UndoSpec> {
    let (Action::Scale(scale), RungAction::Scale(settings)) = (action, &rung.action) else { return None };
    let policy = &snapshot.policy;
    Some(UndoSpec {
        max_hold: settings.max_hold,
        step: scale.to.saturating_sub(scale.from).div_ceil(4).max(1),
        watch: Watch {
            evaluation: policy.evaluation.clone(),
            objectives: policy.objectives.clone(),
            dependencies: policy.dependencies.clone(),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guards::testing::{Setup, refused};
    use crate::guards::{GuardName, Stage};

    #[test]
    fn what_was_decided_on_must_still_be_what_is_there() {
        let refusal = |change: fn(&mut Setup)| {
            let mut setup = Setup::scaling();
            change(&mut setup);
            refused(&setup, GuardName::Precondition, Stage::Gate)
        };
        assert_eq!(refusal(|_| ()), None);
        assert!(refusal(|setup| setup.workload().desired = 5).unwrap().contains("5 replicas now"));
        let another = refusal(|setup| {
            let Observed::Known { value, .. } = &mut setup.snapshot.observations.target else {
                panic!("no target")
            };
            value.uid = "another".into();
        });
        assert!(another.unwrap().contains("another one"));
        let nothing = refusal(|setup| {
            setup.workload().desired = 0;
            let Action::Scale(scale) = &mut setup.candidate.action else { panic!("no scale") };
            (scale.from, scale.to) = (0, 1);
        });
        assert!(nothing.unwrap().contains("no replicas"));
        let full = refusal(|setup| {
            if let RungAction::Scale(settings) = &mut setup.snapshot.policy.rungs[0].action {
                settings.max = 5;
            }
        });
        assert!(full.unwrap().contains("4 of at most 5"));
        let smaller = refusal(|setup| {
            if let RungAction::Scale(settings) = &mut setup.snapshot.policy.rungs[0].action {
                settings.step = ScaleStep::Share(0.25);
            }
        });
        assert!(smaller.unwrap().contains("from 4 to 5 replicas (scale.step)"));
    }

    #[test]
    fn a_step_is_a_share_rounded_up_and_never_passes_the_ceiling() {
        let to = |from, share, max| {
            let step = ScaleStep::Share(share);
            stepped(from, &ScaleSettings { step, max, max_hold: Duration::ZERO })
        };
        let by = |count, max| {
            let step = ScaleStep::Count(count);
            stepped(4, &ScaleSettings { step, max, max_hold: Duration::ZERO })
        };
        assert_eq!((by(3, 12), by(0, 12), by(30, 12)), (7, 5, 12));
        assert_eq!(to(4, 0.5, 12), 6);
        assert_eq!(to(3, 0.5, 12), 5);
        assert_eq!(to(1, 0.1, 12), 2);
        assert_eq!(to(10, 0.5, 12), 12);
        assert_eq!(to(12, 0.5, 12), 12);
        assert_eq!(to(15, 0.5, 12), 15, "it adds and never takes away");
        assert_eq!(to(4, 1.0, 100), 8);
        assert_eq!(to(u32::MAX, 0.0, u32::MAX), u32::MAX);
    }
}
