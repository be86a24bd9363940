//! Connect, one byte there and back, the server closes, the client closes.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::Figures;
use super::meter::Times;
use super::net::Net;

const WARM_UP: u32 = 50;
/// Fewer than there are ephemeral ports; the server's TIME-WAIT keeps them for a minute.
const MOST: u64 = 20_000;

pub async fn serve(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let byte = stream.read_u8().await?;
            stream.write_u8(byte).await?;
            stream.shutdown().await?;
            // Until the client has closed too.
            stream.read_to_end(&mut Vec::new()).await
        });
    }
}

pub async fn measure<N: Net>(net: N, peer: SocketAddr, time: Duration) -> io::Result<Figures> {
    let mut times = Times::new()?;
    for round in 0..WARM_UP {
        visit(&net, peer, round.to_le_bytes()[0]).await?;
    }
    let began = Instant::now();
    let mut last = began;
    while last.duration_since(began) < time && times.count() < MOST {
        visit(&net, peer, times.count().to_le_bytes()[0]).await?;
        let now = Instant::now();
        times.record(now.duration_since(last));
        last = now;
    }
    Ok(times.figures())
}

async fn visit<N: Net>(net: &N, peer: SocketAddr, byte: u8) -> io::Result<()> {
    let mut stream = net.connect(peer).await?;
    stream.write_all(&[byte]).await?;
    let mut back = [0; 2];
    stream.read_exact(&mut back[..1]).await?;
    let end = stream.read(&mut back[1..]).await?;
    stream.shutdown().await?;
    if back[0] == byte && end == 0 { Ok(()) } else { Err(io::Error::other("something else came back")) }
}
