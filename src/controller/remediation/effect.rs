//! Sending the effect, once.

use std::sync::Arc;

use engine::advance::EffectReport;
use engine::model::{Action, Remediation, Scale, SessionTarget, TerminateIdle, later};
use jiff::Timestamp;

use super::warm;
use crate::act::scale::{self, Replaces};
use crate::act::signal_session::{self, ServerClock};
use crate::controller::context::Context;

/// Does it, and notes what was answered. While it is under way it counts as lost: should this task be stopped in the middle,
/// nobody in this process sends it again.
pub(super) async fn send(ctx: &Arc<Context>, remediation: &Remediation, action: &Action, fence: Timestamp) {
    ctx.locals.sent(remediation, EffectReport::Lost("it was interrupted".to_owned()));
    let report = if ctx.shared.leadership.held() {
        carry_out(ctx, remediation, action, fence).await
    } else {
        Some(EffectReport::Refused("the Lease was no longer provably held".to_owned()))
    };
    let Some(report) = report else { return };
    tracing::info!(name = remediation.name, ?report, "the effect was sent");
    ctx.locals.sent(remediation, report);
}

/// What was answered; nothing yet where it goes on by itself.
async fn carry_out(
    ctx: &Arc<Context>,
    remediation: &Remediation,
    action: &Action,
    fence: Timestamp,
) -> Option<EffectReport> {
    let (shared, namespace) = (&ctx.shared, &remediation.namespace);
    Some(match action {
        Action::CancelQuery(target)
        | Action::TerminateQuery(target)
        | Action::TerminateIdle(TerminateIdle { target, .. }) => {
            let Some(clock) = server_clock(ctx, remediation, target) else {
                return Some(EffectReport::Refused("the database's clock is not known".to_owned()));
            };
            let roles = &shared.protected_roles;
            signal_session::signal(&shared.secrets, &shared.registry, namespace, action, roles, fence, clock)
                .await
        }
        Action::Scale(to) => {
            scale::write(&shared.mutating, &shared.clock, namespace, to, Replaces::Anybodys, fence).await
        }
        Action::WarmCache(to) => {
            warm::begin(ctx, remediation, to, fence);
            return None;
        }
    })
}

/// Sets the replicas back, if they are still what we set.
pub(super) async fn restore(
    ctx: &Context,
    remediation: &Remediation,
    to: &Scale,
    fence: Timestamp,
) -> EffectReport {
    let (shared, namespace) = (&ctx.shared, &remediation.namespace);
    if !shared.leadership.held() {
        return EffectReport::Refused("the Lease was no longer provably held".to_owned());
    }
    let report = scale::write(&shared.mutating, &shared.clock, namespace, to, Replaces::Ours, fence).await;
    tracing::info!(name = remediation.name, ?report, from = to.from, to = to.to, "taken back");
    report
}

/// The server's clock, from the look that the gate has judged.
fn server_clock(ctx: &Context, remediation: &Remediation, target: &SessionTarget) -> Option<ServerClock> {
    let policy = (remediation.namespace.clone(), remediation.spec.policy.name.clone());
    let view = ctx.shared.views.of(&policy)?;
    let observed = view.0.databases.get(&target.dependency)?;
    let facts = observed.known().filter(|facts| facts.server == target.server)?;
    // The server said it before we noted it: its clock is at least as far as this.
    let read_at = observed.at()?;
    Some(ServerClock { server: later(facts.clock, std::time::Duration::ZERO), ours: read_at })
}
