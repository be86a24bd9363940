//! One connection's socket: the calls of a script as system calls, their answers in the script's words.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};

use super::facts;
use crate::support::pattern;
use crate::support::script::backend::NOT_ASKED;
use crate::support::script::run::{PUPPET, USER};

/// A socket, and how far its streams are.
pub struct User {
    fd: OwnedFd,
    v6: bool,
    written: u64,
    read: u64,
    /// The script wants every segment acknowledged at once.
    quickack: bool,
}

impl User {
    pub fn new(fd: OwnedFd, v6: bool) -> User {
        User { fd, v6, written: 0, read: 0, quickack: false }
    }

    pub fn delay_acks(&mut self) {
        // In SYN-SENT it would delay the last ACK of the handshake.
        let young = tcp_info(&self.fd).is_ok_and(|info| info.tcpi_state == facts::SYN_SENT);
        if !self.quickack && !young {
            let _ = sockopt::set_tcp_quickack(&self.fd, false);
        }
    }

    /// The state, unless the socket has left its connection to the kernel (CLOSED, TIME-WAIT).
    pub fn state(&self) -> Option<&'static str> {
        let state = tcp_info(&self.fd).ok()?.tcpi_state;
        (state != facts::CLOSED).then(|| facts::state_name(state))
    }

    pub fn write(&mut self, count: usize) -> String {
        let bytes = pattern::bytes(USER, self.written, count);
        match rustix::net::send(&self.fd, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(n) => {
                self.written += n as u64;
                n.to_string()
            }
            Err(error) => name(error),
        }
    }

    pub fn read(&mut self, want: usize, peek: bool) -> Result<String, String> {
        let mut buffer = vec![0; want];
        let flags = if peek { RecvFlags::PEEK | RecvFlags::DONTWAIT } else { RecvFlags::DONTWAIT };
        let n = match rustix::net::recv(&self.fd, &mut buffer[..], flags) {
            Ok((0, _)) => return Ok("EOF".into()),
            Ok((n, _)) => n,
            Err(error) => return Ok(name(error)),
        };
        if let Some(at) = pattern::first_difference(PUPPET, self.read, &buffer[..n]) {
            return Err(format!("the user read a wrong byte at {at}"));
        }
        if !peek {
            self.read += n as u64;
        }
        Ok(n.to_string())
    }

    pub fn shutdown(&mut self) -> String {
        match rustix::net::shutdown(&self.fd, Shutdown::Write) {
            // As tokio's poll_shutdown.
            Ok(()) | Err(Errno::NOTCONN) => "ok".into(),
            Err(error) => name(error),
        }
    }

    pub fn error(&mut self) -> Result<String, String> {
        let pending = sockopt::socket_error(&self.fd).map_err(|e| format!("SO_ERROR: {e}"))?;
        Ok(pending.map_or_else(name, |()| "none".into()))
    }

    pub fn set_option(&mut self, name: &str, value: &str) -> Result<String, String> {
        if name == "quickack" {
            self.quickack = value == "1" || value == "on";
        }
        set_option(&self.fd, self.v6, name, value)?;
        Ok("ok".into())
    }

    pub fn info(&mut self, field: &str) -> Result<String, String> {
        let info = tcp_info(&self.fd).map_err(|e| format!("TCP_INFO: {e}"))?;
        let has = |bit: u8| info.tcpi_options & bit != 0;
        // The kernel counts these two in segments.
        let bytes = |segments: u32| (u64::from(segments) * u64::from(info.tcpi_snd_mss)).to_string();
        Ok(match field {
            "cwnd" => bytes(info.tcpi_snd_cwnd),
            "ssthresh" => bytes(info.tcpi_snd_ssthresh),
            "mss" => info.tcpi_snd_mss.to_string(),
            "snd_wnd" => info.tcpi_snd_wnd.to_string(),
            "timestamps" => has(1).to_string(),
            "sack" => has(2).to_string(),
            // Measured times and buffers are not the same on a real clock.
            _ => NOT_ASKED.into(),
        })
    }
}

#[allow(unsafe_code, reason = "no crate in the tree wraps TCP_INFO")]
fn tcp_info(fd: &OwnedFd) -> std::io::Result<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `fd` is open; the kernel writes at most `len` bytes into `info`, which has that many.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut len)
    };
    if result != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: zeroed, so also what an older kernel leaves out is a number.
    Ok(unsafe { info.assume_init() })
}

/// Sets the option of a script on a socket.
pub fn set_option(fd: &OwnedFd, v6: bool, name: &str, value: &str) -> Result<(), String> {
    let on = value == "1" || value == "on";
    let number = || value.parse::<u32>().map_err(|_| format!("not a number: `{value}`"));
    let seconds = || value.parse().map(Duration::from_secs_f64).map_err(|_| format!("not a time: `{value}`"));
    let fd = fd.as_fd();
    let result = match name {
        "nodelay" => sockopt::set_tcp_nodelay(fd, on),
        "quickack" => sockopt::set_tcp_quickack(fd, on),
        "keepalive" => sockopt::set_socket_keepalive(fd, on),
        "keepalive_idle" => sockopt::set_tcp_keepidle(fd, seconds()?),
        "keepalive_interval" => sockopt::set_tcp_keepintvl(fd, seconds()?),
        "keepalive_count" => sockopt::set_tcp_keepcnt(fd, number()?),
        "linger" if value == "off" => sockopt::set_socket_linger(fd, None),
        "linger" => sockopt::set_socket_linger(fd, Some(seconds()?)),
        "user_timeout" if value == "off" => sockopt::set_tcp_user_timeout(fd, 0),
        "user_timeout" => sockopt::set_tcp_user_timeout(fd, seconds()?.as_millis() as u32),
        "ttl" if v6 => sockopt::set_ipv6_unicast_hops(fd, Some(number()? as u8)),
        "ttl" => sockopt::set_ip_ttl(fd, number()?),
        "tos" if v6 => sockopt::set_ipv6_tclass(fd, number()?),
        "tos" => sockopt::set_ip_tos(fd, number()? as u8),
        "mss" => {
            let mss = number()?;
            return socket2::SockRef::from(&fd).set_tcp_mss(mss).map_err(|e| format!("TCP_MAXSEG: {e}"));
        }
        "reuseaddr" => sockopt::set_socket_reuseaddr(fd, on),
        other => return Err(format!("unknown option `{other}`")),
    };
    result.map_err(|e| format!("setting {name} to {value}: {e}"))
}

/// An error in the script's words.
pub fn name(error: Errno) -> String {
    let known = match error {
        Errno::AGAIN => "WOULDBLOCK",
        Errno::CONNREFUSED => "ECONNREFUSED",
        Errno::CONNRESET => "ECONNRESET",
        Errno::PIPE => "EPIPE",
        Errno::TIMEDOUT => "ETIMEDOUT",
        Errno::HOSTUNREACH => "EHOSTUNREACH",
        Errno::NETUNREACH => "ENETUNREACH",
        Errno::NOTCONN => "ENOTCONN",
        Errno::ADDRINUSE => "EADDRINUSE",
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL",
        Errno::INVAL => "EINVAL",
        Errno::PROTO => "EPROTO",
        other => return other.to_string(),
    };
    known.into()
}
