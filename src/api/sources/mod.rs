//! Where objectives are read, one file for each type: its fields, and how the engine gets them.

mod probe;
mod prometheus;

use engine::model;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

pub use self::probe::{Probe, SCHEMES};
pub use self::prometheus::{PRESETS, Prometheus, ROUTE_PRESETS, Routes};
use super::convert::Reader;
use super::text::Word;
use super::unions::Union;

/// The types of sources.
pub const TYPES: Union = Union::new(&[("Prometheus", Some("prometheus")), ("Probe", Some("probe"))]);

/// Where an objective is read. Set the member that belongs to the type: prometheus for Prometheus, probe for Probe.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = TYPES.rule())]
pub struct Source {
    /// Prometheus (metrics of a known exporter in a backend of the operator's configuration) or Probe (a timed request of the
    /// operator's own, for objectives of type Latency).
    pub r#type: Word,
    /// Settings for type Prometheus. Example: {preset: Django, matchLabels: {job: orders}}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,
    /// Settings for type Probe. Example: {serviceName: orders-api, port: http, path: /api/health}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// The histogram of django-prometheus in the backend `default`.
impl Default for Source {
    fn default() -> Self {
        Self { r#type: Word::text("Prometheus"), prometheus: Some(Prometheus::default()), probe: None }
    }
}

impl Source {
    pub(super) fn read(&self, reader: &mut Reader, path: &str) -> Option<model::Source> {
        let set = [("prometheus", self.prometheus.is_some()), ("probe", self.probe.is_some())];
        reader.fits(path, &TYPES, &self.r#type, &set)?;
        match (&self.prometheus, &self.probe) {
            (Some(prometheus), _) => prometheus.read(reader, &format!("{path}.prometheus")),
            (None, Some(probe)) => probe.read(reader, &format!("{path}.probe")).map(model::Source::Probe),
            (None, None) => None,
        }
    }

    /// How the operator stores a copy of it.
    pub(super) fn stored(source: &model::Source) -> Self {
        match source {
            model::Source::Prometheus { backend, preset, match_labels, views } => Self {
                r#type: Word::text("Prometheus"),
                prometheus: Some(Prometheus::stored(backend, *preset, match_labels, views.as_ref())),
                probe: None,
            },
            model::Source::Probe(probe) => {
                Self { r#type: Word::text("Probe"), prometheus: None, probe: Some(Probe::stored(probe)) }
            }
        }
    }
}
