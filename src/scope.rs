//! The parts of the cluster that are looked after.

use kube::{Api, Client, Resource};

/// A part of the cluster that is looked after: one namespace, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All namespaces.
    Cluster,
    /// One.
    Namespace(String),
}

impl Scope {
    /// The configured scopes: all, where no namespace is named.
    #[must_use]
    pub fn all(namespaces: &[String]) -> Vec<Self> {
        if namespaces.is_empty() {
            vec![Self::Cluster]
        } else {
            namespaces.iter().cloned().map(Self::Namespace).collect()
        }
    }

    /// Its namespace, where it is one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Cluster => None,
            Self::Namespace(namespace) => Some(namespace),
        }
    }

    /// The API for a namespaced kind within the scope.
    pub fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match self {
            Self::Cluster => Api::all(client),
            Self::Namespace(namespace) => Api::namespaced(client, namespace),
        }
    }
}
