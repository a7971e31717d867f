//! From the world's objects to the driver's values.

use controller::objects::{IncidentSummary, PolicyMeta, Stored, StoredIncident, StoredPolicy, StoredReport};
use controller::ports::{ReadError, WriteError};
use engine::model::{Pause, PausedBy, Remediation};

use super::api::{self, ApiError, IncidentObject, PolicyObject};

impl From<ApiError> for WriteError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Conflict => Self::Conflict("it has another version".to_owned()),
            ApiError::NotFound => Self::Gone("it was not found".to_owned()),
            ApiError::Refused => Self::Refused("too many requests".to_owned()),
            ApiError::Lost => Self::Lost("no answer".to_owned()),
        }
    }
}

impl From<ApiError> for ReadError {
    fn from(error: ApiError) -> Self {
        Self(match error {
            ApiError::NotFound => "it was not found".to_owned(),
            ApiError::Conflict | ApiError::Refused | ApiError::Lost => {
                "the API server did not answer".to_owned()
            }
        })
    }
}

impl From<&PolicyObject> for StoredPolicy {
    fn from(object: &PolicyObject) -> Self {
        let pause = |until: &String| Pause { by: PausedBy::Policy, until: until.clone(), reason: None };
        Self {
            id: object.policy.id.clone(),
            generation: object.policy.generation,
            version: object.version.into(),
            deleting: false,
            pause: object.paused.as_ref().map(pause),
            spec: Ok(object.policy.clone()),
            report: object.report.clone(),
        }
    }
}

impl From<PolicyObject> for StoredReport {
    fn from(object: PolicyObject) -> Self {
        Self { generation: object.policy.generation, version: object.version.into(), report: object.report }
    }
}

impl From<&PolicyObject> for PolicyMeta {
    fn from(object: &PolicyObject) -> Self {
        Self { uid: object.policy.id.uid.clone(), deleting: false }
    }
}

impl From<&api::Stored> for Stored<Remediation> {
    fn from(stored: &api::Stored) -> Self {
        Self {
            value: stored.object.clone(),
            uid: stored.uid.to_string(),
            version: stored.version.into(),
            other_finalizers: Vec::new(),
        }
    }
}

impl From<IncidentObject> for StoredIncident {
    fn from(object: IncidentObject) -> Self {
        Self {
            namespace: object.spec.policy.namespace,
            name: object.name,
            version: object.version.into(),
            ordinal: object.spec.ordinal,
            first_breached_at: object.spec.first_breached_at,
            opened_at: object.spec.opened_at,
            report: object.report,
        }
    }
}

impl From<&IncidentObject> for IncidentSummary {
    fn from(object: &IncidentObject) -> Self {
        Self {
            name: object.name.clone(),
            uid: object.uid.to_string(),
            version: object.version.into(),
            closed: (!object.is_open()).then_some((object.spec.opened_at, object.spec.ordinal)),
        }
    }
}
