//! The task that owns every control block and the device of one stack.
//!
//! One hand-written future; a poll of it is a *turn*: named steps with budgets, nothing half-done is ever cancelled.
//! Owns the [`Engine`](crate::stack::Engine), the device, the clock and the receiving end of the commands. Never takes a
//! lock that a user holds across a copy. Called by tokio; `net` talks to it through [`Handle`].

mod clock;
mod command;
mod handle;
mod outbox;
mod turn;

#[cfg(test)]
mod tests;

pub(crate) use crate::stack::{Binding, Listening};
pub(crate) use handle::{ConnectOrder, Handle, Runs, Setup, start};
