//! References to Secrets.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A Secret of the policy's namespace, with the keys under which it holds what is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SecretRef {
    /// Its name.
    pub name: String,
    /// Its keys, where they are not the usual ones.
    pub keys: SecretKeys,
}

/// Keys of a Secret. `None` stands for the usual ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SecretKeys {
    /// Key with a connection URI.
    pub uri: Option<String>,
    /// Key with the host.
    pub host: Option<String>,
    /// Key with the port.
    pub port: Option<String>,
    /// Key with the name or number of the database.
    pub dbname: Option<String>,
    /// Key with the user.
    pub user: Option<String>,
    /// Key with the password.
    pub password: Option<String>,
    /// Key with the certificates to trust.
    pub ca_cert: Option<String>,
}

/// The Secret of that name, with the usual keys.
impl From<&str> for SecretRef {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), keys: SecretKeys::default() }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
