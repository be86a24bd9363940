//! Network interfaces of the kernel: what `ip link`, `ip address` and `ip route` do, over rtnetlink, without the programs.
//!
//! Owns no state: each function opens a socket, asks, waits for the kernel's answer (microseconds) and closes it. Acts on
//! the network namespace of the calling thread. Called by `Tun::builder`, the examples and the tests.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// What the kernel says about an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Interface index.
    pub index: u32,
    /// MTU in bytes.
    pub mtu: usize,
    /// Packets that may wait in its transmit queue.
    pub tx_queue_len: u32,
    /// Whether it is administratively up.
    pub up: bool,
}

/// Looks an interface up by name.
///
/// # Errors
/// `ENODEV` if there is none; otherwise those of the netlink socket.
pub fn query(name: &str) -> io::Result<LinkInfo> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let step = || format!("looking up the interface {name}");
    let answer = request(RouteNetlinkMessage::GetLink(message), 0).map_err(|error| failed(&step(), &error))?;
    let Some(RouteNetlinkMessage::NewLink(link)) = answer else {
        return Err(failed(&step(), &io::Error::from(io::ErrorKind::InvalidData)));
    };
    let mtu = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => usize::try_from(*mtu).ok(),
        _ => None,
    });
    let queue = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::TxQueueLen(packets) => Some(*packets),
        _ => None,
    });
    Ok(LinkInfo {
        index: link.header.index,
        mtu: mtu.unwrap_or(super::MAX_MTU),
        tx_queue_len: queue.unwrap_or(0),
        up: link.header.flags.contains(LinkFlags::Up),
    })
}

/// Brings an interface up: `ip link set NAME up`.
///
/// # Errors
/// The kernel's, with the step named; `EPERM` without the right to administer this network namespace.
pub fn set_up(name: &str) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = query(name)?.index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    act(&format!("bringing {name} up"), RouteNetlinkMessage::SetLink(message), 0)
}

/// Takes an interface down: `ip link set NAME down`.
///
/// # Errors
/// As [`set_up`].
pub fn set_down(name: &str) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = query(name)?.index;
    message.header.change_mask = LinkFlags::Up;
    act(&format!("taking {name} down"), RouteNetlinkMessage::SetLink(message), 0)
}

/// Sets the MTU: `ip link set NAME mtu MTU`.
///
/// # Errors
/// As [`set_up`]; `EINVAL` for a value the interface cannot have.
pub fn set_mtu(name: &str, mtu: usize) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = query(name)?.index;
    message.attributes.push(LinkAttribute::Mtu(u32::try_from(mtu).unwrap_or(u32::MAX)));
    act(&format!("setting the MTU of {name} to {mtu}"), RouteNetlinkMessage::SetLink(message), 0)
}

/// Sets how many packets wait for whoever reads the TUN: `ip link set NAME txqueuelen N`.
///
/// # Errors
/// As [`set_up`].
pub fn set_tx_queue_len(name: &str, packets: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = query(name)?.index;
    message.attributes.push(LinkAttribute::TxQueueLen(packets));
    act(&format!("setting the queue length of {name} to {packets}"), RouteNetlinkMessage::SetLink(message), 0)
}

/// Deletes an interface: `ip link delete NAME`.
///
/// # Errors
/// As [`set_up`].
pub fn delete(name: &str) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = query(name)?.index;
    act(&format!("deleting {name}"), RouteNetlinkMessage::DelLink(message), 0)
}

/// Adds an address, without duplicate address detection for IPv6: `ip address add IP/PREFIX dev NAME`. The kernel adds the
/// route to the prefix itself. An address that is there already is fine. An IPv6 address is taken into use a little
/// later: [`await_local`].
///
/// # Errors
/// As [`set_up`]; [`InvalidInput`](io::ErrorKind::InvalidInput) for a prefix longer than the address.
pub fn add_address(name: &str, ip: IpAddr, prefix: u8) -> io::Result<()> {
    check_prefix(ip, prefix)?;
    let mut message = AddressMessage::default();
    message.header.index = query(name)?.index;
    message.header.prefix_len = prefix;
    message.header.family = family(ip);
    if ip.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes.push(AddressAttribute::Local(ip));
    message.attributes.push(AddressAttribute::Address(ip));
    let message = RouteNetlinkMessage::NewAddress(message);
    accept_existing(act(&format!("adding the address {ip}/{prefix} to {name}"), message, NLM_F_CREATE | NLM_F_EXCL))
}

