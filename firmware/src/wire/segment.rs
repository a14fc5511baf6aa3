//! Writes whole frames that carry a TCP segment of the router's own making.
//!
//! Follows: RFC 894, RFC 791, RFC 9293 section 3.1.
//! Units: bytes.

use smoltcp::wire::{EthernetAddress, Ipv4Address};

use super::checksum;
use super::packet::{
    ETHERNET_BYTES, ETHERTYPE_IPV4, Ethernet, IPV4_BYTES, PROTOCOL_TCP, TCP_BYTES,
};

pub use super::options::{OPTIONS_BYTES_MAX, OptionsBuf, SackBlock};

/// Time to live of what the router sends itself (RFC 1700: 64).
pub const TTL: u8 = 64;

/// Header fields of a segment to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader<'o> {
    /// Ethernet source.
    pub src_mac: EthernetAddress,
    /// Ethernet destination.
    pub dst_mac: EthernetAddress,
    /// IP source.
    pub src: Ipv4Address,
    /// IP destination.
    pub dst: Ipv4Address,
    /// TCP source port.
    pub src_port: u16,
    /// TCP destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Control bits, see [`flags`](super::packet::flags).
    pub flags: u8,
    /// Window field as on the wire.
    pub window: u16,
    /// IP identification.
    pub ident: u16,
    /// Option bytes; a multiple of four, at most [`OPTIONS_BYTES_MAX`].
    pub options: &'o [u8],
}

/// Length of the frame for a segment with so many bytes of options and payload.
pub const fn frame_len(options_len: usize, payload_len: usize) -> usize {
    ETHERNET_BYTES + IPV4_BYTES + TCP_BYTES + options_len + payload_len
}

/// Writes the whole frame: Ethernet, IPv4 (DF, TTL 64), TCP, options, and what `fill_payload`
/// puts into the rest of `frame`. Every byte of `frame` is written; checksums are right.
///
/// # Panics
/// When `frame` is shorter than [`frame_len`] for the options and no payload, longer than an IPv4
/// datagram can be, or the options are no multiple of four of at most 40 bytes: the caller
/// sizes the frame, so these are faults of ours.
pub fn emit(frame: &mut [u8], header: &SegmentHeader<'_>, fill_payload: impl FnOnce(&mut [u8])) {
    let options_len = header.options.len();
    assert!(options_len.is_multiple_of(4) && options_len <= OPTIONS_BYTES_MAX);
    let ip_len = frame.len() - ETHERNET_BYTES;
    assert!(ip_len <= usize::from(u16::MAX));
    let tcp_len = ip_len - IPV4_BYTES;

    Ethernet {
        dst: header.dst_mac,
        src: header.src_mac,
        ethertype: ETHERTYPE_IPV4,
    }
    .emit(frame);
    emit_ipv4(frame, PROTOCOL_TCP, header.src, header.dst, header.ident);
    let segment = &mut frame[ETHERNET_BYTES + IPV4_BYTES..];
    let (tcp, payload) = segment.split_at_mut(TCP_BYTES + options_len);

    tcp[0..2].copy_from_slice(&header.src_port.to_be_bytes());
    tcp[2..4].copy_from_slice(&header.dst_port.to_be_bytes());
    tcp[4..8].copy_from_slice(&header.seq.to_be_bytes());
    tcp[8..12].copy_from_slice(&header.ack.to_be_bytes());
    tcp[12] = ((TCP_BYTES + options_len) as u8 / 4) << 4;
    tcp[13] = header.flags;
    tcp[14..16].copy_from_slice(&header.window.to_be_bytes());
    tcp[16..20].copy_from_slice(&[0; 4]);
    tcp[TCP_BYTES..].copy_from_slice(header.options);

    fill_payload(payload);
    // Header and options are a multiple of four, so the payload starts at an even position.
    let pseudo = checksum::pseudo_header(header.src, header.dst, PROTOCOL_TCP, tcp_len as u16);
    let sum = checksum::combine(
        checksum::combine(pseudo, checksum::sum(tcp)),
        checksum::sum(payload),
    );
    tcp[16..18].copy_from_slice(&checksum::finish(sum).to_be_bytes());
}

