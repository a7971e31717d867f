//! Guards that are taken away on purpose, so that the simulation can show that it misses them.

use super::{Fact, GuardName, GuardVerdict, Ruling, leadership};
use crate::planted::is;

/// What a guard says where it lets through whatever it should refuse.
pub(super) fn without_guard(verdict: GuardVerdict) -> GuardVerdict {
    let GuardVerdict { guard, ruling } = verdict;
    let lets_through = match (guard, ruling.fact()) {
        (GuardName::Cooldown, _) => is("no_cooldown"),
        (GuardName::Budget, _) => is("no_budget"),
        (GuardName::Paused, _) => is("no_paused"),
        (GuardName::StillBreached, _) => is("no_still_breached"),
        (GuardName::TargetConflict, _) => is("no_target_conflict"),
        (GuardName::Ownership, _) => is("no_ownership"),
        (GuardName::Leadership, Fact::Leadership(leadership::Fact::Uninstalling { .. })) => is("no_draining"),
        _ => false,
    };
    let ruling = if lets_through { Ruling::Pass(ruling.fact().clone()) } else { ruling };
    GuardVerdict { guard, ruling }
}
