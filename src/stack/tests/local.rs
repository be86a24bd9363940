//! One stack and its own addresses; the registry through [`Shared`].

use super::*;

#[test]
fn a_stack_reaches_itself_over_the_loopback() {
    let mut net = Net::embedded();
    let listening = net.listen(0, "127.0.0.1:0", 8);
    let target = listening.local.to_string();
    let client = net.connect(0, &target);
    let (server, _) = net.accept(&listening).expect("connected");
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    net.transfer(&client, &server, &data);
    net.transfer(&server, &client, &data);
    assert_eq!(net.sent, [0], "nothing may reach the device");
    drop((client, server));
    net.advance(Duration::from_secs(61));
    assert_eq!((net.engines[0].live(), net.engines[0].time_wait()), (0, 0));
}

#[test]
fn a_full_loopback_queue_stalls_nobody() {
    let mut net = Net::embedded();
    let listening = net.listen(0, "[::1]:80", 256);
    let clients: Vec<Stream> = (0..200).map(|_| net.connect(0, "[::1]:80")).collect();
    for client in &clients {
        // Before the handshake: nothing yet. After: everybody writes at once.
        assert!(!client.0.is_established());
    }
    net.settle();
    for client in &clients {
        client.write(&[7; 30_000]).expect("open");
    }
    net.settle();
    for _ in 0..200 {
        let (server, _) = net.accept(&listening).expect("connected");
        let mut got = 0;
        while got < 30_000 {
            got += server.read(usize::MAX).expect("all arrived").len();
            net.advance(Duration::from_millis(50));
        }
        assert_eq!(got, 30_000);
    }
}

#[test]
fn refused_over_the_loopback_is_not_rate_limited() {
    let mut net = Net::embedded();
    let clients: Vec<Stream> = (0..3_000).map(|_| net.connect(0, "127.0.0.1:9")).collect();
    net.settle();
    assert!(clients.iter().all(|client| client.0.take_error() == Some(ConnError::Refused)));
}

#[test]
fn a_socket_may_connect_to_itself() {
    // reliability.md F15: simultaneous open with oneself.
    let mut net = Net::embedded();
    let options = net.options(0);
    let binding = net.shared(0).bind(addr("127.0.0.1:7000"), &options).expect("bound");
    let only = net.try_connect(0, Some(&binding), "127.0.0.1:7000").expect("claimed");
    net.advance(Duration::from_secs(5));
    if only.0.is_established() {
        only.write(b"echo").expect("open");
        net.settle();
        assert_eq!(only.read(10), Ok(b"echo".to_vec()));
        only.0.shutdown_write();
        net.settle();
        assert_eq!(only.read(10), Ok(vec![]));
    } else {
        panic!("not established: {:?}", only.0.take_error());
    }
    drop(only);
    net.advance(Duration::from_secs(200));
    assert_eq!((net.engines[0].live(), net.engines[0].time_wait()), (0, 0));
}

#[test]
fn bind_answers_as_linux() {
    let net = Net::pair();
    let shared = net.shared(0);
    let plain = SocketOptions::default();
    let reuse = SocketOptions { reuseaddr: true, ..plain };
    let port = SocketOptions { reuseport: true, ..plain };
    let only = SocketOptions { only_v6: true, ..plain };
    let bind = |text: &str, options: &SocketOptions| shared.bind(addr(text), options);
    assert_eq!(bind("10.0.0.9:80", &plain).map(drop), Err(ConnError::AddrNotAvailable));
    let held = bind("10.0.0.1:80", &plain).expect("free");
    assert_eq!(bind("10.0.0.1:80", &plain).map(drop), Err(ConnError::AddrInUse));
    assert_eq!(bind("0.0.0.0:80", &reuse).map(drop), Err(ConnError::AddrInUse));
    assert_eq!(bind("[::]:80", &plain).map(drop), Err(ConnError::AddrInUse));
    drop(bind("[::]:80", &only).expect("IPv6 only"));
    drop(bind("[fd00::1]:80", &plain).expect("other family"));
    drop(held);
    drop(bind("10.0.0.1:80", &plain).expect("released"));
    // Port 0: an ephemeral one, each its own.
    let (a, b) = (bind("0.0.0.0:0", &plain).expect("free"), bind("10.0.0.1:0", &plain).expect("free"));
    assert_ne!(a.local_addr().port(), b.local_addr().port());
    assert!((32_768..=60_999).contains(&a.local_addr().port()));
    // SO_REUSEADDR: two may bind, one may listen.
    let (a, b) = (bind("10.0.0.1:81", &reuse).expect("free"), bind("10.0.0.1:81", &reuse).expect("shared"));
    let listening = shared.listen(a, reuse, 8).expect("first");
    assert_eq!(shared.listen(b, reuse, 8).map(drop), Err(ConnError::AddrInUse));
    assert_eq!(bind("10.0.0.1:81", &reuse).map(drop), Err(ConnError::AddrInUse));
    drop(listening);
    // SO_REUSEPORT: several listen.
    let listeners: Vec<Listening> =
        (0..3).map(|_| shared.listen(bind("10.0.0.1:82", &port).expect("shared"), port, 8).expect("shared")).collect();
    assert_eq!(bind("10.0.0.1:82", &reuse).map(drop), Err(ConnError::AddrInUse));
    drop(listeners);
    bind("10.0.0.1:82", &plain).expect("all gone");
}

