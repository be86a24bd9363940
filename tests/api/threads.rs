//! Where the reactor runs: as a task, on a thread of its own, polling busily.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use usernet::device::pair;
use usernet::{Stack, UserListener, UserStream};

use super::common::{Moody, connected, host, kind, within};

/// Echoes a few messages from one to two and back.
async fn talk(one: &usernet::Stack, two: &usernet::Stack) {
    let (mut client, mut server) = connected(one, two).await;
    for n in 0..20u8 {
        let mut got = [0; 100];
        within(async {
            client.write_all(&[n; 100]).await.unwrap();
            server.read_exact(&mut got).await.unwrap();
            server.write_all(&got).await.unwrap();
            client.read_exact(&mut got).await.unwrap();
        })
        .await;
        assert_eq!(got, [n; 100]);
    }
}

#[tokio::test]
async fn a_dedicated_reactor_goes_on_while_the_users_thread_is_blocked() {
    let (left, right) = pair(1500);
    let one = host(1).device(left).dedicated_thread().build().unwrap();
    let two = host(2).device(right).dedicated_thread().build().unwrap();
    let listener = two.bind("10.0.0.2:80").await.unwrap();
    let mut connect = Box::pin(one.connect("10.0.0.2:80"));
    // Gives the order; the two threads may be done before this one looks for the answer.
    let first = futures::poll!(connect.as_mut());
    // No await from here on: this runtime's only thread does nothing for TCP. The deadline is a hang guard.
    let began = std::time::Instant::now();
    while two.stats().passive_opens == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "nobody shook hands");
        std::thread::yield_now();
    }
    match first {
        Poll::Ready(stream) => drop(stream.unwrap()),
        Poll::Pending => drop(within(connect).await.unwrap()),
    }
    within(listener.accept()).await.unwrap();
    talk(&one, &two).await;
    within(one.shutdown(Duration::from_secs(60))).await.unwrap();
    // The link is cut with it.
    within(two.closed()).await;
}

#[tokio::test]
async fn a_dedicated_reactor_ends_with_its_last_handle() {
    let (left, right) = pair(1500);
    let one = host(1).device(left).dedicated_thread().build().unwrap();
    let two = host(2).device(right).build().unwrap();
    talk(&one, &two).await;
    drop(one);
    // Its end of the link goes with it, and that ends the other stack.
    within(two.closed()).await;
}

/// Every stream of many: the reactor's thread fails one after the other.
#[tokio::test]
async fn all_is_down_when_shutdown_returns() {
    for _ in 0..20 {
        let (left, right) = pair(1500);
        let (left, _switch, device) = Moody::new(left);
        let one = host(1).device(left).dedicated_thread().build().unwrap();
        let two = host(2).device(right).build().unwrap();
        let mut streams = Vec::new();
        for _ in 0..50 {
            streams.push(connected(&one, &two).await);
        }
        // Acknowledged or not.
        let _ = within(one.shutdown(Duration::ZERO)).await;
        assert!(device.upgrade().is_none(), "the device can be opened again");
        for (ours, _) in streams.iter().rev() {
            assert_eq!(kind(ours.try_write(b"x")), ErrorKind::NetworkDown);
        }
    }
}

/// The future of `block_on` is polled after up to 61 tasks.
#[tokio::test]
async fn busy_polling_does_not_run_before_its_user() {
    let (left, right) = pair(1500);
    let one = host(1).device(left).busy_poll(Duration::from_secs(3600)).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let (mut client, mut server) = connected(&one, &two).await;
    tokio::spawn(async move {
        while let Ok(byte) = server.read_u8().await {
            server.write_u8(byte).await.unwrap();
        }
    });
    let before = one.stats().turns;
    for _ in 0..100 {
        client.write_all(b"x").await.unwrap();
        client.read_exact(&mut [0]).await.unwrap();
    }
    let turns = one.stats().turns - before;
    assert!(turns < 1_000, "{turns} turns for 100 round trips");
}

#[tokio::test]
async fn busy_polling_carries_bytes() {
    let (left, right) = pair(1500);
    let one = host(1).device(left).busy_poll(Duration::from_millis(1)).build().unwrap();
    let two = host(2).device(right).busy_poll(Duration::from_millis(1)).dedicated_thread().build().unwrap();
    talk(&one, &two).await;
}

#[tokio::test(start_paused = true)]
async fn neither_follows_a_paused_clock() {
    assert_eq!(kind(host(1).dedicated_thread().build()), ErrorKind::Unsupported);
    assert_eq!(kind(host(1).busy_poll(Duration::from_millis(1)).build()), ErrorKind::Unsupported);
}

#[test]
fn a_dedicated_reactor_needs_no_runtime_to_be_built() {
    let stack = host(1).dedicated_thread().build().unwrap();
    let socket = stack.socket().unwrap();
    assert_eq!(socket.send_buffer_size().unwrap(), 1 << 20);
}

#[test]
fn a_stack_with_a_thread_of_its_own_is_shared_by_runtimes() {
    let stack = Stack::builder().address(Ipv4Addr::LOCALHOST, 8).dedicated_thread().build().unwrap();
    let runtimes = [(); 2].map(|()| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    let [serving, asking] = &runtimes;
    let listener = serving.block_on(async {
        let _current = stack.set_default().unwrap();
        UserListener::bind("127.0.0.1:0").await.unwrap()
    });
    let addr = listener.local_addr().unwrap();
    let mut client = asking.block_on(async {
        let _current = stack.set_default().unwrap();
        within(UserStream::connect(addr)).await.unwrap()
    });
    serving.block_on(async {
        let (mut server, _) = within(listener.accept()).await.unwrap();
        server.write_all(b"x").await.unwrap();
    });
    assert_eq!(asking.block_on(within(client.read_u8())).unwrap(), b'x');
}
