//! `ShedWorkers`: takes background workers away, down to a floor, and gives them back.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::replicas::{NoWorkload, workload};
use super::{Act, Action, ActionKind, Checked, Evidence, Line, RungChanged, Settings, Traits, rung};
use crate::dependencies::workers::WorkersDependency;
use crate::effects::{Effect, Progress, SetReplicas};
use crate::model::{
    Candidate, Change, Dependency, Finding, Policy, ResourceKey, Rung, Severity, Situation, Snapshot,
    Subject, TargetRef, UndoSpec, Watch, WorkloadKey, duration::human, forget,
};

pub(super) const LINE: Line = Line {
    kind: ActionKind::ShedWorkers,
    does: "scales declared background workers down to `minReplicas`; they are given back a quarter at a time when calm has returned, after `maxHold` in any case, and at once where it did not help",
    answers: &["BackgroundLoad"],
    traits: Traits {
        adds_load: false,
        removes_capacity: true,
        touches_workload: true,
        disruptive: true,
        signals_sessions: false,
    },
    min_severity: Severity::P2,
    reversible: true,
};

/// Which workers are taken away, and how far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShedWorkersSettings {
    /// The dependency's name in the policy.
    pub dependency: String,
    /// How many replicas are left; at least one.
    pub min: u32,
    /// They are given back after this time at the latest.
    pub max_hold: Duration,
}

impl ShedWorkersSettings {
    fn declared<'a>(&self, policy: &'a Policy) -> Option<&'a WorkersDependency> {
        policy.dependencies.get(&self.dependency).and_then(Dependency::workers)
    }
}

/// Take background workers away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShedWorkers {
    /// The dependency's name in the policy.
    pub dependency: String,
    /// How many are left.
    pub set: SetReplicas,
}

const ALLOWED: &[ActionKind] = &[ActionKind::ShedWorkers];

impl Settings for ShedWorkersSettings {
    fn permissions(&self) -> &'static [ActionKind] {
        ALLOWED
    }

    fn propose(&self, snapshot: &Snapshot, _: &Rung, finding: &Finding) -> Option<Action> {
        let found_in = finding.subject.as_ref()?.dependency()?;
        let declared = self.declared(&snapshot.policy).filter(|_| found_in == self.dependency)?;
        let (workers, replicas) = workload(snapshot, &declared.target).ok()?;
        let from = replicas.desired;
        let (target, uid) = (declared.target.clone(), workers.uid.clone());
        let set = SetReplicas { target, uid, from, to: self.min.min(from) };
        Some(Action::ShedWorkers(ShedWorkers { dependency: self.dependency.clone(), set }))
    }

    fn effect_within(&self, _: &Action) -> Option<Duration> {
        None
    }

    fn changes<'a>(&'a self, policy: &'a Policy) -> Option<&'a TargetRef> {
        self.declared(policy).map(|declared| &declared.target)
    }

    /// A quarter of what was taken away comes back at a time, rounded up.
    fn undo(&self, policy: &Policy, action: &Action) -> Option<UndoSpec> {
        let Action::ShedWorkers(ShedWorkers { set, .. }) = action else { return None };
        Some(UndoSpec {
            max_hold: self.max_hold,
            step: set.from.saturating_sub(set.to).div_ceil(4).max(1),
            watch: Watch {
                evaluation: policy.evaluation.clone(),
                objectives: policy.objectives.clone(),
                dependencies: policy.dependencies.clone(),
            },
        })
    }
}

impl Act for ShedWorkers {
    fn effect(&self) -> Effect {
        Effect::SetReplicas(self.set.clone())
    }

    fn subject(&self) -> Subject {
        Subject::Dependency { dependency: self.dependency.clone() }
    }

    fn resource(&self, namespace: &str) -> ResourceKey {
        let SetReplicas { target, uid, .. } = self.set.clone();
        ResourceKey::Workload(WorkloadKey { namespace: namespace.to_owned(), target, uid })
    }

