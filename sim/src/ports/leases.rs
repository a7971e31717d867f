//! The Lease of the election.

use std::time::Duration;

use controller::election::{Ahead, LeaseRecord, Leases, StoredLease};
use controller::ports::{Read, Written};
use engine::model::Draining;

use super::Port;
use crate::world::World;
use crate::world::api::{Answer, LeaseObject};
use crate::world::faults::Op;

/// What its holder holds it for without renewing, as it is configured by default.
pub const LEASE: Duration = Duration::from_secs(15);

fn stored(lease: &LeaseObject) -> StoredLease<u64> {
    let record = LeaseRecord {
        holder: lease.holder.clone(),
        transitions: Some(lease.epoch),
        duration: LEASE,
        mark: lease.draining.map(|draining| draining.until.to_string()),
    };
    StoredLease { record, version: lease.version.into(), raw: lease.version }
}

/// Writes the record over that version; version 0 where there is none.
fn write(world: &mut World, record: &LeaseRecord, version: u64) -> Answer<StoredLease<u64>> {
    let until = record.mark.as_deref().and_then(|text| text.parse().ok());
    world.write_lease(&LeaseObject {
        holder: record.holder.clone(),
        epoch: record.transitions.unwrap_or_default(),
        draining: until.map(|until| Draining { until }),
        version,
    })?;
    Ok(stored(&world.api.lease))
}

impl Leases for Port {
    type Raw = u64;

    async fn lease(&self) -> Read<Option<StoredLease<u64>>> {
        let read = |world: &mut World| {
            let lease = &world.api.lease;
            Ok((lease.version != 0).then(|| stored(lease)))
        };
        self.0.ask(Op::Read, read).await.map_err(Into::into)
    }

    async fn create(&self, record: &LeaseRecord) -> Written<StoredLease<u64>> {
        let record = record.clone();
        self.0.ask(Op::Lease, move |world| write(world, &record, 0)).await.map_err(Into::into)
    }

    async fn replace(&self, before: &StoredLease<u64>, record: &LeaseRecord) -> Written<StoredLease<u64>> {
        let (record, version) = (record.clone(), before.raw);
        self.0.ask(Op::Lease, move |world| write(world, &record, version)).await.map_err(Into::into)
    }

    async fn delete(&self, before: &StoredLease<u64>) -> Written<()> {
        let version = before.raw;
        self.0.ask(Op::Lease, move |world| world.delete_lease(version)).await.map_err(Into::into)
    }

    fn tried(&self, _: Option<bool>) {}

    /// The clock of a simulated machine never stands still.
    fn ahead(&self) -> Option<Ahead> {
        None
    }

    /// What waits looks again at once.
    fn marked(&self) {
        let Some(controllers) = self.0.controllers() else { return };
        for key in controllers.ledger.unsettled(None) {
            self.0.queue_remediation(key);
        }
    }
}
