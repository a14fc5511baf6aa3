//! Edits of a parsed frame in place, with incremental checksums.
//!
//! Follows: RFC 1624 (checksums), RFC 3022 section 4.1 (which fields a translator edits),
//! RFC 1812 section 5.3.1 (TTL), RFC 7323 and RFC 2018 (options).
//! Units: bytes. Every function takes the frame that `packet` was parsed from; a shorter one is
//! left as it is. A checksum that was wrong stays wrong by the same amount: the receiver finds it.
//!
//! `packet` itself is not updated; it keeps saying what the frame was when it came.

use smoltcp::wire::Ipv4Address;

use super::checksum::Delta;
use super::options::{self, kind};
use super::packet::{
    ETHERNET_BYTES, ICMP_BYTES, IPV4_BYTES, Packet, TCP_BYTES, Transport, UDP_BYTES, flags,
};

/// Which end of a packet is edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum End {
    /// Source address and port.
    Source,
    /// Destination address and port.
    Destination,
}

/// Replaces address and port of one end. For ICMP echo, `port` is the identifier; for a fragment
/// that is not the first and for other protocols only the address is replaced.
pub fn endpoint(frame: &mut [u8], packet: &Packet, end: End, address: Ipv4Address, port: u16) {
    edit::<false>(frame, packet, end, address, port);
}

/// As [`endpoint`], and decrements the time to live: what a translating router does to a packet.
#[inline]
pub fn forward(frame: &mut [u8], packet: &Packet, end: End, address: Ipv4Address, port: u16) {
    edit::<true>(frame, packet, end, address, port);
}

#[inline]
fn edit<const TTL: bool>(
    frame: &mut [u8],
    packet: &Packet,
    end: End,
    address: Ipv4Address,
    port: u16,
) {
    let Some((ip, body)) = split(frame, packet) else {
        return;
    };
    let new = address.octets();
    let old = match end {
        End::Source => core::mem::replace(array_mut::<12, 4>(ip), new),
        End::Destination => core::mem::replace(array_mut::<16, 4>(ip), new),
    };
    let addresses = Delta::new().double(old, new);
    let mut header = addresses;
    if TTL {
        let old = [ip[8], ip[9]];
        ip[8] = ip[8].saturating_sub(1);
        header = header.word(old, [ip[8], ip[9]]);
    }
    let field = array_mut::<10, 2>(ip);
    *field = header.apply(*field);
    let port = port.to_be_bytes();
    match &packet.transport {
        Transport::Tcp(_) => {
            let Some(tcp) = body.first_chunk_mut::<TCP_BYTES>() else {
                return;
            };
            let delta = replace_port(tcp, end, port, addresses);
            let field = array_mut::<16, 2>(tcp);
            *field = delta.apply(*field);
        }
        Transport::Udp(_) => {
            let Some(udp) = body.first_chunk_mut::<UDP_BYTES>() else {
                return;
            };
            let delta = replace_port(udp, end, port, addresses);
            let field = array_mut::<6, 2>(udp);
            *field = delta.apply_udp(*field);
        }
        Transport::Icmp(_) => {
            // No pseudo header: the addresses do not count.
            let Some(icmp) = body.first_chunk_mut::<ICMP_BYTES>() else {
                return;
            };
            let old = core::mem::replace(array_mut::<4, 2>(icmp), port);
            let field = array_mut::<2, 2>(icmp);
            *field = Delta::new().word(old, port).apply(*field);
        }
        Transport::Fragment | Transport::Other => {}
    }
}

/// Decrements the time to live; one of zero stays.
pub fn decrement_ttl(frame: &mut [u8]) {
    edit_ttl(frame, |ttl| ttl.saturating_sub(1));
}

/// Sets the time to live.
pub fn set_ttl(frame: &mut [u8], ttl: u8) {
    edit_ttl(frame, |_| ttl);
}

