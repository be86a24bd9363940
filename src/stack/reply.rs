//! Packets that belong to no connection: resets (RFC 9293 §3.10.7.1) and echo replies (RFC 1122 §3.2.2.6, RFC 4443 §4.2).
//!
//! Owns a bounded queue and the limit on resets a second. Filled by `input`, emptied by `output`.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::{Flags, FourTuple, Header, IpInfo, Options, Segment, Seq};

/// Replies that may wait.
const CAPACITY: usize = 256;
/// Echo replies among them: they carry data.
const MAX_ECHOES: usize = 16;

/// One reply.
pub(super) enum Reply {
    /// A RST.
    Reset(Header),
    /// The answer to an echo request.
    Echo {
        /// The request's IP header.
        ip: IpInfo,
        /// Identifier, sequence number and data.
        rest: Vec<u8>,
    },
}

impl Reply {
    /// Who gets it.
    pub(super) fn destination(&self) -> IpAddr {
        match self {
            Reply::Reset(header) => header.remote.ip(),
            Reply::Echo { ip, .. } => ip.src,
        }
    }
}

/// See the module.
pub(super) struct Replies {
    queue: VecDeque<Reply>,
    echoes: usize,
    /// Buffers of answered echo requests, their capacity kept.
    spare: Vec<Vec<u8>>,
    per_second: u32,
    second: Instant,
    resets: u32,
}

impl Replies {
    /// `per_second` resets at most.
    pub(super) fn new(per_second: u32) -> Replies {
        Replies { queue: VecDeque::new(), echoes: 0, spare: Vec::new(), per_second, second: Instant::ZERO, resets: 0 }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues a RST, unless the limit of this second is spent. `limited`: packets off a device are, our own are not (nobody
    /// can forge those, and a thousand refused connects a second must not wait for retransmissions).
    ///
    /// # Errors
    /// `QueueFull`.
    pub(super) fn push_reset(&mut self, now: Instant, header: Header, limited: bool) -> Result<(), DropReason> {
        if limited {
            if now.since(self.second) >= Duration::from_secs(1) {
                self.second = now;
                self.resets = 0;
            }
            if self.resets >= self.per_second {
                return Err(DropReason::QueueFull);
            }
        }
        if self.queue.len() >= CAPACITY {
            return Err(DropReason::QueueFull);
        }
        self.resets += u32::from(limited);
        self.queue.push_back(Reply::Reset(header));
        Ok(())
    }

    /// Queues the answer to an echo request.
    ///
    /// # Errors
    /// `QueueFull`.
    pub(super) fn push_echo(&mut self, ip: IpInfo, rest: &[u8]) -> Result<(), DropReason> {
        if self.queue.len() >= CAPACITY || self.echoes >= MAX_ECHOES {
            return Err(DropReason::QueueFull);
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.extend_from_slice(rest);
        self.echoes += 1;
        self.queue.push_back(Reply::Echo { ip, rest: buffer });
        Ok(())
    }

    /// The oldest reply.
    pub(super) fn pop(&mut self) -> Option<Reply> {
        self.pop_first(|_| true)
    }

    /// The oldest reply to a destination that `fits`.
    pub(super) fn pop_first(&mut self, fits: impl Fn(IpAddr) -> bool) -> Option<Reply> {
        let at = self.queue.iter().position(|reply| fits(reply.destination()))?;
        let reply = self.queue.remove(at);
        if let Some(Reply::Echo { .. }) = reply {
            self.echoes -= 1;
        }
        reply
    }

    /// Keeps the buffer of an echo reply.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.spare.push(buffer);
    }
}

/// The RST that answers `seg`; `None` if nothing may answer it.
pub(super) fn reset_for(tuple: &FourTuple, seg: &Segment<'_>, hop_limit: u8) -> Option<Header> {
    // RFC 9293 §3.10.7.1: "An incoming segment containing a RST is discarded."
    if seg.has(Flags::RST) {
        return None;
    }
    // Ibid.: with ACK <SEQ=SEG.ACK><CTL=RST>, else <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>.
    let (seq, ack, flags) = if seg.has(Flags::ACK) {
        (seg.ack, Seq::default(), Flags::RST)
    } else {
        (Seq::default(), seg.end(), Flags::RST | Flags::ACK)
    };
    Some(Header {
        local: tuple.local,
        remote: tuple.remote,
        hop_limit,
        traffic_class: 0,
        seq,
        ack,
        flags,
        wnd: 0,
        options: Options::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple() -> FourTuple {
        FourTuple { local: "10.0.0.1:80".parse().expect("literal"), remote: "10.0.0.2:9".parse().expect("literal") }
    }

    fn segment(flags: Flags, payload: &[u8]) -> Segment<'_> {
        Segment { seq: Seq::new(u32::MAX), ack: Seq::new(77), flags, payload, ..Segment::default() }
    }

    #[test]
    fn resets_as_the_rfc_lists_them() {
        let answer = |flags, payload: &'static [u8]| {
            reset_for(&tuple(), &segment(flags, payload), 64).map(|header| (header.seq, header.ack, header.flags))
        };
        let (rst, rst_ack) = (Flags::RST, Flags::RST | Flags::ACK);
        assert_eq!(answer(Flags::RST, b""), None);
        assert_eq!(answer(Flags::RST | Flags::ACK, b""), None);
        assert_eq!(answer(Flags::ACK, b"abc"), Some((Seq::new(77), Seq::new(0), rst)));
        assert_eq!(answer(Flags::SYN | Flags::ACK, b""), Some((Seq::new(77), Seq::new(0), rst)));
        assert_eq!(answer(Flags::SYN, b""), Some((Seq::new(0), Seq::new(0), rst_ack)));
        assert_eq!(answer(Flags::SYN | Flags::FIN, b"abc"), Some((Seq::new(0), Seq::new(4), rst_ack)));
        assert_eq!(answer(Flags::NONE, b"ab"), Some((Seq::new(0), Seq::new(1), rst_ack)));
    }

    #[test]
    fn resets_are_limited_per_second_but_not_our_own() {
        let header = reset_for(&tuple(), &segment(Flags::ACK, b""), 64).expect("answered");
        let mut replies = Replies::new(3);
        let sent = |replies: &mut Replies, millis, limited| {
            let pushed = replies.push_reset(Instant::from_millis(millis), header, limited).is_ok();
            replies.pop();
            pushed
        };
        let burst: Vec<bool> = (0..5).map(|n| sent(&mut replies, 1_000 + n, true)).collect();
        assert_eq!(burst, [true, true, true, false, false]);
        assert!(sent(&mut replies, 1_500, false));
        assert!(!sent(&mut replies, 1_999, true));
        assert!(sent(&mut replies, 2_000, true));
    }

    #[test]
    fn both_queues_are_bounded() {
        let header = reset_for(&tuple(), &segment(Flags::ACK, b""), 64).expect("answered");
        let ip = IpInfo { src: tuple().remote.ip(), dst: tuple().local.ip(), hop_limit: 64, traffic_class: 0 };
        let mut replies = Replies::new(u32::MAX);
        let echoes = (0..100).filter(|_| replies.push_echo(ip, b"data").is_ok()).count();
        let resets = (0..1_000).filter(|_| replies.push_reset(Instant::ZERO, header, true).is_ok()).count();
        assert_eq!((echoes, resets), (MAX_ECHOES, CAPACITY - MAX_ECHOES));
        while let Some(reply) = replies.pop() {
            if let Reply::Echo { rest, .. } = reply {
                replies.recycle(rest);
            }
        }
        assert!(replies.is_empty() && replies.push_echo(ip, b"x").is_ok());
    }
}
