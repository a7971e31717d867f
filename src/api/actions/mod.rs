//! What a remediation does, one file for each type: its settings, and how the engine gets them.

mod cancel_query;
mod scale;
mod terminate_idle;
mod warm_cache;

use engine::model::RungAction;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

pub use self::cancel_query::CancelQuery;
pub use self::scale::{AUTOSCALER_BOUNDS, Scale};
pub use self::terminate_idle::TerminateIdle;
pub use self::warm_cache::WarmCache;
use super::convert::Reader;
use super::text::Word;
use super::unions::{Misfit, Union};

/// The types of actions.
pub const TYPES: Union = Union::new(&[
    ("CancelQuery", Some("cancelQuery")),
    ("TerminateIdle", Some("terminateIdle")),
    ("WarmCache", Some("warmCache")),
    ("Scale", Some("scale")),
]);
/// Words of `uncommittedWrites`.
pub const UNCOMMITTED_WRITES: &[&str] = &["Protect", "RollBack"];

/// What a remediation does. Set the member that belongs to the type, such as cancelQuery for CancelQuery; {} takes all defaults.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = TYPES.rule())]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// CancelQuery (cancels the statement that is the cause), TerminateIdle (ends a session that is idle in a transaction and
    /// blocks others), WarmCache (sends requests that fill a cache) or Scale (adds replicas for a while).
    pub r#type: Word,
    /// Settings for type CancelQuery. Example: {uncommittedWrites: Protect, terminateAfter: 20s}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_query: Option<CancelQuery>,
    /// Settings for type TerminateIdle. Example: {minIdle: 2m}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate_idle: Option<TerminateIdle>,
    /// Settings for type WarmCache. Example: {serviceName: orders-api, port: http, paths: [/api/v1/portfolios]}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_cache: Option<WarmCache>,
    /// Settings for type Scale. Example: {step: "50%", maxReplicas: 12, maxHold: 1h}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
}

impl Action {
    /// What the engine does for it. One of an unknown type is passed over, alone.
    pub(super) fn read(&self, reader: &mut Reader, path: &str) -> Option<RungAction> {
        let set = [
            ("cancelQuery", self.cancel_query.is_some()),
            ("terminateIdle", self.terminate_idle.is_some()),
            ("warmCache", self.warm_cache.is_some()),
            ("scale", self.scale.is_some()),
        ];
        if let Err(misfit) = TYPES.check(&self.r#type.0, &set) {
            match misfit {
                Misfit::UnknownType(message) => reader.ignore(format!("{path}.type"), message),
                Misfit::Member(member, message) => reader.problem(format!("{path}.{member}"), message),
            }
            return None;
        }
        if let Some(cancel) = &self.cancel_query {
            return cancel.read(reader, &format!("{path}.cancelQuery"));
        }
        if let Some(idle) = &self.terminate_idle {
            return idle.read(reader, &format!("{path}.terminateIdle"));
        }
        if let Some(warm) = &self.warm_cache {
            return warm.read(reader, &format!("{path}.warmCache")).map(RungAction::WarmCache);
        }
        self.scale.as_ref()?.read(reader, &format!("{path}.scale"))
    }
}
