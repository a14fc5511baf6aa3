//! An Ethernet frame that carries IPv4, parsed once into offsets and a small `Copy` value.
//!
//! Follows: RFC 791 (IPv4), RFC 9293 (TCP), RFC 768 (UDP), RFC 792 (ICMP), RFC 894 (Ethernet II).
//! Units: bytes; offsets count from the start of the frame.
//! Invariants: of a [`Packet`] that came from [`Packet::parse`] on a frame of the same length:
//! - I1 `l4 <= payload <= ip_end <= frame.len()`.
//! - I2 `l4 = 14 + header length`, a multiple of four bytes behind the Ethernet header.
//! - I3 the IPv4 header checksum was right.
//!
//! Not done: VLAN tags, 802.3 length fields (both are another ethertype here).

use smoltcp::wire::{EthernetAddress, Ipv4Address};

use super::checksum;
use crate::counter_stage;

/// Length of an Ethernet II header, bytes.
pub const ETHERNET_BYTES: usize = 14;
/// Length of an IPv4 header without options, bytes.
pub const IPV4_BYTES: usize = 20;
/// Length of a TCP header without options, bytes.
pub const TCP_BYTES: usize = 20;
/// Length of a UDP header, bytes.
pub const UDP_BYTES: usize = 8;
/// Length of the part of an ICMP header that every message has, bytes.
pub const ICMP_BYTES: usize = 8;

/// Ethertype of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ethertype of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;

/// IP protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;

/// TCP control bits (RFC 9293 section 3.1).
pub mod flags {
    /// No more data from sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push function.
    pub const PSH: u8 = 0x08;
    /// Acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
    /// Urgent pointer field is significant.
    pub const URG: u8 = 0x20;
    /// ECN-Echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// ICMP types that the router knows (RFC 792).
pub mod icmp_type {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

counter_stage! {
    /// What is wrong with a frame's bytes.
    pub enum Malformed {
        /// Shorter than an Ethernet header.
        Runt = "runt",
        /// The ethertype is not IPv4 (only from [`Packet::parse`], which takes nothing else).
        NotIpv4 = "not-ipv4",
        /// Shorter than an IPv4 header.
        IpShort = "ip-short",
        /// IP version is not 4.
        IpVersion = "ip-version",
        /// IPv4 header length below 20 or beyond the datagram.
        IpHeaderLength = "ip-header-length",
        /// IPv4 total length below the header's or beyond the frame.
        IpTotalLength = "ip-total-length",
        /// IPv4 header checksum is wrong.
        IpChecksum = "ip-checksum",
        /// Datagram ends inside the TCP header.
        TcpShort = "tcp-short",
        /// TCP data offset below 20 or beyond the datagram.
        TcpDataOffset = "tcp-data-offset",
        /// Datagram ends inside the UDP header.
        UdpShort = "udp-short",
        /// UDP length below 8 or beyond the datagram.
        UdpLength = "udp-length",
        /// Datagram ends inside the ICMP header.
        IcmpShort = "icmp-short",
    }
}

/// Ethernet II header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination.
    pub dst: EthernetAddress,
    /// Source.
    pub src: EthernetAddress,
    /// Type of the content; below 0x600 it is an 802.3 length.
    pub ethertype: u16,
}

impl Ethernet {
    /// Reads the header of a frame.
    ///
    /// # Errors
    /// [`Malformed::Runt`] below 14 bytes.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, Malformed> {
        let header = frame
            .first_chunk::<ETHERNET_BYTES>()
            .ok_or(Malformed::Runt)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
        Ok(Self {
            dst: EthernetAddress([d0, d1, d2, d3, d4, d5]),
            src: EthernetAddress([s0, s1, s2, s3, s4, s5]),
            ethertype: u16::from_be_bytes([t0, t1]),
        })
    }

    /// Writes the header to the first 14 bytes of `frame`; nothing when there is no room.
    #[inline]
    pub fn emit(&self, frame: &mut [u8]) {
        if let Some(header) = frame.first_chunk_mut::<ETHERNET_BYTES>() {
            header[0..6].copy_from_slice(&self.dst.0);
            header[6..12].copy_from_slice(&self.src.0);
            header[12..14].copy_from_slice(&self.ethertype.to_be_bytes());
        }
    }
}

