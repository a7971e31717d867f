//! Metrics of a known exporter, in a Prometheus-compatible backend.

use std::collections::BTreeMap;

use engine::model::{Preset, PrometheusSource, ViewSource};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::convert::Reader;
use crate::api::text::{Label, Word};

/// Words of `preset`.
pub const PRESETS: &[&str] = &["Django", "Caddy"];
/// Words of `routes.preset`.
pub const ROUTE_PRESETS: &[&str] = &["Django"];

/// A Prometheus-compatible backend of the operator's configuration.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Prometheus {
    /// Name of a backend in the operator's configuration, never a URL. Default: default.
    #[serde(default = "Prometheus::backend_name")]
    pub backend_name: Label,
    /// Whose metrics: Django (django-prometheus in the target's pods) or Caddy (an edge in front of the target).
    pub preset: Word,
    /// Labels that the series must carry besides those that the preset matches (the policy's namespace and, in the application,
    /// the target's pods). They narrow, they replace nothing. Required for an edge. Example: {job: orders}
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8), schema_with = "match_labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Where the routes of the application are counted if this source does not count them, in the same backend: an edge cannot
    /// tell one slow route from a slow target, and Scale needs to know. Example: {preset: Django}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Routes>,
}

/// Where the routes of the application are counted.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Routes {
    /// Whose metrics: Django (django-prometheus in the target's pods).
    pub preset: Word,
    /// Labels that the series must carry besides the policy's namespace and the target's pods. Example: {job: orders}
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8), schema_with = "match_labels")]
    pub match_labels: BTreeMap<String, String>,
}

fn match_labels(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": {"type": "string", "maxLength": 253},
    })
}

impl Default for Prometheus {
    fn default() -> Self {
        Self {
            backend_name: Self::backend_name(),
            preset: Word::text("Django"),
            match_labels: BTreeMap::new(),
            routes: None,
        }
    }
}

impl Prometheus {
    fn backend_name() -> Label {
        Label("default".to_owned())
    }

    pub(super) fn read(&self, reader: &mut Reader, path: &str) -> Option<PrometheusSource> {
        let preset: Preset = reader.one_of(&format!("{path}.preset"), &self.preset, PRESETS)?;
        let match_labels = labels(reader, path, &self.match_labels);
        if preset == Preset::Caddy && self.match_labels.is_empty() {
            let message = "an edge serves many targets; name the labels of this target's series, for example server: orders";
            reader.problem(format!("{path}.matchLabels"), message);
        }
        let path = format!("{path}.routes");
        let views = match (&self.routes, preset) {
            (None, _) => None,
            (Some(_), Preset::Django) => {
                reader.problem(path, "Django counts its routes itself; leave it out");
                None
            }
            (Some(routes), Preset::Caddy) => routes.read(reader, &path),
        };
        Some(PrometheusSource { backend: self.backend_name.0.clone(), preset, match_labels, views })
    }

    pub(super) fn stored(source: &PrometheusSource) -> Self {
        Self {
            backend_name: Label(source.backend.clone()),
            preset: Word(format!("{:?}", source.preset)),
            match_labels: source.match_labels.clone(),
            routes: source.views.as_ref().map(|views| Routes {
                preset: Word(format!("{:?}", views.preset)),
                match_labels: views.match_labels.clone(),
            }),
        }
    }
}

impl Routes {
    fn read(&self, reader: &mut Reader, path: &str) -> Option<ViewSource> {
        let place = format!("{path}.preset");
        match reader.one_of::<Preset>(&place, &self.preset, ROUTE_PRESETS)? {
            Preset::Django => {}
            Preset::Caddy => {
                reader.problem(place, "Caddy counts no routes; use Django");
                return None;
            }
        }
        Some(ViewSource { preset: Preset::Django, match_labels: labels(reader, path, &self.match_labels) })
    }
}

fn labels(reader: &mut Reader, path: &str, labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    for label in labels.keys().filter(|label| !is_label_name(label)) {
        let shown: String = label.chars().take(40).collect();
        let message = format!("\"{shown}\" is not the name of a Prometheus label");
        reader.problem(format!("{path}.matchLabels"), message);
    }
    labels.clone()
}

/// The data model of Prometheus: `[a-zA-Z_][a-zA-Z0-9_]*`, and a bound.
fn is_label_name(label: &str) -> bool {
    label.len() <= 128
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !label.starts_with(|first: char| first.is_ascii_digit())
        && !label.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use engine::model::Source;

    use super::super::Source as Written;
    use super::*;

    fn read(prometheus: &Value) -> (Option<Source>, Vec<String>) {
        let object: Written =
            serde_json::from_value(json!({"type": "Prometheus", "prometheus": prometheus})).unwrap();
        let mut reader = Reader::default();
        let read = object.read(&mut reader, "source");
        (read, reader.problems().iter().map(ToString::to_string).collect())
    }

    fn edge(routes: &Value) -> (Option<Source>, Vec<String>) {
        read(&json!({"preset": "Caddy", "matchLabels": {"server": "orders"}, "routes": routes}))
    }

    #[test]
    fn an_edge_may_name_where_its_routes_are_counted() {
        let (source, problems) = edge(&json!({"preset": "Django", "matchLabels": {"job": "orders"}}));
        assert_eq!(problems, [""; 0]);
        let Some(Source::Prometheus(PrometheusSource { preset, views, .. })) = source else {
            panic!("no source")
        };
        let match_labels = BTreeMap::from([("job".to_owned(), "orders".to_owned())]);
        assert_eq!(
            (preset, views),
            (Preset::Caddy, Some(ViewSource { preset: Preset::Django, match_labels }))
        );
    }

    #[test]
    fn wrong_routes_are_named_with_their_path() {
        for (routes, problem) in [
            (
                json!({"preset": "Caddy"}),
                "source.prometheus.routes.preset: Caddy counts no routes; use Django",
            ),
            (
                json!({"preset": "Rails"}),
                "source.prometheus.routes.preset: this version does not know Rails; it knows Django",
            ),
            (
                json!({"preset": "Django", "matchLabels": {"a-b": "c"}}),
                "source.prometheus.routes.matchLabels: \"a-b\" is not the name of a Prometheus label",
            ),
        ] {
            assert_eq!(edge(&routes).1, [problem]);
        }
        let (_, problems) = read(&json!({"preset": "Django", "routes": {"preset": "Django"}}));
        assert_eq!(problems, ["source.prometheus.routes: Django counts its routes itself; leave it out"]);
        let (_, problems) = read(&json!({"preset": "Caddy"}));
        assert!(
            problems[0].starts_with("source.prometheus.matchLabels: an edge serves many"),
            "{problems:?}"
        );
    }
}
