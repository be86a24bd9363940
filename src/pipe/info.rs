//! [`ConnInfo`]: what the reactor tells about a connection, copied out at the end of a turn.

use std::net::SocketAddr;
use std::time::Duration;

use crate::wire::Seq;

/// The eleven states of RFC 9293 §3.3.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// No connection.
    #[default]
    Closed,
    /// Waiting for a connection request.
    Listen,
    /// Our SYN is out.
    SynSent,
    /// Both SYNs are out, ours is not acknowledged.
    SynReceived,
    /// Open.
    Established,
    /// Our FIN is out and not acknowledged.
    FinWait1,
    /// Our FIN is acknowledged, the peer's has not come.
    FinWait2,
    /// The peer's FIN has come.
    CloseWait,
    /// Both FINs are out, ours is not acknowledged.
    Closing,
    /// The peer's FIN came first, ours is not acknowledged.
    LastAck,
    /// Both sides are closed; old segments may still arrive.
    TimeWait,
}

/// Where a buffer lies and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferInfo {
    /// Address of its first byte.
    pub address: usize,
    /// Size in bytes.
    pub capacity: usize,
    /// Bytes in it: queued or unacknowledged (send), unread (receive).
    pub fill: usize,
}

/// A snapshot of the control block. Numbers are as of the end of the reactor's last turn for this connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnInfo {
    /// State.
    pub state: State,
    /// Our end.
    pub local: Option<SocketAddr>,
    /// The peer's end.
    pub remote: Option<SocketAddr>,
    /// ISS, once chosen.
    pub iss: Option<Seq>,
    /// IRS, once known.
    pub irs: Option<Seq>,
    /// SND.UNA
    pub snd_una: Seq,
    /// SND.NXT
    pub snd_nxt: Seq,
    /// SND.WND in bytes.
    pub snd_wnd: u32,
    /// RCV.NXT
    pub rcv_nxt: Seq,
    /// RCV.WND in bytes: the promise that still stands.
    pub rcv_wnd: u32,
    /// Window scale of the peer's windows and of ours; `None` if not negotiated.
    pub window_scale: Option<(u8, u8)>,
    /// Bytes of payload a segment of ours may carry.
    pub mss: u16,
    /// Whether timestamps are in use.
    pub timestamps: bool,
    /// Whether SACK is in use.
    pub sack: bool,
    /// Smoothed round-trip time; `None` before the first sample.
    pub srtt: Option<Duration>,
    /// Round-trip time variation.
    pub rttvar: Duration,
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
}
