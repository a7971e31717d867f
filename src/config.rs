//! The operator's own configuration: one file, read once at the start, unknown fields refused.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::model::{ActionKind, duration};
use serde::{Deserialize, Deserializer};

/// The only version of the file that this binary reads.
pub const API_VERSION: &str = "config.latency-operator.dev/v1alpha1";
/// The only kind of the file.
pub const KIND: &str = "OperatorConfig";

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration {} is not valid: {reason}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
}

/// The file. What is left out has a default; without a file there is no metrics backend.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Must be [`API_VERSION`].
    pub api_version: String,
    /// Must be [`KIND`].
    pub kind: String,
    /// Metrics backends that policies may name.
    #[serde(default)]
    pub backends: Vec<Backend>,
    /// The namespaces to look after; empty means all.
    #[serde(default)]
    pub watch_namespaces: Vec<String>,
    /// The Lease that one replica holds.
    #[serde(default)]
    pub lease: LeaseConfig,
    /// Actions that may be carried out; all where it is left out.
    #[serde(default = "all_actions")]
    pub actions: Vec<ActionKind>,
    /// Database roles that are never touched, whatever a policy says.
    #[serde(default)]
    pub protected_roles: Vec<String>,
    /// Which Secrets are read of those that policies name.
    #[serde(default)]
    pub secrets: SecretRule,
    /// Metrics with the labels namespace and policy; off for those who count series.
    #[serde(default = "yes")]
    pub policy_metrics: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            backends: Vec::new(),
            watch_namespaces: Vec::new(),
            lease: LeaseConfig::default(),
            actions: all_actions(),
            protected_roles: Vec::new(),
            secrets: SecretRule::default(),
            policy_metrics: true,
        }
    }
}

fn all_actions() -> Vec<ActionKind> {
    engine::actions::ACTIONS.iter().map(|line| line.kind).collect()
}

fn yes() -> bool {
    true
}

/// Which Secrets are read, of those that a policy names in its own namespace. Whoever may write a policy must not borrow the
/// operator's right to read Secrets: either the Secret itself says that it is meant, or somebody has asked the author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum SecretRule {
    /// Only those that carry the label `latency-operator.dev/allowed: "true"`.
    #[default]
    Labelled,
    /// All but those whose label says something else than `"true"`: an admission policy of the cluster has asked whether the
    /// policy's author may read the Secret. Without that admission policy nobody has.
    AuthorChecked,
}

impl SecretRule {
    /// Whether a Secret with this value of the label, or without the label, may be read.
    #[must_use]
    pub fn lets(self, label: Option<&str>) -> bool {
        match (self, label) {
            (_, Some(label)) => label == "true",
            (Self::Labelled, None) => false,
            (Self::AuthorChecked, None) => true,
        }
    }
}

impl fmt::Display for SecretRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A Prometheus-compatible backend.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// The name by which policies refer to it.
    pub name: String,
    /// Its base URL; `/api/v1/query` is appended.
    pub url: url::Url,
    /// How often it scrapes: nothing is asked more often, and a sample older than three of these is stale.
    #[serde(default = "fifteen_seconds", deserialize_with = "span")]
    pub scrape_interval: Duration,
    /// How long a query may take.
    #[serde(default = "five_seconds", deserialize_with = "span")]
    pub timeout: Duration,
    /// The label with the namespace of an application's pod.
    #[serde(default = "namespace")]
    pub namespace_label: String,
    /// The label with the name of an application's pod.
    #[serde(default = "pod")]
    pub pod_label: String,
    /// The label under which an edge's series carry the namespace of what they serve. Without it edge presets are refused:
    /// nothing else would keep a policy to its namespace.
    #[serde(default)]
    pub edge_namespace_label: Option<String>,
    /// A file with a bearer token, read again with every query.
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,
    /// A file with PEM certificates to trust besides the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Further headers, for example a tenant.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

impl Backend {
    /// What nobody may read who reads what it answers: a login in the URL, and the values of headers.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let password = self.url.password().map(|password| percent_encoding::percent_decode_str(password));
        let password = password.map(|password| password.decode_utf8_lossy().into_owned());
        self.headers.values().cloned().chain(password).collect()
    }
}