/// Sets the identification of the datagram.
pub fn set_ident(frame: &mut [u8], ident: u16) {
    let Some(ip) = frame
        .get_mut(ETHERNET_BYTES..)
        .and_then(|ip| ip.first_chunk_mut::<IPV4_BYTES>())
    else {
        return;
    };
    let old = core::mem::replace(array_mut::<4, 2>(ip), ident.to_be_bytes());
    let field = array_mut::<10, 2>(ip);
    *field = Delta::new().word(old, ident.to_be_bytes()).apply(*field);
}

fn edit_ttl(frame: &mut [u8], edit: impl FnOnce(u8) -> u8) {
    let Some(ip) = frame
        .get_mut(ETHERNET_BYTES..)
        .and_then(|ip| ip.first_chunk_mut::<IPV4_BYTES>())
    else {
        return;
    };
    let old = [ip[8], ip[9]];
    ip[8] = edit(ip[8]);
    let new = [ip[8], ip[9]];
    let field = array_mut::<10, 2>(ip);
    *field = Delta::new().word(old, new).apply(*field);
}

/// Adds to the sequence number, and to the acknowledgment number with its SACK blocks, modulo
/// 2^32. A segment without ACK keeps its acknowledgment field.
pub fn shift_tcp(frame: &mut [u8], packet: &Packet, seq_add: u32, ack_add: u32) {
    let Some(&tcp) = packet.tcp() else { return };
    let payload = usize::from(tcp.payload);
    let Some((_, body)) = split(frame, packet) else {
        return;
    };
    let Some((header, rest)) = body.split_first_chunk_mut::<TCP_BYTES>() else {
        return;
    };
    let mut delta = Delta::new();
    if seq_add != 0 {
        delta = add(array_mut::<4, 4>(header), seq_add, delta);
    }
    if ack_add != 0 && tcp.has(flags::ACK) {
        delta = add(array_mut::<8, 4>(header), ack_add, delta);
        let options_len = payload - usize::from(packet.l4) - TCP_BYTES;
        let options = &mut rest[..options_len];
        if !options.is_empty() {
            delta = shift_sack(options, ack_add, delta);
        }
    }
    let field = array_mut::<16, 2>(header);
    *field = delta.apply(*field);
}

/// Replaces the window field.
pub fn set_window(frame: &mut [u8], packet: &Packet, window: u16) {
    if packet.tcp().is_none() {
        return;
    }
    let Some((_, body)) = split(frame, packet) else {
        return;
    };
    let Some(header) = body.first_chunk_mut::<TCP_BYTES>() else {
        return;
    };
    let new = window.to_be_bytes();
    let old = core::mem::replace(array_mut::<14, 2>(header), new);
    let field = array_mut::<16, 2>(header);
    *field = Delta::new().word(old, new).apply(*field);
}

/// Overwrites the timestamps option with no-operations, so that none is negotiated; true when
/// there was one.
pub fn blank_timestamps(frame: &mut [u8], packet: &Packet) -> bool {
    edit_option(frame, packet, kind::TIMESTAMPS, |option| {
        option.fill(kind::NOP);
        true
    })
}

/// Lowers the maximum segment size in a SYN to `limit`; true when it was larger.
pub fn clamp_mss(frame: &mut [u8], packet: &Packet, limit: u16) -> bool {
    edit_option(frame, packet, kind::MSS, |option| match option {
        [_, _, high, low] if u16::from_be_bytes([*high, *low]) > limit => {
            [*high, *low] = limit.to_be_bytes();
            true
        }
        _ => false,
    })
}

/// Overwrites SACK permitted with no-operations; true when it was there.
pub fn blank_sack_permitted(frame: &mut [u8], packet: &Packet) -> bool {
    edit_option(frame, packet, kind::SACK_PERMITTED, |option| {
        option.fill(kind::NOP);
        true
    })
}

/// IP header without options, and everything from the transport header on.
#[inline]
fn split<'f>(
    frame: &'f mut [u8],
    packet: &Packet,
) -> Option<(&'f mut [u8; IPV4_BYTES], &'f mut [u8])> {
    let (ip, rest) = frame
        .get_mut(ETHERNET_BYTES..)?
        .split_first_chunk_mut::<IPV4_BYTES>()?;
    let body = rest.get_mut(usize::from(packet.l4).checked_sub(ETHERNET_BYTES + IPV4_BYTES)?..)?;
    Some((ip, body))
}

