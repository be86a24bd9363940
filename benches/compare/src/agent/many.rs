//! What a message costs among very many connections, and how fast they are accepted: usernet on both ends of `pair()`, one
//! process, one thread. First and last, messages between another pair of stacks with [`FEW`] connections. Among the many,
//! messages go over [`FEW`] of them while the others idle, then over all of them at random: the first shows what
//! connections cost by being there, the second adds that nothing of the next one is in a cache. What that costs the program
//! itself, its tasks and buffers, before there is any stack, the same messages over in-memory pipes of tokio show.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use usernet::device::pair;
use usernet::{DropReason, Stack, UserListener, UserStream};

use super::Figures;
use super::meter;
use super::pattern::Pattern;

const FEW: u64 = 100;
const MESSAGE: usize = 64;
/// Messages under way at a time.
const AT_ONCE: usize = 64;
/// Handshakes under way at a time.
const OPENING: usize = 256;
/// Connections of one listener: all use the same two addresses, and there are 28,232 ephemeral ports.
const PER_PORT: u64 = 25_000;

/// Near ends; the far ends echo.
struct Crowd<S> {
    streams: Vec<S>,
    /// splitmix64
    state: u64,
}

/// Connections between two stacks.
struct Connected {
    crowd: Crowd<UserStream>,
    stacks: [Stack; 2],
    /// How many were accepted a second while they were opened.
    rate: f64,
}

pub async fn measure(count: u64, time: Duration) -> io::Result<Figures> {
    let pattern = Pattern::shared();
    let [mut of_few, mut of_many, mut of_few_among_many] = [(); 3].map(|()| Cost::default());
    let Connected { crowd: mut few, stacks: few_stacks, .. } = Connected::open(FEW).await?;
    few.each(pattern, FEW).await?;
    few.talk(pattern, FEW, time / 2, &mut of_few).await?;
    let resident = meter::resident_kib()?;
    let Connected { crowd: mut many, stacks, rate } = Connected::open(count).await?;
    let idle = (meter::resident_kib()? - resident) / count as f64;
    many.each(pattern, FEW).await?;
    many.talk(pattern, FEW, time / 2, &mut of_few_among_many).await?;
    // The first message of a connection touches its pages. Everyone has one; then at once the others, before a connection
    // has been idle for so long that it gives its pages back.
    many.each(pattern, count).await?;
    let touched = (meter::resident_kib()? - resident) / count as f64;
    many.talk(pattern, count, time, &mut of_many).await?;
    few.talk(pattern, FEW, time / 2, &mut of_few).await?;
    let dropped: u64 = stacks.iter().map(|stack| stack.stats().dropped(DropReason::NoMemory)).sum();
    drop((few, many));
    for stack in few_stacks.into_iter().chain(stacks) {
        // The second of two finds their link gone.
        let _ = stack.shutdown(Duration::from_secs(10)).await;
    }
    let [of_few_pipes, of_many_pipes] = [of_pipes(FEW, time / 2).await?, of_pipes(count, time / 2).await?];
    Ok(vec![
        ("accepts", rate / 1e3),
        ("ratio", of_many.each() / of_few.each()),
        ("ratio_idle", of_few_among_many.each() / of_few.each()),
        ("us_few", of_few.each()),
        ("us_many", of_many.each()),
        ("us_few_among_many", of_few_among_many.each()),
        ("us_few_pipes", of_few_pipes.each()),
        ("us_many_pipes", of_many_pipes.each()),
        ("count", count as f64),
        ("kib_idle", idle),
        ("kib_touched", touched),
        ("dropped", dropped as f64),
    ])
}

/// The same over in-memory pipes: no stack.
async fn of_pipes(count: u64, time: Duration) -> io::Result<Cost> {
    let streams = (0..count).map(|_| {
        let (near, far) = tokio::io::duplex(64 << 10);
        tokio::spawn(echo(far));
        near
    });
    let mut crowd: Crowd<DuplexStream> = Crowd::new(streams.collect());
    let mut cost = Cost::default();
    crowd.each(Pattern::shared(), count).await?;
    crowd.talk(Pattern::shared(), count, time, &mut cost).await?;
    Ok(cost)
}

/// What messages have cost.
#[derive(Default)]
struct Cost {
    cpu: f64,
    messages: u64,
}

