//! All connections, by credentials: policies that have the same ones share a connection.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::{NoData, SecretKeys};
use k8s_openapi::ByteString;

/// A connection that nobody has used for so long is closed.
const UNUSED: Duration = Duration::from_secs(600);

/// A kind of server that is connected to with what a Secret says. Cheap to clone: clones share a connection.
pub trait Store: Clone + Send + 'static {
    /// Everything that is needed to connect. Two that are equal share a connection.
    type Credentials: Hash + Eq + Send + Sync + 'static;

    /// Reads the data of the Secret `name` of `namespace`.
    ///
    /// # Errors
    /// `SecretInvalid`, saying which key is missing or wrong; values are never quoted.
    fn understand(
        namespace: &str,
        name: &str,
        keys: &SecretKeys,
        data: &BTreeMap<String, ByteString>,
    ) -> Result<Self::Credentials, NoData>;

    /// A connection that is opened when it is first used.
    fn new(credentials: Arc<Self::Credentials>) -> Self;
}

/// Connections of one kind, with the time at which each was last asked for.
type Known<S> = HashMap<Arc<<S as Store>::Credentials>, (Instant, S)>;

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    /// For each kind of server its [`Known`] connections.
    known: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send>>>>,
}

impl Registry {
    /// The connection for these credentials. Connections of its kind that nobody has asked for lately are closed on the way.
    #[must_use]
    pub fn connection<S: Store>(&self, credentials: &Arc<S::Credentials>) -> S {
        let mut kinds = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kinds.entry(TypeId::of::<S>()).or_insert_with(|| Box::new(Known::<S>::new()));
        match known.downcast_mut::<Known<S>>() {
            Some(known) => of(known, credentials),
            // Each kind's type leads to its own connections.
            None => S::new(credentials.clone()),
        }
    }
}

fn of<S: Store>(known: &mut Known<S>, credentials: &Arc<S::Credentials>) -> S {
    known.retain(|other, (used, _)| other == credentials || used.elapsed() < UNUSED);
    let entry =
        known.entry(credentials.clone()).or_insert_with(|| (Instant::now(), S::new(credentials.clone())));
    entry.0 = Instant::now();
    entry.1.clone()
}