    fn permissions(&self) -> &'static [ActionKind] {
        ALLOWED
    }

    fn follows_up(&self) -> bool {
        false
    }

    fn sentence(&self) -> String {
        let SetReplicas { target, from, to, .. } = &self.set;
        format!("scale the background workers {target} down from {from} to {to} replicas")
    }

    fn precondition(&self, snapshot: &Snapshot, candidate: &Candidate) -> Checked {
        let settings = rung(snapshot, candidate)?.shed_workers().ok_or(RungChanged::OtherRung)?;
        let SetReplicas { target, uid, from, to } = self.set.clone();
        let declared = settings.declared(&snapshot.policy).filter(|declared| declared.target == target);
        let declared = declared.filter(|_| settings.dependency == self.dependency);
        let Some(declared) = declared else { return Err(Condition::NotDeclared { target }.into()) };
        let (found, workers) = workload(snapshot, &target).map_err(Condition::NoWorkload)?;
        if found.uid != uid {
            return Err(Condition::OtherWorkers { target }.into());
        }
        if workers.desired != from {
            return Err(Condition::OtherReplicas { target, now: workers.desired, then: from }.into());
        }
        let least = settings.min;
        if from <= least {
            return Err(Condition::AtFloor { target, replicas: from, least }.into());
        }
        if to < least {
            return Err(Condition::TooFar { target, to, least }.into());
        }
        if !declared.acks_late {
            return Err(Condition::AcksEarly { target }.into());
        }
        match (declared.max_task, workers.grace) {
            (None, _) => Err(Condition::TaskUnknown { target }.into()),
            (Some(_), None) => Err(Condition::GraceUnknown { target }.into()),
            (Some(max_task), Some(grace)) if max_task > grace => {
                Err(Condition::TasksCutOff { target, max_task, grace }.into())
            }
            (Some(_), Some(_)) => Ok(Condition::CanGo { target, replicas: from, least }.into()),
        }
    }

    fn is_cause_visible(&self, _: &Situation) -> bool {
        true
    }

    fn progress(&self, evidence: &Evidence<'_>) -> Option<Progress> {
        evidence.inspected(&self.effect())
    }

    fn manual_rollback(&self, namespace: &str, change: &Change) -> Option<String> {
        let Change::Replicas(replicas) = change;
        Some(self.set.command(namespace, replicas.baseline))
    }
}

/// What the precondition comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Condition {
    CanGo { target: TargetRef, replicas: u32, least: u32 },
    NotDeclared { target: TargetRef },
    OtherWorkers { target: TargetRef },
    OtherReplicas { target: TargetRef, now: u32, then: u32 },
    AtFloor { target: TargetRef, replicas: u32, least: u32 },
    TooFar { target: TargetRef, to: u32, least: u32 },
    AcksEarly { target: TargetRef },
    TaskUnknown { target: TargetRef },
    GraceUnknown { target: TargetRef },
    TasksCutOff { target: TargetRef, max_task: Duration, grace: Duration },
    NoWorkload(NoWorkload),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CanGo { target, replicas, least } => {
                write!(
                    f,
                    "{target} has {replicas} replicas, at least {least} are left (shedWorkers.minReplicas)"
                )
            }
            Self::NotDeclared { target } => {
                write!(f, "{target} is not declared as the workers of this remediation any more")
            }
            Self::OtherWorkers { target } => {
                write!(f, "{target} is another one now than the one that was looked at")
            }
            Self::OtherReplicas { target, now, then } => {
                write!(f, "{target} has {now} replicas now, {then} were decided on")
            }
            Self::AtFloor { target, replicas, least } => {
                write!(
                    f,
                    "{target} has {replicas} replicas, at least {least} are left (shedWorkers.minReplicas)"
                )
            }
            Self::TooFar { target, to, least } => {
                write!(f, "{target} keeps {least} replicas (shedWorkers.minReplicas), {to} were decided on")
            }
            Self::AcksEarly { target } => write!(
                f,
                "a task of {target} that is cut off would be lost; acknowledge tasks late and say so (workers.acksLate)"
            ),
            Self::TaskUnknown { target } => {
                write!(f, "how long a task of {target} takes is not known; say it (workers.maxTaskDuration)")
            }
            Self::GraceUnknown { target } => {
                write!(f, "the terminationGracePeriodSeconds of {target} has not been read")
            }
            Self::TasksCutOff { target, max_task, grace } => write!(
                f,
                "a task of {target} takes up to {} (workers.maxTaskDuration), its Pods are given {} to end \
                 (terminationGracePeriodSeconds)",
                human(*max_task),
                human(*grace)
            ),
            Self::NoWorkload(why) => why.fmt(f),
        }
    }
}

impl Condition {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::CanGo { replicas: one, least: other, .. }
            | Self::OtherReplicas { now: one, then: other, .. }
            | Self::AtFloor { replicas: one, least: other, .. }
            | Self::TooFar { to: one, least: other, .. } => {
                forget(one);
                forget(other);
            }
            Self::TasksCutOff { max_task, grace, .. } => {
                forget(max_task);
                forget(grace);
            }
            Self::NoWorkload(why) => why.forget_numbers(),
            Self::NotDeclared { .. }
            | Self::OtherWorkers { .. }
            | Self::AcksEarly { .. }
            | Self::TaskUnknown { .. }
            | Self::GraceUnknown { .. } => {}
        }
    }
}

#[cfg(test)]
#[path = "shed_workers_tests.rs"]
mod tests;
