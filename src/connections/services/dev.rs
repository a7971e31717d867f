//! `--dev-service-override`: for laboratories whose Pods have addresses that nobody can reach.

use std::net::SocketAddr;
use std::str::FromStr;

use super::Endpoint;

/// One Service port that is reached elsewhere: `namespace/service:port=127.0.0.1:8000`. It replaces an address after
/// everything else has been asked of it, and leads to loopback only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevOverride {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The port's name or number.
    pub port: String,
    /// Where it is reached.
    pub to: SocketAddr,
}

const EXAMPLE: &str = "write it as namespace/service:port=127.0.0.1:8000";

impl FromStr for DevOverride {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (of, to) = text.split_once('=').ok_or_else(|| format!("it has no \"=\"; {EXAMPLE}"))?;
        let (namespace, of) =
            of.split_once('/').ok_or_else(|| format!("it names no namespace; {EXAMPLE}"))?;
        let (service, port) = of.split_once(':').ok_or_else(|| format!("it names no port; {EXAMPLE}"))?;
        for (what, name) in [("namespace", namespace), ("Service", service), ("port", port)] {
            let letters =
                |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
            if name.is_empty() || !name.chars().all(letters) {
                return Err(format!("\"{name}\" is not the name of a {what}; {EXAMPLE}"));
            }
        }
        let to: SocketAddr =
            to.parse().map_err(|_| format!("\"{to}\" is not an IP address with a port; {EXAMPLE}"))?;
        if !to.ip().is_loopback() || to.port() == 0 {
            return Err(format!("{to} is not a port of this machine's loopback; {EXAMPLE}"));
        }
        Ok(Self { namespace: namespace.to_owned(), service: service.to_owned(), port: port.to_owned(), to })
    }
}

/// Puts other addresses in the place of those that may be asked; several take turns. `ports` are the port's name and number.
pub(super) fn apply(
    overrides: &[DevOverride],
    namespace: &str,
    service: &str,
    ports: [&str; 2],
    endpoints: &mut [Endpoint],
) {
    let meant = |one: &&DevOverride| {
        one.namespace == namespace && one.service == service && ports.contains(&one.port.as_str())
    };
    let meant: Vec<&DevOverride> = overrides.iter().filter(meant).collect();
    for (endpoint, other) in endpoints.iter_mut().zip(meant.iter().cycle()) {
        endpoint.address = other.to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_understood_says_how_it_is_written() {
        for (text, problem) in [
            ("", "it has no \"=\""),
            ("shop/orders:http", "it has no \"=\""),
            ("orders:http=127.0.0.1:1", "it names no namespace"),
            ("shop/orders=127.0.0.1:1", "it names no port"),
            ("shop/:http=127.0.0.1:1", "\"\" is not the name of a Service"),
            ("*/orders:http=127.0.0.1:1", "\"*\" is not the name of a namespace"),
            ("shop/orders:http=localhost:1", "\"localhost:1\" is not an IP address with a port"),
            ("shop/orders:http=127.0.0.1", "\"127.0.0.1\" is not an IP address with a port"),
            ("shop/orders:http=127.0.0.1:0", "127.0.0.1:0 is not a port of this machine's loopback"),
            ("shop/orders:http=10.0.0.1:80", "10.0.0.1:80 is not a port of this machine's loopback"),
            ("shop/orders:http=169.254.169.254:80", "169.254.169.254:80 is not a port"),
            ("shop/orders:http=0.0.0.0:80", "0.0.0.0:80 is not a port of this machine's loopback"),
        ] {
            let error = text.parse::<DevOverride>().unwrap_err();
            assert!(error.starts_with(problem) && error.ends_with(EXAMPLE), "{text}: {error}");
        }
    }

    #[test]
    fn only_what_is_named_is_replaced_and_several_take_turns() {
        let to = |number: u16| SocketAddr::from(([127, 0, 0, 1], number));
        let overrides: Vec<DevOverride> =
            [("shop/orders:http", 1), ("shop/orders:http", 2), ("shop/orders:443", 3)]
                .map(|(of, number)| format!("{of}={}", to(number)).parse().unwrap())
                .into();
        let applied = |namespace: &str, service: &str, ports: [&str; 2]| -> Vec<u16> {
            let pod = |number: u8| Endpoint {
                pod: format!("p{number}"),
                address: SocketAddr::from(([10, 0, 0, number], 80)),
            };
            let mut endpoints: Vec<Endpoint> = (1..=3).map(pod).collect();
            apply(&overrides, namespace, service, ports, &mut endpoints);
            endpoints.iter().map(|endpoint| endpoint.address.port()).collect()
        };
        assert_eq!(applied("shop", "orders", ["http", "80"]), [1, 2, 1]);
        assert_eq!(applied("shop", "orders", ["https", "443"]), [3, 3, 3]);
        for (namespace, service, port) in
            [("shop2", "orders", "http"), ("shop", "orders-2", "http"), ("shop", "orders", "http2")]
        {
            assert_eq!(applied(namespace, service, [port, "81"]), [80, 80, 80]);
        }
    }
}
