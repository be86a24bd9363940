//! Receiving straight into the buffer: what is guessed right lands where it is read, what is guessed wrong changes nothing.

use super::net::deliver;
use super::*;
use crate::wire::{
    Body, Checksum, Flags, Header, MAX_HEADER, Offload, Options, SackBlock, SackBlocks, Segment, Timestamps,
    emit_echo_reply, emit_tcp, parse,
};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}

/// Two engines whose users do not wait for ACKs before they send little.
fn net() -> Net {
    Net::pair_of(|config| {
        let socket = SocketOptions { nodelay: true, ..config.socket };
        StackConfig { socket, ..config }
    })
}

/// What a bulk transfer through `net` counts at its receiver: landed, recalled.
fn bulk(net: &mut Net, client: &Stream, server: &Stream, len: usize) -> (u64, u64) {
    let before = net.engines[1].stats.clone();
    net.transfer(client, server, &pattern(len));
    let stats = &net.engines[1].stats;
    (stats.landed - before.landed, stats.recalled - before.recalled)
}

#[test]
fn large_segments_of_one_connection_land_and_small_ones_do_not() {
    for (large, address) in [(true, "10.0.0.2:80"), (true, "[fd00::2]:80"), (false, "10.0.0.2:80")] {
        let mut net = Net::pair_of(|config| {
            let socket = SocketOptions { recv_buffer: 300_000, send_buffer: 300_000, ..config.socket };
            StackConfig { socket, ..config }
        });
        if large {
            net.engines[0].set_path(Path { mtu: 1_500, max_large: Some(65_535) }, true);
        }
        let listening = net.listen(1, "[::]:80", 8);
        let client = net.connect(0, address);
        let (server, _) = net.accept(&listening).expect("connected");
        let (landed, recalled) = bulk(&mut net, &client, &server, 4 << 20);
        assert_eq!(recalled, 0, "{address}");
        if large {
            // A segment of at most 64 KiB each, but for the slow start.
            assert!(landed >= (3 << 20) / 65_536, "{landed} at {address}");
        } else {
            assert_eq!(landed, 0);
        }
    }
}

#[test]
fn only_what_was_promised_is_offered_and_it_lies_in_the_buffer() {
    let mut net = net();
    net.engines[1].set_landing(1, true);
    let (client, server, _listening) = net.connected();
    let mut inbox = vec![0; 65_536];
    let now = net.now;
    assert_eq!(net.engines[1].landing(now), None, "nothing came yet");
    let mut unread = 0;
    for step in [10_000, 20_000, 30_000, 3_000, 100] {
        unread += client.write(&pattern(step)).expect("open");
        net.settle();
        let (info, _, recv) = server.0.info();
        let range = recv.address..recv.address + recv.capacity;
        assert!(info.rcv_wnd as usize <= recv.capacity - unread);
        let paid = net.engines[1].shared.budget.used();
        let landing = net.engines[1].landing(net.now).expect("expected");
        assert_eq!(net.engines[1].shared.budget.used(), paid, "a guess buys no memory");
        let [header, first, second, rest] = net.engines[1].landing_slices(landing, &mut inbox);
        // IPv4 and TCP with timestamps.
        assert_eq!(header.len(), 52);
        let room = first.len() + second.len();
        assert!(room > 0 && room <= info.rcv_wnd as usize && (unread + room) as u64 <= paid, "{room}");
        assert_eq!(header.len() + first.len() + second.len() + rest.len(), 65_536);
        for part in [first, second] {
            assert!(part.is_empty() || range.contains(&part.as_ptr().addr()));
            part.fill(0xbb);
        }
    }
    assert_eq!(server.read(usize::MAX), Ok(pattern_of(&[10_000, 20_000, 30_000, 3_000, 100])), "not scribbled on");
    net.advance(Duration::from_millis(99));
    assert!(net.engines[1].landing(net.now).is_some());
    net.advance(Duration::from_millis(200));
    assert_eq!(net.engines[1].landing(net.now), None, "a guess does not hold for ever");
}

fn pattern_of(steps: &[usize]) -> Vec<u8> {
    steps.iter().flat_map(|&len| pattern(len)).collect()
}

