//! `RedisClientsExhausted`: the server takes hardly a client more, or not even us.

use super::Cause;
use super::case::{Case, Found, Hurts, Store};
use crate::dependencies::redis::Redis;
use crate::model::{Evidence, NoDataReason};

pub(super) const CAUSE: Cause = Cause {
    name: "RedisClientsExhausted",
    found_when: "at least 90% of `maxclients` are connected, connections were refused lately, or the server refuses us for want of one",
    advice: true,
    diagnose,
    ..Cause::DEFAULT
};

fn diagnose(case: &Case<'_>) -> Vec<Found> {
    case.each::<Redis>().filter_map(|cache| full(&cache)).collect()
}

fn full(cache: &Store<'_, Redis>) -> Option<Found> {
    let name = cache.name;
    let (hurts, evidence, sentence) = match cache.facts {
        Ok((_, facts)) => {
            let (connected, max) = (facts.clients.connected, facts.clients.max?);
            let rejected = cache.trend().map_or(0, |trend| trend.rejected);
            if u64::from(connected) * 10 < u64::from(max) * 9 && rejected == 0 {
                return None;
            }
            let evidence = vec![
                Evidence::new("clients", format!("{connected} of {max}")),
                Evidence::new("connections refused", rejected.to_string()),
            ];
            // Refused connections are somebody's errors; a high number alone hurts nobody.
            let hurts = if rejected > 0 { Hurts::Now } else { Hurts::Unknown };
            (
                hurts,
                evidence,
                format!("{name} has {connected} of {max} clients, and refused {rejected} lately"),
            )
        }
        Err(no_data) if no_data.reason == NoDataReason::ConnectionsExhausted => {
            (Hurts::Now, Vec::new(), format!("{name} refuses connections: {}", no_data.detail))
        }
        Err(_) => return None,
    };
    Some(Found { subject: cache.subject(), onset: None, hurts, advice: false, evidence, sentence })
}
