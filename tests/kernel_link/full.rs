//! A device that is full: only threaded NAPI lets packets wait inside of the kernel.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::task::{Context, Poll};

use usernet::device::{Device, Offload, Outgoing, Tun};
use usernet::time::Instant;

use super::{Failure, ensure};

/// Room for a few packets.
const QUEUE: i32 = 16 << 10;
/// How often it must have been full.
const TIMES: usize = 20;

/// UDP from nobody to nowhere, without checksum: the kernel drops it.
fn packet() -> Vec<u8> {
    let mut packet = vec![0x45, 0, 5, 120, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 101, 0, 2, 10, 102, 0, 1];
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or_default();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.resize(1_400, 0);
    packet
}

/// Takes what the kernel sends: a packet that arrives would wake whoever waits for room, too.
fn read_all(tun: &mut Tun, cx: &mut Context<'_>) -> io::Result<()> {
    let mut buffer = [0; 65_536];
    while let Poll::Ready(received) = tun.poll_recv(cx, Instant::ZERO, &mut [IoSliceMut::new(&mut buffer)]) {
        received?;
    }
    Ok(())
}

/// Sends until the device has been full some times, and waits for room each time.
pub async fn wait_for_room(name: &str) -> Result<(), Failure> {
    let builder = Tun::builder().name(name).offload(false).threaded_napi(true).napi_queue(QUEUE);
    let mut tun = builder.kernel_address("10.101.0.1".parse()?, 24).build()?;
    let packet = packet();
    let out = Outgoing { header: &packet, payload: [&[], &[]], offload: Offload::default() };
    let mut full = 0;
    while full < TIMES {
        let mut waited = false;
        poll_fn(|cx| {
            if !waited {
                // As a reactor does; what it finds must not wake us later.
                read_all(&mut tun, cx)?;
            }
            let sent = tun.poll_send(cx, Instant::ZERO, &out);
            waited |= sent.is_pending();
            sent
        })
        .await?;
        full += usize::from(waited);
    }
    ensure(full == TIMES, "it was full, and had room again")
}