#[test]
fn a_user_who_empties_the_ring_in_between_does_not_move_what_lands() {
    let mut net = net();
    net.engines[1].set_landing(1, true);
    let (client, server, _listening) = net.connected();
    client.write(&pattern(5_000)).expect("open");
    net.settle();
    client.write(b"more").expect("open");
    let now = net.now;
    let packet = packets(&mut net.engines[0], now).remove(0);
    let mut inbox = vec![0; 65_536];
    let before = net.engines[1].stats.landed;
    let landing = net.engines[1].landing(now).expect("expected");
    let [header, text, ..] = net.engines[1].landing_slices(landing, &mut inbox);
    let (head, data) = packet.split_at(header.len());
    header.copy_from_slice(head);
    text[..data.len()].copy_from_slice(data);
    assert_eq!(server.read(usize::MAX), Ok(pattern(5_000)));
    net.engines[1].receive_landed(now, landing, &mut inbox, (packet.len(), Offload::default()));
    assert_eq!(net.engines[1].stats.landed, before + 1);
    assert_eq!(server.read(usize::MAX), Ok(b"more".to_vec()));
}

#[test]
fn packets_to_ourselves_guess_nothing() {
    let mut net = Net::embedded();
    net.engines[0].set_landing(1, true);
    let listening = net.listen(0, "127.0.0.1:80", 8);
    let client = net.connect(0, "127.0.0.1:80");
    let (server, _) = net.accept(&listening).expect("connected");
    net.transfer(&client, &server, &pattern(100_000));
    assert_eq!(net.engines[0].landing(net.now), None);
}

/// What an engine sends now.
fn packets(engine: &mut Engine, now: Instant) -> Vec<Vec<u8>> {
    engine.poll_orders(now);
    let mut out = Vec::new();
    while let Some(packet) = engine.poll_transmit(now) {
        out.push([packet.header, packet.payload[0], packet.payload[1]].concat());
    }
    out
}

/// The same segment with something changed.
fn with(packet: &[u8], change: impl FnOnce(&mut Header, &mut Vec<u8>)) -> Vec<u8> {
    let Body::Tcp { tuple, seg } = parse(packet, Checksum::Complete).expect("ours").body else { panic!("not TCP") };
    let Segment { seq, ack, flags, wnd, options, .. } = seg;
    let (local, remote) = (tuple.remote, tuple.local);
    let mut header = Header { local, remote, hop_limit: 64, traffic_class: 0, seq, ack, flags, wnd, options };
    let mut text = seg.payload.to_vec();
    change(&mut header, &mut text);
    let mut out = [0; MAX_HEADER];
    let (len, _) = emit_tcp(&mut out, &header, [&text, &[]], false);
    [&out[..len], &text].concat()
}

/// One byte of a packet changed.
fn spoiled(packet: &[u8], at: usize) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[at] ^= 0x10;
    packet
}

/// Two connections into engine 1. The first is the expected one; behind a hole of the second there are bytes that wait.
/// Two segments of the first, and the one that fills the hole of the second, are on their way.
struct Scene {
    net: Net,
    clients: [Stream; 2],
    servers: [Stream; 2],
    /// Two of the first connection, one of the second.
    under_way: [Vec<u8>; 3],
}

/// Bytes of one segment.
const PART: usize = 1_000;

fn scene() -> Scene {
    let mut net = net();
    net.engines[1].set_landing(1, true);
    let listening = net.listen(1, "10.0.0.2:80", 8);
    let mut open = || {
        let client = net.connect(0, "10.0.0.2:80");
        let (server, _) = net.accept(&listening).expect("connected");
        (client, server)
    };
    let ((one, one_server), (two, two_server)) = (open(), open());
    net.transfer(&two, &two_server, &pattern(60_000));
    net.advance(Duration::from_millis(50));
    let now = net.now;
    let send = |net: &mut Net, from: &Stream, nth: usize| {
        from.write(&pattern(4 * PART)[nth * PART..][..PART]).expect("open");
        let mut sent = packets(&mut net.engines[0], now);
        assert_eq!(sent.len(), 1);
        sent.remove(0)
    };
    let hole = send(&mut net, &two, 0);
    for nth in 1..3 {
        let packet = send(&mut net, &two, nth);
        deliver(&mut net.engines[1], now, &packet, Offload::default());
    }
    let first = send(&mut net, &one, 0);
    deliver(&mut net.engines[1], now, &first, Offload::default());
    let under_way = [send(&mut net, &one, 1), send(&mut net, &one, 2), hole];
    let stats = &mut net.engines[1].stats;
    (stats.landed, stats.recalled) = (0, 0);
    Scene { net, clients: [one, two], servers: [one_server, two_server], under_way }
}

