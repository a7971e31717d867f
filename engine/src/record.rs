//! What was decided and why, with the numbers. Events, conditions, metrics and the incident's timeline are rendered from
//! records at the edge; nothing in the engine publishes.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::guards::{Fact, GuardName, GuardVerdict};
use crate::model::{
    Breach, Confidence, Escalation, Finding, Name, NoData, Outcome, Phase, PolicyRef, Reading,
    SessionIdentity, Severity, Shared, Subject, UndoState, Verdict, duration,
};

/// What a record is about. There is one last word on each slot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot(pub String);

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The last word on a slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// The record's key.
    pub key: Key,
    /// The record as it was when that key was first said: the numbers of that moment.
    pub record: Shared<DecisionRecord>,
}

/// What a record says, without its numbers: one with the same key as the last word on its slot is no news.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Key {
    /// An objective is broken, in this way.
    Breached(Breach),
    /// An objective is kept.
    Healthy,
    /// It cannot be read.
    Missing(NoData),
    /// It can be read in part.
    Partial,
    /// It can be read.
    Readable,
    /// A breach is not yet believed.
    Suspected,
    /// An incident is open.
    Open {
        /// Its name.
        incident: String,
        /// How bad it is at its worst.
        severity: Severity,
        /// How often it was opened again.
        reopened: u32,
    },
    /// Calm is not yet believed.
    Calming {
        /// The incident's name.
        incident: String,
    },
    /// The incident is closed.
    Closed {
        /// Its name.
        incident: String,
    },
    /// A cause was found.
    Cause {
        /// Its name.
        cause: Name,
        /// How sure it is.
        confidence: Confidence,
        /// The session, not its statement: a blocker that runs one after the other is one cause.
        session: Option<(i32, Timestamp)>,
        /// The cause of which it is a symptom.
        explained_by: Option<Name>,
        /// It is advice.
        advice: bool,
    },
    /// A rung is refused.
    Blocked {
        /// The cause that it would have answered.
        cause: Name,
        /// Which guards refuse, and why, without the numbers.
        refusals: Vec<(GuardName, Fact)>,
    },
    /// A rung's action is proposed.
    Proposed {
        /// Its LatencyRemediation's name.
        remediation: String,
    },
    /// People have to decide.
    Escalated(Escalation),
    /// A remediation went a step further.
    Remediation {
        /// Where it is.
        phase: Phase,
        /// How it ended.
        outcome: Option<Outcome>,
    },
    /// Taking it back went a step further.
    Undo {
        /// How it stands.
        state: UndoState,
        /// It is due, and cannot be carried out.
        overdue: bool,
    },
}

impl Key {
    fn missing(no_data: &NoData) -> Self {
        let mut no_data = no_data.clone();
        no_data.forget_numbers();
        Self::Missing(no_data)
    }

