//! What a script is played on: usernet under a virtual clock, or the kernel behind a TUN that the puppet owns.

use std::net::SocketAddr;
use std::time::Duration;

/// A packet that came out, and when (µs since the script began).
#[derive(Clone, Debug)]
pub struct Output {
    pub at_micros: u64,
    pub bytes: Vec<u8>,
}

/// How literally a script is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// A virtual clock, and every written value counts.
    Literal,
    /// A real clock and another implementation: timers have their tolerance, and what two good stacks may choose
    /// differently (windows, but for a closed one; the shift of the window scale) is not compared.
    Oracle,
}

/// The answer of a backend that has nothing to compare with a fact a script asks for. It passes.
pub const NOT_ASKED: &str = "(not asked)";

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
    fn exactness(&self) -> Exactness {
        Exactness::Literal
    }
    /// The time a script counts from and to. A real clock runs on while facts are looked up; the script's does not.
    fn clock_micros(&self) -> u64 {
        self.now_micros()
    }
    /// Waits until something has come out, `at_most` that long. A virtual clock has nothing to wait for.
    fn wait(&mut self, _at_most: Duration) {}
}
