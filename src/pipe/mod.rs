//! What the user's side and the reactor's side of a connection share: two byte rings over reserved memory, readiness,
//! orders (doorbell bits), an error slot, a snapshot for `info()`.
//!
//! Owns every byte of payload. Knows no TCP, no tokio, no clock. `tcb` and `stack` hold [`StackEnd`], `net` holds [`UserEnd`].
//!
//! ```text
//!   user task                     Memory (one mapping)                    reactor
//!   UserEnd ── Producer ──►  [ send ring ]  ── Consumer ──► StackEnd
//!           ◄── Consumer ──  [ recv ring ]  ◄── Producer ──
//!           ── Orders ─────►  Doorbell (ConnId) ──────────► take_orders()
//!           ◄── Readiness ───────────────────────────────── wake(), once per turn
//! ```

mod accept;
mod doorbell;
mod info;
mod memory;
mod published;
mod readiness;
mod ring;
mod shared;
mod stack_end;
mod user_end;

#[cfg(test)]
#[cfg(not(usernet_loom))]
mod tests;

pub use accept::{AcceptQueue, Accepting};
pub use doorbell::{ConnId, Doorbell, ListenerId, Orders, Rung};
pub use info::{BufferInfo, ConnInfo, State};
pub use memory::{Budget, Demand, Region, Side};
pub use published::Published;
pub use readiness::{Direction, Readiness, Ready, ReadyEvent, Waiting};
pub use ring::{Consumer, Memory, Producer, Rings, rings, rings_at};
pub use shared::{TryError, pipe};
pub use stack_end::StackEnd;
pub use user_end::{UserEnd, Watch};
