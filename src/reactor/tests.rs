//! One turn at a time, against a device that writes down what it is asked.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::mpsc;

use super::clock::Clock;
use super::command::{CAPACITY, Command};
use super::outbox::Outbox;
use super::turn::{Pace, Reactor};
use crate::config::StackConfig;
use crate::device::{Capabilities, Device, Offload, Outgoing, Received};
use crate::stack::{Engine, Secrets};
use crate::time::Instant;

/// What a device was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A read that found a packet.
    Read,
    /// A read that found nothing.
    Empty,
    /// A packet it took, and the last byte of it.
    Sent(u8),
    /// A packet it refused.
    Refused,
    /// That the stack polls busily.
    Busy,
}

#[derive(Default)]
struct Script {
    arriving: VecDeque<Vec<u8>>,
    /// Packets it refuses before it takes one.
    refusals: usize,
    events: Vec<Event>,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Scripted {
    fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap().events)
    }
}

impl Device for Scripted {
    fn capabilities(&self) -> Capabilities {
        Capabilities { mtu: 1500, max_large_packet: None, checksum: false }
    }

    fn poll_recv(
        &mut self,
        _: &mut Context<'_>,
        now: Instant,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<Received>> {
        let mut script = self.0.lock().unwrap();
        let Some(packet) = script.arriving.pop_front() else {
            script.events.push(Event::Empty);
            return Poll::Pending;
        };
        script.events.push(Event::Read);
        bufs[0][..packet.len()].copy_from_slice(&packet);
        Poll::Ready(Ok(Received { len: packet.len(), offload: Offload::default(), at: now }))
    }

    fn poll_send(&mut self, _: &mut Context<'_>, _: Instant, packet: &Outgoing<'_>) -> Poll<io::Result<()>> {
        let mut script = self.0.lock().unwrap();
        if script.refusals > 0 {
            script.refusals -= 1;
            script.events.push(Event::Refused);
            return Poll::Pending;
        }
        let bytes: Vec<u8> = [packet.header, packet.payload[0], packet.payload[1]].concat();
        script.events.push(Event::Sent(*bytes.last().unwrap()));
        Poll::Ready(Ok(()))
    }

    fn name(&self) -> String {
        "scripted".to_owned()
    }

    fn on_busy_poll(&mut self) {
        self.0.lock().unwrap().events.push(Event::Busy);
    }
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

/// An ICMP echo request to 10.0.0.1 whose last byte is `tag`; the answer ends with it too.
fn echo_request(tag: u8) -> Vec<u8> {
    let mut packet =
        vec![0x45, 0, 0, 30, 0, 0, 0x40, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, 8, 0, 0, 0, 0, 1, 0, 1, 0, tag];
    let ip = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&ip);
    let icmp = checksum(&packet[20..]);
    packet[22..24].copy_from_slice(&icmp);
    packet
}

struct Bench {
    reactor: Pin<Box<Reactor>>,
    device: Scripted,
    commands: Option<mpsc::Sender<Command>>,
    ended: Arc<Mutex<u32>>,
}

impl Bench {
    fn new() -> Bench {
        Bench::polling(Duration::ZERO)
    }

    fn polling(busy_poll: Duration) -> Bench {
        let device = Scripted::default();
        let addresses = vec![(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 24)];
        let engine =
            Engine::new(StackConfig { addresses, ..StackConfig::default() }, Secrets { key: [1; 32] }).unwrap();
        let (commands, orders) = mpsc::channel(CAPACITY);
        let ended = Arc::new(Mutex::new(0));
        let on_end = {
            let ended = Arc::clone(&ended);
            Box::new(move || *ended.lock().unwrap() += 1)
        };
        let clock = Clock::new(Box::pin(tokio::time::sleep(Duration::ZERO)));
        let pace = Pace { clock, busy_poll, yields: false };
        let reactor = Reactor::new(engine, Some(Box::new(device.clone())), pace, orders, on_end);
        Bench { reactor: Box::pin(reactor), device, commands: Some(commands), ended }
    }

    fn arrive(&self, tags: std::ops::Range<u8>) {
        self.device.0.lock().unwrap().arriving.extend(tags.map(echo_request));
    }