/// `LEN` bytes at `AT` of a header whose size the compiler knows.
#[inline(always)]
fn array_mut<const AT: usize, const LEN: usize>(header: &mut [u8]) -> &mut [u8; LEN] {
    match header[AT..].first_chunk_mut::<LEN>() {
        Some(part) => part,
        // Called with constants that lie inside the header only.
        None => unreachable!(),
    }
}

#[inline]
fn replace_port(header: &mut [u8], end: End, port: [u8; 2], delta: Delta) -> Delta {
    let old = match end {
        End::Source => core::mem::replace(array_mut::<0, 2>(header), port),
        End::Destination => core::mem::replace(array_mut::<2, 2>(header), port),
    };
    delta.word(old, port)
}

#[inline]
fn add(field: &mut [u8; 4], amount: u32, delta: Delta) -> Delta {
    let old = *field;
    *field = u32::from_be_bytes(old).wrapping_add(amount).to_be_bytes();
    delta.double(old, *field)
}

/// Adds to each edge of each SACK block; the option may begin at an odd position.
fn shift_sack(options: &mut [u8], amount: u32, mut delta: Delta) -> Delta {
    let mut at_sack = None;
    for option in options::iter(options) {
        if option.kind == kind::SACK {
            at_sack = Some((option.at + 2, option.value.len()));
            break;
        }
    }
    let Some((start, len)) = at_sack else {
        return delta;
    };
    let (edges, _) = options[start..start + len].as_chunks_mut::<4>();
    for edge in edges {
        let mut new = u32::from_be_bytes(*edge).wrapping_add(amount).to_be_bytes();
        core::mem::swap(edge, &mut new);
        // `new` holds the old bytes now. At an odd position the bytes' places in their 16-bit
        // words are the other way round.
        delta = if start.is_multiple_of(2) {
            delta.double(new, *edge)
        } else {
            delta.double(swapped(new), swapped(*edge))
        };
    }
    delta
}

const fn swapped([a, b, c, d]: [u8; 4]) -> [u8; 4] {
    [b, a, d, c]
}

/// Lets `edit` change the bytes of the first option of `wanted` kind and updates the checksum.
fn edit_option(
    frame: &mut [u8],
    packet: &Packet,
    wanted: u8,
    edit: impl FnOnce(&mut [u8]) -> bool,
) -> bool {
    let Some(tcp) = packet.tcp() else {
        return false;
    };
    let options_len = usize::from(tcp.payload) - usize::from(packet.l4) - TCP_BYTES;
    let Some((_, body)) = split(frame, packet) else {
        return false;
    };
    let Some((header, rest)) = body.split_first_chunk_mut::<TCP_BYTES>() else {
        return false;
    };
    let Some(options) = rest.get_mut(..options_len) else {
        return false;
    };
    let found = options::iter(options).find(|option| option.kind == wanted);
    let Some((start, len)) = found.map(|option| (option.at, 2 + option.value.len())) else {
        return false;
    };
    let mut old = [0u8; options::OPTIONS_BYTES_MAX];
    let option = &mut options[start..start + len];
    let old = &mut old[..len];
    old.copy_from_slice(option);
    let changed = edit(option);
    let mut delta = Delta::new();
    for (i, (&old, &new)) in old.iter().zip(option.iter()).enumerate() {
        delta = if (start + i).is_multiple_of(2) {
            delta.word([old, 0], [new, 0])
        } else {
            delta.word([0, old], [0, new])
        };
    }
    let field = array_mut::<16, 2>(header);
    *field = delta.apply(*field);
    changed
}

#[cfg(test)]
mod tests {
    use super::super::options::{OptionsBuf, SackBlock, Summary};
    use super::super::segment::tests::{checksums_hold, header};
    use super::super::segment::{SegmentHeader, emit, frame_len};
    use super::*;
    use proptest::prelude::*;

