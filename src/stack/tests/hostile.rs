//! Segments that nobody should send.

use super::*;
use crate::wire::{
    Checksum, Flags, FourTuple, Header, IpInfo, MAX_HEADER, Offload, Options, Seq, emit_echo_reply, emit_tcp, parse,
};

/// A packet from `src` to `dst`.
fn packet(src: SocketAddr, dst: SocketAddr, flags: Flags, seq: u32, ack: u32) -> Vec<u8> {
    let header = Header {
        local: src,
        remote: dst,
        hop_limit: 64,
        traffic_class: 0,
        seq: Seq::new(seq),
        ack: Seq::new(ack),
        flags,
        wnd: 1_000,
        options: Options::default(),
    };
    let mut out = [0; MAX_HEADER];
    let (len, _) = emit_tcp(&mut out, &header, [&[], &[]], false);
    out[..len].to_vec()
}

/// Feeds one packet and takes what comes out.
fn feed(engine: &mut Engine, now: Instant, bytes: &[u8]) -> Vec<Vec<u8>> {
    engine.receive(now, bytes, Offload::default());
    let mut out = Vec::new();
    while let Some(packet) = engine.poll_transmit(now) {
        out.push([packet.header, packet.payload[0], packet.payload[1]].concat());
    }
    engine.end_turn();
    out
}

#[test]
fn bad_pairs_make_no_packet_and_no_state() {
    // reliability.md A16.
    let net = Net::new(vec![config(&[("10.0.0.2", 24), ("127.0.0.1", 8), ("fd00::2", 64), ("::1", 128)])]);
    let mut engines = net.engines;
    let engine = &mut engines[0];
    let options = SocketOptions::default();
    let binding = engine.shared.bind(addr("[::]:80"), &options).expect("free");
    let _listening = engine.shared.clone().listen(binding, options, 8).expect("free");
    let bad_sources = [
        "0.0.0.0",
        "0.0.0.1",
        "0.255.255.255",
        "127.0.0.1",
        "127.0.0.2",
        "127.255.255.255",
        "224.0.0.1",
        "239.1.2.3",
        "255.255.255.255",
        "10.0.0.255",
        "10.0.0.2",
    ];
    let bad_sources_v6 = ["::", "::1", "ff02::1", "ff0e::5", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "fd00::2"];
    let bad_destinations = ["10.0.0.3", "10.0.0.255", "255.255.255.255", "224.0.0.1", "127.0.0.1", "0.0.0.0"];
    let bad_destinations_v6 = ["fd00::3", "ff02::1", "::1", "::", "::ffff:10.0.0.2"];
    let mut pairs: Vec<(&str, &str)> = bad_sources.iter().map(|&src| (src, "10.0.0.2")).collect();
    pairs.extend(bad_sources_v6.iter().map(|&src| (src, "fd00::2")));
    pairs.extend(bad_destinations.iter().map(|&dst| ("10.0.0.1", dst)));
    pairs.extend(bad_destinations_v6.iter().map(|&dst| ("fd00::1", dst)));
    pairs.extend(bad_sources.iter().map(|&src| (src, "127.0.0.1")));
    assert!(pairs.len() >= 40);
    let mut fed = 0;
    for (src, dst) in pairs {
        for port in [80, 81, 9] {
            for flags in [Flags::SYN, Flags::ACK, Flags::RST, Flags::SYN | Flags::ACK, Flags::NONE, Flags::FIN] {
                let from = SocketAddr::new(ip(src), if port == 9 { 80 } else { 1_000 });
                let to = SocketAddr::new(ip(dst), if port == 9 { 80 } else { port });
                let out = feed(engine, Instant::from_millis(1), &packet(from, to, flags, 5, 9));
                assert!(out.is_empty(), "{from} {to} {flags:?}");
                fed += 1;
            }
        }
    }
    assert_eq!((engine.half_open(), engine.live(), engine.conns.iter().count()), (0, 0, 0));
    assert_eq!((engine.stats.dropped_total(), engine.stats.packets_in), (fed, fed));
}

