//! [`Command`]: orders that can be abandoned or that end the stack. They travel in one bounded channel; payload never does.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::stack::Connect;

/// Commands waiting at most. A full channel makes `connect` wait, never the reactor.
pub(super) const CAPACITY: usize = 256;

/// What a handle may ask of the reactor.
pub(crate) enum Command {
    /// Open a connection whose tuple is already claimed.
    Connect(Box<Connect>),
    /// End once everything sent is acknowledged, at the latest after `grace`.
    Shutdown {
        /// How long to wait.
        grace: Duration,
        /// Told whether everything was acknowledged. Dropped unanswered: the reactor ended for another reason.
        done: oneshot::Sender<bool>,
    },
}
