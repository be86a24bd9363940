//! Counters: one for every way a packet can die, and a few for what lives.

use std::fmt;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// Why a packet was dropped. Every dropped packet is counted under exactly one reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum DropReason { $($(#[$doc])* $name,)* }

        impl DropReason {
            /// All reasons.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)*];

            /// The reason in words.
            pub const fn text(self) -> &'static str {
                match self { $(DropReason::$name => $text,)* }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than its headers say, or than any header.
    Truncated => "truncated",
    /// Neither IPv4 nor IPv6.
    IpVersion => "unknown IP version",
    /// An IP header field contradicts another (IHL, total length, extension headers).
    IpHeader => "malformed IP header",
    /// IPv4 header checksum.
    IpChecksum => "bad IP checksum",
    /// Any fragment, atomic ones included (reliability.md A24).
    Fragment => "fragment",
    /// An upper layer other than TCP and ICMP.
    Protocol => "unhandled protocol",
    /// TCP header shorter or longer than the packet allows.
    TcpHeader => "malformed TCP header",
    /// TCP checksum.
    TcpChecksum => "bad TCP checksum",
    /// An option of impossible length.
    TcpOptions => "malformed TCP options",
    /// ICMP header or quoted packet.
    IcmpHeader => "malformed ICMP",
    /// ICMP checksum.
    IcmpChecksum => "bad ICMP checksum",
    /// A source no host may have: unspecified, loopback off the link, multicast, broadcast.
    BadSource => "impossible source address",
    /// Not one of our addresses.
    NotForUs => "destination is not ours",
    /// No connection and no listener; answered by RST where RFC 9293 says so.
    NoSocket => "no socket",
    /// Outside the receive window.
    OutOfWindow => "outside the window",
    /// Older than TS.Recent, or without timestamps once negotiated.
    Paws => "PAWS",
    /// An acknowledgment outside what RFC 5961 §5 allows.
    BadAck => "unacceptable ACK",
    /// A RST that is not exactly at RCV.NXT.
    BadRst => "unacceptable RST",
    /// A SYN in a synchronized state.
    BadSyn => "unexpected SYN",
    /// Nothing in the segment applies to the connection's state.
    BadState => "not acceptable in this state",
    /// The SYN queue is full.
    SynQueueFull => "SYN queue full",
    /// The accept queue is full.
    AcceptQueueFull => "accept queue full",
    /// A memory limit is spent.
    NoMemory => "memory limit",
    /// The bound on out-of-order ranges is spent.
    TooManyRanges => "too many out-of-order ranges",
    /// An ICMP error that quotes nothing we sent.
    IcmpStale => "ICMP error quotes nothing in flight",
    /// An ICMP type that needs no answer.
    IcmpIgnored => "ICMP ignored",
    /// A queue of replies or of the loopback is full.
    QueueFull => "queue full",
    /// A checksum position, segment size or header length beside the packet that contradicts the packet.
    Offload => "contradictory offload metadata",
    /// The device refused the packet.
    DeviceRefused => "device refused",
}

/// A snapshot of a stack's counters since it began.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    drops: [u64; DropReason::ALL.len()],
    /// IP packets received, dropped ones included.
    pub packets_in: u64,
    /// IP packets handed to the device (a large segment counts once).
    pub packets_out: u64,
    /// Bytes of IP packets received.
    pub bytes_in: u64,
    /// Bytes of IP packets handed to the device.
    pub bytes_out: u64,
    /// Segments retransmitted.
    pub retransmits: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// Tail loss probes sent (RFC 8985 §7).
    pub tail_probes: u64,
    /// RSTs sent.
    pub resets_out: u64,
    /// RSTs obeyed.
    pub resets_in: u64,
    /// Challenge ACKs sent (RFC 5961).
    pub challenge_acks: u64,
    /// Connections opened by us.
    pub active_opens: u64,
    /// Connections accepted.
    pub passive_opens: u64,
    /// Turns of the reactor.
    pub turns: u64,
    /// Device reads.
    pub device_reads: u64,
    /// Segments whose text the device wrote straight into the receive buffer.
    pub landed: u64,
    /// Packets that were received into a buffer they did not belong to, and copied from there.
    pub recalled: u64,
    /// Device writes.
    pub device_writes: u64,
    /// User wake-ups.
    pub wakes: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            drops: [0; DropReason::ALL.len()],
            packets_in: 0,
            packets_out: 0,
            bytes_in: 0,
            bytes_out: 0,
            retransmits: 0,
            timeouts: 0,
            tail_probes: 0,
            resets_out: 0,
            resets_in: 0,
            challenge_acks: 0,
            active_opens: 0,
            passive_opens: 0,
            turns: 0,
            device_reads: 0,
            landed: 0,
            recalled: 0,
            device_writes: 0,
            wakes: 0,
        }
    }
}

impl Stats {
    /// Counts one dropped packet.
    pub(crate) fn drop_packet(&mut self, reason: DropReason) {
        if let Some(counter) = self.drops.get_mut(reason as usize) {
            *counter += 1;
        }
    }

    /// Packets dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }

    /// Packets dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Stats");
        out.field("packets_in", &self.packets_in)
            .field("packets_out", &self.packets_out)
            .field("bytes_in", &self.bytes_in)
            .field("bytes_out", &self.bytes_out)
            .field("retransmits", &self.retransmits)
            .field("timeouts", &self.timeouts)
            .field("tail_probes", &self.tail_probes)
            .field("resets_out", &self.resets_out)
            .field("resets_in", &self.resets_in)
            .field("challenge_acks", &self.challenge_acks)
            .field("active_opens", &self.active_opens)
            .field("passive_opens", &self.passive_opens)
            .field("turns", &self.turns)
            .field("device_reads", &self.device_reads)
            .field("landed", &self.landed)
            .field("recalled", &self.recalled)
            .field("device_writes", &self.device_writes)
            .field("wakes", &self.wakes);
        for &reason in DropReason::ALL.iter().filter(|&&reason| self.dropped(reason) > 0) {
            out.field(reason.text(), &self.dropped(reason));
        }
        out.finish()
    }
}
