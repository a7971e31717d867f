//! One action from admission to outcome, as the API server holds it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Action, Candidate, Confidence, Mode, Name, PolicyRef, ResourceKey, TargetRef, Undo, UndoSpec, UndoState,
};

/// How the act is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifySpec {
    /// The judged window begins this long after the effect.
    pub after: Duration,
    /// Without a verdict by then it is inconclusive.
    pub within: Duration,
    /// The window's length.
    pub window: Duration,
    /// Where something stronger follows: without an effect by then, and with the breach still there, the act has failed.
    pub effect_within: Option<Duration>,
}

/// What is to be done and why. Self-contained: it needs no policy. Immutable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemediationSpec {
    /// Whose.
    pub policy: PolicyRef,
    /// The workload that is guarded.
    pub target: TargetRef,
    /// The incident's name.
    pub incident: String,
    /// The rung's name.
    pub rung: String,
    /// Counts from 1 within incident and rung.
    pub attempt: u32,
    /// The mode in which it was made: Observe is only written down, Approve waits for a person.
    pub mode: Mode,
    /// The cause that it answers.
    pub cause: Name,
    /// How sure.
    pub confidence: Confidence,
    /// The cause's sentence.
    pub reason: String,
    /// What is to be done.
    pub action: Action,
    /// What is locked, rested and counted.
    pub resource: ResourceKey,
    /// The resource's rest after this act.
    pub cooldown: Duration,
    /// Length of time from the passing of the gate within which the effect must have been sent, or never is.
    pub deadline: Duration,
    /// How the act is judged.
    pub verify: VerifySpec,
    /// How it is taken back, where it can be.
    pub undo: Option<UndoSpec>,
}

impl RemediationSpec {
    /// It is only written down, never done.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.mode == Mode::Observe
    }
}

/// From the passing of the gate to the effect, at most. Long enough for a slow data store, shorter than anybody's patience.
pub const DEADLINE: Duration = Duration::from_secs(5);

impl From<&Candidate> for RemediationSpec {
    fn from(candidate: &Candidate) -> Self {
        Self {
            policy: candidate.policy.clone(),
            target: candidate.target.clone(),
            incident: candidate.incident.clone(),
            rung: candidate.rung.clone(),
            attempt: candidate.attempt,
            mode: candidate.mode,
            cause: candidate.cause.clone(),
            confidence: candidate.confidence,
            reason: candidate.reason.clone(),
            action: candidate.action.clone(),
            resource: candidate.resource.clone(),
            cooldown: candidate.cooldown,
            deadline: candidate.action.deadline(),
            verify: candidate.verify.clone(),
            undo: candidate.undo.clone(),
        }
    }
}

/// Where a remediation is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// It waits for a person. Made by a later version only; this one lets it expire.
    AwaitingApproval,
    /// It was admitted (that is what creates the object) and nothing has been done.
    #[default]
    Admitted,
    /// The intent is durable; the effect may or may not have been sent.
    Executing,
    /// The effect was sent; whether it helped is being watched.
    Verifying,
    /// It is over, with an outcome.
    Completed,
    /// A person denied it; nothing was done.
    Denied,
    /// No person approved it in time; nothing was done.
    Expired,
    /// A guard refused it at the last moment; nothing was done.
    Refused,
    /// It could not be done; nothing happened as far as the world shows.
    Failed,
    /// Written down only.
    DryRun,
    /// Interrupted while executing, and the world cannot tell whether it was done. Never repeated.
    OutcomeUnknown,
}

impl Phase {
    /// No further step follows.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::AwaitingApproval | Self::Admitted | Self::Executing | Self::Verifying => false,
            Self::Completed
            | Self::Denied
            | Self::Expired
            | Self::Refused
            | Self::Failed
            | Self::DryRun
            | Self::OutcomeUnknown => true,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Who passed the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executing {
    /// The operator's identity.
    pub holder: String,
    /// Its term: the Lease's `leaseTransitions`.
    pub epoch: u64,
    /// When, by the holder's clock.
    pub started_at: Timestamp,
    /// Counted by the holder from before the write was sent, by a successor from when it first saw it.
    pub deadline: Duration,
}

/// Whether the action did what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EffectSeen {
    /// It did: the statement is gone.
    Confirmed,
    /// It did not: the statement still runs.
    NotSeen,
    /// It cannot be seen.
    Unknown,
}

