//! What a segmenting device would do, in software: one large TCP segment into packets that fit a wire.

use etherparse::{IpNumber, TcpHeader, TcpHeaderSlice};

use super::checksum::Sum;
use super::emit::{TCP_CHECKSUM_OFFSET, put};
use super::parse::Ip;
use super::{Checksum, Offload, complete_checksum};

/// Hands each packet of `packet` to `each`, with complete checksums: the packet itself if [`Offload::segment_size`] is not
/// set or not exceeded, otherwise TCP packets of at most that many payload bytes. FIN and PSH stay on the last, CWR on
/// the first; IPv4 IDs are copied (0 on what we emit). What is not TCP is handed on whole.
///
/// `scratch` holds the packet being built; only its capacity is kept between calls.
pub fn split_large(packet: &[u8], offload: Offload, scratch: &mut Vec<u8>, each: &mut dyn FnMut(&[u8])) {
    if let Some(large) = Large::new(packet, offload) {
        large.split(scratch, each);
    } else if let Checksum::Partial { .. } = offload.checksum {
        scratch.clear();
        scratch.extend_from_slice(packet);
        complete_checksum(scratch, offload);
        each(scratch);
    } else {
        each(packet);
    }
}

/// A large TCP segment, taken apart.
struct Large<'a> {
    ip: Ip<'a>,
    /// IP header with its options or extension headers.
    ip_header: &'a [u8],
    tcp: TcpHeader,
    payload: &'a [u8],
    size: usize,
}

impl<'a> Large<'a> {
    fn new(packet: &'a [u8], offload: Offload) -> Option<Large<'a>> {
        let size = usize::from(offload.segment_size.filter(|&size| size > 0)?);
        let ip = Ip::parse(packet).ok()?;
        if ip.protocol != IpNumber::TCP {
            return None;
        }
        let tcp = TcpHeaderSlice::from_slice(ip.payload).ok()?;
        let payload = ip.payload.get(tcp.slice().len()..)?;
        let ip_header = packet.get(..ip.header_len)?;
        (payload.len() > size).then(|| Large { ip, ip_header, tcp: tcp.to_header(), payload, size })
    }

    fn split(&self, scratch: &mut Vec<u8>, each: &mut dyn FnMut(&[u8])) {
        let mut rest = self.payload;
        let mut tcp = self.tcp.clone();
        while !rest.is_empty() {
            let (text, after) = rest.split_at_checked(self.size).unwrap_or((rest, &[]));
            let is_last = after.is_empty();
            tcp.fin = self.tcp.fin && is_last;
            tcp.psh = self.tcp.psh && is_last;
            self.build(scratch, &tcp, text);
            each(scratch);
            // At most 65,535: the IP length bounds it.
            tcp.sequence_number = tcp.sequence_number.wrapping_add(u32::try_from(text.len()).unwrap_or(u32::MAX));
            // RFC 3168 §6.1.2: one CWR for one reduction.
            tcp.cwr = false;
            rest = after;
        }
    }

    fn build(&self, scratch: &mut Vec<u8>, tcp: &TcpHeader, text: &[u8]) {
        let tcp_len = tcp.header_len() + text.len();
        scratch.clear();
        scratch.extend_from_slice(self.ip_header);
        self.ip.set_payload_len(scratch, tcp_len);
        scratch.extend_from_slice(&TcpHeader { checksum: 0, ..tcp.clone() }.to_bytes());
        scratch.extend_from_slice(text);
        let covered = scratch.get(self.ip_header.len()..).unwrap_or_default();
        let info = self.ip.info;
        let checksum = Sum::pseudo(info.src, info.dst, IpNumber::TCP, tcp_len).add(covered).checksum();
        put(scratch, self.ip_header.len() + usize::from(TCP_CHECKSUM_OFFSET), &checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