/// Waits until the kernel takes packets to `ip` for its own, at most for a second. A new IPv6 address, or one whose
/// interface comes up, is taken into use by a work queue: for some milliseconds on a busy machine the kernel drops what
/// is sent to it, although the address is no longer tentative.
pub fn await_local(ip: IpAddr) {
    let deadline = Instant::now() + Duration::from_secs(1);
    while !is_local(ip) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a packet to `ip` would be delivered here: `ip route get IP` says `local`.
fn is_local(ip: IpAddr) -> bool {
    let mut message = RouteMessage::default();
    message.header.address_family = family(ip);
    message.header.destination_prefix_length = if ip.is_ipv4() { 32 } else { 128 };
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(ip)));
    let answer = request(RouteNetlinkMessage::GetRoute(message), 0);
    matches!(answer, Ok(Some(RouteNetlinkMessage::NewRoute(route))) if route.header.kind == RouteType::Local)
}

/// Adds a route to a prefix through an interface: `ip route add NET/PREFIX dev NAME`. Bits of `net` beyond the prefix
/// are ignored. A route that is there already is fine.
///
/// # Errors
/// As [`add_address`]; `ENETDOWN` if the interface is down.
pub fn add_route(net: IpAddr, prefix: u8, name: &str) -> io::Result<()> {
    check_prefix(net, prefix)?;
    let net = masked(net, prefix);
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(net),
        destination_prefix_length: prefix,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Static,
        scope: if net.is_ipv4() { RouteScope::Link } else { RouteScope::Universe },
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(net)));
    message.attributes.push(RouteAttribute::Oif(query(name)?.index));
    let message = RouteNetlinkMessage::NewRoute(message);
    accept_existing(act(&format!("adding the route {net}/{prefix} through {name}"), message, NLM_F_CREATE | NLM_F_EXCL))
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// Refuses a prefix longer than the address.
pub(super) fn check_prefix(ip: IpAddr, prefix: u8) -> io::Result<()> {
    let max = if ip.is_ipv4() { 32 } else { 128 };
    if prefix <= max {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("the prefix length of {ip}/{prefix} is above {max}")))
}

fn masked(net: IpAddr, prefix: u8) -> IpAddr {
    match net {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

fn accept_existing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn failed(step: &str, error: &io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ": needs CAP_NET_ADMIN in this network namespace (run as root, or in a user and network namespace)"
        }
        _ => "",
    };
    io::Error::new(error.kind(), format!("{step}: {error}{advice}"))
}

fn act(step: &str, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    request(message, flags).map(|_| ()).map_err(|error| failed(step, &error))
}

/// Sends one request and waits for its acknowledgement; returns the message that came before it, if one did.
fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answer = None;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            // Messages are padded to four bytes.
            let len = usize::try_from(message.header.length).unwrap_or(usize::MAX).next_multiple_of(4);
            rest = rest.get(len..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answer),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(inner) => answer = Some(inner),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_without_privilege() {
        let lo = query("lo").unwrap();
        assert!(lo.index > 0 && lo.mtu >= 1280);
        let error = query("usernet-none").unwrap_err();
        assert!(error.to_string().contains("usernet-none"), "{error}");
    }

    #[test]
    fn an_address_of_somebody_else_is_not_local() {
        assert!(!is_local("192.0.2.1".parse().unwrap()));
        assert!(!is_local("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn prefixes_are_masked_and_checked() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(masked(ip("10.1.2.3"), 8), ip("10.0.0.0"));
        assert_eq!(masked(ip("10.1.2.3"), 32), ip("10.1.2.3"));
        assert_eq!(masked(ip("10.1.2.3"), 0), ip("0.0.0.0"));
        assert_eq!(masked(ip("fd00:1:2::3"), 32), ip("fd00:1::"));
        assert_eq!(masked(ip("fd00::3"), 0), ip("::"));
        assert!(check_prefix(ip("10.0.0.1"), 33).is_err());
        assert!(check_prefix(ip("fd00::1"), 129).is_err());
    }
}
