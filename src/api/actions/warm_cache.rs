//! Warming a cache.

use std::time::Duration;

use engine::actions;
use engine::effects::Requests;
use engine::model::{ActionKind, CacheKey, Scheme};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::Settings;
use super::stored::Keep;
use crate::api::convert::{Reader, service};
use crate::api::dependencies::SecretRef;
use crate::api::sources::SCHEMES;
use crate::api::text::{self, HttpPath, Label, ServiceName, ServicePort, Word};
use crate::connections::http::UrlPath;

/// The bounds of the schema; what is stored may be older than the schema.
const LONGEST: Duration = Duration::from_secs(600);
const FASTEST: u32 = 50;
const MOST_IN_FLIGHT: u32 = 16;
const MOST_REQUESTS: u32 = 1000;

/// Sends GET requests to the target, so that it fills its cache itself: at a bounded rate, with few in flight. It stops when a
/// database gets worse, when keys are evicted, or when the objectives are met again.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("size(self.paths) * self.requestsPerPath <= 1000").message("it would send more than 1000 requests; name fewer paths, or fewer requestsPerPath"))]
#[serde(rename_all = "camelCase")]
pub struct WarmCache {
    /// Name of the Service that leads to the target, in the policy's namespace. Only Pods of the target are asked. Example:
    /// orders-api
    pub service_name: ServiceName,
    /// Port of the Service, by name or number. Example: http
    pub port: ServicePort,
    /// HTTP or HTTPS. Default: HTTP.
    #[serde(default = "WarmCache::scheme")]
    pub scheme: Word,
    /// Paths of the requests, in order, each once. Example: [/api/v1/portfolios]
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub paths: Vec<HttpPath>,
    /// Maximum number of requests for each path, one round after the other. Default: 1.
    #[serde(default = "WarmCache::one")]
    #[schemars(range(min = 1, max = 100))]
    pub requests_per_path: i32,
    /// Maximum number of requests per second. Default: 1.
    #[serde(default = "WarmCache::one")]
    #[schemars(range(min = 1, max = 50))]
    pub rate_per_second: i32,
    /// Maximum number of requests in flight. Default: 1.
    #[serde(default = "WarmCache::one")]
    #[schemars(range(min = 1, max = 16))]
    pub in_flight: i32,
    /// How long it goes on at most. 1s to 10m. Default: 1m.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('10m')").message("must be from 1s to 10m, such as 1m"))]
    #[serde(default = "WarmCache::within")]
    pub within: text::Duration,
}

impl WarmCache {
    fn scheme() -> Word {
        Word::text("HTTP")
    }

    fn one() -> i32 {
        1
    }

    fn within() -> text::Duration {
        text::Duration::text("1m")
    }

    /// How the operator stores a copy of it.
    fn of(settings: &Requests) -> Self {
        let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        Self {
            service_name: ServiceName(settings.service.clone()),
            port: ServicePort::of(&settings.port),
            scheme: Word(settings.scheme.to_string()),
            paths: settings.paths.iter().map(|path| HttpPath(path.clone())).collect(),
            requests_per_path: count(settings.requests_per_path),
            rate_per_second: count(settings.rate_per_second),
            in_flight: count(settings.in_flight),
            within: text::Duration::of(settings.within),
        }
    }
}

impl Settings for WarmCache {
    type Read = Requests;
    const BESIDES: &[(ActionKind, &str)] = &[];
    const WORDS: &[(&str, &[&str])] = &[("scheme", SCHEMES)];

    fn read(&self, reader: &mut Reader, path: &str) -> Option<Requests> {
        let field = |name: &str| format!("{path}.{name}");
        let scheme: Scheme = reader.one_of(&field("scheme"), &self.scheme, SCHEMES)?;
        if self.paths.is_empty() {
            reader.problem(field("paths"), "name what is to be asked for, for example [/api/v1/portfolios]");
        }
        for (index, asked) in self.paths.iter().enumerate() {
            if let Err(why) = UrlPath::parse(&asked.0) {
                reader.problem(field(&format!("paths[{index}]")), why);
            }
            if self.paths.iter().take(index).any(|known| known == asked) {
                let message = "it is there twice; requestsPerPath says how often it is asked for";
                reader.problem(field(&format!("paths[{index}]")), message);
            }
        }
        service::check(reader, path, &self.service_name, &self.port);
        let mut count = |name: &str, number: i32, most: u32| {
            let count = reader.count(&field(name), number, 1);
            if count > most {
                reader.problem(field(name), format!("{count} is too much; the most is {most}"));
            }
            count.min(most)
        };
        let requests_per_path = count("requestsPerPath", self.requests_per_path, MOST_REQUESTS);
        let rate_per_second = count("ratePerSecond", self.rate_per_second, FASTEST);
        let in_flight = count("inFlight", self.in_flight, MOST_IN_FLIGHT);
        let within = reader.duration(&field("within"), &self.within, Duration::from_secs(1));
        if within > LONGEST {
            reader.problem(field("within"), "it is too long; the most is 10m");
        }
        let settings = Requests {
            service: self.service_name.0.clone(),
            port: self.port.to_string(),
            scheme,
            paths: self.paths.iter().map(|path| path.0.clone()).collect(),
            requests_per_path,
            rate_per_second,
            in_flight,
            within: within.min(LONGEST),
        };
        if settings.planned() > MOST_REQUESTS {
            let message = format!(
                "it would send {} requests, the most is {MOST_REQUESTS}; name fewer paths, or fewer requestsPerPath",
                settings.planned()
            );
            reader.problem(path, message);
        }
        Some(settings)
    }
}

