//! An object as it is stored, or the reason why this version cannot read it.

use std::borrow::Cow;

use kube::Resource;
use kube::api::PartialObjectMeta;
use kube::core::ObjectMeta;
use kube::core::error_boundary::InvalidObject;
use serde::de::{DeserializeOwned, Error};
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
        let object = Value::deserialize(deserializer)?;
        let error = match serde_path_to_error::deserialize(&object) {
            Ok(understood) => return Ok(Self(Ok(understood))),
            Err(error) => error,
        };
        let metadata = PartialObjectMeta::<K>::deserialize(&object).map_err(D::Error::custom)?.metadata;
        Ok(Self(Err(InvalidObject { error: told(&error), metadata })))
    }
}

/// `spec.freezeWindows[0].from: invalid type: integer, expected a string`.
fn told(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    // The path first: where the rest is cut, it is there.
    let told = format!("{}: {}", error.path(), error.inner());
    super::text::shown(&told, LONGEST)
}

impl<K: Resource> Resource for Stored<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

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

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|invalid| &invalid.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|invalid| &mut invalid.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;
    use crate::api::LatencyBudget;

    fn reason(spec: &Value) -> String {
        let object = json!({"metadata": {"name": "night"}, "spec": spec});
        let stored: Stored<LatencyBudget> = serde_json::from_value(object).unwrap();
        assert_eq!(stored.name_any(), "night", "the others need its name");
        stored.0.unwrap_err().error
    }

    #[test]
    fn the_reason_names_the_path() {
        let windows = json!([{"from": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}, {"from": 5}]);
        let said = reason(&json!({"freezeWindows": windows}));
        assert!(said.starts_with("spec.freezeWindows[1].from: "), "{said}");
        let said = reason(&json!({"maxConcurrent": 5_000_000_000_u64}));
        assert!(said.starts_with("spec.maxConcurrent: "), "{said}");
    }

    #[test]
    fn the_reason_is_bounded_and_has_no_control_characters() {
        let said = reason(&json!({"maxConcurrent": "\u{1b}[2J".repeat(10_000)}));
        assert!(said.chars().count() <= LONGEST && !said.contains(char::is_control), "{said}");
    }
}
