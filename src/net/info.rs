//! [`SocketInfo`]: the public snapshot of a control block.

use std::net::SocketAddr;
use std::time::Duration;

use crate::pipe::{BufferInfo, ConnInfo, State, Watch};

/// A snapshot of a socket's control block: `info()` of [`UserSocket`](crate::UserSocket) and
/// [`UserStream`](crate::UserStream).
///
/// The fill of the buffers is as of the call, everything else as of the reactor's last turn for this connection. The
/// address and capacity of both buffers are the same before `connect` and after it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use usernet::{State, UserListener, UserSocket};
///
/// let listener = UserListener::bind("127.0.0.1:0").await?;
/// let socket = UserSocket::new()?;
/// let before = socket.info();
/// assert_eq!(before.state, State::Closed);
/// let stream = socket.connect(listener.local_addr()?).await?;
/// let after = stream.info();
/// assert_eq!(after.state, State::Established);
/// assert_eq!(before.send_buffer.address, after.send_buffer.address);
/// assert_eq!(before.recv_buffer.address, after.recv_buffer.address);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketInfo {
    /// State (RFC 9293 §3.3.2).
    pub state: State,
    /// Our end, once bound.
    pub local_addr: Option<SocketAddr>,
    /// The peer's end, once known.
    pub peer_addr: Option<SocketAddr>,
    /// Our initial sequence number, once chosen.
    pub iss: Option<u32>,
    /// The peer's initial sequence number, once known.
    pub irs: Option<u32>,
    /// First unacknowledged sequence number.
    pub snd_una: u32,
    /// Next sequence number to send.
    pub snd_nxt: u32,
    /// The peer's window in bytes.
    pub snd_wnd: u32,
    /// Next sequence number expected.
    pub rcv_nxt: u32,
    /// Our window in bytes: the promise that still stands.
    pub rcv_wnd: u32,
    /// Window scale of the peer's windows and of ours; `None` if not negotiated.
    pub window_scale: Option<(u8, u8)>,
    /// Bytes of payload a segment of ours may carry.
    pub mss: u16,
    /// Whether timestamps are in use (RFC 7323).
    pub timestamps: bool,
    /// Whether SACK is in use (RFC 2018).
    pub sack: bool,
    /// Smoothed round-trip time; `None` before the first sample.
    pub rtt: Option<Duration>,
    /// Variation of the round-trip time.
    pub rtt_var: Duration,
    /// Retransmission timeout.
    pub rto: Duration,
    /// Congestion window in bytes.
    pub cwnd: u32,
    /// Slow start threshold in bytes.
    pub ssthresh: u32,
    /// Segments retransmitted.
    pub retransmits: u64,
    /// Bytes of payload sent and acknowledged.
    pub bytes_acked: u64,
    /// Bytes of payload received in order.
    pub bytes_received: u64,
    /// The send buffer: fill counts bytes queued or not yet acknowledged. Less than all of it may be in use
    /// ([`SocketOptions::send_buffer`](crate::SocketOptions::send_buffer)).
    pub send_buffer: BufferInfo,
    /// The receive buffer: fill counts bytes not yet read.
    pub recv_buffer: BufferInfo,
}

impl SocketInfo {
    pub(super) fn new((conn, send_buffer, recv_buffer): (ConnInfo, BufferInfo, BufferInfo)) -> SocketInfo {
        SocketInfo {
            state: conn.state,
            local_addr: conn.local,
            peer_addr: conn.remote,
            iss: conn.iss.map(|seq| seq.raw()),
            irs: conn.irs.map(|seq| seq.raw()),
            snd_una: conn.snd_una.raw(),
            snd_nxt: conn.snd_nxt.raw(),
            snd_wnd: conn.snd_wnd,
            rcv_nxt: conn.rcv_nxt.raw(),
            rcv_wnd: conn.rcv_wnd,
            window_scale: conn.window_scale,
            mss: conn.mss,
            timestamps: conn.timestamps,
            sack: conn.sack,
            rtt: conn.srtt,
            rtt_var: conn.rttvar,
            rto: conn.rto,
            cwnd: conn.cwnd,
            ssthresh: conn.ssthresh,
            retransmits: conn.retransmits,
            bytes_acked: conn.bytes_acked,
            bytes_received: conn.bytes_received,
            send_buffer,
            recv_buffer,
        }
    }
}

/// Sees a socket's control block from elsewhere: `watch()` of [`UserSocket`](crate::UserSocket) and
/// [`UserStream`](crate::UserStream).
///
/// `connect` consumes the socket, and a library that is given a stream keeps it; a watch still shows both. It owns
/// nothing: the connection closes as if nobody looked. The address space of the buffers stays reserved while it exists.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use usernet::{State, UserListener, UserSocket};
///
/// let listener = UserListener::bind("127.0.0.1:0").await?;
/// let socket = UserSocket::new()?;
/// let watch = socket.watch();
/// assert_eq!(watch.info().state, State::Closed);
/// let stream = socket.connect(listener.local_addr()?).await?;
/// assert_eq!(watch.info().state, State::Established);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SocketWatch {
    watch: Watch,
}

impl SocketWatch {
    pub(super) fn new(watch: Watch) -> SocketWatch {
        SocketWatch { watch }
    }

    /// A snapshot, as `info()` of the socket or stream.
    pub fn info(&self) -> SocketInfo {
        SocketInfo::new(self.watch.info())
    }
}
