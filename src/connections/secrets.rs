//! Secrets: read by name, never listed; read again when a login fails or a connection breaks, and at most every 5 minutes
//! otherwise.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::{NoData, NoDataReason, SecretKeys, SecretRef};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::{Credentials, RedisCredentials};
use crate::api::ALLOWED;
use crate::api::text::shown;
use crate::config::SecretRule;

/// How long a Secret's content is trusted without looking again.
const TRUSTED: Duration = Duration::from_secs(300);
/// How long a Secret that could not be used is left alone.
const RETRY: Duration = Duration::from_secs(5);
/// How soon after a look a failed login may cause the next one.
const AGAIN: Duration = Duration::from_secs(5);

/// What is in a Secret, understood once for each kind of server that somebody takes it for and for each naming of its keys.
#[derive(Default)]
struct Content {
    namespace: String,
    name: String,
    data: BTreeMap<String, ByteString>,
    postgres: ByKeys<Credentials>,
    redis: ByKeys<RedisCredentials>,
}

type Understood<C> = Result<Arc<C>, NoData>;
type ByKeys<C> = Mutex<HashMap<SecretKeys, Understood<C>>>;
/// How many namings of a Secret's keys are remembered. Each policy can have one of its own for each dependency.
const NAMINGS: usize = 64;
type Read = Result<Arc<Content>, NoData>;
/// What was read, and when. Whoever reads holds it: what several need is read once.
type Slot = Arc<tokio::sync::Mutex<Option<(Instant, Read)>>>;
/// By namespace and name.
type Known = HashMap<(String, String), Slot>;

impl Content {
    fn postgres(&self, keys: &SecretKeys) -> Understood<Credentials> {
        let read = || Credentials::read(&self.namespace, &self.name, keys, &self.data).map(Arc::new);
        remembered(&self.postgres, keys, read)
    }

    fn redis(&self, keys: &SecretKeys) -> Understood<RedisCredentials> {
        let read = || RedisCredentials::read(&self.namespace, &self.name, keys, &self.data).map(Arc::new);
        remembered(&self.redis, keys, read)
    }
}

fn remembered<C>(
    known: &ByKeys<C>,
    keys: &SecretKeys,
    read: impl FnOnce() -> Understood<C>,
) -> Understood<C> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= NAMINGS && !known.contains_key(keys) {
        known.clear();
    }
    known.entry(keys.clone()).or_insert_with(read).clone()
}

/// The Secrets that policies refer to, as far as they have been read.
#[derive(Clone)]
pub struct Secrets {
    client: Client,
    rule: SecretRule,
    known: Arc<Mutex<Known>>,
}

impl Secrets {
    /// Reads with this client what the rule lets it read.
    #[must_use]
    pub fn new(client: Client, rule: SecretRule) -> Self {
        Self { client, rule, known: Arc::default() }
    }

    /// The credentials for PostgreSQL in a Secret.
    ///
    /// # Errors
    /// `SecretNotFound`, `SecretNotAllowed`, `SecretInvalid` or `ApiUnavailable`, each with what to do.
    pub async fn credentials(&self, namespace: &str, secret: &SecretRef) -> Result<Arc<Credentials>, NoData> {
        self.understood(namespace, secret, Content::postgres).await
    }

    /// The credentials for Redis in a Secret.
    ///
    /// # Errors
    /// As for [`Secrets::credentials`].
    pub async fn redis(&self, namespace: &str, secret: &SecretRef) -> Result<Arc<RedisCredentials>, NoData> {
        self.understood(namespace, secret, Content::redis).await
    }

    /// What was read did not work: look again at the next call.
    pub fn doubt(&self, namespace: &str, secret: &SecretRef) {
        let slot = self.lock().get(&(namespace.to_owned(), secret.name.clone())).cloned();
        // Where it is held it is being read.
        if let Some(mut known) = slot.as_ref().and_then(|slot| slot.try_lock().ok()) {
            known.take_if(|(at, _)| at.elapsed() >= AGAIN);
        }
    }

    async fn understood<C>(
        &self,
        namespace: &str,
        secret: &SecretRef,
        understand: fn(&Content, &SecretKeys) -> Understood<C>,
    ) -> Understood<C> {
        let understand = |read: &Read| read.clone().and_then(|content| understand(&content, &secret.keys));
        let name = secret.name.as_str();
        let slot = self.slot(namespace, name);
        let mut known = slot.lock().await;
        if let Some((at, read)) = known.as_ref() {
            let understood = understand(read);
            let trusted = if understood.is_ok() { TRUSTED } else { RETRY };
            if at.elapsed() < trusted {
                return understood;
            }
        }
        let read = self.read(namespace, name).await;
        let understood = understand(&read);
        *known = Some((Instant::now(), read));
        understood
    }

