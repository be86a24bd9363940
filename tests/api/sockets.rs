//! What tokio does not have, families, limits.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use usernet::device::pair;
use usernet::{KeepaliveParams, State, UserListener, UserSocket, UserStream};

use super::common::{Mood, Moody, connected, host, kind, two_hosts, within};

#[tokio::test]
async fn families_are_fixed_by_the_first_use() {
    let four = "127.0.0.1:0".parse().unwrap();
    let six = "[::1]:0".parse().unwrap();
    assert_eq!(kind(UserSocket::new_v4().unwrap().bind(six)), ErrorKind::InvalidInput);
    assert_eq!(kind(UserSocket::new_v6().unwrap().bind(four)), ErrorKind::InvalidInput);
    let socket = UserSocket::new().unwrap();
    socket.bind(six).unwrap();
    assert_eq!(kind(socket.connect("127.0.0.1:1".parse().unwrap()).await), ErrorKind::InvalidInput);
    for addr in [four, six] {
        UserSocket::new().unwrap().bind(addr).unwrap();
    }
}

#[tokio::test]
async fn only_v6_leaves_ipv4_to_others() {
    let socket = UserSocket::new_v6().unwrap();
    socket.set_only_v6(true).unwrap();
    socket.bind("[::]:0".parse().unwrap()).unwrap();
    let listener = socket.listen(8).unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(kind(UserStream::connect(("127.0.0.1", port)).await), ErrorKind::ConnectionRefused);
    UserListener::bind(("0.0.0.0", port)).await.unwrap();
    UserStream::connect(("::1", port)).await.unwrap();
}

#[tokio::test]
async fn info_tells_the_life_of_a_socket() {
    let (one, two) = two_hosts();
    let (mut client, mut server) = connected(&one, &two).await;
    let (a, b) = (client.info(), server.info());
    assert_eq!((a.state, b.state), (State::Established, State::Established));
    assert_eq!((a.local_addr, a.peer_addr), (b.peer_addr, b.local_addr));
    assert_eq!((a.iss, a.irs), (b.irs, b.iss));
    assert!(a.iss.is_some() && a.irs.is_some() && a.mss > 500 && a.cwnd > 0 && a.snd_wnd > 0);
    client.write_all(b"hello").await.unwrap();
    client.drain().await.unwrap();
    assert_eq!(server.info().recv_buffer.fill, 5);
    assert_eq!((client.unsent(), client.unacked()), (0, 0));
    client.shutdown().await.unwrap();
    server.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(server.info().state, State::CloseWait);
}

