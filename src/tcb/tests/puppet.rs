//! One control block against a script: segments in by `seg!`, segments out as the same values.
//!
//! Our ISS is 100, the peer's is 0; both windows are 1,000 bytes, nothing is scaled, there are no timestamps.

use super::*;
use crate::pipe::TryError;
use crate::wire::{Segment, ZEROS, seg};

/// What the user of the stream sees after everything has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    Waits,
    Eof,
    Error(ConnError),
}

use crate::error::ConnError;

pub(super) struct Puppet {
    pub(super) end: End,
    pub(super) now: Instant,
}

pub(super) fn plain() -> StackConfig {
    let mut config = StackConfig { timestamps: false, window_scaling: false, ..StackConfig::default() };
    config.socket.recv_buffer = 1_000;
    config.socket.send_buffer = 100_000;
    config.socket.quickack = true;
    config
}

impl Puppet {
    pub(super) fn new(config: StackConfig) -> Puppet {
        Puppet { end: End::new(config), now: Instant::from_millis(1_000) }
    }

    /// SYN-SENT; the SYN is out.
    pub(super) fn connecting(config: StackConfig) -> Puppet {
        let mut puppet = Puppet::new(config);
        puppet.end.connect(puppet.now, A, 100);
        puppet.sent();
        puppet
    }

    /// SYN-RECEIVED after `syn`; the SYN-ACK is out.
    pub(super) fn half_open(config: StackConfig, syn: &Segment<'_>) -> Puppet {
        let mut puppet = Puppet::new(config);
        puppet.after(&[*syn]);
        puppet
    }

    pub(super) fn established(config: StackConfig) -> Puppet {
        let mut puppet = Puppet::half_open(config, &seg!(syn, seq 0, wnd 1000, mss 1460, sackok));
        puppet.after(&[seg!(ack 101, seq 1, wnd 1000)]);
        assert_eq!(puppet.end.tcb.state(), State::Established);
        puppet
    }

    pub(super) fn arrive(&mut self, seg: &Segment<'_>) -> Verdict {
        self.end.receive(self.now, B, 100, seg)
    }

    /// Lets segments arrive and forgets what they cause.
    pub(super) fn after(&mut self, segs: &[Segment<'_>]) {
        for seg in segs {
            let _ = self.arrive(seg);
            self.sent();
        }
    }

    /// What goes out now.
    pub(super) fn sent(&mut self) -> Vec<Segment<'static>> {
        let sent = self.end.transmit(self.now);
        self.end.tcb.end_turn();
        let value = |(header, payload): (Header, Vec<u8>)| segment(&header, &ZEROS[..payload.len()]);
        sent.into_iter().map(value).collect()
    }

    pub(super) fn answer(&mut self, seg: &Segment<'_>) -> Vec<Segment<'static>> {
        let _ = self.arrive(seg);
        self.sent()
    }

    pub(super) fn write(&mut self, len: usize) {
        assert_eq!(self.end.write(self.now, &ZEROS[..len]), len);
    }

    /// Runs timers for `time`; returns what they send.
    pub(super) fn wait(&mut self, time: Duration) -> Vec<Segment<'static>> {
        let end = self.now + time;
        let mut out = Vec::new();
        while let Some(at) = self.end.tcb.next_deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            let now = self.now;
            self.end.with(now, |tcb, cx| tcb.on_timeout(cx));
            out.extend(self.sent());
        }
        self.now = end;
        out
    }

    /// Reads everything: how many bytes, and what comes after them.
    pub(super) fn user(&mut self) -> (usize, User) {
        let Some(user) = &self.end.user else { return (0, User::Waits) };
        let mut bytes = 0;
        let last = loop {
            match user.try_read_with(usize::MAX, &mut |part| bytes += part.len()) {
                Ok(0) => break User::Eof,
                Ok(_) => {}
                Err(TryError::WouldBlock) => break User::Waits,
                Err(TryError::Failed(error)) => break User::Error(error),
            }
        };
        (bytes, last)
    }

    /// Reads at most `len` bytes: how many.
    pub(super) fn read(&mut self, len: usize) -> usize {
        self.end.user.as_ref().map_or(0, |user| user.try_read_with(len, &mut |_| ()).unwrap_or(0))
    }

    pub(super) fn open(&self) -> &Open {
        match &self.end.tcb {
            Tcb::Open(open) => open,
            other => panic!("not open: {other:?}"),
        }
    }
}
