//! What dies with a reactor, what keeps it alive, and how it ends in good order.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use usernet::device::pair;
use usernet::{Stack, UserListener, UserStream};

use super::common::{Mood, Moody, connected, connected_to, host, kind, two_hosts, within};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Fills the send buffer until nothing moves.
async fn fill(stream: &UserStream) {
    let chunk = vec![0; 1 << 20];
    loop {
        while stream.try_write(&chunk).is_ok() {}
        if tokio::time::timeout(Duration::from_millis(50), stream.writable()).await.is_err() {
            return;
        }
    }
}

/// How many calls wait in [`everything_that_waits`].
const WAITERS: u32 = 11;

/// One task for every call that can wait; all of them wait.
async fn everything_that_waits(one: &Stack, two: &Stack) -> JoinSet<(&'static str, io::Result<()>)> {
    let mut tasks = JoinSet::new();
    let (full, other) = connected(one, two).await;
    fill(&full).await;
    let (idle, idle_peer) = connected(one, two).await;
    idle.try_read(&mut [0]).unwrap_err();
    let listener: UserListener = one.bind("10.0.0.1:0").await.unwrap();
    let full = Arc::new(full);
    let idle = Arc::new(idle);
    let listener = Arc::new(listener);
    let waits = Arc::new(Semaphore::new(0));
    macro_rules! wait {
        ($name:literal, $shared:ident => $future:expr) => {{
            let $shared = Arc::clone(&$shared);
            tasks.spawn(noted(&waits, async move { ($name, $future.map(drop)) }));
        }};
    }
    wait!("readable", idle => idle.readable().await);
    wait!("ready", idle => idle.ready(Interest::READABLE).await);
    wait!("peek", idle => idle.peek(&mut [0]).await);
    wait!("poll_read_ready", idle => std::future::poll_fn(|cx| idle.poll_read_ready(cx)).await);
    wait!("async_io", idle => idle.async_io(Interest::READABLE, || idle.try_read(&mut [0])).await);
    wait!("writable", full => full.writable().await);
    wait!("drain", full => full.drain().await);
    wait!("accept", listener => listener.accept().await);
    wait!("poll_accept", listener => std::future::poll_fn(|cx| listener.poll_accept(cx)).await);
    let (mut reader, reader_peer) = connected(one, two).await;
    tasks.spawn(noted(&waits, async move { ("read", reader.read(&mut [0]).await.map(drop)) }));
    let (mut writer, writer_peer) = connected(one, two).await;
    fill(&writer).await;
    tasks.spawn(noted(&waits, async move { ("write", writer.write(&[0]).await.map(drop)) }));
    // Peers must outlive the reactor of host 1, or their FINs wake the waiters.
    tasks.spawn(async move {
        let peers = (other, idle_peer, reader_peer, writer_peer);
        std::future::pending::<()>().await;
        drop(peers);
        ("never", Ok(()))
    });
    drop(within(waits.acquire_many(WAITERS)).await.unwrap());
    tasks
}

/// `future`, which adds a permit when it waits for the first time.
fn noted<F: Future>(waits: &Arc<Semaphore>, future: F) -> impl Future<Output = F::Output> + use<F> {
    let mut waits = Some(Arc::clone(waits));
    let mut future = Box::pin(future);
    std::future::poll_fn(move |cx| {
        let polled = future.as_mut().poll(cx);
        if polled.is_pending()
            && let Some(waits) = waits.take()
        {
            waits.add_permits(1);
        }
        polled
    })
}