/// What must not depend on how a packet was received.
#[derive(Debug, PartialEq)]
struct Outcome {
    answers: Vec<Vec<u8>>,
    counters: String,
    read: [Vec<u8>; 2],
}

impl Scene {
    /// The packet comes, as the reactor receives it or copied; then all that was under way, and more.
    fn play(mut self, packet: &[u8], offload: Offload, lands: bool) -> (Outcome, [u64; 2]) {
        let now = self.net.now;
        let engine = &mut self.net.engines[1];
        if lands {
            deliver(engine, now, packet, offload);
        } else {
            engine.receive(now, packet, offload);
        }
        let counts = [engine.stats.landed, engine.stats.recalled];
        let answers = packets(engine, now);
        engine.end_turn();
        engine.set_landing(u32::MAX, true);
        (engine.stats.landed, engine.stats.recalled) = (0, 0);
        let counters = format!("{:?}", engine.stats);
        for packet in &self.under_way {
            self.net.engines[1].receive(now, packet, Offload::default());
        }
        for client in &self.clients {
            let _ = client.write(&pattern(4 * PART)[3 * PART..]);
        }
        self.net.advance(Duration::from_secs(2));
        let read = self.servers.each_ref().map(|server| server.read(usize::MAX).unwrap_or_default());
        (Outcome { answers, counters, read }, counts)
    }
}

/// Packets other than the expected one, and what stands beside them.
fn misfits() -> Vec<(&'static str, Vec<u8>, Offload)> {
    let Scene { under_way: [next, after, hole], .. } = scene();
    let timestamps =
        |ts: Option<Timestamps>| move |header: &mut Header, _: &mut Vec<u8>| header.options.timestamps = ts;
    let sacked = |header: &mut Header, _: &mut Vec<u8>| {
        let mut sack = SackBlocks::EMPTY;
        sack.push(SackBlock { left: header.ack + 1, right: header.ack + 2 });
        header.options = Options { sack, ..header.options };
    };
    let further = |header: &mut Header, text: &mut Vec<u8>| {
        header.seq += 3 * PART as u32;
        text.copy_from_slice(&pattern(4 * PART)[3 * PART..]);
    };
    let earlier = |header: &mut Header, text: &mut Vec<u8>| {
        header.seq = header.seq - (PART / 2) as u32;
        text.copy_from_slice(&pattern(2 * PART)[PART / 2..][..PART]);
    };
    let flagged = |flags: Flags| with(&next, |header, _| header.flags |= flags);
    let mut udp = next.clone();
    udp[9] = 17;
    let mut trailing = next.clone();
    trailing.extend_from_slice(&[7; 30]);
    let mut long = with(&next, |_, text| text.resize(PART, 9));
    long.extend_from_slice(&[9; 64_000]);
    let ping = {
        let ip = parse(&next, Checksum::Complete).expect("valid").ip;
        let (mut out, data) = ([0; MAX_HEADER], pattern(900));
        let len = emit_echo_reply(&mut out, &ip, &data);
        [&out[..len], &data].concat()
    };
    let large = |size, header_len| Offload { segment_size: Some(size), header_len, ..Offload::default() };
    let plain = [
        ("fills the hole of another connection", hole.clone()),
        ("beyond the hole of another connection", with(&hole, further)),
        ("a port nobody has", with(&next, |header, _| header.remote.set_port(81))),
        ("another peer", with(&next, |header, _| header.local.set_port(9))),
        ("out of order", after.clone()),
        ("seen before", with(&next, |header, _| header.seq = header.seq - PART as u32)),
        ("half of it seen before", with(&next, earlier)),
        ("beyond the window", with(&next, |header, _| header.seq += 1 << 20)),
        ("more than the window", with(&next, |_, text| text.resize(65_400, 5))),
        ("FIN", flagged(Flags::FIN)),
        ("RST", flagged(Flags::RST)),
        ("SYN", flagged(Flags::SYN)),
        ("URG", flagged(Flags::URG)),
        ("no ACK", with(&next, |header, _| header.flags = Flags::PSH)),
        ("no text", with(&next, |_, text| text.clear())),
        ("RST without text", with(&flagged(Flags::RST), |_, text| text.clear())),
        ("more options", with(&next, sacked)),
        ("fewer options", with(&next, timestamps(None))),
        ("bad TCP checksum", spoiled(&next, 40)),
        ("bad text", spoiled(&next, 52 + PART / 2)),
        ("bad IP checksum", spoiled(&next, 8)),
        ("IP version", spoiled(&next, 0)),
        ("IP options that are none", {
            let mut packet = next.clone();
            packet[0] = 0x46;
            packet
        }),
        ("cut", next[..600].to_vec()),
        ("cut in the header", next[..45].to_vec()),
        ("trailing bytes", trailing),
        ("64 KiB, most of it trailing", long),
        ("UDP", udp),
        ("ICMP", ping),
        ("zeros", vec![0; 1_400]),
        ("64 KiB of junk", pattern(65_535)),
        ("one byte", vec![0x45]),
    ];
    let mut all: Vec<_> = plain.into_iter().map(|(what, packet)| (what, packet, Offload::default())).collect();
    all.push(("a contradictory segment size", next.clone(), large(0, 52)));
    all.push(("a contradictory header length", next.clone(), large(500, 40)));
    let checksum = Checksum::Partial { start: 24, offset: 16 };
    all.push(("a contradictory checksum", next, Offload { checksum, ..Offload::default() }));
    all
}

