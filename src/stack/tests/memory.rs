//! Many connections under one budget (reliability.md A29).

use super::*;

const MIB: u64 = 1 << 20;

/// Stacks with buffers of 256 KiB; their budgets.
fn poor(budgets: [u64; 2]) -> Net {
    let configs = [("10.0.0.1", budgets[0]), ("10.0.0.2", budgets[1])].map(|(address, memory_budget)| {
        let config = config(&[(address, 24)]);
        let socket = SocketOptions { send_buffer: 256 << 10, recv_buffer: 256 << 10, ..config.socket };
        StackConfig { memory_budget, socket, ..config }
    });
    Net::new(configs.into())
}

/// `count` connections from engine 0 to engine 1.
fn connections(net: &mut Net, count: usize) -> (Vec<Stream>, Vec<Stream>, Listening) {
    let listening = net.listen(1, "10.0.0.2:80", 64);
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let client = net.connect(0, "10.0.0.2:80");
        let (server, peer) = net.accept(&listening).expect("connected");
        assert_eq!(Some(peer), client.0.local_addr());
        clients.push(client);
        servers.push(server);
    }
    (clients, servers, listening)
}

fn used(net: &Net, of: usize) -> u64 {
    net.engines[of].shared.budget.used()
}

#[test]
fn a_thousand_connections_share_what_sixteen_windows_would_take() {
    let mut net = poor([MIB, MIB]);
    let (clients, servers, _listening) = connections(&mut net, 1_000);
    assert_eq!((used(&net, 0), used(&net, 1)), (0, 0), "idle connections take nothing");
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..300_u32 {
        // Ten at a time, each with a request that fits a page and an answer of several.
        let chosen: Vec<usize> = (0..10).map(|_| random.usize(0..clients.len())).collect();
        for &n in &chosen {
            let (request, answer) = ([n as u8; 64], vec![(round % 251) as u8; 5_000]);
            net.transfer(&clients[n], &servers[n], &request);
            net.transfer(&servers[n], &clients[n], &answer);
        }
        assert!(used(&net, 0) <= MIB && used(&net, 1) <= MIB);
        net.advance(Duration::from_millis(10));
    }
    let dropped = net.engines.iter().map(|engine| engine.stats.dropped(DropReason::NoMemory)).sum::<u64>();
    assert_eq!(dropped, 0, "pages came back before there were none left");
    net.advance(Duration::from_secs(6));
    assert_eq!((used(&net, 0), used(&net, 1)), (0, 0));
}

/// Peers fill the window of a server that does not read.
fn fill(net: &mut Net, clients: &[Stream]) {
    for client in clients {
        assert_eq!(client.write(&[9; 60_000]), Ok(60_000));
        net.advance(Duration::from_millis(20));
        assert!(used(net, 1) <= MIB * 3 / 4, "{}", used(net, 1));
    }
}

#[test]
fn peers_that_fill_many_windows_stay_within_the_budget_and_all_arrives_when_it_is_read() {
    let mut net = poor([1 << 30, MIB]);
    let (clients, servers, _listening) = connections(&mut net, 100);
    // Nobody reads: 60 windows of 60,000 bytes would be 3.6 MB.
    fill(&mut net, &clients[..20]);
    assert!(used(&net, 1) > MIB / 2, "{}", used(&net, 1));
    // Under pressure no new connection is begun for a peer.
    let (before, refused) = (net.engines[1].live(), net.connect(0, "10.0.0.2:80"));
    net.settle();
    assert_eq!((net.engines[1].live(), refused.0.is_established()), (before, false));
    assert!(net.engines[1].stats.dropped(DropReason::NoMemory) > 0);
    // Requests of others still fit, and the server can answer them.
    for n in 60..70 {
        net.transfer(&clients[n], &servers[n], b"request");
        net.transfer(&servers[n], &clients[n], b"answer");
    }
    fill(&mut net, &clients[20..60]);
    let mut left = 60 * 60_000;
    for _ in 0..2_000 {
        for server in &servers[..60] {
            if let Ok(part) = server.read(usize::MAX) {
                assert!(part.iter().all(|byte| *byte == 9));
                left -= part.len();
            }
        }
        if left == 0 {
            break;
        }
        net.advance(Duration::from_millis(500));
    }
    assert_eq!(left, 0, "starved for ever");
    net.advance(Duration::from_secs(10));
    assert!(refused.0.is_established(), "its SYN was repeated");
    assert_eq!((used(&net, 0), used(&net, 1)), (0, 0));
}
