// How connections end: half-close, reset, drop. Included once per stack by tests/parity.rs.

#[tokio::test]
async fn half_close_lets_the_other_direction_go_on() {
    let (mut client, mut server) = connected().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await.unwrap(), b"question");
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await.unwrap(), b"answer");
}

#[tokio::test]
async fn half_close_by_the_server_works_the_same() {
    let (mut client, mut server) = connected().await;
    server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await.unwrap(), b"");
    client.write_all(b"late").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await.unwrap(), b"late");
}

#[tokio::test]
async fn the_end_stays_the_end() {
    let (mut client, mut server) = connected().await;
    server.shutdown().await.unwrap();
    for _ in 0..3 {
        assert_eq!(within(client.read(&mut [0; 8])).await.unwrap(), 0);
    }
    assert_eq!(within(client.peek(&mut [0; 8])).await.unwrap(), 0);
    assert_eq!(client.try_read(&mut [0; 8]).unwrap(), 0);
}

#[tokio::test]
async fn shutting_down_twice_is_fine() {
    let (mut client, mut server) = connected().await;
    client.shutdown().await.unwrap();
    client.shutdown().await.unwrap();
    drop(client.shutdown());
    assert_eq!(read_all(&mut server).await.unwrap(), b"");
    drop(server);
    within(client.read(&mut [0; 1])).await.unwrap();
    client.shutdown().await.unwrap();
}

