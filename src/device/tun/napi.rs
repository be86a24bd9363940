//! Threaded NAPI: has the kernel process what a TUN sends in a thread of its own.
//!
//! Owns nothing. The switch is a file of sysfs, and `/sys` shows the network namespace it was mounted in, which may be
//! another one with an interface of the same name. So sysfs is mounted anew for the caller's namespace, as a detached
//! mount that nobody else sees and that ends here. Called by `TunBuilder::build`.

use std::io;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::failed;

/// The interface must have been opened with `IFF_NAPI`.
pub(super) fn set_threaded(name: &str) -> io::Result<()> {
    let switch = || {
        let sysfs = fsopen("sysfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&sysfs)?;
        let root = fsmount(&sysfs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        let file = format!("class/net/{name}/threaded");
        let file = rustix::fs::openat(root, file, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&file, b"1")?;
        let mut answer = [0];
        rustix::io::pread(&file, &mut answer, 0)?;
        if answer == *b"1" { Ok(()) } else { Err(Errno::OPNOTSUPP) }
    };
    let step = format!("switching {name} to threaded NAPI (needs CAP_SYS_ADMIN and Linux 5.12)");
    switch().map_err(|error: Errno| failed(&step, &io::Error::from(error)))
}