/// The fields of a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number of the first byte of the payload, or of SYN.
    pub seq: u32,
    /// Acknowledgment number; meaningful with [`flags::ACK`].
    pub ack: u32,
    /// Control bits, see [`flags`].
    pub flags: u8,
    /// Window field as it is on the wire, not scaled.
    pub window: u16,
    /// Offset of the payload.
    pub payload: u16,
}

impl Tcp {
    /// All bits of `mask` are set.
    #[inline]
    pub const fn has(&self, mask: u8) -> bool {
        self.flags & mask == mask
    }

    /// Any bit of `mask` is set.
    #[inline]
    pub const fn has_any(&self, mask: u8) -> bool {
        self.flags & mask != 0
    }
}

/// The fields of a UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

/// The fields of an ICMP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Message type, see [`icmp_type`].
    pub kind: u8,
    /// Code within the type.
    pub code: u8,
    /// Identifier of an echo; other meaning in other types.
    pub ident: u16,
}

/// What the datagram carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp(Tcp),
    /// A UDP datagram.
    Udp(Udp),
    /// An ICMP message.
    Icmp(Icmp),
    /// A fragment that is not the first: no transport header here.
    Fragment,
    /// Another protocol; its number is in [`Packet::protocol`].
    Other,
}

/// An IPv4 datagram in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub src: Ipv4Address,
    /// Destination address.
    pub dst: Ipv4Address,
    /// IP protocol number.
    pub protocol: u8,
    /// Time to live as received.
    pub ttl: u8,
    /// Identification of the datagram.
    pub ident: u16,
    /// Flags and fragment offset as on the wire.
    pub fragment: u16,
    /// Offset of the transport header.
    pub l4: u16,
    /// Offset behind the datagram's last byte; what follows in the frame is padding.
    pub ip_end: u16,
    /// The transport header.
    pub transport: Transport,
}

