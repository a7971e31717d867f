//! Addresses that are never asked, whoever names them: what is behind them takes no request for a user's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where clouds tell a machine who it is, and with which credentials. The usual one, 169.254.169.254, is link-local.
const METADATA: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Which class of forbidden addresses an address is of, if it is of one.
#[must_use]
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
    let address = plain(address);
    if METADATA.contains(&address) {
        return Some("cloud metadata");
    }
    match address {
        IpAddr::V4(address) if address.is_loopback() => Some("loopback"),
        IpAddr::V4(address) if address.is_link_local() => Some("link-local"),
        IpAddr::V4(address) if address.octets().starts_with(&[0]) => Some("unspecified"),
        IpAddr::V4(address) if address.is_multicast() => Some("multicast"),
        IpAddr::V4(address) if address.is_broadcast() => Some("broadcast"),
        IpAddr::V6(address) if address.is_loopback() => Some("loopback"),
        IpAddr::V6(address) if address.is_unicast_link_local() => Some("link-local"),
        IpAddr::V6(address) if address.is_unspecified() => Some("unspecified"),
        IpAddr::V6(address) if address.is_multicast() => Some("multicast"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// An address without its disguise: IPv4 addresses that are written as IPv6 ones are those IPv4 addresses.
#[must_use]
pub fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(long) => embedded(long).map_or(address, IpAddr::V4),
    }
}

/// `::ffff:a.b.c.d` (mapped), `::a.b.c.d` (compatible, RFC 4291), `64:ff9b::a.b.c.d` (translated, RFC 6052), and
/// `2002:ab:cd::` (6to4, RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(address: &str) -> Option<&'static str> {
        forbidden(address.parse().unwrap())
    }

    #[test]
    fn each_class_is_forbidden_from_its_first_to_its_last_address() {
        for (addresses, expected) in [
            (&["127.0.0.1", "127.255.255.255", "::1"][..], "loopback"),
            (&["169.254.0.0", "169.254.169.254", "169.254.255.255"], "link-local"),
            (&["fe80::", "fe80::1", "febf:ffff::1"], "link-local"),
            (&["0.0.0.0", "0.1.2.3", "::"], "unspecified"),
            (&["224.0.0.1", "239.255.255.255", "ff00::", "ff02::1"], "multicast"),
            (&["255.255.255.255"], "broadcast"),
            (&["fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"], "cloud metadata"),
            (&["fd00:ec2::23", "fd20:ce::254"], "cloud metadata"),
        ] {
            for address in addresses {
                assert_eq!(class(address), Some(expected), "{address}");
            }
        }
    }

    #[test]
    fn an_address_in_disguise_is_the_same_address() {
        for address in ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "100.100.100.200"] {
            let of = class(address);
            for disguise in ["::ffff:", "64:ff9b::"] {
                assert_eq!(class(&format!("{disguise}{address}")), of, "{disguise}{address}");
            }
        }
        assert_eq!(class("::169.254.169.254"), Some("link-local"));
        assert_eq!(class("2002:a9fe:a9fe::1"), Some("link-local"));
        assert_eq!(class("2002:7f00:1::"), Some("loopback"));
        assert_eq!(plain("::ffff:10.0.0.1".parse().unwrap()), "10.0.0.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn the_addresses_of_pods_are_not_forbidden() {
        for address in
            ["10.0.0.1", "100.64.0.1", "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0"]
                .into_iter()
                .chain(["172.16.0.1", "192.168.1.1", "223.255.255.255", "240.0.0.1", "fd00::1"])
                .chain(["2001:db8::1", "fd00:ec2::253", "fe7f:ffff::1", "::ffff:10.0.0.1", "fec0::1"])
        {
            assert_eq!(class(address), None, "{address}");
        }
    }
}