#[tokio::test]
async fn writing_after_shutdown_is_a_broken_pipe() {
    let (mut client, _server) = connected().await;
    client.shutdown().await.unwrap();
    assert_eq!(kind(client.write(b"x").await), ErrorKind::BrokenPipe);
    assert_eq!(kind(client.try_write(b"x")), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn flush_waits_for_nothing() {
    let (mut client, _server) = connected().await;
    client.write_all(b"x").await.unwrap();
    within(client.flush()).await.unwrap();
}

#[tokio::test]
async fn dropping_with_unread_data_resets() {
    let (mut client, mut server) = connected().await;
    client.write_all(b"never read").await.unwrap();
    within(server.peek(&mut [0; 10])).await.unwrap();
    server.write_all(b"hello").await.unwrap();
    while within(client.peek(&mut [0; 5])).await.unwrap() < 5 {}
    drop(server);
    assert_eq!(read_exactly(&mut client, 5).await, b"hello", "unread bytes first");
    assert_eq!(kind(within(client.read(&mut [0; 8])).await), ErrorKind::ConnectionReset, "then the error, once");
    assert_eq!(within(client.read(&mut [0; 8])).await.unwrap(), 0, "then the end");
    assert_eq!(kind(client.write(b"x").await), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn the_error_of_a_reset_can_be_taken() {
    let (client, server) = connected().await;
    server.set_zero_linger().unwrap();
    drop(server);
    within(client.readable()).await.unwrap();
    let error = client.take_error().unwrap().expect("there is an error");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(client.take_error().unwrap().is_none());
    assert_eq!(client.try_read(&mut [0; 1]).unwrap(), 0);
}

#[tokio::test]
async fn zero_linger_resets() {
    let (mut client, server) = connected().await;
    server.set_zero_linger().unwrap();
    drop(server);
    assert_eq!(kind(within(client.read(&mut [0; 8])).await), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_reset_wakes_writers_too() {
    let (client, server) = connected().await;
    let chunk = vec![0; 1 << 20];
    loop {
        match client.try_write(&chunk) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                if tokio::time::timeout(Duration::from_millis(100), client.writable()).await.is_err() {
                    break;
                }
            }
        }
    }
    let waiting = tokio::spawn(async move {
        client.writable().await.unwrap();
        client.try_write(b"x")
    });
    tokio::task::yield_now().await;
    server.set_zero_linger().unwrap();
    drop(server);
    assert_eq!(kind(within(waiting).await.unwrap()), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn writing_to_a_peer_that_closed_fails_at_the_second_try() {
    let (mut client, server) = connected().await;
    drop(server);
    assert_eq!(within(client.read(&mut [0; 1])).await.unwrap(), 0);
    client.write_all(b"first").await.unwrap();
    // The RST that answers it takes its time on a kernel.
    let error = within(async {
        loop {
            if let Err(error) = client.write(b"second").await {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert_eq!(within(client.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn ready_shows_that_the_peer_closed() {
    let (client, mut server) = connected().await;
    server.shutdown().await.unwrap();
    let ready = within(async {
        loop {
            let ready = client.ready(Interest::READABLE).await.unwrap();
            if ready.is_read_closed() {
                return ready;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(ready.is_readable() && !ready.is_write_closed());
    // Final: no operation clears it.
    assert_eq!(client.try_read(&mut [0; 1]).unwrap(), 0);
    assert!(within(client.ready(Interest::READABLE)).await.unwrap().is_read_closed());
}

#[tokio::test]
async fn ready_shows_that_the_connection_is_reset() {
    let (client, server) = connected().await;
    server.set_zero_linger().unwrap();
    drop(server);
    let ready = within(async {
        loop {
            let ready = client.ready(Interest::READABLE | Interest::WRITABLE).await.unwrap();
            if ready.is_read_closed() && ready.is_write_closed() {
                return ready;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(ready.is_readable() && ready.is_writable());
    assert!(within(client.ready(Interest::ERROR)).await.unwrap().is_error());
    within(client.readable()).await.unwrap();
    within(client.writable()).await.unwrap();
}

#[tokio::test]
async fn a_dropped_listener_resets_its_queue() {
    let (listener, addr) = listener().await;
    let mut client = TcpStream::connect(addr).await.unwrap();
    drop(listener);
    assert_eq!(kind(within(client.read(&mut [0; 1])).await), ErrorKind::ConnectionReset);
    assert_eq!(kind(within(TcpStream::connect(addr)).await), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn dropping_right_after_write_delivers() {
    let (listener, addr) = listener().await;
    let size = 300_000;
    let mut client = TcpStream::connect(addr).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let writer = tokio::spawn(async move { client.write_all(&vec![5; size]).await });
    let got = read_all(&mut server).await.unwrap();
    writer.await.unwrap().unwrap();
    assert!(got.len() == size && got.iter().all(|byte| *byte == 5));
}

#[tokio::test]
async fn a_cancelled_connect_leaves_nothing_behind() {
    let (listener, addr) = listener().await;
    for _ in 0..10 {
        let mut connect = Box::pin(TcpStream::connect(addr));
        let _ = poll_fn(|cx| Poll::Ready(connect.as_mut().poll(cx).is_pending())).await;
    }
    let client = within(TcpStream::connect(addr)).await.unwrap();
    let wanted = client.local_addr().unwrap();
    within(async { while listener.accept().await.unwrap().1 != wanted {} }).await;
}

#[tokio::test]
async fn a_reset_shows_once_to_whoever_asks_first() {
    for write_first in [false, true] {
        let (mut client, server) = connected().await;
        server.set_zero_linger().unwrap();
        drop(server);
        within(async { while !client.ready(Interest::ERROR).await.unwrap().is_error() {} }).await;
        client.shutdown().await.unwrap();
        if write_first {
            assert_eq!(kind(client.write(b"x").await), ErrorKind::ConnectionReset);
        } else {
            assert_eq!(kind(within(client.peek(&mut [0; 1])).await), ErrorKind::ConnectionReset);
        }
        assert_eq!(kind(client.write(b"x").await), ErrorKind::BrokenPipe);
        assert_eq!(within(client.read(&mut [0; 1])).await.unwrap(), 0);
        assert!(client.take_error().unwrap().is_none());
    }
}

#[tokio::test]
async fn a_reset_after_the_end_is_the_writers() {
    let (mut client, mut server) = connected().await;
    server.shutdown().await.unwrap();
    assert_eq!(within(client.read(&mut [0; 1])).await.unwrap(), 0);
    server.set_zero_linger().unwrap();
    drop(server);
    within(async { while !client.ready(Interest::ERROR).await.unwrap().is_error() {} }).await;
    assert_eq!(client.try_read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(kind(client.write(b"x").await), ErrorKind::BrokenPipe);
    assert!(client.take_error().unwrap().is_none());
}

#[tokio::test]
async fn a_listeners_linger_and_nodelay_are_its_streams() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_zero_linger().unwrap();
    socket.set_nodelay(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(8).unwrap();
    let mut client = within(TcpStream::connect(listener.local_addr().unwrap())).await.unwrap();
    let (server, _) = within(listener.accept()).await.unwrap();
    assert_eq!(server.linger().unwrap(), Some(Duration::ZERO));
    assert!(server.nodelay().unwrap());
    drop((server, listener));
    assert_eq!(kind(within(client.read(&mut [0; 1])).await), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_own_shutdown_alone_does_not_show_as_write_closed() {
    let (mut client, mut server) = connected().await;
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await.unwrap(), b"");
    let ready = within(client.ready(Interest::WRITABLE)).await.unwrap();
    assert!(ready.is_writable() && !ready.is_write_closed(), "{ready:?}");
    server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await.unwrap(), b"");
    let ready = within(client.ready(Interest::WRITABLE)).await.unwrap();
    assert!(ready.is_write_closed(), "{ready:?}");
}
