//! Counts what guards refused, and the remediations that are over.

use controller::announcement::{Announcement, Subject};
use controller::ports::Sink;

use crate::telemetry::Metrics;

pub(super) struct Counted {
    pub(super) metrics: Metrics,
}

impl Sink for Counted {
    fn wants(&self, announcement: &Announcement) -> bool {
        !matches!(announcement.subject, Subject::Rejection)
    }

    fn deliver(&self, announcement: &Announcement) {
        let refusals = announcement.record().map(|record| record.kind.refusals()).unwrap_or_default();
        for refusal in refusals {
            self.metrics.refused(refusal.guard.as_str());
        }
        if let Subject::Step { kind, ended: Some((phase, outcome)), .. } = &announcement.subject {
            let outcome = outcome.map(|outcome| outcome.to_string()).unwrap_or_default();
            self.metrics.remediated(&kind.to_string(), &phase.to_string(), &outcome);
        }
    }
}