impl Packet {
    /// Parses a frame; of TCP, UDP and ICMP the transport checksum is not looked at.
    ///
    /// # Errors
    /// What is wrong with the bytes; [`Malformed::NotIpv4`] for another ethertype.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, Malformed> {
        let (ethernet, rest) = frame
            .split_first_chunk::<ETHERNET_BYTES>()
            .ok_or(Malformed::Runt)?;
        if u16::from_be_bytes([ethernet[12], ethernet[13]]) != ETHERTYPE_IPV4 {
            return Err(Malformed::NotIpv4);
        }
        let ip = rest.first_chunk::<IPV4_BYTES>().ok_or(Malformed::IpShort)?;
        if ip[0] >> 4 != 4 {
            return Err(Malformed::IpVersion);
        }
        let header_bytes = usize::from(ip[0] & 0x0F) * 4;
        let total_bytes = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        if header_bytes < IPV4_BYTES || header_bytes > rest.len() {
            return Err(Malformed::IpHeaderLength);
        }
        if total_bytes < header_bytes || total_bytes > rest.len() {
            return Err(Malformed::IpTotalLength);
        }
        if !header_checksum_ok(ip, &rest[IPV4_BYTES..header_bytes]) {
            return Err(Malformed::IpChecksum);
        }
        let fragment = u16::from_be_bytes([ip[6], ip[7]]);
        let protocol = ip[9];
        let l4 = ETHERNET_BYTES + header_bytes;
        let ip_end = ETHERNET_BYTES + total_bytes;
        let body = &frame[l4..ip_end];
        let transport = if fragment & FRAGMENT_OFFSET != 0 {
            Transport::Fragment
        } else {
            let whole = fragment & MORE_FRAGMENTS == 0;
            match protocol {
                PROTOCOL_TCP => Transport::Tcp(parse_tcp(body, l4)?),
                PROTOCOL_UDP => Transport::Udp(parse_udp(body, whole)?),
                PROTOCOL_ICMP => Transport::Icmp(parse_icmp(body)?),
                _ => Transport::Other,
            }
        };
        Ok(Self {
            src: Ipv4Address::new(ip[12], ip[13], ip[14], ip[15]),
            dst: Ipv4Address::new(ip[16], ip[17], ip[18], ip[19]),
            protocol,
            ttl: ip[8],
            ident: u16::from_be_bytes([ip[4], ip[5]]),
            fragment,
            // A frame is far shorter than 64 KiB: total length is itself 16 bits, and no port
            // takes frames above `FRAME_BYTES_MAX`.
            l4: l4 as u16,
            ip_end: ip_end.min(usize::from(u16::MAX)) as u16,
            transport,
        })
    }

    /// Whether this is a part of a larger datagram, the first included.
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        self.fragment & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// Position of this fragment's first byte in the datagram's body, bytes.
    #[inline]
    pub const fn fragment_offset(&self) -> u32 {
        (self.fragment & FRAGMENT_OFFSET) as u32 * 8
    }

    /// More fragments of the datagram follow.
    #[inline]
    pub const fn more_fragments(&self) -> bool {
        self.fragment & MORE_FRAGMENTS != 0
    }

    /// The sender forbids fragmentation on the way.
    #[inline]
    pub const fn dont_fragment(&self) -> bool {
        self.fragment & DONT_FRAGMENT != 0
    }

    /// The TCP header, if there is one.
    #[inline]
    pub const fn tcp(&self) -> Option<&Tcp> {
        match &self.transport {
            Transport::Tcp(tcp) => Some(tcp),
            Transport::Udp(_) | Transport::Icmp(_) | Transport::Fragment | Transport::Other => None,
        }
    }

    /// Bytes behind the transport header (TCP), or behind the IP header's fixed successor
    /// (UDP, ICMP); empty for others. Empty too when `frame` is not the frame that was parsed.
    #[inline]
    pub fn payload<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        frame.get(self.payload_range()).unwrap_or(&[])
    }

    /// Where [`payload`](Self::payload) lies in the frame.
    #[inline]
    pub const fn payload_range(&self) -> core::ops::Range<usize> {
        let start = match &self.transport {
            Transport::Tcp(tcp) => tcp.payload as usize,
            Transport::Udp(_) => self.l4 as usize + UDP_BYTES,
            Transport::Icmp(_) => self.l4 as usize + ICMP_BYTES,
            Transport::Fragment | Transport::Other => self.ip_end as usize,
        };
        start..self.ip_end as usize
    }

    /// Length of the payload, bytes.
    #[inline]
    pub const fn payload_len(&self) -> usize {
        let range = self.payload_range();
        range.end - range.start
    }

    /// What the segment takes in sequence space: payload, SYN and FIN; 0 if it is not TCP.
    #[inline]
    pub const fn sequence_len(&self) -> u32 {
        match &self.transport {
            Transport::Tcp(tcp) => {
                let control =
                    (tcp.flags & flags::FIN != 0) as u32 + (tcp.flags & flags::SYN != 0) as u32;
                (self.ip_end - tcp.payload) as u32 + control
            }
            Transport::Udp(_) | Transport::Icmp(_) | Transport::Fragment | Transport::Other => 0,
        }
    }

    /// The option bytes of the TCP header; empty if there are none.
    #[inline]
    pub fn tcp_options<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        match &self.transport {
            Transport::Tcp(tcp) => frame
                .get(usize::from(self.l4) + TCP_BYTES..usize::from(tcp.payload))
                .unwrap_or(&[]),
            Transport::Udp(_) | Transport::Icmp(_) | Transport::Fragment | Transport::Other => &[],
        }
    }

    /// Whether the checksum of TCP, UDP or ICMP is right; reads the whole payload.
    ///
    /// True for a UDP datagram without checksum, for other protocols and for fragments, of which
    /// nothing can be said.
    pub fn transport_checksum_ok(&self, frame: &[u8]) -> bool {
        let Some(body) = frame.get(usize::from(self.l4)..usize::from(self.ip_end)) else {
            return false;
        };
        if self.is_fragment() {
            return true;
        }
        let pseudo = checksum::pseudo_header(self.src, self.dst, self.protocol, body.len() as u16);
        match &self.transport {
            Transport::Tcp(_) => checksum::is_valid(checksum::combine(pseudo, checksum::sum(body))),
            Transport::Udp(_) => {
                // The checksum covers the UDP length, which may be less than the datagram's.
                let udp_bytes = usize::from(u16::from_be_bytes([body[4], body[5]]));
                let body = body.get(..udp_bytes).unwrap_or(body);
                let pseudo =
                    checksum::pseudo_header(self.src, self.dst, self.protocol, body.len() as u16);
                body[6..8] == [0, 0]
                    || checksum::is_valid(checksum::combine(pseudo, checksum::sum(body)))
            }
            Transport::Icmp(_) => checksum::is_valid(checksum::sum(body)),
            Transport::Fragment | Transport::Other => true,
        }
    }
}

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1FFF;