/// Without what may be secret.
impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.name)
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

fn fifteen_seconds() -> Duration {
    Duration::from_secs(15)
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

fn namespace() -> String {
    "namespace".to_owned()
}

fn pod() -> String {
    "pod".to_owned()
}

/// The Lease and its times.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LeaseConfig {
    /// Its namespace; the Pod's own where it is left out.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// How long it holds without a renewal; whole seconds.
    #[serde(deserialize_with = "span")]
    pub duration: Duration,
    /// A leader that has not renewed for this long stops.
    #[serde(deserialize_with = "span")]
    pub renew_deadline: Duration,
    /// Time between two tries.
    #[serde(deserialize_with = "span")]
    pub retry_period: Duration,
}

impl Default for LeaseConfig {
    fn default() -> Self {
        Self {
            namespace: None,
            name: "latency-operator".to_owned(),
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    duration::parse(&text).map_err(serde::de::Error::custom)
}

impl Config {
    /// Reads the file, or takes the defaults where none is named.
    ///
    /// # Errors
    /// The file cannot be read, is of another version, has unknown fields, or contradicts itself.
    pub fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|reason| ConfigError::Invalid { path: path.to_owned(), reason })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The parser would show the lines around a mistake: headers with their values, URLs with their passwords.
        let options = serde_saphyr::options! { with_snippet: false };
        let config: Self = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| without_values(&error.to_string()))?;
        config.problem().map_or(Ok(config.clone()), Err)
    }

    /// What contradicts itself, if something does.
    fn problem(&self) -> Option<String> {
        if self.api_version != API_VERSION {
            return Some(format!("apiVersion is {}, this version reads {API_VERSION}", self.api_version));
        }
        if self.kind != KIND {
            return Some(format!("kind is {}, it must be {KIND}", self.kind));
        }
        for (index, backend) in self.backends.iter().enumerate() {
            if self.backends.iter().take(index).any(|other| other.name == backend.name) {
                return Some(format!("backends[{index}].name: there are two backends {}", backend.name));
            }
            if !matches!(backend.url.scheme(), "http" | "https") {
                return Some(format!(
                    "backends[{index}].url: {} is neither http nor https",
                    backend.url.scheme()
                ));
            }
            if backend.scrape_interval < Duration::from_secs(1) {
                return Some(format!("backends[{index}].scrapeInterval: the least is 1s"));
            }
        }
        let lease = &self.lease;
        if lease.duration.subsec_nanos() != 0 || lease.duration < Duration::from_secs(1) {
            return Some("lease.duration: whole seconds, at least 1s".to_owned());
        }
        if lease.renew_deadline >= lease.duration || lease.retry_period >= lease.renew_deadline {
            return Some("lease: retryPeriod < renewDeadline < duration must hold".to_owned());
        }
        None
    }
}

/// A message of the parser without the texts that it quotes, but for lengths of time: what stands in the wrong place may be a
/// secret.
fn without_values(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut quoted: Option<String> = None;
    let mut escaped = false;
    for letter in message.chars() {
        match (&mut quoted, letter) {
            (None, '"') => quoted = Some(String::new()),
            (None, letter) => shown.push(letter),
            (Some(text), '"') if !escaped => {
                shown.push_str(&format!("\"{}\"", if is_span(text) { text } else { "…" }));
                quoted = None;
            }
            (Some(text), letter) => text.push(letter),
        }
        escaped = letter == '\\' && !escaped;
    }
    shown
}

/// Something that was meant as a length of time.
fn is_span(text: &str) -> bool {
    let begins = text.trim_start_matches('-').starts_with(|letter: char| letter.is_ascii_digit());
    begins && text.len() <= 8 && text.ends_with(['h', 'm', 's'])
}

#[cfg(test)]
mod tests {
    use engine::actions::ACTIONS;

    use super::*;

