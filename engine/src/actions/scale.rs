//! `Scale`: adds replicas to the target, a step of what there is, never beyond `max`; and takes them away again.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::replicas::{NoWorkload, workload};
use super::{Act, Action, ActionKind, Checked, Evidence, Line, RungChanged, Settings, Traits, rung};
use crate::effects::{Effect, Progress, SetReplicas};
use crate::model::{
    Candidate, Change, Finding, Policy, ResourceKey, Rung, Severity, Situation, Snapshot, Subject, TargetRef,
    UndoSpec, Watch, WorkloadKey, forget,
};

pub(super) const LINE: Line = Line {
    kind: ActionKind::Scale,
    does: "adds replicas to the target, `step` of what there is, up to `maxReplicas`; they are taken away again when calm has returned or after `maxHold`, a quarter of them at a time",
    answers: &["WorkersSaturated"],
    traits: Traits {
        adds_load: true,
        removes_capacity: false,
        touches_workload: true,
        disruptive: false,
        signals_sessions: false,
    },
    min_severity: Severity::P2,
    reversible: true,
};

/// How far, and under which conditions, replicas are added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScaleSettings {
    /// How much is added at a time.
    pub step: ScaleStep,
    /// Never more replicas than these.
    pub max: u32,
    /// What was added is taken back after this time at the latest.
    pub max_hold: Duration,
}

/// How many replicas one step adds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum ScaleStep {
    /// A share of the replicas there are (0 to 1), rounded up; at least one.
    Share(f64),
    /// A number of replicas.
    Count(u32),
}

/// Add replicas to the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale(pub SetReplicas);

const ALLOWED: &[ActionKind] = &[ActionKind::Scale];

impl Settings for ScaleSettings {
    fn permissions(&self) -> &'static [ActionKind] {
        ALLOWED
    }

    fn propose(&self, snapshot: &Snapshot, _: &Rung, _: &Finding) -> Option<Action> {
        let target = snapshot.observations.target.known()?;
        let from = target.workload.as_ref()?.desired;
        Some(Action::Scale(Scale(SetReplicas {
            target: snapshot.policy.target.clone(),
            uid: target.uid.clone(),
            from,
            to: stepped(from, self),
        })))
    }

    fn effect_within(&self, _: &Action) -> Option<Duration> {
        None
    }

    fn changes<'a>(&'a self, policy: &'a Policy) -> Option<&'a TargetRef> {
        Some(&policy.target)
    }

    /// A quarter of what is added goes at a time, rounded up: at most four steps, and never more than a quarter by mistake.
    fn undo(&self, policy: &Policy, action: &Action) -> Option<UndoSpec> {
        let Action::Scale(Scale(set)) = action else { return None };
        Some(UndoSpec {
            max_hold: self.max_hold,
            step: set.to.saturating_sub(set.from).div_ceil(4).max(1),
            watch: Watch {
                evaluation: policy.evaluation.clone(),
                objectives: policy.objectives.clone(),
                dependencies: policy.dependencies.clone(),
            },
        })
    }
}

impl Act for Scale {
    fn effect(&self) -> Effect {
        Effect::SetReplicas(self.0.clone())
    }

    fn subject(&self) -> Subject {
        Subject::Workload(self.0.target.clone())
    }

    fn resource(&self, namespace: &str) -> ResourceKey {
        let SetReplicas { target, uid, .. } = self.0.clone();
        ResourceKey::Workload(WorkloadKey { namespace: namespace.to_owned(), target, uid })
    }

    fn permissions(&self) -> &'static [ActionKind] {
        ALLOWED
    }

    fn follows_up(&self) -> bool {
        false
    }

    fn sentence(&self) -> String {
        let SetReplicas { target, from, to, .. } = &self.0;
        format!("scale {target} from {from} to {to} replicas")
    }

    fn precondition(&self, snapshot: &Snapshot, candidate: &Candidate) -> Checked {
        let settings = rung(snapshot, candidate)?.scale().ok_or(RungChanged::OtherRung)?;
        let (found, workload) = workload(snapshot, &self.0.target).map_err(Condition::NoWorkload)?;
        let SetReplicas { target, uid, from, to } = self.0.clone();
        let (replicas, max) = (from, settings.max);
        if found.uid != uid || snapshot.policy.target != target {
            return Err(Condition::OtherTarget { target }.into());
        }
        if workload.desired != from {
            return Err(Condition::OtherReplicas { target, now: workload.desired, then: from }.into());
        }
        if from == 0 {
            return Err(Condition::AtZero { target }.into());
        }
        if to <= from || to > settings.max {
            return Err(Condition::AtMaximum { target, replicas, max }.into());
        }
        let most = stepped(from, settings);
        if to > most {
            return Err(Condition::TooFar { target, from, most, to }.into());
        }
        Ok(Condition::HasRoom { target, replicas, max }.into())
    }

    fn is_cause_visible(&self, _: &Situation) -> bool {
        true
    }

    fn progress(&self, evidence: &Evidence<'_>) -> Option<Progress> {
        evidence.inspected(&self.effect())
    }

    fn manual_rollback(&self, namespace: &str, change: &Change) -> Option<String> {
        let Change::Replicas(replicas) = change;
        Some(self.0.command(namespace, replicas.baseline))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::testing::{Setup, refused};
    use crate::guards::{GuardName, Stage};
    use crate::model::{Observed, RungAction};

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
            let Action::Scale(Scale(set)) = &mut setup.candidate.action else { panic!("no scale") };
            (set.from, set.to) = (0, 1);
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
