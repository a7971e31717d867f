//! `ConnectionsExhausted`: the server has hardly a connection slot left, or none even for us.

use super::{Cause, Database, Detector};
use crate::model::{Confidence, Evidence, Finding, NoDataReason, Subject};

/// Its name.
pub(super) const NAME: &str = "ConnectionsExhausted";

pub(super) const CAUSE: Cause = Cause {
    name: NAME,
    found_when: "client sessions hold at least 90% of the usable connection slots, or the server refuses us for want of one",
    diagnose: Detector::Database(diagnose),
    ..Cause::DEFAULT
};

fn diagnose(database: &Database<'_>) -> Option<Finding> {
    let (confidence, evidence, sentence) = match &database.facts {
        Ok((_, facts)) => {
            let (used, usable) = (facts.slots.used, facts.slots.usable);
            if u64::from(used) * 10 < u64::from(usable) * 9 {
                return None;
            }
            let evidence = vec![Evidence::new("connections", format!("{used} of {usable}"))];
            (
                Confidence::Possible,
                evidence,
                format!("{} has {used} of {usable} connection slots in use", database.name),
            )
        }
        Err(no_data) if no_data.reason == NoDataReason::ConnectionsExhausted => (
            Confidence::Likely,
            Vec::new(),
            format!("{} refuses connections: {}", database.name, no_data.detail),
        ),
        Err(_) => return None,
    };
    Some(Finding {
        cause: CAUSE.name.into(),
        confidence,
        advice: true,
        subject: Some(Subject::Dependency { dependency: database.name.to_owned() }),
        onset: None,
        evidence,
        sentence,
        explained_by: None,
    })
}
