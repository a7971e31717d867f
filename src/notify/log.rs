//! One line of the log for each decision, and a warning for a policy that cannot be acted on.

use controller::announcement::Announcement;
use controller::ports::Sink;

pub(super) struct Log;

impl Sink for Log {
    fn wants(&self, _: &Announcement) -> bool {
        true
    }

    fn deliver(&self, announcement: &Announcement) {
        let Announcement { policy, incident, note, .. } = announcement;
        let policy = &**policy;
        match announcement.record() {
            Some(record) => {
                let slot = record.slot();
                tracing::info!(%policy, incident, %slot, "{}", record.sentence());
            }
            None => tracing::warn!(%policy, "stalled: {note}"),
        }
    }
}
