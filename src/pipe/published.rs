//! [`Published`]: a value that the engine brings up to date and others look at.
//!
//! Owns the value. The engine does not wait for those who look, but for what it can't say again; the last state is seen all
//! the same, because who stood in the way has it published again.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Mutex, TryLockError};

use super::shared::lock;

/// A value that the engine publishes.
#[derive(Debug, Default)]
pub struct Published<T> {
    value: Mutex<T>,
    /// The engine found the value locked.
    missed: AtomicBool,
}

impl<T> Published<T> {
    /// Brings the value up to date, in place. Skipped if somebody is copying it right now, who has this repeated.
    pub fn publish(&self, update: impl FnOnce(&mut T)) {
        let Some(update) = self.try_publish(update) else { return };
        // The flag first, then another attempt; `look` unlocks first, then looks at the flag. With a SeqCst fence between, one
        // of the two sees the other: either the lock is free by now, or whoever has it finds the flag.
        self.missed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let _ = self.try_publish(update);
    }

    fn try_publish<F: FnOnce(&mut T)>(&self, update: F) -> Option<F> {
        match self.value.try_lock() {
            Ok(mut value) => update(&mut value),
            Err(TryLockError::Poisoned(value)) => update(&mut value.into_inner()),
            Err(TryLockError::WouldBlock) => return Some(update),
        }
        None
    }

    /// As [`Published::publish`], if need be after somebody's copy.
    pub fn publish_for_sure(&self, update: impl FnOnce(&mut T)) {
        update(&mut lock(&self.value));
    }

    /// Looks at the value: be brief. `again` is called, after that, if the engine has to publish once more.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R, again: impl FnOnce()) -> R {
        let seen = look(&lock(&self.value));
        // The other half of the argument in `publish`.
        fence(Ordering::SeqCst);
        if self.missed.load(Ordering::Relaxed) && self.missed.swap(false, Ordering::Relaxed) {
            again();
        }
        seen
    }
}
