//! What is said of warming a cache, in a policy and in a remediation.

use engine::model::{CacheKey, WarmCache};

use super::Reader;
use crate::api::actions::WarmCache as Settings;
use crate::api::dependencies::SecretRef;
use crate::api::remediation as api;
use crate::api::text::Label;

pub(super) fn action(
    reader: &mut Reader,
    namespace: &str,
    path: &str,
    warm: &api::WarmCache,
) -> Option<WarmCache> {
    let settings = warm.settings.read(reader, &format!("{path}.settings"))?;
    let cache = &warm.cache;
    Some(WarmCache {
        dependency: warm.dependency_name.0.clone(),
        secret: warm.secret_ref.read(),
        cache: CacheKey {
            namespace: namespace.to_owned(),
            host: cache.host.clone(),
            port: u16::try_from(cache.port).unwrap_or_default(),
            database: reader.count(&format!("{path}.cache.database"), cache.database, 0),
            peer: cache.peer.clone(),
        },
        settings,
    })
}

pub(super) fn action_of(warm: &WarmCache) -> api::WarmCache {
    let WarmCache { dependency, secret, cache, settings } = warm;
    api::WarmCache {
        dependency_name: Label(dependency.clone()),
        secret_ref: SecretRef::stored(secret),
        cache: api::CacheServer {
            host: cache.host.clone(),
            port: i32::from(cache.port),
            database: i32::try_from(cache.database).unwrap_or(i32::MAX),
            peer: cache.peer.clone(),
        },
        settings: Settings::stored(settings),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::model::{Scheme, WarmSettings};

    use super::*;

    #[test]
    fn what_is_stored_is_read_again() {
        let settings = WarmSettings {
            service: "orders-api".into(),
            port: "8080".into(),
            scheme: Scheme::Https,
            paths: vec!["/a?b=c".into()],
            requests_per_path: 3,
            rate_per_second: 5,
            in_flight: 2,
            within: Duration::from_secs(20),
        };
        let cache = CacheKey {
            namespace: "shop".into(),
            host: "orders-redis.shop.svc".into(),
            port: 6379,
            database: 3,
            peer: "10.0.0.9:6379".into(),
        };
        let warm = WarmCache { dependency: "cache".into(), secret: "orders-redis".into(), cache, settings };
        let text = serde_json::to_string(&action_of(&warm)).unwrap();
        let stored: api::WarmCache = serde_json::from_str(&text).unwrap();
        let mut reader = Reader::default();
        assert_eq!(action(&mut reader, "shop", "spec.action.warmCache", &stored), Some(warm));
        assert!(reader.problems.is_empty());
    }
}
