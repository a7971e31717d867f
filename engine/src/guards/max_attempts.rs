//! `MaxAttempts`: what has not helped three times is a matter for people.

use super::{Context, Guard, PROPOSE_AND_GATE, always};

pub(super) const GUARD: Guard = Guard {
    name: "MaxAttempts",
    refuses: "when the incident has used up `maxAttemptsPerIncident`; every LatencyRemediation that is no dry run counts",
    stages: PROPOSE_AND_GATE,
    applies: always,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    let (snapshot, _) = context.view()?;
    let own = context.candidate.object_name();
    let used = snapshot
        .remediations
        .iter()
        .filter(|known| {
            known.spec.incident == context.candidate.incident && !known.spec.dry_run && known.name != own
        })
        .count();
    let most = snapshot.policy.guards.max_attempts_per_incident;
    let numbers = format!("{used} of {most} attempts of this incident are used");
    if u32::try_from(used).is_ok_and(|used| used < most) { Ok(numbers) } else { Err(numbers) }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;

    #[test]
    fn attempts_are_counted_dry_runs_and_oneself_are_not() {
        let mut setup = Setup::acting();
        setup.snapshot.policy.guards.max_attempts_per_incident = 2;
        let mut earlier = setup.remediation();
        earlier.name = "earlier".into();
        setup.snapshot.remediations = vec![setup.remediation(), earlier.clone()];
        assert_eq!(refused(&setup, GUARD.name, Stage::Propose), None);
        let mut dry = earlier.clone();
        dry.name = "dry".into();
        dry.spec.dry_run = true;
        setup.snapshot.remediations.push(dry);
        assert_eq!(refused(&setup, GUARD.name, Stage::Propose), None);
        earlier.name = "another".into();
        setup.snapshot.remediations.push(earlier);
        let message = refused(&setup, GUARD.name, Stage::Propose);
        assert_eq!(message.as_deref(), Some("2 of 2 attempts of this incident are used"));
    }
}
