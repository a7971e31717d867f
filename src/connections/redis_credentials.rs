//! Where a Redis server is and how to log in, from a Secret's data. The rules are those of [`super::credentials`].

use std::collections::BTreeMap;
use std::fmt;

use engine::model::{NoData, SecretKeys};
use k8s_openapi::ByteString;
use url::Url;

use super::credentials::{
    HOST, USER, ca, decoded, invalid, is_host, qualified, refused_parameter, text, uri, uri_host, value,
};

const PORT: u16 = 6379;

/// Everything that is needed to connect. Two that are equal share a connection.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RedisCredentials {
    /// The host; an unqualified one has been completed with the policy's namespace.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The number of the database.
    pub database: u32,
    /// The ACL user; `None`: `default`.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// Whether TLS is used. The server's certificate is always verified, and must be the host's.
    pub tls: bool,
    /// PEM certificates to trust instead of the system's.
    pub ca: Option<Vec<u8>>,
}

impl fmt::Debug for RedisCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user(), self.host, self.port, self.database)
    }
}

/// The keys of the number of the database.
const DATABASE: &[&str] = &["db", "database"];

impl RedisCredentials {
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
        let invalid = |what: String| invalid(name, keys, &what);
        let mut credentials = match uri(keys, data).map_err(&invalid)? {
            Some(uri) => from_uri(&uri).map_err(&invalid)?,
            None => from_keys(keys, data).map_err(&invalid)?,
        };
        match text(data, "tls").map_err(&invalid)?.as_deref() {
            None => {}
            Some("true") => credentials.tls = true,
            Some("false") if credentials.tls => {
                return Err(invalid("key tls is false, and key uri begins with rediss://".to_owned()));
            }
            Some("false") => {}
            Some(_) => return Err(invalid("key tls is neither true nor false".to_owned())),
        }
        credentials.ca = ca(keys, data).map_err(&invalid)?;
        if !is_host(&credentials.host) {
            return Err(invalid("the host is neither a name nor an address".to_owned()));
        }
        credentials.host = qualified(&credentials.host, namespace);
        Ok(credentials)
    }

    /// The ACL user that it logs in as.
    #[must_use]
    pub fn user(&self) -> &str {
        self.user.as_deref().unwrap_or("default")
    }

    /// Host and port, for people.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

fn from_keys(keys: &SecretKeys, data: &BTreeMap<String, ByteString>) -> Result<RedisCredentials, String> {
    let find = |named: &Option<String>, usual: &[&str]| value(data, named.as_deref(), usual);
    let port = match find(&keys.port, &["port"])? {
        None => PORT,
        Some(port) => port.parse().map_err(|_| "key port is not a port number".to_owned())?,
    };
    let database = match find(&keys.dbname, DATABASE)? {
        None => 0,
        Some(number) => number.parse().map_err(|_| "key db is not the number of a database".to_owned())?,
    };
    let missing = "neither key uri nor key host is there; it needs uri, or host, and port, user, password, db where they are not the usual ones";
    Ok(RedisCredentials {
        host: find(&keys.host, HOST)?.ok_or(missing)?,
        port,
        database,
        user: find(&keys.user, USER)?,
        password: find(&keys.password, &["password"])?,
        tls: false,
        ca: None,
    })
}

