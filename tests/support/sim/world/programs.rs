//! The programs: they listen, connect, accept, run when it is time or when readiness tells them to.

use std::net::SocketAddr;
use std::time::Duration;

use usernet::config::SocketOptions;
use usernet::internals::pipe::UserEnd;

use super::{Conn, Event, PORT, World};
use crate::support::host::address;

impl World {
    fn options(&self, side: usize) -> SocketOptions {
        let [send_buffer, recv_buffer] = self.plan.buffers[side];
        SocketOptions { send_buffer, recv_buffer, ..SocketOptions::default() }
    }

    pub(super) fn listen(&mut self, side: usize) {
        let at = SocketAddr::new(address(self.plan.v6, side as u8 + 1), PORT);
        // Connections of the listener before may still be there.
        let options = SocketOptions { reuseaddr: self.plan.wide.relisten.is_some(), ..self.options(side) };
        let backlog = self.plan.wide.backlog.map_or(64, |(backlog, _)| backlog);
        self.listening[side] = Some(self.hosts[side].listen(at, options, backlog).expect("the port is free"));
    }

    pub(super) fn start(&mut self, conn: usize) {
        let simultaneous = self.plan.conns[conn].simultaneous;
        for side in 0..if simultaneous { 2 } else { 1 } {
            let (from, to) = (self.conns[conn].hosts[side], self.conns[conn].hosts[1 - side]);
            let port = self.conns[conn].port;
            let local = SocketAddr::new(address(self.plan.v6, from as u8 + 1), port);
            let local = (!self.plan.wide.ephemeral).then_some(local);
            let remote = SocketAddr::new(address(self.plan.v6, to as u8 + 1), if simultaneous { port } else { PORT });
            let options = self.options(from);
            self.set_clock(from);
            let (end, tuple) = self.hosts[from].connect(local, remote, options).expect("connect");
            self.conns[conn].port = tuple.local.port();
            self.open(conn, side, end);
        }
        (0..2).for_each(|side| self.turn(side));
    }

    fn open(&mut self, conn: usize, side: usize, end: UserEnd) {
        let user = &mut self.conns[conn].users[side];
        user.open(end);
        if user.plan.waits {
            // Readiness does not tell the time.
            let alarms = [Some(user.plan.deaf_until), user.plan.rude.map(|(at, _)| at)];
            let now = self.now;
            for at in alarms.into_iter().flatten().filter(|at| *at > now) {
                self.schedule(at, Event::Alarm { conn, side });
            }
        }
        self.schedule(self.now, Event::Go { conn, side });
    }

    /// The program accepts all there is at once, or one after a while.
    pub(super) fn come_to_accept(&mut self, side: usize) {
        match self.plan.wide.backlog {
            None => while self.accept(side) {},
            Some((_, after)) if !self.accepting[side] => {
                self.accepting[side] = true;
                self.schedule(self.now + after, Event::Accept { side });
            }
            Some(_) => {}
        }
    }

    pub(super) fn accept_late(&mut self, side: usize) {
        self.accepting[side] = false;
        if self.accept(side) {
            self.come_to_accept(side);
        }
    }

    /// Accepts one; whether there was one.
    fn accept(&mut self, side: usize) -> bool {
        let listening = self.listening[side].as_ref();
        let accepted = listening.and_then(|listening| listening.queue.try_pop().expect("the stack lives"));
        let Some((end, remote)) = accepted else { return false };
        let from = (0..2).find(|host| remote.ip() == address(self.plan.v6, *host as u8 + 1));
        let is_it = |conn: &Conn| conn.hosts[1] == side && conn.port == remote.port() && Some(conn.hosts[0]) == from;
        let Some(conn) = self.conns.iter().position(is_it) else {
            assert!(self.plan.wide.vandal > 0, "nobody else connects");
            return true;
        };
        let user = &self.conns[conn].users[1];
        let once = !user.is_open() && (user.gone || !user.is_done());
        // An old SYN makes another connection only if an old third ACK fits it: with the ISN that was forced. Whoever waits
        // may still have the text of the one before to read.
        let same_isn = self.plan.isn[side].is_some() && (!user.is_open() || user.plan.waits);
        assert!(once || same_isn || self.plan.wide.is_shaky(), "accepted twice");
        if once && !user.gone {
            self.open(conn, 1, end);
        }
        true
    }

    pub(super) fn go(&mut self, conn: usize, side: usize) {
        let peer = &self.conns[conn].users[1 - side];
        let facts = (peer.written, peer.shut || peer.gone || peer.is_done());
        let user = &mut self.conns[conn].users[side];
        let next = user.go(&mut self.rng, self.now, facts);
        if let Some(after) = next {
            self.schedule(self.now + after, Event::Go { conn, side });
        }
        let host = self.conns[conn].hosts[side];
        if self.plan.wide.reactor {
            self.set_clock(host);
            self.ask_for_turn(host);
        } else {
            self.turn(host);
        }
    }

    /// Users of a host who wait, and whose readiness has changed.
    pub(super) fn wake_users(&mut self, host: usize) {
        for (conn, side) in (0..self.conns.len()).flat_map(|conn| [(conn, 0), (conn, 1)]) {
            if self.conns[conn].hosts[side] == host && self.conns[conn].users[side].wakes(self.now) {
                let after = Duration::from_micros(self.rng.u64(..20));
                self.schedule(self.now + after, Event::Go { conn, side });
            }
        }
    }
}