    fn slot(&self, namespace: &str, name: &str) -> Slot {
        let key = (namespace.to_owned(), name.to_owned());
        let mut known = self.lock();
        // What nobody asks for any more is not kept: it has passwords.
        known.retain(|other, slot| *other == key || Arc::strong_count(slot) > 1 || is_asked_for(slot));
        known.entry(key).or_default().clone()
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
        let label = secret.labels().get(ALLOWED).map(String::as_str);
        if !self.rule.lets(label) {
            return Err(NoData::new(NoDataReason::SecretNotAllowed, refusal(name, label)));
        }
        Ok(Arc::new(Content {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            data: secret.data.unwrap_or_default(),
            ..Content::default()
        }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // What a panicking task leaves behind here is a whole entry or none.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a Secret is not read, and both ways out of it.
fn refusal(name: &str, label: Option<&str>) -> String {
    match label {
        None => format!(
            "Secret {name} is not meant for the operator: label it {ALLOWED}: \"true\", or have the administrator set \
             secrets: AuthorChecked in the operator's configuration, together with the admission policy that asks for the \
             author's right to read it"
        ),
        Some(_) => format!(
            "Secret {name} is not meant for the operator: its label {ALLOWED} says something else than \"true\"; set it to \
             \"true\", or take it away where the operator's configuration says secrets: AuthorChecked"
        ),
    }
}

fn is_asked_for(slot: &Slot) -> bool {
    let read_lately = |(at, _): &(Instant, Read)| at.elapsed() < TRUSTED.saturating_mul(2);
    slot.try_lock().is_ok_and(|known| known.as_ref().is_some_and(read_lately))
}

/// An API error in a few words: its status message, or what kind of failure it was.
pub(crate) fn brief(error: &kube::Error) -> String {
    let message =
        if let kube::Error::Api(status) = error { status.message.clone() } else { error.to_string() };
    shown(&message, 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Secrets that can be read from no API server: whatever is answered was known.
    fn secrets() -> Secrets {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        Secrets::new(Client::try_from(nowhere).unwrap(), SecretRule::default())
    }

    /// Its content was read so long ago.
    async fn known(secrets: &Secrets, name: &str, age: Duration, pairs: &[(&str, &str)]) {
        let data =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        let content = Content {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            data: data.collect(),
            ..Content::default()
        };
        let at = Instant::now().checked_sub(age).unwrap();
        *secrets.slot("shop", name).lock().await = Some((at, Ok(Arc::new(content))));
    }

    fn reason<C>(understood: &Understood<C>) -> Option<NoDataReason> {
        understood.as_ref().err().map(|no_data| no_data.reason)
    }

    const BOTH: [(&str, &str); 3] = [("host", "store"), ("user", "lop"), ("dbname", "orders")];
    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn what_was_read_once_serves_both_kinds_and_is_the_same_for_everybody() {
        let secrets = secrets();
        known(&secrets, "both", TRUSTED - SECOND.saturating_mul(10), &BOTH).await;
        let postgres = secrets.credentials("shop", &"both".into()).await.unwrap();
        let redis = secrets.redis("shop", &"both".into()).await.unwrap();
        assert_eq!((&*postgres.host, &*redis.host), ("store.shop.svc", "store.shop.svc"));
        assert!(Arc::ptr_eq(&redis, &secrets.redis("shop", &"both".into()).await.unwrap()));
        known(&secrets, "both", TRUSTED + SECOND, &BOTH).await;
        assert_eq!(reason(&secrets.redis("shop", &"both".into()).await), Some(NoDataReason::ApiUnavailable));
    }

    #[tokio::test]
    async fn what_is_of_no_use_to_one_kind_is_read_again_soon() {
        let secrets = secrets();
        let uri = [("uri", "postgres://lop@store/orders")];
        known(&secrets, "one", Duration::ZERO, &uri).await;
        assert_eq!(reason(&secrets.redis("shop", &"one".into()).await), Some(NoDataReason::SecretInvalid));
        known(&secrets, "one", RETRY + SECOND, &uri).await;
        secrets.credentials("shop", &"one".into()).await.unwrap();
        assert_eq!(reason(&secrets.redis("shop", &"one".into()).await), Some(NoDataReason::ApiUnavailable));
    }

    #[tokio::test]
    async fn a_doubt_has_it_read_again_but_not_at_once() {
        let secrets = secrets();
        known(&secrets, "both", Duration::ZERO, &BOTH).await;
        secrets.doubt("shop", &"both".into());
        secrets.redis("shop", &"both".into()).await.unwrap();
        known(&secrets, "both", AGAIN + SECOND, &BOTH).await;
        secrets.doubt("shop", &"both".into());
        assert_eq!(reason(&secrets.redis("shop", &"both".into()).await), Some(NoDataReason::ApiUnavailable));
    }
}
