//! Packets as bytes: parsing with every check a hostile sender deserves, and writing headers.
//!
//! Owns no state. Never panics on any input; allocates and copies payload only in [`split_large`], for devices without
//! segmentation offload.
//! Called by `stack` (parse, emit) and `device` (offload metadata). The only room that names `etherparse`.

mod checksum;
mod emit;
mod offload;
mod options;
mod parse;
mod segment;
mod seq;
mod split;
#[cfg(test)]
mod testing;

pub use emit::{MAX_HEADER, emit_echo_reply, emit_tcp};
pub use offload::{Checksum, Offload, complete_checksum};
pub use options::{MAX_OPTIONS, emit_options, options_len, parse_options};
pub use parse::{Body, IcmpError, IcmpKind, Packet, parse, parse_landed, parse_received};
pub use segment::{Flags, FourTuple, Header, IpInfo, Options, SackBlock, SackBlocks, Segment, Timestamps};
pub use seq::Seq;
pub use split::split_large;
#[cfg(test)]
pub(crate) use testing::{ZEROS, seg};
