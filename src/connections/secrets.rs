//! Secrets: read by name, never listed; read again when a login fails or a connection breaks, and at most every 5 minutes
//! otherwise.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::{NoData, NoDataReason};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::Credentials;
use crate::api::ALLOWED;
use crate::api::text::shown;

/// How long a Secret's content is trusted without looking again.
const TRUSTED: Duration = Duration::from_secs(300);
/// How long a Secret that could not be used is left alone.
const RETRY: Duration = Duration::from_secs(5);
/// How soon after a look a failed login may cause the next one.
const AGAIN: Duration = Duration::from_secs(5);

type Read = Result<Arc<Credentials>, NoData>;
/// What was read, by namespace and name, and when.
type Known = HashMap<(String, String), (Instant, Read)>;

/// The Secrets that policies refer to, as far as they have been read.
#[derive(Clone)]
pub struct Secrets {
    client: Client,
    known: Arc<Mutex<Known>>,
}

impl Secrets {
    /// Reads with this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, known: Arc::default() }
    }

    /// The credentials in a Secret.
    ///
    /// # Errors
    /// `SecretNotFound`, `SecretNotAllowed`, `SecretInvalid` or `ApiUnavailable`, each with what to do.
    pub async fn credentials(&self, namespace: &str, name: &str) -> Read {
        let key = (namespace.to_owned(), name.to_owned());
        let known = self.lock().get(&key).cloned();
        if let Some((at, read)) = known {
            let trusted = if read.is_ok() { TRUSTED } else { RETRY };
            if at.elapsed() < trusted {
                return read;
            }
        }
        let read = self.read(namespace, name).await;
        let mut known = self.lock();
        // What nobody asks for any more is not kept: it has passwords.
        known.retain(|_, (at, _)| at.elapsed() < TRUSTED.saturating_mul(2));
        known.insert(key, (Instant::now(), read.clone()));
        read
    }

    /// What was read did not work: look again at the next call.
    pub fn doubt(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut known = self.lock();
        if known.get(&key).is_some_and(|(at, _)| at.elapsed() >= AGAIN) {
            known.remove(&key);
        }
    }

    async fn read(&self, namespace: &str, name: &str) -> Read {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = match secrets.get_opt(name).await {
            Ok(Some(secret)) => secret,
            Ok(None) => {
                let detail = format!("Secret {name} does not exist in namespace {namespace}");
                return Err(NoData::new(NoDataReason::SecretNotFound, detail));
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {
                let detail =
                    format!("the operator may not get Secret {name} in namespace {namespace}; grant it");
                return Err(NoData::new(NoDataReason::SecretNotAllowed, detail));
            }
            Err(error) => {
                return Err(NoData::new(
                    NoDataReason::ApiUnavailable,
                    format!("Secret {name}: {}", brief(&error)),
                ));
            }
        };
        if secret.labels().get(ALLOWED).map(String::as_str) != Some("true") {
            let detail = format!("Secret {name} is not meant for the operator; label it {ALLOWED}: \"true\"");
            return Err(NoData::new(NoDataReason::SecretNotAllowed, detail));
        }
        Credentials::read(namespace, name, &secret.data.unwrap_or_default()).map(Arc::new)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // What a panicking task leaves behind here is a whole entry or none.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An API error in a few words: its status message, or what kind of failure it was.
pub(crate) fn brief(error: &kube::Error) -> String {
    let message =
        if let kube::Error::Api(status) = error { status.message.clone() } else { error.to_string() };
    shown(&message, 200)
}
