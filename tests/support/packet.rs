//! IP packets as a peer makes them, written by hand: independent of `wire::emit`, and free to be wrong.

use std::net::{IpAddr, SocketAddr};

use usernet::internals::wire::{self, Body, Checksum, Flags, FourTuple, Options};

/// A TCP segment and the IP header round it. Nothing is checked.
#[derive(Clone, Debug)]
pub struct Tcp {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub seq: u32,
    pub ack: u32,
    pub flags: Flags,
    pub wnd: u16,
    pub urgent: u16,
    /// Raw option bytes; padded with zeros to a multiple of four.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
    /// Flip one bit of the TCP checksum.
    pub bad_checksum: bool,
}

/// The ICMP errors a script can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp {
    NetUnreachable,
    HostUnreachable,
    PortUnreachable,
    TooBig(u32),
    TimeExceeded,
}

fn sum(mut acc: u32, data: &[u8]) -> u32 {
    for pair in data.chunks(2) {
        acc += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    acc
}

fn fold(mut acc: u32) -> u16 {
    while acc > 0xFFFF {
        acc = (acc & 0xFFFF) + (acc >> 16);
    }
    !(acc as u16)
}

fn address_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The Internet checksum of `data` under the pseudo-header.
fn transport_checksum(src: IpAddr, dst: IpAddr, protocol: u8, data: &[u8]) -> u16 {
    let acc = sum(sum(0, &address_bytes(src)), &address_bytes(dst));
    fold(sum(acc + u32::from(protocol) + data.len() as u32, data))
}

/// An IP packet with `body` as its upper layer.
pub fn ip(src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(40 + body.len());
    match src {
        IpAddr::V4(_) => {
            out.extend([0x45, 0]);
            out.extend((20 + body.len() as u16).to_be_bytes());
            out.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            out.extend(address_bytes(src));
            out.extend(address_bytes(dst));
            let check = fold(sum(0, &out)).to_be_bytes();
            out[10..12].copy_from_slice(&check);
        }
        IpAddr::V6(_) => {
            out.extend([0x60, 0, 0, 0]);
            out.extend((body.len() as u16).to_be_bytes());
            out.extend([protocol, 64]);
            out.extend(address_bytes(src));
            out.extend(address_bytes(dst));
        }
    }
    out.extend(body);
    out
}

/// The bytes of a segment's packet.
pub fn tcp(segment: &Tcp) -> Vec<u8> {
    let mut body = Vec::with_capacity(60 + segment.payload.len());
    body.extend(segment.src.port().to_be_bytes());
    body.extend(segment.dst.port().to_be_bytes());
    body.extend(segment.seq.to_be_bytes());
    body.extend(segment.ack.to_be_bytes());
    let mut options = segment.options.clone();
    options.resize(options.len().next_multiple_of(4), 0);
    body.extend([(((20 + options.len()) / 4) as u8) << 4, segment.flags.bits()]);
    body.extend(segment.wnd.to_be_bytes());
    body.extend([0, 0]);
    body.extend(segment.urgent.to_be_bytes());
    body.extend(&options);
    body.extend(&segment.payload);
    let mut check = transport_checksum(segment.src.ip(), segment.dst.ip(), 6, &body);
    if segment.bad_checksum {
        check ^= 0x10;
    }
    body[16..18].copy_from_slice(&check.to_be_bytes());
    ip(segment.src.ip(), segment.dst.ip(), 6, &body)
}

/// Where TCP begins and where its text does; `None` if it is not a whole TCP packet without IP options.
pub fn parts(packet: &[u8]) -> Option<(usize, usize)> {
    let tcp = match packet.first()? {
        0x45 if packet.len() >= 40 && packet[9] == 6 => 20,
        first if first >> 4 == 6 && packet.len() >= 60 && packet[6] == 6 => 40,
        _ => return None,
    };
    let text = tcp + usize::from(packet[tcp + 12] >> 4) * 4;
    (text >= tcp + 20 && text <= packet.len()).then_some((tcp, text))
}

/// Makes lengths and checksums right again after something else was changed.
pub fn repair(packet: &mut [u8]) {
    let Some((at, _)) = parts(packet) else { return };
    let (total, len) = (packet.len() as u16, (packet.len() - at) as u16);
    let addresses = if at == 20 {
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet[10..12].fill(0);
        let check = fold(sum(0, &packet[..20])).to_be_bytes();
        packet[10..12].copy_from_slice(&check);
        12..20
    } else {
        packet[4..6].copy_from_slice(&len.to_be_bytes());
        8..40
    };
    packet[at + 16..at + 18].fill(0);
    let pseudo = sum(6 + u32::from(len), &packet[addresses]);
    let check = fold(sum(pseudo, &packet[at..])).to_be_bytes();
    packet[at + 16..at + 18].copy_from_slice(&check);
}

/// An ICMP error from `src` to `dst` that quotes the first bytes of `quoted`.
pub fn icmp_error(src: IpAddr, dst: IpAddr, kind: Icmp, quoted: &[u8]) -> Vec<u8> {
    let v4 = src.is_ipv4();
    let (kind, code, word) = match (kind, v4) {
        (Icmp::NetUnreachable, true) => (3, 0, 0),
        (Icmp::HostUnreachable, true) => (3, 1, 0),
        (Icmp::PortUnreachable, true) => (3, 3, 0),
        (Icmp::TooBig(mtu), true) => (3, 4, mtu),
        (Icmp::TimeExceeded, true) => (11, 0, 0),
        (Icmp::NetUnreachable, false) => (1, 0, 0),
        (Icmp::HostUnreachable, false) => (1, 3, 0),
        (Icmp::PortUnreachable, false) => (1, 4, 0),
        (Icmp::TooBig(mtu), false) => (2, 0, mtu),
        (Icmp::TimeExceeded, false) => (3, 0, 0),
    };
    let mut body = vec![kind, code, 0, 0];
    body.extend(u32::to_be_bytes(word));
    body.extend(&quoted[..quoted.len().min(if v4 { 28 } else { 200 })]);
    finish_icmp(src, dst, body)
}

/// An echo request with `len` bytes of data.
pub fn echo_request(src: IpAddr, dst: IpAddr, len: usize) -> Vec<u8> {
    let mut body = vec![if src.is_ipv4() { 8 } else { 128 }, 0, 0, 0, 0x12, 0x34, 0, 1];
    body.extend((0..len).map(|i| i as u8));
    finish_icmp(src, dst, body)
}

fn finish_icmp(src: IpAddr, dst: IpAddr, mut body: Vec<u8>) -> Vec<u8> {
    let v4 = src.is_ipv4();
    let check = if v4 { fold(sum(0, &body)) } else { transport_checksum(src, dst, 58, &body) };
    body[2..4].copy_from_slice(&check.to_be_bytes());
    ip(src, dst, if v4 { 1 } else { 58 }, &body)
}

/// A packet that came out of an engine.
#[derive(Clone, Debug)]
pub enum Seen {
    Tcp(SeenTcp),
    EchoReply { len: usize },
}

/// A TCP segment that came out of an engine, checksum verified. `tuple.local` is the destination.
#[derive(Clone, Debug)]
pub struct SeenTcp {
    pub tuple: FourTuple,
    pub seq: u32,
    pub ack: u32,
    pub flags: Flags,
    pub wnd: u16,
    pub options: Options,
    pub payload: Vec<u8>,
    pub ip_len: usize,
    pub hop_limit: u8,
    pub traffic_class: u8,
}

/// Parses what an engine sent. An engine never sends a packet that its own parser refuses.
pub fn see(packet: &[u8]) -> Result<Seen, String> {
    let (protocol, header) = match packet.first().map(|b| b >> 4) {
        Some(4) => (packet[9], 20),
        Some(6) => (packet[6], 40),
        other => return Err(format!("IP version {other:?}")),
    };
    if protocol == 1 || protocol == 58 {
        return match packet.get(header) {
            Some(0 | 129) => Ok(Seen::EchoReply { len: packet.len() - header - 8 }),
            other => Err(format!("unexpected ICMP type {other:?}")),
        };
    }
    let parsed = wire::parse(packet, Checksum::Complete).map_err(|reason| format!("malformed output: {reason:?}"))?;
    match parsed.body {
        Body::Tcp { tuple, seg } => Ok(Seen::Tcp(SeenTcp {
            tuple,
            seq: seg.seq.raw(),
            ack: seg.ack.raw(),
            flags: seg.flags,
            wnd: seg.wnd,
            options: seg.options,
            payload: seg.payload.to_vec(),
            ip_len: packet.len(),
            hop_limit: parsed.ip.hop_limit,
            traffic_class: parsed.ip.traffic_class,
        })),
        other => Err(format!("unexpected output: {other:?}")),
    }
}
