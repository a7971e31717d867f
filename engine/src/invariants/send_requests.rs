//! What must be true of a request to the target.

use std::time::Duration;

use jiff::Timestamp;

use super::act::Found;
use super::{Checker, Intent, Request};
use crate::effects::Effect;
use crate::model::{duration::human, elapsed};

impl Checker {
    /// The target was asked for something. The first request of a remediation is its act; the others belong to it, and what let
    /// it begin must last. One that was under way for long is judged by when it was sent.
    pub(super) fn requested(&mut self, at: Timestamp, request: &Request) {
        let key = &request.remediation;
        let sent = request.sent.unwrap_or(at);
        let late = elapsed(at, sent).max(self.tolerance.hearing);
        let Some(intent) = self.intents.get(key) else {
            if self.gone.get(key).is_some_and(|then| elapsed(at, *then) <= late) {
                return;
            }
            let message = format!("{} was asked for, for {}, which is not stored", request.path, key.1);
            return self.violated("S3", at, message);
        };
        let mut found = request_found(sent, request, intent);
        let first = intent.landed.is_none();
        if !first {
            let act = self.act_of(at, key, intent);
            self.terms(&act, late, &mut found);
            self.permitted(&act, late, &mut found);
            self.storm(&act, late, &mut found);
            // What was read since a late one was sent says nothing about it.
            if elapsed(at, sent) <= Duration::from_secs(1) {
                // How long the breach had been seen was asked before the first.
                found.extend(self.doubts(sent, &intent.stored).into_iter().filter(|(id, _)| *id != "S14"));
            }
        }
        if let Some(intent) = self.intents.get_mut(key) {
            *intent.requests.entry(request.path.clone()).or_default() += 1;
        }
        if first {
            return self.acted(at, key, late, found);
        }
        for (id, message) in found {
            self.violated(id, at, format!("{}: {message}", key.1));
        }
    }
}

/// S22: what was decided, as often as was decided, in time.
fn request_found(sent: Timestamp, request: &Request, intent: &Intent) -> Found {
    let mut found = Found::new();
    if let Effect::SendRequests(decided) = &intent.effect {
        if !decided.requests.paths.contains(&request.path) {
            found.push(("S22", format!("{} was asked for, which was not decided", request.path)));
        }
        let before = intent.requests.get(&request.path).copied().unwrap_or_default();
        if before >= decided.requests.requests_per_path {
            found.push(("S22", format!("{} was asked for {} times", request.path, before + 1)));
        }
    } else {
        found.push(("S3", "the target was asked for something by an act on something else".to_owned()));
    }
    let late = intent.executing_at.map(|gate| elapsed(sent, gate));
    let deadline = intent.stored.spec.deadline;
    if late.is_none_or(|late| late > deadline.saturating_add(Duration::from_secs(1))) {
        let deadline = human(deadline);
        found.push(("S22", format!("it was sent {late:?} after the gate, with {deadline} of time")));
    }
    found
}