#[test]
fn a_port_with_connections_or_time_wait_needs_reuseaddr() {
    let mut net = Net::pair();
    let (client, server, listening) = net.connected();
    drop(listening);
    let plain = SocketOptions::default();
    let reuse = SocketOptions { reuseaddr: true, ..plain };
    let bind = |net: &Net, options: &SocketOptions| net.shared(1).bind(addr("10.0.0.2:80"), options).map(drop);
    assert_eq!((bind(&net, &plain), bind(&net, &reuse)), (Err(ConnError::AddrInUse), Ok(())));
    drop(server);
    net.settle();
    drop(client);
    net.settle();
    assert_eq!(net.engines[1].time_wait(), 1);
    assert_eq!((bind(&net, &plain), bind(&net, &reuse)), (Err(ConnError::AddrInUse), Ok(())));
    assert_eq!(net.shared(1).bind(addr("0.0.0.0:80"), &plain).map(drop), Err(ConnError::AddrInUse));
    net.advance(Duration::from_secs(61));
    assert_eq!(bind(&net, &plain), Ok(()));
}

#[test]
fn a_port_with_connections_or_time_wait_of_a_listener_without_reuseaddr_is_refused() {
    let mut net = Net::embedded();
    let plain = SocketOptions::default();
    let reuse = SocketOptions { reuseaddr: true, ..plain };
    let shared = net.shared(0);
    let binding = shared.bind(addr("127.0.0.1:80"), &plain).expect("bound");
    let listening = shared.listen(binding, plain, 8).expect("listening");
    let client = net.connect(0, "127.0.0.1:80");
    let (server, _) = net.accept(&listening).expect("connected");
    drop(listening);
    let bind = |options: &SocketOptions| shared.bind(addr("127.0.0.1:80"), options).map(drop);
    assert_eq!((bind(&plain), bind(&reuse)), (Err(ConnError::AddrInUse), Err(ConnError::AddrInUse)));
    drop(server);
    net.settle();
    drop(client);
    net.settle();
    assert_eq!(net.engines[0].time_wait(), 1);
    assert_eq!((bind(&plain), bind(&reuse)), (Err(ConnError::AddrInUse), Err(ConnError::AddrInUse)));
    net.advance(Duration::from_secs(61));
    assert_eq!(bind(&plain), Ok(()));
}

#[test]
fn claim_answers_as_linux() {
    let net = Net::pair();
    let shared = net.shared(0);
    let plain = SocketOptions::default();
    let claim = |from: Option<&Binding>, to: &str| shared.claim(from, addr(to), &plain);
    let v4 = shared.bind(addr("10.0.0.1:5000"), &plain).expect("free");
    let v6 = shared.bind(addr("[::]:5001"), &plain).expect("free");
    let tuple = claim(Some(&v4), "10.0.0.2:80").expect("free");
    assert_eq!(tuple.local, addr("10.0.0.1:5000"));
    assert_eq!(claim(Some(&v4), "10.0.0.2:80"), Err(ConnError::TupleInUse));
    claim(Some(&v4), "10.0.0.2:81").expect("another tuple");
    shared.release(&tuple);
    claim(Some(&v4), "10.0.0.2:80").expect("released");
    assert_eq!(claim(Some(&v4), "[fd00::2]:80"), Err(ConnError::InvalidInput));
    assert_eq!(claim(Some(&v6), "10.0.0.2:80"), Err(ConnError::InvalidInput));
    assert_eq!(claim(Some(&v6), "[::ffff:10.0.0.2]:80").map(|tuple| tuple.remote), Ok(addr("10.0.0.2:80")));
    assert_eq!(claim(None, "224.0.0.1:80"), Err(ConnError::NetworkUnreachable));
    assert_eq!(claim(None, "127.0.0.1:80"), Err(ConnError::NetworkUnreachable));
    assert_eq!(claim(None, "10.0.0.2:0"), Err(ConnError::Refused));
    let embedded = Net::embedded();
    assert_eq!(embedded.shared(0).claim(None, addr("10.0.0.2:80"), &plain), Err(ConnError::EmbeddedOnly));
    assert_eq!(
        embedded.shared(0).claim(None, addr("0.0.0.0:80"), &plain).map(|tuple| tuple.remote),
        Ok(addr("127.0.0.1:80"))
    );
}

