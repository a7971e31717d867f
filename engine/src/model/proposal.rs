//! What could be done, and what the guards say to it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Action, Confidence, Mode, Name, PolicyRef, ResourceKey, Subject, TargetRef, UndoSpec, VerifySpec,
};

/// An action that a rung would take for a cause that was found; nothing has been asked yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
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
    /// The mode that holds: in Observe it is a dry run.
    pub mode: Mode,
    /// The cause that it answers.
    pub cause: Name,
    /// How sure that cause was when the candidate was made.
    pub confidence: Confidence,
    /// What the cause was found in: not always what the action is done to.
    pub subject: Subject,
    /// The cause's sentence.
    pub reason: String,
    /// What would be done.
    pub action: Action,
    /// What is locked, rested and counted.
    pub resource: ResourceKey,
    /// The resource's rest after this act.
    pub cooldown: Duration,
    /// The policy's ceiling of acts in any 60 minutes.
    pub max_actions_per_hour: u32,
    /// How the act is judged.
    pub verify: VerifySpec,
    /// How it is taken back, where it can be.
    pub undo: Option<UndoSpec>,
}

impl Candidate {
    /// Nothing is done: it is only written down.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.mode == Mode::Observe
    }

    /// The deterministic name of its LatencyRemediation: whoever creates it first has it, everybody else adopts it.
    /// Dry runs have names of their own, one for each incident and rung.
    #[must_use]
    pub fn object_name(&self) -> String {
        if self.is_dry_run() {
            format!("{}-{}-dry", self.incident, self.rung)
        } else {
            format!("{}-{}-{}", self.incident, self.rung, self.attempt)
        }
    }
}