#[test]
fn a_wrong_guess_changes_nothing_but_the_way_of_the_bytes() {
    for (what, packet, offload) in misfits() {
        let (copied, counts) = scene().play(&packet, offload, false);
        assert_eq!(counts, [0, 0], "{what}");
        let (landed, counts) = scene().play(&packet, offload, true);
        assert!(landed == copied, "{what}: {landed:?}\nand copied: {copied:?}");
        // What has no more bytes than the header never reached the ring.
        let reached = u64::from(packet.len() > 52);
        assert_eq!(counts, [0, reached], "{what}");
        // The waiting bytes of the other connection were not harmed, nor those of the expected one.
        let all = pattern(4 * PART);
        let ended = ["FIN", "RST", "RST without text", "more than the window"];
        assert!(landed.read[1] == all, "{what}");
        assert!(landed.read[0] == all || ended.contains(&what), "{what}");
    }
}

#[test]
fn the_expected_segment_lands_whatever_stands_beside_it() {
    let Scene { under_way: [next, ..], .. } = scene();
    let partial = Checksum::Partial { start: 20, offset: 16 };
    let large = Offload { checksum: partial, segment_size: Some(500), header_len: 52 };
    let with_checksum = |checksum| Offload { checksum, ..Offload::default() };
    let old = with(&next, |header, _| header.options.timestamps.as_mut().expect("in use").val -= 1_000);
    let unsent = with(&next, |header, _| header.ack += 1_000_000);
    let pushed = with(&next, |header, _| header.flags |= Flags::PSH);
    let unsummed = spoiled(&next, 36);
    for (what, packet, offload) in [
        ("alone", &next, Offload::default()),
        ("pushed", &pushed, Offload::default()),
        ("verified by the device", &unsummed, with_checksum(Checksum::Verified)),
        ("never summed", &unsummed, with_checksum(partial)),
        ("large", &unsummed, large),
        // They land, and are refused where they lie.
        ("too old (PAWS)", &old, Offload::default()),
        ("an ACK of what was never sent", &unsent, Offload::default()),
    ] {
        let (copied, _) = scene().play(packet, offload, false);
        let (landed, counts) = scene().play(packet, offload, true);
        assert!(landed == copied, "{what}: {landed:?}\nand copied: {copied:?}");
        assert_eq!(counts, [1, 0], "{what}");
        assert!(landed.read.iter().all(|read| *read == pattern(4 * PART)), "{what}");
    }
}

