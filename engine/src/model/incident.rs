//! A breach episode, as the API server holds it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{PolicyRef, Severity, elapsed};

/// The open incident of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Its name.
    pub name: String,
    /// Its number within the policy.
    pub ordinal: u64,
    /// The first Breached reading of the episode.
    pub first_breached_at: Timestamp,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The worst severity so far.
    pub severity: Severity,
    /// How often it was opened again. The instants above are those of the last time.
    pub reopened: u32,
}

/// The last incident of a policy that has none open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedIncident {
    /// As it was.
    pub incident: Incident,
    /// When it was closed.
    pub at: Timestamp,
}

impl ClosedIncident {
    /// A breach so soon after the end is the same trouble come back: what was tried before counts on.
    pub const REOPENED_WITHIN: Duration = Duration::from_secs(30 * 60);
    /// For so long after its end, whoever begins to look after it makes sure that it stays closed: an earlier leader may have been
    /// paused just as it was going to open it again. The hour beyond [`Self::REOPENED_WITHIN`] is for a time without any leader.
    pub const CONFIRMED_WITHIN: Duration = Duration::from_secs(90 * 60);

    /// Whether a breach at `now` belongs to it.
    #[must_use]
    pub fn goes_on(&self, now: Timestamp) -> bool {
        elapsed(now, self.at) < Self::REOPENED_WITHIN
    }

    /// Whether, by `now`, somebody may still be about to open it again.
    #[must_use]
    pub fn may_be_opened_again(&self, now: Timestamp) -> bool {
        elapsed(now, self.at) < Self::CONFIRMED_WITHIN
    }
}

impl Incident {
    /// The name of a policy's n-th incident: `<policy, at most 48>-<first 8 of its uid>-<n>`, so that a policy that is
    /// deleted and created again does not meet its predecessor's incidents.
    #[must_use]
    pub fn name_of(policy: &PolicyRef, ordinal: u64) -> String {
        let name: String = policy.name.chars().take(48).collect();
        // A name's parts between dots end with a letter or a digit.
        let name = name.trim_end_matches(['.', '-']);
        let uid: String = policy.uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        format!("{name}-{uid}-{ordinal}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_at_most_48_characters_of_the_policys() {
        let name = |policy: &str| {
            let uid = "a9ed27c2-1111-2222".into();
            Incident::name_of(&PolicyRef { namespace: "shop".into(), name: policy.into(), uid }, 7)
        };
        assert_eq!(name("orders-api"), "orders-api-a9ed27c2-7");
        assert_eq!(name(&"x".repeat(63)), format!("{}-a9ed27c2-7", "x".repeat(48)));
        assert_eq!(name(&format!("{}-api", "x".repeat(47))), format!("{}-a9ed27c2-7", "x".repeat(47)));
    }
}
