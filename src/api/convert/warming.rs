//! What is said of warming a cache, in a policy and in a remediation.

use std::time::Duration;

use engine::model::{CacheKey, Scheme, WarmCache, WarmSettings};

use super::{Reader, service};
use crate::api::policy::{self, SecretRef};
use crate::api::remediation as api;
use crate::api::text::{self, HttpPath, Label, ObjectName, ServiceName, ServicePort, Word};
use crate::connections::http::UrlPath;

/// The bounds of the schema, which what is stored may be older than.
const LONGEST: Duration = Duration::from_secs(600);
const FASTEST: u32 = 50;
const MOST_IN_FLIGHT: u32 = 16;
const MOST_REQUESTS: u32 = 1000;

pub(super) fn settings(reader: &mut Reader, path: &str, warm: &policy::WarmCache) -> Option<WarmSettings> {
    let field = |name: &str| format!("{path}.{name}");
    let scheme: Scheme = reader.word(&field("scheme"), &warm.scheme, "HTTP and HTTPS")?;
    if warm.paths.is_empty() {
        reader.problem(field("paths"), "name what is to be asked for, for example [/api/v1/portfolios]");
    }
    for (index, asked) in warm.paths.iter().enumerate() {
        if let Err(why) = UrlPath::parse(&asked.0) {
            reader.problem(field(&format!("paths[{index}]")), why);
        }
        if warm.paths.iter().take(index).any(|known| known == asked) {
            let message = "it is there twice; requestsPerPath says how often it is asked for";
            reader.problem(field(&format!("paths[{index}]")), message);
        }
    }
    service::check(reader, path, &warm.service, &warm.port);
    let mut count = |name: &str, number: i32, most: u32| {
        let count = reader.count(&field(name), number, 1);
        if count > most {
            reader.problem(field(name), format!("{count} is too much; the most is {most}"));
        }
        count.min(most)
    };
    let requests_per_path = count("requestsPerPath", warm.requests_per_path, MOST_REQUESTS);
    let rate_per_second = count("ratePerSecond", warm.rate_per_second, FASTEST);
    let in_flight = count("inFlight", warm.in_flight, MOST_IN_FLIGHT);
    let within = reader.duration(&field("within"), &warm.within, Duration::from_secs(1));
    if within > LONGEST {
        reader.problem(field("within"), "it is too long; the most is 10m");
    }
    let settings = WarmSettings {
        service: warm.service.0.clone(),
        port: warm.port.to_string(),
        scheme,
        paths: warm.paths.iter().map(|path| path.0.clone()).collect(),
        requests_per_path,
        rate_per_second,
        in_flight,
        within: within.min(LONGEST),
        no_database: warm.no_database,
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

pub(super) fn action(
    reader: &mut Reader,
    namespace: &str,
    path: &str,
    warm: &api::WarmCache,
) -> Option<WarmCache> {
    let settings = settings(reader, &format!("{path}.settings"), &warm.settings)?;
    let cache = &warm.cache;
    Some(WarmCache {
        dependency: warm.dependency.0.clone(),
        secret: warm.secret_ref.name.0.clone(),
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
        dependency: Label(dependency.clone()),
        secret_ref: SecretRef { name: ObjectName(secret.clone()) },
        cache: api::CacheServer {
            host: cache.host.clone(),
            port: i32::from(cache.port),
            database: i32::try_from(cache.database).unwrap_or(i32::MAX),
            peer: cache.peer.clone(),
        },
        settings: settings_of(settings),
    }
}

fn settings_of(settings: &WarmSettings) -> policy::WarmCache {
    let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    policy::WarmCache {
        service: ServiceName(settings.service.clone()),
        port: ServicePort::of(&settings.port),
        scheme: Word(settings.scheme.to_string()),
        paths: settings.paths.iter().map(|path| HttpPath(path.clone())).collect(),
        requests_per_path: count(settings.requests_per_path),
        rate_per_second: count(settings.rate_per_second),
        in_flight: count(settings.in_flight),
        within: text::Duration::of(settings.within),
        no_database: settings.no_database,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut warm = json!({"service": "orders-api", "port": "http", "paths": ["/api/v1/portfolios"]});
        change(&mut warm);
        let warm: policy::WarmCache = serde_json::from_value(warm).unwrap();
        let mut reader = Reader::default();
        settings(&mut reader, "warmCache", &warm);
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
        let settings = WarmSettings {
            service: "orders-api".into(),
            port: "8080".into(),
            scheme: Scheme::Https,
            paths: vec!["/a?b=c".into()],
            requests_per_path: 3,
            rate_per_second: 5,
            in_flight: 2,
            within: Duration::from_secs(20),
            no_database: true,
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
