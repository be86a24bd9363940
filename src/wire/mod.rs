//! Packets as bytes: parsing with every check a hostile sender deserves, and writing headers.
//!
//! Owns no state. Never allocates, never panics on any input, never copies payload.
//! Called by `stack` (parse, emit) and `device` (offload metadata). The only room that names `etherparse`.

mod emit;
mod offload;
mod options;
mod parse;
mod segment;
mod seq;

pub use emit::{MAX_HEADER, emit_echo_reply, emit_tcp};
pub use offload::{Checksum, Offload, complete_checksum};
pub use options::{MAX_OPTIONS, emit_options, options_len, parse_options};
pub use parse::{Body, IcmpError, IcmpKind, Packet, parse};
pub use segment::{Flags, FourTuple, Header, IpInfo, Options, SackBlock, SackBlocks, Segment, Timestamps};
pub use seq::Seq;