#[test]
fn closed_and_listening_ports_answer_as_the_rfc_says() {
    let net = Net::pair();
    let _listening = net.listen(1, "10.0.0.2:80", 8);
    let mut engines = net.engines;
    let engine = &mut engines[1];
    let mut answer = |port: u16, flags: Flags| {
        let (src, dst) = (addr("10.0.0.1:1000"), SocketAddr::new(ip("10.0.0.2"), port));
        let out = feed(engine, Instant::from_millis(1), &packet(src, dst, flags, 5, 9));
        let headers = out.iter().map(|bytes| match parse(bytes, Checksum::Complete).expect("valid").body {
            crate::wire::Body::Tcp { seg, .. } => (seg.flags, seg.seq.raw(), seg.ack.raw()),
            other => panic!("{other:?}"),
        });
        headers.collect::<Vec<_>>()
    };
    let (rst, rst_ack) = (Flags::RST, Flags::RST | Flags::ACK);
    for port in [80, 81] {
        assert_eq!(answer(port, Flags::ACK), [(rst, 9, 0)]);
        assert_eq!(answer(port, Flags::SYN | Flags::ACK), [(rst, 9, 0)], "gVisor SendRstOnListenerRxSynAck");
        assert_eq!(answer(port, Flags::RST), []);
        assert_eq!(answer(port, Flags::RST | Flags::ACK), []);
    }
    assert_eq!(answer(81, Flags::SYN), [(rst_ack, 0, 6)]);
    assert_eq!(answer(81, Flags::FIN), [(rst_ack, 0, 6)]);
    assert_eq!(answer(81, Flags::NONE), [(rst_ack, 0, 5)]);
    assert_eq!(answer(80, Flags::FIN), []);
    assert_eq!(answer(80, Flags::NONE), []);
    assert_eq!(answer(80, Flags::SYN | Flags::FIN), []);
    assert_eq!(answer(80, Flags::SYN).len(), 1);
}

#[test]
fn half_open_flood_is_bounded() {
    let mut net = Net::pair_of(|config| StackConfig { max_syn_backlog: 100, max_half_open: 150, ..config });
    let _one = net.listen(1, "10.0.0.2:80", 1_000);
    let _two = net.listen(1, "10.0.0.2:81", 1_000);
    let now = net.now;
    let engine = &mut net.engines[1];
    for n in 0..1_000u32 {
        let src = SocketAddr::from(([172, 16, (n >> 8) as u8, n as u8], 4_000));
        feed(engine, now, &packet(src, addr("10.0.0.2:80"), Flags::SYN, n, 0));
    }
    assert_eq!(engine.half_open(), 100);
    for n in 0..1_000u32 {
        let src = SocketAddr::from(([172, 17, (n >> 8) as u8, n as u8], 4_000));
        feed(engine, now, &packet(src, addr("10.0.0.2:81"), Flags::SYN, n, 0));
    }
    assert_eq!((engine.half_open(), engine.live()), (150, 0));
    assert_eq!(engine.stats.dropped(DropReason::SynQueueFull), 900 + 950);
    assert_eq!(engine.shared.budget.used() + engine.shared.budget.reserved(), 0, "a SYN buys no memory");
    // Five retransmissions later all are gone, and the honest one gets in.
    net.advance(Duration::from_secs(100));
    assert_eq!(net.engines[1].half_open(), 0);
    assert!(net.engines[1].half_open.is_empty());
    let client = net.connect(0, "10.0.0.2:80");
    net.settle();
    assert!(client.0.is_established());
}

#[test]
fn a_half_open_connection_is_small() {
    // reliability.md G6 aims at 128 bytes; what the tables hold a record today, this line says.
    let size = size_of::<demux::Conn>() + size_of::<demux::Place>();
    assert!(size <= 216, "{size}");
}

