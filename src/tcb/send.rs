//! The send sequence space (RFC 9293 §3.3.1) and what decides the size of a segment.
//!
//! ```text
//!            1         2          3          4
//!       ──────────┼──────────┼──────────┼──────────
//!              SND.UNA    SND.NXT   SND.UNA+SND.WND
//! ```

use std::net::SocketAddr;

use super::Path;
use crate::wire::Seq;

/// Bytes the timestamps option takes in every segment, padding included.
pub const TIMESTAMPS_LEN: u16 = 12;

/// Send variables. SND.NXT never goes back: what must be sent again is marked lost in the flight.
#[derive(Clone, Copy, Debug)]
pub struct SendSpace {
    /// Oldest unacknowledged sequence number.
    pub una: Seq,
    /// Next sequence number to be sent.
    pub nxt: Seq,
    /// Window of the peer in bytes, counted from `una` as of the last update. May shrink: `una + wnd < nxt` is legal.
    pub wnd: u32,
    /// Segment sequence number used for the last window update.
    pub wl1: Seq,
    /// Segment acknowledgment number used for the last window update.
    pub wl2: Seq,
    /// Initial send sequence number.
    pub iss: Seq,
    /// MAX.SND.WND: largest window the peer ever offered (RFC 5961 §5, RFC 9293 §3.8.6.2.1).
    pub max_wnd: u32,
    /// Scale of the peer's windows.
    pub wscale: u8,
    /// MSS option of the peer, or the default; before clamping.
    pub peer_mss: u16,
    /// Largest IP packet the path is known to carry (ICMP), if smaller than the link's.
    pub path_mtu: Option<usize>,
    /// Payload bytes of a full segment now: Eff.snd.MSS.
    pub mss: u16,
    /// Where our FIN stands, once sent.
    pub fin: Option<Seq>,
    /// The user has closed this direction: a FIN follows the last byte.
    pub fin_queued: bool,
    /// End of the last segment smaller than the MSS (Minshall's form of Nagle, as Linux).
    pub small_end: Option<Seq>,
}

impl SendSpace {
    /// Sequence numbers sent and not acknowledged.
    pub fn outstanding(&self) -> u32 {
        self.nxt.saturating_offset_from(self.una)
    }

    /// Bytes the peer's window still admits.
    pub fn usable(&self) -> u32 {
        self.wnd.saturating_sub(self.outstanding())
    }

    /// The sequence number of a segment without text: the peer takes none beyond the window it told, and where that has
    /// closed, SND.NXT may lie behind a byte that it has refused (as Linux's tcp_acceptable_seq).
    pub fn acceptable(&self) -> Seq {
        self.nxt.min(self.una + self.wnd)
    }

    /// Bytes of text sent and not acknowledged.
    pub fn outstanding_text(&self) -> u32 {
        self.outstanding().saturating_sub(u32::from(self.fin.is_some_and(|fin| fin.is_at_or_after(self.una))))
    }

    /// Whether a segment below the MSS is still unacknowledged.
    pub fn has_small_outstanding(&self) -> bool {
        self.small_end.is_some_and(|end| end.is_after(self.una))
    }
}

/// Bytes of the IP and TCP headers without options.
pub const fn header_len(remote: &SocketAddr) -> usize {
    match remote {
        SocketAddr::V4(_) => 40,
        SocketAddr::V6(_) => 60,
    }
}

/// The MSS a peer has that sends none (RFC 9293 §3.7.1 MUST-15).
pub const fn default_mss(remote: &SocketAddr) -> u16 {
    match remote {
        SocketAddr::V4(_) => 536,
        SocketAddr::V6(_) => 1220,
    }
}

/// The MSS we announce: what arrives must fit the link (RFC 9293 §3.7.1 MUST-16, MUST-67).
pub fn announced_mss(path: Path, remote: &SocketAddr, clamp: Option<u16>) -> u16 {
    let fits = u16::try_from(path.mtu.saturating_sub(header_len(remote))).unwrap_or(u16::MAX);
    clamp.map_or(fits, |clamp| fits.min(clamp.max(MIN_MSS))).max(1)
}

/// Smallest MSS taken from a peer, options not yet subtracted (`TCP_MIN_SND_MSS`, CVE-2019-11479).
pub const MIN_MSS: u16 = 48;

/// Eff.snd.MSS (RFC 9293 §3.7.1, RFC 6691): the peer's MSS clamped up to [`MIN_MSS`], then down to what the path
/// carries, less the options every segment carries.
pub fn effective_mss(space: (u16, Option<usize>), path: Path, remote: &SocketAddr, options_len: u16) -> u16 {
    let (peer_mss, path_mtu) = space;
    let mtu = path_mtu.map_or(path.mtu, |known| known.min(path.mtu));
    let fits = u16::try_from(mtu.saturating_sub(header_len(remote))).unwrap_or(u16::MAX);
    peer_mss.max(MIN_MSS).min(fits).saturating_sub(options_len).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mss_is_positive_for_every_mtu_and_peer() {
        let v4: SocketAddr = "10.0.0.1:1".parse().unwrap();
        let v6: SocketAddr = "[fd00::1]:1".parse().unwrap();
        for mtu in [68, 88, 576, 1280, 1500, 65535] {
            let path = Path { mtu, max_large: None };
            for peer in 0..=88 {
                for ts in [0, TIMESTAMPS_LEN] {
                    let mss = usize::from(effective_mss((peer, None), path, &v4, ts));
                    assert!(mss > 0 && mss + 40 + usize::from(ts) <= mtu, "{mtu} {peer} {ts}");
                }
            }
        }
        let path = Path { mtu: 1500, max_large: None };
        assert_eq!(effective_mss((1460, None), path, &v4, 12), 1448);
        assert_eq!(effective_mss((9000, None), path, &v6, 12), 1428);
        assert_eq!(effective_mss((0, None), path, &v4, 0), 48);
        assert_eq!(effective_mss((1460, Some(576)), path, &v4, 12), 524);
        assert_eq!(announced_mss(path, &v4, None), 1460);
        assert_eq!(announced_mss(path, &v6, Some(1000)), 1000);
    }
}
