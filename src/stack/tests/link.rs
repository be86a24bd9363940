//! Two stacks and a wire.

use std::sync::Mutex;
use std::task::{Context, Wake, Waker};

use super::*;
use crate::pipe::Direction;
use crate::wire::{Checksum, Flags, parse};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}

#[test]
fn connect_transfer_and_close_both_ways_leave_nothing() {
    for close_first in [0, 1] {
        let mut net = Net::pair();
        let (client, server, listening) = net.connected();
        assert!(client.0.is_established() && server.0.is_established());
        let data = pattern(1 << 20);
        net.transfer(&client, &server, &data);
        net.transfer(&server, &client, &data);
        let (first, second) = if close_first == 0 { (client, server) } else { (server, client) };
        first.0.shutdown_write();
        net.settle();
        assert_eq!(second.read(10), Ok(vec![]), "EOF");
        // Half-close: the other direction still works.
        second.write(b"late").expect("half open");
        net.settle();
        assert_eq!(first.read(10), Ok(b"late".to_vec()));
        drop(second);
        drop(first);
        net.settle();
        drop(listening);
        net.settle();
        let time_waits: Vec<usize> = net.engines.iter().map(Engine::time_wait).collect();
        assert_eq!(time_waits, if close_first == 0 { [1, 0] } else { [0, 1] });
        assert!(net.engines.iter().all(Engine::is_idle));
        net.advance(Duration::from_secs(61));
        for engine in &net.engines {
            assert_eq!((engine.live(), engine.time_wait(), engine.orphans(), engine.half_open()), (0, 0, 0, 0));
            assert_eq!((engine.shared.budget.used(), engine.shared.budget.reserved()), (0, 0));
            assert_eq!(engine.next_deadline(), None);
        }
    }
}

#[test]
fn ipv6_works_the_same() {
    let mut net = Net::pair();
    let listening = net.listen(1, "[::]:80", 8);
    let client = net.connect(0, "[fd00::2]:80");
    let (server, peer) = net.accept(&listening).expect("connected");
    assert_eq!((client.0.local_addr(), peer.ip()), (Some(peer), ip("fd00::1")));
    net.transfer(&client, &server, &pattern(100_000));
}

#[test]
fn dual_stack_listener_shows_mapped_addresses() {
    let mut net = Net::pair();
    let listening = net.listen(1, "[::]:80", 8);
    let client = net.connect(0, "10.0.0.2:80");
    let (server, peer) = net.accept(&listening).expect("connected");
    assert_eq!(peer.ip(), ip("::ffff:10.0.0.1"));
    assert_eq!(server.0.peer_addr(), Some(peer));
    assert_eq!(server.0.local_addr(), Some(addr("[::ffff:10.0.0.2]:80")));
    assert_eq!(client.0.peer_addr(), Some(addr("10.0.0.2:80")));
    net.transfer(&client, &server, b"mapped");
    drop(listening);
    // With IPV6_V6ONLY there is no such listener.
    let options = SocketOptions { only_v6: true, reuseaddr: true, ..net.options(1) };
    let binding = net.shared(1).bind(addr("[::]:81"), &options).expect("bound");
    let _listening = net.shared(1).listen(binding, options, 8).expect("listening");
    let refused = net.connect(0, "10.0.0.2:81");
    net.settle();
    assert_eq!(refused.0.take_error(), Some(ConnError::Refused));
}

#[test]
fn closed_port_refuses() {
    let mut net = Net::pair();
    let client = net.connect(0, "10.0.0.2:81");
    net.settle();
    assert_eq!(client.0.take_error(), Some(ConnError::Refused));
    assert_eq!(net.engines[0].live(), 0);
    assert_eq!(net.engines[1].stats.resets_out, 1);
    assert_eq!(net.engines[1].stats.dropped(DropReason::NoSocket), 1);
}

#[test]
fn backlog_overflow_lets_everybody_in_once_drained() {
    let mut net = Net::pair();
    let listening = net.listen(1, "10.0.0.2:80", 4);
    let clients: Vec<Stream> = (0..20).map(|_| net.connect(0, "10.0.0.2:80")).collect();
    net.settle();
    assert_eq!(net.shared(1).backlog_len(listening.id), 5);
    let mut servers = Vec::new();
    for _ in 0..200 {
        while let Some((server, _)) = net.accept(&listening) {
            servers.push(server);
        }
        net.advance(Duration::from_millis(500));
    }
    assert_eq!(servers.len(), 20);
    assert!(clients.iter().all(|client| client.0.is_established()));
    assert_eq!(net.engines[1].stats.resets_out, 0);
    assert!(net.engines[1].stats.dropped(DropReason::AcceptQueueFull) > 0);
}