#[test]
fn ports_to_one_destination_run_out_and_come_back() {
    let net = Net::new(vec![StackConfig { ephemeral_ports: (40_000, 40_009), ..config(&[("10.0.0.1", 24)]) }]);
    let shared = net.shared(0);
    let plain = SocketOptions::default();
    // A listener's port is not given out.
    let listening = shared.bind(addr("0.0.0.0:40003"), &plain).expect("free");
    let mut claimed: Vec<FourTuple> =
        (0..9).map(|_| shared.claim(None, addr("10.0.0.2:80"), &plain).expect("free")).collect();
    assert!(claimed.iter().all(|tuple| tuple.local.port() != 40_003));
    assert_eq!(shared.claim(None, addr("10.0.0.2:80"), &plain), Err(ConnError::PortsExhausted));
    // Another destination has all of them.
    shared.claim(None, addr("10.0.0.2:81"), &plain).expect("free");
    let last = claimed.pop().expect("nine");
    shared.release(&last);
    assert_eq!(shared.claim(None, addr("10.0.0.2:80"), &plain), Ok(last));
    drop(listening);
    shared.claim(None, addr("10.0.0.2:80"), &plain).expect("the listener's");
}

#[test]
fn reuseport_spreads_connections() {
    let mut net = Net::pair();
    let options = SocketOptions { reuseport: true, ..net.options(1) };
    let listeners: Vec<Listening> = (0..4)
        .map(|_| {
            let binding = net.shared(1).bind(addr("0.0.0.0:80"), &options).expect("shared");
            net.shared(1).listen(binding, options, 200).expect("shared")
        })
        .collect();
    let clients: Vec<Stream> = (0..100).map(|_| net.connect(0, "10.0.0.2:80")).collect();
    net.settle();
    let counts: Vec<usize> = listeners.iter().map(|listener| net.shared(1).backlog_len(listener.id)).collect();
    assert_eq!(counts.iter().sum::<usize>(), 100);
    assert!(counts.iter().all(|&count| count > 8), "{counts:?}");
    drop(clients);
}

#[test]
fn the_most_specific_listener_gets_the_connection() {
    let mut net = Net::pair();
    let options = SocketOptions { reuseport: true, ..net.options(1) };
    let listen = |net: &Net, text: &str| {
        let binding = net.shared(1).bind(addr(text), &options).expect("shared");
        net.shared(1).listen(binding, options, 8).expect("shared")
    };
    let all = [listen(&net, "[::]:80"), listen(&net, "0.0.0.0:80"), listen(&net, "10.0.0.2:80")];
    let _a = net.connect(0, "10.0.0.2:80");
    let _b = net.connect(0, "[fd00::2]:80");
    net.settle();
    assert_eq!(all.each_ref().map(|listener| net.shared(1).backlog_len(listener.id)), [1, 0, 1]);
}

#[test]
fn listener_options_are_inherited() {
    let mut net = Net::pair();
    let listening = net.listen(1, "10.0.0.2:80", 8);
    net.shared(1).set_listener_options(listening.id, |options| options.nodelay = true);
    assert!(net.shared(1).listener_options(listening.id).is_some_and(|options| options.nodelay));
    let _client = net.connect(0, "10.0.0.2:80");
    let (server, _) = net.accept(&listening).expect("connected");
    assert!(server.0.options().nodelay);
    let id = listening.id;
    drop(listening);
    assert_eq!(net.shared(1).listener_options(id), None);
}

#[test]
fn a_connect_that_takes_over_a_time_wait_leaves_its_last_ack_to_go_first() {
    let mut net = Net::embedded();
    let listening = net.listen(0, "127.0.0.1:80", 512);
    let options = SocketOptions { reuseaddr: true, ..net.options(0) };
    let binding = net.shared(0).bind(addr("127.0.0.1:7000"), &options).expect("bound");
    let client = net.try_connect(0, Some(&binding), "127.0.0.1:80").expect("claimed");
    let (server, _) = net.accept(&listening).expect("connected");
    let busy: Vec<Stream> = (0..400).map(|_| net.connect(0, "127.0.0.1:80")).collect();
    net.settle();
    drop(client);
    net.settle();
    assert_eq!(net.engines[0].time_wait(), 0);
    drop(server);
    for stream in &busy {
        stream.write(&[7; 60_000]).expect("open");
    }
    // Turn by turn: as soon as the tuple can be had.
    let mut turns = 0;
    let again = loop {
        net.one_turn();
        turns += 1;
        assert!(turns < 1_000);
        if let Ok(again) = net.try_connect(0, Some(&binding), "127.0.0.1:80") {
            break again;
        }
    };
    net.settle();
    assert!(again.0.is_established(), "after {turns} turns: {:?}", again.0.take_error());
}
