//! [`Reactor`]: one turn of the task, step by step, with the budget of each step.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use super::command::Command;
use super::outbox::Outbox;
use crate::device::{Device, Outgoing};
use crate::stack::{Engine, Path};
use crate::stats::DropReason;
use crate::time::Instant;

/// Commands taken in one turn.
const COMMANDS_PER_TURN: usize = 64;
/// Device reads in one turn (reliability.md A30).
const READS_PER_TURN: usize = 64;
/// After so many bytes a turn reads no more: what its users read next is still in a core's cache.
const READ_BYTES_PER_TURN: usize = 512 << 10;
/// Packets to our own addresses processed in one turn.
const LOCAL_PER_TURN: usize = 64;
/// Device writes in one turn.
const WRITES_PER_TURN: usize = 256;
/// Device writes of the last pass of a reactor that is being dropped, about.
const LAST_WRITES: usize = 4_096;
/// No IP packet is longer.
const LARGEST_PACKET: usize = 65_536;

/// Whether the reactor goes on.
enum Flow {
    /// Everything is done until the next wake-up.
    Rest,
    /// A budget ran out, or a packet may come any moment: another turn at once, after other tasks had theirs.
    Again,
    /// An ACK waits for its owner's answer: another turn once everybody who can run has run.
    AfterUsers,
    /// The end: no handle is left, `shutdown` is over, or the device is gone.
    End,
}

/// A shutdown in progress.
struct Closing {
    deadline: Instant,
    /// Everyone who asked for it.
    done: Vec<oneshot::Sender<bool>>,
}

/// When the reactor has its turns.
pub(super) struct Pace {
    pub clock: Clock,
    /// How long it looks for work by itself before it waits to be woken; zero: not at all.
    pub busy_poll: Duration,
    /// Whether it shares its thread with a future of `block_on`, which a current-thread runtime polls after up to 61 tasks: a
    /// reactor that wakes itself would run as often before its user does.
    pub yields: bool,
}

/// The task. Lives while a handle or an orphan exists.
pub(super) struct Reactor {
    engine: Engine,
    link: Link,
    clock: Clock,
    handles_gone: bool,
    closing: Option<Closing>,
    /// A turn began and did not end: it panicked, the engine's state is unknown.
    in_turn: bool,
    busy: Busy,
    /// Whether another turn at once would come before that of the main future.
    yields: bool,
    /// The last field: whoever hears of the end finds every connection failed and the device given back.
    orders: Orders,
}

/// Where orders come from; dropped, it tells whoever waits for the reactor's end.
struct Orders {
    commands: mpsc::Receiver<Command>,
    on_end: Option<Box<dyn FnOnce() + Send>>,
}

impl Drop for Orders {
    fn drop(&mut self) {
        // `on_end` asks whether the channel is closed.
        self.commands.close();
        if let Some(on_end) = self.on_end.take() {
            on_end();
        }
    }
}

/// Busy polling: for some time after the last packet the task asks for another turn instead of waiting to be woken, so
/// that a request meets a reactor that is awake.
struct Busy {
    window: Duration,
    /// Packets seen so far, and when there were fewer.
    packets: u64,
    since: Instant,
}

impl Busy {
    /// Whether to look again although nothing is left to do.
    fn looks_again(&mut self, now: Instant, packets: u64) -> bool {
        if std::mem::replace(&mut self.packets, packets) != packets {
            self.since = now;
        }
        !self.window.is_zero() && now.since(self.since) < self.window
    }
}

/// The device with its buffers.
struct Link {
    device: Option<Box<dyn Device>>,
    inbox: Vec<u8>,
    /// Whether the device takes more than one slice to fill.
    scatters: bool,
    outbox: Outbox,
}

impl Reactor {
    pub(super) fn new(
        mut engine: Engine,
        mut device: Option<Box<dyn Device>>,
        Pace { clock, busy_poll, yields }: Pace,
        commands: mpsc::Receiver<Command>,
        on_end: Box<dyn FnOnce() + Send>,
    ) -> Reactor {
        let mut inbox = Vec::new();
        if let Some(device) = &mut device {
            if !busy_poll.is_zero() {
                device.on_busy_poll();
            }
            let can = device.capabilities();
            let mtu = can.mtu.min(engine.shared().config.mtu);
            engine.set_path(Path { mtu, max_large: can.max_large_packet }, can.checksum);
            inbox = vec![0; LARGEST_PACKET];
        }
        let scatters = device.as_ref().is_some_and(|device| device.scatters());
        let link = Link { device, inbox, scatters, outbox: Outbox::default() };
        Reactor {
            engine,
            link,
            clock,
            handles_gone: false,
            closing: None,
            in_turn: false,
            busy: Busy { window: busy_poll, packets: 0, since: Instant::ZERO },
            yields,
            orders: Orders { commands, on_end: Some(on_end) },
        }
    }

