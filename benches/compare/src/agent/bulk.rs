//! One connection, one direction. The timed bytes are sampled as they come; then follow bytes that are compared one by
//! one; then each end sees the other's end of stream. The peer closes first: tokio-smoltcp's `shutdown` of an active close
//! would wait for the whole TIME-WAIT.

use std::io;
use std::net::Ipv4Addr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use usernet::Stack;

use super::Figures;
use super::meter;
use super::pattern::{CHUNK, Pattern};
use crate::args::{Job, Role};

/// What the receiver answers to the timed bytes, and at the end.
const GOT_IT: u8 = b'+';
const ALL_WELL: u8 = b'.';

#[derive(Clone, Copy)]
pub struct Transfer {
    timed: u64,
    tail: u64,
    closes: Closes,
}

/// What this end does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Does {
    Send,
    Receive,
}

impl Transfer {
    /// One flow's share.
    pub fn of(job: &Job) -> Transfer {
        let closes = if job.role == Role::Peer { Closes::First } else { Closes::Second };
        Transfer { timed: job.bytes / job.flows, tail: job.tail / job.flows, closes }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Closes {
    First,
    Second,
}

/// Closes from both ends; nothing but the end may come.
pub async fn close<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, closes: Closes) -> io::Result<()> {
    if closes == Closes::First {
        stream.shutdown().await?;
    }
    if stream.read(&mut [0]).await? != 0 {
        return Err(io::Error::other("bytes after the last one"));
    }
    if closes == Closes::Second {
        stream.shutdown().await?;
    }
    Ok(())
}

/// The same on each of these connections at once.
pub async fn flows<S>(streams: Vec<S>, transfer: Transfer, does: Does) -> io::Result<Figures>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let one = move |mut stream: S| async move {
        match does {
            Does::Send => send(&mut stream, transfer).await,
            Does::Receive => receive(&mut stream, transfer).await,
        }
    };
    let tasks: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(one(stream))).collect();
    let mut all = Figures::new();
    for task in tasks {
        for (name, value) in task.await.map_err(io::Error::other)?? {
            match all.iter_mut().find(|(known, _)| *known == name) {
                None => all.push((name, value)),
                // From the first beginning to the last end; the CPU is the whole process' in that time.
                Some((_, known)) if name == "began" => *known = known.min(value),
                Some((_, known)) => *known = known.max(value),
            }
        }
    }
    Ok(all)
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, transfer: Transfer) -> io::Result<Figures> {
    let pattern = Pattern::shared();
    let cpu = meter::cpu();
    let began = meter::now();
    write(stream, pattern, 0..transfer.timed).await?;
    answer(stream, GOT_IT).await?;
    let cpu = meter::cpu() - cpu;
    write(stream, pattern, transfer.timed..transfer.timed + transfer.tail).await?;
    answer(stream, ALL_WELL).await?;
    close(stream, transfer.closes).await?;
    Ok(vec![("began", began), ("cpu", cpu)])
}

async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    pattern: &Pattern,
    range: std::ops::Range<u64>,
) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let len = usize::try_from(range.end - at).unwrap_or(CHUNK).min(CHUNK);
        let count = stream.write(pattern.at(at, len)).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        at += count as u64;
    }
    Ok(())
}

async fn answer<S: AsyncRead + Unpin>(stream: &mut S, expected: u8) -> io::Result<()> {
    match stream.read_u8().await? {
        byte if byte == expected => Ok(()),
        _ => Err(io::Error::other("a wrong answer of the receiver")),
    }
}

async fn receive<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, transfer: Transfer) -> io::Result<Figures> {
    let pattern = Pattern::shared();
    let mut buffer = vec![0; CHUNK];
    let cpu = meter::cpu();
    let mut at = 0;
    while at < transfer.timed {
        let count = read(stream, &mut buffer, transfer.timed - at).await?;
        pattern.check_samples(at, &buffer[..count])?;
        at += count as u64;
    }
    let ended = meter::now();
    let cpu = meter::cpu() - cpu;
    stream.write_all(&[GOT_IT]).await?;
    let end = transfer.timed + transfer.tail;
    while at < end {
        let count = read(stream, &mut buffer, end - at).await?;
        pattern.check(at, &buffer[..count])?;
        at += count as u64;
    }
    stream.write_all(&[ALL_WELL]).await?;
    close(stream, transfer.closes).await?;
    Ok(vec![("ended", ended), ("cpu", cpu)])
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut [u8], left: u64) -> io::Result<usize> {
    let len = usize::try_from(left).unwrap_or(CHUNK).min(buffer.len());
    match stream.read(&mut buffer[..len]).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{left} bytes too few"))),
        count => Ok(count),
    }
}

/// Both ends usernet, in this process.
pub async fn pair(transfer: Transfer) -> io::Result<Figures> {
    let (left, right) = usernet::device::pair(1500);
    let a = Stack::builder().address(Ipv4Addr::new(10, 77, 0, 1), 24).device(left).build()?;
    let b = Stack::builder().address(Ipv4Addr::new(10, 77, 0, 2), 24).device(right).build()?;
    let listener = b.bind("10.77.0.2:0").await?;
    let to = listener.local_addr()?;
    let (sender, accepted) = tokio::join!(a.connect(to), listener.accept());
    let (mut sender, mut receiver) = (sender?, accepted?.0);
    let first = Transfer { closes: Closes::First, ..transfer };
    let (sent, received) = tokio::join!(send(&mut sender, first), receive(&mut receiver, transfer));
    // The CPU of both ends is the CPU of this process, which the sender measured.
    let mut figures = sent?;
    figures.extend(received?.into_iter().filter(|(name, _)| *name == "ended"));
    Ok(figures)
}
