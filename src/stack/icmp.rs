//! ICMP: echo requests are answered, errors are handed to the connection they quote.
//!
//! Owns nothing. The quoted sequence number is validated by the connection (RFC 5927 §4.1). Called by `input`.

use super::Engine;
use super::demux::Key;
use super::input::Origin;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::{IcmpError, IpInfo};

impl Engine {
    /// RFC 1122 §3.2.2.6: every host answers echo requests with the same data.
    pub(super) fn on_echo_request(&mut self, origin: Origin, ip: IpInfo, rest: &[u8]) {
        let refused = self.check_addresses(origin, ip.src, ip.dst).err();
        if let Some(reason) = refused.or_else(|| self.replies.push_echo(ip, rest).err()) {
            self.stats.drop_packet(reason);
        }
    }

    /// An ICMP error quotes a segment that claims to be ours.
    pub(super) fn on_icmp_error(&mut self, now: Instant, origin: Origin, ip: IpInfo, error: IcmpError) {
        if let Err(reason) = self.check_addresses(origin, ip.src, ip.dst) {
            self.stats.drop_packet(reason);
            return;
        }
        let Some(slot) = self.conns.find(&Key::new(&error.tuple)) else {
            self.stats.drop_packet(DropReason::IcmpStale);
            return;
        };
        if let Some((conn, mut cx)) = self.at(now, slot) {
            conn.tcb.on_icmp(&mut cx, error.seq, error.kind);
        }
        self.after_event(now, slot);
    }
}
