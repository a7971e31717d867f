//! `LatencyBudget` to the engine's budget. There is no budget that cannot be understood: what this version does not know
//! forbids everything that it could mean.

use engine::model::{ActionKind, Budget, Freeze, FreezeWindow};
use kube::ResourceExt;

use super::variant;
use crate::api::budget as api;
use crate::api::text::Word;

/// The engine's budget.
#[must_use]
pub fn budget(object: &api::LatencyBudget) -> Budget {
    let spec = &object.spec;
    let ceiling = |most: Option<i32>| most.map(|most| u32::try_from(most).unwrap_or(0));
    Budget {
        name: object.name_any(),
        namespaces: spec.namespaces.iter().map(|name| name.0.clone()).collect(),
        per_hour: ceiling(spec.max_actions_per_hour),
        per_hour_and_namespace: ceiling(spec.max_actions_per_hour_and_namespace),
        concurrent: ceiling(spec.max_concurrent),
        // An action that this version does not know, it does not carry out either.
        denied: spec.denied_actions.iter().filter_map(|word| variant(&word.0)).collect(),
        freeze: freeze(&spec.freeze),
        windows: spec
            .freeze_windows
            .iter()
            .map(|window| FreezeWindow {
                from: window.from.0,
                until: window.until.0,
                freeze: freeze(&window.freeze),
            })
            .collect(),
    }
}

/// Words among its denied actions that name no action of this version: of a later one, or misspelt.
#[must_use]
pub fn unknown_actions(object: &api::LatencyBudget) -> Vec<&str> {
    let known = |word: &&Word| variant::<ActionKind>(&word.0).is_some();
    object.spec.denied_actions.iter().filter(|word| !known(word)).map(|word| word.0.as_str()).collect()
}

fn freeze(word: &Word) -> Freeze {
    variant(&word.0).unwrap_or(Freeze::All)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_forbids() {
        let budget_of = |spec: serde_json::Value| {
            let object = json!({"metadata": {"name": "night"}, "spec": spec});
            budget(&serde_json::from_value(object).unwrap())
        };
        let plain = budget_of(json!({}));
        assert_eq!((plain.freeze, plain.per_hour, plain.applies("anywhere")), (Freeze::None, None, true));
        let known =
            budget_of(json!({"freeze": "New", "maxActionsPerHour": 3, "deniedActions": ["Rollback"]}));
        assert_eq!((known.freeze, known.per_hour, known.denied.len()), (Freeze::New, Some(3), 0));
        assert_eq!(budget_of(json!({"freeze": "Sometimes"})).freeze, Freeze::All);
        assert_eq!(budget_of(json!({"maxConcurrent": -1})).concurrent, Some(0));
    }

    #[test]
    fn a_window_may_last_for_ever() {
        let read = |until: &str| {
            let window = json!({"from": "2026-12-24T00:00:00Z", "until": until});
            serde_json::from_value::<api::LatencyBudget>(
                json!({"metadata": {"name": "n"}, "spec": {"freezeWindows": [window]}}),
            )
        };
        let year_3000: jiff::Timestamp = "3000-01-01T00:00:00Z".parse().unwrap();
        for until in ["9999-12-31T23:59:59Z", "9999-12-31T00:00:00.5+14:00", "9999-12-30T22:00:00Z"] {
            let budget = budget(&read(until).unwrap());
            assert_eq!(budget.frozen(year_3000), Freeze::New, "{until}");
        }
        assert_eq!(budget(&read("2999-01-01T00:00:00Z").unwrap()).frozen(year_3000), Freeze::None);
        for until in ["never", "9999-12-31", "9999-12-31T23:59:59", "10000-01-01T00:00:00Z", ""] {
            assert!(read(until).is_err(), "{until}");
        }
    }
}
