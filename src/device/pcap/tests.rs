use std::task::Waker;

use pcap_file::pcapng::{Block, PcapNgReader};

use super::super::testing::{assert_split, failure, large_segment, recv, recv_with, send, send_with};
use super::super::{PairEnd, pair};
use super::*;

const AT: Instant = Instant::from_micros(1_500);

/// A writer the test can look into.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk with room for so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Time, direction flags and bytes of every packet of a capture.
fn parse(capture: &[u8]) -> Vec<(Duration, u32, Vec<u8>)> {
    let mut reader = PcapNgReader::new(capture).unwrap();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(interface) => {
                assert_eq!(interface.linktype, DataLink::RAW);
                assert!(interface.options.contains(&InterfaceDescriptionOption::IfTsResol(9)));
            }
            Block::EnhancedPacket(packet) => {
                let Some(EnhancedPacketOption::Flags(flags)) = packet.options.first() else { panic!("no flags") };
                assert_eq!(packet.original_len as usize, packet.data.len());
                packets.push((packet.timestamp, *flags, packet.data.into_owned()));
            }
            other => panic!("unexpected block {other:?}"),
        }
    }
    packets
}

fn captured() -> (Pcap<PairEnd>, PairEnd, Shared) {
    let (a, b) = pair(1500);
    let file = Shared::default();
    (Pcap::new(a, BufWriter::new(file.clone())), b, file)
}

#[test]
fn both_directions_are_recorded_with_time_and_direction() {
    let (mut device, mut peer, file) = captured();
    assert!(send(&mut device, AT, b"outgoing").is_ready());
    assert!(send(&mut peer, AT, b"incoming packet that fills two slices").is_ready());
    assert!(recv(&mut device, AT + Duration::from_micros(7)).is_some());
    assert_eq!(recv(&mut peer, AT).as_deref(), Some(&b"outgoing"[..]));
    assert_eq!(recv(&mut device, AT), None, "and that flushes");

    let packets = parse(&file.0.lock().unwrap());
    let seen: Vec<_> = packets.iter().map(|(_, flags, bytes)| (*flags, bytes.as_slice())).collect();
    assert_eq!(seen, [(2, &b"outgoing"[..]), (1, &b"incoming packet that fills two slices"[..])]);
    assert_eq!(packets[1].0 - packets[0].0, Duration::from_micros(7));
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + packets[0].0).unwrap();
    assert!(age < Duration::from_secs(60), "stamped {age:?} ago");
    assert_eq!(device.handle().packets(), 2);
}

#[test]
fn a_refused_packet_is_not_recorded() {
    let (mut device, _peer, _file) = captured();
    let sent = (0..1_000).take_while(|_| send(&mut device, AT, b"x").is_ready()).count();
    assert_eq!(device.handle().packets(), sent as u64);
}

#[test]
fn a_full_disk_ends_the_capture_and_not_the_traffic() {
    let (a, mut peer) = pair(1500);
    let mut device = Pcap::new(a, Full(300));
    for _ in 0..20 {
        assert!(send(&mut device, AT, &[1; 50]).is_ready());
        assert!(recv(&mut peer, AT).is_some());
    }
    let handle = device.handle();
    assert_eq!(handle.error().unwrap().kind(), io::ErrorKind::StorageFull);
    assert!(handle.packets() < 20);
}

#[test]
fn the_end_of_the_device_passes_through() {
    let (mut device, peer, _file) = captured();
    drop(peer);
    assert_eq!(failure(recv_with(&mut device, Waker::noop(), AT)), Some(io::ErrorKind::NetworkDown));
}

#[test]
fn dropping_it_completes_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("capture.pcapng");
    let (a, _b) = pair(1500);
    let mut device = Pcap::file(a, &path).unwrap();
    assert!(send(&mut device, AT, b"one").is_ready());
    drop(device);
    assert_eq!(parse(&std::fs::read(&path).unwrap()).len(), 1);

    let (a, _b) = pair(1500);
    let error = Pcap::file(a, dir.path().join("no/such/place")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("no/such/place"));
}

#[test]
fn the_copy_is_split_and_completed_and_the_packet_is_not() {
    let (packet, offload) = large_segment();
    let (mut device, mut peer, file) = captured();
    assert!(send_with(&mut device, Waker::noop(), AT, &packet, offload).is_ready());
    assert_eq!(recv(&mut peer, AT), Some(packet));
    assert_eq!(recv(&mut device, AT), None);
    let packets: Vec<_> = parse(&file.0.lock().unwrap()).into_iter().map(|(_, _, bytes)| bytes).collect();
    assert_split(&packets);
}
