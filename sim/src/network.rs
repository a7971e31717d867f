//! How requests travel, and what befalls them on the way.

use crate::exec::{MS, Micros, SECOND, Slot};
use crate::process::{self, Process};
use crate::world::api::{Answer, ApiError};
use crate::world::faults::{Blow, Op};
use crate::world::{World, count};

/// A request without an answer for this long is lost.
pub const ANSWER_WITHIN: Micros = 5 * SECOND;

impl Process {
    /// Sends a request to the API server.
    pub async fn ask<T: Send + 'static>(
        &self,
        op: Op,
        serve: impl FnOnce(&mut World) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let answer = self.send(op, true, serve, Err).await;
        let became = match &answer {
            Ok(_) => "answered",
            Err(ApiError::Conflict) => "conflict",
            Err(ApiError::NotFound) => "not found",
            Err(ApiError::Refused) => "refused",
            Err(ApiError::Lost) => "lost",
        };
        count(&mut self.sim.world().counts.requests, became);
        answer
    }

    /// Sends something to a server, which does it when it arrives, if it does.
    pub async fn send<T: Send + 'static>(
        &self,
        op: Op,
        api: bool,
        serve: impl FnOnce(&mut World) -> T + Send + 'static,
        failed: impl Fn(ApiError) -> T + Send + 'static,
    ) -> T {
        let (sim, node) = (&self.sim, self.node);
        let blow = self.blow(op, api);
        let (there, back) = {
            let mut world = sim.world();
            if let Some(blow) = blow {
                world.fault(blow.name());
                if op != Op::Lease && op != Op::Read {
                    world.note(&format!("{}: {op:?}: {}", self.identity, blow.name()));
                }
            }
            (world.dice.between(MS, 8 * MS), world.dice.between(MS, 8 * MS))
        };
        match blow {
            Some(Blow::CrashBefore) => self.end().await,
            Some(Blow::FrozenBefore(seconds)) => {
                process::freeze(sim, node, seconds);
                sim.sleep(1).await;
            }
            Some(Blow::RequestLost) => {
                sim.sleep(ANSWER_WITHIN).await;
                return failed(ApiError::Lost);
            }
            Some(Blow::Conflict) => {
                sim.sleep(there + back).await;
                return failed(ApiError::Conflict);
            }
            Some(Blow::Throttled) => {
                sim.sleep(there + back).await;
                return failed(ApiError::Refused);
            }
            Some(Blow::Failed) => {
                sim.sleep(there + back).await;
                return failed(ApiError::Lost);
            }
            Some(
                Blow::CrashAfter
                | Blow::AnswerLost
                | Blow::AnswerLate(_)
                | Blow::Late(_)
                | Blow::BrokenOff(_)
                | Blow::Overtaken
                | Blow::FrozenAfter(_),
            )
            | None => {}
        }
        let slot = Slot::default();
        let arrives = match blow {
            Some(Blow::Late(seconds) | Blow::BrokenOff(seconds)) => sim.now() + seconds * SECOND,
            _ => sim.now() + there,
        };
        let given_up = match blow {
            Some(Blow::AnswerLost | Blow::Late(_)) => Some(ANSWER_WITHIN),
            Some(Blow::BrokenOff(_)) => Some(there + back),
            _ => None,
        };
        if let Some(patience) = given_up {
            let lost = slot.clone();
            sim.at(sim.now() + patience, move |_| lost.fill(failed(ApiError::Lost)));
        }
        let answered = slot.clone();
        sim.at(arrives, move |sim| {
            let answer = {
                let mut world = sim.world();
                if blow == Some(Blow::Overtaken) {
                    world.overtake();
                }
                serve(&mut world)
            };
            let after = match blow {
                Some(Blow::AnswerLost | Blow::Late(_) | Blow::BrokenOff(_)) => return,
                Some(Blow::CrashAfter) => return process::kill(sim, node),
                Some(Blow::AnswerLate(seconds)) => seconds * SECOND,
                Some(Blow::FrozenAfter(seconds)) => {
                    process::freeze(sim, node, seconds);
                    back
                }
                Some(
                    Blow::CrashBefore
                    | Blow::FrozenBefore(_)
                    | Blow::RequestLost
                    | Blow::Conflict
                    | Blow::Throttled
                    | Blow::Failed
                    | Blow::Overtaken,
                )
                | None => back,
            };
            sim.at(sim.now() + after, move |_| answered.fill(answer));
        });
        slot.await
    }

    /// What befalls a request.
    fn blow(&self, op: Op, api: bool) -> Option<Blow> {
        let mut world = self.sim.world();
        let now = world.now;
        if let Some(blow) = world.faults.ambushed(now, self.node, op) {
            return Some(blow);
        }
        if api && world.faults.api_down.get(self.node).is_some_and(|until| now < *until) {
            return Some(Blow::RequestLost);
        }
        let flaky = world.faults.api_flaky.get(self.node).is_some_and(|until| now < *until);
        if !api || !flaky || !world.dice.percent(20) {
            return None;
        }
        Some(match world.dice.below(7) {
            0 => Blow::AnswerLost,
            1 => Blow::RequestLost,
            2 => Blow::Conflict,
            3 => Blow::Throttled,
            4 => Blow::Failed,
            5 => Blow::AnswerLate(world.dice.between(1, 4)),
            _ => Blow::Late(world.dice.between(1, 15)),
        })
    }
}
