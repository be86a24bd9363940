//! [`TunBuilder`]: from wishes to a configured interface, every wish checked before anything is created.
//!
//! Owns nothing after `build`. Called by users of [`Tun`].

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use super::{MAX_MTU, Tun, failed, link, napi, sys, vnet};

/// IFNAMSIZ without the final zero.
const MAX_NAME: usize = 15;
/// RFC 791 §3.1: every internet module must forward 68 octets unfragmented.
const MIN_MTU: usize = 68;
/// RFC 8200 §5.
const MIN_MTU_V6: usize = 1280;

/// Packets the kernel queues for us, if the device has room for fewer. The kernel's own 500 overflow when a thousand
/// connections answer at once, and what overflows is lost.
const TX_QUEUE_LEN: u32 = 10_000;

/// Bytes that may wait for the kernel's NAPI thread, which without a bound would be as much as all windows allow.
const NAPI_QUEUE: i32 = 16 << 20;

/// Makes a [`Tun`]. Creating an interface and changing one takes the right to administer the network namespace; attaching
/// to a persistent one that is up and that the user owns (`ip tuntap add dev NAME mode tun user USER`) takes none, as
/// long as nothing is asked for that would change it.
#[derive(Clone, Debug)]
pub struct TunBuilder {
    name: Option<String>,
    mtu: Option<usize>,
    addresses: Vec<(IpAddr, u8)>,
    up: bool,
    offload: bool,
    threaded_napi: bool,
    napi_queue: i32,
}

impl Default for TunBuilder {
    fn default() -> Self {
        TunBuilder {
            name: None,
            mtu: None,
            addresses: Vec::new(),
            up: true,
            offload: true,
            threaded_napi: false,
            napi_queue: NAPI_QUEUE,
        }
    }
}

impl TunBuilder {
    /// Name of the interface, at most 15 bytes. Default: the kernel chooses (`tun0`, `tun1`, …).
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> TunBuilder {
        self.name = Some(name.into());
        self
    }

    /// MTU in bytes: 68 to 65,535, and at least 1,280 with an IPv6 address. Default: as it is (1,500 when new).
    #[must_use]
    pub fn mtu(mut self, mtu: usize) -> TunBuilder {
        self.mtu = Some(mtu);
        self
    }

    /// Gives the kernel's side an address; may be called several times, for both families. The stack needs an address of
    /// its own from the same prefix. When `build` returns the kernel answers there: for a new IPv6 address that is up to
    /// some milliseconds later than it says so.
    #[must_use]
    pub fn kernel_address(mut self, ip: IpAddr, prefix: u8) -> TunBuilder {
        self.addresses.push((ip, prefix));
        self
    }

    /// Whether to bring the interface up if it is down. Default: yes.
    #[must_use]
    pub fn up(mut self, up: bool) -> TunBuilder {
        self.up = up;
        self
    }

    /// Whether packets of up to 65,535 bytes and unfinished checksums cross the device (`IFF_VNET_HDR`), so that one
    /// system call moves what would be dozens of packets. Default: yes, and where the kernel refuses it, no.
    #[must_use]
    pub fn offload(mut self, offload: bool) -> TunBuilder {
        self.offload = offload;
        self
    }

