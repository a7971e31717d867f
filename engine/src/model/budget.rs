//! Ceilings over all policies: the administrator's, and the ones that are built in.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ActionKind;

/// What is forbidden while a budget is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Freeze {
    /// Nothing.
    None,
    /// To begin anything; what was done is still taken back.
    New,
    /// Everything.
    All,
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A span of time in which a budget is frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeWindow {
    /// Its first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
    /// What is forbidden in it.
    pub freeze: Freeze,
}

/// A LatencyBudget: an administrator's ceiling over all policies of some namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Its name.
    pub name: String,
    /// The namespaces that it is about; empty means all.
    pub namespaces: Vec<String>,
    /// Acts in any 60 minutes, over all of its namespaces.
    pub per_hour: Option<u32>,
    /// Acts in any 60 minutes in each of its namespaces.
    pub per_hour_and_namespace: Option<u32>,
    /// Open remediations at one time, over all of its namespaces.
    pub concurrent: Option<u32>,
    /// Actions that are not carried out in its namespaces.
    pub denied: Vec<ActionKind>,
    /// What is forbidden now.
    pub freeze: Freeze,
    /// What is forbidden when.
    pub windows: Vec<FreezeWindow>,
}

impl Budget {
    /// Whether it is about that namespace.
    #[must_use]
    pub fn applies(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|own| own == namespace)
    }

    /// What is forbidden at `now`.
    #[must_use]
    pub fn frozen(&self, now: Timestamp) -> Freeze {
        let windows = self.windows.iter().filter(|window| window.from <= now && now < window.until);
        windows.map(|window| window.freeze).fold(self.freeze, Freeze::max)
    }
}

/// Ceilings over all policies. A built-in one holds where no budget of the namespace sets its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Open remediations at one time.
    pub concurrent: u32,
    /// Acts in any 60 minutes.
    pub per_hour: u32,
    /// Acts in any 60 minutes in one namespace.
    pub per_hour_and_namespace: u32,
    /// All LatencyBudgets.
    pub budgets: Vec<Budget>,
    /// Why they are not all known, if they are not: then nothing is begun.
    pub unreadable: Option<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { concurrent: 3, per_hour: 20, per_hour_and_namespace: 6, budgets: Vec::new(), unreadable: None }
    }
}
