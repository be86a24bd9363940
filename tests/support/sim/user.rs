//! The program at one end of a connection, and the oracle for what it reads.

use std::io::IoSlice;
use std::time::Duration;

use fastrand::Rng;
use usernet::error::ConnError;
use usernet::internals::pipe::{Ready, TryError, UserEnd};

use super::plan::{Rude, UserPlan};
use crate::support::pattern;

/// One end and what has gone through it.
#[derive(Debug)]
pub struct User {
    pub plan: UserPlan,
    end: Option<UserEnd>,
    /// Stream numbers of what it writes and reads.
    writes: u8,
    reads: u8,
    to_write: u64,
    pub written: u64,
    pub read: u64,
    pub shut: bool,
    pub saw_eof: bool,
    pub error: Option<ConnError>,
    /// It left before the end, or was told to.
    pub gone: bool,
    /// Nothing is promised: only panics count.
    pub lenient: bool,
    /// Waits for readiness.
    parked: bool,
    idle: u32,
}

impl User {
    pub fn new(plan: UserPlan, streams: (u8, u8), to_write: u64) -> User {
        User {
            plan,
            end: None,
            writes: streams.0,
            reads: streams.1,
            to_write,
            written: 0,
            read: 0,
            shut: false,
            saw_eof: false,
            error: None,
            gone: false,
            lenient: false,
            parked: false,
            idle: 0,
        }
    }

    pub fn open(&mut self, end: UserEnd) {
        end.set_options(|options| {
            options.nodelay = self.plan.nodelay;
            options.keepalive = self.plan.keepalive;
            options.quickack = self.plan.quickack;
            options.user_timeout = self.plan.user_timeout;
            options.mss = self.plan.mss.or(options.mss);
            if self.plan.waits {
                options.keepalive_params.idle = Duration::from_secs(3);
                options.keepalive_params.interval = Duration::from_secs(1);
                options.keepalive_params.count = 10_000;
            }
        });
        self.end = Some(end);
    }

    pub fn end(&self) -> Option<&UserEnd> {
        self.end.as_ref()
    }

    pub fn is_open(&self) -> bool {
        self.end.is_some()
    }

    pub fn is_done(&self) -> bool {
        self.end.is_none() && (self.gone || self.saw_eof || self.error.is_some())
    }

    /// Leaves now; the engine has to tidy up.
    pub fn leave(&mut self) {
        self.gone = true;
        self.end = None;
    }

    /// Whether it waits and what it waits for has come; then it does not wait any more.
    pub fn wakes(&mut self, now: Duration) -> bool {
        let Some(end) = self.end.as_ref().filter(|_| self.parked) else { return false };
        let mut interest = Ready::EMPTY;
        if !self.shut {
            interest |= Ready::WRITE | Ready::ERROR;
        }
        if !self.saw_eof && end.is_established() && now >= self.plan.deaf_until {
            interest |= Ready::READ | Ready::ERROR;
        }
        let woken = !end.readiness().event(interest).ready.is_empty();
        self.parked = !woken;
        woken
    }

    /// It looks without having been told: time to be rude, or to listen.
    pub fn take_alarm(&mut self) -> bool {
        std::mem::take(&mut self.parked)
    }

    /// One go of the program. Returns when to call again. `peer` is what the other end has written and whether it shut.
    pub fn go(&mut self, rng: &mut Rng, now: Duration, peer: (u64, bool)) -> Option<Duration> {
        if let Some((_, how)) = self.plan.rude.take_if(|(at, _)| *at <= now) {
            self.be_rude(how);
        }
        let mut busy = self.write(rng);
        if now >= self.plan.deaf_until && self.error.is_none() {
            busy |= self.read(rng, peer);
        }
        let finished = self.saw_eof && self.shut;
        if finished || self.error.is_some() {
            self.end = None;
        }
        self.end.as_ref()?;
        if self.plan.waits && !busy {
            self.parked = true;
            return None;
        }
        self.idle = if busy { 0 } else { (self.idle + 1).min(12) };
        let most = self.plan.pace.as_micros() as u64 * (1 << self.idle);
        Some(Duration::from_micros(rng.u64(1..=most.clamp(1, 5_000_000))))
    }