/// Writes an IPv4 header without options (DF, TTL 64) behind the Ethernet header, for a datagram
/// that fills the frame.
///
/// # Panics
/// When `frame` is shorter than both headers: the caller sizes the frame.
pub fn emit_ipv4(frame: &mut [u8], protocol: u8, src: Ipv4Address, dst: Ipv4Address, ident: u16) {
    let total_len = (frame.len() - ETHERNET_BYTES) as u16;
    let ip = &mut frame[ETHERNET_BYTES..ETHERNET_BYTES + IPV4_BYTES];
    ip[0] = 0x45;
    ip[1] = 0;
    ip[2..4].copy_from_slice(&total_len.to_be_bytes());
    ip[4..6].copy_from_slice(&ident.to_be_bytes());
    ip[6..8].copy_from_slice(&[0x40, 0]);
    ip[8] = TTL;
    ip[9] = protocol;
    ip[10..12].copy_from_slice(&[0, 0]);
    ip[12..16].copy_from_slice(&src.octets());
    ip[16..20].copy_from_slice(&dst.octets());
    let field = checksum::finish(checksum::sum(ip));
    ip[10..12].copy_from_slice(&field.to_be_bytes());
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::checksum::tests::naive_sum;
    use super::super::options::Summary;
    use super::super::packet::{Packet, flags};
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn header(options: &[u8]) -> SegmentHeader<'_> {
        SegmentHeader {
            src_mac: EthernetAddress([2, 0, 0, 0, 0, 1]),
            dst_mac: EthernetAddress([2, 0, 0, 0, 0, 2]),
            src: Ipv4Address::new(192, 168, 1, 100),
            dst: Ipv4Address::new(198, 51, 100, 10),
            src_port: 40_000,
            dst_port: 80,
            seq: 0xFFFF_FFF0,
            ack: 17,
            flags: flags::ACK | flags::PSH,
            window: 501,
            ident: 9,
            options,
        }
    }

    /// Both checksums of a frame with TCP, by the definition.
    pub(crate) fn checksums_hold(frame: &[u8]) -> bool {
        let ihl = usize::from(frame[14] & 15) * 4;
        let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let l4 = &frame[14 + ihl..end];
        let mut pseudo = frame[26..34].to_vec();
        pseudo.extend([0, frame[23], (l4.len() >> 8) as u8, l4.len() as u8]);
        pseudo.extend(l4);
        let transport = match frame[23] {
            6 => naive_sum(&pseudo) == 0xFFFF,
            17 => l4[6..8] == [0, 0] || naive_sum(&pseudo) == 0xFFFF,
            1 => naive_sum(l4) == 0xFFFF,
            _ => true,
        };
        naive_sum(&frame[14..14 + ihl]) == 0xFFFF && transport
    }

    #[test]
    fn a_written_segment_is_read_back_field_by_field() {
        let options = OptionsBuf::new().sack(&[SackBlock { left: 5, right: 9 }]);
        let header = header(options.as_bytes());
        let mut frame = vec![0xAA; frame_len(12, 5)];
        emit(&mut frame, &header, |payload| {
            payload.copy_from_slice(b"hello")
        });
        let packet = Packet::parse(&frame).unwrap();
        let tcp = packet.tcp().unwrap();
        assert_eq!(
            (packet.src, packet.dst, packet.ttl, packet.ident),
            (header.src, header.dst, 64, 9)
        );
        assert!(packet.dont_fragment() && !packet.is_fragment());
        assert_eq!((tcp.src_port, tcp.dst_port), (40_000, 80));
        assert_eq!(
            (tcp.seq, tcp.ack, tcp.window, tcp.flags),
            (0xFFFF_FFF0, 17, 501, header.flags)
        );
        assert_eq!(packet.payload(&frame), b"hello");
        assert_eq!(packet.sequence_len(), 5);
        assert_eq!(
            Summary::of(packet.tcp_options(&frame)).sack_blocks(),
            &[SackBlock { left: 5, right: 9 }]
        );
        assert!(packet.transport_checksum_ok(&frame) && checksums_hold(&frame));
    }

    proptest! {
        #[test]
        fn checksums_are_right_for_any_payload(
            payload in proptest::collection::vec(any::<u8>(), 0..1460), seq: u32, words in 0usize..=10,
        ) {
            let options = vec![1; words * 4];
            let header = SegmentHeader { seq, ..header(&options) };
            let mut frame = vec![0xAA; frame_len(options.len(), payload.len())];
            emit(&mut frame, &header, |room| room.copy_from_slice(&payload));
            prop_assert!(checksums_hold(&frame));
            let packet = Packet::parse(&frame).unwrap();
            prop_assert!(packet.transport_checksum_ok(&frame));
            prop_assert_eq!(packet.payload(&frame), &payload[..]);
        }
    }
}
