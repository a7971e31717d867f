//! How actions are stored with a remediation: with everything that they need.

use engine::actions;
use engine::model::Action;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{SessionTarget, StoredReplicas, StoredShedWorkers, StoredTerminateIdle, StoredWarmCache};
use crate::api::convert::Reader;
use crate::api::text::Word;
use crate::api::unions::Union;

/// What an action of the engine answers for.
pub(super) trait Keep: Sized {
    /// How it is stored.
    type Stored;

    /// The action that is stored; nothing when a problem was found.
    fn read(stored: &Self::Stored, reader: &mut Reader, namespace: &str, path: &str) -> Option<Self>;
    /// What is stored of it.
    fn stored(&self) -> Self::Stored;
}

/// Makes the union of a remediation from the table: its types, its members, and both conversions.
macro_rules! stored {
    ($(#[$of:meta])* type { $(#[$words:meta])* }
        $($(#[$doc:meta])* $Type:ident = $name:literal in $member:ident: $Stored:ty;)+) => {
        /// The types of actions, as they are carried out.
        pub const TYPES: Union = Union::new(&[$((stringify!($Type), Some($name))),+]);

        $(#[$of])*
        #[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
        #[x_kube(validation = TYPES.rule())]
        #[serde(rename_all = "camelCase")]
        pub struct Stored {
            $(#[$words])*
            pub r#type: Word,
            $(
                $(#[$doc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $member: Option<$Stored>,
            )+
        }

        impl Stored {
            /// The action that is stored; nothing when a problem was found.
            pub(in crate::api) fn read(&self, reader: &mut Reader, namespace: &str, path: &str) -> Option<Action> {
                reader.fits(path, &TYPES, &self.r#type, &[$(($name, self.$member.is_some())),+])?;
                $(if let Some(stored) = &self.$member {
                    let path = format!(concat!("{}.", $name), path);
                    let read = <actions::$Type as Keep>::read(stored, reader, namespace, &path);
                    return read.map(Action::$Type);
                })+
                None
            }

            /// What is stored of an action.
            pub(in crate::api) fn of(action: &Action) -> Self {
                let r#type = Word::text(match action {
                    $(Action::$Type(_) => stringify!($Type),)+
                });
                let mut stored = Self { r#type, $($member: None),+ };
                match action {
                    $(Action::$Type(action) => stored.$member = Some(action.stored()),)+
                }
                stored
            }
        }
    };
}

stored! {
    /// Action to carry out, with everything that it needs. The member that belongs to the type is set.
    type {
        /// CancelQuery, TerminateQuery (ends a session whose statement was cancelled and runs all the same), TerminateIdle, WarmCache,
        /// ShedWorkers or Scale.
    }
    /// For type CancelQuery: statement to cancel.
    CancelQuery = "cancelQuery" in cancel_query: SessionTarget;
    /// For type TerminateQuery: session to end.
    TerminateQuery = "terminateQuery" in terminate_query: SessionTarget;
    /// For type TerminateIdle: session to end.
    TerminateIdle = "terminateIdle" in terminate_idle: StoredTerminateIdle;
    /// For type WarmCache: cache to warm, and how.
    WarmCache = "warmCache" in warm_cache: StoredWarmCache;
    /// For type ShedWorkers: workers to take away.
    ShedWorkers = "shedWorkers" in shed_workers: StoredShedWorkers;
    /// For type Scale: replicas to set.
    Scale = "scale" in scale: StoredReplicas;
}
