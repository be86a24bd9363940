//! The receive sequence space (RFC 9293 §3.3.1), the promise to the peer, and the ACKs we owe.
//!
//! ```text
//!            1              2               3
//!       ──────────┼───────────────────┼──────────
//!              RCV.NXT             RCV.ADV        (RCV.WND = RCV.ADV − RCV.NXT)
//! ```

use super::assembler::Assembler;
use crate::time::Instant;
use crate::wire::Seq;

/// First promise of a connection in bytes: address space only, its pages are taken from the stack's budget as text
/// arrives. Each further byte of promise is taken first (design.md §3).
const FIRST_PROMISE: usize = 64 << 10;

/// The first promise of a connection with a receive buffer of `capacity` bytes: no more than what a lone connection can
/// always be given of the stack's `memory_budget`.
pub fn first_promise(capacity: usize, memory_budget: u64) -> usize {
    let affordable = usize::try_from(memory_budget / 4).unwrap_or(usize::MAX).max(1);
    capacity.min(FIRST_PROMISE).min(affordable)
}

/// Most duplicate ACKs owed at a time: what one turn of 64 packets can ask for.
const MAX_OWED: u16 = 64;

/// Receive variables.
#[derive(Debug)]
pub struct RecvSpace {
    /// Next sequence number expected.
    pub nxt: Seq,
    /// The right edge told to the peer. Never moves left; at most `nxt` + free part of the ring.
    pub adv: Seq,
    /// Initial receive sequence number.
    pub irs: Seq,
    /// Last.ACK.sent (RFC 7323 §4.3).
    pub acked: Seq,
    /// Scale of our windows.
    pub wscale: u8,
    /// Ranges beyond `nxt` that are in the ring already.
    pub assembler: Assembler,
    /// Where the peer's FIN stands; fixed at first sight.
    pub fin: Option<Seq>,
    /// Largest text seen in one packet: what "full-sized" means for delayed ACKs (Linux's `rcv_mss`).
    pub mss: u16,
    /// In-order bytes since our last ACK.
    pub unacked: u32,
    /// Bytes of the ring we may promise (unread bytes included); grows by auto-tuning.
    pub granted: usize,
    /// Start of the measured period and bytes received in it.
    pub measured: (Instant, usize),
}

impl RecvSpace {
    /// The SYNs are exchanged; ours offered `wnd` bytes.
    pub fn new(irs: Seq, wnd: u16, wscale: u8, granted: usize, now: Instant) -> RecvSpace {
        let nxt = irs + 1;
        RecvSpace {
            nxt,
            adv: nxt + u32::from(wnd),
            irs,
            acked: nxt,
            wscale,
            assembler: Assembler::default(),
            fin: None,
            mss: 0,
            unacked: 0,
            granted,
            measured: (now, 0),
        }
    }

    /// RCV.WND: the promise that still stands, in bytes.
    pub fn wnd(&self) -> u32 {
        self.adv.saturating_offset_from(self.nxt)
    }
}

/// The room for a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Free bytes of the ring, counted from RCV.NXT.
    pub free: usize,
    /// Most we would like to promise, counted from RCV.NXT.
    pub wanted: usize,
    /// Receive buffer in bytes.
    pub capacity: usize,
    /// Eff.rcv.MSS.
    pub mss: u16,
}

/// Chooses the right edge, as bytes from RCV.NXT, that the next segment tells the peer, and the window field.
/// `promised` is RCV.WND. Pure: scaling, silly-window avoidance and budgets meet here and nowhere else.
pub fn choose_window(promised: u32, room: Room, wscale: u8) -> (u32, u16) {
    let free = u32::try_from(room.free).unwrap_or(u32::MAX);
    let wanted = u32::try_from(room.wanted).unwrap_or(u32::MAX).min(free);
    // RFC 9293 §3.8.6.2.2 (MUST-39): the edge moves only by min(half the buffer, one MSS) or more.
    let half = u32::try_from(room.capacity / 2).unwrap_or(u32::MAX);
    let step = half.min(u32::from(room.mss)).max(1);
    let edge = if wanted >= promised.saturating_add(step) { wanted } else { promised };
    // RFC 7323 §2.4: rounding down would retract the window; round up where the ring has room for it. Where it has
    // not, the field understates the edge by less than one unit and bytes up to the edge are still taken.
    let unit = 1u32 << wscale;
    let up = edge.div_ceil(unit).saturating_mul(unit);
    let told = if up <= free { up } else { edge / unit * unit };
    let field = u16::try_from(told >> wscale).unwrap_or(u16::MAX);
    let told = u32::from(field) << wscale;
    (told.max(promised), field)
}

/// The scale for a receive buffer: the smallest that lets the window field express it (RFC 7323 §2.3: at most 14).
pub fn window_scale(capacity: usize) -> u8 {
    (0..14).find(|shift| capacity >> shift <= usize::from(u16::MAX)).unwrap_or(14)
}

/// ACKs we owe. In-order segments share one; every other segment that must be answered owes its own, with the
/// acknowledgment number of its arrival (RFC 5681 §4.2; design.md §3 "ACKs are owed, not flagged").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwedAcks {
    earlier: (Seq, u16),
    current: (Seq, u16),
    shared: bool,
    lingers: bool,
}

