//! What could be done, and what the guards say to it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Confidence, DEADLINE, Mode, Name, PolicyRef, ResourceKey, SecretRef, ServerIdentity, SessionIdentity,
    Subject, TargetRef, UncommittedWrites, UndoSpec, VerifySpec, WarmCache,
};

/// The kinds of action, as a policy names them. Matches over it are exhaustive on purpose: a new action has to answer
/// every one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ActionKind {
    /// Cancel a running statement.
    CancelQuery,
    /// End a session that is idle in a transaction.
    TerminateIdle,
    /// Add replicas to the target.
    Scale,
    /// Ask the target for what it keeps in a cache that has gone cold.
    WarmCache,
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One session of one database, and the statement that it runs, or ran last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTarget {
    /// The dependency's name in the policy.
    pub dependency: String,
    /// The Secret that leads to it.
    pub secret: SecretRef,
    /// The server that was diagnosed; no other one is touched.
    pub server: ServerIdentity,
    /// The session and its statement; once it has begun another one it is left alone.
    pub session: SessionIdentity,
    /// The role that runs it.
    pub role: String,
    /// See [`super::Session::fingerprint`].
    pub fingerprint: String,
    /// Whether it may be touched although its transaction has written.
    pub writes: UncommittedWrites,
}

/// End a session that is idle in a transaction: no statement runs that could be cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminateIdle {
    /// Which session.
    pub target: SessionTarget,
    /// Since when it is idle, by the server's clock; another instant means that it has done something since.
    pub idle_since: Timestamp,
    /// So long it must have been idle.
    pub min_idle: Duration,
}

/// Set the replicas of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// Which workload, in the policy's namespace.
    pub target: TargetRef,
    /// Which life of it; another one is not touched.
    pub uid: String,
    /// The replicas that were seen; with any other number nothing is done.
    pub from: u32,
    /// The replicas that are to be.
    pub to: u32,
}

/// An action that is ready to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Cancel the statement: its transaction fails, its session lives.
    CancelQuery(SessionTarget),
    /// End the session, because cancelling its statement did nothing.
    TerminateQuery(SessionTarget),
    /// See [`TerminateIdle`].
    TerminateIdle(TerminateIdle),
    /// See [`Scale`].
    Scale(Scale),
    /// See [`WarmCache`].
    WarmCache(WarmCache),
}

impl Action {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::CancelQuery(_) | Self::TerminateQuery(_) => ActionKind::CancelQuery,
            Self::TerminateIdle(_) => ActionKind::TerminateIdle,
            Self::Scale(_) => ActionKind::Scale,
            Self::WarmCache(_) => ActionKind::WarmCache,
        }
    }

    /// How long it may go on. Its verification has so much more time: it is over only when the act is.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        match self {
            Self::WarmCache(warm) => warm.settings.within,
            Self::CancelQuery(_) | Self::TerminateQuery(_) | Self::TerminateIdle(_) | Self::Scale(_) => {
                Duration::ZERO
            }
        }
    }

    /// The kinds that must be allowed for it. Who forbids that sessions are ended means those too whose statement was
    /// cancelled in vain.
    #[must_use]
    pub fn permissions(&self) -> &'static [ActionKind] {
        match self {
            Self::CancelQuery(_) => &[ActionKind::CancelQuery],
            Self::TerminateQuery(_) => &[ActionKind::CancelQuery, ActionKind::TerminateIdle],
            Self::TerminateIdle(_) => &[ActionKind::TerminateIdle],
            Self::Scale(_) => &[ActionKind::Scale],
            Self::WarmCache(_) => &[ActionKind::WarmCache],
        }
    }

    /// The session that it is done to, if it is done to one.
    #[must_use]
    pub fn session(&self) -> Option<&SessionTarget> {
        match self {
            Self::CancelQuery(target) | Self::TerminateQuery(target) => Some(target),
            Self::TerminateIdle(idle) => Some(&idle.target),
            Self::Scale(_) | Self::WarmCache(_) => None,
        }
    }

    /// What it is done to.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match self {
            Self::CancelQuery(target)
            | Self::TerminateQuery(target)
            | Self::TerminateIdle(TerminateIdle { target, .. }) => {
                Subject::Session { dependency: target.dependency.clone(), session: target.session.clone() }
            }
            Self::Scale(scale) => Subject::Workload(scale.target.clone()),
            Self::WarmCache(warm) => Subject::Dependency { dependency: warm.dependency.clone() },
        }
    }

    /// Whether it is the stronger form of an act that was carried out on the same subject and did nothing.
    #[must_use]
    pub fn follows_up(&self) -> bool {
        match self {
            Self::CancelQuery(_) | Self::TerminateIdle(_) | Self::Scale(_) | Self::WarmCache(_) => false,
            Self::TerminateQuery(_) => true,
        }
    }

    /// Whether both do the same to the same. Replicas that are set to another number are another step.
    #[must_use]
    pub fn repeats(&self, other: &Self) -> bool {
        let again = match (self, other) {
            (Self::Scale(one), Self::Scale(two)) => one.uid == two.uid && one.to == two.to,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        };
        again && self.subject() == other.subject()
    }

    /// Length of time from the passing of the gate after which nothing of it happens any more.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        match self {
            Self::CancelQuery(_) | Self::TerminateQuery(_) | Self::TerminateIdle(_) | Self::Scale(_) => {
                DEADLINE
            }
            Self::WarmCache(warm) => warm.settings.within.saturating_add(DEADLINE),
        }
    }

    /// What it does, in words.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::CancelQuery(SessionTarget { session, role, dependency, .. }) => format!(
                "cancel what pid {} (role {role}) has been running in {dependency} since {:.0}",
                session.pid, session.query_start
            ),
            Self::TerminateQuery(SessionTarget { session, role, dependency, .. }) => format!(
                "end the session of pid {} (role {role}), whose statement of {:.0} in {dependency} was \
                 cancelled and runs all the same",
                session.pid, session.query_start
            ),
            Self::TerminateIdle(TerminateIdle { target, idle_since, .. }) => format!(
                "end the session of pid {} (role {}), idle in a transaction in {} since {idle_since:.0}",
                target.session.pid, target.role, target.dependency
            ),
            Self::Scale(Scale { target, from, to, .. }) => {
                format!("scale {target} from {from} to {to} replicas")
            }
            Self::WarmCache(WarmCache { dependency, settings, .. }) => format!(
                "warm {dependency} by {} requests to Service {}, {} a second",
                settings.planned(),
                settings.service,
                settings.rate_per_second
            ),
        }
    }
}

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
