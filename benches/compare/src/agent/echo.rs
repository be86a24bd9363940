//! Many connections, each with one 1 KiB message under way at any time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::Figures;
use super::meter;
use super::net::Net;
use super::pattern::Pattern;

const MESSAGE: usize = 1024;
/// Handshakes under way at a time.
const OPENING: usize = 64;

pub async fn serve(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        // A socket must not outlive its measurement: its retransmitted FIN would reach the next subject.
        stream.set_zero_linger()?;
        tokio::spawn(async move {
            let mut message = [0; MESSAGE];
            while stream.read_exact(&mut message).await.is_ok() {
                stream.write_all(&message).await?;
            }
            io::Result::Ok(())
        });
    }
}

/// Opens connections, [`OPENING`] at a time.
pub async fn open<N: Net>(net: &N, peer: SocketAddr, count: u64) -> io::Result<Vec<N::Stream>> {
    futures::stream::iter(0..count).map(|_| net.connect(peer)).buffer_unordered(OPENING).try_collect().await
}

pub async fn measure<N: Net>(net: &N, peer: SocketAddr, count: u64, time: Duration) -> io::Result<Figures> {
    let pattern = Pattern::shared();
    let stop = Arc::new(AtomicBool::new(false));
    let streams = open(net, peer, count).await?;
    let cpu = meter::cpu();
    let began = meter::now();
    let mut talks = Vec::with_capacity(streams.len());
    for (number, stream) in (0_u64..).zip(streams) {
        talks.push(tokio::spawn(talk(stream, number, pattern, Arc::clone(&stop))));
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut messages = 0;
    let mut fewest = u64::MAX;
    for talk in talks {
        let came = talk.await.map_err(io::Error::other)??;
        messages += came;
        fewest = fewest.min(came);
    }
    let took = meter::now() - began;
    let cpu = meter::cpu() - cpu;
    let messages = messages as f64;
    Ok(vec![("rate", messages / took / 1e3), ("fewest", fewest as f64), ("cpu_us", cpu / messages * 1e6)])
}

/// Messages that came back, each compared whole.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    number: u64,
    pattern: &'static Pattern,
    stop: Arc<AtomicBool>,
) -> io::Result<u64> {
    let mut back = [0; MESSAGE];
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        let position = number * 7_919 + round * 1_031;
        stream.write_all(pattern.at(position, MESSAGE)).await?;
        stream.read_exact(&mut back).await?;
        pattern.check(position, &back)?;
        round += 1;
    }
    Ok(round)
}
