//! A session of a database, as all actions on one store it.

use engine::effects;
use engine::model::{ServerIdentity, SessionIdentity};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::UNCOMMITTED_WRITES;
use crate::api::convert::Reader;
use crate::api::dependencies::SecretRef;
use crate::api::text::{Instant, Label, RoleName, Word};

/// One session of one database, and its statement.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SessionTarget {
    /// Name of the dependency in the policy.
    pub dependency_name: Label,
    /// Secret with the address and credentials of the database.
    pub secret_ref: SecretRef,
    /// Server that was diagnosed. No other server is touched.
    pub server: Server,
    /// Statement. No other statement of the same session is touched.
    pub session: Session,
    /// Whether a transaction that has written may be rolled back: Protect (it is left alone) or RollBack.
    pub uncommitted_writes: Word,
}

/// A database of a server, between two restarts.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// System identifier of the server. Clones share it.
    #[schemars(length(max = 32))]
    pub system_identifier: String,
    /// Database.
    #[schemars(length(max = 63))]
    pub database: String,
    /// Address that the operator connected to.
    #[schemars(length(max = 320))]
    pub peer: String,
    /// Start of the server.
    pub started_at: Instant,
}

/// One statement of one session. Its text is not here.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Process id of the backend.
    pub pid: i32,
    /// Start of the backend.
    pub backend_start: Instant,
    /// Start of the statement.
    pub query_start: Instant,
    /// Role.
    pub role: RoleName,
    /// Query id, or a hash of the text where the server computes none.
    #[schemars(length(max = 64))]
    pub fingerprint: String,
}

impl SessionTarget {
    pub(super) fn read(&self, reader: &mut Reader, path: &str) -> Option<effects::SessionTarget> {
        let place = format!("{path}.uncommittedWrites");
        let writes = reader.one_of(&place, &self.uncommitted_writes, UNCOMMITTED_WRITES)?;
        Some(effects::SessionTarget {
            dependency: self.dependency_name.0.clone(),
            secret: self.secret_ref.read(),
            server: ServerIdentity {
                system_identifier: self.server.system_identifier.clone(),
                database: self.server.database.clone(),
                peer: self.server.peer.clone(),
                started_at: self.server.started_at.0,
            },
            session: SessionIdentity {
                pid: self.session.pid,
                backend_start: self.session.backend_start.0,
                query_start: self.session.query_start.0,
            },
            role: self.session.role.0.clone(),
            fingerprint: self.session.fingerprint.clone(),
            writes,
        })
    }

    pub(super) fn of(target: &effects::SessionTarget) -> Self {
        Self {
            dependency_name: Label(target.dependency.clone()),
            secret_ref: SecretRef::stored(&target.secret),
            server: Server {
                system_identifier: target.server.system_identifier.clone(),
                database: target.server.database.clone(),
                peer: target.server.peer.clone(),
                started_at: Instant(target.server.started_at),
            },
            session: Session {
                pid: target.session.pid,
                backend_start: Instant(target.session.backend_start),
                query_start: Instant(target.session.query_start),
                role: RoleName(target.role.clone()),
                fingerprint: target.fingerprint.clone(),
            },
            uncommitted_writes: Word(target.writes.to_string()),
        }
    }
}