/// Where the objective stands afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ObjectiveAfter {
    /// Kept again.
    Recovered,
    /// Still broken.
    NotRecovered,
    /// Still broken, and something that was well before the act is not any more.
    Worse,
    /// No verdict could be had in time.
    Inconclusive,
}

/// The two facts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Outcome {
    /// It did what it does, and the objective is kept again.
    Healed,
    /// The objective is kept again, without an effect of ours that could be seen: no credit.
    RecoveredUnattributed,
    /// The objective is still broken: the next rung may try.
    Ineffective,
    /// The act has made things worse: it is taken back at once.
    Worse,
    /// No verdict: people decide.
    Inconclusive,
}

impl Outcome {
    /// Combines effect and objective.
    #[must_use]
    pub fn of(effect: EffectSeen, objective: ObjectiveAfter) -> Self {
        match (objective, effect) {
            (ObjectiveAfter::Recovered, EffectSeen::Confirmed) => Self::Healed,
            (ObjectiveAfter::Recovered, EffectSeen::NotSeen | EffectSeen::Unknown) => {
                Self::RecoveredUnattributed
            }
            (ObjectiveAfter::NotRecovered, _) => Self::Ineffective,
            (ObjectiveAfter::Worse, _) => Self::Worse,
            (ObjectiveAfter::Inconclusive, _) => Self::Inconclusive,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Which guard refused at the last moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The guard.
    pub guard: Name,
    /// Why, with the numbers.
    pub message: String,
}

/// What has become of it so far. Written by the remediation controller only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemediationStatus {
    /// Where it is.
    pub phase: Phase,
    /// Who passed the gate; stays for ever once set.
    pub executing: Option<Executing>,
    /// When the effect was sent.
    pub acted_at: Option<Timestamp>,
    /// Whether the effect was seen.
    pub effect: Option<EffectSeen>,
    /// When that was known; verification counts from here.
    pub effect_at: Option<Timestamp>,
    /// Where the objective stands.
    pub objective: Option<ObjectiveAfter>,
    /// The two together.
    pub outcome: Option<Outcome>,
    /// The guard that refused, in the phase Refused.
    pub refused: Option<Refusal>,
    /// How taking it back stands, from the passing of the gate on.
    pub undo: Option<Undo>,
    /// One sentence for people.
    pub message: String,
    /// When the last phase was reached.
    pub completed_at: Option<Timestamp>,
}

/// A LatencyRemediation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remediation {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When the API server created it.
    pub created_at: Timestamp,
    /// It is being deleted: nothing more is begun.
    pub deleting: bool,
    /// It carries the operator's finalizer: it stays until nothing is owed any more.
    pub held: bool,
    /// What is to be done.
    pub spec: RemediationSpec,
    /// What has become of it.
    pub status: RemediationStatus,
}

impl Remediation {
    /// It holds its resource: admitted and not over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.spec.is_dry_run() && !self.status.phase.is_terminal()
    }

    /// What it did has to be taken back.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.status.undo.as_ref().is_some_and(|undo| undo.state == UndoState::Pending)
    }

    /// How people take back by hand what it did, where it can be taken back.
    #[must_use]
    pub fn by_hand(&self) -> Option<String> {
        let undo = self.status.undo.as_ref()?;
        self.spec.action.act().manual_rollback(&self.namespace, &undo.change)
    }

    /// When an effect may have reached the world, if it may have. Never before the object was created, which the API
    /// server's clock says: the clock of whoever acted may have been behind.
    #[must_use]
    pub fn may_have_acted_at(&self) -> Option<Timestamp> {
        match self.status.phase {
            Phase::AwaitingApproval
            | Phase::Admitted
            | Phase::Denied
            | Phase::Expired
            | Phase::Refused
            | Phase::DryRun => None,
            Phase::Executing
            | Phase::Verifying
            | Phase::Completed
            | Phase::Failed
            | Phase::OutcomeUnknown => {
                let at =
                    self.status.acted_at.or_else(|| self.status.executing.as_ref().map(|e| e.started_at));
                at.map(|at| at.max(self.created_at))
            }
        }
    }
}
