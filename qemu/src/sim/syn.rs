//! SYNs that smoltcp does not send: other sizes and scales, options that nobody knows.
//!
//! Follows: RFC 9293 section 3.2 (MSS), RFC 7323 section 2.2 (scales; above 14 they are taken as 14).

use smoltcp::wire::{Ipv4Packet, TcpOption, TcpPacket};

/// What is other in a client's SYN.
#[derive(Clone, Debug, Default)]
pub struct SynOdd {
    /// This maximum segment size.
    pub mss: Option<u16>,
    /// No maximum segment size at all.
    pub no_mss: bool,
    /// This window scale; the windows of all later segments are told in it.
    pub scale: Option<u8>,
    /// One more option, as it stands in the header; its length is a multiple of four.
    pub option: &'static [u8],
}

/// The scale that the stack itself told, and the one told instead.
#[derive(Clone, Copy, Debug)]
pub struct Scales {
    own: u8,
    told: u8,
}

/// Changes a SYN; how windows are to be told from then on.
pub fn edit(packet: &mut Vec<u8>, odd: &SynOdd) -> Option<Scales> {
    let mut scales = None;
    {
        let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
        let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
        let options = tcp.options_mut();
        let mut at = 0;
        while at < options.len() {
            let Ok((rest, option)) = TcpOption::parse(&options[at..]) else {
                break;
            };
            let len = options.len() - at - rest.len();
            match option {
                TcpOption::EndOfList => {
                    options[at..].fill(1);
                    break;
                }
                TcpOption::MaxSegmentSize(_) if odd.no_mss => options[at..at + len].fill(1),
                TcpOption::MaxSegmentSize(_) => {
                    if let Some(mss) = odd.mss {
                        options[at + 2..at + 4].copy_from_slice(&mss.to_be_bytes());
                    }
                }
                TcpOption::WindowScale(own) => {
                    if let Some(told) = odd.scale {
                        options[at + 2] = told;
                        let told = told.min(14);
                        scales = Some(Scales { own, told });
                    }
                }
                TcpOption::NoOperation
                | TcpOption::SackPermitted
                | TcpOption::SackRange(_)
                | TcpOption::TimeStamp { .. }
                | TcpOption::Unknown { .. } => {}
            }
            at += len;
        }
    }
    let header = {
        let ip = Ipv4Packet::new_unchecked(&packet[..]);
        usize::from(TcpPacket::new_unchecked(ip.payload()).header_len())
    };
    if !odd.option.is_empty() && header + odd.option.len() <= 60 {
        packet.extend_from_slice(odd.option);
        let len = packet.len() as u16;
        let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
        ip.set_total_len(len);
        ip.fill_checksum();
        let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
        tcp.set_header_len((header + odd.option.len()) as u8);
    }
    fill_checksum(packet);
    scales
}

/// Tells the window of a later segment in the other scale.
pub fn rescale(packet: &mut [u8], scales: Scales) {
    let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
    let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
    if tcp.syn() {
        return;
    }
    let window = u64::from(tcp.window_len()) << scales.own >> scales.told;
    tcp.set_window_len(u16::try_from(window).unwrap_or(u16::MAX));
    fill_checksum(packet);
}

fn fill_checksum(packet: &mut [u8]) {
    let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
    let (from, to) = (ip.src_addr(), ip.dst_addr());
    TcpPacket::new_unchecked(ip.payload_mut()).fill_checksum(&from.into(), &to.into());
}