#[test]
fn land_on_a_connection_with_ourselves_is_dropped() {
    let mut net = Net::new(vec![config(&[("10.0.0.2", 24)])]);
    let listening = net.listen(0, "10.0.0.2:80", 8);
    let client = net.connect(0, "10.0.0.2:80");
    let (server, peer) = net.accept(&listening).expect("connected");
    let now = net.now;
    for (src, dst) in [(peer, addr("10.0.0.2:80")), (addr("10.0.0.2:80"), peer), (peer, peer)] {
        for flags in [Flags::RST, Flags::SYN, Flags::ACK] {
            assert!(feed(&mut net.engines[0], now, &packet(src, dst, flags, 0, 0)).is_empty());
        }
    }
    net.transfer(&client, &server, b"still there");
    assert_eq!(net.engines[0].stats.dropped(DropReason::BadSource), 9);
}

#[test]
fn resets_are_limited_per_second() {
    let mut net = Net::pair_of(|config| StackConfig { rst_per_second: 10, ..config });
    let engine = &mut net.engines[1];
    let mut count = |millis| {
        let bytes = packet(addr("10.0.0.1:1000"), addr("10.0.0.2:81"), Flags::ACK, 0, 0);
        (0..100).map(|_| feed(engine, Instant::from_millis(millis), &bytes).len()).sum::<usize>()
    };
    assert_eq!((count(1_000), count(1_500), count(2_000)), (10, 0, 10));
}

#[test]
fn echo_requests_are_answered_with_the_same_bytes() {
    let mut net = Net::pair();
    let now = net.now;
    for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        // An echo reply of the other side turned back into a request: only the ICMP type differs.
        let ip_info = IpInfo { src: ip(dst), dst: ip(src), hop_limit: 64, traffic_class: 0 };
        let rest = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let mut out = [0; MAX_HEADER];
        let len = emit_echo_reply(&mut out, &ip_info, &rest);
        let mut request = [&out[..len], &rest].concat();
        let icmp = len - 4;
        let (kind, reply_kind) = if ip(src).is_ipv4() { (8, 0) } else { (128, 129) };
        assert_eq!(request[icmp], reply_kind);
        request[icmp] = kind;
        // RFC 1624: the checksum moves by the difference of the type.
        let sum = u16::from_be_bytes([request[icmp + 2], request[icmp + 3]]);
        let sum = u32::from(!sum) + (u32::from(kind) << 8) + u32::from(!(u16::from(reply_kind) << 8));
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
        request[icmp + 2..icmp + 4].copy_from_slice(&sum.to_be_bytes());
        let replies = feed(&mut net.engines[1], now, &request);
        assert_eq!(replies.len(), 1, "{src}");
        let reply = &replies[0];
        assert_eq!((reply[icmp], &reply[len..]), (reply_kind, &rest[..]), "{src}");
    }
    assert_eq!(net.engines[1].stats.dropped_total(), 0);
}

#[test]
fn a_connect_from_a_listening_port_wins_over_a_half_open_connection() {
    let mut net = Net::pair();
    let _listening = net.listen(1, "10.0.0.2:80", 8);
    let now = net.now;
    feed(&mut net.engines[1], now, &packet(addr("10.0.0.1:700"), addr("10.0.0.2:80"), Flags::SYN, 5, 0));
    assert_eq!(net.engines[1].half_open(), 1);
    let tuple = FourTuple { local: addr("10.0.0.2:80"), remote: addr("10.0.0.1:700") };
    assert!(net.shared(1).registry().adopt(&demux::Key::new(&tuple), registry::Reuse::No));
    let client = net.open(1, tuple);
    assert_eq!((net.engines[1].half_open(), net.engines[1].live()), (0, 1));
    net.settle();
    assert_eq!(client.0.take_error(), Some(ConnError::Refused));
    assert_eq!(net.engines[1].live(), 0);
}

/// An ICMPv4 error that quotes `quoted`.
fn icmp_error(src: &str, (kind, code): (u8, u8), quoted: &[u8]) -> Vec<u8> {
    fn checksum(bytes: &[u8]) -> [u8; 2] {
        let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let sum: u32 = words.sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
    }
    let IpAddr::V4(src) = ip(src) else { panic!("IPv4") };
    let mut icmp = vec![kind, code, 0, 0, 0, 0, 0, 0];
    icmp.extend_from_slice(&quoted[..28]);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    let mut header = vec![0x45, 0, 0, 20 + icmp.len() as u8, 0, 0, 0x40, 0, 64, 1, 0, 0];
    header.extend_from_slice(&src.octets());
    header.extend_from_slice(&[10, 0, 0, 1]);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    header.extend(icmp);
    header
}