impl Cost {
    /// Microseconds of CPU of a message there and back, both ends, both stacks.
    fn each(&self) -> f64 {
        self.cpu / self.messages as f64 * 1e6
    }
}

impl Connected {
    async fn open(count: u64) -> io::Result<Connected> {
        let (left, right) = pair(1500);
        let near = Stack::builder().address(Ipv4Addr::new(10, 77, 0, 1), 24).device(left).build()?;
        let far = Stack::builder().address(Ipv4Addr::new(10, 77, 0, 2), 24).device(right).build()?;
        let mut streams = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        let mut took = 0.0;
        for first in (0..count).step_by(usize::try_from(PER_PORT).unwrap_or(1)) {
            let count = PER_PORT.min(count - first);
            let listener = far.bind("10.77.0.2:0").await?;
            let to = listener.local_addr()?;
            let began = meter::now();
            let connects = futures::stream::iter(0..count).map(|_| connect(&near, to)).buffer_unordered(OPENING);
            let (opened, accepted) =
                tokio::join!(connects.try_collect::<Vec<_>>(), tokio::spawn(accept(listener, count)));
            took += meter::now() - began;
            streams.extend(opened?);
            accepted.map_err(io::Error::other)??;
        }
        Ok(Connected { crowd: Crowd::new(streams), stacks: [near, far], rate: count as f64 / took })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Crowd<S> {
    fn new(streams: Vec<S>) -> Crowd<S> {
        Crowd { streams, state: 7 }
    }

    fn random(&mut self, below: u64) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below).unwrap_or(0)
    }

    /// One message on each of the first `among` connections.
    async fn each(&mut self, pattern: &Pattern, among: u64) -> io::Result<()> {
        let among = usize::try_from(among).unwrap_or(usize::MAX).min(self.streams.len());
        for first in (0..among).step_by(AT_ONCE) {
            let chosen: Vec<usize> = (first..among.min(first + AT_ONCE)).collect();
            self.echo(pattern, &chosen).await?;
        }
        Ok(())
    }

    /// Messages on connections chosen at random from the first `among`, [`AT_ONCE`] at a time.
    async fn talk(&mut self, pattern: &Pattern, among: u64, time: Duration, cost: &mut Cost) -> io::Result<()> {
        let mut chosen = Vec::with_capacity(AT_ONCE);
        let (cpu, end) = (meter::cpu(), meter::now() + time.as_secs_f64());
        while meter::now() < end {
            chosen.clear();
            while chosen.len() < AT_ONCE {
                let one = self.random(among);
                if !chosen.contains(&one) {
                    chosen.push(one);
                }
            }
            self.echo(pattern, &chosen).await?;
            cost.messages += AT_ONCE as u64;
        }
        cost.cpu += meter::cpu() - cpu;
        Ok(())
    }

    /// A message there and back on each of the chosen connections, each compared whole.
    async fn echo(&mut self, pattern: &Pattern, chosen: &[usize]) -> io::Result<()> {
        let shift = self.state;
        let position = |one: usize| (one as u64).wrapping_mul(7_919).wrapping_add(shift >> 32);
        for &one in chosen {
            self.streams[one].write_all(pattern.at(position(one), MESSAGE)).await?;
        }
        let mut back = [0; MESSAGE];
        for &one in chosen {
            self.streams[one].read_exact(&mut back).await?;
            pattern.check(position(one), &back)?;
        }
        Ok(())
    }
}

async fn connect(stack: &Stack, to: SocketAddr) -> io::Result<UserStream> {
    let stream = stack.connect(to).await?;
    stream.set_nodelay(true)?;
    // On a busy connection the next message carries the acknowledgment of the last, on a quiet one a packet of its own
    // does, 40 ms later: other work. So it is a packet of its own everywhere.
    stream.set_quickack(true)?;
    Ok(stream)
}

/// Accepts `count` connections; each echoes in a task of its own.
async fn accept(listener: UserListener, count: u64) -> io::Result<()> {
    for _ in 0..count {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(echo(stream));
    }
    Ok(())
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut message = [0; MESSAGE];
    while stream.read_exact(&mut message).await.is_ok() {
        stream.write_all(&message).await?;
    }
    Ok(())
}
