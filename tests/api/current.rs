//! Which stack is current.

use std::io::ErrorKind;
use std::time::Duration;

use usernet::{Stack, UserListener, UserSocket, UserStream};

use super::common::{host, kind, two_hosts};

#[tokio::test]
async fn the_embedded_stack_serves_loopback_and_nothing_else() {
    let listener = UserListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    UserStream::connect(addr).await.unwrap();
    // The whole of 127.0.0.0/8, as on Linux.
    let other = UserListener::bind("127.1.2.3:0").await.unwrap();
    UserStream::connect(other.local_addr().unwrap()).await.unwrap();
    let error = UserStream::connect("192.0.2.1:80").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    assert!(error.to_string().contains("embedded") && error.to_string().contains("set_default"), "{error}");
    assert_eq!(kind(UserListener::bind("192.0.2.1:0").await), ErrorKind::AddrNotAvailable);
}

#[test]
fn each_runtime_has_its_own_embedded_stack() {
    let open = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (a, b) = (open(), open());
    let one = a.block_on(UserListener::bind("127.0.0.1:4000")).unwrap();
    let two = b.block_on(UserListener::bind("127.0.0.1:4000")).unwrap();
    assert_eq!(kind(b.block_on(UserListener::bind("127.0.0.1:4000"))), ErrorKind::AddrInUse);
    drop((one, two));
}

#[tokio::test]
async fn the_embedded_stack_starts_anew_after_it_ended() {
    let stack = Stack::current().unwrap();
    stack.shutdown(Duration::ZERO).await.unwrap();
    let listener = UserListener::bind("127.0.0.1:0").await.unwrap();
    UserStream::connect(listener.local_addr().unwrap()).await.unwrap();
    // Also after it ended because nobody held it.
    drop((listener, stack));
    tokio::task::yield_now().await;
    UserListener::bind("127.0.0.1:0").await.unwrap();
}

#[tokio::test]
async fn a_scope_covers_its_future_and_not_what_it_spawns() {
    let (one, two) = two_hosts();
    let listener = two.scope(UserListener::bind("10.0.0.2:80")).await.unwrap();
    let stream = one.scope(UserStream::connect("10.0.0.2:80")).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    let inner = one.scope(async { two.scope(UserListener::bind("10.0.0.2:0")).await }).await;
    assert!(inner.is_ok(), "the inner scope wins");
    let spawned = one.scope(async { tokio::spawn(UserListener::bind("10.0.0.1:0")).await.unwrap() }).await;
    assert_eq!(kind(spawned), ErrorKind::AddrNotAvailable);
}

#[tokio::test]
async fn a_default_covers_the_runtime_until_its_guard_drops() {
    let (one, two) = two_hosts();
    let guard = one.set_default().unwrap();
    assert_eq!(kind(two.set_default()), ErrorKind::AlreadyExists);
    assert_eq!(kind(one.set_default()), ErrorKind::AlreadyExists);
    let bound = tokio::spawn(UserListener::bind("10.0.0.1:0")).await.unwrap();
    assert!(bound.is_ok(), "spawned tasks too");
    let scoped = two.scope(UserListener::bind("10.0.0.2:0")).await;
    assert!(scoped.is_ok(), "a scope wins over the default");
    drop(guard);
    assert_eq!(kind(UserListener::bind("10.0.0.1:0").await), ErrorKind::AddrNotAvailable);
    let _guard = two.set_default().unwrap();
    UserListener::bind("10.0.0.2:0").await.unwrap();
}

#[tokio::test]
async fn a_default_that_died_is_not_replaced_behind_the_back() {
    let stack = host(1).build().unwrap();
    let guard = stack.set_default().unwrap();
    stack.shutdown(Duration::ZERO).await.unwrap();
    assert_eq!(kind(UserListener::bind("10.0.0.1:0").await), ErrorKind::NetworkDown);
    drop(guard);
    UserListener::bind("127.0.0.1:0").await.unwrap();
}

#[tokio::test]
async fn explicit_forms_name_their_stack() {
    let (one, two) = two_hosts();
    let listener = two.bind("[fd00::2]:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    one.connect(addr).await.unwrap();
    one.new_v6().unwrap().connect(addr).await.unwrap();
    one.socket().unwrap().connect(addr).await.unwrap();
    assert_eq!(kind(one.new_v4().unwrap().connect(addr).await), ErrorKind::InvalidInput);
}

#[test]
fn a_socket_is_made_outside_of_a_runtime_and_joins_one_later() {
    let socket = UserSocket::new().unwrap();
    socket.set_nodelay(true).unwrap();
    let before = socket.info();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (one, two) = two_hosts();
        let _listener = two.bind("10.0.0.2:80").await.unwrap();
        let stream = one.scope(socket.connect("10.0.0.2:80".parse().unwrap())).await.unwrap();
        assert!(stream.nodelay().unwrap());
        assert_eq!(stream.info().send_buffer.address, before.send_buffer.address);
    });
}

#[tokio::test]
async fn bad_settings_are_refused_before_anything_is_created() {
    let refused = |builder: usernet::StackBuilder| kind(builder.build()) == ErrorKind::InvalidInput;
    assert!(refused(Stack::builder()), "no address");
    let four = || Stack::builder().address([10, 0, 0, 1], 24);
    assert!(refused(four().address([10, 0, 0, 1], 16)), "twice");
    assert!(refused(four().mtu(67)));
    assert!(four().mtu(68).build().is_ok());
    assert!(refused(four().mtu(65_536)));
    assert!(refused(host(1).mtu(1_279)), "IPv6");
    assert!(host(1).mtu(1_280).build().is_ok());
    assert!(refused(Stack::builder().address([10, 0, 0, 1], 33)));
    assert!(refused(Stack::builder().address([224, 0, 0, 1], 24)));
    assert!(refused(Stack::builder().address([0, 0, 0, 0], 24)));
    assert!(refused(four().mtu(9_000).device(usernet::device::pair(1_500).0)), "more than the device carries");
    assert!(refused(four().configure(|config| config.ephemeral_ports = (5, 4))));
}
