//! Ceilings over all policies: the administrator's, and the ones that are built in.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ActionKind, Mode, Shared};

/// What is forbidden while a budget is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Freeze {
    /// Nothing.
    None,
    /// To begin an action; rollbacks still run.
    Actions,
    /// Rollbacks as well.
    ActionsAndRollbacks,
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

/// The namespaces of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// Every namespace.
    All,
    /// Every namespace but these, whose labels are known not to match. A namespace of unknown labels is not among them.
    AllBut(Shared<BTreeSet<String>>),
    /// Every namespace, because the selector cannot be understood: the budget forbids, and lifts nothing that is built in.
    Unclear,
}

/// The highest mode in which an action may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxMode {
    /// The action.
    pub action: ActionKind,
    /// The highest mode.
    pub mode: Mode,
}

/// A RemediationBudget: an administrator's ceiling over all policies of some namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Its name.
    pub name: String,
    /// Its namespaces.
    pub reach: Reach,
    /// Actions in any 60 minutes, over all of its namespaces.
    pub per_hour: Option<u32>,
    /// Open remediations at one time, over all of its namespaces.
    pub concurrent: Option<u32>,
    /// Actions in any 60 minutes in each of its namespaces.
    pub namespace_per_hour: Option<u32>,
    /// Open remediations at one time in each of its namespaces.
    pub namespace_concurrent: Option<u32>,
    /// Actions that never run in its namespaces.
    pub denied: Vec<ActionKind>,
    /// The highest modes that it permits in its namespaces.
    pub max_modes: Vec<MaxMode>,
    /// What is forbidden now.
    pub freeze: Freeze,
    /// What is forbidden when.
    pub windows: Vec<FreezeWindow>,
}

impl Budget {
    /// A budget of all namespaces that forbids nothing.
    #[must_use]
    pub fn unlimited(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reach: Reach::All,
            per_hour: None,
            concurrent: None,
            namespace_per_hour: None,
            namespace_concurrent: None,
            denied: Vec::new(),
            max_modes: Vec::new(),
            freeze: Freeze::None,
            windows: Vec::new(),
        }
    }

    /// Whether that namespace is one of its own.
    #[must_use]
    pub fn applies(&self, namespace: &str) -> bool {
        match &self.reach {
            Reach::All | Reach::Unclear => true,
            Reach::AllBut(others) => !others.contains(namespace),
        }
    }

    /// Whether its ceilings over all of its namespaces replace those that are built in for the cluster.
    pub(crate) fn replaces_cluster_ceilings(&self) -> bool {
        self.reach == Reach::All
    }

    /// Whether its ceilings for each namespace replace those that are built in.
    pub(crate) fn replaces_namespace_ceilings(&self) -> bool {
        self.reach != Reach::Unclear
    }

    /// The highest mode in which `action` may run, where it says one. Of two the lower holds.
    #[must_use]
    pub fn max_mode(&self, action: ActionKind) -> Option<Mode> {
        self.max_modes.iter().filter(|ceiling| ceiling.action == action).map(|ceiling| ceiling.mode).min()
    }

    /// What is forbidden at `now`.
    #[must_use]
    pub fn frozen(&self, now: Timestamp) -> Freeze {
        let windows = self.windows.iter().filter(|window| window.from <= now && now < window.until);
        windows.map(|window| window.freeze).fold(self.freeze, Freeze::max)
    }
}

/// How much of a budget is used at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetUsage {
    /// Actions in the last 60 minutes, over all of its namespaces. An open remediation that has not acted yet counts.
    pub actions: u32,
    /// Open remediations, over all of its namespaces.
    pub open: u32,
    /// What is forbidden.
    pub frozen: Freeze,
}

/// Ceilings over all policies. A built-in one holds where no budget of the namespace sets its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Open remediations at one time.
    pub concurrent: u32,
    /// Actions in any 60 minutes.
    pub per_hour: u32,
    /// Actions in any 60 minutes in one namespace.
    pub namespace_per_hour: u32,
    /// All RemediationBudgets.
    pub budgets: Vec<Budget>,
    /// Why they are not all known, if they are not: then nothing is begun.
    pub unreadable: Option<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { concurrent: 3, per_hour: 20, namespace_per_hour: 6, budgets: Vec::new(), unreadable: None }
    }
}
