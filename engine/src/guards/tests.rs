//! What holds for every guard and for everything that it can find.

mod every;

use serde_json::Value;

use super::*;
use crate::model::PolicyRef;
use crate::record::{DecisionRecord, Key, RecordKind};

/// Every variant of every fact, with the same numbers and names in all of them.
fn every_fact() -> Vec<Fact> {
    every::value().collect()
}

fn key(fact: &Fact) -> Key {
    let refusals = vec![GuardVerdict { guard: GuardName::Mode, ruling: Ruling::Refuse(fact.clone()) }];
    let policy = PolicyRef { namespace: "shop".into(), name: "orders".into(), uid: "u".into() };
    let kind = RecordKind::Blocked {
        rung: "cancel".into(),
        cause: "RunawayQuery".into(),
        action: "cancel".into(),
        refusals,
    };
    let at = Timestamp::UNIX_EPOCH;
    DecisionRecord { at, policy: policy.into(), incident: None, kind, changed: false }.key()
}

/// The same with one of its numbers raised, for each of them. What a resource is called may have numbers in it: a port is a
/// name.
fn with_another_number(fact: &Fact) -> Vec<Fact> {
    fn visit(value: &mut Value, whole: &mut dyn FnMut(&mut Value)) {
        match value {
            Value::Number(_) => whole(value),
            // A span of time.
            Value::Object(fields) if fields.contains_key("secs") => whole(value),
            Value::Object(fields) => {
                for (_, field) in fields.iter_mut().filter(|(name, _)| *name != "resource") {
                    visit(field, whole);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| visit(item, whole)),
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    fn raise(value: &mut Value) {
        match value {
            Value::Object(fields) => fields.values_mut().take(2).for_each(raise),
            number @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)) => {
                let raised = number.as_u64().map(|whole| Value::from(whole + 60));
                *number = raised.unwrap_or_else(|| Value::from(number.as_f64().unwrap() + 60.0));
            }
        }
    }
    let mut raised = Vec::new();
    let mut count = usize::MAX;
    let mut index = 0;
    while index < count {
        let mut value = serde_json::to_value(fact).unwrap();
        let mut seen = 0;
        visit(&mut value, &mut |number| {
            if seen == index {
                raise(number);
            }
            seen += 1;
        });
        count = seen;
        if index < count {
            raised.push(serde_json::from_value(value).unwrap());
        }
        index += 1;
    }
    raised
}

#[test]
fn every_guard_is_the_line_of_its_name() {
    for guard in GUARDS {
        assert_eq!(guard.name.line().name, guard.name);
    }
}

#[test]
fn every_fact_can_be_written_down_and_has_a_sentence() {
    let facts = every_fact();
    assert!(facts.len() > 200, "{} facts", facts.len());
    for fact in facts {
        assert!(fact.to_string().split_whitespace().count() > 1, "{fact:?}");
        let text = serde_json::to_string(&fact).unwrap();
        assert_eq!(serde_json::from_str::<Fact>(&text).unwrap(), fact, "{text}");
    }
}

#[test]
fn every_number_is_told_and_another_number_is_no_news() {
    let mut numbers = 0;
    for fact in every_fact() {
        for other in with_another_number(&fact) {
            numbers += 1;
            assert_ne!(fact.to_string(), other.to_string(), "{other:?}");
            assert_eq!(key(&fact), key(&other), "{other:?}");
        }
    }
    assert!(numbers > 50, "{numbers} numbers");
}

#[test]
fn another_variant_or_name_is_news() {
    let mut keys: Vec<(String, Fact)> =
        every_fact().into_iter().map(|fact| (format!("{:?}", key(&fact)), fact)).collect();
    keys.sort_by(|(one, _), (other, _)| one.cmp(other));
    for pair in keys.windows(2) {
        let [(one, fact), (other, another)] = pair else { panic!("pairs") };
        assert_ne!(one, other, "{fact:?} and {another:?}");
    }
}
