//! Orders of the user: shutdown, drop, abort, options, a read that opened the window.

use super::state::Event;
use super::{Cx, Open};
use crate::error::ConnError;
use crate::pipe::{Orders, State};

impl Open {
    pub(super) fn on_orders(&mut self, cx: &mut Cx<'_>) {
        let orders = self.pipe.take_orders();
        if self.life.state() == State::Closed {
            return;
        }
        if self.path != cx.path {
            self.on_path(cx.path);
        }
        if orders.intersects(Orders::OPTIONS) {
            self.on_options(cx);
        }
        if orders.intersects(Orders::ABORT) {
            self.orphaned = orders.intersects(Orders::DROPPED);
            self.abort(cx, ConnError::Aborted);
            return;
        }
        if orders.intersects(Orders::BUDGET) {
            self.pipe.retry_budget();
        }
        if orders.intersects(Orders::READ) {
            self.on_read();
            self.arm_idle(cx.now);
        }
        if orders.intersects(Orders::SHUTDOWN) {
            self.close();
        }
        if orders.intersects(Orders::DROPPED) {
            self.on_dropped(cx);
        }
    }

    fn on_options(&mut self, cx: &Cx<'_>) {
        let old = self.options;
        self.options = self.pipe.options();
        self.id = super::Identity::new(self.id.tuple, self.id.ts_offset, &self.options);
        if self.options.quickack && self.timers.delayed_ack.take().is_some() {
            self.owed.owe_shared();
        }
        if old.keepalive != self.options.keepalive || old.keepalive_params != self.options.keepalive_params {
            self.attempts.keepalives = 0;
            self.arm_keepalive(cx.now);
        }
        if old.user_timeout != self.options.user_timeout && self.timers.retransmit.is_some() {
            self.arm_retransmit(cx.now);
        }
        self.on_path(self.path);
    }

    /// CLOSE (RFC 9293 §3.10.4): the state moves at once, the FIN follows the last queued byte.
    pub(super) fn close(&mut self) {
        if self.life.is_sending() {
            self.snd.fin_queued = true;
            self.life.on(Event::Close);
            self.pipe.on_write_closed();
        }
    }

    /// The stream was dropped. RFC 9293 §3.6.1, RFC 2525 §2.17: unread data means the peer must learn that it was lost.
    fn on_dropped(&mut self, cx: &mut Cx<'_>) {
        self.orphaned = true;
        if self.pipe.recv_len() > 0 || self.options.linger.is_some_and(|linger| linger.is_zero()) {
            self.reset_at_last(ConnError::Aborted);
            return;
        }
        self.close();
        self.timers.keepalive = None;
        if let Some(linger) = self.options.linger {
            self.timers.lifetime = Some(cx.now + linger);
        }
        self.arm_fin_wait2(cx);
    }

    /// RFC 9293 §3.6.1: nobody waits for the peer's FIN any more; Linux gives it `tcp_fin_timeout`.
    pub(super) fn arm_fin_wait2(&mut self, cx: &Cx<'_>) {
        if self.orphaned && self.life.state() == State::FinWait2 {
            self.timers.lifetime = Some(cx.now + cx.config.fin_wait2_timeout);
        }
    }
}