#[tokio::test(start_paused = true)]
async fn drain_waits_for_acknowledgements() {
    let (left, right) = pair(1500);
    let (right, switch, _) = Moody::new(right);
    let one = host(1).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let (mut client, server) = connected(&one, &two).await;
    switch.set(Mood::Swallows); // its ACKs are lost
    client.write_all(b"hello").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(5), client.drain()).await.is_err());
    assert_eq!(client.unacked(), 5);
    assert_eq!(server.info().recv_buffer.fill, 5);
    switch.set(Mood::Works);
    within(client.drain()).await.unwrap();
    assert_eq!(client.unacked(), 0);
    server.abort();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(kind(client.write_all(b"x").await), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn drain_returns_although_another_task_goes_on_writing() {
    let listener = UserListener::bind("127.0.0.1:0").await.unwrap();
    let client = Arc::new(UserStream::connect(listener.local_addr().unwrap()).await.unwrap());
    let (mut server, _) = listener.accept().await.unwrap();
    let writer = Arc::clone(&client);
    let writing = tokio::spawn(async move {
        loop {
            writer.writable().await.unwrap();
            let _ = writer.try_write(&[1; 65_536]);
            tokio::task::yield_now().await;
        }
    });
    let reading = tokio::spawn(async move {
        let mut buf = vec![0; 65_536];
        while server.read(&mut buf).await.is_ok_and(|n| n > 0) {}
    });
    for _ in 0..10 {
        while client.unacked() == 0 {
            tokio::task::yield_now().await;
        }
        within(client.drain()).await.unwrap();
    }
    writing.abort();
    reading.abort();
}

#[tokio::test(start_paused = true)]
async fn drain_fails_with_its_connection() {
    let (left, right) = pair(1500);
    let (right, switch, _) = Moody::new(right);
    let one = host(1).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let (client, _server) = connected(&one, &two).await;
    client.set_user_timeout(Some(Duration::from_secs(5))).unwrap();
    switch.set(Mood::Swallows);
    client.try_write(b"hello").unwrap();
    assert_eq!(kind(within(client.drain()).await), ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_found_by_keepalive() {
    let (left, right) = pair(1500);
    let (right, switch, _) = Moody::new(right);
    let one = host(1).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let (mut client, _server) = connected(&one, &two).await;
    let mut params = KeepaliveParams { idle: Duration::from_secs(10), interval: Duration::from_secs(1), count: 3 };
    client.set_keepalive_params(Some(params)).unwrap();
    switch.set(Mood::Swallows);
    let began = tokio::time::Instant::now();
    assert_eq!(kind(within(client.read(&mut [0])).await), ErrorKind::TimedOut);
    assert!((12..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    params.count = 0;
    assert_eq!(kind(client.set_keepalive_params(Some(params))), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn nobody_answers_is_timed_out() {
    let (left, _right) = pair(1500);
    let one = host(1).device(left).build().unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(kind(within(one.connect("10.0.0.2:80")).await), ErrorKind::TimedOut);
    assert!((60..200).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn abort_resets_and_discards() {
    let (one, two) = two_hosts();
    let (client, mut server) = connected(&one, &two).await;
    client.abort();
    assert_eq!(kind(within(server.read(&mut [0])).await), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn incoming_is_a_stream_of_connections() {
    let listener = UserListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(UserStream::connect(addr).await.unwrap());
    }
    while listener.backlog_len() < 5 {
        tokio::task::yield_now().await;
    }
    let mut incoming = listener.into_incoming().take(5);
    let mut count = 0;
    while let Some(stream) = incoming.next().await {
        stream.unwrap();
        count += 1;
    }
    assert_eq!(count, 5);
}

#[tokio::test]
async fn incoming_ends_after_its_error() {
    let stack = host(1).build().unwrap();
    let mut incoming = stack.bind("10.0.0.1:0").await.unwrap().into_incoming();
    stack.shutdown(Duration::ZERO).await.unwrap();
    assert_eq!(kind(incoming.next().await.unwrap()), ErrorKind::NetworkDown);
    assert!(incoming.next().await.is_none());
}

#[tokio::test]
async fn buffer_sizes_read_back_exactly() {
    let socket = UserSocket::new().unwrap();
    assert!(socket.send_buffer_size().unwrap() >= 1 << 20 && socket.recv_buffer_size().unwrap() >= 1 << 20);
    for size in [1, 2_047, 4_096, 100_001, 4 << 20] {
        socket.set_send_buffer_size(size).unwrap();
        socket.set_recv_buffer_size(size + 1).unwrap();
        assert_eq!(socket.send_buffer_size().unwrap(), size);
        assert_eq!(socket.recv_buffer_size().unwrap(), size + 1);
        assert_eq!(socket.info().send_buffer.capacity, size as usize);
        assert_eq!(socket.info().recv_buffer.capacity, size as usize + 1);
    }
    assert_eq!(kind(socket.set_send_buffer_size(0)), ErrorKind::InvalidInput);
    let _ = socket.set_nodelay(true);
    socket.set_recv_buffer_size(8_192).unwrap();
    assert!(socket.nodelay().unwrap(), "options survive new buffers");
}

#[tokio::test]
async fn tiny_buffers_carry_data() {
    let (one, two) = two_hosts();
    let listening = two.socket().unwrap();
    listening.set_send_buffer_size(2_048).unwrap();
    listening.set_recv_buffer_size(2_048).unwrap();
    listening.bind("10.0.0.2:80".parse().unwrap()).unwrap();
    let listener = listening.listen(1).unwrap();
    let socket = one.socket().unwrap();
    socket.set_send_buffer_size(2_048).unwrap();
    socket.set_recv_buffer_size(2_048).unwrap();
    let client = socket.connect("10.0.0.2:80".parse().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    assert_eq!(server.info().recv_buffer.capacity, 2_048);
    let (mut read, mut write) = client.into_split();
    let writer = tokio::spawn(async move {
        write.write_all(&[3; 100_000]).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let echo = tokio::spawn(async move {
        let (mut read, mut write) = server.into_split();
        tokio::io::copy(&mut read, &mut write).await
    });
    let mut got = Vec::new();
    within(read.read_to_end(&mut got)).await.unwrap();
    writer.await.unwrap();
    echo.await.unwrap().unwrap();
    assert_eq!(got, vec![3; 100_000]);
}

#[tokio::test]
async fn a_spent_reservation_is_out_of_memory_and_comes_back() {
    let stack = host(1).max_reserved(13 << 20).build().unwrap();
    let one = stack.socket().unwrap();
    let two = stack.socket().unwrap();
    let error = stack.socket().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(error.to_string().contains("max_reserved"), "{error}");
    drop(one);
    stack.socket().unwrap();
    drop(two);
}

#[tokio::test(start_paused = true)]
async fn a_writer_out_of_budget_waits_for_it() {
    let (left, right) = pair(1500);
    let one = host(1).memory_budget(300_000).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let (mut client, mut server) = connected(&one, &two).await;
    let writer = tokio::spawn(async move {
        client.write_all(&vec![1; 3 << 20]).await.unwrap();
        client.shutdown().await.unwrap();
        client
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut got = Vec::new();
    within(server.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got.len(), 3 << 20);
    writer.await.unwrap();
}

#[tokio::test]
async fn a_peer_beyond_the_backlog_gets_in_later() {
    let (one, two) = two_hosts();
    let socket = two.socket().unwrap();
    socket.bind("10.0.0.2:80".parse().unwrap()).unwrap();
    let listener = socket.listen(2).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let one = one.clone();
        tasks.spawn(async move {
            let mut stream = one.connect("10.0.0.2:80").await?;
            stream.read_u8().await
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(listener.backlog_len() <= 3);
    for _ in 0..6 {
        let (mut stream, _) = within(listener.accept()).await.unwrap();
        stream.write_u8(7).await.unwrap();
        tokio::spawn(async move { stream.read(&mut [0]).await });
    }
    while let Some(done) = within(tasks.join_next()).await {
        assert_eq!(done.unwrap().unwrap(), 7);
    }
}

#[tokio::test]
async fn linger_and_mss_reach_the_wire() {
    let (one, two) = two_hosts();
    let listener = two.bind("10.0.0.2:80").await.unwrap();
    let socket = one.socket().unwrap();
    socket.set_mss(536).unwrap();
    assert_eq!(kind(socket.set_mss(1)), ErrorKind::InvalidInput);
    let client = socket.connect("10.0.0.2:80".parse().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    assert!(client.info().mss <= 536 && server.info().mss <= 536);
}

#[tokio::test]
async fn ports_run_out_per_destination() {
    let stack = host(1).configure(|config| config.ephemeral_ports = (40_000, 40_003)).build().unwrap();
    let listener = stack.bind("10.0.0.1:80").await.unwrap();
    let other = stack.bind("10.0.0.1:81").await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(stack.connect("10.0.0.1:80").await.unwrap());
    }
    assert_eq!(kind(stack.connect("10.0.0.1:80").await), ErrorKind::AddrNotAvailable);
    stack.connect("10.0.0.1:81").await.unwrap();
    drop((listener, other));
}

/// Linux: `bind` to port 0 without a free port is EADDRINUSE, `connect` without one EADDRNOTAVAIL.
#[tokio::test]
async fn without_a_free_port_bind_says_in_use_and_connect_not_available() {
    let stack = host(1).configure(|config| config.ephemeral_ports = (40_000, 40_000)).build().unwrap();
    let listener = stack.bind("10.0.0.1:0").await.unwrap();
    assert_eq!(kind(stack.bind("10.0.0.1:0").await), ErrorKind::AddrInUse);
    assert_eq!(kind(stack.connect(listener.local_addr().unwrap()).await), ErrorKind::AddrNotAvailable);
}

#[tokio::test]
async fn the_refusal_of_a_stack_without_a_device_speaks_of_its_own_addresses() {
    let stack = host(1).build().unwrap();
    let error = stack.connect("10.0.0.7:80").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    let text = error.to_string();
    assert!(text.contains("its own addresses") && text.contains("device"), "{text}");
}

#[tokio::test]
async fn smaller_buffers_need_no_more_address_space() {
    let stack = host(1).max_reserved(6 << 20).build().unwrap();
    let socket = stack.socket().unwrap(); // with its default sizes that is all
    assert_eq!(kind(stack.socket()), ErrorKind::OutOfMemory);
    assert_eq!(kind(socket.set_recv_buffer_size(8 << 20)), ErrorKind::OutOfMemory);
    assert_eq!(socket.recv_buffer_size().unwrap(), 4 << 20);
    socket.set_recv_buffer_size(65_536).unwrap();
    socket.set_send_buffer_size(65_536).unwrap();
    // What was given back is there for others, and for the same one again.
    let other = stack.socket();
    assert_eq!(kind(other), ErrorKind::OutOfMemory);
    socket.set_recv_buffer_size(4 << 20).unwrap();
    drop(socket);
    stack.socket().unwrap();
}

/// Closes as a client does that has read everything, and leaves TIME-WAIT behind.
async fn close_first((mut client, mut server): (UserStream, UserStream)) {
    client.shutdown().await.unwrap();
    within(server.read_to_end(&mut Vec::new())).await.unwrap();
    drop(server);
    within(client.read_to_end(&mut Vec::new())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn short_connections_to_an_own_address_do_not_run_out_of_ports() {
    let stack = host(1).configure(|config| config.ephemeral_ports = (40_000, 40_003)).build().unwrap();
    let listener = stack.bind("10.0.0.1:80").await.unwrap();
    let open = async || {
        let client = within(stack.connect("10.0.0.1:80")).await.unwrap();
        (client, within(listener.accept()).await.unwrap().0)
    };
    let (mut lasting, mut end) = open().await;
    let began = tokio::time::Instant::now();
    for _ in 0..50 {
        close_first(open().await).await;
    }
    assert_eq!(stack.stats().retransmits, 0);
    assert!(began.elapsed() < Duration::from_secs(1), "a SYN had to be repeated");
    // A live connection kept its port.
    lasting.write_all(b"x").await.unwrap();
    assert_eq!(within(end.read_u8()).await.unwrap(), b'x');
    // What took over a TIME-WAIT outlives the 60 s of that.
    let (mut client, mut server) = open().await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    client.write_all(b"y").await.unwrap();
    assert_eq!(within(server.read_u8()).await.unwrap(), b'y');
    let taken = client.local_addr().unwrap();
    assert_eq!(kind(stack.bind(taken).await), ErrorKind::AddrInUse);
}

#[tokio::test(start_paused = true)]
async fn time_wait_towards_another_host_keeps_its_port() {
    let (left, right) = pair(1500);
    let one = host(1).configure(|config| config.ephemeral_ports = (40_000, 40_000)).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let listener = two.bind("10.0.0.2:80").await.unwrap();
    let client = within(one.connect("10.0.0.2:80")).await.unwrap();
    close_first((client, within(listener.accept()).await.unwrap().0)).await;
    assert_eq!(kind(one.connect("10.0.0.2:80").await), ErrorKind::AddrNotAvailable);
    tokio::time::sleep(Duration::from_secs(61)).await;
    within(one.connect("10.0.0.2:80")).await.unwrap();
}
