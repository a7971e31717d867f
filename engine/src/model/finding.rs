//! What a cause's detector found.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Name, SessionIdentity, TargetRef};

/// How sure it is that this causes the breach (not merely that it exists).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Confidence {
    /// It exists; whether it has to do with the breach is open.
    Possible,
    /// The metrics and the data store agree in time.
    Likely,
    /// It began no earlier than the breach can have, and the target's own sessions are its victims, or it takes most of
    /// the database's active time in two snapshots.
    Certain,
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One number behind a finding, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was measured.
    pub what: String,
    /// The value with its unit.
    pub value: String,
}

impl Evidence {
    /// A measured value.
    pub fn new(what: impl Into<String>, value: impl Into<String>) -> Self {
        Self { what: what.into(), value: value.into() }
    }
}

/// What a finding points at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Subject {
    /// A session of a database.
    Session {
        /// The dependency's name in the policy.
        dependency: String,
        /// Which statement of which session.
        session: SessionIdentity,
    },
    /// A dependency as a whole.
    Dependency {
        /// Its name in the policy.
        dependency: String,
    },
    /// The guarded workload.
    Workload(TargetRef),
}

impl Subject {
    /// The dependency that it belongs to, if it belongs to one.
    #[must_use]
    pub fn dependency(&self) -> Option<&str> {
        match self {
            Self::Session { dependency, .. } | Self::Dependency { dependency } => Some(dependency),
            Self::Workload(_) => None,
        }
    }

    /// The session, if it is one.
    #[must_use]
    pub fn session(&self) -> Option<&SessionIdentity> {
        match self {
            Self::Session { session, .. } => Some(session),
            Self::Dependency { .. } | Self::Workload(_) => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session { dependency, session } => write!(f, "{dependency}: {session}"),
            Self::Dependency { dependency } => f.write_str(dependency),
            Self::Workload(target) => write!(f, "{target}"),
        }
    }
}

/// A cause that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which cause.
    pub cause: Name,
    /// How sure.
    pub confidence: Confidence,
    /// Nothing is to be done about it automatically: it is told to people and matches no rung.
    pub advice: bool,
    /// What it points at.
    pub subject: Option<Subject>,
    /// When it began, on the operator's clock.
    pub onset: Option<Timestamp>,
    /// Its numbers.
    pub evidence: Vec<Evidence>,
    /// One sentence for people, with the numbers.
    pub sentence: String,
    /// The cause that explains it; an explained symptom matches no rung.
    pub explained_by: Option<Name>,
}

impl Finding {
    /// Whether a rung may answer it: a root, and not merely advice.
    #[must_use]
    pub fn is_actionable_root(&self) -> bool {
        !self.advice && self.explained_by.is_none()
    }
}
