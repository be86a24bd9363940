//! What a script is played on: usernet under a virtual clock, or (later) a kernel behind a TUN that the puppet owns.

use std::net::SocketAddr;
use std::time::Duration;

/// A packet that came out, and when (µs since the script began).
#[derive(Clone, Debug)]
pub struct Output {
    pub at_micros: u64,
    pub bytes: Vec<u8>,
}

/// The system under test.
pub trait Backend {
    /// One IP packet arrives.
    fn inject(&mut self, packet: &[u8]);
    /// Takes what came out since the last call.
    fn collect(&mut self) -> Vec<Output>;
    /// Lets time pass. Zero: finish what is due now.
    fn advance(&mut self, by: Duration);
    fn now_micros(&self) -> u64;
    /// What was injected and ordered up to [`Backend::release`] happens in one turn.
    fn hold(&mut self);
    fn release(&mut self);
    /// A call of the program on the stack's side; `flow` names the connection. The answer in words (`100`, `EOF`,
    /// `WOULDBLOCK`, `ECONNRESET`, `ok`), or an error if the backend cannot do it.
    fn user(&mut self, flow: usize, op: &[&str]) -> Result<String, String>;
    /// A fact about the stack in words (`state`, `stat NAME`, `info NAME`, `count NAME`).
    fn inspect(&mut self, flow: usize, what: &[&str]) -> Result<String, String>;
    /// The stack's end of `flow`, as the program chose it.
    fn local(&self, flow: usize) -> SocketAddr;
    /// The puppet's end of `flow`.
    fn peer(&self, flow: usize) -> SocketAddr;
    /// The initial sequence number `flow` will use, where the backend can choose it.
    fn begin_flow(&mut self, _flow: usize) {}
}