fn from_uri(uri: &str) -> Result<RedisCredentials, String> {
    // The parser's own messages quote nothing of the text.
    let url = Url::parse(uri).map_err(|error| format!("key uri cannot be parsed: {error}"))?;
    let tls = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => return Err("key uri does not begin with redis:// or rediss://".to_owned()),
    };
    if url.fragment().is_some() {
        return Err(
            "key uri has a part after #, which is not accepted; the certificate is verified".to_owned()
        );
    }
    let user = Some(decoded(url.username())?).filter(|user| !user.is_empty());
    let password = url.password().map(decoded).transpose()?.filter(|password| !password.is_empty());
    if user.is_some() && password.is_none() {
        // Most likely it is the password, and a user's name is not kept secret.
        return Err("key uri has one word before the host; write redis://user:password@host or redis://:password@host".to_owned());
    }
    let number = |text: &str| -> Result<u32, String> {
        text.parse().map_err(|_| "key uri has something else than the number of a database".to_owned())
    };
    let mut database = match url.path().trim_start_matches('/') {
        "" => 0,
        path => number(path)?,
    };
    for (key, value) in url.query_pairs() {
        match &*key {
            "db" => database = number(&value)?,
            "ssl_cert_reqs" if matches!(&*value, "required" | "CERT_REQUIRED") => {}
            // What only matters to other clients is passed over; what would reach a file or weaken TLS is not.
            "protocol"
            | "socket_timeout"
            | "socket_connect_timeout"
            | "socket_keepalive"
            | "health_check_interval"
            | "max_connections"
            | "decode_responses"
            | "encoding"
            | "client_name"
            | "retry_on_timeout"
            | "timeout" => {}
            _ => return Err(refused_parameter(&key)),
        }
    }
    Ok(RedisCredentials {
        host: uri_host(&url)?,
        port: url.port().unwrap_or(PORT),
        database,
        user,
        password,
        tls,
        ca: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<RedisCredentials, String> {
        let data =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        RedisCredentials::read("shop", "orders-redis", &SecretKeys::default(), &data.collect())
            .map_err(|no_data| no_data.to_string())
    }

    #[test]
    fn single_keys_are_read_and_an_unqualified_host_is_a_service_of_the_namespace() {
        let plain = read(&[("host", "cache")]).unwrap();
        assert_eq!(format!("{plain:?}"), "default@cache.shop.svc:6379/0");
        assert_eq!((plain.password.as_deref(), plain.tls, plain.ca.as_deref()), (None, false, None));
        let full = read(&[
            ("hostname", "cache.example.org"),
            ("port", "6380"),
            ("username", "lop"),
            ("password", "p w\n"),
            ("db", "3"),
            ("tls", "true"),
            ("ca.crt", "PEM"),
        ]);
        let full = full.unwrap();
        assert_eq!(format!("{full:?}"), "lop@cache.example.org:6380/3");
        assert_eq!(full.password.as_deref(), Some("p w"));
        assert_eq!((full.tls, full.ca.as_deref()), (true, Some(&b"PEM"[..])));
    }

    #[test]
    fn a_uri_wins_and_is_decoded() {
        let uri = "rediss://lop:p%40ss%2Fword@cache.example.org:6380/2?ssl_cert_reqs=required&protocol=3";
        let credentials = read(&[("uri", uri), ("host", "elsewhere"), ("db", "7"), ("tls", "true")]).unwrap();
        assert_eq!(format!("{credentials:?}"), "lop@cache.example.org:6380/2");
        assert_eq!((credentials.password.as_deref(), credentials.tls), (Some("p@ss/word"), true));
        let alone = read(&[("uri", "redis://:s3cret@cache?db=1")]).unwrap();
        assert_eq!(format!("{alone:?}"), "default@cache.shop.svc:6379/1");
        assert_eq!((alone.user, alone.password.as_deref(), alone.tls), (None, Some("s3cret"), false));
        assert_eq!(read(&[("uri", "redis://[::1]:6379")]).unwrap().host, "::1");
        assert!(read(&[("uri", "redis://cache"), ("tls", "true")]).unwrap().tls);
    }

    #[test]
    fn what_is_wrong_is_named_and_no_value_is_quoted() {
        let secret = "s3cret";
        for (pairs, word) in [
            (vec![], "host"),
            (vec![("password", secret)], "host"),
            (vec![("host", "/run/s3cret.sock")], "neither a name"),
            (vec![("host", "cache"), ("port", "s3cret")], "port"),
            (vec![("host", "cache"), ("db", "s3cret")], "db"),
            (vec![("host", "cache"), ("db", "-1")], "db"),
            (vec![("host", "cache"), ("tls", "s3cret")], "tls"),
            (vec![("uri", "not a uri s3cret")], "cannot be parsed"),
            (vec![("uri", "postgres://u:s3cret@db/x")], "redis://"),
            (vec![("uri", "unix:///run/s3cret.sock")], "redis://"),
            (vec![("uri", "redis+unix://u:s3cret@db/x")], "redis://"),
            (vec![("uri", "redis://u:s3cret@")], "uri"),
            (vec![("uri", "redis://s3cret@cache")], "one word"),
            (vec![("uri", "redis://u:s3cret@cache/orders")], "number"),
            (vec![("uri", "redis://u:s3cret@cache/0/1")], "number"),
            (vec![("uri", "redis://u:s3cret@cache?db=s3cret")], "number"),
            (vec![("uri", "redis://u:s3cret@cache?ssl_ca_certs=/etc/passwd")], "ssl_ca_certs"),
            (vec![("uri", "rediss://u:s3cret@cache?ssl_cert_reqs=none")], "ssl_cert_reqs"),
            (vec![("uri", "rediss://u:s3cret@cache#insecure")], "#"),
            (vec![("uri", "rediss://u:s3cret@cache"), ("tls", "false")], "tls is false"),
            (vec![("uri", "redis://u:12?s3cret@cache/0")], "not known"),
            (vec![("uri", "redis://u:s3cret%ff@cache")], "escape"),
            (vec![("uri", "redis://u:s3cret%00@cache")], "escape"),
        ] {
            let message = read(&pairs).expect_err(word);
            assert!(message.contains(word), "{word}: {message}");
            assert!(!message.contains(secret), "a value was quoted: {message}");
        }
    }
}
