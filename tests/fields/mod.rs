//! Every field of a kind, from its definition in `crds/`.

use serde_json::Value;

/// What texts of these shapes are called, so that no reader has to understand expressions. The document says what they are.
const SHAPES: &[(&str, &str)] = &[
    ("^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?([0-9]{1,9}ms)?$", "duration"),
    ("^((100(\\.0{1,6})?|[0-9]{1,2}(\\.[0-9]{1,6})?)%|0(\\.[0-9]{1,8})?|1(\\.0{1,8})?)$", "share"),
    ("^[A-Z][A-Za-z0-9]*$", "word"),
    ("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "label"),
    ("^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", "name"),
    ("^[-._a-zA-Z0-9]+$", "key"),
    (
        "^(([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?([0-9]{1,9}ms)?|[0-9]{1,3}(\\.[0-9]{1,6})?%|0(\\.[0-9]{1,8})?)$",
        "duration or share",
    ),
    ("^[0-9*,/-]+ [0-9*,/-]+ [0-9*,/-]+ [0-9A-Z*,/-]+ [0-9A-Z*,/-]+$", "schedule"),
    ("^[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$", "time zone"),
    ("^/([!$-.0-;=?-\\[\\]-_a-~][!$-;=?-\\[\\]-_a-~]*)?$", "path"),
];

/// One row for each field below `spec` and `status`: path, type, default, limits, description.
pub(crate) fn rows(definition: &Value) -> Vec<Vec<String>> {
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut rows = Vec::new();
    for part in ["spec", "status"] {
        // A budget has no status.
        if schema["properties"].get(part).is_some() {
            field(part, &schema["properties"][part], part == "spec", &mut rows);
        }
    }
    rows
}

fn field(path: &str, schema: &Value, required: bool, rows: &mut Vec<Vec<String>>) {
    // What stands in a list, or under the keys of a map, belongs to it.
    let (inner, path) = match (schema.get("items"), schema.get("additionalProperties")) {
        (Some(items), _) => (items, format!("{path}[]")),
        (None, Some(any)) => (any, format!("{path}.*")),
        (None, None) => (schema, path.to_owned()),
    };
    let limits = limits(schema, inner, required);
    let described = schema["description"].as_str().unwrap_or("-");
    rows.push(vec![format!("`{path}`"), kind(schema), default(schema), cell(&limits), cell(described)]);
    // Conditions are the API machinery's own type.
    if path == "status.conditions[]" {
        return;
    }
    let needed = inner["required"].as_array();
    for (name, schema) in inner["properties"].as_object().into_iter().flatten() {
        let required = needed.is_some_and(|needed| needed.iter().any(|one| one == name.as_str()));
        field(&format!("{path}.{name}"), schema, required, rows);
    }
}

fn kind(schema: &Value) -> String {
    if let Some(items) = schema.get("items") {
        return format!("list of {}", kind(items));
    }
    if let Some(any) = schema.get("additionalProperties") {
        return format!("map to {}", kind(any));
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return "integer or string".to_owned();
    }
    if schema["format"] == "date-time" {
        return "time".to_owned();
    }
    let shape = schema["pattern"].as_str().map(|pattern| {
        let known = SHAPES.iter().find(|(shape, _)| *shape == pattern);
        known.unwrap_or_else(|| panic!("{pattern} has no name; give it one in tests/fields")).1
    });
    shape.or(schema["type"].as_str()).unwrap_or("anything").to_owned()
}

fn default(schema: &Value) -> String {
    match &schema["default"] {
        Value::Null => "-".to_owned(),
        Value::Object(_) => "its fields'".to_owned(),
        Value::String(text) => format!("`{text}`"),
        scalar @ (Value::Bool(_) | Value::Number(_) | Value::Array(_)) => format!("`{scalar}`"),
    }
}

/// What the API server asks for, beside the type.
fn limits(schema: &Value, inner: &Value, required: bool) -> String {
    let mut said = Vec::new();
    if required {
        said.push("required".to_owned());
    }
    if let Some(most) = schema["maxItems"].as_u64() {
        let least = schema["minItems"].as_u64().map_or(String::new(), |least| format!("{least} to "));
        said.push(format!("{}{most} of them", if least.is_empty() { "at most " } else { least.as_str() }));
    }
    if let Some(keys) = schema["x-kubernetes-list-map-keys"].as_array() {
        let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
        said.push(format!("one for each `{}`", keys.join("`, `")));
    }
    let bound = |name: &str| inner[name].as_f64().map(|number| format!("{number:.0}"));
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => said.push(format!("{least} to {most}")),
        (Some(least), None) => said.push(format!("at least {least}")),
        (None, Some(most)) => said.push(format!("at most {most}")),
        (None, None) => {}
    }
    // A duration's or a share's length says nothing that its rules do not say.
    if let Some(most) = inner["maxLength"].as_u64()
        && !matches!(kind(inner).as_str(), "duration" | "share" | "time")
    {
        said.push(format!("at most {most} letters"));
    }
    for schema in if std::ptr::eq(schema, inner) { vec![schema] } else { vec![schema, inner] } {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            said.push(rule["message"].as_str().unwrap_or("a rule without words").to_owned());
        }
    }
    if said.is_empty() { "-".to_owned() } else { said.join("; ") }
}

/// On one line, and with nothing in it that ends a cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
}