    fn be_rude(&mut self, how: Rude) {
        let Some(end) = &self.end else {
            self.gone = true;
            return;
        };
        match how {
            Rude::ShutdownEarly => self.to_write = self.written,
            Rude::Drop => self.leave(),
            Rude::Abort => {
                end.abort();
                self.leave();
            }
            Rude::LingerZero => {
                end.set_options(|options| options.linger = Some(Duration::ZERO));
                self.leave();
            }
        }
    }

    fn write(&mut self, rng: &mut Rng) -> bool {
        let Some(end) = &self.end else { return false };
        let event = end.readiness().event(Ready::WRITABLE);
        if self.shut || !end.is_established() {
            if !end.is_established() && !end.is_over() {
                end.readiness().clear(event);
            }
            return self.check_failed();
        }
        if self.written == self.to_write {
            end.shutdown_write();
            self.shut = true;
            return true;
        }
        let most = (self.to_write - self.written).min(self.plan.chunk as u64) as usize;
        // Little more than what fits: bytes that are refused need not be made.
        let (_, send, _) = end.info();
        let most = most.min(send.capacity.saturating_sub(send.fill) + 100);
        let bytes = pattern::bytes(self.writes, self.written, rng.usize(1..=most));
        let cut = rng.usize(..=bytes.len());
        match end.try_write(&[IoSlice::new(&bytes[..cut]), IoSlice::new(&bytes[cut..])]) {
            Ok(n) => {
                assert!(n > 0 && n <= bytes.len(), "a write of {} bytes took {n}", bytes.len());
                self.written += n as u64;
                true
            }
            Err(TryError::WouldBlock) => {
                end.readiness().clear(event);
                false
            }
            Err(TryError::Failed(error)) => {
                self.error = Some(error);
                false
            }
        }
    }

    /// A connect that has failed tells by its error slot.
    fn check_failed(&mut self) -> bool {
        if let Some(end) = self.end.as_ref().filter(|end| !end.is_established() && end.is_over()) {
            self.error = end.take_error();
            assert!(self.error.is_some(), "a failed connect has no error");
        }
        false
    }

    fn read(&mut self, rng: &mut Rng, peer: (u64, bool)) -> bool {
        let Some(end) = &self.end else { return false };
        if !end.is_established() || self.saw_eof {
            return false;
        }
        let event = end.readiness().event(Ready::READ);
        let want = rng.usize(1..=self.plan.chunk);
        let mut got = Vec::new();
        let mut sink = |bytes: &[u8]| got.extend_from_slice(bytes);
        let result = if rng.u8(..8) == 0 {
            end.try_peek_with(want, &mut sink).map(|n| (n, false))
        } else {
            end.try_read_with(want, &mut sink).map(|n| (n, true))
        };
        if !self.lenient
            && let Some(at) = pattern::first_difference(self.reads, self.read, &got)
        {
            panic!("byte {at} is wrong");
        }
        match result {
            Ok((0, _)) if self.lenient => self.saw_eof = true,
            Ok((0, _)) => {
                assert!(peer.1, "EOF before the peer shut");
                assert_eq!(self.read, peer.0, "EOF before all bytes");
                assert!(event.ready.is_read_closed(), "EOF without readiness");
                self.saw_eof = true;
            }
            Ok((n, taken)) => {
                assert_eq!(n, got.len());
                assert!(event.ready.is_readable(), "bytes without readiness: {:?}", event.ready);
                self.read += if taken { n as u64 } else { 0 };
                assert!(self.lenient || self.read <= peer.0, "more bytes than were written");
            }
            Err(TryError::WouldBlock) => {
                end.readiness().clear(event);
                return false;
            }
            Err(TryError::Failed(error)) => self.error = Some(error),
        }
        true
    }
}
