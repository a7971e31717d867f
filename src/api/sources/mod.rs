//! Where objectives are read, one file for each type: its fields, and how the engine gets them.

mod probe;
mod prometheus;
mod scrape;

use engine::model;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

pub use self::probe::{Probe, SCHEMES};
pub use self::prometheus::{PRESETS, Prometheus, ROUTE_PRESETS, Routes};
pub use self::scrape::{SCRAPE_PRESETS, Scrape};
use super::convert::Reader;
use super::text::Word;
use super::unions::Union;

/// Makes the list of types and both conversions from each line of the table: the type, which is the kind in the engine, the member
/// and its settings.
macro_rules! types {
    ($($kind:ident: $member:ident, $settings:ident;)*) => {
        /// The types of sources.
        pub const TYPES: Union = Union::new(&[$((stringify!($kind), Some(stringify!($member)))),*]);

        impl Source {
            /// What the engine knows about it; `None` when a problem was found.
            pub(super) fn read(&self, reader: &mut Reader, path: &str) -> Option<model::Source> {
                let set = [$((stringify!($member), self.$member.is_some())),*];
                reader.fits(path, &TYPES, &self.r#type, &set)?;
                $(
                    if let Some(settings) = &self.$member {
                        let path = format!("{path}.{}", stringify!($member));
                        return settings.read(reader, &path).map(model::Source::$kind);
                    }
                )*
                None
            }

            /// How the operator stores a copy of it.
            pub(super) fn stored(source: &model::Source) -> Self {
                let r#type = match source {
                    $(model::Source::$kind(_) => Word::text(stringify!($kind)),)*
                };
                Self {
                    r#type,
                    $($member: match source {
                        model::Source::$kind(source) => Some($settings::stored(source)),
                        _ => None,
                    },)*
                }
            }
        }
    };
}

/// The fields with words, from the source on, and their words.
pub const WORDS: &[(&str, &[&str])] = &[
    ("prometheus.preset", PRESETS),
    ("prometheus.routes.preset", ROUTE_PRESETS),
    ("probe.scheme", SCHEMES),
    ("scrape.preset", SCRAPE_PRESETS),
];

types! {
    Prometheus: prometheus, Prometheus;
    Probe: probe, Probe;
    Scrape: scrape, Scrape;
}

/// Where an objective is read. Set the member that belongs to the type: prometheus for Prometheus, probe for Probe, scrape for
/// Scrape.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = TYPES.rule())]
pub struct Source {
    /// Prometheus (metrics of a known exporter in a backend of the operator's configuration), Probe (a timed request of the
    /// operator's own, for objectives of type Latency) or Scrape (metrics of a known exporter in the target's own Pods).
    pub r#type: Word,
    /// Settings for type Prometheus. Example: {preset: Django, matchLabels: {job: orders}}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,
    /// Settings for type Probe. Example: {serviceName: orders-api, port: http, path: /api/health}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// Settings for type Scrape. Example: {port: metrics, path: /metrics, preset: Django}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape: Option<Scrape>,
}

/// The histogram of django-prometheus in the backend `default`.
impl Default for Source {
    fn default() -> Self {
        Self {
            r#type: Word::text("Prometheus"),
            prometheus: Some(Prometheus::default()),
            probe: None,
            scrape: None,
        }
    }
}
