//! Whole conversations.

use super::*;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// Sends `data` from a to b while both keep working; returns what b read.
fn transfer(net: &mut Net, data: &[u8], limit: Duration) -> Vec<u8> {
    let end = net.now + limit;
    let (mut written, mut got) = (0, Vec::new());
    while got.len() < data.len() && net.now < end {
        written += net.a.write(net.now, &data[written..]);
        net.run_for(Duration::from_millis(5));
        got.extend(net.b.read(net.now, usize::MAX));
    }
    got
}

#[test]
fn handshake_and_bytes_both_ways() {
    let mut net = Net::established(StackConfig::default());
    let data = pattern(300_000);
    assert!(transfer(&mut net, &data, Duration::from_secs(10)) == data);
    net.b.write(net.now, b"answer");
    net.run_for(Duration::from_millis(50));
    assert_eq!(net.a.read(net.now, 100), b"answer");
    assert_eq!(net.a.stats.retransmits + net.b.stats.retransmits, 0);
}

#[test]
fn clean_close_ends_in_time_wait_and_closed() {
    let mut net = Net::established(StackConfig::default());
    net.a.write(net.now, b"last words");
    net.a.shutdown(net.now);
    net.run_for(Duration::from_millis(50));
    assert_eq!((net.a.tcb.state(), net.b.tcb.state()), (State::FinWait2, State::CloseWait));
    assert_eq!(net.b.read(net.now, 100), b"last words");
    net.b.shutdown(net.now);
    net.run_for(Duration::from_millis(100));
    assert_eq!(net.a.tcb.state(), State::TimeWait);
    assert!(net.b.tcb.is_closed());
    net.run_for(Duration::from_secs(61));
    assert!(net.a.tcb.is_closed());
}

#[test]
fn every_single_loss_is_repaired() {
    let data = pattern(60_000);
    for victim in 1..80 {
        let mut net = Net::new(StackConfig::default());
        net.lose = Box::new(move |n, _, _| n == victim);
        net.a.connect(net.now, A, u32::MAX - 20_000);
        net.run_for(Duration::from_secs(5));
        let got = transfer(&mut net, &data, Duration::from_secs(30));
        assert!(got == data, "loss of packet {victim}: {} of {} bytes", got.len(), data.len());
        net.a.close(net.now);
        net.b.close(net.now);
        net.run_for(Duration::from_secs(130));
        assert!(net.a.tcb.is_closed() && net.b.tcb.is_closed(), "loss of packet {victim}");
    }
}

#[test]
fn a_third_of_all_packets_lost() {
    let data = pattern(40_000);
    for seed in 0..20u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut net = Net::established(StackConfig::default());
        net.lose = Box::new(move |_, _, _| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.is_multiple_of(3)
        });
        let got = transfer(&mut net, &data, Duration::from_secs(3_000));
        assert!(got == data, "seed {seed}: {} bytes", got.len());
    }
}

#[test]
fn a_reader_that_sleeps_closes_the_window_and_probes_keep_it_alive() {
    let mut net = Net::established(StackConfig::default());
    let data = pattern(3_000_000);
    let mut written = 0;
    for _ in 0..400 {
        written += net.a.write(net.now, &data[written..]);
        net.run_for(Duration::from_millis(20));
    }
    // Both buffers are full; hours pass, the peer answers the probes.
    net.run_for(Duration::from_secs(24 * 3600));
    assert_eq!((net.a.tcb.state(), net.b.tcb.state()), (State::Established, State::Established));
    let mut got = Vec::new();
    for _ in 0..2_000 {
        got.extend(net.b.read(net.now, 100_000));
        written += net.a.write(net.now, &data[written..]);
        net.run_for(Duration::from_millis(5));
    }
    assert!(got == data, "{} of {} bytes, {written} written", got.len(), data.len());
}

