//! Writes whole frames that carry a UDP datagram of the router's own making.
//!
//! Follows: RFC 894, RFC 791, RFC 768.
//! Units: bytes.

use smoltcp::wire::{EthernetAddress, Ipv4Address};

use super::checksum;
use super::packet::{
    ETHERNET_BYTES, ETHERTYPE_IPV4, Ethernet, IPV4_BYTES, PROTOCOL_UDP, UDP_BYTES,
};
use super::segment::emit_ipv4;

/// Header fields of a datagram to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramHeader {
    /// Ethernet source.
    pub src_mac: EthernetAddress,
    /// Ethernet destination.
    pub dst_mac: EthernetAddress,
    /// IP source.
    pub src: Ipv4Address,
    /// IP destination.
    pub dst: Ipv4Address,
    /// UDP source port.
    pub src_port: u16,
    /// UDP destination port.
    pub dst_port: u16,
    /// IP identification.
    pub ident: u16,
}

/// Length of the frame for a datagram with so many bytes of payload.
pub const fn frame_len(payload_len: usize) -> usize {
    ETHERNET_BYTES + IPV4_BYTES + UDP_BYTES + payload_len
}

/// Writes the whole frame: Ethernet, IPv4 (DF, TTL 64), UDP, and what `fill_payload` puts into the
/// rest of `frame`. Checksums are right.
///
/// # Panics
/// When `frame` is shorter than [`frame_len`] of nothing or longer than an IPv4 datagram can be:
/// the caller sizes the frame.
pub fn emit(frame: &mut [u8], header: &DatagramHeader, fill_payload: impl FnOnce(&mut [u8])) {
    Ethernet {
        dst: header.dst_mac,
        src: header.src_mac,
        ethertype: ETHERTYPE_IPV4,
    }
    .emit(frame);
    emit_ipv4(frame, PROTOCOL_UDP, header.src, header.dst, header.ident);
    let datagram = &mut frame[ETHERNET_BYTES + IPV4_BYTES..];
    assert!(datagram.len() <= usize::from(u16::MAX));
    let len = datagram.len() as u16;
    let (udp, payload) = datagram.split_at_mut(UDP_BYTES);
    udp[0..2].copy_from_slice(&header.src_port.to_be_bytes());
    udp[2..4].copy_from_slice(&header.dst_port.to_be_bytes());
    udp[4..6].copy_from_slice(&len.to_be_bytes());
    udp[6..8].copy_from_slice(&[0; 2]);
    fill_payload(payload);
    let pseudo = checksum::pseudo_header(header.src, header.dst, PROTOCOL_UDP, len);
    let sum = checksum::combine(
        checksum::combine(pseudo, checksum::sum(udp)),
        checksum::sum(payload),
    );
    // "If the computed checksum is zero, it is transmitted as all ones" (RFC 768).
    let field = match checksum::finish(sum) {
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&field.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::packet::{Packet, Transport, Udp};
    use super::super::segment::tests::checksums_hold;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_written_datagram_is_read_back_and_its_checksums_hold(
            payload in proptest::collection::vec(any::<u8>(), 0..1472), src_port: u16, dst_port: u16,
        ) {
            let header = DatagramHeader {
                src_mac: EthernetAddress([2, 0, 0, 0, 0, 1]),
                dst_mac: EthernetAddress::BROADCAST,
                src: Ipv4Address::new(192, 168, 1, 1),
                dst: Ipv4Address::BROADCAST,
                src_port,
                dst_port,
                ident: 7,
            };
            let mut frame = vec![0xAA; frame_len(payload.len())];
            emit(&mut frame, &header, |room| room.copy_from_slice(&payload));
            prop_assert!(checksums_hold(&frame));
            let packet = Packet::parse(&frame).unwrap();
            prop_assert_eq!(packet.transport, Transport::Udp(Udp { src_port, dst_port }));
            prop_assert_eq!(packet.payload(&frame), &payload[..]);
            prop_assert!(packet.transport_checksum_ok(&frame));
        }
    }
}