    /// One turn. The order is part of the design: users first, so that a listener exists for the next segment;
    /// users' wakes last, so that each is woken once.
    fn turn(&mut self, cx: &mut Context<'_>) -> io::Result<Flow> {
        let now = self.clock.read();
        self.engine.stats_mut().turns += 1;
        let mut again = self.take_commands(cx, now);
        self.engine.poll_orders(now);
        // After the queue was emptied: who rings from here on wakes the next turn.
        self.engine.shared().doorbell.register(cx.waker());
        again |= self.link.drain(&mut self.engine, cx, now)?;
        self.engine.on_deadlines(now);
        again |= self.exchange(cx, now)?;
        self.engine.end_turn();
        if self.is_over(now) {
            return Ok(Flow::End);
        }
        let closing = self.closing.as_ref().map(|closing| closing.deadline);
        let deadlines = [self.engine.next_deadline(), closing, self.link.outbox.deadline()];
        again |= self.clock.wake_at(cx, deadlines.into_iter().flatten().min());
        let stats = self.engine.stats_mut();
        let packets = stats.packets_in.wrapping_add(stats.packets_out);
        again |= self.busy.looks_again(now, packets);
        Ok(match again {
            true => Flow::Again,
            false if self.engine.has_lingering() => Flow::AfterUsers,
            false => Flow::Rest,
        })
    }

    /// Takes orders to connect and to shut down. Returns whether more may wait.
    fn take_commands(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        for _ in 0..COMMANDS_PER_TURN {
            if self.handles_gone {
                return false;
            }
            match self.orders.commands.poll_recv(cx) {
                Poll::Ready(Some(Command::Connect(open))) => self.engine.connect(now, *open),
                Poll::Ready(Some(Command::Shutdown { grace, done })) => {
                    let deadline = now + grace;
                    let closing = self.closing.get_or_insert_with(|| Closing { deadline, done: Vec::new() });
                    closing.deadline = closing.deadline.min(deadline);
                    // Callers who gave up waiting leave nothing behind, however often they ask.
                    closing.done.retain(|asker| !asker.is_closed());
                    closing.done.push(done);
                }
                Poll::Ready(None) => self.handles_gone = true,
                Poll::Pending => return false,
            }
        }
        true
    }

    /// Transmits, and processes what went to our own addresses, until both rest or the budget is spent.
    /// Returns whether something is left to do.
    fn exchange(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<bool> {
        let mut local = LOCAL_PER_TURN;
        let mut again = self.link.transmit(&mut self.engine, cx, now)?;
        while self.engine.has_local() && local > 0 {
            local = local.saturating_sub(self.engine.receive_local(now, local).max(1));
            again = self.link.transmit(&mut self.engine, cx, now)?;
        }
        Ok(again || self.engine.has_local())
    }

    fn is_over(&mut self, now: Instant) -> bool {
        let quiet = !self.link.outbox.is_full() && !self.engine.has_local();
        if let Some(closing) = &mut self.closing {
            let acknowledged = quiet && self.engine.unacked() == 0;
            if acknowledged || now >= closing.deadline {
                for done in closing.done.drain(..) {
                    // The caller may have given up waiting.
                    let _ = done.send(acknowledged);
                }
                return true;
            }
        }
        self.handles_gone && quiet && self.engine.is_idle()
    }

    /// The last pass: data the windows allow, FIN where all is sent, else RST, as far as the device takes it without
    /// waiting. Whoever still waits then fails, because dropping the engine drops every reactor-side end.
    fn last_gasp(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let now = self.clock.read();
        self.engine.last_gasp(now);
        for _ in 0..LAST_WRITES / WRITES_PER_TURN {
            match self.exchange(&mut cx, now) {
                Ok(true) if !self.link.outbox.is_full() => {}
                _ => break,
            }
        }
        self.engine.end_turn();
    }
}

impl Link {
    /// Reads packets. Returns whether more may wait.
    ///
    /// After a read that brought one packet alone its answer goes out, and its owner is woken, before the next read: a
    /// request does not wait for a system call that finds nothing. What comes after it in the same turn is a burst and
    /// shares one answer.
    fn drain(&mut self, engine: &mut Engine, cx: &mut Context<'_>, now: Instant) -> io::Result<bool> {
        let mut bytes = 0;
        for read in 0..READS_PER_TURN {
            if bytes >= READ_BYTES_PER_TURN {
                return Ok(true);
            }
            let Some(device) = &mut self.device else { return Ok(false) };
            let landing = if self.scatters { engine.landing(now) } else { None };
            let polled = match landing {
                None => device.poll_recv(cx, now, &mut [IoSliceMut::new(&mut self.inbox)]),
                Some(landing) => {
                    let slices = engine.landing_slices(landing, &mut self.inbox);
                    device.poll_recv(cx, now, &mut slices.map(IoSliceMut::new))
                }
            };
            let Poll::Ready(received) = polled else { return Ok(false) };
            let received = received?;
            bytes += received.len;
            let packet = self.inbox.get(..received.len).unwrap_or_default();
            if packet.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            engine.stats_mut().device_reads += 1;
            let at = received.at.min(now);
            match landing {
                None => engine.receive(at, packet, received.offload),
                Some(landing) => {
                    engine.receive_landed(at, landing, &mut self.inbox, (received.len, received.offload));
                }
            }
            if read == 0 && received.offload.segment_size.is_none() {
                self.transmit(engine, cx, now)?;
                engine.end_turn();
            }
        }
        Ok(true)
    }

