//! The edges: a device that takes nothing for long, odd addresses, extreme values, a spent budget.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use usernet::device::pair;
use usernet::{KeepaliveParams, Stack, UserListener, UserSocket, UserStream};

use super::common::{Mood, Moody, connected, host, kind, two_hosts, within};

const SOON: Duration = Duration::from_millis(100);

async fn echo_once(client: &mut UserStream, server: &mut UserStream) {
    client.write_all(b"ping").await.unwrap();
    let mut buf = [0; 4];
    server.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"ping");
}

/// A connection of a stack to itself, by its own address.
async fn to_itself(stack: &Stack) -> (UserStream, UserStream) {
    let listener = stack.bind("10.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (client, server) = within(async { tokio::join!(stack.connect(addr), listener.accept()) }).await;
    (client.unwrap(), server.unwrap().0)
}

#[tokio::test(start_paused = true)]
async fn a_blocked_device_does_not_hold_up_what_stays_inside() {
    let (left, right) = pair(1500);
    let (left, switch, _) = Moody::new(left);
    let one = host(1).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let (mut client, _server) = connected(&one, &two).await;
    let (mut near, mut far) = to_itself(&one).await;
    switch.set(Mood::Blocked);
    client.write_all(&[1; 50_000]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    timeout(SOON, echo_once(&mut near, &mut far)).await.expect("local traffic waits for the device");
    // Refusals too: nobody listens there.
    let refused = timeout(SOON, one.connect("10.0.0.1:1")).await.expect("the RST waits for the device");
    assert_eq!(kind(refused), ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn a_connect_over_a_device_that_takes_nothing_times_out() {
    let (left, right) = pair(1500);
    let (left, switch, _) = Moody::new(left);
    let one = host(1).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let (mut client, _server) = connected(&one, &two).await;
    client.set_user_timeout(Some(Duration::from_secs(20))).unwrap();
    switch.set(Mood::Blocked);
    let began = Instant::now();
    let first = timeout(Duration::from_secs(3_600), one.connect("10.0.0.2:1"));
    let second = timeout(Duration::from_secs(3_600), one.connect("10.0.0.2:2"));
    let (first, second) = tokio::join!(first, second);
    assert_eq!(kind(first.expect("never times out")), ErrorKind::TimedOut);
    assert_eq!(kind(second.expect("never times out")), ErrorKind::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(300), "{:?}", began.elapsed());
    client.write_all(&[1; 5_000]).await.unwrap();
    let dead = timeout(Duration::from_secs(300), client.read(&mut [0])).await.expect("the user timeout never fires");
    assert_eq!(kind(dead), ErrorKind::TimedOut);
    // Idle means idle: no turn after turn while the device takes nothing.
    let before = one.stats().turns;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(one.stats().turns - before < 20, "{} turns", one.stats().turns - before);
    switch.set(Mood::Works);
    assert_eq!(kind(within(one.connect("10.0.0.2:1")).await), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn an_ipv6_socket_shows_ipv4_peers_as_mapped_addresses() {
    let listener = UserListener::bind("[::]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{port}").parse().unwrap();
    let client = UserStream::connect(mapped).await.unwrap();
    let (server, from) = listener.accept().await.unwrap();
    assert_eq!(client.peer_addr().unwrap(), mapped);
    assert_eq!(client.local_addr().unwrap(), from);
    assert!(from.is_ipv6() && server.local_addr().unwrap() == mapped);
    assert_eq!(client.info().peer_addr, Some(mapped));
}

#[tokio::test]
async fn scope_and_flow_label_change_no_lookup() {
    let listener = UserListener::bind("[::1]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let odd = SocketAddr::V6(std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, port, 77, 3));
    let mut client = within(UserStream::connect(odd)).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    within(echo_once(&mut client, &mut server)).await;
    let socket = UserSocket::new_v6().unwrap();
    socket.bind(SocketAddr::V6(std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, 0, 9, 4))).unwrap();
    let mut client = within(socket.connect(listener.local_addr().unwrap())).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    within(echo_once(&mut client, &mut server)).await;
}

#[tokio::test]
async fn a_socket_may_connect_to_itself() {
    let socket = UserSocket::new_v4().unwrap();
    let addr: SocketAddr = "127.0.0.1:5000".parse().unwrap();
    socket.bind(addr).unwrap();
    let mut stream = timeout(Duration::from_secs(5), socket.connect(addr)).await.expect("hangs").unwrap();
    assert_eq!(stream.peer_addr().unwrap(), stream.local_addr().unwrap());
    stream.write_all(b"me").await.unwrap();
    let mut buf = [0; 2];
    within(stream.read_exact(&mut buf)).await.unwrap();
    assert_eq!(&buf, b"me");
    stream.shutdown().await.unwrap();
    assert_eq!(within(stream.read(&mut buf)).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn buffers_of_a_byte_or_three_carry_data() {
    for size in [1, 2, 3, 100] {
        for local in [true, false] {
            let (one, two) = two_hosts();
            let two = if local { one.clone() } else { two };
            let addr: SocketAddr = if local { "10.0.0.1:80" } else { "10.0.0.2:80" }.parse().unwrap();
            let listening = two.socket().unwrap();
            listening.set_send_buffer_size(size).unwrap();
            listening.set_recv_buffer_size(size).unwrap();
            listening.bind(addr).unwrap();
            let listener = listening.listen(1).unwrap();
            let socket = one.socket().unwrap();
            socket.set_send_buffer_size(size).unwrap();
            socket.set_recv_buffer_size(size).unwrap();
            let mut client = within(socket.connect(addr)).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                client.write_all(&[7; 300]).await.unwrap();
                client.shutdown().await.unwrap();
                client.read(&mut [0]).await
            });
            let began = Instant::now();
            let mut got = Vec::new();
            within(server.read_to_end(&mut got)).await.unwrap();
            assert_eq!(got, vec![7; 300]);
            assert!(began.elapsed() < Duration::from_secs(150), "{size} {local} {:?}", began.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
#[allow(deprecated)]
async fn the_longest_durations_and_zeros_do_no_harm() {
    let (one, two) = two_hosts();
    let (mut client, mut server) = connected(&one, &two).await;
    client.set_user_timeout(Some(Duration::MAX)).unwrap();
    client.set_linger(Some(Duration::MAX)).unwrap();
    let longest = KeepaliveParams { idle: Duration::MAX, interval: Duration::MAX, count: u32::MAX };
    client.set_keepalive_params(Some(longest)).unwrap();
    within(echo_once(&mut client, &mut server)).await;
    let zero = KeepaliveParams { idle: Duration::ZERO, ..longest };
    assert_eq!(kind(client.set_keepalive_params(Some(zero))), ErrorKind::InvalidInput);
    drop(client);
    assert_eq!(within(server.read(&mut [0])).await.unwrap(), 0);
    drop(server);
    within(one.shutdown(Duration::MAX)).await.unwrap();
}

#[tokio::test]
async fn defaults_of_sockets_are_checked_like_options() {
    let refused =
        |change: fn(&mut usernet::StackConfig)| kind(host(1).configure(change).build()) == ErrorKind::InvalidInput;
    assert!(refused(|config| config.socket.keepalive_params.interval = Duration::ZERO));
    assert!(refused(|config| config.socket.keepalive_params.count = 0));
    assert!(refused(|config| config.socket.ttl = 0));
    assert!(refused(|config| config.socket.mss = Some(0)));
    assert!(refused(|config| config.socket.send_buffer = 0));
    assert!(refused(|config| config.socket.recv_buffer = 0));
    assert!(refused(|config| config.socket.user_timeout = Some(Duration::ZERO)));
    assert!(refused(|config| config.rto_min = Duration::ZERO));
    assert!(refused(|config| config.rto_initial = Duration::ZERO));
    assert!(refused(|config| (config.rto_min, config.rto_max) = (Duration::from_secs(2), Duration::from_secs(1))));
}

#[tokio::test(start_paused = true)]
async fn a_spent_memory_budget_is_named_and_not_a_hang() {
    let (left, right) = pair(1500);
    let one = host(1).memory_budget(0).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let listener = two.bind("10.0.0.2:80").await.unwrap();
    let error = timeout(Duration::from_secs(600), one.connect("10.0.0.2:80")).await.expect("hangs").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(error.to_string().contains("memory_budget"), "{error}");
    drop(listener);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_take_no_memory_and_unread_bytes_leave_some_for_writers() {
    let (left, right) = pair(1500);
    let one = host(1).memory_budget(128 << 10).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let (mut client, mut server) = connected(&one, &two).await;
    // Windows of 64 KiB each.
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(connected(&one, &two).await);
    }
    for (_, server) in &mut idle {
        server.write_all(&[1; 30_000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(one.stats().dropped(usernet::DropReason::NoMemory) > 0);
    let listener = two.bind("10.0.0.2:80").await.unwrap();
    let error = within(one.connect("10.0.0.2:80")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    timeout(Duration::from_secs(60), client.write_all(b"heard")).await.expect("nothing is left to write").unwrap();
    within(server.read_exact(&mut [0; 5])).await.unwrap();
    // When they are read all get the rest.
    let reads = idle.iter_mut().map(async |(client, _)| client.read_exact(&mut [0; 30_000]).await.unwrap());
    within(futures::future::join_all(reads)).await;
    within(one.connect("10.0.0.2:80")).await.unwrap();
    timeout(Duration::from_secs(60), echo_once(&mut client, &mut server)).await.expect("echo");
    drop(listener);
}

#[tokio::test]
async fn a_dropped_listener_leaves_its_port_to_others() {
    let stack = host(1).build().unwrap();
    let listener = stack.bind("10.0.0.1:80").await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(stack.connect("10.0.0.1:80").await.unwrap());
    }
    drop(listener);
    for client in &mut clients {
        assert_eq!(kind(within(client.read(&mut [0])).await), ErrorKind::ConnectionReset);
    }
    let socket = stack.socket().unwrap();
    socket.bind("10.0.0.1:80".parse().unwrap()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_connect_leaves_nothing_behind() {
    let (left, _right) = pair(1500);
    let (left, switch, _) = Moody::new(left);
    let one = host(1).device(left).configure(|config| config.ephemeral_ports = (5_000, 5_001)).build().unwrap();
    switch.set(Mood::Blocked);
    for _ in 0..50 {
        let error = timeout(Duration::from_millis(1), one.connect("10.0.0.9:80")).await;
        assert!(error.is_err(), "{error:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_for_a_timer_that_an_event_could_tell() {
    let mut slow = Vec::new();
    for local in [true, false] {
        // Smaller send buffers wait for delayed ACKs: less than two segments fit.
        for send in [65_000, 100_000, 300_000] {
            for recv in [1_000, 3_000, 20_000, 65_000, 100_000, 300_000] {
                let (one, two) = two_hosts();
                let two = if local { one.clone() } else { two };
                let addr: SocketAddr = if local { "10.0.0.1:80" } else { "10.0.0.2:80" }.parse().unwrap();
                let listening = two.socket().unwrap();
                listening.set_recv_buffer_size(recv).unwrap();
                listening.bind(addr).unwrap();
                let listener = listening.listen(1).unwrap();
                let socket = one.socket().unwrap();
                socket.set_send_buffer_size(send).unwrap();
                let mut client = within(socket.connect(addr)).await.unwrap();
                let (mut server, _) = listener.accept().await.unwrap();
                let began = Instant::now();
                tokio::spawn(async move {
                    client.write_all(&vec![7; 300_000]).await.unwrap();
                    client.shutdown().await.unwrap();
                    client.read(&mut [0]).await
                });
                let mut got = Vec::new();
                within(server.read_to_end(&mut got)).await.unwrap();
                assert_eq!(got, vec![7; 300_000]);
                if began.elapsed() > Duration::from_millis(100) {
                    let stats = two.stats();
                    slow.push((local, send, recv, began.elapsed(), one.stats().timeouts, stats.timeouts));
                }
            }
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}

#[tokio::test(start_paused = true)]
async fn reading_in_any_pieces_opens_the_window_in_time() {
    let mut slow = Vec::new();
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (one, two) = two_hosts();
        let local = random.bool();
        let two = if local { one.clone() } else { two };
        let addr: SocketAddr = if local { "10.0.0.1:80" } else { "10.0.0.2:80" }.parse().unwrap();
        let listening = two.socket().unwrap();
        let recv = if random.bool() { 1 << 20 } else { random.u32(1_000..200_000) };
        listening.set_recv_buffer_size(recv).unwrap();
        listening.bind(addr).unwrap();
        let listener = listening.listen(1).unwrap();
        let mut client = within(one.connect(addr)).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        tokio::spawn(async move { client.write_all(&vec![7; 2_000_000]).await.map(|()| client) });
        let began = Instant::now();
        let mut got = 0;
        let mut buf = vec![0; 70_000];
        while got < 2_000_000 {
            let most = [2_000, 70_000][usize::from(random.bool())];
            let most = random.usize(1..most);
            got += within(server.read(&mut buf[..most])).await.unwrap();
            if random.u8(0..3) == 0 {
                tokio::task::yield_now().await;
            }
        }
        // Delayed ACKs may cost something in the end; a persist timer is 200 ms.
        if began.elapsed() > Duration::from_millis(100) {
            slow.push((seed, local, recv, began.elapsed(), one.stats().timeouts, two.stats().timeouts));
        }
    }
    assert!(slow.is_empty(), "{slow:?}");
}
