//! [`AcceptQueue`]: established connections that wait for `accept`.
//!
//! Owns the queued user ends, bounded by the backlog, and those who wait for one. A connection stays in the queue until
//! a call takes it out and returns it in the same poll, so a dropped waiter cannot lose one. Every waiter is woken when a
//! connection enters and at no other moment (and when the reactor dies). The engine pushes, `net` accepts and closes.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::{Ready, UserEnd};
use crate::error::ConnError;

#[cfg(test)]
#[cfg(not(usernet_loom))]
mod tests;

/// What `accept` yields.
type Accepted = (UserEnd, SocketAddr);

/// Established connections of one listener, in order.
#[derive(Debug)]
pub struct AcceptQueue {
    backlog: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Accepted>,
    /// Of `poll_accept`.
    slot: Option<Waker>,
    /// Of [`AcceptQueue::wait`]; an entry is `None` once notified.
    many: Slab<Option<Waker>>,
    ending: Option<Ending>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The listener was dropped.
    Closed,
    /// The reactor died.
    Failed,
}

impl State {
    /// The oldest connection, or why there will be none.
    fn pop(&mut self) -> Result<Option<Accepted>, ConnError> {
        match self.ending {
            Some(Ending::Failed) => Err(ConnError::NetworkDown),
            Some(Ending::Closed) => Err(ConnError::InvalidInput),
            None => Ok(self.queue.pop_front()),
        }
    }

    /// Everyone who waits.
    fn take_wakers(&mut self) -> Vec<Waker> {
        self.slot.take().into_iter().chain(self.many.iter_mut().filter_map(|(_, waker)| waker.take())).collect()
    }
}

impl AcceptQueue {
    /// `backlog` as in `listen`: Linux holds one connection more (`sk_acceptq_is_full`).
    pub fn new(backlog: usize) -> Arc<AcceptQueue> {
        Arc::new(AcceptQueue { backlog, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a connection may become established.
    pub fn has_room(&self) -> bool {
        let state = self.lock();
        state.ending.is_none() && state.queue.len() <= self.backlog
    }

    /// A connection is established; its peer is `remote`. It starts readable and writable, as in tokio. Returns how many
    /// tasks it woke. Without room, or after the end, the connection is reset.
    pub fn push(&self, end: UserEnd, remote: SocketAddr) -> usize {
        end.readiness().set(Ready::READABLE | Ready::WRITABLE);
        let mut state = self.lock();
        if state.ending.is_some() || state.queue.len() > self.backlog {
            drop(state);
            end.abort();
            return 0;
        }
        state.queue.push_back((end, remote));
        let wakers = state.take_wakers();
        drop(state);
        wakers.into_iter().map(Waker::wake).count()
    }

    /// The oldest connection, if there is one.
    ///
    /// # Errors
    ///
    /// `NetworkDown` if the reactor is gone.
    pub fn try_pop(&self) -> Result<Option<Accepted>, ConnError> {
        self.lock().pop()
    }

    /// The oldest connection, or remembers the caller in the one slot; the latest caller wins.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<Accepted, ConnError>> {
        let mut state = self.lock();
        if let Some(result) = state.pop().transpose() {
            return Poll::Ready(result);
        }
        match &mut state.slot {
            Some(stored) => stored.clone_from(cx.waker()),
            slot => *slot = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Waits for a connection. Any number may wait at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection and leaves no trace.
    pub fn wait(&self) -> Accepting<'_> {
        Accepting { queue: self, key: None }
    }

    /// Connections queued.
    pub fn len(&self) -> usize {
        self.lock().queue.len()
    }

    /// Whether no connection is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The listener was dropped: the queued connections are reset, and so are later ones.
    pub fn close(&self) {
        for (end, _) in self.end(Ending::Closed) {
            end.abort();
        }
    }

    /// The reactor died: everyone who waits or calls gets `NetworkDown`.
    pub fn fail(&self) {
        drop(self.end(Ending::Failed));
        let wakers = self.lock().take_wakers();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The first ending wins. The connections are dropped by the caller, outside of the lock: their drop rings.
    fn end(&self, ending: Ending) -> VecDeque<Accepted> {
        let mut state = self.lock();
        state.ending.get_or_insert(ending);
        std::mem::take(&mut state.queue)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("queued", &self.queue.len()).field("ending", &self.ending).finish_non_exhaustive()
    }
}

/// Future of [`AcceptQueue::wait`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Accepting<'a> {
    queue: &'a AcceptQueue,
    /// Our entry among the waiters, while registered.
    key: Option<usize>,
}

impl Future for Accepting<'_> {
    type Output = Result<Accepted, ConnError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.queue.lock();
        if let Some(result) = state.pop().transpose() {
            let waker = self.key.take().and_then(|key| state.many.try_remove(key));
            drop(state);
            drop(waker);
            return Poll::Ready(result);
        }
        match self.key.and_then(|key| state.many.get_mut(key)) {
            Some(Some(stored)) => stored.clone_from(cx.waker()),
            Some(notified) => *notified = Some(cx.waker().clone()),
            None => self.key = Some(state.many.insert(Some(cx.waker().clone()))),
        }
        Poll::Pending
    }
}

impl Drop for Accepting<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.queue.lock().many.try_remove(key);
            drop(waker);
        }
    }
}
