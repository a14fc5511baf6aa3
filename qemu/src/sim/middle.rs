//! What boxes between a router and an origin do to packets: refuse them, tell that there is no way, take options out.
//!
//! Follows: RFC 792 (destination unreachable), RFC 9293 section 3.10.7.1 (the reset that answers a SYN).

use smoltcp::wire::{IpProtocol, Ipv4Address, Ipv4Packet, TcpOption, TcpPacket};

/// Where the ICMP messages come from: a router of the internet.
const HOP: Ipv4Address = Ipv4Address::new(198, 51, 100, 254);

fn ip_header(from: Ipv4Address, to: Ipv4Address, protocol: IpProtocol, payload: usize) -> Vec<u8> {
    let mut packet = vec![0; 20 + payload];
    packet[0] = 0x45;
    let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
    ip.set_total_len((20 + payload) as u16);
    ip.set_hop_limit(60);
    ip.set_next_header(protocol);
    ip.set_src_addr(from);
    ip.set_dst_addr(to);
    ip.fill_checksum();
    packet
}

/// ICMP host unreachable about a packet.
pub fn host_unreachable(packet: &[u8]) -> Vec<u8> {
    let about = Ipv4Packet::new_unchecked(packet);
    let quoted = &packet[..packet.len().min(usize::from(about.header_len()) + 8)];
    let mut answer = ip_header(HOP, about.src_addr(), IpProtocol::Icmp, 8 + quoted.len());
    answer[20] = 3;
    answer[21] = 1;
    answer[28..].copy_from_slice(quoted);
    let sum = !smoltcp::wire::Ipv4Packet::new_unchecked(&answer[..])
        .payload()
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .fold(0, |sum, word| {
            let sum = sum + word;
            (sum & 0xffff) + (sum >> 16)
        });
    answer[22..24].copy_from_slice(&(sum as u16).to_be_bytes());
    answer
}

/// The reset that answers a SYN at a closed port.
pub fn refusal(packet: &[u8]) -> Option<Vec<u8>> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    let syn = TcpPacket::new_checked(ip.payload()).ok()?;
    let (from, to) = (ip.dst_addr(), ip.src_addr());
    let mut answer = ip_header(from, to, IpProtocol::Tcp, 20);
    let mut tcp = TcpPacket::new_unchecked(&mut answer[20..]);
    tcp.set_src_port(syn.dst_port());
    tcp.set_dst_port(syn.src_port());
    tcp.set_header_len(20);
    tcp.set_rst(true);
    tcp.set_ack(true);
    tcp.set_ack_number(syn.seq_number() + 1);
    tcp.fill_checksum(&from.into(), &to.into());
    Some(answer)
}

/// Takes window scaling out of a SYN.
pub fn without_scale(packet: &mut [u8]) {
    let Ok(mut ip) = Ipv4Packet::new_checked(packet) else {
        return;
    };
    let (from, to, protocol) = (ip.src_addr(), ip.dst_addr(), ip.next_header());
    let Ok(mut tcp) = TcpPacket::new_checked(ip.payload_mut()) else {
        return;
    };
    if protocol != IpProtocol::Tcp || !tcp.syn() || !tcp.verify_checksum(&from.into(), &to.into()) {
        return;
    }
    let options = tcp.options_mut();
    let mut at = 0;
    while at < options.len() {
        let Ok((rest, option)) = TcpOption::parse(&options[at..]) else {
            break;
        };
        let len = options.len() - at - rest.len();
        match option {
            TcpOption::EndOfList => break,
            TcpOption::WindowScale(_) => options[at..at + len].fill(1),
            TcpOption::NoOperation
            | TcpOption::MaxSegmentSize(_)
            | TcpOption::SackPermitted
            | TcpOption::SackRange(_)
            | TcpOption::TimeStamp { .. }
            | TcpOption::Unknown { .. } => {}
        }
        at += len;
    }
    tcp.fill_checksum(&from.into(), &to.into());
}
