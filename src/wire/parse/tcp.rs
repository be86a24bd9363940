//! The TCP header (RFC 9293 §3.1).

use std::net::SocketAddr;

use etherparse::TcpHeaderSlice;

use super::{Body, Ip};
use crate::stats::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::{Flags, FourTuple, Options, SackBlocks, Segment, Seq, parse_options};

/// Where the eight control bits stand.
const FLAGS_OFFSET: usize = 13;

/// `beyond`: the bytes that [`Ip::elsewhere`] counts.
pub(super) fn parse<'a>(ip: &Ip<'a>, beyond: [&[u8]; 2], verify: bool) -> Result<Body<'a>, DropReason> {
    let header = TcpHeaderSlice::from_slice(ip.payload).map_err(|_| DropReason::TcpHeader)?;
    // RFC 9293 §3.1 (MUST-3): the receiver must check it. Before the options: random damage is no malformed option.
    if verify && !sum(ip, beyond).is_valid() {
        return Err(DropReason::TcpChecksum);
    }
    let flags = Flags::from_bits(header.slice().get(FLAGS_OFFSET).copied().unwrap_or(0));
    let options = parse_options(header.options())?;
    let seg = Segment {
        seq: Seq::new(header.sequence_number()),
        ack: Seq::new(header.acknowledgment_number()),
        flags,
        wnd: header.window_size(),
        options: where_allowed(options, flags),
        payload: ip.payload.get(header.slice().len()..).unwrap_or_default(),
        landed: u32::try_from(ip.elsewhere).unwrap_or(u32::MAX),
    };
    let tuple = FourTuple {
        local: SocketAddr::new(ip.info.dst, header.destination_port()),
        remote: SocketAddr::new(ip.info.src, header.source_port()),
    };
    Ok(Body::Tcp { tuple, seg })
}

fn sum(ip: &Ip<'_>, [first, second]: [&[u8]; 2]) -> Sum {
    let here = ip.pseudo().add(ip.payload);
    if ip.elsewhere == 0 { here } else { here.add(first).add(second) }
}

/// Forgets options in segments that must not carry them.
fn where_allowed(options: Options, flags: Flags) -> Options {
    if flags.contains(Flags::SYN) {
        // Nothing can have been received out of order before the SYN.
        Options { sack: SackBlocks::EMPTY, ..options }
    } else {
        // RFC 9293 §3.7.1, RFC 7323 §2.2, RFC 2018 §2: only in segments with SYN; elsewhere they would let a blind
        // attacker rewrite what was negotiated.
        Options { mss: None, window_scale: None, sack_permitted: false, ..options }
    }
}
