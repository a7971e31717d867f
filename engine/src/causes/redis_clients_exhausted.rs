//! `RedisClientsExhausted`: the server takes hardly a client more, or not even us.

use super::{Cache, Cause, Detector};
use crate::model::{Confidence, Evidence, Finding, NoDataReason};

pub(super) const CAUSE: Cause = Cause {
    name: "RedisClientsExhausted",
    found_when: "at least 90% of `maxclients` are connected, connections were refused lately, or the server refuses us for want of one",
    diagnose: Detector::Cache(diagnose),
    ..Cause::DEFAULT
};

fn diagnose(cache: &Cache<'_>) -> Option<Finding> {
    let name = cache.name;
    let (confidence, evidence, sentence) = match cache.facts {
        Ok((_, facts)) => {
            let (connected, max) = (facts.clients.connected, facts.clients.max?);
            let rejected = cache.trend.as_ref().map_or(0, |trend| trend.rejected);
            if u64::from(connected) * 10 < u64::from(max) * 9 && rejected == 0 {
                return None;
            }
            let evidence = vec![
                Evidence::new("clients", format!("{connected} of {max}")),
                Evidence::new("connections refused", rejected.to_string()),
            ];
            // Refused connections are somebody's errors; a high number alone hurts nobody.
            let confidence = if rejected > 0 { Confidence::Likely } else { Confidence::Possible };
            (
                confidence,
                evidence,
                format!("{name} has {connected} of {max} clients, and refused {rejected} lately"),
            )
        }
        Err(no_data) if no_data.reason == NoDataReason::ConnectionsExhausted => {
            (Confidence::Likely, Vec::new(), format!("{name} refuses connections: {}", no_data.detail))
        }
        Err(_) => return None,
    };
    Some(Finding {
        cause: CAUSE.name.into(),
        confidence,
        advice: true,
        subject: Some(cache.subject()),
        onset: None,
        evidence,
        sentence,
        explained_by: None,
    })
}