/// Verifies the header checksum; ten words in the machine's order (RFC 1071 section 2 (B)).
#[inline(always)]
fn header_checksum_ok(fixed: &[u8; IPV4_BYTES], options: &[u8]) -> bool {
    let (words, _) = fixed.as_chunks::<4>();
    let mut acc = 0u32;
    for &word in words {
        let word = u32::from_ne_bytes(word);
        acc += (word & 0xFFFF) + (word >> 16);
    }
    if !options.is_empty() {
        acc += u32::from((checksum::sum(options) as u16).to_be());
    }
    checksum::is_valid(acc)
}

#[inline(always)]
fn parse_tcp(body: &[u8], l4: usize) -> Result<Tcp, Malformed> {
    let header = body.first_chunk::<TCP_BYTES>().ok_or(Malformed::TcpShort)?;
    let header_bytes = usize::from(header[12] >> 4) * 4;
    if header_bytes < TCP_BYTES || header_bytes > body.len() {
        return Err(Malformed::TcpDataOffset);
    }
    Ok(Tcp {
        src_port: u16::from_be_bytes([header[0], header[1]]),
        dst_port: u16::from_be_bytes([header[2], header[3]]),
        seq: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        ack: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        flags: header[13],
        window: u16::from_be_bytes([header[14], header[15]]),
        payload: (l4 + header_bytes) as u16,
    })
}

#[inline]
fn parse_udp(body: &[u8], whole: bool) -> Result<Udp, Malformed> {
    let header = body.first_chunk::<UDP_BYTES>().ok_or(Malformed::UdpShort)?;
    let udp_bytes = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if udp_bytes < UDP_BYTES || (whole && udp_bytes > body.len()) {
        return Err(Malformed::UdpLength);
    }
    Ok(Udp {
        src_port: u16::from_be_bytes([header[0], header[1]]),
        dst_port: u16::from_be_bytes([header[2], header[3]]),
    })
}

#[inline]
fn parse_icmp(body: &[u8]) -> Result<Icmp, Malformed> {
    let header = body
        .first_chunk::<ICMP_BYTES>()
        .ok_or(Malformed::IcmpShort)?;
    Ok(Icmp {
        kind: header[0],
        code: header[1],
        ident: u16::from_be_bytes([header[4], header[5]]),
    })
}

#[cfg(test)]
mod tests {
    use super::super::segment::tests::header;
    use super::super::segment::{emit, frame_len};
    use super::*;
    use proptest::prelude::*;

    fn frame() -> Vec<u8> {
        let mut frame = vec![0; frame_len(0, 4)];
        emit(&mut frame, &header(&[]), |room| {
            room.copy_from_slice(b"GET ")
        });
        frame
    }

    /// Sets bytes of the IP header and makes its checksum right again.
    fn with(changes: &[(usize, u8)]) -> Vec<u8> {
        let mut frame = frame();
        for &(at, value) in changes {
            frame[at] = value;
        }
        frame[24..26].fill(0);
        let end = (14 + usize::from(frame[14] & 15) * 4).min(frame.len());
        let field = checksum::finish(checksum::sum(&frame[14..end]));
        frame[24..26].copy_from_slice(&field.to_be_bytes());
        frame
    }

