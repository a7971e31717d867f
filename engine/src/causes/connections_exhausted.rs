//! `ConnectionsExhausted`: the server has hardly a connection slot left, or none even for us.

use super::Cause;
use super::case::{Case, Found, Hurts, Store};
use crate::dependencies::postgres::Postgres;
use crate::model::{Evidence, NoDataReason};

pub(super) const CAUSE: Cause = Cause {
    name: "ConnectionsExhausted",
    found_when: "client sessions hold at least 90% of the usable connection slots, or the server refuses us for want of one",
    advice: true,
    blocks_load: true,
    diagnose,
    ..Cause::DEFAULT
};

fn diagnose(case: &Case<'_>) -> Vec<Found> {
    case.each::<Postgres>().filter_map(|database| full(&database)).collect()
}

fn full(database: &Store<'_, Postgres>) -> Option<Found> {
    let name = database.name;
    let (hurts, evidence, sentence) = match &database.facts {
        Ok((_, facts)) => {
            let (used, usable) = (facts.slots.used, facts.slots.usable);
            if u64::from(used) * 10 < u64::from(usable) * 9 {
                return None;
            }
            let evidence = vec![Evidence::new("connections", format!("{used} of {usable}"))];
            (Hurts::Unknown, evidence, format!("{name} has {used} of {usable} connection slots in use"))
        }
        Err(no_data) if no_data.reason == NoDataReason::ConnectionsExhausted => {
            (Hurts::Now, Vec::new(), format!("{name} refuses connections: {}", no_data.detail))
        }
        Err(_) => return None,
    };
    Some(Found { subject: database.subject(), onset: None, hurts, advice: false, evidence, sentence })
}
