//! The embedded stack under a virtual clock. Time moves only when every task waits for it, so whatever takes time here
//! waited for a timer.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use usernet::Stack;
use usernet::net::{TcpListener, TcpStream};

async fn connected() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
    Ok((ours?, theirs?.0))
}

/// A segment of the loopback is as large as the first promise: the window filled, the reader was not told to say so, and
/// each segment waited for the delayed ACK.
#[tokio::test(start_paused = true)]
async fn bulk_waits_for_no_timer() -> std::io::Result<()> {
    let (mut ours, mut theirs) = connected().await?;
    let began = tokio::time::Instant::now();
    let sent = vec![7; 8 << 20];
    let sender = tokio::spawn(async move {
        ours.write_all(&sent).await?;
        ours.shutdown().await
    });
    let mut came = Vec::new();
    theirs.read_to_end(&mut came).await?;
    sender.await??;
    assert_eq!(came.len(), 8 << 20);
    assert!(began.elapsed() < Duration::from_millis(5), "{:?} of virtual time", began.elapsed());
    Ok(())
}

/// The server answers and closes before the client's task is polled again (tokio-smoltcp: connect never returned).
#[tokio::test(start_paused = true)]
async fn connect_succeeds_though_the_peer_has_closed_already() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut connect = pin!(TcpStream::connect(listener.local_addr()?));
    assert!(futures::poll!(&mut connect).is_pending());
    let (mut server, _) = listener.accept().await?;
    server.write_all(b"bye").await?;
    drop(server);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut came = Vec::new();
    connect.await?.read_to_end(&mut came).await?;
    assert_eq!(came, b"bye");
    Ok(())
}

/// What was not read when TIME-WAIT ended is still there (smoltcp: wiped).
#[tokio::test(start_paused = true)]
async fn unread_data_outlives_time_wait() -> std::io::Result<()> {
    let (mut ours, mut theirs) = connected().await?;
    ours.shutdown().await?;
    theirs.write_all(b"kept").await?;
    drop(theirs);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(ours.info().recv_buffer.fill, 4);
    let mut came = Vec::new();
    ours.read_to_end(&mut came).await?;
    assert_eq!(came, b"kept");
    Ok(())
}

/// The seed decides ports and sequence numbers, and nothing else does.
#[tokio::test(start_paused = true)]
async fn a_seed_repeats_itself() -> std::io::Result<()> {
    async fn first_segment(seed: u64) -> std::io::Result<(Option<SocketAddr>, Option<u32>)> {
        let stack = Stack::builder().address(Ipv4Addr::new(10, 0, 0, 1), 24).seed(seed).build()?;
        let listener = stack.bind("10.0.0.1:80").await?;
        let info = stack.connect(listener.local_addr()?).await?.info();
        Ok((info.local_addr, info.iss))
    }
    assert_eq!(first_segment(1).await?, first_segment(1).await?);
    let (one, two) = (first_segment(1).await?, first_segment(2).await?);
    assert!(one.0 != two.0 && one.1 != two.1, "{one:?} {two:?}");
    Ok(())
}
