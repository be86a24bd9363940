//! What stands beside a packet when a device takes over part of the work.

use super::checksum::Sum;
use super::emit::put;

/// State of the transport checksum of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Out: computed and in place. In: unknown, must be verified.
    #[default]
    Complete,
    /// The field holds the pseudo-header sum only; whoever puts the packet on a wire adds the bytes from `start`
    /// and stores the result at `start + offset`. In: the packet never left this machine, nothing to verify.
    Partial {
        /// Where summing starts, in bytes from the first byte of the IP header.
        start: u16,
        /// Where the result goes, in bytes from `start`.
        offset: u16,
    },
    /// In only: the device has verified it.
    Verified,
}

/// Offload metadata of one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Transport checksum.
    pub checksum: Checksum,
    /// TCP payload bytes per packet if this is a large segment to be split; `None` for an ordinary packet.
    /// In: 0 contradicts every packet; so a device reports metadata that it could make no sense of.
    pub segment_size: Option<u16>,
    /// IP and TCP header bytes; only meaningful with `segment_size`.
    pub header_len: u16,
}

/// Completes a partial transport checksum in a copy of a packet (`pcap`, devices without offload).
/// Does nothing when the checksum is not partial or the offsets lie outside the packet.
pub fn complete_checksum(packet: &mut [u8], offload: Offload) {
    let Checksum::Partial { start, offset } = offload.checksum else { return };
    // The field holds the pseudo-header sum and is summed with the rest.
    let Some(covered) = packet.get_mut(usize::from(start)..) else { return };
    let checksum = Sum::default().add(covered).checksum();
    put(covered, usize::from(offset), &checksum.to_be_bytes());
}
