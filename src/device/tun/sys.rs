//! The system calls of the TUN device that have no safe wrapper. Linux only; the only file of `device` with `unsafe`.
//!
//! Owns nothing. Called by `tun` and `tun::namespace`.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `struct ifreq` as TUNGETIFF fills it: the name and, first in the union, the flags.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(super) struct InterfaceRequest {
    pub(super) name: [u8; 16],
    pub(super) flags: u16,
    union_rest: [u8; 22],
}

/// `struct ifreq` has 40 bytes where pointers have 8, 32 where they have 4; ours is never shorter.
const _: () = assert!(size_of::<InterfaceRequest>() == 40);

pub(super) const IFF_TUN: u16 = 0x0001;
pub(super) const IFF_NO_PI: u16 = 0x1000;
pub(super) const IFF_VNET_HDR: u16 = 0x4000;

pub(super) const TUN_F_CSUM: u32 = 0x01;
pub(super) const TUN_F_TSO4: u32 = 0x02;
pub(super) const TUN_F_TSO6: u32 = 0x04;

// <linux/if_tun.h>
const TUNSETSNDBUF: Opcode = opcode::write::<i32>(b'T', 212);
const TUNSETOFFLOAD: Opcode = opcode::write::<u32>(b'T', 208);
const TUNGETIFF: Opcode = opcode::read::<u32>(b'T', 210);
const TUNGETVNETHDRSZ: Opcode = opcode::read::<i32>(b'T', 215);
const TUNSETVNETHDRSZ: Opcode = opcode::write::<i32>(b'T', 216);

/// Takes the descriptor out of a device the `tun` crate has opened.
pub(super) fn into_fd(device: tun::Device) -> OwnedFd {
    let raw = device.into_raw_fd();
    // SAFETY: `into_raw_fd` gives up the only owner of an open descriptor.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Registers a descriptor with the current runtime, for both directions. Panics where there is none.
pub(super) fn register(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the `AsyncFd` owns a share of the `OwnedFd`, so the descriptor stays open and the same as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE | Interest::WRITABLE) }?)
}

/// Name and flags of the interface behind a descriptor of `/dev/net/tun`.
pub(super) fn interface(fd: impl AsFd) -> io::Result<InterfaceRequest> {
    let mut request = InterfaceRequest { name: [0; 16], flags: 0, union_rest: [0; 22] };
    // SAFETY: TUNGETIFF writes a `struct ifreq` to the pointer (its declared argument type, unsigned int, is historic);
    // `InterfaceRequest` is at least as large and any bytes are valid for it. On other kinds of descriptors the number
    // is unknown and answered with ENOTTY.
    unsafe { ioctl(fd, Updater::<TUNGETIFF, InterfaceRequest>::new(&mut request)) }?;
    Ok(request)
}

/// Tells the kernel which unfinished packets it may deliver.
pub(super) fn set_offload(fd: impl AsFd, flags: u32) -> io::Result<()> {
    let value = usize::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: TUNSETOFFLOAD takes an integer of TUN_F_* bits; unknown ones are answered with EINVAL.
    unsafe { ioctl(fd, IntegerSetter::<TUNSETOFFLOAD>::new_usize(value)) }?;
    Ok(())
}

/// How many bytes may wait in the kernel to be processed; more are refused with EAGAIN.
pub(super) fn set_send_buffer(fd: impl AsFd, bytes: i32) -> io::Result<()> {
    // SAFETY: TUNSETSNDBUF reads an int from the pointer.
    unsafe { ioctl(fd, Setter::<TUNSETSNDBUF, i32>::new(bytes)) }?;
    Ok(())
}

/// Bytes of the vnet header in front of each packet.
pub(super) fn vnet_header_len(fd: impl AsFd) -> io::Result<usize> {
    let mut len: i32 = 0;
    // SAFETY: TUNGETVNETHDRSZ writes an int to the pointer.
    unsafe { ioctl(fd, Updater::<TUNGETVNETHDRSZ, i32>::new(&mut len)) }?;
    usize::try_from(len).map_err(io::Error::other)
}

/// Sets the bytes of the vnet header.
pub(super) fn set_vnet_header_len(fd: impl AsFd, len: i32) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads an int from the pointer.
    unsafe { ioctl(fd, Setter::<TUNSETVNETHDRSZ, i32>::new(len)) }?;
    Ok(())
}

/// Which namespaces to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unshare {
    Network,
    UserAndNetwork,
}

/// Gives the calling thread namespaces of its own.
pub(super) fn unshare(which: Unshare) -> io::Result<()> {
    let flags = match which {
        Unshare::Network => UnshareFlags::NEWNET,
        Unshare::UserAndNetwork => UnshareFlags::NEWNET | UnshareFlags::NEWUSER,
    };
    // SAFETY: only CLONE_FILES makes this call unsafe (a descriptor could vanish from a thread); it is not among the flags.
    unsafe { unshare_unsafe(flags) }?;
    Ok(())
}
