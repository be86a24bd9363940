//! A private network namespace for the examples and the tests: nothing of the host's network is touched.
//!
//! Owns nothing. Called in plain `main()`, before any runtime or thread exists.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use super::sys::{self, Unshare};
use super::{Tun, link};

/// How [`enter_private`] got its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Namespace {
    /// A network namespace of its own; the process had the privilege.
    Network,
    /// A user namespace (in which the process is root) and a network namespace in it.
    UserAndNetwork,
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Namespace::Network => "network namespace",
            Namespace::UserAndNetwork => "user and network namespace",
        })
    }
}

/// Moves the process into a network namespace of its own and brings `lo` up there. Needs no privilege where the kernel
/// lets users create user namespaces.
///
/// To be called at the beginning of a plain `fn main()`: only the calling thread moves, and threads it starts later.
///
/// # Errors
/// The failing step and what to do are in the text. [`InvalidInput`](io::ErrorKind::InvalidInput) if the process has
/// more than one thread.
///
/// ```no_run
/// fn main() -> std::io::Result<()> {
///     let namespace = usernet::device::tun::namespace::enter_private()?;
///     println!("in a {namespace}");
///     // only now: tokio::runtime::Builder::new_current_thread() …
///     Ok(())
/// }
/// ```
pub fn enter_private() -> io::Result<Namespace> {
    let threads = fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(1);
    if threads > 1 {
        let text = format!("entering a namespace with {threads} threads: call it first in a plain fn main()");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let namespace = match sys::unshare(Unshare::Network) {
        Ok(()) => Namespace::Network,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            enter_user_and_network()?;
            Namespace::UserAndNetwork
        }
        Err(error) => return Err(step("creating a network namespace", &error, "")),
    };
    link::set_up("lo")?;
    Ok(namespace)
}

fn enter_user_and_network() -> io::Result<()> {
    // Read before the call: inside, the process is nobody until the maps are written.
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    sys::unshare(Unshare::UserAndNetwork).map_err(|error| {
        let advice = ": user namespaces are forbidden here (see the sysctls kernel.unprivileged_userns_clone, \
                      kernel.apparmor_restrict_unprivileged_userns and user.max_user_namespaces), or run as root";
        step("creating a user and network namespace", &error, advice)
    })?;
    // user_namespaces(7): without privilege outside, setgroups must be denied before gid_map can be written.
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    for (path, text) in maps {
        fs::write(path, text).map_err(|error| step(&format!("writing {path}"), &error, ""))?;
    }
    Ok(())
}

/// Whether TUN works here: creates and configures a device and deletes it again.
///
/// # Errors
/// The failing step and what to do are in the text; in a user namespace, for instance, opening `/dev/net/tun` may be
/// forbidden.
pub fn probe() -> io::Result<()> {
    // From the block for documentation (RFC 5737), so that it collides with nothing.
    Tun::builder().mtu(1500).kernel_address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 30).build().map(|_| ())
}

fn step(what: &str, error: &io::Error, advice: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}{advice}"))
}
