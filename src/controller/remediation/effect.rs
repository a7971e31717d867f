//! Sending the effect, once.

use engine::advance::EffectReport;
use engine::model::{Action, Remediation, SessionTarget, later};
use jiff::Timestamp;

use crate::act::signal_session::{self, ServerClock};
use crate::controller::context::Context;

/// Does it, and notes what was answered. While it is under way it counts as lost: should this task be stopped in the middle,
/// nobody in this process sends it again.
pub(super) async fn send(ctx: &Context, remediation: &Remediation, action: &Action, fence: Timestamp) {
    ctx.locals.sent(remediation, EffectReport::Lost("it was interrupted".to_owned()));
    let report = match server_clock(ctx, remediation, action.target()) {
        Some(clock) if ctx.shared.leadership.held() => {
            let shared = &ctx.shared;
            let roles = &shared.protected_roles;
            let namespace = &remediation.namespace;
            signal_session::signal(&shared.secrets, &shared.registry, namespace, action, roles, fence, clock)
                .await
        }
        Some(_) => EffectReport::Refused("the Lease was no longer provably held".to_owned()),
        None => EffectReport::Refused("the database's clock is not known".to_owned()),
    };
    tracing::info!(name = remediation.name, ?report, "the effect was sent");
    ctx.locals.sent(remediation, report);
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
