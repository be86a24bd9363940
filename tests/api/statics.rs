//! What the compiler promises: auto traits, trait impls, sizes of futures.

use std::io::{Read, Write};
use std::panic::{RefUnwindSafe, UnwindSafe};

use static_assertions::{assert_impl_all, assert_not_impl_any};
use tokio::io::{AsyncRead, AsyncWrite};
use usernet::net::tcp::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
use usernet::net::{TcpListener, TcpSocket, TcpStream};
use usernet::{
    ConnError, DefaultGuard, Incoming, SocketInfo, Stack, StackBuilder, UserListener, UserSocket, UserStream,
};

assert_impl_all!(UserStream: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe, AsyncRead, AsyncWrite, AsRef<UserStream>);
assert_impl_all!(UserListener: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(UserSocket: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(ReadHalf<'static>: Send, Sync, Unpin, UnwindSafe, AsyncRead, AsRef<UserStream>);
assert_impl_all!(WriteHalf<'static>: Send, Sync, Unpin, UnwindSafe, AsyncWrite, AsRef<UserStream>);
assert_impl_all!(OwnedReadHalf: Send, Sync, Unpin, UnwindSafe, AsyncRead, AsRef<UserStream>);
assert_impl_all!(OwnedWriteHalf: Send, Sync, Unpin, UnwindSafe, AsyncWrite, AsRef<UserStream>);
assert_impl_all!(ReuniteError: Send, Sync, std::error::Error);
assert_impl_all!(Incoming: Send, Sync, Unpin, futures::Stream);
assert_impl_all!(Stack: Clone, Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(StackBuilder: Send);
assert_impl_all!(DefaultGuard: Send, Sync);
assert_impl_all!(SocketInfo: Copy, Send, Sync);
assert_impl_all!(ConnError: Copy, Send, Sync, std::error::Error);

// A socket's buffers cannot carry data before it is connected: the type says so.
assert_not_impl_any!(UserSocket: AsyncRead, AsyncWrite, Read, Write);
assert_not_impl_any!(&'static UserSocket: AsyncRead, AsyncWrite, Read, Write);

#[test]
fn mirrored_types_are_ours() {
    fn same<T>(_: fn() -> Option<T>, _: fn() -> Option<T>) {}
    same::<UserStream>(|| None, || None::<TcpStream>);
    same::<UserListener>(|| None, || None::<TcpListener>);
    same::<UserSocket>(|| None, || None::<TcpSocket>);
}

#[tokio::test]
async fn futures_are_small_and_send() {
    fn size<F: Future + Send>(future: &F) -> usize {
        size_of_val(future)
    }
    let listener = UserListener::bind("127.0.0.1:0").await.unwrap();
    let stream = UserStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let connect = size(&UserStream::connect("127.0.0.1:80"));
    let readable = size(&stream.readable());
    println!("connect {connect} bytes, readable {readable} bytes, accept {} bytes", size(&listener.accept()));
    assert!(connect + readable < 600, "connect {connect} + readable {readable} bytes");
}
