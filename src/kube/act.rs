//! Effects outside of the API server: signals to sessions, requests to Services.

use controller::ports::Act;
use engine::advance::EffectReport;
use engine::effects::{Requests, SignalSession};
use engine::model::{Remediation, Shared};
use jiff::Timestamp;
use kube::Client;

use crate::act::send_requests::Asker;
use crate::act::signal_session;
use crate::clock::Clock;
use crate::connections::{Registry, Secrets, Services};

/// Carries effects out.
pub struct Actor {
    /// Reads.
    pub client: Client,
    /// The clock that fences are on.
    pub clock: Clock,
    /// Secrets that policies refer to.
    pub secrets: Secrets,
    /// Connections to data stores.
    pub registry: Registry,
    /// From Services to addresses that may be asked.
    pub services: Services,
    /// Database roles that are never touched.
    pub protected_roles: Shared<Vec<String>>,
}

impl Act for Actor {
    async fn signal(
        &self,
        remediation: &Remediation,
        signal: &SignalSession,
        fence: Timestamp,
    ) -> EffectReport {
        let (secrets, registry) = (&self.secrets, &self.registry);
        let namespace = &remediation.namespace;
        signal_session::signal(secrets, registry, namespace, signal, &self.protected_roles, fence).await
    }

    async fn request(
        &self,
        remediation: &Remediation,
        requests: &Requests,
        path: &str,
        number: usize,
        fence: Timestamp,
        may: impl Fn() -> bool + Send + Sync,
    ) -> Result<(), String> {
        let asker = Asker {
            client: self.client.clone(),
            services: self.services.clone(),
            clock: self.clock,
            namespace: remediation.namespace.clone(),
            target: remediation.spec.target.clone(),
            requests: requests.clone(),
        };
        asker.ask(path, number, fence, may).await
    }
}
