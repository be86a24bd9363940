//! Stacks and devices of these tests.

use std::future::Future;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use usernet::device::{Capabilities, Device, Outgoing, Received, pair};
use usernet::time::Instant;
use usernet::{Stack, StackBuilder, UserStream};

/// A hang guard, never an expectation.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(600), future).await.expect("the test hangs")
}

pub fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.expect_err("an error is expected").kind()
}

/// A builder with the addresses 10.0.0.`n` and fd00::`n`.
pub fn host(n: u8) -> StackBuilder {
    Stack::builder()
        .address(Ipv4Addr::new(10, 0, 0, n), 24)
        .address(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)), 64)
        .seed(u64::from(n))
}

/// Two hosts, 1 and 2, on one link.
pub fn two_hosts() -> (Stack, Stack) {
    let (left, right) = pair(1500);
    (host(1).device(left).build().unwrap(), host(2).device(right).build().unwrap())
}

/// A connection from host 1 to a listener on host 2.
pub async fn connected(one: &Stack, two: &Stack) -> (UserStream, UserStream) {
    connected_to(one, two, "10.0.0.2:0").await
}

/// A connection from `one` to a listener of `two`.
pub async fn connected_to(one: &Stack, two: &Stack, addr: &str) -> (UserStream, UserStream) {
    let listener = two.bind(addr).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (client, server) = within(async { tokio::join!(one.connect(addr), listener.accept()) }).await;
    (client.unwrap(), server.unwrap().0)
}

/// What a [`Moody`] device does from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Works,
    /// Every read fails.
    Fails,
    /// Every read finds the end.
    Ends,
    /// Every read panics.
    Panics,
    /// Packets vanish.
    Swallows,
    /// Takes no packet.
    Blocked,
}

/// Says in which mood a device is.
#[derive(Clone)]
pub struct MoodSwitch(Arc<(AtomicU8, Mutex<Option<Waker>>)>);

impl MoodSwitch {
    pub fn set(&self, mood: Mood) {
        self.0.0.store(mood as u8, Ordering::SeqCst);
        if let Some(waker) = self.0.1.lock().unwrap().take() {
            waker.wake();
        }
    }

    fn get(&self) -> Mood {
        let moods = [Mood::Works, Mood::Fails, Mood::Ends, Mood::Panics, Mood::Swallows, Mood::Blocked];
        moods[usize::from(self.0.0.load(Ordering::SeqCst))]
    }
}

/// A device whose mood can change. Its `Arc` dies with the reactor.
pub struct Moody<D> {
    inner: D,
    mood: MoodSwitch,
    _alive: Arc<()>,
}

impl<D> Moody<D> {
    pub fn new(inner: D) -> (Moody<D>, MoodSwitch, std::sync::Weak<()>) {
        let mood = MoodSwitch(Arc::new((AtomicU8::new(0), Mutex::new(None))));
        let alive = Arc::new(());
        let watch = Arc::downgrade(&alive);
        (Moody { inner, mood: mood.clone(), _alive: alive }, mood, watch)
    }
}

impl<D: Device> Device for Moody<D> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<Received>> {
        *self.mood.0.1.lock().unwrap() = Some(cx.waker().clone());
        match self.mood.get() {
            Mood::Fails => Poll::Ready(Err(io::Error::other("unplugged"))),
            Mood::Ends => Poll::Ready(Ok(Received { len: 0, offload: usernet::device::Offload::default(), at: now })),
            Mood::Panics => panic!("a device panics, as the test wants"),
            _ => self.inner.poll_recv(cx, now, bufs),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, now: Instant, packet: &Outgoing<'_>) -> Poll<io::Result<()>> {
        match self.mood.get() {
            Mood::Swallows => Poll::Ready(Ok(())),
            Mood::Blocked => Poll::Pending,
            _ => self.inner.poll_send(cx, now, packet),
        }
    }

    fn name(&self) -> String {
        "moody".to_owned()
    }
}
