//! The embedded stack under a virtual clock. Time moves only when every task waits for it, so whatever takes time here
//! waited for a timer.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