async fn all_fail(mut tasks: JoinSet<(&'static str, io::Result<()>)>) {
    for _ in 0..WAITERS {
        let (name, result) = within(tasks.join_next()).await.unwrap().unwrap();
        assert_eq!(kind(result), ErrorKind::NetworkDown, "{name}");
    }
    tasks.abort_all();
}

async fn later_calls_fail(stack: &Stack, mut stream: UserStream, listener: &UserListener) {
    within(stack.closed()).await;
    assert_eq!(kind(stream.read(&mut [0]).await), ErrorKind::NetworkDown);
    assert_eq!(kind(stream.write(&[0]).await), ErrorKind::NetworkDown);
    assert_eq!(kind(stream.try_read(&mut [0])), ErrorKind::NetworkDown);
    assert_eq!(kind(stream.try_write(&[0])), ErrorKind::NetworkDown);
    assert_eq!(kind(stream.readable().await), ErrorKind::NetworkDown);
    assert_eq!(kind(stream.writable().await), ErrorKind::NetworkDown);
    assert_eq!(kind(stream.peek(&mut [0]).await), ErrorKind::NetworkDown);
    assert_eq!(kind(stream.shutdown().await), ErrorKind::NetworkDown);
    assert_eq!(stream.take_error().unwrap().unwrap().kind(), ErrorKind::NetworkDown);
    assert_eq!(kind(listener.accept().await), ErrorKind::NetworkDown);
    assert_eq!(kind(stack.connect("10.0.0.2:1").await), ErrorKind::NetworkDown);
    assert_eq!(kind(stack.connect("10.0.0.1:1").await), ErrorKind::NetworkDown);
    assert_eq!(kind(stack.bind("10.0.0.1:0").await), ErrorKind::NetworkDown);
    assert_eq!(kind(stack.shutdown(Duration::ZERO).await), ErrorKind::NetworkDown);
}

#[test]
fn a_runtime_that_shuts_down_fails_everything() {
    let (reactors, users) = (runtime(), runtime());
    let (one, two) = {
        let _inside = reactors.enter();
        two_hosts()
    };
    let waiting = users.block_on(everything_that_waits(&one, &two));
    let (stream, _peer) = users.block_on(connected(&one, &two));
    let listener = users.block_on(one.bind("10.0.0.1:0")).unwrap();
    reactors.shutdown_background();
    users.block_on(all_fail(waiting));
    users.block_on(later_calls_fail(&one, stream, &listener));
}

/// The stack of host 1 sits on a device that gets into `mood`.
async fn dies_by(mood: Mood) {
    let (left, right) = pair(1500);
    let (left, switch, device) = Moody::new(left);
    let one = host(1).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let waiting = everything_that_waits(&one, &two).await;
    let (stream, _peer) = connected(&one, &two).await;
    let listener = one.bind("10.0.0.1:0").await.unwrap();
    switch.set(mood);
    all_fail(waiting).await;
    later_calls_fail(&one, stream, &listener).await;
    assert!(device.upgrade().is_none(), "the reactor is gone and with it the device");
}

#[tokio::test(start_paused = true)]
async fn a_device_error_fails_everything() {
    dies_by(Mood::Fails).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_at_its_end_fails_everything() {
    dies_by(Mood::Ends).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_turn_fails_everything() {
    dies_by(Mood::Panics).await;
}

#[tokio::test(start_paused = true)]
async fn a_pending_connect_fails_with_the_reactor() {
    let (left, _right) = pair(1500);
    let (left, switch, _) = Moody::new(left);
    let one = host(1).device(left).build().unwrap();
    let connect = tokio::spawn({
        let one = one.clone();
        async move { one.connect("10.0.0.2:80").await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    switch.set(Mood::Fails);
    assert_eq!(kind(within(connect).await.unwrap()), ErrorKind::NetworkDown);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_takes_nothing_delays_and_loses_nothing() {
    let (left, right) = pair(1500);
    let (left, switch, _) = Moody::new(left);
    let one = host(1).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let (mut client, mut server) = connected(&one, &two).await;
    switch.set(Mood::Blocked);
    client.write_all(&[1; 50_000]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(kind(server.try_read(&mut [0; 8])), ErrorKind::WouldBlock);
    switch.set(Mood::Works);
    client.write_all(&[2; 50_000]).await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    within(server.read_to_end(&mut got)).await.unwrap();
    assert!(got.len() == 100_000 && got[..50_000].iter().all(|byte| *byte == 1));
}

// ---- lifetime ----

#[tokio::test(start_paused = true)]
async fn the_reactor_lives_while_anything_of_it_does() {
    let (left, right) = pair(1500);
    let (left, _switch, alive) = Moody::new(left);
    let one = host(1).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let rest = || tokio::time::sleep(Duration::from_millis(5));
    let (client, server) = connected(&one, &two).await;
    drop(one);
    rest().await;
    assert!(alive.upgrade().is_some(), "a stream holds it");
    client.try_write(b"x").unwrap();
    drop(client);
    rest().await;
    assert!(alive.upgrade().is_some(), "an orphan in FIN-WAIT-2 holds it");
    drop(server);
    rest().await;
    assert!(alive.upgrade().is_none(), "TIME-WAIT does not");
}

#[tokio::test(start_paused = true)]
async fn a_socket_and_a_listener_hold_the_reactor_too() {
    let (left, _right) = pair(1500);
    let (left, _switch, alive) = Moody::new(left);
    let one = host(1).device(left).build().unwrap();
    let socket = one.socket().unwrap();
    drop(one);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(alive.upgrade().is_some());
    let listener = {
        socket.bind("10.0.0.1:0".parse().unwrap()).unwrap();
        socket.listen(1).unwrap()
    };
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(alive.upgrade().is_some());
    drop(listener);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(alive.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_until_everything_is_acknowledged() {
    let (one, two) = two_hosts();
    let (mut client, mut server) = connected(&one, &two).await;
    let reader = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.map(|_| got.len())
    });
    client.write_all(&vec![0; 1 << 20]).await.unwrap();
    client.write_all(&vec![0; 1 << 19]).await.unwrap();
    drop(client);
    one.shutdown(Duration::from_secs(60)).await.unwrap();
    one.closed().await;
    assert_eq!(within(reader).await.unwrap().unwrap(), (1 << 20) + (1 << 19));
}

#[tokio::test(start_paused = true)]
async fn shutdown_gives_up_after_its_grace() {
    let (left, right) = pair(1500);
    let (left, switch, _) = Moody::new(left);
    let one = host(1).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let (client, _server) = connected(&one, &two).await;
    switch.set(Mood::Swallows);
    client.try_write(b"lost").unwrap();
    drop(client);
    let began = tokio::time::Instant::now();
    assert_eq!(kind(one.shutdown(Duration::from_secs(3)).await), ErrorKind::TimedOut);
    assert!((3..4).contains(&began.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn two_may_ask_for_the_same_shutdown() {
    let (one, two) = two_hosts();
    let (client, _server) = connected(&one, &two).await;
    client.try_write(b"x").unwrap();
    let (first, second) = tokio::join!(one.shutdown(Duration::from_secs(9)), one.shutdown(Duration::MAX));
    first.unwrap();
    second.unwrap();
}

/// Half a message must not look like a whole one.
#[tokio::test(start_paused = true)]
async fn between_own_addresses_the_end_of_the_stack_is_not_the_end_of_the_text() {
    let stack = host(1).build().unwrap();
    let (mut client, mut server) = connected_to(&stack, &stack, "10.0.0.1:0").await;
    client.write_all(b"half a mess").await.unwrap();
    server.read_exact(&mut [0; 11]).await.unwrap();
    let reader = tokio::spawn(async move { server.read_to_end(&mut Vec::new()).await });
    tokio::task::yield_now().await;
    stack.shutdown(Duration::from_secs(1)).await.unwrap();
    assert_eq!(kind(within(reader).await.unwrap()), ErrorKind::NetworkDown);
    assert_eq!(kind(client.try_write(b"age")), ErrorKind::NetworkDown);
}

#[test]
fn a_runtime_that_ends_says_goodbye() {
    let (ours, theirs) = (runtime(), runtime());
    let (left, right) = pair(1500);
    let one = {
        let _inside = ours.enter();
        host(1).device(left).build().unwrap()
    };
    let two = {
        let _inside = theirs.enter();
        host(2).device(right).build().unwrap()
    };
    let (client, mut server) = theirs.block_on(connected(&one, &two));
    theirs.block_on(async {
        client.try_write(b"last words").unwrap();
        client.drain().await.unwrap();
    });
    ours.shutdown_background();
    // All was sent, so the last gasp was a FIN. The vanished link ends host 2 soon after; the bytes came first.
    let mut got = [0; 32];
    let n = theirs.block_on(within(server.read(&mut got))).unwrap_or_default();
    assert!(n == 0 || &got[..n] == b"last words");
}

// ---- runtimes ----

#[test]
fn without_a_time_driver_it_is_unsupported() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(async { host(1).build().map(drop).unwrap_err() });
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("enable_time"), "{error}");
    let error = runtime.block_on(UserListener::bind("127.0.0.1:0")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn without_a_runtime_it_is_unsupported() {
    let error = host(1).build().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("runtime"), "{error}");
    let socket = usernet::UserSocket::new().unwrap();
    assert_eq!(kind(socket.bind("127.0.0.1:0".parse().unwrap())), ErrorKind::Unsupported);
    assert_eq!(kind(socket.listen(1)), ErrorKind::Unsupported);
    assert_eq!(kind(Stack::current()), ErrorKind::Unsupported);
}