#[test]
fn listener_drop_resets_its_queue_and_forgets_half_open() {
    let mut net = Net::pair();
    let listening = net.listen(1, "10.0.0.2:80", 8);
    let queued = net.connect(0, "10.0.0.2:80");
    net.settle();
    // The second one never completes: our ACKs are lost.
    net.wire = Box::new(|from, packet| {
        let syn = parse(packet, Default::default()).is_ok_and(|parsed| match parsed.body {
            crate::wire::Body::Tcp { seg, .. } => seg.has(Flags::SYN),
            _ => false,
        });
        from == 1 || syn
    });
    let half = net.connect(0, "10.0.0.2:80");
    net.settle();
    assert_eq!((net.engines[1].half_open(), net.engines[1].live()), (1, 1));
    net.wire = Box::new(|_, _| true);
    drop(listening);
    net.settle();
    assert_eq!((net.engines[1].half_open(), net.engines[1].live()), (0, 0));
    assert_eq!(queued.read(1), Err(TryError::Failed(ConnError::Reset)));
    half.write(b"x").expect("believes it is open");
    net.settle();
    assert_eq!(half.read(1), Err(TryError::Failed(ConnError::Reset)));
    // The port is free again at once, with SO_REUSEADDR or without: nothing lives on it.
    net.shared(1).bind(addr("10.0.0.2:80"), &SocketOptions::default()).expect("free");
}

#[test]
fn time_wait_on_the_server_side_can_be_reused_by_a_new_syn() {
    let mut net = Net::pair();
    let listening = net.listen(1, "10.0.0.2:80", 8);
    let options = SocketOptions { reuseaddr: true, ..net.options(0) };
    let binding = net.shared(0).bind(addr("10.0.0.1:5000"), &options).expect("bound");
    for round in 0..3 {
        let client = net.try_connect(0, Some(&binding), "10.0.0.2:80").expect("claimed");
        let (server, _) = net.accept(&listening).unwrap_or_else(|| panic!("round {round}"));
        net.transfer(&client, &server, &pattern(50_000));
        drop(server);
        net.settle();
        drop(client);
        net.settle();
        assert_eq!((net.engines[0].time_wait(), net.engines[1].time_wait()), (0, 1), "round {round}");
        net.advance(Duration::from_millis(10));
    }
}

#[test]
fn bounded_tables_evict_the_oldest() {
    let small = |config| StackConfig { max_time_wait: 5, max_orphans: 3, ..config };
    let mut net = Net::pair_of(small);
    let listening = net.listen(1, "10.0.0.2:80", 64);
    for _ in 0..12 {
        let client = net.connect(0, "10.0.0.2:80");
        let (server, _) = net.accept(&listening).expect("connected");
        drop(client);
        net.settle();
        drop(server);
        net.settle();
    }
    assert_eq!((net.engines[0].time_wait(), net.engines[1].time_wait()), (5, 0));
    let clients: Vec<Stream> = (0..6).map(|_| net.connect(0, "10.0.0.2:80")).collect();
    net.settle();
    net.wire = Box::new(|_, _| false);
    for client in &clients {
        client.write(b"unacknowledged").expect("open");
    }
    net.settle();
    drop(clients);
    net.settle();
    assert_eq!(net.engines[0].orphans(), 3);
    assert_eq!(net.engines[0].live(), 3);
    // And those die by their own limit (reliability.md A27).
    net.advance(Duration::from_secs(300));
    assert_eq!((net.engines[0].orphans(), net.engines[0].live()), (0, 0));
}

#[test]
fn connection_limit_is_told() {
    let mut net = Net::pair_of(|config| StackConfig { max_connections: 2, ..config });
    let _listening = net.listen(1, "10.0.0.2:80", 8);
    let clients: Vec<Stream> = (0..3).map(|_| net.connect(0, "10.0.0.2:80")).collect();
    net.settle();
    let errors: Vec<_> = clients.iter().map(|client| client.0.take_error()).collect();
    assert_eq!(errors, [None, None, Some(ConnError::ConnectionLimit)]);
    // Its tuple is free again.
    drop(clients);
    net.advance(Duration::from_secs(200));
    assert_eq!(net.engines[0].live(), 0);
}

/// Wakes by looking whether a binding's port and the peer's address may be claimed again.
struct Claims {
    shared: Arc<Shared>,
    from: Binding,
    claimed: Mutex<Vec<Result<FourTuple, ConnError>>>,
}

impl Wake for Claims {
    fn wake(self: Arc<Self>) {
        let options = self.shared.config.socket;
        let claimed = self.shared.claim(Some(&self.from), addr("10.0.0.2:80"), &options);
        self.claimed.lock().unwrap().push(claimed);
    }
}

#[test]
fn a_refused_connect_leaves_its_tuple_before_the_user_hears_of_it() {
    let mut net = Net::pair();
    let shared = net.shared(0);
    let from = shared.bind(addr("10.0.0.1:5000"), &net.options(0)).expect("bound");
    let client = net.try_connect(0, Some(&from), "10.0.0.2:80").expect("claimed");
    let claims = Arc::new(Claims { shared, from, claimed: Mutex::default() });
    let waker = Waker::from(Arc::clone(&claims));
    assert!(client.0.readiness().poll_ready(&mut Context::from_waker(&waker), Direction::Write).is_pending());
    net.settle();
    assert_eq!(client.0.take_error(), Some(ConnError::Refused));
    let claimed = std::mem::take(&mut *claims.claimed.lock().unwrap());
    assert!(matches!(claimed[..], [Ok(_)]), "{claimed:?}");
}

