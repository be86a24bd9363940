//! [`ConnError`]: what can end a connection or refuse an order, and its one conversion
//! into [`io::Error`]. The table is design.md §7.

use std::fmt;
use std::io;

/// Why an operation failed. Small and `Copy`, so it can wait in a slot without allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnError {
    /// RST in SYN-SENT, or an ICMP port unreachable while connecting.
    Refused,
    /// RST in a synchronized state.
    Reset,
    /// RST in CLOSE-WAIT, a write after our FIN, or a write after the error was taken.
    BrokenPipe,
    /// Retransmissions, keepalive probes or the user timeout were exhausted.
    TimedOut,
    /// ICMP host unreachable while connecting.
    HostUnreachable,
    /// ICMP network unreachable while connecting, or no route to the destination.
    NetworkUnreachable,
    /// The stack has no device, and the destination is none of its own addresses.
    EmbeddedOnly,
    /// The device or the reactor is gone.
    NetworkDown,
    /// The address is taken; for port 0, every ephemeral port of it.
    AddrInUse,
    /// From this port there is a connection to that destination already.
    TupleInUse,
    /// The address is not one of the stack's.
    AddrNotAvailable,
    /// Every ephemeral port to this destination is taken.
    PortsExhausted,
    /// IPv4 and IPv6 mixed, or a call that the socket's state does not allow.
    InvalidInput,
    /// The stack's `max_reserved` is spent.
    ReservedLimit,
    /// The stack's `memory_budget` is spent.
    MemoryBudget,
    /// The stack's `max_connections` is spent.
    ConnectionLimit,
    /// Aborted by this side.
    Aborted,
}

impl ConnError {
    /// The [`io::ErrorKind`] that tokio users match on.
    pub const fn kind(self) -> io::ErrorKind {
        use io::ErrorKind as Kind;
        match self {
            ConnError::Refused => Kind::ConnectionRefused,
            ConnError::Reset => Kind::ConnectionReset,
            ConnError::BrokenPipe => Kind::BrokenPipe,
            ConnError::TimedOut => Kind::TimedOut,
            ConnError::HostUnreachable => Kind::HostUnreachable,
            ConnError::NetworkUnreachable | ConnError::EmbeddedOnly => Kind::NetworkUnreachable,
            ConnError::NetworkDown => Kind::NetworkDown,
            ConnError::AddrInUse => Kind::AddrInUse,
            // The kernel's EADDRNOTAVAIL for all three (`__inet_check_established`, `__inet_hash_connect`).
            ConnError::AddrNotAvailable | ConnError::TupleInUse | ConnError::PortsExhausted => Kind::AddrNotAvailable,
            ConnError::InvalidInput => Kind::InvalidInput,
            ConnError::ReservedLimit | ConnError::MemoryBudget | ConnError::ConnectionLimit => Kind::OutOfMemory,
            ConnError::Aborted => Kind::ConnectionAborted,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            ConnError::Refused => "connection refused",
            ConnError::Reset => "connection reset by peer",
            ConnError::BrokenPipe => "broken pipe",
            ConnError::TimedOut => "connection timed out",
            ConnError::HostUnreachable => "no route to host",
            ConnError::NetworkUnreachable => "network is unreachable",
            ConnError::EmbeddedOnly => {
                "a stack without a device reaches only its own addresses (the embedded one: loopback); build one with a \
                 device and make it current with set_default() or scope()"
            }
            ConnError::NetworkDown => "the usernet device or reactor is gone",
            ConnError::AddrInUse => "address already in use",
            ConnError::AddrNotAvailable => "address is not one of the stack's",
            ConnError::TupleInUse => "there is a connection from this port to this destination already",
            ConnError::PortsExhausted => "no ephemeral port left for this destination",
            ConnError::InvalidInput => "wrong address family or socket state",
            ConnError::ReservedLimit => "the stack's max_reserved (address space for buffers) is spent",
            ConnError::MemoryBudget => "the stack's memory_budget is spent",
            ConnError::ConnectionLimit => "the stack's max_connections is spent",
            ConnError::Aborted => "connection aborted locally",
        }
    }
}

impl fmt::Display for ConnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for ConnError {}

impl From<ConnError> for io::Error {
    fn from(error: ConnError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}
