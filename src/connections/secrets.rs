//! Secrets: read by name, never listed; read again when a login fails or a connection breaks, and at most every 5 minutes
//! otherwise.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::model::{NoData, NoDataReason, SecretKeys, SecretRef};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::cached::Cached;
use super::registry::Store;
use crate::api::ALLOWED;
use crate::api::text::shown;
use crate::config::SecretRule;

/// How long a Secret's content is trusted without looking again.
const TRUSTED: Duration = Duration::from_secs(300);
/// How long a Secret that could not be used is left alone.
const RETRY: Duration = Duration::from_secs(5);
/// What nobody asks for any more is not kept longer than this: it has passwords.
const KEPT: Duration = TRUSTED.saturating_mul(2);
/// How soon after a look a failed login may cause the next one.
const AGAIN: Duration = Duration::from_secs(5);

/// What is in a Secret, understood once for each kind of server that somebody takes it for and for each naming of its keys.
#[derive(Default)]
struct Content {
    namespace: String,
    name: String,
    data: BTreeMap<String, ByteString>,
    /// For each kind of server its [`ByKeys`].
    understood: Mutex<HashMap<TypeId, Box<dyn Any + Send>>>,
}

type Understood<C> = Result<Arc<C>, NoData>;
type ByKeys<C> = HashMap<SecretKeys, Understood<C>>;
/// How many namings of a Secret's keys are remembered for each kind. Each policy can have one of its own for each dependency.
const NAMINGS: usize = 64;
type Read = Result<Arc<Content>, NoData>;
/// A namespace, and the name of a Secret in it.
type Key = (String, String);

impl Content {
    fn understood<S: Store>(&self, keys: &SecretKeys) -> Understood<S::Credentials> {
        let read = || S::understand(&self.namespace, &self.name, keys, &self.data).map(Arc::new);
        let mut kinds = self.understood.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            kinds.entry(TypeId::of::<S>()).or_insert_with(|| Box::new(ByKeys::<S::Credentials>::new()));
        // Each kind's type leads to its own credentials.
        let Some(known) = known.downcast_mut::<ByKeys<S::Credentials>>() else { return read() };
        if known.len() >= NAMINGS && !known.contains_key(keys) {
            known.clear();
        }
        known.entry(keys.clone()).or_insert_with(read).clone()
    }
}

/// The Secrets that policies refer to, as far as they have been read.
#[derive(Clone)]
pub struct Secrets {
    client: Client,
    rule: SecretRule,
    known: Cached<Key, Read>,
}

impl Secrets {
    /// Reads with this client what the rule lets it read.
    #[must_use]
    pub fn new(client: Client, rule: SecretRule) -> Self {
        Self { client, rule, known: Cached::new(KEPT) }
    }

    /// The credentials for one kind of server in a Secret.
    ///
    /// # Errors
    /// `SecretNotFound`, `SecretNotAllowed`, `SecretInvalid` or `ApiUnavailable`, each with what to do.
    pub async fn credentials<S: Store>(
        &self,
        namespace: &str,
        secret: &SecretRef,
    ) -> Result<Arc<S::Credentials>, NoData> {
        let understand = |read: &Read| read.clone().and_then(|content| content.understood::<S>(&secret.keys));
        let trusted = |read: &Read| if understand(read).is_ok() { TRUSTED } else { RETRY };
        let key = (namespace.to_owned(), secret.name.clone());
        understand(&self.known.get(key, trusted, |_| self.read(namespace, &secret.name)).await)
    }

    /// What was read did not work: look again at the next call.
    pub fn doubt(&self, namespace: &str, secret: &SecretRef) {
        self.known.doubt(&(namespace.to_owned(), secret.name.clone()), AGAIN);
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

/// An API error in a few words: its status message, or what kind of failure it was.
pub(crate) fn brief(error: &kube::Error) -> String {
    let message =
        if let kube::Error::Api(status) = error { status.message.clone() } else { error.to_string() };
    shown(&message, 200)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::{Postgres, Redis};

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
        let key = ("shop".to_owned(), name.to_owned());
        secrets.known.set(key, age, Ok(Arc::new(content))).await;
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
        let postgres = secrets.credentials::<Postgres>("shop", &"both".into()).await.unwrap();
        let redis = secrets.credentials::<Redis>("shop", &"both".into()).await.unwrap();
        assert_eq!((&*postgres.host, &*redis.host), ("store.shop.svc", "store.shop.svc"));
        assert!(Arc::ptr_eq(&redis, &secrets.credentials::<Redis>("shop", &"both".into()).await.unwrap()));
        known(&secrets, "both", TRUSTED + SECOND, &BOTH).await;
        assert_eq!(
            reason(&secrets.credentials::<Redis>("shop", &"both".into()).await),
            Some(NoDataReason::ApiUnavailable)
        );
    }

    #[tokio::test]
    async fn what_is_of_no_use_to_one_kind_is_read_again_soon() {
        let secrets = secrets();
        let uri = [("uri", "postgres://lop@store/orders")];
        known(&secrets, "one", Duration::ZERO, &uri).await;
        assert_eq!(
            reason(&secrets.credentials::<Redis>("shop", &"one".into()).await),
            Some(NoDataReason::SecretInvalid)
        );
        known(&secrets, "one", RETRY + SECOND, &uri).await;
        secrets.credentials::<Postgres>("shop", &"one".into()).await.unwrap();
        assert_eq!(
            reason(&secrets.credentials::<Redis>("shop", &"one".into()).await),
            Some(NoDataReason::ApiUnavailable)
        );
    }

    #[tokio::test]
    async fn a_doubt_has_it_read_again_but_not_at_once() {
        let secrets = secrets();
        known(&secrets, "both", Duration::ZERO, &BOTH).await;
        secrets.doubt("shop", &"both".into());
        secrets.credentials::<Redis>("shop", &"both".into()).await.unwrap();
        known(&secrets, "both", AGAIN + SECOND, &BOTH).await;
        secrets.doubt("shop", &"both".into());
        assert_eq!(
            reason(&secrets.credentials::<Redis>("shop", &"both".into()).await),
            Some(NoDataReason::ApiUnavailable)
        );
    }
}
