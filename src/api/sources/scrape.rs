//! Metrics of the target's own Pods, which the operator reads itself.

use engine::model::{Preset, ScrapeSource};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::PRESETS;
use crate::api::convert::{Reader, service};
use crate::api::text::{HttpPath, ServicePort, Word};
use crate::connections::http::UrlPath;

/// Words of `preset`: the exporters that sit in the application.
pub const SCRAPE_PRESETS: &[&str] = &["Django"];

/// The metrics of a known exporter in the target's own ready Pods, over HTTP, without a metrics backend.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Scrape {
    /// Port that a container of the Pods declares, by name or number. Example: metrics
    pub port: ServicePort,
    /// Path and query of the metrics. Default: /metrics.
    #[serde(default = "Scrape::path")]
    pub path: HttpPath,
    /// Whose metrics: Django (django-prometheus in the target's Pods).
    pub preset: Word,
}

impl Scrape {
    fn path() -> HttpPath {
        HttpPath("/metrics".to_owned())
    }

    pub(super) fn read(&self, reader: &mut Reader, path: &str) -> Option<ScrapeSource> {
        service::check_port(reader, path, &self.port);
        if let Err(problem) = UrlPath::parse(&self.path.0) {
            reader.problem(format!("{path}.path"), problem);
        }
        let place = format!("{path}.preset");
        // A preset that is known, and not here, gets a better answer than one that nobody knows.
        let known = if PRESETS.contains(&self.preset.0.as_str()) { PRESETS } else { SCRAPE_PRESETS };
        match reader.one_of::<Preset>(&place, &self.preset, known)? {
            preset @ Preset::Django => {
                Some(ScrapeSource { port: self.port.to_string(), path: self.path.0.clone(), preset })
            }
            Preset::Caddy => {
                reader.problem(place, "Caddy is not in the target's Pods; use Django, or type: Prometheus");
                None
            }
        }
    }

    pub(super) fn stored(source: &ScrapeSource) -> Self {
        Self {
            port: ServicePort::of(&source.port),
            path: HttpPath(source.path.clone()),
            preset: Word(format!("{:?}", source.preset)),
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::model::Source;
    use serde_json::{Value, json};

    use super::super::Source as Written;
    use super::*;
    use crate::observe::prometheus::presets;

    fn read(scrape: &Value) -> (Option<Source>, Vec<String>) {
        let object: Written = serde_json::from_value(json!({"type": "Scrape", "scrape": scrape})).unwrap();
        let mut reader = Reader::default();
        let read = object.read(&mut reader, "source");
        (read, reader.problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_source_is_read_and_stored_as_it_was() {
        for port in [json!("metrics"), json!(9100)] {
            let (source, problems) = read(&json!({"port": port, "preset": "Django"}));
            assert_eq!(problems, [""; 0]);
            let Some(Source::Scrape(source)) = source else { panic!("no source") };
            assert_eq!((source.path.as_str(), source.preset), ("/metrics", Preset::Django));
            let stored = serde_json::to_value(Scrape::stored(&source)).unwrap();
            assert_eq!(stored, json!({"port": port, "path": "/metrics", "preset": "Django"}));
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_path() {
        for (scrape, problem) in [
            (
                json!({"port": "metrics", "preset": "Caddy"}),
                "source.scrape.preset: Caddy is not in the target's Pods; use Django, or type: Prometheus",
            ),
            (
                json!({"port": "metrics", "preset": "Rails"}),
                "source.scrape.preset: this version does not know Rails; it knows Django",
            ),
            (
                json!({"port": "Me!", "preset": "Django"}),
                "source.scrape.port: Me! is not the name or number of a port",
            ),
            (
                json!({"port": 1, "path": "//x", "preset": "Django"}),
                "source.scrape.path: a path begins with one /, not with two",
            ),
        ] {
            assert_eq!(read(&scrape).1, [problem]);
        }
    }

    #[test]
    fn the_presets_are_those_in_the_application() {
        let inside = presets::PRESETS.iter().filter(|metrics| metrics.place == presets::Place::Application);
        let inside: Vec<String> = inside.map(|metrics| format!("{:?}", metrics.preset)).collect();
        assert_eq!(inside, SCRAPE_PRESETS);
    }
}
