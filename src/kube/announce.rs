//! Announcements go to the sinks, measurements become metrics.

use controller::announcement::Announcement;
use controller::objects::{Measurement, Recorded};
use controller::ports::{Announce, Sink};
use engine::Overall;

use crate::telemetry::metrics::PolicyLabels;
use crate::telemetry::{Metrics, Recorder};

/// Hands on what is announced, and counts what is measured.
pub struct Announcer {
    /// Where announcements end.
    pub sinks: Vec<Box<dyn Sink>>,
    /// The operator's own metrics.
    pub metrics: Metrics,
    /// Writes evaluations down, where that is wanted.
    pub recorder: Option<Recorder>,
}

impl Announce for Announcer {
    fn announce(&self, announcement: &Announcement) {
        for sink in self.sinks.iter().filter(|sink| sink.wants(announcement)) {
            sink.deliver(announcement);
        }
    }

    fn evaluated(&self, recorded: Recorded<'_>) {
        if let Some(recorder) = &self.recorder {
            recorder.record(recorded.snapshot, recorded.answers, recorded.records);
        }
    }

    fn measure(&self, measurement: Measurement<'_>) {
        let metrics = &self.metrics;
        match measurement {
            Measurement::Evaluated { overall, took } => {
                let result = match overall {
                    Overall::Breached(_) => "breached",
                    Overall::Healthy => "healthy",
                    Overall::NoData => "no_data",
                };
                metrics.evaluated(result, took);
            }
            Measurement::Late(by) => metrics.late(by),
            Measurement::Read(took) => metrics.read("all", took),
            Measurement::NoData(reason) => metrics.no_data(&reason.to_string()),
            Measurement::Incident(severity) => metrics.incident(&severity.to_string()),
            Measurement::Policy { policy, ready, within, value } => {
                metrics.policy(&labels(policy), ready, within, value);
            }
            Measurement::Forgotten(policy) => metrics.forget(&labels(policy)),
        }
    }
}

fn labels((namespace, policy): &controller::PolicyKey) -> PolicyLabels {
    PolicyLabels { namespace: namespace.clone(), policy: policy.clone() }
}