    /// Whether a thread of the kernel processes what is sent (`IFF_NAPI`, threaded NAPI), in batches, instead of each of
    /// our system calls. Where both have a core, sending in bulk without offload is one and a half to twice as fast;
    /// connecting and short answers take longer, because that thread must wake first. Default: no. Needs `CAP_SYS_ADMIN`,
    /// a sysfs that may be written, and Linux 5.12; `build` fails where it cannot be had. When the last descriptor is
    /// dropped the kernel may drop what still waits for that thread: end with
    /// [`Stack::shutdown`](crate::Stack::shutdown).
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// let tun = usernet::device::Tun::builder().offload(false).threaded_napi(true).build()?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn threaded_napi(mut self, threaded: bool) -> TunBuilder {
        self.threaded_napi = threaded;
        self
    }

    /// For tests of a full device: bytes that may wait for the thread of [`TunBuilder::threaded_napi`].
    #[doc(hidden)]
    #[must_use]
    pub fn napi_queue(mut self, bytes: i32) -> TunBuilder {
        self.napi_queue = bytes;
        self
    }

    /// Creates the interface, or attaches to it if it exists, and configures it.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a name, MTU or address that cannot be, before anything is
    /// created. Otherwise the kernel's error; its text names the step that failed and what to do.
    pub fn build(self) -> io::Result<Tun> {
        self.check()?;
        let mut tun = Tun::from_fd(self.open_best()?)?;
        let name = tun.interface.clone();
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu != tun.mtu) {
            link::set_mtu(&name, mtu)?;
            tun.mtu = mtu;
        }
        for (ip, prefix) in &self.addresses {
            link::add_address(&name, *ip, *prefix)?;
        }
        let now = link::query(&name)?;
        if now.tx_queue_len < TX_QUEUE_LEN {
            // Whoever may not configure a persistent device gets it as it is.
            let _ = link::set_tx_queue_len(&name, TX_QUEUE_LEN);
        }
        if self.up && !now.up {
            link::set_up(&name)?;
        }
        if self.up || now.up {
            self.addresses.iter().filter(|(ip, _)| ip.is_ipv6()).for_each(|(ip, _)| link::await_local(*ip));
        }
        if self.threaded_napi {
            napi::set_threaded(&name)?;
        }
        Ok(tun)
    }

    /// With offload if it is wished for and the kernel has it, else without. Of two failures the second is told: it is the
    /// one that has nothing to do with offload.
    fn open_best(&self) -> io::Result<OwnedFd> {
        if self.offload
            && let Ok(fd) = self.open_with(true)
        {
            return Ok(fd);
        }
        self.open_with(false)
    }

    fn open_with(&self, offload: bool) -> io::Result<OwnedFd> {
        let fd = self.open(offload)?;
        if offload {
            let len = i32::try_from(vnet::LEN).map_err(io::Error::other)?;
            sys::set_vnet_header_len(&fd, len).map_err(|error| failed("setting the vnet header size", &error))?;
        }
        // Always said: a persistent device keeps what its last user said.
        let flags = if offload { sys::TUN_F_CSUM | sys::TUN_F_TSO4 | sys::TUN_F_TSO6 } else { 0 };
        sys::set_offload(&fd, flags).map_err(|error| failed("setting the offload flags (TUNSETOFFLOAD)", &error))?;
        if self.threaded_napi {
            let set = sys::set_send_buffer(&fd, self.napi_queue);
            set.map_err(|error| failed("bounding what waits for NAPI (TUNSETSNDBUF)", &error))?;
        }
        Ok(fd)
    }

    fn check(&self) -> io::Result<()> {
        let refused = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        if let Some(name) = &self.name {
            if name.len() > MAX_NAME {
                let len = name.len();
                return refused(format!(
                    "the interface name {name:?} has {len} bytes; at most {MAX_NAME} are possible"
                ));
            }
            let impossible = |c: char| c.is_whitespace() || matches!(c, '/' | ':' | '\0');
            if name.is_empty() || name == "." || name == ".." || name.contains(impossible) {
                return refused(format!("{name:?} cannot be the name of an interface"));
            }
        }
        let has_v6 = self.addresses.iter().any(|(ip, _)| ip.is_ipv6());
        match self.mtu {
            Some(mtu) if mtu < MIN_MTU => return refused(format!("an MTU of {mtu} is below {MIN_MTU}")),
            Some(mtu) if mtu > MAX_MTU => return refused(format!("an MTU of {mtu} is above {MAX_MTU}")),
            Some(mtu) if has_v6 && mtu < MIN_MTU_V6 => {
                return refused(format!("an MTU of {mtu} is below {MIN_MTU_V6}, which IPv6 needs"));
            }
            _ => {}
        }
        for (ip, prefix) in &self.addresses {
            link::check_prefix(*ip, *prefix)?;
            if ip.is_unspecified() || ip.is_multicast() {
                return refused(format!("{ip} cannot be the address of an interface"));
            }
        }
        Ok(())
    }

    fn open(&self, offload: bool) -> io::Result<OwnedFd> {
        // Opened once for the error's sake: the `tun` crate does not say which of its steps failed.
        rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|error| {
            let error = io::Error::from(error);
            let advice = match error.kind() {
                io::ErrorKind::NotFound => {
                    "load the kernel's tun module, or give the container the device (docker: --device /dev/net/tun)"
                }
                _ => "run as root, in a user namespace, or attach to a persistent device owned by you",
            };
            io::Error::new(error.kind(), format!("opening /dev/net/tun: {error}: {advice}"))
        })?;
        let mut config = tun::Configuration::default();
        if let Some(name) = &self.name {
            config.tun_name(name);
        }
        config.platform_config(|platform| {
            // Addresses, MTU and state are set by this crate, if asked for at all.
            platform.ensure_root_privileges(false).vnet_hdr(offload).napi(self.threaded_napi);
        });
        let device = tun::Device::new(&config).map_err(|error| {
            let error = io::Error::from(error);
            let name = self.name.as_deref().unwrap_or("a new interface");
            let advice = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    ": run as root, in a user and network namespace, or attach to a persistent device owned by you \
                     (ip tuntap add dev NAME mode tun user USER)"
                }
                io::ErrorKind::ResourceBusy => ": another program is attached to it",
                io::ErrorKind::InvalidInput => ": there is an interface of that name that is no TUN, or of other flags",
                _ => "",
            };
            io::Error::new(error.kind(), format!("attaching to {name} (TUNSETIFF): {error}{advice}"))
        })?;
        Ok(sys::into_fd(device))
    }
}
