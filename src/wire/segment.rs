//! The values that cross between `wire` and the core: [`Segment`] and its parts.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::{BitOr, BitOrAssign};

use super::Seq;

/// TCP control bits (RFC 9293 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Flags(u8);

impl Flags {
    /// No bit set.
    pub const NONE: Flags = Flags(0);
    /// No more data from sender.
    pub const FIN: Flags = Flags(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Flags = Flags(0x02);
    /// Reset the connection.
    pub const RST: Flags = Flags(0x04);
    /// Push function.
    pub const PSH: Flags = Flags(0x08);
    /// Acknowledgment field is significant.
    pub const ACK: Flags = Flags(0x10);
    /// Urgent pointer field is significant; ignored (RFC 6093), see ARCHITECTURE.md.
    pub const URG: Flags = Flags(0x20);
    /// ECN-Echo.
    pub const ECE: Flags = Flags(0x40);
    /// Congestion window reduced.
    pub const CWR: Flags = Flags(0x80);

    /// The eight bits as they stand in the header.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From the eight bits of the header.
    pub const fn from_bits(bits: u8) -> Flags {
        Flags(bits)
    }

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    /// Without the bits of `other`.
    #[must_use]
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

impl BitOr for Flags {
    type Output = Flags;
    fn bitor(self, rhs: Flags) -> Flags {
        Flags(self.0 | rhs.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, rhs: Flags) {
        self.0 |= rhs.0;
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [char; 8] = ['F', 'S', 'R', 'P', '.', 'U', 'E', 'W'];
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{name}")?;
            }
        }
        if self.0 == 0 { f.write_str("-") } else { Ok(()) }
    }
}

/// The timestamps option (RFC 7323 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub val: u32,
    /// TSecr: the echoed clock of the receiver.
    pub ecr: u32,
}

/// One SACK block `[left, right)` (RFC 2018 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SackBlock {
    /// First byte received.
    pub left: Seq,
    /// First byte after the block.
    pub right: Seq,
}

/// At most four SACK blocks: what 40 bytes of options can carry.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct SackBlocks {
    blocks: [SackBlock; 4],
    len: u8,
}

impl SackBlocks {
    /// No block.
    pub const EMPTY: SackBlocks =
        SackBlocks { blocks: [SackBlock { left: Seq::new(0), right: Seq::new(0) }; 4], len: 0 };

    /// Appends a block; ignored when four are there.
    pub fn push(&mut self, block: SackBlock) {
        if let Some(slot) = self.blocks.get_mut(usize::from(self.len)) {
            *slot = block;
            self.len += 1;
        }
    }

    /// The blocks, in the order of the option.
    pub fn as_slice(&self) -> &[SackBlock] {
        self.blocks.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Keeps the first `len` blocks.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u8::try_from(len).unwrap_or(u8::MAX));
        // Equality is derived: what is not a block must be zero.
        self.blocks.iter_mut().skip(len).for_each(|block| *block = SackBlock::default());
    }

    /// Whether there is no block.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice().iter().map(|b| (b.left, b.right))).finish()
    }
}

/// The options this stack knows. Unknown ones are skipped, the first of duplicates counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// Maximum segment size, as sent (RFC 9293 §3.7.1); only on SYN.
    pub mss: Option<u16>,
    /// Window scale shift, at most 14 after parsing (RFC 7323 §2.3); only on SYN.
    pub window_scale: Option<u8>,
    /// SACK permitted (RFC 2018 §2); only on SYN.
    pub sack_permitted: bool,
    /// SACK blocks.
    pub sack: SackBlocks,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
}

/// One TCP segment: header fields in host order, payload borrowed.
///
/// The payload may be larger than the MSS (segmentation offload).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Segment<'a> {
    /// SEG.SEQ
    pub seq: Seq,
    /// SEG.ACK; significant only with [`Flags::ACK`].
    pub ack: Seq,
    /// Control bits.
    pub flags: Flags,
    /// SEG.WND as on the wire, not scaled.
    pub wnd: u16,
    /// Options.
    pub options: Options,
    /// Segment text.
    pub payload: &'a [u8],
    /// Octets of text that lie in the receive ring already, at RCV.NXT; then there is no payload here.
    pub landed: u32,
}

impl Segment<'_> {
    /// SEG.LEN: octets of sequence space, SYN and FIN included (RFC 9293 §3.3.1).
    pub fn len(&self) -> u32 {
        let control = u32::from(self.flags.contains(Flags::SYN)) + u32::from(self.flags.contains(Flags::FIN));
        self.text_len().saturating_add(control)
    }

    /// Whether the segment occupies no sequence space.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets of text.
    pub fn text_len(&self) -> u32 {
        u32::try_from(self.payload.len()).unwrap_or(u32::MAX).saturating_add(self.landed)
    }

    /// First sequence number after the segment.
    pub fn end(&self) -> Seq {
        self.seq + self.len()
    }

    /// Whether every bit of `flags` is set.
    pub const fn has(&self, flags: Flags) -> bool {
        self.flags.contains(flags)
    }
}

/// What a segment must be sent with: everything but the payload bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// IPv4 TTL or IPv6 hop limit.
    pub hop_limit: u8,
    /// IPv4 TOS or IPv6 traffic class.
    pub traffic_class: u8,
    /// SEG.SEQ
    pub seq: Seq,
    /// SEG.ACK; zero without [`Flags::ACK`].
    pub ack: Seq,
    /// Control bits.
    pub flags: Flags,
    /// SEG.WND as on the wire.
    pub wnd: u16,
    /// Options.
    pub options: Options,
}

/// The two ends of a connection as seen from here; the demux key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FourTuple {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
}

/// Version-independent facts of the IP header that carried a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpInfo {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// TOS or traffic class (ECN in the low two bits).
    pub traffic_class: u8,
}
