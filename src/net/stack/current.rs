//! Which stack is current: of the scope, of the runtime, or the embedded one. Owns the only global of the crate, a map
//! from runtime id to weak handles.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::{Handle as Runtime, Id};

use super::handle::Stack;
use crate::reactor::Handle;

tokio::task_local! {
    static SCOPE: Stack;
}

/// What a runtime has. tokio never uses an id twice in one process.
#[derive(Default)]
struct Entry {
    /// Removed by its guard, so that a default whose device died gives `NetworkDown` and not another stack.
    default: Option<Weak<Handle>>,
    /// Removed when its reactor ends.
    embedded: Option<Weak<Handle>>,
}

static RUNTIMES: LazyLock<Mutex<HashMap<Id, Entry>>> = LazyLock::new(Mutex::default);

fn runtimes() -> MutexGuard<'static, HashMap<Id, Entry>> {
    RUNTIMES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn runtime_id() -> io::Result<Id> {
    match Runtime::try_current() {
        Ok(runtime) => Ok(runtime.id()),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "usernet needs a current stack or a tokio runtime to start one on, and this thread has neither",
        )),
    }
}

pub(super) fn scope<F: Future>(stack: Stack, future: F) -> impl Future<Output = F::Output> + use<F> {
    SCOPE.scope(stack, future)
}

/// The stack that someone made current, if any.
pub(in crate::net) fn explicit() -> Option<Arc<Handle>> {
    if let Ok(handle) = SCOPE.try_with(|stack| Arc::clone(&stack.handle)) {
        return Some(handle);
    }
    let id = Runtime::try_current().ok()?.id();
    runtimes().get(&id)?.default.as_ref()?.upgrade()
}

/// The current stack; starts the embedded one if there is no other.
pub(in crate::net) fn current() -> io::Result<Arc<Handle>> {
    if let Some(handle) = explicit() {
        return Ok(handle);
    }
    let id = runtime_id()?;
    if let Some(handle) = embedded(&runtimes(), id) {
        return Ok(handle);
    }
    // Outside of the lock: on a runtime that shuts down `spawn` drops the reactor at once, and its end takes the lock.
    let started = start_embedded(id)?;
    let mut runtimes = runtimes();
    if let Some(handle) = embedded(&runtimes, id) {
        // Another thread was faster; ours ends because nobody holds it.
        drop(runtimes);
        return Ok(handle);
    }
    if !started.is_closed() {
        runtimes.entry(id).or_default().embedded = Some(Arc::downgrade(&started));
    }
    Ok(started)
}

fn embedded(runtimes: &HashMap<Id, Entry>, id: Id) -> Option<Arc<Handle>> {
    runtimes.get(&id)?.embedded.as_ref()?.upgrade().filter(|handle| !handle.is_closed())
}

/// A stack in memory that owns 127.0.0.0/8 and ::1.
fn start_embedded(id: Id) -> io::Result<Arc<Handle>> {
    let stack = Stack::builder()
        .address(Ipv4Addr::LOCALHOST, 8)
        .address(Ipv6Addr::LOCALHOST, 128)
        .build_with(Box::new(move || forget_embedded(id)))?;
    Ok(stack.handle)
}

/// The reactor of an embedded stack of this runtime ended. The entry may already be another's, which lives.
fn forget_embedded(id: Id) {
    let mut runtimes = runtimes();
    let Some(entry) = runtimes.get_mut(&id) else { return };
    let dead = entry.embedded.take_if(|weak| weak.upgrade().is_none_or(|handle| handle.is_closed()));
    if entry.default.is_none() && entry.embedded.is_none() {
        runtimes.remove(&id);
    }
    drop(runtimes);
    drop(dead);
}

/// Keeps a stack the default of a runtime. Made by [`Stack::set_default`]; dropping it ends that.
#[must_use = "dropping the guard ends the default at once"]
pub struct DefaultGuard {
    stack: Stack,
    runtime: Id,
}

pub(super) fn set_default(stack: Stack) -> io::Result<DefaultGuard> {
    let runtime = runtime_id()?;
    let mut runtimes = runtimes();
    let entry = runtimes.entry(runtime).or_default();
    if entry.default.as_ref().is_some_and(|weak| weak.strong_count() > 0) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "this tokio runtime has a default stack already"));
    }
    entry.default = Some(Arc::downgrade(&stack.handle));
    drop(runtimes);
    Ok(DefaultGuard { stack, runtime })
}

impl Drop for DefaultGuard {
    fn drop(&mut self) {
        let mut runtimes = runtimes();
        let Some(entry) = runtimes.get_mut(&self.runtime) else { return };
        entry.default = None;
        if entry.embedded.is_none() {
            runtimes.remove(&self.runtime);
        }
    }
}

impl fmt::Debug for DefaultGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefaultGuard").field("stack", &self.stack).finish()
    }
}
