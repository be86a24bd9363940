//! [`Clock`]: the stack's time on tokio's clock, and the one timer of the reactor.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant as TokioInstant, Sleep};

use crate::time::Instant;

/// Translates between tokio's clock (pausable in tests) and microseconds since the stack began.
#[derive(Debug)]
pub(super) struct Clock {
    epoch: TokioInstant,
    latest: Instant,
    sleep: Pin<Box<Sleep>>,
    armed: Option<Instant>,
}

impl Clock {
    /// A clock that begins now. `sleep` is any sleep of the runtime; it is reset before use.
    pub(super) fn new(sleep: Pin<Box<Sleep>>) -> Clock {
        Clock { epoch: TokioInstant::now(), latest: Instant::ZERO, sleep, armed: None }
    }

    /// Reads the clock: once a turn.
    pub(super) fn read(&mut self) -> Instant {
        self.latest = self.latest.max(Instant::ZERO + self.epoch.elapsed());
        self.latest
    }

    /// Sees to it that the task is polled at `deadline`. Returns whether that moment has come already.
    /// tokio's timer has a resolution of one millisecond and never fires early.
    ///
    /// A timer that is set to an earlier moment stays: deadlines mostly move away, with every segment, and one poll too
    /// many when it fires is cheaper than setting it each time.
    pub(super) fn wake_at(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else {
            return false;
        };
        if deadline <= self.latest {
            return true;
        }
        if self.armed.is_some_and(|armed| armed <= deadline) && !self.sleep.is_elapsed() {
            return false;
        }
        self.armed = Some(deadline);
        let until = self.epoch.checked_add(deadline.since(Instant::ZERO));
        // A deadline past tokio's range (decades) is as good as a day: it is armed anew then.
        let until = until.unwrap_or_else(|| TokioInstant::now() + Duration::from_secs(86_400));
        self.sleep.as_mut().reset(until);
        matches!(self.sleep.as_mut().poll(cx), Poll::Ready(()))
    }
}
