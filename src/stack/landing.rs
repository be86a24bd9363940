//! Receiving straight into the buffer: the text of the packet that is expected next lands in the receive ring of the
//! connection it is expected for, and is not copied there.
//!
//! Owns the guess and nothing else. Nothing is believed because it was guessed: what arrives is parsed and checked as any
//! packet; if it is not the segment at RCV.NXT to the last bit, its bytes are gathered again and take the usual way. A
//! wrong guess costs that copy and leaves bytes in the free region of a ring, where nobody reads; bytes that wait there out
//! of order are safe because such a connection is not guessed (`tcb`). Called by the reactor.

use std::time::Duration;

use super::Engine;
use super::demux::Key;
use crate::pipe::ConnId;
use crate::time::Instant;
use crate::wire::{Offload, Segment, parse_landed};

/// Less text in one packet is not worth a guess, and tells nothing about the next one.
const LARGE: u32 = 8 << 10;
/// Large segments of one connection in a row that make it the expected one: one wrong guess in three is the worst case.
const ROW: u32 = 2;
/// How long a guess holds. Much shorter than what it takes an idle connection to give back the pages of its ring.
const FRESH: Duration = Duration::from_millis(100);

/// No IP packet is longer.
const LARGEST_PACKET: usize = 65_535;

/// Whose segment is expected next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prediction {
    conn: Option<ConnId>,
    row: u32,
    /// When the last segment of the row came, and how much text it had.
    at: Instant,
    text: u32,
    /// [`LARGE`] and [`ROW`], but for tests.
    large: u32,
    wanted: u32,
}

impl Default for Prediction {
    fn default() -> Self {
        Prediction { conn: None, row: 0, at: Instant::ZERO, text: 0, large: LARGE, wanted: ROW }
    }
}

impl Prediction {
    /// A segment came off the device for a connection.
    pub(super) fn on_segment(&mut self, now: Instant, id: ConnId, seg: &Segment<'_>) {
        if seg.text_len() < self.large {
            return;
        }
        self.row = if self.conn == Some(id) { self.row.saturating_add(1) } else { 1 };
        self.conn = Some(id);
        self.at = now;
        self.text = seg.text_len();
    }

    fn forget(&mut self) {
        self.conn = None;
        self.row = 0;
    }
}

/// How one packet is received: headers at the beginning of the inbox, the first text behind them in a ring, what is
/// left in the inbox again, where it would have been without the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landing {
    slot: u32,
    header_len: usize,
    room: usize,
}

impl Engine {
    /// How the next packet is to be received, if not into the inbox: with [`Engine::landing_slices`], then
    /// [`Engine::receive_landed`], and nothing else in between.
    #[inline]
    pub fn landing(&mut self, now: Instant) -> Option<Landing> {
        let Prediction { row, at, wanted, .. } = self.prediction;
        if row < wanted || now.since(at) > FRESH { None } else { self.prepare_landing() }
    }

    fn prepare_landing(&mut self) -> Option<Landing> {
        let slot = self.conns.slot_of(self.prediction.conn?)?;
        let (header_len, room) = self.conns.get_mut(slot)?.tcb.prepare_landing(LARGEST_PACKET);
        // What comes next is probably as long as what came last; cut in two it had to be gathered again.
        let is_enough = room > 0 && room >= usize::try_from(self.prediction.text).unwrap_or(usize::MAX);
        is_enough.then_some(Landing { slot, header_len, room })
    }

    /// The slices for one packet, in this order. `inbox` has room for the largest.
    pub fn landing_slices<'a>(&'a mut self, landing: Landing, inbox: &'a mut [u8]) -> [&'a mut [u8]; 4] {
        let Landing { slot, header_len, room } = landing;
        let [first, second] = self.conns.get_mut(slot).map(|conn| conn.tcb.landing(room)).unwrap_or_default();
        let (header, rest) = inbox.split_at_mut(header_len.min(inbox.len()));
        [header, first, second, rest.get_mut(room..).unwrap_or_default()]
    }

    /// A packet arrives that was received as `landing` says; otherwise as [`Engine::receive`].
    pub fn receive_landed(
        &mut self,
        now: Instant,
        landing: Landing,
        inbox: &mut [u8],
        (len, offload): (usize, Offload),
    ) {
        let Landing { slot, header_len, room } = landing;
        let text = len.saturating_sub(header_len);
        if text > 0 {
            let header = inbox.get(..header_len).unwrap_or_default();
            if text <= room && self.take_landed(now, slot, header, (text, offload)) {
                return;
            }
            self.recall(slot, inbox.get_mut(header_len..header_len + text.min(room)).unwrap_or_default());
        }
        self.receive(now, inbox.get(..len).unwrap_or_default(), offload);
    }

    /// Whether the packet was the expected one; then it has been processed.
    fn take_landed(&mut self, now: Instant, slot: u32, header: &[u8], (len, offload): (usize, Offload)) -> bool {
        let Some((conn, mut cx)) = self.at(now, slot) else { return false };
        let Some((tuple, seg)) = parse_landed(header, conn.tcb.landing(len).map(|part| &*part), offload) else {
            return false;
        };
        if Key::new(&tuple) != conn.key || !conn.tcb.expects(&seg) {
            return false;
        }
        let (id, verdict) = (conn.id(slot), conn.tcb.on_segment(&mut cx, &seg));
        self.prediction.on_segment(now, id, &seg);
        self.count_in(header.len() + len);
        self.stats.landed += 1;
        self.on_verdict(now, slot, verdict, (&tuple, &seg));
        true
    }

    /// The guess was wrong: what landed is copied to where it would have been.
    fn recall(&mut self, slot: u32, to: &mut [u8]) {
        self.prediction.forget();
        self.stats.recalled += 1;
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let mut rest = to;
        for part in conn.tcb.landing(rest.len()) {
            let (here, after) = rest.split_at_mut(part.len().min(rest.len()));
            here.copy_from_slice(part);
            rest = after;
        }
    }

    /// From which length of text, and after how many such segments, the next one is expected; for tests and simulations.
    #[cfg(any(test, feature = "internals"))]
    #[doc(hidden)]
    pub fn set_landing(&mut self, large: u32, row: u32) {
        self.prediction = Prediction { large, wanted: row, ..Prediction::default() };
    }
}