    /// Hands packets to the device. Returns whether more wait and the device would take them.
    fn transmit(&mut self, engine: &mut Engine, cx: &mut Context<'_>, now: Instant) -> io::Result<bool> {
        let Some(device) = &mut self.device else {
            // Packets to our own addresses only: they go to the loopback queue inside.
            while engine.poll_transmit(now).is_some() {}
            return Ok(engine.wants_transmit());
        };
        let waited = self.outbox.is_full();
        match self.outbox.poll_flush(cx, now, device.as_mut()) {
            Poll::Ready(sent) => {
                sent?;
                engine.stats_mut().device_writes += u64::from(waited);
            }
            Poll::Pending if self.outbox.on_refused(now) => {
                // What stays inside does not wait for the device.
                engine.transmit_local(now);
                return Ok(false);
            }
            Poll::Pending => engine.stats_mut().drop_packet(DropReason::DeviceRefused),
        }
        for _ in 0..WRITES_PER_TURN {
            let Some(out) = engine.poll_transmit(now) else { return Ok(engine.wants_transmit()) };
            let packet = Outgoing { header: out.header, payload: out.payload, offload: out.offload };
            match device.poll_send(cx, now, &packet) {
                Poll::Ready(sent) => {
                    sent?;
                    self.outbox.on_sent();
                    engine.stats_mut().device_writes += 1;
                }
                Poll::Pending if self.outbox.on_refused(now) => {
                    self.outbox.hold(&packet);
                    engine.transmit_local(now);
                    return Ok(false);
                }
                Poll::Pending => engine.stats_mut().drop_packet(DropReason::DeviceRefused),
            }
        }
        Ok(true)
    }
}

impl Future for Reactor {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.in_turn = true;
        let flow = this.turn(cx);
        match flow {
            Ok(Flow::Rest) => {
                this.in_turn = false;
                Poll::Pending
            }
            // Elsewhere another thread may take the reactor, whose users' thread may be computing: `yield_now` ties it to this one.
            Ok(Flow::Again) if !this.yields => {
                this.in_turn = false;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(Flow::Again | Flow::AfterUsers) => {
                this.in_turn = false;
                // Waking ourselves would be too early: tokio polls the future of `block_on` after the tasks. This wakes
                // after a whole round of the scheduler.
                std::pin::pin!(tokio::task::yield_now()).poll(cx)
            }
            Ok(Flow::End) => {
                this.in_turn = false;
                Poll::Ready(())
            }
            // The device is gone. `in_turn` stays set: there is nothing to send a last packet to.
            Err(_) => Poll::Ready(()),
        }
    }
}

impl Drop for Reactor {
    /// Runs when the future ended, when its runtime shuts down, and when a turn panicked. The engine is dropped after this
    /// body, and with it every reactor-side end: all pending and later calls fail with `NetworkDown`.
    fn drop(&mut self) {
        if !self.in_turn {
            // Never a panic inside a panic: the users' calls must fail, not the process.
            let _ = catch_unwind(AssertUnwindSafe(|| self.last_gasp()));
        }
    }
}
