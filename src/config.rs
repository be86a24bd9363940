//! What can be set: [`StackConfig`] for a whole stack, [`SocketOptions`] for one socket.
//!
//! Every default names its RFC or the value of the Linux kernel (`tcp_*` are sysctls).

use std::net::IpAddr;
use std::time::Duration;

/// An address of the stack with the prefix length of its network.
pub type Cidr = (IpAddr, u8);

/// Settings of one stack. Built by `StackBuilder`; fixed once the reactor runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackConfig {
    /// Our addresses.
    pub addresses: Vec<Cidr>,
    /// Without a device: reaches its own addresses only. The builder sets it.
    pub embedded: bool,
    /// Largest IP packet in bytes. 1500, Ethernet.
    pub mtu: usize,
    /// Address space for buffers in bytes, reserved but untouched. 4 TiB: 700,000 connections with default buffers,
    /// 6 MiB each.
    pub max_reserved: u64,
    /// Bytes resident in rings. 1 GiB. What was received and what is written can each take three quarters of it; windows
    /// stop to grow at three eighths (96 connections with 4 MiB), SYNs are refused at half.
    pub memory_budget: u64,
    /// Live connections, half-open and TIME-WAIT not counted. 1,048,576.
    pub max_connections: usize,
    /// Half-open connections of the whole stack. 65,536.
    pub max_half_open: usize,
    /// Half-open connections per listener, unless it says otherwise. 4,096 (`tcp_max_syn_backlog` on a large host).
    pub max_syn_backlog: usize,
    /// TIME-WAIT records; the oldest is evicted. 65,536 (`tcp_max_tw_buckets`).
    pub max_time_wait: usize,
    /// Connections whose owner is gone but whose bytes are not acknowledged. 8,192 (`tcp_max_orphans`).
    pub max_orphans: usize,
    /// Ephemeral ports, both ends included. 32768–60999 (`ip_local_port_range`).
    pub ephemeral_ports: (u16, u16),
    /// RTO before the first sample. 1 s (RFC 6298 §2.1).
    pub rto_initial: Duration,
    /// Lower bound of the RTO. 200 ms (`TCP_RTO_MIN`; RFC 6298 §2.4 says 1 s).
    pub rto_min: Duration,
    /// Upper bound of the RTO. 120 s (`TCP_RTO_MAX`; RFC 6298 §2.5 allows ≥ 60 s).
    pub rto_max: Duration,
    /// SYN retransmissions. 6 (`tcp_syn_retries`).
    pub syn_retries: u32,
    /// SYN-ACK retransmissions. 5 (`tcp_synack_retries`).
    pub synack_retries: u32,
    /// Data retransmissions and, once an RTO has been reached, the give-up time it implies. 15 (`tcp_retries2`).
    pub retries: u32,
    /// Retransmissions or probes of an orphan. 8 (`tcp_orphan_retries`).
    pub orphan_retries: u32,
    /// How long an orphan may stay in FIN-WAIT-2. 60 s (`tcp_fin_timeout`).
    pub fin_wait2_timeout: Duration,
    /// 2·MSL. 60 s (`TCP_TIMEWAIT_LEN`; RFC 9293 §3.4.2 says 4 min).
    pub time_wait: Duration,
    /// Longest delay of an ACK. 40 ms (`TCP_DELACK_MIN`; RFC 9293 §3.8.6.3 MUST-40: < 500 ms).
    pub delayed_ack: Duration,
    /// Least time between two challenge ACKs of one connection. 500 ms (`tcp_invalid_ratelimit`).
    pub challenge_ack_interval: Duration,
    /// RSTs per second for segments without a connection. 1,000 (`icmp_msgs_per_sec`'s order of magnitude).
    pub rst_per_second: u32,
    /// Initial congestion window in segments. 10 (RFC 6928).
    pub initial_window: u32,
    /// Offer and accept window scaling (RFC 7323 §2). On.
    pub window_scaling: bool,
    /// Offer and accept timestamps (RFC 7323 §3). On.
    pub timestamps: bool,
    /// Offer and accept SACK (RFC 2018). On.
    pub sack: bool,
    /// Send the last segment again when nothing was heard for two round trips, so that a loss at the end of a flight needs no
    /// timeout (RFC 8985 §7, with SACK only). On (`tcp_early_retrans` of Linux).
    pub tail_loss_probe: bool,
    /// Options of sockets that set none of their own.
    pub socket: SocketOptions,
}

