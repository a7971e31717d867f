//! Where a database is and how to log in, from a Secret's data.
//!
//! Host and password come from the same Secret, so that nobody can have a password sent elsewhere. Nothing in a Secret may
//! name a file or a socket of this machine.

use std::collections::BTreeMap;
use std::fmt;

use engine::model::{NoData, NoDataReason, SecretKeys};
use k8s_openapi::ByteString;
use url::Url;

/// How TLS is used, as libpq names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SslMode {
    /// Never.
    Disable,
    /// If the server can; it is not verified.
    Prefer,
    /// Always; it is not verified.
    Require,
    /// Always, and the certificate must be signed by a trusted authority.
    VerifyCa,
    /// As before, and the certificate must be the host's.
    VerifyFull,
}

impl SslMode {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "disable" => Some(Self::Disable),
            // libpq's "allow" tries without TLS first; a password is worth more than that.
            "allow" | "prefer" => Some(Self::Prefer),
            "require" => Some(Self::Require),
            "verify-ca" => Some(Self::VerifyCa),
            "verify-full" => Some(Self::VerifyFull),
            _ => None,
        }
    }
}

/// Everything that is needed to connect. Two that are equal share a connection.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The host; an unqualified one has been completed with the policy's namespace.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// The password.
    pub password: Option<String>,
    /// How TLS is used.
    pub ssl_mode: SslMode,
    /// PEM certificates to trust instead of the system's.
    pub ca: Option<Vec<u8>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

/// The keys that a Secret may have, with the spellings of the usual charts.
pub(super) const HOST: &[&str] = &["host", "hostname"];
const DATABASE: &[&str] = &["dbname", "database"];
pub(super) const USER: &[&str] = &["user", "username"];

/// What is meant where a Secret does not say.
pub(super) struct Usual {
    /// The port.
    pub(super) port: u16,
    /// The one database of a server that has no other, whatever the Secret says.
    pub(super) database: Option<&'static str>,
}

const USUAL: Usual = Usual { port: 5432, database: None };

impl Credentials {
    /// Reads the data of the Secret `name` of `namespace`. `uri` wins over the single keys, unless the policy names those.
    ///
    /// # Errors
    /// `SecretInvalid`, saying which key is missing or wrong; values are never quoted.
    pub fn read(
        namespace: &str,
        name: &str,
        keys: &SecretKeys,
        data: &BTreeMap<String, ByteString>,
    ) -> Result<Self, NoData> {
        Self::read_with(&USUAL, namespace, name, keys, data)
    }

    /// The same for another server that speaks the protocol of PostgreSQL.
    pub(super) fn read_with(
        usual: &Usual,
        namespace: &str,
        name: &str,
        keys: &SecretKeys,
        data: &BTreeMap<String, ByteString>,
    ) -> Result<Self, NoData> {
        let invalid = |what: String| invalid(name, keys, &what);
        let mut credentials = match uri(keys, data).map_err(&invalid)? {
            Some(uri) => from_uri(&uri, usual).map_err(&invalid)?,
            None => from_keys(keys, data, usual).map_err(&invalid)?,
        };
        if let Some(mode) = text(data, "sslmode").map_err(&invalid)? {
            credentials.ssl_mode = SslMode::parse(&mode).ok_or_else(|| {
                invalid("key sslmode is none of disable, prefer, require, verify-ca, verify-full".to_owned())
            })?;
        }
        credentials.ca = ca(keys, data).map_err(&invalid)?;
        if !is_host(&credentials.host) {
            return Err(invalid("the host is neither a name nor an address".to_owned()));
        }
        credentials.host = qualified(&credentials.host, namespace);
        Ok(credentials)
    }
}

