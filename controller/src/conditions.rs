//! Condition types and reasons, and the one way to set a condition. No other place has these strings.

use engine::model::NoDataReason;
use jiff::Timestamp;

/// Condition types of a policy and of an incident.
pub mod types {
    /// The policy is accepted, permitted, and what it refers to is there. A breach does not make it False.
    pub const READY: &str = "Ready";
    /// Every objective and every dependency can be read.
    pub const DATA_AVAILABLE: &str = "DataAvailable";
    /// The objectives are kept.
    pub const WITHIN_OBJECTIVE: &str = "WithinObjective";
    /// The operator would act, if a cause were found.
    pub const REMEDIATION_ALLOWED: &str = "RemediationAllowed";
    /// Nothing can be done before the policy, or the operator's configuration, is changed. Present only while it is True.
    pub const STALLED: &str = "Stalled";
    /// An incident: it is closed.
    pub const RESOLVED: &str = "Resolved";
}

/// Why a policy is stalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stalled {
    /// The policy asks for something that this version cannot do, or cannot understand.
    InvalidSpec,
    /// A rung asks for an action that is switched off in the operator's configuration.
    ActionDisabled,
    /// The stored object cannot be decoded.
    Undecodable,
}

impl Stalled {
    /// Each of them, with when it is said and who mends it: the table of `docs/policy.md`.
    pub const ALL: [(Self, &str); 3] = [
        (
            Self::InvalidSpec,
            "the policy asks for something that this version does not know or cannot do; change the field that the message names",
        ),
        (
            Self::ActionDisabled,
            "a remediation asks for an action that is switched off in the operator's configuration; remove it, or have the \
             administrator switch the action on, and it goes on by itself",
        ),
        (
            Self::Undecodable,
            "the stored object is not what the schema says, as after a definition was changed by hand; write it anew",
        ),
    ];

    /// The reason, in one CamelCase word.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::InvalidSpec => "InvalidSpec",
            Self::ActionDisabled => "ActionDisabled",
            Self::Undecodable => "Undecodable",
        }
    }
}

/// What a condition says besides why something could not be read ([`NoDataReason`]) and why a policy is [`Stalled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saying {
    /// The condition's type.
    pub r#type: &'static str,
    /// Its value.
    pub status: Status,
    /// Why, in one CamelCase word.
    pub reason: &'static str,
}

macro_rules! sayings {
    ($($constant:ident, $type:ident, $status:ident, $reason:literal, $when:literal;)+) => {
        $(#[doc = $when] pub const $constant: Saying =
            Saying { r#type: types::$type, status: Status::$status, reason: $reason };)+
        /// All of them; `docs/operating.md` says of each what to do.
        pub const SAYINGS: &[Saying] = &[$($constant),+];
    };
}

sayings! {
    ACCEPTED, READY, True, "Accepted", "It is being watched; what is wanting stands in the message.";
    TARGET_NOT_FOUND, READY, False, "TargetNotFound", "The target is not there.";
    TARGET_UNAVAILABLE, READY, False, "TargetUnavailable", "The target cannot be read.";
    NO_BACKEND, READY, False, "NoBackend", "An objective names a backend that there is not.";
    PARTLY_UNKNOWN, READY, False, "PartlyUnknown", "A part of the policy is unknown to this version and is passed over.";
    READABLE, DATA_AVAILABLE, True, "Readable", "Every objective and dependency can be read.";
    PARTIAL, DATA_AVAILABLE, False, "Partial", "A database can be read in part only.";
    NOT_ALL_READ, DATA_AVAILABLE, Unknown, "NotYetRead", "Not every objective and dependency has been read yet.";
    KEPT, WITHIN_OBJECTIVE, True, "Kept", "The objectives are kept.";
    INCIDENT_OPEN, WITHIN_OBJECTIVE, False, "IncidentOpen", "An incident is open.";
    NONE_JUDGED, WITHIN_OBJECTIVE, Unknown, "NotYetRead", "No objective has been read yet.";
    AUTO, REMEDIATION_ALLOWED, True, "Auto", "What the guards let through is done.";
    PAUSED, REMEDIATION_ALLOWED, False, "Paused", "Policy, target or namespace are paused.";
    OPTED_OUT, REMEDIATION_ALLOWED, False, "OptedOut", "The target's owner wants nothing done.";
    NO_REMEDIATIONS, REMEDIATION_ALLOWED, False, "NoRemediations", "The policy has no remediations.";
    OBSERVE_ONLY, REMEDIATION_ALLOWED, False, "ObserveOnly", "Every remediation is in mode Observe.";
}

/// Reasons for which a dependency is not merely unreadable: somebody has to mend what the policy refers to, and it is not
/// `Ready` until then.
#[must_use]
pub fn must_be_mended(reason: NoDataReason) -> bool {
    matches!(
        reason,
        NoDataReason::SecretNotFound
            | NoDataReason::SecretNotAllowed
            | NoDataReason::SecretInvalid
            | NoDataReason::AuthenticationFailed
            | NoDataReason::UnsupportedVersion
            | NoDataReason::PermissionDenied
            | NoDataReason::TlsFailed
    )
}

/// The three values of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `True`
    True,
    /// `False`
    False,
    /// `Unknown`
    Unknown,
}

impl Status {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its type.
    pub r#type: &'static str,
    /// Its value.
    pub status: Status,
    /// Why, in one CamelCase word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

impl Said {
    /// A condition.
    pub fn new(
        r#type: &'static str,
        status: Status,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { r#type, status, reason: reason.into(), message: message.into() }
    }

    /// One of [`SAYINGS`].
    pub fn of(saying: Saying, message: impl Into<String>) -> Self {
        Self::new(saying.r#type, saying.status, saying.reason, message)
    }
}

/// A condition as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionReport {
    /// Its type.
    pub r#type: String,
    /// Its value: `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one CamelCase word.
    pub reason: String,
    /// Why, in a sentence of at most 1024 characters.
    pub message: String,
    /// The generation of the spec that it is about.
    pub observed_generation: Option<i64>,
    /// When its value changed last, to the second.
    pub since: Timestamp,
}

/// The conditions as they are to be written. The transition time moves only with the status, and is kept to the second, as
/// the API server keeps it: otherwise every comparison would see a change.
#[must_use]
pub fn write(
    before: &[ConditionReport],
    said: Vec<Said>,
    generation: i64,
    now: Timestamp,
) -> Vec<ConditionReport> {
    said.into_iter()
        .map(|said| {
            let known = before.iter().find(|condition| condition.r#type == said.r#type);
            let same_status = known.filter(|condition| condition.status == said.status.text());
            ConditionReport {
                r#type: said.r#type.to_owned(),
                status: said.status.text().to_owned(),
                reason: said.reason,
                message: said.message.chars().take(1024).collect(),
                observed_generation: Some(generation),
                since: same_status.map_or_else(|| to_the_second(now), |condition| condition.since),
            }
        })
        .collect()
}

/// An instant as the API server keeps it in a condition.
pub(crate) fn to_the_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
