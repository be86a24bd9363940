//! Which addresses are ours, which source to use, and which sources no honest packet has.
//!
//! Pure functions over the configured addresses. Called by the registry and by input.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{Cidr, StackConfig};
use crate::error::ConnError;

/// Whether `ip` lies in the network of `cidr`.
pub(super) fn contains((network, prefix): Cidr, ip: IpAddr) -> bool {
    match (network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            let shift = 32u32.saturating_sub(u32::from(prefix));
            let bits = |v4: Ipv4Addr| u32::from(v4).checked_shr(shift);
            bits(network) == bits(ip)
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => {
            let shift = 128u32.saturating_sub(u32::from(prefix));
            let bits = |v6: Ipv6Addr| u128::from(v6).checked_shr(shift);
            bits(network) == bits(ip)
        }
        _ => false,
    }
}

/// Whether packets to `ip` end here. Of a loopback network every address is ours, as with Linux's `local` route.
pub(super) fn is_local(addresses: &[Cidr], ip: IpAddr) -> bool {
    addresses.iter().any(|&cidr| cidr.0 == ip || (cidr.0.is_loopback() && contains(cidr, ip)))
}

/// An IPv4-mapped address as the IPv4 address it means.
pub(super) fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

/// What a connect to `ip` connects to: the unspecified address means this host, as in Linux.
pub(super) fn destination(addresses: &[Cidr], ip: IpAddr) -> IpAddr {
    if !ip.is_unspecified() {
        return ip;
    }
    let mut ours = addresses.iter().map(|cidr| cidr.0).filter(|&own| same_family(own, ip));
    let first = ours.next();
    first.into_iter().chain(ours).find(IpAddr::is_loopback).or(first).unwrap_or(ip)
}

/// The source address for packets to `remote`.
///
/// # Errors
/// `EmbeddedOnly` without a device, else `NetworkUnreachable`: nothing of that family, or no unicast destination.
pub(super) fn source_for(config: &StackConfig, remote: IpAddr) -> Result<IpAddr, ConnError> {
    let addresses = &config.addresses;
    let local = is_local(addresses, remote);
    if config.embedded && !local {
        return Err(ConnError::EmbeddedOnly);
    }
    if !local && !may_be_remote(remote) {
        return Err(ConnError::NetworkUnreachable);
    }
    // Exactly that address, then the one whose network holds the remote, then the first that may leave the host.
    let ours = || addresses.iter().copied().filter(|cidr| same_family(cidr.0, remote));
    let exact = ours().find(|cidr| cidr.0 == remote);
    let near = || ours().find(|&cidr| contains(cidr, remote));
    let first = || ours().find(|cidr| local || !cidr.0.is_loopback());
    exact.or_else(near).or_else(first).map(|cidr| cidr.0).ok_or(ConnError::NetworkUnreachable)
}

/// Whether `ip` can be the address of another host.
fn may_be_remote(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            first != 0 && !v4.is_loopback() && !v4.is_multicast() && !v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            !v6.is_unspecified() && !v6.is_loopback() && !v6.is_multicast() && v6.to_ipv4_mapped().is_none()
        }
    }
}

/// Whether a packet off the device may not have this source: RFC 1122 §4.2.3.10 (MUST-63 in RFC 9293), §3.2.1.3;
/// reliability.md A16. Our own addresses (LAND) and the broadcast addresses of our networks count.
pub(super) fn is_bad_source(addresses: &[Cidr], ip: IpAddr) -> bool {
    !may_be_remote(ip) || is_local(addresses, ip) || addresses.iter().any(|&cidr| is_broadcast_of(cidr, ip))
}

fn is_broadcast_of((network, prefix): Cidr, ip: IpAddr) -> bool {
    let (IpAddr::V4(network), IpAddr::V4(ip)) = (network, ip) else { return false };
    // RFC 3021: a /31 has no broadcast address; a /32 is one host.
    if prefix > 30 {
        return false;
    }
    let host = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    u32::from(network) | host == u32::from(ip)
}