    #[test]
    fn each_fault_has_its_own_name() {
        let cases: [(Vec<u8>, Malformed); 12] = [
            (vec![0; 13], Malformed::Runt),
            (with(&[(12, 0x86), (13, 0xDD)]), Malformed::NotIpv4),
            (frame()[..33].to_vec(), Malformed::IpShort),
            (with(&[(14, 0x65)]), Malformed::IpVersion),
            (with(&[(14, 0x44)]), Malformed::IpHeaderLength),
            (
                with(&[(14, 0x4F), (17, 60)])[..50].to_vec(),
                Malformed::IpHeaderLength,
            ),
            (with(&[(17, 45)]), Malformed::IpTotalLength),
            (with(&[(17, 19)]), Malformed::IpTotalLength),
            (with(&[(17, 39)]), Malformed::TcpShort),
            (with(&[(46, 0x40)]), Malformed::TcpDataOffset),
            (with(&[(46, 0xF0)]), Malformed::TcpDataOffset),
            (with(&[(23, 1), (17, 27)]), Malformed::IcmpShort),
        ];
        for (bytes, fault) in cases {
            assert_eq!(Packet::parse(&bytes), Err(fault));
        }
        let mut bad = frame();
        bad[24] ^= 1;
        assert_eq!(Packet::parse(&bad), Err(Malformed::IpChecksum));
        assert_eq!(
            Packet::parse(&with(&[(23, 17), (17, 27)])),
            Err(Malformed::UdpShort)
        );
        assert_eq!(
            Packet::parse(&with(&[(23, 17), (38, 0), (39, 7)])),
            Err(Malformed::UdpLength)
        );
        assert_eq!(
            Packet::parse(&with(&[(23, 17), (38, 0), (39, 25)])),
            Err(Malformed::UdpLength)
        );
    }

    #[test]
    fn padding_behind_the_datagram_is_not_payload() {
        let mut padded = frame();
        padded.extend([0xEE; 6]);
        let packet = Packet::parse(&padded).unwrap();
        assert_eq!(packet.payload(&padded), b"GET ");
        assert!(packet.transport_checksum_ok(&padded));
    }

    #[test]
    fn a_later_fragment_has_no_transport_header() {
        let later = with(&[(20, 0), (21, 1)]);
        let packet = Packet::parse(&later).unwrap();
        assert_eq!(packet.transport, Transport::Fragment);
        assert_eq!(
            (
                packet.fragment_offset(),
                packet.more_fragments(),
                packet.is_fragment()
            ),
            (8, false, true)
        );
        let first = Packet::parse(&with(&[(20, 0x20), (21, 0)])).unwrap();
        assert!(first.is_fragment() && first.more_fragments() && first.tcp().is_some());
    }

    #[test]
    fn a_flipped_payload_bit_is_seen_by_the_transport_checksum() {
        let mut bytes = frame();
        bytes[55] ^= 0x10;
        let packet = Packet::parse(&bytes).unwrap();
        assert!(!packet.transport_checksum_ok(&bytes));
    }

    #[test]
    fn ip_options_are_part_of_the_header_checksum() {
        // 24-byte header: an options word is put in front of the TCP header.
        let mut bytes = frame();
        bytes.splice(34..34, [1, 1, 1, 0]);
        bytes[14] = 0x46;
        bytes[17] += 4;
        bytes[24..26].fill(0);
        let field = checksum::finish(checksum::sum(&bytes[14..38]));
        bytes[24..26].copy_from_slice(&field.to_be_bytes());
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.l4, packet.payload(&bytes)), (38, &b"GET "[..]));
        bytes[35] = 2;
        assert_eq!(Packet::parse(&bytes), Err(Malformed::IpChecksum));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_offsets_stay_inside(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), fix: bool) {
            if fix && bytes.len() > 34 {
                bytes[12..15].copy_from_slice(&[8, 0, 0x45]);
                bytes[16] = 0;
                bytes[23] = [1, 6, 17, 47][usize::from(bytes[23] % 4)];
                bytes[24..26].fill(0);
                let field = checksum::finish(checksum::sum(&bytes[14..34]));
                bytes[24..26].copy_from_slice(&field.to_be_bytes());
            }
            if let Ok(packet) = Packet::parse(&bytes) {
                let range = packet.payload_range();
                prop_assert!(usize::from(packet.l4) <= range.start && range.start <= range.end && range.end <= bytes.len());
                let _ = (packet.transport_checksum_ok(&bytes), packet.tcp_options(&bytes), packet.sequence_len());
            }
        }
    }
}