/// The value of a key, without the line end that `echo ... | base64` leaves; none where it is empty.
pub(super) fn text(data: &BTreeMap<String, ByteString>, key: &str) -> Result<Option<String>, String> {
    let Some(bytes) = data.get(key) else { return Ok(None) };
    let text = String::from_utf8(bytes.0.clone()).map_err(|_| format!("key {key} is not text"))?;
    let text = text.trim_end_matches(['\n', '\r']).to_owned();
    if text.contains('\0') {
        return Err(format!("key {key} contains a NUL"));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Why a Secret cannot be used.
pub(super) fn invalid(name: &str, keys: &SecretKeys, what: &str) -> NoData {
    let renamed = keys.uri.as_ref().map(|key| format!(" (its uri is the key {key})")).unwrap_or_default();
    NoData::new(NoDataReason::SecretInvalid, format!("Secret {name}: {what}{renamed}"))
}

/// The value under the key that the policy names, which must be there; else under the first of the usual keys that is.
pub(super) fn value(
    data: &BTreeMap<String, ByteString>,
    named: Option<&str>,
    usual: &[&str],
) -> Result<Option<String>, String> {
    if let Some(key) = named {
        let value = text(data, key)?;
        return value.map_or_else(|| Err(missing(key)), |value| Ok(Some(value)));
    }
    for key in usual {
        if let Some(value) = text(data, key)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn missing(key: &str) -> String {
    format!("key {key}, which secretRef.keys names, is missing or empty")
}

/// The connection URI, where there is one and the policy does not name single keys instead.
pub(super) fn uri(keys: &SecretKeys, data: &BTreeMap<String, ByteString>) -> Result<Option<String>, String> {
    let single = [&keys.host, &keys.port, &keys.dbname, &keys.user, &keys.password];
    if keys.uri.is_none() && single.iter().any(|key| key.is_some()) {
        return Ok(None);
    }
    value(data, keys.uri.as_deref(), &["uri"])
}

/// The certificates to trust.
pub(super) fn ca(keys: &SecretKeys, data: &BTreeMap<String, ByteString>) -> Result<Option<Vec<u8>>, String> {
    let key = keys.ca_cert.as_deref().unwrap_or("ca.crt");
    let ca = data.get(key).map(|ca| ca.0.clone()).filter(|ca| !ca.is_empty());
    if ca.is_none() && keys.ca_cert.is_some() { Err(missing(key)) } else { Ok(ca) }
}

fn from_keys(
    keys: &SecretKeys,
    data: &BTreeMap<String, ByteString>,
    usual: &Usual,
) -> Result<Credentials, String> {
    let needed = |named: &Option<String>, names: &[&str]| -> Result<String, String> {
        value(data, named.as_deref(), names)?.ok_or_else(|| {
            format!(
                "neither key uri nor key {} is there; it needs uri, or host, {}user and password; secretRef.keys \
                 says what it calls them",
                names.first().copied().unwrap_or_default(),
                if usual.database.is_none() { "dbname, " } else { "" }
            )
        })
    };
    let port = match value(data, keys.port.as_deref(), &["port"])? {
        None => usual.port,
        Some(port) => port.parse().map_err(|_| "key port is not a port number".to_owned())?,
    };
    Ok(Credentials {
        host: needed(&keys.host, HOST)?,
        port,
        database: match usual.database {
            Some(only) => only.to_owned(),
            None => needed(&keys.dbname, DATABASE)?,
        },
        user: needed(&keys.user, USER)?,
        password: value(data, keys.password.as_deref(), &["password"])?,
        ssl_mode: SslMode::Prefer,
        ca: None,
    })
}

fn from_uri(uri: &str, usual: &Usual) -> Result<Credentials, String> {
    // The parser's own messages quote nothing of the text.
    let url = Url::parse(uri).map_err(|error| format!("key uri cannot be parsed: {error}"))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err("key uri does not begin with postgres:// or postgresql://".to_owned());
    }
    let host = uri_host(&url)?;
    let named = decoded(url.path().trim_start_matches('/'))?;
    let user = decoded(url.username())?;
    if user.is_empty() {
        return Err("key uri names no user".to_owned());
    }
    let mut ssl_mode = SslMode::Prefer;
    for (key, value) in url.query_pairs() {
        match &*key {
            "sslmode" => {
                ssl_mode = SslMode::parse(&value).ok_or("key uri has an sslmode that is not known")?
            }
            // What only matters to other clients is passed over; what would reach a file or the server's settings is not.
            "application_name" | "connect_timeout" | "target_session_attrs" | "channel_binding" => {}
            _ => return Err(refused_parameter(&key)),
        }
    }
    Ok(Credentials {
        host,
        port: url.port().unwrap_or(usual.port),
        database: match usual.database {
            Some(only) => only.to_owned(),
            None if named.is_empty() => user.clone(),
            None => named,
        },
        user,
        password: url.password().map(decoded).transpose()?,
        ssl_mode,
        ca: None,
    })
}

/// The host that a uri names, an IPv6 address without its brackets.
pub(super) fn uri_host(url: &Url) -> Result<String, String> {
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("key uri names no host")?;
    Ok(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// A part of a uri as it was before it was escaped.
pub(super) fn decoded(text: &str) -> Result<String, String> {
    match percent_encoding::percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err("key uri has an escape that is not text".to_owned()),
    }
}

/// Parameters that clients of PostgreSQL and Redis know, and that would reach a file, another server or the session's settings.
const REFUSED: [&str; 26] = [
    "client_encoding",
    "dbname",
    "host",
    "hostaddr",
    "krbsrvname",
    "options",
    "passfile",
    "password",
    "path",
    "port",
    "replication",
    "requirepeer",
    "service",
    "ssl_ca_certs",
    "ssl_ca_data",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslpassword",
    "sslrootcert",
    "user",
];

/// What is said of a parameter that is not accepted: its name where that is one that there is, and never its value. Of a uri
/// whose password has a `?` in it, a part of the password stands where the name of a parameter would.
pub(super) fn refused_parameter(key: &str) -> String {
    match REFUSED.iter().find(|known| **known == key) {
        Some(known) => format!("key uri has the parameter {known}, which is not accepted"),
        None => "key uri has a parameter after its ? that is not known; take it out, or, if that is a part of the password, \
                 write %3F for the ?"
            .to_owned(),
    }
}

/// A DNS name or an IP address; above all no path of a socket.
pub(super) fn is_host(host: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !host.is_empty()
        && host.len() <= 253
        && (host.parse::<std::net::IpAddr>().is_ok()
            || (host.chars().all(name) && !host.starts_with(['-', '.'])))
}

/// An unqualified host is a Service of the policy's namespace.
pub(super) fn qualified(host: &str, namespace: &str) -> String {
    if host.contains(['.', ':']) { host.to_owned() } else { format!("{host}.{namespace}.svc") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect()
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Credentials, String> {
        named(&SecretKeys::default(), pairs)
    }

    fn named(keys: &SecretKeys, pairs: &[(&str, &str)]) -> Result<Credentials, String> {
        Credentials::read("shop", "orders-db", keys, &data(pairs)).map_err(|no_data| no_data.to_string())
    }

    #[test]
    fn keys_of_the_secrets_own_are_read_where_the_policy_names_them() {
        let key = |name: &str| Some(name.to_owned());
        let pairs = [
            ("DATABASE_URL", "postgres://lop:p@db.example.org/orders"),
            ("POSTGRES_HOST", "orders-db"),
            ("POSTGRES_DB", "orders"),
            ("POSTGRES_USER", "orders"),
            ("POSTGRES_PASSWORD", "q"),
            ("uri", "postgres://other@elsewhere/x"),
            ("server-ca.pem", "PEM"),
        ];
        let keys = SecretKeys { uri: key("DATABASE_URL"), ..SecretKeys::default() };
        assert_eq!(format!("{:?}", named(&keys, &pairs).unwrap()), "lop@db.example.org:5432/orders");
        let keys = SecretKeys {
            host: key("POSTGRES_HOST"),
            dbname: key("POSTGRES_DB"),
            user: key("POSTGRES_USER"),
            password: key("POSTGRES_PASSWORD"),
            ca_cert: key("server-ca.pem"),
            ..SecretKeys::default()
        };
        let credentials = named(&keys, &pairs).unwrap();
        assert_eq!(format!("{credentials:?}"), "orders@orders-db.shop.svc:5432/orders");
        assert_eq!((credentials.password.as_deref(), credentials.ca), (Some("q"), Some(b"PEM".to_vec())));
    }

    #[test]
    fn a_server_with_one_database_needs_none_to_be_named_and_has_a_port_of_its_own() {
        let usual = Usual { port: 6432, database: Some("console") };
        let read = |pairs: &[(&str, &str)]| {
            let read = Credentials::read_with(&usual, "shop", "s", &SecretKeys::default(), &data(pairs));
            read.map(|credentials| format!("{credentials:?}")).map_err(|no_data| no_data.to_string())
        };
        for pairs in [
            &[("host", "pool"), ("user", "lop"), ("dbname", "orders")] as &[_],
            &[("host", "pool"), ("user", "lop")],
            &[("uri", "postgres://lop:p@pool/orders")],
        ] {
            assert_eq!(read(pairs).unwrap(), "lop@pool.shop.svc:6432/console");
        }
        assert_eq!(read(&[("uri", "postgres://lop@pool:7000")]).unwrap(), "lop@pool.shop.svc:7000/console");
        let message = read(&[("host", "pool")]).unwrap_err();
        assert!(message.contains("it needs uri, or host, user and password"), "{message}");
    }

    #[test]
    fn a_key_that_the_policy_names_must_be_there() {
        let pairs = [("uri", "postgres://lop@db/orders")];
        let keys = |uri: Option<&str>, ca_cert: Option<&str>| SecretKeys {
            uri: uri.map(str::to_owned),
            ca_cert: ca_cert.map(str::to_owned),
            ..SecretKeys::default()
        };
        let message = named(&keys(Some("DATABASE_URL"), None), &pairs).unwrap_err();
        assert!(message.contains("key DATABASE_URL, which secretRef.keys names, is missing"), "{message}");
        let message = named(&keys(None, Some("ca.pem")), &pairs).unwrap_err();
        assert!(message.contains("key ca.pem"), "{message}");
    }

    #[test]
    fn single_keys_are_read_and_an_unqualified_host_is_a_service_of_the_namespace() {
        let credentials = read(&[
            ("host", "orders-db-rw"),
            ("dbname", "orders"),
            ("username", "lop"),
            ("password", "p w\n"),
        ])
        .unwrap();
        assert_eq!(format!("{credentials:?}"), "lop@orders-db-rw.shop.svc:5432/orders");
        assert_eq!(credentials.password.as_deref(), Some("p w"));
        assert_eq!(credentials.ssl_mode, SslMode::Prefer);
    }

    #[test]
    fn a_uri_wins_and_is_decoded() {
        let credentials = read(&[
            ("uri", "postgresql://lop:p%40ss%2Fword@db.example.org:6432/orders?sslmode=verify-full"),
            ("host", "elsewhere"),
        ])
        .unwrap();
        assert_eq!(format!("{credentials:?}"), "lop@db.example.org:6432/orders");
        assert_eq!(credentials.password.as_deref(), Some("p@ss/word"));
        assert_eq!(credentials.ssl_mode, SslMode::VerifyFull);
        assert_eq!(read(&[("uri", "postgres://lop@[::1]:5432/x")]).unwrap().host, "::1");
    }

    #[test]
    fn of_what_cloudnativepg_writes_the_uri_wins_and_the_host_is_of_the_policys_namespace() {
        let mut pairs = vec![
            ("username", "orders"),
            ("user", "orders"),
            ("password", "p"),
            ("dbname", "orders"),
            ("host", "orders-db-rw"),
            ("port", "5432"),
            ("fqdn-uri", "postgresql://orders:p@orders-db-rw.shop.svc.cluster.local:5432/orders"),
            ("jdbc-uri", "jdbc:postgresql://orders-db-rw.shop:5432/orders?password=p&user=orders"),
            ("pgpass", "orders-db-rw:5432:orders:orders:p"),
        ];
        assert_eq!(format!("{:?}", read(&pairs).unwrap()), "orders@orders-db-rw.shop.svc:5432/orders");
        for (uri, host) in [
            ("postgresql://orders:p@orders-db-rw.shop:5432/orders", "orders-db-rw.shop"),
            ("postgresql://orders:p@orders-db-rw:5432/orders", "orders-db-rw.shop.svc"),
        ] {
            pairs.push(("uri", uri));
            let credentials = read(&pairs).unwrap();
            assert_eq!(format!("{credentials:?}"), format!("orders@{host}:5432/orders"));
            assert_eq!(credentials.password.as_deref(), Some("p"));
            pairs.pop();
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_value_is_quoted() {
        let secret = "s3cret";
        for (pairs, word) in [
            (vec![], "host"),
            (vec![("host", "db"), ("password", secret)], "dbname"),
            (vec![("host", "db"), ("dbname", "x")], "user"),
            (vec![("host", "/var/run/postgresql"), ("dbname", "x"), ("user", "u")], "neither a name"),
            (vec![("host", "db"), ("dbname", "x"), ("user", "u"), ("port", "many")], "port"),
            (vec![("host", "db"), ("dbname", "x"), ("user", "u"), ("sslmode", "maybe")], "sslmode"),
            (vec![("uri", "not a uri s3cret")], "cannot be parsed"),
            (vec![("uri", "http://u:s3cret@db/x")], "postgres://"),
            (vec![("uri", "postgres://:s3cret@db/x")], "no user"),
            (vec![("uri", "postgres://u:s3cret@/x")], "uri"),
            (vec![("uri", "postgres://u:s3cret@db/x?sslrootcert=/etc/passwd")], "sslrootcert"),
            (vec![("uri", "postgres://u:s3cret@db/x?options=-c%20s3cret")], "options"),
            (vec![("uri", "postgres://u:s3cret@db/x?host=/tmp")], "host"),
            (vec![("uri", "postgres://u:p@db/x?s3cret")], "not known"),
            (vec![("uri", "postgres://u:12?s3cret@db/x")], "no user"),
            (vec![("uri", "postgres://u:s3cret%ff@db/x")], "escape"),
            (vec![("uri", "postgres://u:s3cret%00@db/x")], "escape"),
        ] {
            let message = read(&pairs).expect_err(word);
            assert!(message.contains(word), "{word}: {message}");
            assert!(!message.contains(secret), "a value was quoted: {message}");
        }
    }
}