/// Checks configured addresses.
///
/// # Errors
/// `InvalidInput`: a prefix longer than the address, or an address no host can have.
pub(super) fn check(addresses: &[Cidr]) -> Result<(), ConnError> {
    let fine = |&(ip, prefix): &Cidr| {
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        prefix <= longest && (ip.is_loopback() || may_be_remote(ip))
    };
    if addresses.iter().all(fine) { Ok(()) } else { Err(ConnError::InvalidInput) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("literal")
    }

    fn config() -> StackConfig {
        let addresses = ["127.0.0.1/8", "10.1.0.1/16", "10.2.0.1/24", "fd00::1/64"];
        let addresses = addresses
            .iter()
            .map(|text| text.split_once('/').expect("slash"))
            .map(|(addr, prefix)| (ip(addr), prefix.parse().expect("number")))
            .collect();
        StackConfig { addresses, ..StackConfig::default() }
    }

    #[test]
    fn the_whole_loopback_network_is_ours_other_networks_are_not() {
        let config = config();
        for (text, ours) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("10.1.0.1", true),
            ("10.1.0.2", false),
            ("fd00::1", true),
            ("fd00::2", false),
            ("::1", false),
        ] {
            assert_eq!(is_local(&config.addresses, ip(text)), ours, "{text}");
        }
    }

    #[test]
    fn the_source_is_the_nearest_address() {
        let config = config();
        for (remote, source) in [
            ("10.1.0.1", Ok("10.1.0.1")),
            ("10.1.200.3", Ok("10.1.0.1")),
            ("10.2.0.77", Ok("10.2.0.1")),
            ("127.0.0.5", Ok("127.0.0.1")),
            ("192.0.2.1", Ok("10.1.0.1")),
            ("2001:db8::1", Ok("fd00::1")),
            ("224.0.0.1", Err(ConnError::NetworkUnreachable)),
            ("255.255.255.255", Err(ConnError::NetworkUnreachable)),
            ("::1", Err(ConnError::NetworkUnreachable)),
        ] {
            assert_eq!(source_for(&config, ip(remote)), source.map(ip), "{remote}");
        }
        let embedded = StackConfig { addresses: vec![(ip("127.0.0.1"), 8)], embedded: true, ..StackConfig::default() };
        assert_eq!(source_for(&embedded, ip("192.0.2.1")), Err(ConnError::EmbeddedOnly));
        assert_eq!(source_for(&embedded, ip("::1")), Err(ConnError::EmbeddedOnly));
        assert_eq!(source_for(&embedded, ip("127.0.0.2")), Ok(ip("127.0.0.1")));
    }

    #[test]
    fn unspecified_destination_is_this_host() {
        let config = config();
        assert_eq!(destination(&config.addresses, ip("0.0.0.0")), ip("127.0.0.1"));
        assert_eq!(destination(&config.addresses, ip("::")), ip("fd00::1"));
        assert_eq!(destination(&config.addresses, ip("10.0.0.9")), ip("10.0.0.9"));
    }

    #[test]
    fn bad_sources() {
        let config = config();
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.8.8.8",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "10.1.0.1",
            "10.1.255.255",
            "10.2.0.255",
            "fd00::1",
            "::",
            "::1",
            "ff02::1",
            "::ffff:10.1.0.2",
        ] {
            assert!(is_bad_source(&config.addresses, ip(bad)), "{bad}");
        }
        for good in ["10.1.0.2", "10.2.0.254", "192.0.2.1", "fd00::2", "2001:db8::1", "fe80::1"] {
            assert!(!is_bad_source(&config.addresses, ip(good)), "{good}");
        }
    }

    #[test]
    fn impossible_addresses_are_refused() {
        for (addr, prefix) in [("10.0.0.1", 33), ("fd00::1", 129), ("0.0.0.0", 0), ("224.0.0.1", 4), ("ff02::1", 64)] {
            assert_eq!(check(&[(ip(addr), prefix)]), Err(ConnError::InvalidInput), "{addr}/{prefix}");
        }
        assert_eq!(check(&[(ip("127.0.0.1"), 8), (ip("::1"), 128), (ip("10.0.0.1"), 32)]), Ok(()));
    }
}
