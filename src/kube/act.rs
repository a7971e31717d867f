//! Effects outside of the API server: signals to sessions, requests to Services.

use controller::ports::Act;
use engine::advance::EffectReport;
use engine::model::{Action, Remediation, Shared, WarmCache};
use jiff::Timestamp;
use kube::Client;

use crate::act::signal_session;
use crate::act::warm_cache::Asker;
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
    async fn signal(&self, remediation: &Remediation, action: &Action, fence: Timestamp) -> EffectReport {
        let (secrets, registry) = (&self.secrets, &self.registry);
        let namespace = &remediation.namespace;
        signal_session::signal(secrets, registry, namespace, action, &self.protected_roles, fence).await
    }

    async fn request(
        &self,
        remediation: &Remediation,
        warm: &WarmCache,
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
            settings: warm.settings.clone(),
        };
        asker.ask(path, number, fence, may).await
    }
}