    fn segment(options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; frame_len(options.len(), payload.len())];
        emit(&mut frame, &header(options), |room| {
            room.copy_from_slice(payload)
        });
        frame
    }

    fn datagram(checksum: bool) -> Vec<u8> {
        use smoltcp::phy::ChecksumCapabilities;
        use smoltcp::wire::*;
        let (src, dst) = (
            Ipv4Address::new(192, 168, 1, 5),
            Ipv4Address::new(9, 9, 9, 9),
        );
        let mut frame = vec![0; 14 + 20 + 8 + 5];
        frame[12] = 8;
        let caps = ChecksumCapabilities::default();
        Ipv4Repr {
            src_addr: src,
            dst_addr: dst,
            next_header: IpProtocol::Udp,
            payload_len: 13,
            hop_limit: 64,
        }
        .emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &caps);
        UdpRepr {
            src_port: 5353,
            dst_port: 53,
        }
        .emit(
            &mut UdpPacket::new_unchecked(&mut frame[34..]),
            &src.into(),
            &dst.into(),
            5,
            |room| room.copy_from_slice(b"query"),
            &caps,
        );
        if !checksum {
            frame[40..42].fill(0);
        }
        frame
    }

    #[test]
    fn a_datagram_without_checksum_stays_without() {
        let mut frame = datagram(false);
        let packet = Packet::parse(&frame).unwrap();
        endpoint(
            &mut frame,
            &packet,
            End::Source,
            Ipv4Address::new(203, 0, 113, 2),
            1025,
        );
        assert_eq!(frame[40..42], [0, 0]);
        assert!(checksums_hold(&frame));
    }

    #[test]
    fn a_syn_loses_its_timestamps_and_nothing_else() {
        let options = [
            2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 3, 3, 7,
        ];
        let mut frame = segment(&options, b"");
        let packet = Packet::parse(&frame).unwrap();
        assert!(blank_timestamps(&mut frame, &packet));
        assert!(checksums_hold(&frame));
        let summary = Summary::of(packet.tcp_options(&frame));
        let before = Summary::of(&options);
        assert_eq!(
            summary,
            Summary {
                timestamps: None,
                ..before
            }
        );
        assert!(!blank_timestamps(&mut frame, &packet));
    }

    #[test]
    fn a_segment_size_is_only_ever_lowered() {
        let options = OptionsBuf::new().mss(1460);
        let mut frame = segment(options.as_bytes(), b"");
        let packet = Packet::parse(&frame).unwrap();
        assert!(!clamp_mss(&mut frame, &packet, 1460));
        assert!(clamp_mss(&mut frame, &packet, 1400));
        assert_eq!(Summary::of(packet.tcp_options(&frame)).mss, Some(1400));
        assert!(checksums_hold(&frame));
        assert!(!clamp_mss(&mut frame, &packet, 1410));
    }

    #[test]
    fn a_window_is_replaced_and_the_checksum_follows() {
        let mut frame = segment(&[], b"hello");
        let packet = Packet::parse(&frame).unwrap();
        for window in [0, 1, 501, u16::MAX] {
            set_window(&mut frame, &packet, window);
            assert!(checksums_hold(&frame));
            assert_eq!(Packet::parse(&frame).unwrap().tcp().unwrap().window, window);
        }
        let mut other = datagram(true);
        let before = other.clone();
        let packet = Packet::parse(&other).unwrap();
        set_window(&mut other, &packet, 7);
        assert_eq!(other, before);
    }

    #[test]
    fn the_time_to_live_stops_at_zero() {
        let mut frame = segment(&[], b"x");
        for left in (0..64).rev() {
            decrement_ttl(&mut frame);
            assert_eq!(Packet::parse(&frame).unwrap().ttl, left);
        }
        decrement_ttl(&mut frame);
        assert_eq!(Packet::parse(&frame).unwrap().ttl, 0);
    }

    #[test]
    fn forwarding_is_translation_and_one_hop_less() {
        let mut forwarded = segment(&[], b"hello");
        let mut edited = forwarded.clone();
        let packet = Packet::parse(&forwarded).unwrap();
        let address = Ipv4Address::new(203, 0, 113, 2);
        forward(&mut forwarded, &packet, End::Source, address, 1025);
        endpoint(&mut edited, &packet, End::Source, address, 1025);
        decrement_ttl(&mut edited);
        assert_eq!(forwarded, edited);
        assert!(checksums_hold(&forwarded));
    }

    proptest! {
        #[test]
        fn translation_and_back_restores_every_byte(
            payload in proptest::collection::vec(any::<u8>(), 0..64),
            address: [u8; 4], port: u16, destination: bool, udp: bool,
        ) {
            let original = if udp { datagram(true) } else { segment(&[], &payload) };
            let packet = Packet::parse(&original).unwrap();
            let (end, back_address, back_port) = match (destination, &packet.transport) {
                (false, Transport::Tcp(tcp)) => (End::Source, packet.src, tcp.src_port),
                (true, Transport::Tcp(tcp)) => (End::Destination, packet.dst, tcp.dst_port),
                (false, Transport::Udp(udp)) => (End::Source, packet.src, udp.src_port),
                (true, Transport::Udp(udp)) => (End::Destination, packet.dst, udp.dst_port),
                other => panic!("{other:?}"),
            };
            let mut frame = original.clone();
            endpoint(&mut frame, &packet, end, Ipv4Address::from(address), port);
            prop_assert!(checksums_hold(&frame));
            let there = Packet::parse(&frame).unwrap();
            prop_assert_eq!(if destination { there.dst } else { there.src }, Ipv4Address::from(address));
            endpoint(&mut frame, &there, end, back_address, back_port);
            prop_assert_eq!(frame, original);
        }

        #[test]
        fn a_wrong_checksum_is_never_repaired(flip in 34usize..59, bit in 0u8..8, address: [u8; 4], port: u16, add: u32) {
            let mut frame = segment(&[], b"hello");
            // Not the header length: then it is another packet altogether.
            prop_assume!(flip != 46);
            frame[flip] ^= 1 << bit;
            let packet = Packet::parse(&frame).unwrap();
            endpoint(&mut frame, &packet, End::Source, Ipv4Address::from(address), port);
            shift_tcp(&mut frame, &packet, add, add);
            decrement_ttl(&mut frame);
            prop_assert!(!checksums_hold(&frame));
        }

        #[test]
        fn numbers_and_sack_edges_move_together(
            seq_add: u32, ack_add: u32, lead in 0usize..4, edges: [u32; 4], ack: bool,
        ) {
            let blocks = [
                SackBlock { left: edges[0], right: edges[1] },
                SackBlock { left: edges[2], right: edges[3] },
            ];
            // The option at every alignment.
            let mut options = vec![kind::NOP; lead];
            options.extend(&OptionsBuf::new().sack(&blocks).as_bytes()[2..]);
            while options.len() % 4 != 0 {
                options.push(kind::NOP);
            }
            let mut frame = vec![0; frame_len(options.len(), 3)];
            let flags = if ack { flags::ACK } else { 0 };
            let header = SegmentHeader { flags, ..header(&options) };
            emit(&mut frame, &header, |room| room.copy_from_slice(b"abc"));
            let original = frame.clone();
            let packet = Packet::parse(&frame).unwrap();
            shift_tcp(&mut frame, &packet, seq_add, ack_add);
            prop_assert!(checksums_hold(&frame));
            let after = Packet::parse(&frame).unwrap();
            let tcp = after.tcp().unwrap();
            let moved = if ack { ack_add } else { 0 };
            prop_assert_eq!(tcp.seq, header.seq.wrapping_add(seq_add));
            prop_assert_eq!(tcp.ack, header.ack.wrapping_add(moved));
            let summary = Summary::of(after.tcp_options(&frame));
            for (found, block) in summary.sack_blocks().iter().zip(&blocks) {
                prop_assert_eq!(found.left, block.left.wrapping_add(moved));
                prop_assert_eq!(found.right, block.right.wrapping_add(moved));
            }
            prop_assert_eq!(summary.sack_count, 2);
            shift_tcp(&mut frame, &after, seq_add.wrapping_neg(), ack_add.wrapping_neg());
            prop_assert_eq!(frame, original);
        }
    }
}