    fn refused(text: &str) -> String {
        Config::parse(&format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{text}"))
            .expect_err("it was accepted")
    }

    #[test]
    fn the_least_file_has_all_defaults() {
        let config = Config::parse(&format!("apiVersion: {API_VERSION}\nkind: {KIND}")).unwrap();
        assert_eq!(config.actions, ACTIONS.iter().map(|line| line.kind).collect::<Vec<_>>());
        assert_eq!(config.lease.duration, Duration::from_secs(15));
        assert_eq!(config.secrets, SecretRule::Labelled);
        assert!(config.policy_metrics);
    }

    #[test]
    fn a_secret_is_read_by_its_label_or_by_its_authors_right_and_never_where_it_says_no() {
        for (label, labelled, author_checked) in [
            (Some("true"), true, true),
            (None, false, true),
            (Some("false"), false, false),
            (Some("True"), false, false),
            (Some(""), false, false),
        ] {
            assert_eq!(SecretRule::Labelled.lets(label), labelled, "{label:?}");
            assert_eq!(SecretRule::AuthorChecked.lets(label), author_checked, "{label:?}");
        }
    }

    #[test]
    fn a_whole_file_is_read() {
        let config = Config::parse(&format!(
            "apiVersion: {API_VERSION}\nkind: {KIND}\nbackends:\n- name: default\n  url: http://prometheus:9090\n  scrapeInterval: 1s\n  \
             edgeNamespaceLabel: exported_namespace\nsecrets: AuthorChecked\nwatchNamespaces: [shop]\nlease: {{duration: 3s, renewDeadline: 2s, \
             retryPeriod: 500ms}}\nactions: []\nprotectedRoles: [postgres]\n"
        ))
        .unwrap();
        assert_eq!(config.backends[0].scrape_interval, Duration::from_secs(1));
        assert_eq!(config.backends[0].namespace_label, "namespace");
        assert_eq!(config.lease.retry_period, Duration::from_millis(500));
        assert!(config.actions.is_empty());
        assert_eq!(config.secrets, SecretRule::AuthorChecked);
    }

    #[test]
    fn no_value_is_quoted() {
        for text in [
            "backends: [{name: a, url: 'http://x', headers: {X-Lab: [s3cret]}}]",
            "backends: [{name: a, url: 'http://x', headers: s3cret}]",
            "backends:\n- name: a\n  headers: {X-Lab: s3cret}\n  nonsense: 1",
            "backends: [{name: a, url: 'http://u:s3cret@x:y'}]",
            "backends: [{name: a, url: 'ftp://u:s3cret@x'}]",
            "backends: [{name: a, url: 'http://u:s3cret\\\"s3cret@x:y'}]",
        ] {
            let said = refused(text);
            assert!(!said.contains("s3cret"), "{text}: {said}");
            assert!(said.contains("line") || said.contains("backends[0]"), "it does not say where: {said}");
        }
        assert_eq!(without_values(r#"a "b\"c" d "e""#), r#"a "…" d "…""#);
        let config = format!(
            "apiVersion: {API_VERSION}\nkind: {KIND}\nbackends: [{{name: a, url: 'http://u:s3cret@x', headers: {{h: s3cret}}}}]"
        );
        assert!(!format!("{:?}", Config::parse(&config).unwrap()).contains("s3cret"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(
            Config::parse("apiVersion: other/v1\nkind: OperatorConfig").unwrap_err().contains("other/v1")
        );
        let other = format!("apiVersion: {API_VERSION}\nkind: LatencyPolicy");
        assert_eq!(Config::parse(&other).unwrap_err(), "kind is LatencyPolicy, it must be OperatorConfig");
        assert!(refused("nonsense: 1").contains("nonsense"));
        assert!(refused("backends: [{name: a, url: 'ftp://x'}]").contains("ftp"));
        assert!(
            refused("backends: [{name: a, url: 'http://x'}, {name: a, url: 'http://y'}]")
                .contains("two backends")
        );
        assert!(refused("lease: {duration: 1500ms}").contains("whole seconds"));
        assert!(refused("lease: {duration: 3s}").contains("renewDeadline"));
        assert!(refused("lease: {duration: -3s}").contains("-3s"));
        assert!(refused("actions: [Explode]").contains("Explode"));
        let said = refused("secrets: Everything");
        assert!(said.contains("Labelled") && said.contains("AuthorChecked"), "{said}");
    }
}
