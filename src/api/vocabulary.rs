//! The words that fields know. Definitions keep patterns, so that up- and downgrades lose nothing; editors get enumerations,
//! and an admission policy of the chart warns of unknown words.

use engine::actions::ACTIONS;
use engine::causes::CAUSES;
use engine::model::Thresholds;
use serde_json::{Map, Value, json};

use super::budget as rb;
use super::policy as lp;
use super::unions::listed;
use super::{actions, dependencies, sources};

/// A field, and the words that it knows.
#[derive(Debug)]
pub struct Field {
    /// The kind of the object.
    pub kind: &'static str,
    /// Where the field is: `spec.remediations[].action.type`.
    pub path: String,
    /// The words.
    pub words: Vec<&'static str>,
}

/// All fields with words, of the kinds that people write.
#[must_use]
pub fn fields() -> Vec<Field> {
    let mut fields = Vec::new();
    let mut add = |kind: &'static str, path: &str, words: Vec<&'static str>| {
        fields.push(Field { kind, path: path.to_owned(), words });
    };
    let policy = "LatencyPolicy";
    add(policy, "spec.mode", lp::MODES.to_vec());
    add(policy, "spec.targetRef.kind", vec!["Deployment", "StatefulSet"]);
    add(policy, "spec.target.databases", vec!["Declared", "None"]);
    for source in ["spec.source", "spec.objectives[].source"] {
        add(policy, &format!("{source}.type"), sources::TYPES.words());
        for (field, words) in sources::WORDS {
            add(policy, &format!("{source}.{field}"), words.to_vec());
        }
    }
    add(policy, "spec.objectives[].type", lp::OBJECTIVE_TYPES.words());
    add(policy, "spec.objectives[].severity", lp::SEVERITIES.to_vec());
    add(policy, "spec.objectives[].raise[].level", vec!["P0", "P1"]);
    add(policy, "spec.dependencies[].type", dependencies::TYPES.words());
    add(policy, "spec.dependencies[].redis.role", dependencies::ROLES.to_vec());
    let thresholds = CAUSES.iter().filter(|cause| cause.thresholds != Thresholds::NONE);
    add(policy, "spec.diagnosis.thresholds[].cause", thresholds.map(|cause| cause.name).collect());
    let remediation = "spec.remediations[]";
    add(policy, &format!("{remediation}.mode"), lp::MODES.to_vec());
    add(policy, &format!("{remediation}.minSeverity"), lp::SEVERITIES.to_vec());
    let answered = ACTIONS.iter().flat_map(|line| line.answers.iter().copied());
    add(policy, &format!("{remediation}.causes[]"), answered.collect());
    let action = format!("{remediation}.action");
    add(policy, &format!("{action}.type"), actions::TYPES.words());
    for (field, words) in actions::words() {
        add(policy, &format!("{action}.{field}"), words);
    }
    add(policy, "spec.approval.scope", lp::APPROVAL_SCOPES.to_vec());
    add(policy, "spec.guards.windows[].type", lp::WINDOW_TYPES.to_vec());
    add(policy, "spec.notifications[].type", lp::NOTIFICATION_TYPES.to_vec());
    add(policy, "spec.notifications[].minSeverity", lp::SEVERITIES.to_vec());
    add(policy, "spec.notifications[].events[]", lp::NOTIFICATION_EVENTS.to_vec());
    let budget = "RemediationBudget";
    add(budget, "spec.namespaceSelector.matchExpressions[].operator", rb::OPERATORS.to_vec());
    add(budget, "spec.deniedActions[]", actions::TYPES.words());
    add(budget, "spec.maxMode[].action", actions::TYPES.words());
    add(budget, "spec.maxMode[].mode", rb::MODES.to_vec());
    for freeze in ["spec.freeze.type", "spec.freezeWindows[].type"] {
        add(budget, freeze, rb::FREEZES.to_vec());
    }
    fields
}

/// The schema of a kind for editors: its definition's, with the words as enumerations and unknown fields refused.
#[must_use]
pub fn editor_schema(kind: &str, definition: &Value) -> Value {
    let mut schema = definition.clone();
    for field in fields().iter().filter(|field| field.kind == kind) {
        if let Some(found) = at(&mut schema, &field.path) {
            found.insert("enum".to_owned(), json!(field.words));
            found.remove("pattern");
        }
    }
    for_editors(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        let properties = root.entry("properties").or_insert_with(|| json!({}));
        properties["apiVersion"] = json!({"const": format!("{}/v1alpha1", super::GROUP)});
        properties["kind"] = json!({"const": kind});
        properties["metadata"] = json!({"type": "object"});
        root.insert("required".to_owned(), json!(["apiVersion", "kind", "metadata", "spec"]));
    }
    schema
}

/// The schema of the field at a path, where lists are written `name[]`.
fn at<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Map<String, Value>> {
    let mut here = schema;
    for step in path.split('.') {
        let name = step.trim_end_matches("[]");
        here = here.get_mut("properties")?.get_mut(name)?;
        if step.ends_with("[]") {
            here = here.get_mut("items")?;
        }
    }
    here.as_object_mut()
}

/// What an API server says about a schema, in the words of JSON Schema.
fn for_editors(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.remove("x-kubernetes-int-or-string").is_some() {
                fields.insert("type".to_owned(), json!(["integer", "string"]));
            }
            fields.retain(|name, _| !name.starts_with("x-kubernetes-"));
            if fields.remove("nullable").is_some()
                && let Some(Value::String(one)) = fields.get("type").cloned()
            {
                fields.insert("type".to_owned(), json!([one, "null"]));
            }
            if fields.get("properties").is_some_and(Value::is_object) {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
            fields.values_mut().for_each(for_editors);
        }
        Value::Array(entries) => entries.iter_mut().for_each(for_editors),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The rules of the admission policy that warns of unknown words, one for each field of a policy.
#[must_use]
pub fn warnings() -> Value {
    let rule = |field: &Field| {
        let words = json!(field.words).to_string().replace('"', "'");
        let message = format!(
            "{} has a word that this version does not know; it knows {}",
            field.path,
            listed(&field.words)
        );
        let path = field.path.strip_prefix("spec.").unwrap_or(&field.path);
        json!({"expression": known("object.spec", path, &words, 0), "message": message})
    };
    Value::Array(fields().iter().filter(|field| field.kind == "LatencyPolicy").map(rule).collect())
}

/// The expression that each word below `base` at `path` is one of `words`.
fn known(base: &str, path: &str, words: &str, depth: usize) -> String {
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    let name = step.trim_end_matches("[]");
    let here = format!("{base}.{name}");
    let inner = |base: &str, depth: usize| {
        if rest.is_empty() { format!("{base} in {words}") } else { known(base, rest, words, depth) }
    };
    let check = if step.ends_with("[]") {
        let variable = format!("x{depth}");
        format!("{here}.all({variable}, {})", inner(&variable, depth + 1))
    } else {
        inner(&here, depth)
    };
    format!("(!has({here}) || {check})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_below_lists_is_asked_in_each_entry() {
        assert_eq!(
            known("object.spec", "mode", "['A']", 0),
            "(!has(object.spec.mode) || object.spec.mode in ['A'])"
        );
        let nested = known("object.spec", "objectives[].raise[].level", "['P0']", 0);
        let inner = "(!has(x0.raise) || x0.raise.all(x1, (!has(x1.level) || x1.level in ['P0'])))";
        assert_eq!(
            nested,
            format!("(!has(object.spec.objectives) || object.spec.objectives.all(x0, {inner}))")
        );
    }
}