#[test]
fn dropping_the_engine_fails_everybody() {
    let mut net = Net::pair();
    let (client, server, listening) = net.connected();
    let now = net.now;
    // The last pass: nothing is unsent at the client, so it says FIN.
    net.engines[0].last_gasp(now);
    net.settle();
    let shared = net.shared(0);
    let client_listener = net.listen(0, "10.0.0.1:90", 8);
    drop(net.engines.remove(0));
    assert!(matches!(client.read(1), Err(TryError::Failed(ConnError::NetworkDown)) | Ok(_)));
    assert!(client_listener.queue.try_pop().is_err());
    assert_eq!(shared.bind(addr("10.0.0.1:91"), &SocketOptions::default()).map(drop), Err(ConnError::NetworkDown));
    assert_eq!(
        shared.claim(None, addr("10.0.0.2:80"), &SocketOptions::default()).map(drop),
        Err(ConnError::NetworkDown)
    );
    assert_eq!(server.read(1), Ok(vec![]));
    drop(listening);
}

#[test]
fn a_device_that_splits_gets_large_segments_and_partial_checksums() {
    let mut net = Net::pair();
    net.engines[0].set_path(Path { mtu: 1_500, max_large: Some(65_535) }, true);
    let (client, server, _listening) = net.connected();
    // Slow start opens the window first.
    for _ in 0..20 {
        net.transfer(&client, &server, &pattern(60_000));
    }
    net.advance(Duration::from_millis(300));
    client.write(&pattern(60_000)).expect("open");
    let now = net.now;
    let engine = &mut net.engines[0];
    engine.poll_orders(now);
    let packet = engine.poll_transmit(now).expect("data");
    assert!(packet.len() > 10_000, "{}", packet.len());
    let size = packet.offload.segment_size.expect("to be split");
    assert!(usize::from(size) + packet.header.len() <= 1_500);
    assert_eq!(usize::from(packet.offload.header_len), packet.header.len());
    let Checksum::Partial { start, offset } = packet.offload.checksum else { panic!("complete") };
    assert_eq!((start, offset), (20, 16));
    // In place: the payload lies in the send buffer.
    let (_, send, _) = client.0.info();
    let range = send.address..send.address + send.capacity;
    assert!(packet.payload.iter().filter(|part| !part.is_empty()).all(|part| range.contains(&part.as_ptr().addr())));
    let bytes = [packet.header, packet.payload[0], packet.payload[1]].concat();
    let offload = packet.offload;
    net.engines[1].receive(now, &bytes, offload);
    net.settle();
    assert_eq!(server.read(usize::MAX), Ok(pattern(60_000)));
}

#[test]
fn unacked_counts_down_to_nothing() {
    let mut net = Net::pair();
    let (client, _server, _listening) = net.connected();
    client.write(&[1; 5_000]).expect("open");
    let now = net.now;
    net.engines[0].poll_orders(now);
    assert_eq!(net.engines[0].unacked(), 5_000);
    net.advance(Duration::from_millis(100));
    assert_eq!(net.engines[0].unacked(), 0);
}

#[test]
fn orders_given_before_the_engine_knows_the_connection_are_heard() {
    let mut net = Net::pair();
    let _listening = net.listen(1, "10.0.0.2:80", 8);
    let options = net.options(0);
    let tuple = net.shared(0).claim(None, addr("10.0.0.2:80"), &options).expect("free");
    let region = crate::pipe::Region::map(4_096, 4_096).expect("mapped");
    let (user, stack_end) = crate::pipe::pipe(region, options);
    drop(user);
    net.engines[0].connect(net.now, Connect { pipe: stack_end, tuple, options });
    net.settle();
    assert_eq!((net.engines[0].live(), net.engines[0].conns.iter().count()), (0, 0));
    net.shared(0).claim(None, addr("10.0.0.2:80"), &options).expect("nothing leaked");
}

#[test]
fn the_types_cross_threads() {
    fn send<T: Send>() {}
    fn sync<T: Send + Sync>() {}
    send::<Engine>();
    sync::<Shared>();
    sync::<Binding>();
    sync::<Listening>();
}

#[test]
fn an_idle_connection_is_looked_at_once() {
    let mut net = Net::pair();
    let (client, server, _listening) = net.connected();
    net.transfer(&client, &server, &pattern(1 << 20));
    for _ in 0..2 {
        net.transfer(&server, &client, b"text");
        let idle_at = net.now + Duration::from_secs(5);
        assert!(net.engines.iter().all(|engine| engine.next_deadline().is_some_and(|at| at <= idle_at)));
        net.advance(Duration::from_secs(6));
        assert!(net.engines.iter().all(|engine| engine.next_deadline().is_none()));
    }
}