impl Default for StackConfig {
    fn default() -> Self {
        StackConfig {
            addresses: Vec::new(),
            embedded: false,
            mtu: 1500,
            max_reserved: 1 << 42,
            memory_budget: 1 << 30,
            max_connections: 1 << 20,
            max_half_open: 65_536,
            max_syn_backlog: 4_096,
            max_time_wait: 65_536,
            max_orphans: 8_192,
            ephemeral_ports: (32_768, 60_999),
            rto_initial: Duration::from_secs(1),
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(120),
            syn_retries: 6,
            synack_retries: 5,
            retries: 15,
            orphan_retries: 8,
            fin_wait2_timeout: Duration::from_secs(60),
            time_wait: Duration::from_secs(60),
            delayed_ack: Duration::from_millis(40),
            challenge_ack_interval: Duration::from_millis(500),
            rst_per_second: 1_000,
            initial_window: 10,
            window_scaling: true,
            timestamps: true,
            sack: true,
            tail_loss_probe: true,
            socket: SocketOptions::default(),
        }
    }
}

/// A congestion control algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CongestionControl {
    /// NewReno (RFC 5681, RFC 6582).
    #[default]
    NewReno,
}

/// Keepalive timing (RFC 9293 §3.8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveParams {
    /// Idle time before the first probe. 7,200 s (MUST-29: no less than two hours by default).
    pub idle: Duration,
    /// Time between probes. 75 s (`tcp_keepalive_intvl`).
    pub interval: Duration,
    /// Unanswered probes before the connection dies. 9 (`tcp_keepalive_probes`).
    pub count: u32,
}

impl Default for KeepaliveParams {
    fn default() -> Self {
        KeepaliveParams { idle: Duration::from_secs(7_200), interval: Duration::from_secs(75), count: 9 }
    }
}

/// Options of one socket; a stream inherits them from its listener or socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Send buffer in bytes, exact. 1 MiB. Of a stack's default a connection queues less where a round trip takes less than
    /// 250 µs: at most 512 KiB, 2 MiB shared by all who wait for room when these are more than four, but one large segment
    /// (about 64 KiB) at least. More would gain nothing there and cost the cores' caches. A size that is set for a socket
    /// itself is used whole, and so is this one when the peer has not read for a while.
    pub send_buffer: u32,
    /// Receive buffer in bytes, exact; fixes the window scale. 4 MiB; the window begins with 64 KiB and doubles when the peer
    /// fills half of it. Linux has up to 6 MiB (`tcp_rmem`), 32 since 6.16. No less than what a local kernel queues
    /// (`tcp_wmem`, 4 MiB): a window that is shorter leaves the rest to be sent when our ACK comes, and on our time.
    pub recv_buffer: u32,
    /// Send small segments at once (Nagle off, RFC 9293 §3.7.4). Off.
    pub nodelay: bool,
    /// Never delay an ACK. Off.
    pub quickack: bool,
    /// Send keepalive probes. Off (RFC 9293 §3.8.4 MUST-25).
    pub keepalive: bool,
    /// Keepalive timing.
    pub keepalive_params: KeepaliveParams,
    /// What drop does with unsent data: `None` delivers it in the background, zero resets, else reset after that long.
    pub linger: Option<Duration>,
    /// IPv4 TTL and IPv6 hop limit. 64 (RFC 1700).
    pub ttl: u8,
    /// IPv4 type of service; the two ECN bits are masked.
    pub tos: u8,
    /// IPv6 traffic class; the two ECN bits are masked.
    pub tclass: u8,
    /// How long sent data may stay unacknowledged (RFC 5482); `None`: by the retry limit.
    pub user_timeout: Option<Duration>,
    /// Upper bound of the MSS in both directions; `None`: by the MTU.
    pub mss: Option<u16>,
    /// Bind while TIME-WAIT records remain on the port.
    pub reuseaddr: bool,
    /// Several listeners on one port; connections are spread by hash.
    pub reuseport: bool,
    /// `[::]` takes no IPv4 connections.
    pub only_v6: bool,
    /// Congestion control.
    pub congestion: CongestionControl,
}

impl Default for SocketOptions {
    fn default() -> Self {
        SocketOptions {
            send_buffer: 1 << 20,
            recv_buffer: 4 << 20,
            nodelay: false,
            quickack: false,
            keepalive: false,
            keepalive_params: KeepaliveParams::default(),
            linger: None,
            ttl: 64,
            tos: 0,
            tclass: 0,
            user_timeout: None,
            mss: None,
            reuseaddr: false,
            reuseport: false,
            only_v6: false,
            congestion: CongestionControl::NewReno,
        }
    }
}