#[test]
fn a_connection_with_bytes_out_of_order_is_not_guessed() {
    let mut scene = scene();
    let (now, [next, after, _]) = (scene.net.now, &scene.under_way);
    let engine = &mut scene.net.engines[1];
    deliver(engine, now, after, Offload::default());
    deliver(engine, now, after, Offload::default());
    assert_eq!(engine.landing(now), None);
    deliver(engine, now, next, Offload::default());
    let last = scene.clients[0].write(&pattern(4 * PART)[3 * PART..]);
    assert_eq!(last, Ok(PART));
    assert!(scene.net.engines[1].landing(now).is_some(), "the gap is filled");
    scene.net.settle();
    assert_eq!(scene.net.engines[1].stats.landed, 1);
    assert_eq!(scene.servers[0].read(usize::MAX), Ok(pattern(4 * PART)));
}

/// Clients of the first engine with their servers.
fn two_connections(net: &mut Net) -> [(Stream, Stream); 2] {
    let listening = net.listen(1, "10.0.0.2:80", 8);
    [(); 2].map(|()| {
        let client = net.connect(0, "10.0.0.2:80");
        let (server, _) = net.accept(&listening).expect("connected");
        (client, server)
    })
}

#[test]
fn after_a_rest_nobody_is_expected() {
    let mut net = net();
    net.engines[1].set_landing(1_000, false);
    let ends = two_connections(&mut net);
    // Which connection sends, how much; whether it lands, is recalled.
    let mut counts = (0, 0);
    for (step, (conn, len, landed, recalled)) in [
        (0, 1_000, 0, 0),
        (0, 1_000, 1, 0),
        (0, 10, 1, 0),
        (0, 1_000, 1, 0),
        (1, 10, 0, 1),
        (1, 10, 0, 0),
        (0, 1_000, 0, 0),
        (1, 1_000, 0, 1),
        (1, 1_400, 1, 0),
        // The rest lands too, and after it nobody is expected, until text is as long as is usual by now.
        (1, 1_200, 1, 0),
        (0, 1_000, 0, 0),
        (0, 1_000, 0, 0),
        (0, 1_290, 0, 0),
        (0, 10, 1, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let (client, server) = &ends[conn];
        client.write(&pattern(len)).expect("open");
        net.settle();
        assert!(server.read(usize::MAX) == Ok(pattern(len)), "step {step}");
        counts = (counts.0 + landed, counts.1 + recalled);
        assert_eq!((net.engines[1].stats.landed, net.engines[1].stats.recalled), counts, "step {step}");
    }
}

#[test]
fn connections_in_turn_are_not_guessed_for_long() {
    let mut net = net();
    net.engines[1].set_landing(1_000, false);
    let ends = two_connections(&mut net);
    let send = |net: &mut Net, (client, server): &(Stream, Stream), len: usize| {
        client.write(&pattern(len)).expect("open");
        net.settle();
        assert_eq!(server.read(usize::MAX), Ok(pattern(len)));
        (net.engines[1].stats.landed, net.engines[1].stats.recalled)
    };
    // Every guess would be wrong: the first is.
    for turn in 0..100 {
        send(&mut net, &ends[turn % 2], 1_000);
    }
    let (landed, recalled) = send(&mut net, &ends[0], 1_000);
    assert_eq!((landed, recalled), (0, 1));
    // One of them alone: the rule proves right again.
    for _ in 0..10 {
        send(&mut net, &ends[0], 1_000);
    }
    assert_eq!(send(&mut net, &ends[0], 1_000), (7, 1));
}

#[test]
fn text_a_little_shorter_than_before_is_guessed_soon() {
    let mut net = net();
    net.engines[1].set_landing(1_000, false);
    let (client, server, _listening) = net.connected();
    for (len, landed) in [(1_400, 0), (1_399, 1), (1_399, 1), (1_399, 2)] {
        client.write(&pattern(len)).expect("open");
        net.settle();
        assert_eq!(server.read(usize::MAX), Ok(pattern(len)));
        assert_eq!(net.engines[1].stats.landed, landed, "{len}");
    }
}
