//! Forged segments: those that RFC 5961 and RFC 9293 say must do nothing, whatever their numbers, and those that may do harm.

use std::net::SocketAddr;

use fastrand::Rng;
use usernet::internals::pipe::{ConnInfo, State};
use usernet::internals::wire::Flags;

use crate::support::packet::{self, Icmp, Tcp};

/// A packet against the connection `info` describes, as if from its peer; `None` where even the right answer could do
/// harm (before synchronization a SYN is believed).
pub fn forge(rng: &mut Rng, info: &ConnInfo) -> Option<Vec<u8>> {
    if matches!(info.state, State::Closed | State::Listen | State::SynSent | State::SynReceived) {
        return None;
    }
    let (local, peer) = (info.local?, info.remote?);
    let (una, nxt, rcv) = (info.snd_una.raw(), info.snd_nxt.raw(), info.rcv_nxt.raw());
    let in_window = rcv.wrapping_add(rng.u32(..info.rcv_wnd.max(1)));
    let outside = rcv.wrapping_add(info.rcv_wnd + 2).wrapping_add(rng.u32(..1 << 30));
    let bad_ack = if rng.bool() { nxt.wrapping_add(1 + rng.u32(..1 << 30)) } else { una.wrapping_sub(1 << 31) };
    let (flags, seq, ack) = match rng.u8(..8) {
        0 => (Flags::RST, if in_window == rcv { rcv.wrapping_add(1) } else { in_window }, 0),
        1 => (Flags::RST | Flags::ACK, outside, nxt),
        2 => (Flags::SYN, if rng.bool() { in_window } else { outside }, 0),
        3 => (Flags::SYN | Flags::ACK, in_window, nxt),
        4 => (Flags::ACK | Flags::PSH, in_window, bad_ack),
        5 => (Flags::FIN | Flags::ACK, in_window, bad_ack),
        6 => (Flags::NONE, in_window, 0),
        _ => (Flags::ACK | Flags::FIN, outside, nxt),
    };
    Some(finish(rng, (local, peer), (flags, seq, ack)))
}

fn finish(rng: &mut Rng, (local, peer): (SocketAddr, SocketAddr), (flags, seq, ack): (Flags, u32, u32)) -> Vec<u8> {
    if rng.u8(..10) == 0 {
        let quoted = packet::tcp(&segment((local, peer), (Flags::ACK, rng.u32(..), 0), Vec::new()));
        let kinds = [Icmp::PortUnreachable, Icmp::HostUnreachable, Icmp::TimeExceeded];
        return packet::icmp_error(peer.ip(), local.ip(), kinds[rng.usize(..kinds.len())], &quoted);
    }
    let payload = if flags.contains(Flags::RST) { Vec::new() } else { vec![0xEE; rng.usize(..200)] };
    packet::tcp(&segment((peer, local), (flags, seq, ack), payload))
}

fn segment((src, dst): (SocketAddr, SocketAddr), (flags, seq, ack): (Flags, u32, u32), payload: Vec<u8>) -> Tcp {
    Tcp { src, dst, seq, ack, flags, wnd: 1000, urgent: 0, options: Vec::new(), payload, bad_checksum: false }
}

/// Changes a genuine segment behind its addresses: ports seldom, numbers, flags, window, options, text. Its checksum is right.
pub fn mangle(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let Some((tcp, text)) = packet::parts(bytes) else { return };
    for _ in 0..rng.usize(1..=3) {
        match rng.u8(..8) {
            0 => bytes[tcp + rng.usize(..4)] ^= 1 << rng.u8(..8),
            1 | 2 => {
                let field = tcp + 4 + 4 * rng.usize(..2);
                let old = u32::from_be_bytes(bytes[field..field + 4].try_into().unwrap());
                let by = 1 << rng.u32(..32);
                let new = if rng.bool() { old.wrapping_add(by) } else { old.wrapping_sub(by) };
                bytes[field..field + 4].copy_from_slice(&new.to_be_bytes());
            }
            3 => bytes[tcp + 13] ^= 1 << rng.u8(..8),
            4 => bytes[tcp + 14..tcp + 16].copy_from_slice(&rng.u16(..).to_be_bytes()),
            5 if text > tcp + 20 => bytes[rng.usize(tcp + 20..text)] = rng.u8(..),
            6 if bytes.len() > text => bytes.truncate(rng.usize(text..bytes.len())),
            _ if bytes.len() > text => {
                let index = rng.usize(text..bytes.len());
                bytes[index] ^= rng.u8(1..);
            }
            _ => {}
        }
    }
    packet::repair(bytes);
}
