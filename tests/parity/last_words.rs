// A reset comes after what was sent before it. Included once per stack by tests/parity.rs.

/// A server that answers before it has read the question, and goes.
async fn answer_and_leave(leave: impl AsyncFnOnce(TcpStream)) -> (io::Result<Vec<u8>>, TcpStream) {
    let (mut client, mut server) = connected().await;
    client.write_all(b"a long question").await.unwrap();
    within(server.peek(&mut [0; 15])).await.unwrap();
    server.write_all(b"413").await.unwrap();
    leave(server).await;
    let mut got = vec![0; 3];
    (within(client.read_exact(&mut got)).await.map(|_| got), client)
}

#[tokio::test]
async fn bytes_written_before_a_drop_with_unread_data_arrive() {
    let (got, mut client) = answer_and_leave(async |server| drop(server)).await;
    assert_eq!(got.unwrap(), b"413");
    assert_eq!(kind(within(client.read(&mut [0; 8])).await), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn bytes_and_fin_sent_before_a_drop_with_unread_data_arrive() {
    let leave = async |mut server: TcpStream| {
        server.shutdown().await.unwrap();
        drop(server);
    };
    let (got, mut client) = answer_and_leave(leave).await;
    assert_eq!(got.unwrap(), b"413");
    assert_eq!(within(client.read(&mut [0; 8])).await.unwrap(), 0, "the FIN came before the RST");
}

#[tokio::test]
async fn halves_dropped_with_unread_data_end_the_stream_in_order() {
    let (got, mut client) = answer_and_leave(async |server| drop(server.into_split())).await;
    assert_eq!(got.unwrap(), b"413");
    assert_eq!(within(client.read(&mut [0; 8])).await.unwrap(), 0, "the write half's FIN came before the RST");
}

#[tokio::test]
async fn bytes_written_before_a_drop_with_zero_linger_arrive() {
    let leave = async |server: TcpStream| {
        server.set_zero_linger().unwrap();
        drop(server);
    };
    let (got, mut client) = answer_and_leave(leave).await;
    assert_eq!(got.unwrap(), b"413");
    assert_eq!(kind(within(client.read(&mut [0; 8])).await), ErrorKind::ConnectionReset);
}

/// Every HTTP server that refuses a large upload does this.
#[tokio::test]
async fn an_early_answer_to_a_large_upload_is_seen() {
    let (listener, addr) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let n = stream.read(&mut head).await.unwrap();
        assert!(n > 0);
        stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\n\r\n").await.unwrap();
    });
    let mut client = TcpStream::connect(addr).await.unwrap();
    client.write_all(&[b'x'; 60_000]).await.unwrap();
    within(server).await.unwrap();
    let mut line = [0; 12];
    within(client.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_connection_reset_right_after_connect_is_still_handed_out() {
    let (listener, addr) = listener().await;
    let client = within(TcpStream::connect(addr)).await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    let (mut server, _) = within(listener.accept()).await.unwrap();
    assert_eq!(kind(within(server.read(&mut [0; 1])).await), ErrorKind::ConnectionReset);
}
