//! Options of [`UserSocket`], set before connect or listen; a stream or a listener takes them over.

use std::io;
use std::time::Duration;

use super::options::{check_buffer, check_keepalive, check_mss, check_tos};
use super::socket::UserSocket;
use crate::config::{CongestionControl, KeepaliveParams};

impl UserSocket {
    /// Sends keepalive probes (`SO_KEEPALIVE`); timing: [`set_keepalive_params`](UserSocket::set_keepalive_params).
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("socket.set_keepalive(true)?;" "assert!(socket.keepalive()?);")]
    pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        self.set_options(|options| options.keepalive = keepalive);
        Ok(())
    }

    /// Returns whether keepalive probes are sent.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("assert!(!socket.keepalive()?);")]
    pub fn keepalive(&self) -> io::Result<bool> {
        Ok(self.options().keepalive)
    }

    /// Lets `bind` take a port on which connections or TIME-WAIT records remain, if their socket had set it too
    /// (`SO_REUSEADDR`). Set it before `bind`.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("socket.set_reuseaddr(true)?;" "assert!(socket.reuseaddr()?);")]
    pub fn set_reuseaddr(&self, reuseaddr: bool) -> io::Result<()> {
        self.set_options(|options| options.reuseaddr = reuseaddr);
        Ok(())
    }

    /// Returns whether `bind` may take a port in TIME-WAIT.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("assert!(!socket.reuseaddr()?);")]
    pub fn reuseaddr(&self) -> io::Result<bool> {
        Ok(self.options().reuseaddr)
    }

    /// Lets several sockets that all set this listen on one port (`SO_REUSEPORT`); connections are spread by a keyed
    /// hash of their addresses. Set it before `bind`.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("socket.set_reuseport(true)?;" "assert!(socket.reuseport()?);")]
    pub fn set_reuseport(&self, reuseport: bool) -> io::Result<()> {
        self.set_options(|options| options.reuseport = reuseport);
        Ok(())
    }

    /// Returns whether the port may be shared.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("assert!(!socket.reuseport()?);")]
    pub fn reuseport(&self) -> io::Result<bool> {
        Ok(self.options().reuseport)
    }

    /// Reserves a send buffer of exactly `size` bytes in place of the old one. All of it is used, while of the default not all
    /// may be ([`SocketOptions::send_buffer`](crate::SocketOptions::send_buffer)): as SO_SNDBUF ends Linux's autotuning.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for zero; `OutOfMemory` if no address space is left, in the process or by the stack's `max_reserved`.
    ///
    #[doc = socket_example!("socket.set_send_buffer_size(200_000)?;" "assert_eq!(socket.send_buffer_size()?, 200_000);")]
    pub fn set_send_buffer_size(&self, size: u32) -> io::Result<()> {
        let size = check_buffer(size)?;
        self.set_sizes(|options| options.send_buffer = size)
    }

    /// Returns the size of the send buffer in bytes, exactly as it was set (Linux doubles it).
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("assert_eq!(socket.send_buffer_size()?, 1 << 20);")]
    pub fn send_buffer_size(&self) -> io::Result<u32> {
        Ok(self.options().send_buffer)
    }

    /// Reserves a receive buffer of exactly `size` bytes in place of the old one. It also fixes the window scale (RFC 7323 §2).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for zero; `OutOfMemory` if no address space is left, in the process or by the stack's `max_reserved`.
    ///
    #[doc = socket_example!("socket.set_recv_buffer_size(200_000)?;" "assert_eq!(socket.recv_buffer_size()?, 200_000);")]
    pub fn set_recv_buffer_size(&self, size: u32) -> io::Result<()> {
        let size = check_buffer(size)?;
        self.set_sizes(|options| options.recv_buffer = size)
    }

    /// Returns the size of the receive buffer in bytes, exactly as it was set (Linux doubles it).
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("assert_eq!(socket.recv_buffer_size()?, 4 << 20);")]
    pub fn recv_buffer_size(&self) -> io::Result<u32> {
        Ok(self.options().recv_buffer)
    }

    /// Sets the linger duration (`SO_LINGER`). Deprecated as in tokio, although drop never blocks here: see
    /// [`UserStream::set_linger`](crate::UserStream::set_linger).
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("#[allow(deprecated)]" "socket.set_linger(None)?;")]
    #[deprecated = "`SO_LINGER` causes the socket to block the thread on drop"]
    pub fn set_linger(&self, dur: Option<Duration>) -> io::Result<()> {
        self.set_options(|options| options.linger = dur);
        Ok(())
    }

    /// Makes drop send a RST (`SO_LINGER` of zero).
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("socket.set_zero_linger()?;" "assert_eq!(socket.linger()?, Some(std::time::Duration::ZERO));")]
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.set_options(|options| options.linger = Some(Duration::ZERO));
        Ok(())
    }

    /// Returns the linger duration (`SO_LINGER`).
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("assert!(socket.linger()?.is_none());")]
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(self.options().linger)
    }

    /// Sends small segments at once (`TCP_NODELAY`), that is: switches Nagle's algorithm off.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("socket.set_nodelay(true)?;" "assert!(socket.nodelay()?);")]
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.set_options(|options| options.nodelay = nodelay);
        Ok(())
    }

    /// Returns whether small segments are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("assert!(!socket.nodelay()?);")]
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.options().nodelay)
    }

    /// Sets the IPv6 traffic class of packets sent. The two ECN bits are the stack's and are masked.
    ///
    /// # Errors
    ///
    /// `InvalidInput` above 255.
    ///
    #[doc = socket_example!("socket.set_tclass_v6(0x28)?;" "assert_eq!(socket.tclass_v6()?, 0x28);")]
    pub fn set_tclass_v6(&self, tclass: u32) -> io::Result<()> {
        let value = check_tos(tclass)?;
        self.set_options(|options| options.tclass = value);
        Ok(())
    }

    /// Returns the IPv6 traffic class of packets sent.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("assert_eq!(socket.tclass_v6()?, 0);")]
    pub fn tclass_v6(&self) -> io::Result<u32> {
        Ok(u32::from(self.options().tclass))
    }

    /// Sets the IPv4 type of service of packets sent. The two ECN bits are the stack's and are masked.
    ///
    /// # Errors
    ///
    /// `InvalidInput` above 255.
    ///
    #[doc = socket_example!("socket.set_tos_v4(0x28)?;" "assert_eq!(socket.tos_v4()?, 0x28);")]
    pub fn set_tos_v4(&self, tos: u32) -> io::Result<()> {
        let value = check_tos(tos)?;
        self.set_options(|options| options.tos = value);
        Ok(())
    }

    /// Returns the IPv4 type of service of packets sent.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("assert_eq!(socket.tos_v4()?, 0);")]
    pub fn tos_v4(&self) -> io::Result<u32> {
        Ok(u32::from(self.options().tos))
    }

    /// Sets the IPv4 type of service of packets sent. The two ECN bits are the stack's and are masked.
    ///
    /// # Errors
    ///
    /// `InvalidInput` above 255.
    ///
    #[doc = socket_example!("#[allow(deprecated)]" "socket.set_tos(0x28)?;" "#[allow(deprecated)]" "assert_eq!(socket.tos()?, 0x28);")]
    #[deprecated(note = "`tos` related methods have been renamed `tos_v4` since they are IPv4-specific.")]
    #[doc(hidden)]
    pub fn set_tos(&self, tos: u32) -> io::Result<()> {
        let value = check_tos(tos)?;
        self.set_options(|options| options.tos = value);
        Ok(())
    }

    /// Returns the IPv4 type of service of packets sent.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("#[allow(deprecated)]" "assert_eq!(socket.tos()?, 0);")]
    #[deprecated(note = "`tos` related methods have been renamed `tos_v4` since they are IPv4-specific.")]
    #[doc(hidden)]
    pub fn tos(&self) -> io::Result<u32> {
        Ok(u32::from(self.options().tos))
    }

    // ---- what tokio does not have ----

    /// Sends keepalive probes with this timing; `None` switches them off. What tokio users do with
    /// `socket2::TcpKeepalive`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if a value is zero.
    ///
    #[doc = socket_example!("socket.set_keepalive_params(Some(usernet::KeepaliveParams::default()))?;" "assert!(socket.keepalive()?);")]
    pub fn set_keepalive_params(&self, params: Option<KeepaliveParams>) -> io::Result<()> {
        let params = params.map(check_keepalive).transpose()?;
        self.set_options(|options| {
            options.keepalive = params.is_some();
            options.keepalive_params = params.unwrap_or(options.keepalive_params);
        });
        Ok(())
    }

    /// Chooses the congestion control algorithm (`TCP_CONGESTION`).
    ///
    /// # Errors
    ///
    /// None in practice; shaped like the other options.
    ///
    #[doc = socket_example!("socket.set_congestion_control(usernet::CongestionControl::NewReno)?;")]
    pub fn set_congestion_control(&self, algorithm: CongestionControl) -> io::Result<()> {
        self.set_options(|options| options.congestion = algorithm);
        Ok(())
    }

    /// Bounds the MSS in both directions (`TCP_MAXSEG`), in bytes.
    ///
    /// # Errors
    ///
    /// `InvalidInput` below 88 (`TCP_MIN_MSS`).
    ///
    #[doc = socket_example!("socket.set_mss(536)?;")]
    pub fn set_mss(&self, mss: u16) -> io::Result<()> {
        let mss = check_mss(mss)?;
        self.set_options(|options| options.mss = Some(mss));
        Ok(())
    }

    /// Keeps a listener on `[::]` from taking IPv4 connections (`IPV6_V6ONLY`). Set it before `bind`.
    ///
    /// # Errors
    ///
    /// None in practice; shaped like the other options.
    ///
    #[doc = socket_example!("socket.set_only_v6(true)?;")]
    pub fn set_only_v6(&self, only_v6: bool) -> io::Result<()> {
        self.set_options(|options| options.only_v6 = only_v6);
        Ok(())
    }
}
