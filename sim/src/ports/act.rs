//! Effects outside of the API server.

use controller::ports::Act;
use engine::advance::EffectReport;
use engine::effects::{Requests, SignalSession};
use engine::model::{Remediation, elapsed};
use jiff::Timestamp;

use super::Port;
use crate::world::World;
use crate::world::api::ApiError;
use crate::world::database::Signalled;
use crate::world::faults::Op;
use crate::world::instant;
use crate::world::setup::{database_of, place_of_target};

impl Act for Port {
    async fn signal(
        &self,
        remediation: &Remediation,
        signal: &SignalSession,
        fence: Timestamp,
    ) -> EffectReport {
        let Some(place) = database_of(&signal.target.secret.name) else {
            return EffectReport::Refused("there is no such database".to_owned());
        };
        let key = (remediation.namespace.clone(), remediation.name.clone());
        let signal = signal.clone();
        let serve = move |world: &mut World| world.signal(place, &signal, fence, &key);
        let failed = |error| match error {
            ApiError::Lost => Signalled::Lost,
            ApiError::Conflict | ApiError::NotFound | ApiError::Refused => Signalled::Refused,
        };
        match self.0.send(Op::Signal, false, serve, failed).await {
            Signalled::Sent => EffectReport::Sent,
            Signalled::NotMatched => EffectReport::NotMatched("the session had gone".to_owned()),
            Signalled::Refused => EffectReport::Refused("the database refused".to_owned()),
            Signalled::Lost => EffectReport::Lost("the connection broke".to_owned()),
        }
    }

    async fn request(
        &self,
        remediation: &Remediation,
        _: &Requests,
        path: &str,
        _: usize,
        fence: Timestamp,
        may: impl Fn() -> bool + Send + Sync,
    ) -> Result<(), String> {
        if elapsed(fence, self.0.now()).is_zero() || !may() {
            return Err("there was no time left".to_owned());
        }
        let place = place_of_target(&remediation.namespace, &remediation.spec.target);
        let key = (remediation.namespace.clone(), remediation.name.clone());
        let (path, sent) = (path.to_owned(), instant(self.0.sim.now()));
        let serve = move |world: &mut World| match place {
            Some(place) => world.serve(place, &path, &key, sent),
            None => Err("no address".to_owned()),
        };
        self.0.send(Op::Warm, false, serve, |_| Err("no answer".to_owned())).await
    }
}
