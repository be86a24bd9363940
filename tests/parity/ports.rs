// Who may have which port, and what it is like to connect to oneself. Included once per stack by tests/parity.rs.

#[tokio::test]
async fn who_may_bind_beside_whom() {
    let opened = |ip: &str, (reuseaddr, reuseport)| {
        let ip: std::net::IpAddr = ip.parse().unwrap();
        let socket = if ip.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
        socket.set_reuseaddr(reuseaddr).unwrap();
        socket.set_reuseport(reuseport).unwrap();
        (socket, ip)
    };
    let options = [(false, false), (true, false), (false, true), (true, true)];
    for (a, b, meet) in [
        ("127.0.0.1", "127.0.0.1", true),
        ("127.0.0.1", "0.0.0.0", true),
        ("0.0.0.0", "127.0.0.1", true),
        ("127.0.0.1", "127.0.0.2", false),
        ("::", "127.0.0.1", true),
        ("0.0.0.0", "::", true),
        ("::1", "0.0.0.0", false),
        ("::ffff:127.0.0.1", "127.0.0.1", true),
    ] {
        for (old, new) in options.into_iter().flat_map(|old| options.map(|new| (old, new))) {
            let ((one, one_ip), (two, two_ip)) = (opened(a, old), opened(b, new));
            if one.bind(SocketAddr::new(one_ip, 0)).is_err() {
                continue; // a kernel without IPv6
            }
            let (both_addr, both_port) = (old.0 && new.0, old.1 && new.1);
            let port = one.local_addr().unwrap().port();
            let bound = two.bind(SocketAddr::new(two_ip, port));
            if !meet && bound.is_err() {
                drop(one);
                // Refused without the first one, too: in the other family a test beside this one has the port.
                let alone = opened(b, new).0.bind(SocketAddr::new(two_ip, port));
                assert!(alone.is_err(), "{a} {old:?}, {b} {new:?}: {bound:?}");
                continue;
            }
            assert_eq!(bound.is_ok(), !meet || both_addr || both_port, "{a} {old:?}, {b} {new:?}: {bound:?}");
            if bound.is_err() {
                assert_eq!(kind(bound), ErrorKind::AddrInUse);
                continue;
            }
            let _listener = one.listen(8).unwrap();
            let listening = two.listen(8).map(drop);
            assert_eq!(listening.is_ok(), !meet || both_port, "{a} {old:?}, {b} {new:?}: {listening:?}");
        }
    }
}

#[tokio::test]
async fn a_socket_connected_to_itself_reads_what_it_writes() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    let mut stream = within(socket.connect(addr)).await.unwrap();
    stream.write_all(b"me").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 2).await, b"me");
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"");
}

#[tokio::test]
async fn a_connection_that_exists_is_not_available() {
    let (_listener, addr) = listener().await;
    let open = || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket
    };
    let (one, two) = (open(), open());
    one.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    two.bind(one.local_addr().unwrap()).unwrap();
    let _first = within(one.connect(addr)).await.unwrap();
    assert_eq!(kind(within(two.connect(addr)).await), ErrorKind::AddrNotAvailable);
}

#[tokio::test]
async fn what_is_left_of_a_listener_shares_its_port_only_if_it_did() {
    let _lasting = listener().await; // an embedded stack that nobody holds is gone, and TIME-WAIT with it
    for reuseaddr in [false, true] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(reuseaddr).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(8).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut client = within(TcpStream::connect(addr)).await.unwrap();
        let (mut server, _) = within(listener.accept()).await.unwrap();
        drop(listener);
        let bound = async || TcpListener::bind(addr).await.map(drop).map_err(|error| error.kind());
        let expected = if reuseaddr { Ok(()) } else { Err(ErrorKind::AddrInUse) };
        assert_eq!(bound().await, expected, "a live connection");
        server.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await.unwrap(), b"");
        drop(client);
        assert_eq!(read_all(&mut server).await.unwrap(), b"");
        drop(server);
        assert_eq!(bound().await, expected, "TIME-WAIT");
    }
}

#[tokio::test]
async fn a_backlog_of_zero_holds_one_connection() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let addr = listener.local_addr().unwrap();
    let _first = within(TcpStream::connect(addr)).await.unwrap();
    let second = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(addr)).await;
    assert!(second.is_err(), "{second:?}");
}
