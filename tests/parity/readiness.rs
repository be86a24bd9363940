// Wakers, many readers, cancelled accepts, slices without bytes. Included once per stack by tests/parity.rs.

#[tokio::test]
async fn only_the_latest_waker_of_a_direction_is_woken() {
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let counts = [0; 2].map(|n| Arc::new(Count(AtomicUsize::new(n))));
    let wakers = [0, 1].map(|n: usize| std::task::Waker::from(Arc::clone(&counts[n])));
    let (client, mut server) = connected().await;
    assert_eq!(kind(client.try_read(&mut [0; 1])), ErrorKind::WouldBlock);
    let [first, second] = wakers.each_ref().map(std::task::Context::from_waker);
    let (mut first, mut second) = (first, second);
    assert!(client.poll_read_ready(&mut first).is_pending());
    assert!(client.poll_peek(&mut second, &mut ReadBuf::new(&mut [0; 1])).is_pending());
    server.write_all(b"x").await.unwrap();
    within(client.readable()).await.unwrap();
    assert_eq!(counts.map(|count| count.0.load(Ordering::SeqCst)), [0, 1]);
}

#[tokio::test]
async fn readers_in_many_tasks_get_every_byte_once() {
    let (client, mut server) = connected().await;
    let client = Arc::new(client);
    let total = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let (client, total) = (Arc::clone(&client), Arc::clone(&total));
        tasks.spawn(async move {
            let mut buf = [0; 333];
            loop {
                client.readable().await.unwrap();
                match client.try_read(&mut buf) {
                    Ok(0) => return,
                    Ok(n) => drop(total.fetch_add(n, Ordering::SeqCst)),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
        });
    }
    server.write_all(&vec![1; 1_000_000]).await.unwrap();
    server.shutdown().await.unwrap();
    within(async { while tasks.join_next().await.is_some() {} }).await;
    assert_eq!(total.load(Ordering::SeqCst), 1_000_000);
}

#[tokio::test]
async fn accepts_cancelled_by_select_lose_no_connection() {
    let (listener, addr) = listener().await;
    let listener = Arc::new(listener);
    let mut acceptors = JoinSet::new();
    for _ in 0..4 {
        let listener = Arc::clone(&listener);
        acceptors.spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    accepted = listener.accept() => accepted.unwrap().0.write_all(b"!").await.unwrap(),
                    () = tokio::task::yield_now() => {}
                }
            }
        });
    }
    let mut clients = JoinSet::new();
    for _ in 0..200 {
        clients.spawn(async move {
            let mut client = TcpStream::connect(addr).await.unwrap();
            read_exactly(&mut client, 1).await
        });
    }
    within(async { while let Some(got) = clients.join_next().await { assert_eq!(got.unwrap(), b"!") } }).await;
    acceptors.abort_all();
}

#[tokio::test]
async fn empty_slices_among_others_are_skipped() {
    let (mut client, server) = connected().await;
    client.write_all(b"hello").await.unwrap();
    while within(server.peek(&mut [0; 5])).await.unwrap() < 5 {}
    let (mut a, mut b) = ([0; 2], [0; 8]);
    let mut bufs = [&mut [][..], &mut a, &mut [], &mut b].map(IoSliceMut::new);
    assert_eq!(server.try_read_vectored(&mut bufs).unwrap(), 5);
    assert_eq!((&a, &b[..3]), (b"he", &b"llo"[..]));
    assert_eq!(server.try_write_vectored(&[b"", &b"ab"[..], b"", b"c"].map(IoSlice::new)).unwrap(), 3);
    assert_eq!(server.try_write_vectored(&[]).unwrap(), 0);
    assert_eq!(read_exactly(&mut client, 3).await, b"abc");
}

// ---- nothing asked for ----

#[tokio::test]
async fn an_empty_read_of_nothing_would_block() {
    let (client, server) = connected().await;
    for stream in [&client, &server] {
        for _ in 0..2 {
            assert_eq!(kind(stream.try_read(&mut [])), ErrorKind::WouldBlock);
        }
        assert_eq!(kind(stream.try_read_buf(&mut bytes::BufMut::limit(Vec::new(), 0))), ErrorKind::WouldBlock);
    }
}

#[tokio::test]
async fn an_empty_read_or_peek_waits_until_something_is_there() {
    let (mut client, mut server) = connected().await;
    let pending = poll_fn(|cx| Poll::Ready(client.poll_peek(cx, &mut ReadBuf::new(&mut [])).is_pending())).await;
    assert!(pending);
    assert!(futures::poll!(std::pin::pin!(client.peek(&mut []))).is_pending());
    assert!(futures::poll!(std::pin::pin!(client.read(&mut []))).is_pending());
    server.write_all(b"x").await.unwrap();
    assert_eq!(within(client.peek(&mut [])).await.unwrap(), 0);
    assert_eq!(within(client.read(&mut [])).await.unwrap(), 0);
    assert_eq!(client.try_read(&mut []).unwrap(), 0);
    assert_eq!(read_exactly(&mut client, 1).await, b"x");
}

#[tokio::test]
async fn an_empty_read_finds_the_error_and_one_of_no_slices_does_not() {
    let (client, server) = connected().await;
    server.set_zero_linger().unwrap();
    drop(server);
    within(async { while !client.ready(Interest::ERROR).await.unwrap().is_error() {} }).await;
    assert_eq!(client.try_read_vectored(&mut []).unwrap(), 0);
    assert_eq!(client.try_read_vectored(&mut [IoSliceMut::new(&mut [])]).unwrap(), 0);
    assert_eq!(kind(client.try_read(&mut [])), ErrorKind::ConnectionReset);
    assert_eq!(client.try_read(&mut []).unwrap(), 0);
}
