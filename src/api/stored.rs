//! An object as it is stored, or the reason why this version cannot read it.

use std::borrow::Cow;
use std::marker::PhantomData;

use kube::Resource;
use kube::core::ObjectMeta;
use kube::core::error_boundary::InvalidObject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object that cannot be read never stops the others, as with kube's `DeserializeGuard`. Beyond that, the reason names
/// the field's path, and is short enough to be told.
#[derive(Debug, Clone)]
pub struct Stored<K>(pub Result<K, InvalidObject>);

/// So much of a reason is told.
const LONGEST: usize = 300;

impl<'de, K> Deserialize<'de> for Stored<K>
where
    K: DeserializeOwned + Resource,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        forget_managers(&mut object);
        match serde_path_to_error::deserialize(&object) {
            Ok(understood) => Ok(Self(Ok(understood))),
            Err(error) => Ok(Self(Err(InvalidObject { error: told(&error), metadata: metadata(&object) }))),
        }
    }
}

/// The metadata of an object. As with [`Stored`], there is none that cannot be read.
#[derive(Debug, Clone)]
pub struct MetadataOf<K> {
    /// The metadata, without who has changed what.
    pub metadata: ObjectMeta,
    kind: PhantomData<K>,
}

impl<'de, K> Deserialize<'de> for MetadataOf<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        forget_managers(&mut object);
        Ok(Self { metadata: metadata(&object), kind: PhantomData })
    }
}

/// Who may change an object may also change who is said to have changed it, and when: `9999-12-31T23:59:59Z` is a time for
/// the API server, and none in our calendar. Of a list that has one such object nothing could be read.
fn forget_managers(object: &mut Value) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("managedFields");
    }
}

/// What is readable of an object's metadata: where it is not all of it, then what tells it from others.
fn metadata(object: &Value) -> ObjectMeta {
    let Some(metadata) = object.get("metadata") else { return ObjectMeta::default() };
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).map(str::to_owned);
    ObjectMeta::deserialize(metadata).unwrap_or_else(|_| ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        generation: metadata.get("generation").and_then(Value::as_i64),
        ..ObjectMeta::default()
    })
}

/// `spec.freezeWindows[0].from: invalid type: integer, expected a string`.
fn told(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    // The path first: where the rest is cut, it is there.
    let told = format!("{}: {}", error.path(), error.inner());
    super::text::shown(&told, LONGEST)
}

/// What it is called is what the kind is called.
macro_rules! of_kind {
    () => {
        fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
            K::kind(of)
        }

        fn group(of: &Self::DynamicType) -> Cow<'_, str> {
            K::group(of)
        }

        fn version(of: &Self::DynamicType) -> Cow<'_, str> {
            K::version(of)
        }

        fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
            K::plural(of)
        }
    };
}

impl<K: Resource> Resource for Stored<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    of_kind!();

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|invalid| &invalid.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|invalid| &mut invalid.metadata, K::meta_mut)
    }
}

impl<K: Resource> Resource for MetadataOf<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn metadata_api() -> bool {
        true
    }

    of_kind!();

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;
    use crate::api::RemediationBudget;

    fn reason(spec: &Value) -> String {
        let object = json!({"metadata": {"name": "night"}, "spec": spec});
        let stored: Stored<RemediationBudget> = serde_json::from_value(object).unwrap();
        assert_eq!(stored.name_any(), "night", "the others need its name");
        stored.0.unwrap_err().error
    }

    #[test]
    fn the_reason_names_the_path() {
        let windows = json!([{"name": "a", "from": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}, {"name": "b", "from": 5}]);
        let said = reason(&json!({"freezeWindows": windows}));
        assert!(said.starts_with("spec.freezeWindows[1].from: "), "{said}");
        let said = reason(&json!({"maxConcurrent": 5_000_000_000_u64}));
        assert!(said.starts_with("spec.maxConcurrent: "), "{said}");
    }

    #[test]
    fn a_time_beyond_the_calendar_hides_no_object() {
        let beyond = "9999-12-31T23:59:59Z";
        let object = json!({
            "metadata": {"name": "night", "uid": "u", "managedFields": [{"manager": "m", "time": beyond}]}, "spec": {},
        });
        let stored: Stored<RemediationBudget> = serde_json::from_value(object.clone()).unwrap();
        assert!(stored.0.is_ok());
        let metadata: MetadataOf<RemediationBudget> = serde_json::from_value(object).unwrap();
        assert_eq!(metadata.name_any(), "night");
        let object =
            json!({"metadata": {"name": "night", "uid": "u", "deletionTimestamp": beyond}, "spec": {}});
        let stored: Stored<RemediationBudget> = serde_json::from_value(object).unwrap();
        assert_eq!((stored.name_any(), stored.uid()), ("night".to_owned(), Some("u".to_owned())));
        assert!(stored.0.unwrap_err().error.starts_with("metadata.deletionTimestamp: "));
    }

    #[test]
    fn the_reason_is_bounded_and_has_no_control_characters() {
        let said = reason(&json!({"maxConcurrent": "\u{1b}[2J".repeat(10_000)}));
        assert!(said.chars().count() <= LONGEST && !said.contains(char::is_control), "{said}");
    }
}