/// Cache to warm.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StoredWarmCache {
    /// Name of the dependency in the policy.
    pub dependency_name: Label,
    /// Secret with the address and credentials of the cache.
    pub secret_ref: SecretRef,
    /// Cache that was found cold. No other cache is warmed.
    pub cache: CacheServer,
    /// Settings, as in the policy.
    pub settings: WarmCache,
}

/// One database of one Redis server. It stays the same one after a restart.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CacheServer {
    /// Host as the Secret names it, qualified with the namespace.
    #[schemars(length(max = 253))]
    pub host: String,
    /// Port.
    #[schemars(range(min = 0, max = 65_535))]
    pub port: i32,
    /// Number of the database.
    #[schemars(range(min = 0))]
    pub database: i32,
    /// Address that the operator connected to.
    #[schemars(length(max = 320))]
    pub peer: String,
}

impl Keep for actions::WarmCache {
    type Stored = StoredWarmCache;

    fn read(stored: &StoredWarmCache, reader: &mut Reader, namespace: &str, path: &str) -> Option<Self> {
        let settings = stored.settings.read(reader, &format!("{path}.settings"))?;
        let cache = &stored.cache;
        Some(Self {
            dependency: stored.dependency_name.0.clone(),
            secret: stored.secret_ref.read(),
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

    fn stored(&self) -> StoredWarmCache {
        let Self { dependency, secret, cache, settings } = self;
        StoredWarmCache {
            dependency_name: Label(dependency.clone()),
            secret_ref: SecretRef::stored(secret),
            cache: CacheServer {
                host: cache.host.clone(),
                port: i32::from(cache.port),
                database: i32::try_from(cache.database).unwrap_or(i32::MAX),
                peer: cache.peer.clone(),
            },
            settings: WarmCache::of(settings),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut warm = json!({"serviceName": "orders-api", "port": "http", "paths": ["/api/v1/portfolios"]});
        change(&mut warm);
        let warm: WarmCache = serde_json::from_value(warm).unwrap();
        let mut reader = Reader::default();
        warm.read(&mut reader, "warmCache");
        reader.problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_cannot_be_sent_is_named_with_its_place() {
        assert_eq!(problems(|_| ()), Vec::<String>::new());
        assert_eq!(problems(|warm| warm["port"] = json!(8080)), Vec::<String>::new());
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 11] = [
            (|warm| warm["paths"] = json!([]), "warmCache.paths: name what"),
            (|warm| warm["paths"] = json!(["/a", "/b", "/a"]), "warmCache.paths[2]: it is there twice"),
            (|warm| warm["paths"][0] = json!("api"), "warmCache.paths[0]: a path begins with /"),
            (
                |warm| warm["paths"][0] = json!("//169.254.169.254/"),
                "warmCache.paths[0]: a path begins with one",
            ),
            (|warm| warm["paths"][0] = json!("/a b"), "percent-encode"),
            (|warm| warm["port"] = json!("http:80@x"), "warmCache.port: http:80@x is not"),
            (|warm| warm["port"] = json!(70_000), "warmCache.port: 70000 is not"),
            (
                |warm| warm["ratePerSecond"] = json!(51),
                "warmCache.ratePerSecond: 51 is too much; the most is 50",
            ),
            (|warm| warm["inFlight"] = json!(0), "warmCache.inFlight: 0 is too little"),
            (|warm| warm["within"] = json!("11m"), "warmCache.within: it is too long"),
            (|warm| warm["scheme"] = json!("Gopher"), "warmCache.scheme: this version does not know Gopher"),
        ];
        for (change, problem) in cases {
            let found = problems(change);
            assert!(found.iter().any(|one| one.contains(problem)), "{problem}: {found:?}");
        }
        let many = problems(|warm| {
            warm["requestsPerPath"] = json!(100);
            warm["paths"] = json!(["/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h", "/i", "/j", "/k"]);
        });
        assert!(many[0].contains("1100 requests, the most is 1000"), "{many:?}");
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let settings = Requests {
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
        let warm =
            actions::WarmCache { dependency: "cache".into(), secret: "orders-redis".into(), cache, settings };
        let text = serde_json::to_string(&warm.stored()).unwrap();
        let stored: StoredWarmCache = serde_json::from_str(&text).unwrap();
        let mut reader = Reader::default();
        let read = <actions::WarmCache as Keep>::read(&stored, &mut reader, "shop", "spec.action.warmCache");
        assert_eq!(read, Some(warm));
        assert!(reader.problems().is_empty());
    }
}
