//! Sending an effect, once.

use std::sync::Arc;

use engine::advance::EffectReport;
use engine::effects::{Effect, SessionTarget};
use engine::model::{Remediation, elapsed, later};
use jiff::Timestamp;

use super::replicas::Replaces;
use crate::ports::{Act, Environment, Leading};
use crate::{Controllers, planted};

impl<E: Environment> Controllers<E> {
    /// Sends the effect, and notes what was answered. While it is under way it counts as lost: should this task be stopped in
    /// between, this process does not send it again.
    pub(super) async fn send(self: &Arc<Self>, remediation: &Remediation, effect: &Effect, fence: Timestamp) {
        self.in_flight.sent(remediation, EffectReport::Lost("it was interrupted".to_owned()));
        let report = if self.ports.leading.held() || planted::is("effect_without_the_lease") {
            self.carry_out_effect(remediation, effect, fence).await
        } else {
            Some(EffectReport::Refused("the Lease was no longer provably held".to_owned()))
        };
        let Some(report) = report else { return };
        tracing::info!(name = remediation.name, ?report, "the effect was sent");
        self.in_flight.sent(remediation, report);
    }

    /// What was answered; nothing yet where the effect goes on by itself.
    async fn carry_out_effect(
        self: &Arc<Self>,
        remediation: &Remediation,
        effect: &Effect,
        fence: Timestamp,
    ) -> Option<EffectReport> {
        Some(match effect {
            Effect::SignalSession(signal) => {
                let Some(fence) = self.on_server_clock(remediation, &signal.target, fence) else {
                    return Some(EffectReport::Refused("the database's clock is not known".to_owned()));
                };
                let mut report = self.ports.act.signal(remediation, signal, fence).await;
                if matches!(report, EffectReport::Lost(_)) && planted::is("lost_effect_is_sent_again") {
                    let again = later(fence, remediation.spec.deadline);
                    report = self.ports.act.signal(remediation, signal, again).await;
                }
                report
            }
            Effect::SetReplicas(set) => self.set_replicas(remediation, set, Replaces::Anybodys, fence).await,
            Effect::SendRequests(send) => {
                self.begin_run(remediation, send, fence);
                return None;
            }
        })
    }

    /// Takes a change back, if it is still ours.
    pub(super) async fn restore(
        &self,
        remediation: &Remediation,
        effect: &Effect,
        fence: Timestamp,
    ) -> EffectReport {
        if !self.ports.leading.held() {
            return EffectReport::Refused("the Lease was no longer provably held".to_owned());
        }
        let report = match effect {
            Effect::SetReplicas(set) => self.set_replicas(remediation, set, Replaces::Ours, fence).await,
            Effect::SignalSession(_) | Effect::SendRequests(_) => {
                EffectReport::Refused("it leaves no change that could be taken back".to_owned())
            }
        };
        tracing::info!(name = remediation.name, ?report, ?effect, "rolled back");
        report
    }

    /// The fence on the database server's clock, by the reading that the gate has judged. The server said its time before we
    /// noted ours, so its clock is at least that far.
    fn on_server_clock(
        &self,
        remediation: &Remediation,
        target: &SessionTarget,
        fence: Timestamp,
    ) -> Option<Timestamp> {
        let policy = (remediation.namespace.clone(), remediation.spec.policy.name.clone());
        let evaluated = self.evaluations.of(&policy)?;
        let (ours, facts) = evaluated.snapshot.observations.postgres(&target.dependency)?.ok()?;
        (facts.server == target.server).then(|| later(facts.clock, elapsed(fence, ours)))
    }
}