#[test]
fn drop_with_unread_data_resets() {
    let mut net = Net::established(StackConfig::default());
    net.a.write(net.now, b"never read");
    net.run_for(Duration::from_millis(50));
    net.b.close(net.now);
    net.run_for(Duration::from_millis(50));
    assert!(net.b.tcb.is_closed() && net.a.tcb.is_closed());
    let error = net.a.user.as_ref().unwrap().try_read_with(10, &mut |_| ());
    assert!(format!("{error:?}").contains("Reset"), "{error:?}");
}

#[test]
fn a_silent_peer_is_given_up() {
    let mut net = Net::established(StackConfig::default());
    net.lose = Box::new(|_, _, _| true);
    net.a.write(net.now, b"hello?");
    net.run_for(Duration::from_secs(2_000));
    assert!(net.a.tcb.is_closed());
    let error = net.a.user.as_ref().unwrap().try_read_with(10, &mut |_| ());
    assert!(format!("{error:?}").contains("TimedOut"), "{error:?}");
}

#[test]
fn simultaneous_open_and_close() {
    let mut net = Net::new(StackConfig::default());
    net.a.connect(net.now, A, 1);
    net.b.connect(net.now, B, u32::MAX);
    net.run_for(Duration::from_millis(200));
    assert_eq!((net.a.tcb.state(), net.b.tcb.state()), (State::Established, State::Established));
    let data = pattern(10_000);
    assert!(transfer(&mut net, &data, Duration::from_secs(5)) == data);
    net.a.shutdown(net.now);
    net.b.shutdown(net.now);
    net.run_for(Duration::from_millis(100));
    assert_eq!((net.a.tcb.state(), net.b.tcb.state()), (State::TimeWait, State::TimeWait));
}

#[test]
fn tiny_buffers_and_tiny_mtu() {
    let mut config = StackConfig::default();
    config.socket.send_buffer = 2048;
    config.socket.recv_buffer = 2048;
    let mut net = Net::new(config);
    net.a.path.mtu = 68;
    net.b.path.mtu = 68;
    net.a.connect(net.now, A, 0);
    net.run_for(Duration::from_millis(100));
    let data = pattern(30_000);
    let got = transfer(&mut net, &data, Duration::from_secs(600));
    assert!(got == data, "{} bytes", got.len());
}

#[test]
fn both_windows_closed_at_once_and_probed_from_both_sides() {
    // Small and odd buffers: probe bytes of both sides are refused, their ACKs must pass nevertheless.
    for buffer in [2_000, 5_001, 70_000] {
        let mut config = StackConfig::default();
        config.socket.send_buffer = 2 * buffer;
        config.socket.recv_buffer = buffer;
        let mut net = Net::established(config);
        let data = pattern(4 * buffer as usize);
        let mut written = (0, 0);
        let mut got = (Vec::new(), Vec::new());
        for step in 0..400 {
            written.0 += net.a.write(net.now, &data[written.0..]);
            written.1 += net.b.write(net.now, &data[written.1..]);
            net.run_for(Duration::from_millis(if step < 20 { 3_000 } else { 20 }));
            if step >= 20 {
                got.0.extend(net.a.read(net.now, 700));
                got.1.extend(net.b.read(net.now, 1_300));
            }
            if step == 20 {
                // As long as it takes for the probes to back off.
                net.run_for(Duration::from_secs(120));
            }
        }
        net.run_for(Duration::from_secs(120));
        for _ in 0..1_000 {
            written.0 += net.a.write(net.now, &data[written.0..]);
            written.1 += net.b.write(net.now, &data[written.1..]);
            net.run_for(Duration::from_millis(20));
            got.0.extend(net.a.read(net.now, usize::MAX));
            got.1.extend(net.b.read(net.now, usize::MAX));
        }
        assert_eq!(written, (data.len(), data.len()), "buffer {buffer}");
        assert!(got.0 == data && got.1 == data, "buffer {buffer}: {} and {}", got.0.len(), got.1.len());
        assert_eq!((net.a.tcb.unacked(), net.b.tcb.unacked()), (0, 0), "buffer {buffer}");
    }
}
