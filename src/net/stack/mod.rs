//! [`Stack`], its builder, and which stack is current.

mod builder;
mod current;
mod handle;

pub use builder::{Seed, StackBuilder};
pub use current::DefaultGuard;
pub use handle::Stack;

pub(super) use current::{current, explicit};
