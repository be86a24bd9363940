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
/// Large segments of one connection in a row that mean that no other receives at present.
const ALONE: u32 = 16;
/// The best score. From [`LIKELY`] on the rule is right more often than wrong, and a guess saves more than it costs.
const SURE: u32 = 8;
const LIKELY: u32 = 4;
/// How long a guess holds. Much shorter than what it takes an idle connection to give back the pages of its ring.
const FRESH: Duration = Duration::from_millis(100);

/// No IP packet is longer.
const LARGEST_PACKET: usize = 65_535;

/// Whose segment is expected next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prediction {
    conn: Option<ConnId>,
    /// Who had the last large segment, and how many in a row.
    last: Option<ConnId>,
    row: u32,
    /// When the last large segment came, and how much text it had.
    at: Instant,
    text: u32,
    /// The longest text that senders make at present.
    longest: u32,
    /// How right the rule has been lately, guessed upon or not: 0 to [`SURE`].
    score: u32,
    /// [`LARGE`], but for tests.
    large: u32,
    /// For tests: whoever had the last text is expected, however wrong that has been.
    always: bool,
}

impl Default for Prediction {
    fn default() -> Self {
        Prediction {
            conn: None,
            last: None,
            row: 0,
            at: Instant::ZERO,
            text: 0,
            longest: 0,
            score: LIKELY,
            large: LARGE,
            always: false,
        }
    }
}

impl Prediction {
    /// A segment came off the device for a connection.
    pub(super) fn on_segment(&mut self, now: Instant, id: ConnId, seg: &Segment<'_>) {
        if seg.text_len() < self.large {
            return;
        }
        let text = seg.text_len();
        match self.conn {
            Some(expected) if expected == id => self.score = SURE.min(self.score + 1),
            Some(_) => self.score = self.score.saturating_sub(1),
            None => {}
        }
        if now.since(self.at) > FRESH {
            self.longest = 0;
        }
        self.row = if self.last == Some(id) { self.row.saturating_add(1) } else { 1 };
        self.last = Some(id);
        // A sender cuts what it has into segments as long as can be and a rest: after the rest it is another's turn.
        self.conn = (text >= self.longest || self.row >= ALONE || self.always).then_some(id);
        self.longest = text.max(self.longest - self.longest.saturating_sub(text).div_ceil(8));
        self.at = now;
        self.text = text;
    }

    /// What was received as if for the expected connection was something else, with `text` bytes behind the headers.
    fn on_wrong_guess(&mut self, text: usize) {
        self.conn = None;
        if text >= usize::try_from(self.large).unwrap_or(usize::MAX) {
            self.score = self.score.saturating_sub(1);
        }
    }

    /// Who is expected now, if a guess is likely to be right.
    fn guess(&self, now: Instant) -> Option<ConnId> {
        let is_likely = self.score >= LIKELY || self.always;
        self.conn.filter(|_| is_likely && now.since(self.at) <= FRESH)
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
        let expected = self.prediction.guess(now)?;
        self.prepare_landing(expected)
    }

    fn prepare_landing(&mut self, expected: ConnId) -> Option<Landing> {
        let slot = self.conns.slot_of(expected)?;
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
        self.prediction.on_wrong_guess(to.len());
        self.stats.recalled += 1;
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let mut rest = to;
        for part in conn.tcb.landing(rest.len()) {
            let (here, after) = rest.split_at_mut(part.len().min(rest.len()));
            here.copy_from_slice(part);
            rest = after;
        }
    }

    /// From which length of text on more is expected, and whether always; for tests and simulations.
    #[cfg(any(test, feature = "internals"))]
    #[doc(hidden)]
    pub fn set_landing(&mut self, large: u32, always: bool) {
        self.prediction = Prediction { large, always, ..Prediction::default() };
    }
}
