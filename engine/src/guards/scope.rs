//! `Scope`: one slow view is not cured by more of everything.

use super::{Context, Guard, PROPOSE_AND_GATE, touches_workload};
use crate::model::Scope;

pub(super) const GUARD: Guard = Guard {
    name: "Scope",
    refuses: "capacity unless the whole target is slow: when only single views are, or when it is not known (no source counts views)",
    stages: PROPOSE_AND_GATE,
    applies: touches_workload,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    let (_, situation) = context.view()?;
    let scopes: Vec<&Scope> =
        situation.readings.iter().filter_map(|reading| reading.scope.as_ref()).collect();
    if scopes.contains(&&Scope::SystemWide) {
        return Ok(Scope::SystemWide.to_string());
    }
    // What is known says more than what is not.
    let isolated = scopes.iter().find(|scope| matches!(scope, Scope::Isolated { .. }));
    match isolated.or(scopes.first()) {
        Some(scope) => Err(scope.to_string()),
        None => {
            Err("no latency objective is broken that would show whether the whole target is slow".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::{NoData, NoDataReason};

    fn refusal(scope: Option<Scope>) -> Option<String> {
        let mut setup = Setup::scaling();
        setup.situation.readings[0].scope = scope;
        refused(&setup, GUARD.name, Stage::Gate)
    }

    #[test]
    fn only_slowness_of_the_whole_target_lets_capacity_through() {
        assert_eq!(refusal(Some(Scope::SystemWide)), None);
        let isolated = refusal(Some(Scope::Isolated { views: vec!["report".into()] })).unwrap();
        assert!(isolated.contains("report"), "{isolated}");
        assert!(refusal(Some(Scope::Unknown(NoData::new(NoDataReason::Empty, "no views")))).is_some());
        assert!(refusal(None).is_some());
    }
}
