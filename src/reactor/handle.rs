//! [`Handle`]: the user's side of a reactor, and how one is started.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::RuntimeFlavor;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use super::clock::Clock;
use super::command::{CAPACITY, Command};
use super::turn::{Pace, Reactor};
use crate::config::StackConfig;
use crate::device::Device;
use crate::error::ConnError;
use crate::pipe::StackEnd;
use crate::stack::{Binding, Connect, Engine, Secrets, Shared};

/// Everything a reactor is made of.
pub(crate) struct Setup {
    /// Checked by the builder.
    pub config: StackConfig,
    /// The stack's secret.
    pub key: [u8; 32],
    /// `None`: nothing but the stack's own addresses can be reached.
    pub device: Option<Box<dyn Device>>,
    /// Where the reactor runs.
    pub runs: Runs,
    /// How long it looks for work by itself before it waits to be woken; zero: not at all.
    pub busy_poll: Duration,
    /// Runs when the reactor is gone, however it ended.
    pub on_end: Box<dyn FnOnce() + Send>,
}

/// Where a reactor runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Runs {
    /// As a task of the current runtime.
    #[default]
    Task,
    /// On a thread of its own, with a runtime of its own.
    Thread,
}

/// One per stack, behind an `Arc` that every stack handle, socket, stream and listener holds: when the last one drops,
/// the channel closes, which wakes the reactor and lets it end.
pub(crate) struct Handle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    device: Option<String>,
}

/// Starts a reactor.
///
/// # Errors
///
/// `Unsupported`: no runtime on this thread, or one without a time driver; a thread or busy polling wanted where the clock
/// is paused. What [`Engine::new`] refuses.
pub(crate) fn start(setup: Setup) -> io::Result<Arc<Handle>> {
    if (setup.runs == Runs::Thread || !setup.busy_poll.is_zero()) && clock_is_paused() {
        return Err(unsupported("a reactor that polls busily or has its own thread can't follow a paused clock"));
    }
    let Setup { config, key, device, runs, busy_poll, on_end } = setup;
    let name = device.as_ref().map(|device| device.name());
    let engine = Engine::new(config, Secrets { key })?;
    let shared = Arc::clone(engine.shared());
    let (commands, orders) = mpsc::channel(CAPACITY);
    let reactor = move |clock, yields| {
        let pace = Pace { clock, busy_poll, yields };
        Reactor::new(engine, device, pace, orders, on_end)
    };
    match runs {
        Runs::Task => {
            let runtime = tokio::runtime::Handle::try_current().map_err(|_| {
                unsupported("a usernet stack runs as a tokio task, but there is no tokio runtime on this thread")
            })?;
            let clock = Clock::new(probe_timer()?);
            let yields = runtime.runtime_flavor() == RuntimeFlavor::CurrentThread;
            // The reactor budgets its own turns; tokio's budget would only cut them in odd places.
            drop(runtime.spawn(tokio::task::coop::unconstrained(reactor(clock, yields))));
        }
        Runs::Thread => start_thread(reactor)?,
    }
    Ok(Arc::new(Handle { shared, commands, device: name }))
}

/// Runs the reactor on a thread and a runtime of its own; returns when it can run. The thread ends with the reactor.
fn start_thread(reactor: impl FnOnce(Clock, bool) -> Reactor + Send + 'static) -> io::Result<()> {
    let (started, outcome) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new().name("usernet".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        runtime.block_on(async {
            let reactor = reactor(Clock::new(Box::pin(tokio::time::sleep(Duration::ZERO))), false);
            // The starter waits for this answer, so it is there to take it.
            drop(started.send(Ok(())));
            tokio::task::coop::unconstrained(reactor).await;
        });
    })?;
    outcome.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
}

fn unsupported(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// Whether `tokio::time::pause` is in force. tokio offers no question for it: its clock stands still while time passes.
fn clock_is_paused() -> bool {
    let (before, began) = (tokio::time::Instant::now(), std::time::Instant::now());
    while began.elapsed() < Duration::from_micros(20) {
        std::hint::spin_loop();
    }
    tokio::time::Instant::now() == before
}

/// A timer of the current runtime. tokio offers no question "is there a time driver?", only a panic in the constructor,
/// so the panic is caught; its message goes through the process's panic hook once.
fn probe_timer() -> io::Result<Pin<Box<Sleep>>> {
    catch_unwind(AssertUnwindSafe(|| Box::pin(tokio::time::sleep(Duration::ZERO)))).map_err(|_| {
        unsupported("usernet needs timers: call `enable_time` (or `enable_all`) on the tokio runtime's builder")
    })
}

impl Handle {
    /// The registry, doorbell and budget.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The device's name; `None` without a device.
    pub(crate) fn device_name(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// Whether the reactor is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Waits until the reactor is gone. Cancel safe.
    pub(crate) async fn closed(&self) {
        self.commands.closed().await;
    }

    /// Fails when the reactor is gone.
    pub(crate) fn check_alive(&self) -> Result<(), ConnError> {
        if self.is_closed() { Err(ConnError::NetworkDown) } else { Ok(()) }
    }

    /// Claims source address and port for a connection to `remote` and prepares the order for it.
    pub(crate) fn order_connect(
        self: &Arc<Self>,
        pipe: StackEnd,
        binding: Option<&Binding>,
        remote: SocketAddr,
    ) -> Result<ConnectOrder, ConnError> {
        self.check_alive()?;
        let options = pipe.options();
        let tuple = self.shared.claim(binding, remote, &options)?;
        if remote.is_ipv6() && tuple.remote.is_ipv4() {
            pipe.show_mapped();
        }
        Ok(ConnectOrder { handle: Arc::clone(self), order: Some(Box::new(Connect { pipe, tuple, options })) })
    }

    /// Ends the reactor once everything sent is acknowledged, at the latest after `grace`.
    /// Answers whether everything was. Cancel safe up to the point where the order is taken.
    pub(crate) async fn shutdown(&self, grace: Duration) -> Result<bool, ConnError> {
        let (done, answer) = oneshot::channel();
        let order = Command::Shutdown { grace, done };
        self.commands.send(order).await.map_err(|_| ConnError::NetworkDown)?;
        let acknowledged = answer.await.map_err(|_| ConnError::NetworkDown)?;
        self.closed().await;
        Ok(acknowledged)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("device", &self.device).field("closed", &self.is_closed()).finish()
    }
}

/// An order to connect whose tuple is claimed; dropped before it is sent, it gives the tuple back.
pub(crate) struct ConnectOrder {
    handle: Arc<Handle>,
    order: Option<Box<Connect>>,
}

impl ConnectOrder {
    /// Sends the order, waiting while the channel is full. From then on the engine owns the tuple, and dropping the
    /// user's end aborts the connection.
    pub(crate) async fn send(mut self) -> Result<(), ConnError> {
        let permit = self.handle.commands.reserve().await.map_err(|_| ConnError::NetworkDown)?;
        if let Some(order) = self.order.take() {
            permit.send(Command::Connect(order));
        }
        // A reactor that died between the two may have emptied the channel before our order was in it.
        self.handle.check_alive()
    }
}

impl Drop for ConnectOrder {
    fn drop(&mut self) {
        if let Some(order) = self.order.take() {
            self.handle.shared.release(&order.tuple);
        }
    }
}