    fn turn(&mut self) -> Poll<()> {
        let mut cx = Context::from_waker(Waker::noop());
        self.reactor.as_mut().poll(&mut cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_hears_of_busy_polling_once_and_first() {
    let mut bench = Bench::polling(Duration::from_millis(1));
    for _ in 0..2 {
        assert!(bench.turn().is_pending());
    }
    assert_eq!(bench.device.events(), [Event::Busy, Event::Empty, Event::Empty]);
}

#[tokio::test(start_paused = true)]
async fn a_lone_packet_is_answered_before_the_next_read() {
    let mut bench = Bench::new();
    bench.arrive(1..2);
    assert!(bench.turn().is_pending());
    assert_eq!(bench.device.events(), [Event::Read, Event::Sent(1), Event::Empty]);
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_read_before_the_rest_is_answered() {
    let mut bench = Bench::new();
    bench.arrive(1..4);
    assert!(bench.turn().is_pending());
    let wanted = [Event::Read, Event::Sent(1), Event::Read, Event::Read, Event::Empty, Event::Sent(2), Event::Sent(3)];
    assert_eq!(bench.device.events(), wanted);
}

#[tokio::test(start_paused = true)]
async fn a_turn_reads_64_packets_at_most() {
    let mut bench = Bench::new();
    bench.arrive(0..100);
    assert!(bench.turn().is_pending());
    let reads = bench.device.events().iter().filter(|event| **event == Event::Read).count();
    assert_eq!(reads, 64);
    assert!(bench.turn().is_pending());
    let reads = bench.device.events().iter().filter(|event| **event == Event::Read).count();
    assert_eq!(reads, 36);
}

#[tokio::test(start_paused = true)]
async fn a_turn_reads_about_512_kib() {
    let mut bench = Bench::new();
    // Not IP: dropped, but read.
    bench.device.0.lock().unwrap().arriving.extend((0..20).map(|_| vec![0; 60_000]));
    for reads in [9, 9, 2] {
        assert!(bench.turn().is_pending());
        assert_eq!(bench.device.events().iter().filter(|event| **event == Event::Read).count(), reads);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_packet_is_held_and_goes_first() {
    let mut bench = Bench::new();
    bench.device.0.lock().unwrap().refusals = 2;
    bench.arrive(1..4);
    assert!(bench.turn().is_pending());
    // Refused when it was alone, and when the turn came to its end; nothing overtakes it.
    let refused = [Event::Read, Event::Refused, Event::Read, Event::Read, Event::Empty, Event::Refused];
    assert_eq!(bench.device.events(), refused);
    assert!(bench.turn().is_pending());
    assert_eq!(bench.device.events(), [Event::Empty, Event::Sent(1), Event::Sent(2), Event::Sent(3)]);
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_nobody_holds_it_and_says_so_once() {
    let mut bench = Bench::new();
    assert!(bench.turn().is_pending());
    drop(bench.commands.take());
    assert!(bench.turn().is_ready());
    assert_eq!(*bench.ended.lock().unwrap(), 0);
    drop(bench.reactor);
    assert_eq!(*bench.ended.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reactor_dropped_without_a_turn_says_so_too() {
    let bench = Bench::new();
    drop(bench.reactor);
    assert_eq!(*bench.ended.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_clock_follows_tokio_and_never_goes_back() {
    let mut clock = Clock::new(Box::pin(tokio::time::sleep(Duration::ZERO)));
    let mut cx = Context::from_waker(Waker::noop());
    let first = clock.read();
    assert!(!clock.wake_at(&mut cx, Some(first + Duration::from_micros(1_500))));
    assert!(!clock.wake_at(&mut cx, None));
    tokio::time::advance(Duration::from_millis(3)).await;
    let second = clock.read();
    assert_eq!(second.since(first).as_millis(), 3);
    assert!(clock.wake_at(&mut cx, Some(first)), "a deadline that has passed is due at once");
    assert!(!clock.wake_at(&mut cx, Some(Instant::FAR_FUTURE)));
}

#[test]
fn the_outbox_keeps_a_packet_whole() {
    let device = Scripted::default();
    device.0.lock().unwrap().refusals = 1;
    let mut link = device.clone();
    let mut cx = Context::from_waker(Waker::noop());
    let mut outbox = Outbox::default();
    assert!(outbox.poll_flush(&mut cx, Instant::ZERO, &mut link).is_ready());
    outbox.hold(&Outgoing { header: b"head", payload: [b"ab", b"cd"], offload: Offload::default() });
    assert!(outbox.is_full());
    assert!(outbox.poll_flush(&mut cx, Instant::ZERO, &mut link).is_pending());
    assert!(outbox.poll_flush(&mut cx, Instant::ZERO, &mut link).is_ready());
    assert!(!outbox.is_full());
    assert_eq!(device.events(), [Event::Refused, Event::Sent(b'd')]);
}
