//! `RemediationBudget` to the engine's budget. Every budget can be understood: what this version does not know forbids
//! everything that it could mean.

use std::collections::BTreeMap;

use engine::actions::ACTIONS;
use engine::model::{ActionKind, Budget, Freeze, FreezeWindow, MaxMode, Mode, Reach};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use super::{Problem, Reader};
use crate::api::budget::{self as api, FREEZES, MODES, OPERATORS};
use crate::api::text::Word;
use crate::api::unions::listed;

/// The labels of namespaces, by the namespace's name.
pub type NamespaceLabels = BTreeMap<String, BTreeMap<String, String>>;

/// A budget before its namespaces are known.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectingBudget {
    /// The budget. Its reach is that of a selector of which no namespace's labels are known.
    budget: Budget,
    /// Selects its namespaces; nothing where it applies to all.
    selector: Option<Selector>,
    /// Each part that this version does not know, with the field's path.
    pub problems: Vec<Problem>,
}

impl SelectingBudget {
    /// Whether the labels of namespaces decide where it applies.
    #[must_use]
    pub fn selects(&self) -> bool {
        self.selector.is_some()
    }

    /// `budget`, which [`Self::among`] has answered, where the labels of one namespace are these. A namespace of unknown labels
    /// counts as selected.
    #[must_use]
    pub fn adjusted(
        &self,
        mut budget: Budget,
        namespace: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Budget {
        if let (Some(selector), Reach::AllBut(others)) = (&self.selector, &mut budget.reach) {
            if labels.is_none_or(|labels| selector.matches(labels)) {
                others.remove(namespace);
            } else {
                others.insert(namespace.to_owned());
            }
        }
        budget
    }

    /// The engine's budget, where namespaces have these labels.
    #[must_use]
    pub fn among(&self, namespaces: &NamespaceLabels) -> Budget {
        let Some(selector) = &self.selector else { return self.budget.clone() };
        let others = namespaces.iter().filter(|(_, labels)| !selector.matches(labels));
        let reach = Reach::AllBut(others.map(|(name, _)| name.clone()).collect());
        Budget { reach, ..self.budget.clone() }
    }
}

/// What a budget asks for.
#[must_use]
pub fn budget(object: &api::RemediationBudget) -> SelectingBudget {
    let (spec, mut reader) = (&object.spec, Reader::default());
    let ceiling = |most: Option<i32>| most.map(|most| u32::try_from(most).unwrap_or(0));
    let (selector, reach) = match &spec.namespace_selector {
        None => (None, Reach::All),
        Some(selector) => match understood(selector, &mut reader) {
            Some(selector) if selector.selects_all() => (None, Reach::All),
            Some(selector) => (Some(selector), Reach::AllBut(std::iter::empty().collect())),
            None => (None, Reach::Unclear),
        },
    };
    let per_namespace = spec.per_namespace.clone().unwrap_or_default();
    let denied = spec.denied_actions.iter().enumerate();
    // An action that this version does not know, it does not run either.
    let denied =
        denied.filter_map(|(at, word)| action(&mut reader, &format!("spec.deniedActions[{at}]"), word));
    let denied = denied.collect();
    let budget = Budget {
        name: object.name_any(),
        reach,
        per_hour: ceiling(spec.max_actions_per_hour),
        concurrent: ceiling(spec.max_concurrent),
        namespace_per_hour: ceiling(per_namespace.max_actions_per_hour),
        namespace_concurrent: ceiling(per_namespace.max_concurrent),
        denied,
        max_modes: max_modes(&spec.max_mode, &mut reader),
        freeze: freeze(&mut reader, "spec.freeze.type", &spec.freeze.r#type),
        windows: windows(&spec.freeze_windows, &mut reader),
    };
    SelectingBudget { budget, selector, problems: reader.problems() }
}

/// The selector, unless it cannot be understood.
fn understood(selector: &api::NamespaceSelector, reader: &mut Reader) -> Option<Selector> {
    let mut clear = true;
    for (at, requirement) in selector.match_expressions.iter().enumerate() {
        let path = format!("spec.namespaceSelector.matchExpressions[{at}]");
        let operator = requirement.operator.0.as_str();
        if !OPERATORS.contains(&operator) {
            let message = format!("this version does not know {operator}; it knows {}", listed(OPERATORS));
            reader.problem(format!("{path}.operator"), message);
            clear = false;
        } else if ["In", "NotIn"].contains(&operator) == requirement.values.is_empty() {
            reader
                .problem(format!("{path}.values"), "In and NotIn need values, the other operators have none");
            clear = false;
        }
    }
    let requirement = |requirement: &api::LabelRequirement| LabelSelectorRequirement {
        key: requirement.key.clone(),
        operator: requirement.operator.0.clone(),
        values: Some(requirement.values.clone()).filter(|values| !values.is_empty()),
    };
    let selector = LabelSelector {
        match_labels: Some(selector.match_labels.clone()),
        match_expressions: Some(selector.match_expressions.iter().map(requirement).collect()),
    };
    Selector::try_from(selector).ok().filter(|_| clear)
}

fn action(reader: &mut Reader, path: &str, word: &Word) -> Option<ActionKind> {
    let known: Vec<String> = ACTIONS.iter().map(|line| line.kind.to_string()).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    reader.one_of(path, word, &known)
}

fn max_modes(all: &[api::MaxMode], reader: &mut Reader) -> Vec<MaxMode> {
    let mut understood = Vec::new();
    for (at, max) in all.iter().enumerate() {
        let path = format!("spec.maxMode[{at}]");
        let mode = reader.one_of(&format!("{path}.mode"), &max.mode, MODES).unwrap_or(Mode::Observe);
        let action = action(reader, &format!("{path}.action"), &max.action);
        understood.extend(action.map(|action| MaxMode { action, mode }));
    }
    understood
}

fn windows(all: &[api::FreezeWindow], reader: &mut Reader) -> Vec<FreezeWindow> {
    let window = |(at, window): (usize, &api::FreezeWindow)| FreezeWindow {
        from: window.from.0,
        until: window.until.0,
        freeze: freeze(reader, &format!("spec.freezeWindows[{at}].type"), &window.r#type),
    };
    all.iter().enumerate().map(window).collect()
}

fn freeze(reader: &mut Reader, path: &str, word: &Word) -> Freeze {
    reader.one_of(path, word, FREEZES).unwrap_or(Freeze::ActionsAndRollbacks)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: &Value) -> SelectingBudget {
        let object = json!({"metadata": {"name": "night"}, "spec": spec});
        budget(&serde_json::from_value(object).unwrap())
    }

    fn problems(spec: &Value) -> Vec<String> {
        read(spec).problems.iter().map(ToString::to_string).collect()
    }

    fn labels() -> NamespaceLabels {
        let of = |tier: &str| BTreeMap::from([("tier".to_owned(), tier.to_owned())]);
        BTreeMap::from([("shop".to_owned(), of("production")), ("web".to_owned(), of("test"))])
    }

    #[test]
    fn what_is_known_is_understood() {
        let plain = read(&json!({})).among(&labels());
        assert_eq!(plain, Budget::unlimited("night"));
        let spec = json!({
            "maxActionsPerHour": 20, "maxConcurrent": -1, "perNamespace": {"maxActionsPerHour": 6, "maxConcurrent": 2},
            "deniedActions": ["TerminateIdle"], "maxMode": [{"action": "Scale", "mode": "Approve"}],
            "freeze": {"type": "Actions"},
        });
        assert_eq!(problems(&spec), [""; 0]);
        let max = MaxMode { action: ActionKind::Scale, mode: Mode::Approve };
        let wanted = Budget {
            per_hour: Some(20),
            concurrent: Some(0),
            namespace_per_hour: Some(6),
            namespace_concurrent: Some(2),
            denied: vec![ActionKind::TerminateIdle],
            max_modes: vec![max],
            freeze: Freeze::Actions,
            ..Budget::unlimited("night")
        };
        assert_eq!(read(&spec).among(&labels()), wanted);
    }

    #[test]
    fn unknown_words_forbid_and_are_named_with_their_path() {
        let spec = json!({
            "deniedActions": ["Scale", "Restart"],
            "maxMode": [{"action": "Scale", "mode": "Ask"}, {"action": "Restart", "mode": "Auto"}],
            "freeze": {"type": "Sometimes"},
            "freezeWindows": [{"name": "a", "from": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z", "type": "New"}],
        });
        let paths: Vec<String> = read(&spec).problems.iter().map(|problem| problem.path.clone()).collect();
        assert_eq!(
            paths,
            [
                "spec.deniedActions[1]",
                "spec.maxMode[0].mode",
                "spec.maxMode[1].action",
                "spec.freeze.type",
                "spec.freezeWindows[0].type"
            ]
        );
        let budget = read(&spec).among(&labels());
        assert_eq!(
            (budget.freeze, budget.windows[0].freeze),
            (Freeze::ActionsAndRollbacks, Freeze::ActionsAndRollbacks)
        );
        assert_eq!(budget.max_mode(ActionKind::Scale), Some(Mode::Observe));
        assert_eq!(budget.denied, [ActionKind::Scale]);
    }

    #[test]
    fn a_namespace_is_left_out_only_where_its_labels_are_known_not_to_match() {
        let applies = |selector: Value| {
            let budget = read(&json!({"namespaceSelector": selector})).among(&labels());
            ["shop", "web", "new"].map(|namespace| budget.applies(namespace))
        };
        assert_eq!(applies(json!({})), [true; 3]);
        assert_eq!(applies(json!({"matchLabels": {"tier": "production"}})), [true, false, true]);
        for (operator, values, known) in [
            ("In", json!(["test"]), [false, true]),
            ("NotIn", json!(["test"]), [true, false]),
            ("Exists", json!([]), [true, true]),
            ("DoesNotExist", json!([]), [false, false]),
        ] {
            let requirement = json!({"key": "tier", "operator": operator, "values": values});
            let [shop, web] = known;
            assert_eq!(applies(json!({"matchExpressions": [requirement]})), [shop, web, true], "{operator}");
        }
        let budget = read(&json!({"namespaceSelector": {"matchLabels": {"tier": "production"}}}));
        let adjusted = |namespace: &str, labels: Option<&str>| {
            let labels = labels.map(|tier| BTreeMap::from([("tier".to_owned(), tier.to_owned())]));
            budget.adjusted(budget.among(&self::labels()), namespace, labels.as_ref()).applies(namespace)
        };
        assert!(adjusted("web", Some("production")) && adjusted("web", None));
        assert!(!adjusted("shop", Some("test")) && !adjusted("new", Some("test")));
        let labels_and_expressions = json!({
            "matchLabels": {"tier": "production"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["test"]}],
        });
        assert_eq!(applies(labels_and_expressions), [false, false, true]);
    }

    #[test]
    fn a_selector_that_cannot_be_understood_selects_everything() {
        for (requirement, path) in [
            (json!({"key": "tier", "operator": "Like", "values": ["prod"]}), "operator"),
            (json!({"key": "tier", "operator": "In", "values": []}), "values"),
            (json!({"key": "tier", "operator": "Exists", "values": ["production"]}), "values"),
        ] {
            let spec = json!({"namespaceSelector": {"matchLabels": {"tier": "nowhere"}, "matchExpressions": [requirement]}});
            let budget = read(&spec);
            assert_eq!(budget.among(&labels()).reach, Reach::Unclear);
            assert_eq!(budget.problems[0].path, format!("spec.namespaceSelector.matchExpressions[0].{path}"));
        }
    }

    #[test]
    fn a_window_may_last_for_ever() {
        let read = |until: &str| {
            let window = json!({"name": "w", "from": "2026-12-24T00:00:00Z", "until": until});
            serde_json::from_value::<api::RemediationBudget>(
                json!({"metadata": {"name": "n"}, "spec": {"freezeWindows": [window]}}),
            )
        };
        let frozen = |until: &str, at: jiff::Timestamp| budget(&read(until).unwrap()).budget.frozen(at);
        let year_3000: jiff::Timestamp = "3000-01-01T00:00:00Z".parse().unwrap();
        for until in ["9999-12-31T23:59:59Z", "9999-12-31T00:00:00.5+14:00", "9999-12-30T22:00:00Z"] {
            assert_eq!(frozen(until, year_3000), Freeze::Actions, "{until}");
        }
        assert_eq!(frozen("2999-01-01T00:00:00Z", year_3000), Freeze::None);
        for until in ["never", "9999-12-31", "9999-12-31T23:59:59", "10000-01-01T00:00:00Z", ""] {
            assert!(read(until).is_err(), "{until}");
        }
    }
}
