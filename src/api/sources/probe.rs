//! A timed request of the operator's own.

use std::time::Duration;

use engine::model::{ProbeSource, Scheme, duration};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::convert::{Reader, service};
use crate::api::text::{self, HttpPath, ServiceName, ServicePort, Word};
use crate::connections::http::UrlPath;

/// Words of `scheme`.
pub const SCHEMES: &[&str] = &["HTTP", "HTTPS"];
/// How long a probe may wait, at least and at most.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// A GET request to a ready Pod of a Service, timed. The percentile and the window of the objective do not apply.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("self.failures <= self.of").message("failures must be at most of"))]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Name of a Service of the policy's namespace that selects Pods. Example: orders-api
    pub service_name: ServiceName,
    /// Port of the Service, by name or number. Example: http
    pub port: ServicePort,
    /// Path and query of the request. It should need no login, take any Host header and do what users wait for. Example:
    /// /api/health
    pub path: HttpPath,
    /// How long an answer may take, connecting included: 100ms to 30s, and longer than the objective's threshold. Default: 3s.
    #[serde(default = "Probe::timeout")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('30s')").message("must be 100ms to 30s"))]
    pub timeout: text::Duration,
    /// HTTP or HTTPS. The certificate of an HTTPS server is not verified, and nothing secret is sent. Default: HTTP.
    #[serde(default = "Probe::scheme")]
    pub scheme: Word,
    /// How many of the last `of` answers must be slow or failed for a breach. Default: 2.
    #[serde(default = "Probe::failures")]
    #[schemars(range(min = 1, max = 10))]
    pub failures: i32,
    /// How many of the last answers are judged. Default: 3.
    #[serde(default = "Probe::of")]
    #[schemars(range(min = 1, max = 10))]
    pub of: i32,
}

impl Probe {
    fn timeout() -> text::Duration {
        text::Duration::text("3s")
    }

    fn scheme() -> Word {
        Word::text("HTTP")
    }

    fn failures() -> i32 {
        2
    }

    fn of() -> i32 {
        3
    }

    pub(super) fn read(&self, reader: &mut Reader, path: &str) -> Option<ProbeSource> {
        service::check(reader, path, &self.service_name, &self.port);
        if let Err(problem) = UrlPath::parse(&self.path.0) {
            reader.problem(format!("{path}.path"), problem);
        }
        let timeout = reader.duration(&format!("{path}.timeout"), &self.timeout, SHORTEST);
        if timeout > LONGEST {
            let (timeout, longest) = (duration::format(timeout), duration::format(LONGEST));
            reader
                .problem(format!("{path}.timeout"), format!("{timeout} is too long; the most is {longest}"));
        }
        let failures = reader.count(&format!("{path}.failures"), self.failures, 1);
        let of = reader.count(&format!("{path}.of"), self.of, 1);
        if failures > of {
            reader.problem(
                format!("{path}.failures"),
                format!("{failures} is more than {of}, the value of of"),
            );
        }
        let scheme: Scheme = reader.one_of(&format!("{path}.scheme"), &self.scheme, SCHEMES)?;
        Some(ProbeSource {
            service: self.service_name.0.clone(),
            port: self.port.to_string(),
            path: self.path.0.clone(),
            timeout,
            scheme,
            failures,
            of,
        })
    }

    pub(super) fn stored(probe: &ProbeSource) -> Self {
        let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        Self {
            service_name: ServiceName(probe.service.clone()),
            port: ServicePort::of(&probe.port),
            path: HttpPath(probe.path.clone()),
            timeout: text::Duration::of(probe.timeout),
            scheme: Word::text(match probe.scheme {
                Scheme::Http => "HTTP",
                Scheme::Https => "HTTPS",
            }),
            failures: count(probe.failures),
            of: count(probe.of),
        }
    }
}
