//! The rights in the text of Roles and ClusterRoles, taken apart to single verbs.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::Deserialize;
use serde_json::Value;

use crate::used::Request;

/// One verb on one resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Grant {
    /// Empty: in the whole cluster.
    pub(crate) namespace: String,
    pub(crate) group: String,
    /// With its subresource, as Roles write it.
    pub(crate) resource: String,
    pub(crate) verb: String,
    /// Empty: whatever its name is.
    pub(crate) names: Vec<String>,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = if self.group.is_empty() { "core" } else { &self.group };
        write!(f, "{} {}/{}", self.verb, group, self.resource)?;
        if !self.namespace.is_empty() {
            write!(f, " in {}", self.namespace)?;
        }
        if !self.names.is_empty() {
            write!(f, " named {}", self.names.join(", "))?;
        }
        Ok(())
    }
}

impl Grant {
    /// All of them in these texts. Wildcards are no least privilege, and are refused.
    pub(crate) fn read(texts: &[String]) -> BTreeSet<Self> {
        let documents = texts.iter().flat_map(|text| text.split("\n---"));
        let objects = documents.filter_map(|text| serde_saphyr::from_str::<Value>(text).ok());
        let roles = objects.filter(|object| object["kind"] == "Role" || object["kind"] == "ClusterRole");
        let granted: BTreeSet<Self> = roles.flat_map(|role| of_role(&role)).collect();
        assert!(!granted.is_empty(), "nothing is granted in {texts:?}");
        granted
    }

    /// Whether the API server lets this request through for it.
    pub(crate) fn covers(&self, request: &Request) -> bool {
        let named = self.names.is_empty() || self.names.contains(&request.name);
        let there = self.namespace.is_empty() || self.namespace == request.namespace;
        let what = (&self.group, &self.resource, &self.verb);
        named && there && what == (&request.group, &request.resource, &request.verb)
    }
}

fn of_role(role: &Value) -> Vec<Grant> {
    let namespace = if role["kind"] == "Role" {
        role["metadata"]["namespace"].as_str().expect("a Role's namespace").to_owned()
    } else {
        String::new()
    };
    let rules = Vec::<PolicyRule>::deserialize(&role["rules"]).expect("rules");
    let mut grants = Vec::new();
    for rule in rules {
        assert!(rule.non_resource_urls.is_none(), "{rule:?}");
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    assert!(
                        [group, resource, verb].iter().all(|word| !word.contains('*')),
                        "a wildcard: {rule:?}"
                    );
                    grants.push(Grant {
                        namespace: namespace.clone(),
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                        names: rule.resource_names.clone().unwrap_or_default(),
                    });
                }
            }
        }
    }
    grants
}
