//! Actions, one file for each: its settings in a policy, how a remediation stores it, and how the engine gets both.

mod cancel_query;
mod replicas;
mod scale;
mod sessions;
mod shed_workers;
mod stored;
mod terminate_idle;
mod warm_cache;

use engine::model::{ActionKind, RungAction};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

pub use self::cancel_query::CancelQuery;
pub use self::replicas::StoredReplicas;
pub use self::scale::Scale;
pub use self::sessions::{Server, Session, SessionTarget};
pub use self::shed_workers::{ShedWorkers, StoredShedWorkers};
pub use self::stored::{Stored, TYPES as STORED_TYPES};
pub use self::terminate_idle::{StoredTerminateIdle, TerminateIdle};
pub use self::warm_cache::{CacheServer, StoredWarmCache, WarmCache};
use super::convert::Reader;
use super::text::Word;
use super::unions::{Misfit, Union};

/// Words of `uncommittedWrites`.
pub const UNCOMMITTED_WRITES: &[&str] = &["Protect", "RollBack"];

/// What the settings of an action answer for.
trait Settings {
    /// What the engine makes of them.
    type Read;
    /// Fields with which they ask for another action besides.
    const BESIDES: &[(ActionKind, &str)];
    /// Fields with a fixed vocabulary.
    const WORDS: &[(&str, &[&str])];

    /// The engine's settings; nothing when a problem was found.
    fn read(&self, reader: &mut Reader, path: &str) -> Option<Self::Read>;
}

/// Makes the union of a policy from the table: its types, its members, and how each is read.
macro_rules! actions {
    ($(#[$of:meta])* type { $(#[$words:meta])* }
        $($(#[$doc:meta])* $Type:ident = $name:literal in $member:ident: $Settings:ty;)+) => {
        /// The types of actions.
        pub const TYPES: Union = Union::new(&[$((stringify!($Type), Some($name))),+]);

        $(#[$of])*
        #[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
        #[x_kube(validation = TYPES.rule())]
        #[serde(rename_all = "camelCase")]
        pub struct Action {
            $(#[$words])*
            pub r#type: Word,
            $(
                $(#[$doc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $member: Option<$Settings>,
            )+
        }

        impl Action {
            /// What the engine does for it. One of an unknown type is passed over, alone.
            pub(super) fn read(&self, reader: &mut Reader, path: &str) -> Option<RungAction> {
                let set = [$(($name, self.$member.is_some())),+];
                match TYPES.check(&self.r#type.0, &set) {
                    Ok(()) => {}
                    Err(Misfit::UnknownType(message)) => {
                        reader.ignore(format!("{path}.type"), message);
                        return None;
                    }
                    Err(Misfit::Member(member, message)) => {
                        reader.problem(format!("{path}.{member}"), message);
                        return None;
                    }
                }
                $(if let Some(settings) = &self.$member {
                    let path = format!(concat!("{}.", $name), path);
                    return settings.read(reader, &path).map(RungAction::$Type);
                })+
                None
            }
        }

        /// The field with which an entry asks for an action besides that of its type.
        pub(super) fn besides(action: &RungAction, kind: ActionKind) -> Option<String> {
            let (member, besides) = match action {
                $(RungAction::$Type(_) => ($name, <$Settings>::BESIDES),)+
            };
            let (_, field) = besides.iter().find(|(other, _)| *other == kind)?;
            Some(format!("{member}.{field}"))
        }

        /// The fields with a fixed vocabulary, within an action.
        pub(super) fn words() -> Vec<(String, Vec<&'static str>)> {
            let all: &[(&str, &[(&str, &[&'static str])])] = &[$(($name, <$Settings>::WORDS)),+];
            let of = |(member, fields): &(&str, &'static [(&str, &[&'static str])])| {
                let path = |(field, words): &(&str, &[&'static str])| (format!("{member}.{field}"), words.to_vec());
                fields.iter().map(path).collect::<Vec<_>>()
            };
            all.iter().flat_map(of).collect()
        }
    };
}

actions! {
    /// What a remediation does. Set the member that belongs to the type, such as cancelQuery for CancelQuery; {} takes all defaults.
    type {
        /// CancelQuery (cancels the statement that is the cause), TerminateIdle (ends a session that is idle in a transaction and
        /// blocks others), WarmCache (sends requests that fill a cache), ShedWorkers (takes background workers away for a while) or Scale (adds
        /// replicas for a while).
    }
    /// Settings for type CancelQuery. Example: {uncommittedWrites: Protect, terminateAfter: 20s}
    CancelQuery = "cancelQuery" in cancel_query: CancelQuery;
    /// Settings for type TerminateIdle. Example: {minIdle: 2m}
    TerminateIdle = "terminateIdle" in terminate_idle: TerminateIdle;
    /// Settings for type WarmCache. Example: {serviceName: orders-api, port: http, paths: [/api/v1/portfolios]}
    WarmCache = "warmCache" in warm_cache: WarmCache;
    /// Settings for type ShedWorkers. Example: {dependencyName: celery, minReplicas: 1, maxHold: 30m}
    ShedWorkers = "shedWorkers" in shed_workers: ShedWorkers;
    /// Settings for type Scale. Example: {step: "50%", maxReplicas: 12, maxHold: 1h}
    Scale = "scale" in scale: Scale;
}
