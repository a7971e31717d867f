//! What must have come to an end once the world is quiet.

use jiff::Timestamp;

use super::{Checker, Timeline};
use crate::model::{Phase, UndoState, duration::human, elapsed, later};

impl Checker {
    /// No more facts follow. What has to come to an end is only judged if the world has been quiet for long enough.
    pub fn finish(&mut self, at: Timestamp) {
        let Some(quiet) = self.quiet_since else { return };
        let settled = later(quiet, self.tolerance.settle);
        if at < settled {
            return;
        }
        let lasted = human(elapsed(at, quiet));
        let mut found: Vec<(&'static str, String)> = Vec::new();
        for ((_, name), intent) in &self.intents {
            let status = &intent.stored.status;
            match status.phase {
                Phase::AwaitingApproval | Phase::Admitted | Phase::Executing | Phase::Verifying => {
                    found.push(("S4", format!("{name} is still {} after {lasted} of quiet", status.phase)));
                }
                Phase::Completed
                | Phase::Denied
                | Phase::Expired
                | Phase::Refused
                | Phase::Failed
                | Phase::DryRun
                | Phase::OutcomeUnknown => {}
            }
            if status.undo.as_ref().is_some_and(|undo| undo.state == UndoState::Pending) {
                found.push(("L4", format!("{name} still owes its undo after {lasted} of quiet")));
            }
            if intent.stored.deleting {
                found.push(("L4", format!("{name} is still being deleted after {lasted} of quiet")));
            }
        }
        for (_, name) in &self.open {
            found.push(("L2", format!("incident {name} is still open after {lasted} of quiet")));
        }
        if let Some((written, what)) = self.last_write.clone().filter(|(written, _)| *written > settled) {
            let since = human(elapsed(written, quiet));
            found.push(("L1", format!("{what} was written {since} into the quiet")));
        }
        for (id, message) in found {
            self.violated(id, at, message);
        }
    }

    /// The policies that exist, for those who tell facts: how many there are.
    #[must_use]
    pub fn policies(&self) -> usize {
        self.policies.values().filter_map(Timeline::last).flatten().count()
    }
}
