//! One byte there and back on one connection.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Figures;
use super::bulk::{Closes, close};
use super::meter::Times;

const WARM_UP: u32 = 200;
/// Ends the game. The others are below it.
const GOODBYE: u8 = 0xff;

pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<Figures> {
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).await?;
        stream.write_all(&byte).await?;
        if byte == [GOODBYE] {
            break;
        }
    }
    close(&mut stream, Closes::First).await?;
    Ok(Figures::new())
}

pub async fn measure<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, time: Duration) -> io::Result<Figures> {
    let mut times = Times::new()?;
    for round in 0..WARM_UP {
        trip(&mut stream, round.to_le_bytes()[0] & 0x7f).await?;
    }
    let began = Instant::now();
    let mut last = began;
    while last.duration_since(began) < time {
        trip(&mut stream, times.count().to_le_bytes()[0] & 0x7f).await?;
        let now = Instant::now();
        times.record(now.duration_since(last));
        last = now;
    }
    trip(&mut stream, GOODBYE).await?;
    close(&mut stream, Closes::Second).await?;
    Ok(times.figures())
}

async fn trip<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, byte: u8) -> io::Result<()> {
    let mut back = [0];
    stream.write_all(&[byte]).await?;
    stream.read_exact(&mut back).await?;
    if back == [byte] { Ok(()) } else { Err(io::Error::other("a wrong byte came back")) }
}