impl OwedAcks {
    /// One ACK of its own, at `nxt`.
    pub fn owe(&mut self, nxt: Seq) {
        if self.current.0 != nxt {
            // A gap was filled in the same turn: the duplicates before it keep their number. More than two levels
            // are reordering within one turn, which nobody needs to hear about.
            if self.current.1 > 0 {
                self.earlier = self.current;
            }
            self.current = (nxt, 0);
        }
        self.current.1 = (self.current.1 + 1).min(MAX_OWED);
    }

    /// The one ACK that all in-order segments of a turn share.
    pub fn owe_shared(&mut self) {
        self.shared = true;
    }

    /// An ACK that the owner's answer may carry: it waits until the owner has had one pass of the runtime, no longer.
    /// RFC 9293 §3.8.6.3 allows half a second; Linux has up to 40 ms here (`tcp_rcv_synsent_state_process`: "Save one
    /// ACK. Data will be ready"; `tcp_fin` enters pingpong mode) and for text whose window the owner must open.
    pub fn owe_after_owner(&mut self) {
        self.lingers = true;
    }

    /// Whether such an ACK waits.
    pub fn is_lingering(&self) -> bool {
        self.lingers
    }

    /// The owner has had its pass.
    pub fn stop_lingering(&mut self) {
        self.shared |= std::mem::take(&mut self.lingers);
    }

    /// Whether a pure ACK must be sent.
    pub fn is_empty(&self) -> bool {
        !self.shared && !self.has_duplicates()
    }

    /// Whether duplicates must be sent: before any data, since data does not count as one.
    pub fn has_duplicates(&self) -> bool {
        self.earlier.1 > 0 || self.current.1 > 0
    }

    /// Whether an ACK for segments in order is owed, now or after the owner, and none of its own at `nxt`.
    pub fn is_only_shared(&self, nxt: Seq) -> bool {
        (self.shared || self.lingers) && (self.current.0 != nxt || self.current.1 == 0)
    }

    /// Takes the next duplicate: the acknowledgment number it carries. Never later than `nxt`.
    pub fn take_duplicate(&mut self, nxt: Seq) -> Option<Seq> {
        let slot = if self.earlier.1 > 0 { &mut self.earlier } else { &mut self.current };
        slot.1 = slot.1.checked_sub(1)?;
        Some(slot.0.min(nxt))
    }

    /// A segment with the newest acknowledgment number went out.
    pub fn on_ack_sent(&mut self) {
        self.shared = false;
        self.lingers = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_never_moves_left_and_never_beyond_the_ring() {
        let mut seed = 0x9e37_79b9_u32;
        let mut next = |bound: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % bound
        };
        for case in 0..50_000 {
            let wscale = u8::try_from(next(15)).unwrap();
            let capacity = next(4 << 20) + 1;
            let free = next(capacity + 1);
            let promised = next(free + 1);
            let wanted = next(free + 1);
            let room = Room { free: free as usize, wanted: wanted as usize, capacity: capacity as usize, mss: 1460 };
            let (edge, field) = choose_window(promised, room, wscale);
            assert!(edge >= promised, "case {case}: {edge} < {promised}");
            assert!(edge <= free, "case {case}: {edge} > {free} ({promised} {wanted} {wscale})");
            assert!(u32::from(field) << wscale <= edge, "case {case}");
        }
    }

    #[test]
    fn silly_windows_are_not_offered() {
        let room = |free, wanted| Room { free, wanted, capacity: 65_536, mss: 1460 };
        assert_eq!(choose_window(0, room(1459, 1459), 0), (0, 0));
        assert_eq!(choose_window(0, room(1460, 1460), 0), (1460, 1460));
        assert_eq!(choose_window(1000, room(65_536, 2000), 0), (1000, 1000));
        assert_eq!(choose_window(0, Room { free: 50, wanted: 50, capacity: 100, mss: 1460 }, 0), (50, 50));
    }

    #[test]
    fn scale_is_the_smallest_that_fits() {
        assert_eq!([1, 65_535, 65_536, 1 << 20, 4 << 20, usize::MAX].map(window_scale), [0, 0, 1, 5, 7, 14]);
    }

    #[test]
    fn ten_segments_behind_one_hole_owe_ten_acks() {
        let mut owed = OwedAcks::default();
        let nxt = Seq::new(7);
        (0..10).for_each(|_| owed.owe(nxt));
        let mut taken = 0;
        while owed.take_duplicate(nxt).is_some() {
            taken += 1;
        }
        assert_eq!((taken, owed.is_empty()), (10, true));
    }

    #[test]
    fn duplicates_before_a_filled_gap_keep_their_number() {
        let mut owed = OwedAcks::default();
        owed.owe(Seq::new(7));
        owed.owe(Seq::new(9));
        let nxt = Seq::new(9);
        assert_eq!(owed.take_duplicate(nxt), Some(Seq::new(7)));
        assert_eq!(owed.take_duplicate(nxt), Some(Seq::new(9)));
        assert_eq!(owed.take_duplicate(nxt), None);
    }
}