#[test]
fn icmp_errors_reach_the_connection_they_quote() {
    for (code, expected) in
        [(0, Some(ConnError::NetworkUnreachable)), (1, Some(ConnError::HostUnreachable)), (3, Some(ConnError::Refused))]
    {
        let mut net = Net::pair();
        let now = net.now;
        let client = net.connect(0, "10.0.0.2:80");
        let engine = &mut net.engines[0];
        let syn = engine.poll_transmit(now).expect("SYN").header.to_vec();
        // Another connection's, a broadcast's, one with a sequence number we never sent: nothing.
        let mut other = syn.clone();
        other[21] ^= 1;
        let mut stale = syn.clone();
        stale[24] ^= 0x80;
        feed(engine, now, &icmp_error("192.0.2.1", (3, code), &other));
        feed(engine, now, &icmp_error("192.0.2.1", (3, code), &stale));
        assert_eq!(engine.stats.dropped(DropReason::IcmpStale), 2);
        feed(engine, now, &icmp_error("255.255.255.255", (3, code), &syn));
        assert_eq!((engine.stats.dropped(DropReason::BadSource), client.0.take_error()), (1, None));
        feed(engine, now, &icmp_error("192.0.2.1", (3, code), &syn));
        assert_eq!(client.0.take_error(), expected);
        assert_eq!(engine.live(), 0);
    }
}

#[test]
fn random_segments_never_get_more_than_one_answer_each() {
    // reliability.md A28.
    let mut net = Net::pair();
    let (client, server, _listening) = net.connected();
    let peer = client.0.local_addr().expect("connected");
    let mut random = fastrand::Rng::with_seed(28);
    for n in 0..20_000u64 {
        let src = if random.bool() { peer } else { SocketAddr::new(peer.ip(), random.u16(1..)) };
        let dst = SocketAddr::new(ip("10.0.0.2"), if random.bool() { 80 } else { random.u16(1..) });
        let flags = Flags::from_bits(random.u8(..)).without(Flags::RST);
        let bytes = packet(src, dst, flags, random.u32(..), random.u32(..));
        let now = Instant::from_millis(10 + n);
        assert!(feed(&mut net.engines[1], now, &bytes).len() <= 1, "{n}");
    }
    net.now = Instant::from_millis(30_000);
    net.transfer(&client, &server, b"unharmed");
}

#[test]
fn metadata_that_contradicts_its_packet_is_counted_whatever_device_said_it() {
    let mut net = Net::pair();
    let syn = packet_to(&mut net);
    let good = Offload { checksum: Checksum::Partial { start: 20, offset: 16 }, ..Offload::default() };
    let bad = [
        Offload { checksum: Checksum::Partial { start: 24, offset: 16 }, ..Offload::default() },
        Offload { segment_size: Some(0), ..Offload::default() },
        Offload { segment_size: Some(1_000), header_len: 20, ..good },
    ];
    let now = net.now;
    for (count, offload) in (1..).zip(bad) {
        net.engines[1].receive(now, &syn, offload);
        assert_eq!(net.engines[1].stats.dropped(DropReason::Offload), count, "{offload:?}");
        assert_eq!(net.engines[1].stats.dropped_total(), count);
    }
    net.engines[1].receive(now, &syn, good);
    assert_eq!(net.engines[1].stats.dropped(DropReason::NoSocket), 1, "the packet itself is fine");
}

/// A SYN of engine 0 to engine 1.
fn packet_to(net: &mut Net) -> Vec<u8> {
    let _client = net.connect(0, "10.0.0.2:80");
    let now = net.now;
    let out = net.engines[0].poll_transmit(now).expect("a SYN");
    [out.header, out.payload[0], out.payload[1]].concat()
}
