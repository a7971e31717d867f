//! Redis.

use engine::model::{CacheUse, RedisDependency, SecretRef as Secret};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::convert::Reader;
use crate::api::text::Word;

/// Words of `role`.
pub const ROLES: &[&str] = &["Cache", "Broker", "Shared"];

/// A Redis server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Redis {
    /// What it is used for: Cache (its content can be computed again), Broker (it hands tasks to workers, and is never called
    /// cold) or Shared (both). Default: Cache.
    #[serde(default = "Redis::role")]
    pub role: Word,
}

impl Redis {
    fn role() -> Word {
        Word::text("Cache")
    }

    pub(super) fn read(&self, reader: &mut Reader, path: &str, secret: Secret) -> Option<RedisDependency> {
        let usage: CacheUse = reader.one_of(&format!("{path}.redis.role"), &self.role, ROLES)?;
        Some(RedisDependency { secret, usage })
    }

    pub(super) fn stored(redis: &RedisDependency) -> Self {
        Self { role: Word(format!("{:?}", redis.usage)) }
    }
}
