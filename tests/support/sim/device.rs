//! What devices with offloads do to packets: cut large segments, merge small ones (Linux: GSO, GRO). By hand, so that it is
//! independent of `wire::split`.

use usernet::internals::wire::{Checksum, Offload};

use crate::support::packet::{parts, repair, see};

/// A packet and what a device says about it.
pub type Packet = (Vec<u8>, Offload);

/// FIN and PSH: of a large segment only the last piece has them.
const LAST_ONLY: u8 = 0b1001;
const ACK: u8 = 0x10;

fn seq(packet: &[u8], tcp: usize) -> u32 {
    u32::from_be_bytes(packet[tcp + 4..tcp + 8].try_into().unwrap())
}

/// Cuts a large packet into segments of `size` bytes of text.
pub fn split(packet: &[u8], size: usize) -> Vec<Vec<u8>> {
    let (tcp, text) = parts(packet).expect("TCP");
    let count = (packet.len() - text).div_ceil(size).max(1);
    let piece = |index: usize| {
        let from = text + index * size;
        let mut out = packet[..text].to_vec();
        out.extend(&packet[from..packet.len().min(from + size)]);
        out[tcp + 4..tcp + 8].copy_from_slice(&seq(packet, tcp).wrapping_add((index * size) as u32).to_be_bytes());
        if index + 1 < count {
            out[tcp + 13] &= !LAST_ONLY;
        }
        repair(&mut out);
        out
    };
    (0..count).map(piece).collect()
}

/// Appends `next` to `last` if it is the next segment of the same kind; returns whether it was.
pub fn merge(last: &mut Packet, next: &Packet, checksum: Checksum) -> bool {
    let (first, next) = (&mut last.0, &next.0);
    let (Some((tcp, text)), Some((_, next_text))) = (parts(first), parts(next)) else { return false };
    let size = last.1.segment_size.map_or(first.len() - text, usize::from);
    let (have, more) = (first.len() - text, next.len() - next_text);
    let fits = have > 0 && have.is_multiple_of(size) && more > 0 && more <= size && first.len() + more <= 65_535;
    // A device leaves alone what is damaged.
    if !fits || text != next_text || see(first).is_err() || see(next).is_err() {
        return false;
    }
    // Addresses and ports, acknowledgment number, window, options.
    let addresses = if tcp == 20 { 12 } else { 8 };
    let same = [addresses..tcp + 4, tcp + 8..tcp + 12, tcp + 14..tcp + 16, tcp + 20..text];
    let is_same = same.into_iter().all(|part| first[part.clone()] == next[part]);
    let is_plain = first[tcp + 13] == ACK && next[tcp + 13] & !LAST_ONLY == ACK;
    if !is_same || !is_plain || seq(next, tcp) != seq(first, tcp).wrapping_add(have as u32) {
        return false;
    }
    first.extend(&next[next_text..]);
    first[tcp + 13] |= next[tcp + 13];
    repair(first);
    last.1 = Offload { segment_size: Some(size as u16), header_len: text as u16, checksum };
    true
}
