//! How long what was done is kept: as history for people, and as long as any window counts it.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{LONGEST_COOLDOWN, Phase, Remediation, elapsed};

/// Without a policy there is no history limit; so long people may still want to read what was done.
const ORPHANED: Duration = Duration::from_secs(7 * 24 * 3600);
/// What did nothing (a dry run, a refusal) counts in no window but its incident's.
const IDLE: Duration = Duration::from_secs(3600);

/// Which of a policy's remediations may be removed, oldest first: all but the newest `keep` (without a policy, `None`: those
/// that are older than 7 days), if no window counts them any more, if they are over, and if they owe nothing.
#[must_use]
pub fn expired<'a>(
    remediations: &'a [Remediation],
    keep: Option<usize>,
    open_incident: Option<&str>,
    now: Timestamp,
) -> Vec<&'a Remediation> {
    let mut all: Vec<&Remediation> = remediations.iter().collect();
    all.sort_by_key(|remediation| std::cmp::Reverse((remediation.created_at, remediation.name.clone())));
    let mut expired: Vec<&Remediation> = all
        .into_iter()
        .skip(keep.unwrap_or(0))
        .filter(|remediation| keep.is_some() || age(remediation, now) >= ORPHANED)
        .filter(|remediation| Some(remediation.spec.incident.as_str()) != open_incident)
        .filter(|remediation| may_go(remediation, now))
        .collect();
    expired.reverse();
    expired
}

/// Whether nothing needs it any more.
#[must_use]
pub fn may_go(remediation: &Remediation, now: Timestamp) -> bool {
    let did_nothing =
        matches!(remediation.status.phase, Phase::DryRun | Phase::Refused | Phase::Denied | Phase::Expired);
    let counted = if did_nothing { IDLE } else { LONGEST_COOLDOWN };
    #[cfg(planted_bugs)]
    let counted = if crate::planted::is("history_removed_at_once") { Duration::ZERO } else { counted };
    let over = remediation.status.phase.is_terminal();
    over && !remediation.owes() && !remediation.held && age(remediation, now) >= counted
}

/// Since the last thing that happened to it.
fn age(remediation: &Remediation, now: Timestamp) -> Duration {
    let status = &remediation.status;
    let undone = status.undo.as_ref().and_then(|undo| undo.stepped_at);
    let last = [remediation.may_have_acted_at(), status.completed_at, undone].into_iter().flatten().max();
    elapsed(now, last.unwrap_or(remediation.created_at).max(remediation.created_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::testing::Setup;
    use crate::model::{UndoState, earlier};

    const HOUR: Duration = Duration::from_secs(3600);

    fn done(setup: &Setup, name: &str, hours: u32) -> Remediation {
        let mut done = setup.remediation();
        done.name = name.into();
        done.held = false;
        done.spec.incident = format!("incident-of-{name}");
        done.created_at = earlier(setup.now, HOUR * hours);
        done.status.phase = Phase::Completed;
        done.status.acted_at = Some(done.created_at);
        done
    }

    fn names(all: &[Remediation], keep: Option<usize>, setup: &Setup) -> Vec<String> {
        expired(all, keep, Some("incident-of-open"), setup.now).iter().map(|gone| gone.name.clone()).collect()
    }

    #[test]
    fn the_newest_stay_and_what_a_window_counts_stays_too() {
        let setup = Setup::acting();
        let all =
            [done(&setup, "a", 100), done(&setup, "b", 50), done(&setup, "c", 23), done(&setup, "d", 1)];
        assert_eq!(names(&all, Some(1), &setup), ["a", "b"]);
        assert_eq!(names(&all, Some(3), &setup), ["a"]);
        assert_eq!(names(&all, Some(20), &setup), Vec::<String>::new());
    }

    #[test]
    fn what_is_open_owed_held_or_of_the_open_incident_stays() {
        let setup = Setup::scaling();
        let mut owed = done(&setup, "owed", 900);
        owed.status.undo = Some(setup.owed(UndoState::Pending));
        let mut held = done(&setup, "held", 900);
        held.held = true;
        let mut running = done(&setup, "running", 900);
        running.status.phase = Phase::Executing;
        let all = [owed, held, running, done(&setup, "open", 900), done(&setup, "old", 900)];
        assert_eq!(names(&all, Some(0), &setup), ["old"]);
        assert_eq!(names(&all, None, &setup), ["old"]);
    }

    #[test]
    fn without_a_policy_a_week_and_what_did_nothing_an_hour() {
        let setup = Setup::acting();
        let mut dry = done(&setup, "dry", 2);
        (dry.status.phase, dry.status.acted_at) = (Phase::DryRun, None);
        let all = [done(&setup, "week", 7 * 24), done(&setup, "six-days", 6 * 24), dry];
        assert_eq!(names(&all, None, &setup), ["week"]);
        assert_eq!(names(&all, Some(0), &setup), ["week", "six-days", "dry"]);
    }
}
