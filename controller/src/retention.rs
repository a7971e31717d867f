//! Removing history that nobody needs any more: beyond the policy's `historyLimit`, and outside every window that counts it.

use std::time::Duration;

use engine::model::{Policy, Remediation};
use engine::retention::{expired, may_go};

use crate::ports::{Cluster, Environment, Timer};
use crate::{Controllers, PolicyKey};

/// How often all remediations are looked through. Nothing is urgent about it.
const EVERY: Duration = Duration::from_secs(600);

impl<E: Environment> Controllers<E> {
    /// Trims the history of all remediations of a namespace, or of all, for ever; of deleted policies as well.
    pub async fn keep_history_trimmed(&self, namespace: Option<&str>) {
        loop {
            self.ports.time.sleep(EVERY).await;
            for policy in self.ledger.policies() {
                if namespace.is_none_or(|wanted| wanted == policy.0) {
                    self.trim(&policy).await;
                }
            }
        }
    }

    async fn trim(&self, key: &PolicyKey) {
        if let Some(evaluated) = self.evaluations.of(key) {
            let open = evaluated.situation.incident.as_ref().map(|incident| incident.name.clone());
            let keep = Some(evaluated.snapshot.policy.history_limit);
            return self.remove_remediations(key, keep, open.as_deref()).await;
        }
        // A policy that is invalid or has not been evaluated yet is a policy all the same.
        if let Ok(None) = self.ports.cluster.policy_meta(key).await {
            self.remove_remediations(key, None, None).await;
        }
    }

    /// An incident of the policy was closed: that is when history grows.
    pub(crate) async fn trim_history(&self, policy: &Policy) {
        let key = (policy.id.namespace.clone(), policy.id.name.clone());
        self.remove_remediations(&key, Some(policy.history_limit), None).await;
        self.remove_incidents(&key, policy.history_limit).await;
    }

    async fn remove_remediations(&self, key: &PolicyKey, keep: Option<usize>, open: Option<&str>) {
        let all = self.ledger.all_of(key);
        for gone in expired(&all, keep, open, self.now()) {
            self.remove(gone).await;
        }
    }

    /// As it is stored now, and only if it is still that when it is deleted.
    async fn remove(&self, known: &Remediation) {
        let (namespace, name) = (&known.namespace, &known.name);
        let stored = match self.ports.cluster.remediation(&(namespace.clone(), name.clone())).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(name, %error, "could not be removed from the history");
                return;
            }
        };
        let value = &stored.value;
        if value.created_at != known.created_at || !may_go(value, self.now()) {
            return;
        }
        match self.ports.cluster.delete_remediation(&stored).await {
            Ok(()) => tracing::info!(namespace, name, "removed from the history"),
            Err(error) => tracing::warn!(name, %error, "could not be removed from the history"),
        }
    }

    /// By their label: incidents of an earlier policy of the same name as well. What cannot be decoded is left as it is.
    async fn remove_incidents(&self, policy: &PolicyKey, keep: usize) {
        let mut closed = match self.ports.cluster.incidents(policy).await {
            Ok(all) => all.into_iter().filter_map(|one| Some((one.closed?, one))).collect::<Vec<_>>(),
            Err(error) => {
                tracing::warn!(?policy, %error, "old incidents could not be removed");
                return;
            }
        };
        closed.sort_by_key(|(opened, _)| std::cmp::Reverse(*opened));
        for (_, gone) in closed.into_iter().skip(keep) {
            if let Err(error) = self.ports.cluster.delete_incident(&policy.0, &gone).await {
                tracing::warn!(name = gone.name, %error, "an old incident could not be removed");
                return;
            }
        }
    }
}
