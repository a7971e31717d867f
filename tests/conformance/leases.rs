//! The Lease: creation and compare-and-swap.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};
use sim::dice::Dice;
use sim::world::World;
use sim::world::api::{ApiError, LeaseObject};

use crate::{Failed, understood};

const NAME: &str = "latency-operator";

/// A write of whoever has read the Lease at some time, or has found none.
pub(crate) async fn compare(client: &Client, namespace: &str, seed: u64) {
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let mut world = World::new(seed);
    let mut dice = Dice::new(seed);
    let (mut versions, mut ours): (Vec<Option<String>>, Vec<u64>) = (vec![None], vec![0]);
    let mut written = 0;
    for number in 1..=30_i32 {
        let known = if dice.percent(60) { versions.len() - 1 } else { dice.below(versions.len()) };
        let holder = format!("operator-{}", dice.between(1, 3));
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                resource_version: versions[known].clone(),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.clone()),
                lease_transitions: Some(number),
                ..LeaseSpec::default()
            }),
        };
        let real = match &versions[known] {
            None => api.create(&PostParams::default(), &lease).await,
            Some(_) => api.replace(NAME, &PostParams::default(), &lease).await,
        };
        let real = understood(real);
        let epoch = u64::try_from(number).expect("a number");
        let simulated = world.write_lease(&LeaseObject {
            holder: Some(holder),
            epoch,
            draining: None,
            version: ours[known],
        });
        assert_eq!(
            real.as_ref().map(|_| ()).map_err(|failed| *failed),
            simulated.map_err(|error| match error {
                ApiError::Conflict => Failed::Conflict,
                ApiError::NotFound | ApiError::Refused | ApiError::Lost => Failed::Refused,
            }),
            "seed {seed}, write {number} of {} that knows {known}",
            versions.len()
        );
        if let Ok(stored) = real {
            written += 1;
            versions.push(stored.resource_version());
            ours.push(world.api.lease.version);
            let (holder, epoch) = (world.api.lease.holder.clone(), world.api.lease.epoch);
            let spec = stored.spec.expect("a spec");
            assert_eq!(spec.holder_identity, holder);
            assert_eq!(spec.lease_transitions.and_then(|epoch| u64::try_from(epoch).ok()), Some(epoch));
        }
    }
    assert!((5..30).contains(&written), "seed {seed}: {written} of 30 were written");
}