    /// Whether not all can be read.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Partial)
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RecordKind {
    /// The verdict on an objective.
    Objective(Reading),
    /// A dependency can be read, in full or in part, or not at all.
    Dependency {
        /// Its name in the policy.
        name: String,
        /// What cannot be read.
        missing: Option<NoData>,
        /// It is readable in part only; the statement that changes that.
        partial: Option<String>,
    },
    /// The target can be seen, or not.
    Target {
        /// Why not.
        missing: Option<NoData>,
    },
    /// A breach was seen and is not yet believed.
    BreachSuspected {
        /// For how long.
        counted: Duration,
        /// How long it must last.
        needed: Duration,
    },
    /// The objectives are broken, and an incident is open.
    Incident {
        /// Its name.
        name: String,
        /// How bad it is at its worst.
        severity: Severity,
        /// How often it was opened again.
        reopened: u32,
        /// The broken objectives with their numbers.
        broken: Vec<String>,
    },
    /// Calm has returned and is not yet believed, or it has lasted and the incident is closed.
    Calm {
        /// The incident's name.
        incident: String,
        /// For how long.
        counted: Duration,
        /// How long it must last.
        needed: Duration,
    },
    /// A cause was found.
    Cause(Finding),
    /// A rung's causes were found, and the guards refused.
    Blocked {
        /// The rung's name.
        rung: String,
        /// The cause that it would have answered.
        cause: Name,
        /// What would have been done.
        action: String,
        /// The refusals.
        refusals: Vec<GuardVerdict>,
    },
    /// A rung's action is proposed (or, in Observe, would be).
    Proposed {
        /// The rung's name.
        rung: String,
        /// Its LatencyRemediation's name.
        remediation: String,
        /// The cause that it answers.
        cause: Name,
        /// What is proposed.
        action: String,
        /// It is a dry run.
        dry_run: bool,
    },
    /// The machine is at its end; people have to decide.
    Escalated {
        /// Why.
        why: Escalation,
        /// One sentence with what is known.
        sentence: String,
    },
    /// A remediation went a step further.
    Remediation {
        /// Its name.
        name: String,
        /// What it does.
        action: String,
        /// Where it is now.
        phase: Phase,
        /// How it ended.
        outcome: Option<Outcome>,
        /// One sentence with the numbers.
        sentence: String,
    },
    /// Taking a remediation back went a step further.
    Undo {
        /// Its name.
        name: String,
        /// How it stands.
        state: UndoState,
        /// It is due, and cannot be carried out.
        overdue: bool,
        /// One sentence with the numbers.
        sentence: String,
    },
}

impl RecordKind {
    /// The refusals that it carries.
    #[must_use]
    pub fn refusals(&self) -> &[GuardVerdict] {
        match self {
            Self::Blocked { refusals, .. } => refusals,
            Self::Objective(_)
            | Self::Dependency { .. }
            | Self::Target { .. }
            | Self::BreachSuspected { .. }
            | Self::Incident { .. }
            | Self::Calm { .. }
            | Self::Cause(_)
            | Self::Proposed { .. }
            | Self::Escalated { .. }
            | Self::Remediation { .. }
            | Self::Undo { .. } => &[],
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// When it was decided.
    pub at: Timestamp,
    /// Whose; kept once for all that is said of it.
    pub policy: Shared<PolicyRef>,
    /// The incident that it belongs to.
    pub incident: Option<String>,
    /// What.
    pub kind: RecordKind,
    /// Its key is not the one that was said last: this one is published.
    pub changed: bool,
}

impl DecisionRecord {
    /// What it is about.
    #[must_use]
    pub fn slot(&self) -> Slot {
        Slot(match &self.kind {
            RecordKind::Objective(reading) => format!("objective/{}", reading.objective),
            RecordKind::Dependency { name, .. } => format!("dependency/{name}"),
            RecordKind::Target { .. } => "target".to_owned(),
            RecordKind::BreachSuspected { .. } | RecordKind::Incident { .. } | RecordKind::Calm { .. } => {
                "incident".to_owned()
            }
            RecordKind::Cause(finding) => match &finding.subject {
                Some(subject) => {
                    format!("cause/{}/{}", finding.cause, subject.dependency().unwrap_or("target"))
                }
                None => format!("cause/{}", finding.cause),
            },
            RecordKind::Blocked { rung, .. } | RecordKind::Proposed { rung, .. } => format!("rung/{rung}"),
            RecordKind::Escalated { .. } => "escalation".to_owned(),
            RecordKind::Remediation { name, .. } => format!("remediation/{name}"),
            RecordKind::Undo { name, .. } => format!("rollback/{name}"),
        })
    }

    /// What it says, without the numbers.
    #[must_use]
    pub fn key(&self) -> Key {
        match &self.kind {
            RecordKind::Objective(reading) => match &reading.verdict {
                Verdict::Breached(breach) => Key::Breached(*breach),
                Verdict::Healthy => Key::Healthy,
                Verdict::NoData(no_data) => Key::missing(no_data),
            },
            RecordKind::Dependency { missing: Some(missing), .. }
            | RecordKind::Target { missing: Some(missing) } => Key::missing(missing),
            RecordKind::Dependency { partial: Some(_), .. } => Key::Partial,
            RecordKind::Dependency { .. } | RecordKind::Target { .. } => Key::Readable,
            RecordKind::BreachSuspected { .. } => Key::Suspected,
            RecordKind::Incident { name, severity, reopened, .. } => {
                Key::Open { incident: name.clone(), severity: *severity, reopened: *reopened }
            }
            RecordKind::Calm { incident, counted, needed } if counted >= needed => {
                Key::Closed { incident: incident.clone() }
            }
            RecordKind::Calm { incident, .. } => Key::Calming { incident: incident.clone() },
            RecordKind::Cause(finding) => Key::Cause {
                cause: finding.cause.clone(),
                confidence: finding.confidence,
                session: finding.subject.as_ref().and_then(Subject::session).map(SessionIdentity::session),
                explained_by: finding.explained_by.clone(),
                advice: finding.advice,
            },
            RecordKind::Blocked { cause, refusals, .. } => {
                let refusals = refusals.iter().map(|refusal| {
                    let mut fact = refusal.fact().clone();
                    fact.forget_numbers();
                    (refusal.guard, fact)
                });
                Key::Blocked { cause: cause.clone(), refusals: refusals.collect() }
            }
            RecordKind::Proposed { remediation, .. } => Key::Proposed { remediation: remediation.clone() },
            RecordKind::Escalated { why, .. } => Key::Escalated(*why),
            RecordKind::Remediation { phase, outcome, .. } => {
                Key::Remediation { phase: *phase, outcome: *outcome }
            }
            RecordKind::Undo { state, overdue, .. } => Key::Undo { state: *state, overdue: *overdue },
        }
    }

    /// What it says, with the numbers, in one sentence for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        match &self.kind {
            RecordKind::Objective(reading) => {
                let verdict = match &reading.verdict {
                    Verdict::Breached(breach) => format!("broken ({})", breach.severity),
                    Verdict::Healthy => "kept".to_owned(),
                    Verdict::NoData(_) => "not known".to_owned(),
                };
                format!("{} is {verdict}: {}", reading.objective, reading.sentence())
            }
            RecordKind::Dependency { name, missing: Some(missing), .. } => {
                format!("{name} cannot be read: {missing}")
            }
            RecordKind::Dependency { name, partial: Some(grant), .. } => {
                format!("{name} can be read in part only; run: {grant}")
            }
            RecordKind::Dependency { name, .. } => format!("{name} can be read"),
            RecordKind::Target { missing: Some(missing) } => format!("the target cannot be read: {missing}"),
            RecordKind::Target { .. } => "the target can be read".to_owned(),
            RecordKind::BreachSuspected { counted, needed } => {
                format!("breached for {} of {}", duration::human(*counted), duration::human(*needed))
            }
            RecordKind::Incident { severity, broken, reopened: 0, .. } => {
                format!("open ({severity}): {}", broken.join("; "))
            }
            RecordKind::Incident { severity, broken, reopened, .. } => {
                format!("open again ({severity}, reopened {reopened}x): {}", broken.join("; "))
            }
            RecordKind::Calm { counted, needed, .. } if counted >= needed => {
                format!("closed: within the objectives for {}", duration::human(*counted))
            }
            RecordKind::Calm { counted, needed, .. } => {
                format!(
                    "within the objectives for {} of {}",
                    duration::human(*counted),
                    duration::human(*needed)
                )
            }
            RecordKind::Cause(finding) => {
                let explained = finding.explained_by.as_ref().map(|by| format!(" (explained by {by})"));
                let advice = if finding.advice { " (advice)" } else { "" };
                format!(
                    "{} ({}){advice}{}: {}",
                    finding.cause,
                    finding.confidence,
                    explained.unwrap_or_default(),
                    finding.sentence
                )
            }
            RecordKind::Blocked { rung, action, refusals, .. } => {
                let refusals: Vec<String> = refusals.iter().map(GuardVerdict::to_string).collect();
                format!("remediation {rung} would {action}; refused by {}", refusals.join("; "))
            }
            RecordKind::Proposed { rung, cause, action, dry_run: true, .. } => {
                format!(
                    "remediation {rung} would {action} because of {cause}; nothing is done in mode Observe"
                )
            }
            RecordKind::Proposed { rung, cause, action, .. } => {
                format!("remediation {rung} proposes to {action} because of {cause}")
            }
            RecordKind::Escalated { sentence, .. }
            | RecordKind::Remediation { sentence, .. }
            | RecordKind::Undo { sentence, .. } => sentence.clone(),
        }
    }
}
