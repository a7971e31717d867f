//! `StillBreached`: the breach has lasted for `breachFor` before this process's eyes, and lasts still.

use super::{Context, Guard, PROPOSE_AND_GATE, always};
use crate::model::Overall;
use crate::model::duration::human;

pub(super) const GUARD: Guard = Guard {
    name: "StillBreached",
    refuses: "unless the newest readings say Breached and have done so for `breachFor`; time without data does not count",
    stages: PROPOSE_AND_GATE,
    applies: always,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    #[cfg(planted_bugs)]
    if crate::planted::is("no_still_breached") {
        return Ok("planted".to_owned());
    }
    let (snapshot, situation) = context.view()?;
    match situation.overall {
        Overall::Breached(_) => {}
        Overall::Healthy => return Err("the objectives are kept again".to_owned()),
        Overall::NoData => return Err("whether the objectives are broken is not known".to_owned()),
    }
    let counted = situation.breach.map(|breach| breach.counted).unwrap_or_default();
    let needed = snapshot.policy.evaluation.breach_for;
    let numbers = format!("breached for {} of {}", human(counted), human(needed));
    if counted >= needed { Ok(numbers) } else { Err(numbers) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;

    #[test]
    fn only_a_breach_that_lasted_and_lasts_passes() {
        let mut setup = Setup::acting();
        assert_eq!(refused(&setup, GUARD.name, Stage::Gate), None);
        setup.situation.breach.as_mut().unwrap().counted = Duration::from_secs(2);
        assert_eq!(refused(&setup, GUARD.name, Stage::Gate).as_deref(), Some("breached for 2s of 3s"));
        for overall in [Overall::Healthy, Overall::NoData] {
            let mut setup = Setup::acting();
            setup.situation.overall = overall;
            assert!(refused(&setup, GUARD.name, Stage::Gate).is_some());
        }
    }
}
