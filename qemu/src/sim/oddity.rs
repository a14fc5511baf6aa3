//! Ways of a client's TCP that smoltcp does not have, put on its packets as they leave.
//!
//! All are legal or at least seen in the field: a router's sender must neither break, nor send what a strict peer
//! would object to, nor stop for good.
//!
//! Follows: RFC 9293 section 3.8.6 (a shrunken window), RFC 5681 section 3.2 (duplicate ACKs), RFC 2018, RFC 5961.

use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet, TcpPacket, TcpSeqNumber};

use crate::line::Rng;

/// One oddity; shares in percent of pure ACKs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// The window field is cut to a part: the right edge moves back.
    ShrinksWindow,
    /// The window field is 0 now and then; the next ACK opens it again.
    ClosesWindow,
    /// Pure ACKs leave up to four times.
    RepeatsAcks,
    /// Only some pure ACKs leave (the last of a series always, by the stack's own repetition).
    ThinsAcks,
    /// Some ACKs name bytes that were never sent.
    AcksFuture,
    /// Some ACKs carry a SACK block that names anything.
    WildSack,
    /// Old ACK numbers come again.
    AcksPast,
    /// An ACK of many bytes leaves as up to ten of some bytes each.
    DividesAcks,
    /// Congestion notification is offered, and what passes is marked as having met congestion.
    Marked,
    /// Segments with data are urgent.
    Urgent,
    /// Some SYNs with numbers of their own in the middle of the connection.
    Syns,
    /// Some resets whose number is near the right one, but not it, or far away.
    NearResets,
}

/// Puts an oddity on packets.
#[derive(Debug)]
pub struct Odd {
    oddity: Oddity,
    rng: Rng,
    /// A pure ACK held back by thinning at most once in a row.
    thinned: bool,
    old: Option<Vec<u8>>,
}

impl Odd {
    /// Chance comes from `seed`.
    pub fn new(oddity: Oddity, seed: u64) -> Self {
        Self {
            oddity,
            rng: Rng::new(seed),
            thinned: false,
            old: None,
        }
    }

    /// What leaves instead of `packet` (an IP packet).
    pub fn change(&mut self, packet: Vec<u8>) -> Vec<Vec<u8>> {
        match self.oddity {
            Oddity::Marked => return vec![marked(packet)],
            Oddity::Urgent if has_payload(&packet) => {
                return vec![edited(packet, |tcp| {
                    tcp.set_urg(true);
                    tcp.set_urgent_at(1);
                })];
            }
            _ => {}
        }
        if !is_pure_ack(&packet) {
            return vec![packet];
        }
        match self.oddity {
            Oddity::ShrinksWindow => {
                let keep = 1 + self.rng.below(8);
                vec![edited(packet, |tcp| {
                    let window = u64::from(tcp.window_len());
                    tcp.set_window_len((window * keep / 8) as u16);
                })]
            }
            Oddity::ClosesWindow if self.rng.below(10) == 0 => {
                let closed = edited(packet.clone(), |tcp| tcp.set_window_len(0));
                vec![closed, packet]
            }
            Oddity::RepeatsAcks => vec![packet; 1 + self.rng.below(4) as usize],
            Oddity::ThinsAcks => {
                self.thinned = !self.thinned && self.rng.below(2) == 0;
                if self.thinned {
                    Vec::new()
                } else {
                    vec![packet]
                }
            }
            Oddity::AcksFuture if self.rng.below(20) == 0 => {
                // Far beyond all windows: an ACK of bytes in flight would be a lie that nobody can detect.
                let ahead = (1 << 24) + self.rng.below(1 << 28) as usize;
                let future = edited(packet.clone(), |tcp| {
                    tcp.set_ack_number(tcp.ack_number() + ahead);
                });
                vec![future, packet]
            }
            Oddity::WildSack if self.rng.below(10) == 0 => {
                let from = self.rng.next_u64() as u32;
                let near = self.rng.below(2) == 0;
                let span = self.rng.below(100_000) as u32;
                vec![with_sack(&packet, from, span, near)]
            }
            Oddity::AcksPast if self.rng.below(10) == 0 => {
                let old = self.old.replace(packet.clone());
                old.into_iter().chain([packet]).collect()
            }
            Oddity::DividesAcks => self.divided(packet),
            Oddity::Syns if self.rng.below(20) == 0 => {
                let seq = self.rng.next_u64() as i32;
                let syn = edited(packet.clone(), |tcp| {
                    tcp.set_syn(true);
                    tcp.set_ack(self.rng.below(2) == 0);
                    tcp.set_seq_number(TcpSeqNumber(seq));
                });
                vec![syn, packet]
            }
            Oddity::NearResets if self.rng.below(20) == 0 => {
                let away = match self.rng.below(2) {
                    0 => 1 + self.rng.below(1_000) as usize,
                    _ => (1 << 24) + self.rng.below(1 << 28) as usize,
                };
                let reset = edited(packet.clone(), |tcp| {
                    tcp.set_rst(true);
                    tcp.set_seq_number(tcp.seq_number() + away);
                });
                vec![reset, packet]
            }
            Oddity::ClosesWindow
            | Oddity::AcksFuture
            | Oddity::WildSack
            | Oddity::AcksPast
            | Oddity::Syns
            | Oddity::NearResets
            | Oddity::Marked
            | Oddity::Urgent => vec![packet],
        }
    }
}

impl Odd {
    /// The ACK in up to ten steps from the last one on.
    fn divided(&mut self, packet: Vec<u8>) -> Vec<Vec<u8>> {
        let ack = |packet: &[u8]| {
            let ip = Ipv4Packet::new_unchecked(packet);
            TcpPacket::new_unchecked(ip.payload()).ack_number()
        };
        let now = ack(&packet);
        let before = self.old.replace(packet.clone());
        let before = before.map_or(now, |before| ack(&before));
        let gone = now.0.wrapping_sub(before.0);
        let mut packets = Vec::new();
        // Another connection's ACK is no earlier one of this.
        for step in 1..(10).min(gone) {
            if gone > 1 << 20 {
                break;
            }
            packets.push(edited(packet.clone(), |tcp| {
                tcp.set_ack_number(before + (gone / 10 * step).max(1) as usize);
            }));
        }
        packets.push(packet);
        packets
    }
}

/// The packet as a network marks it that is congested: CE; its SYN offers ECN (RFC 3168).
fn marked(packet: Vec<u8>) -> Vec<u8> {
    let mut packet = edited(packet, |tcp| {
        if tcp.syn() {
            tcp.set_ece(true);
            tcp.set_cwr(true);
        }
    });
    let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
    ip.set_ecn(3);
    ip.fill_checksum();
    packet
}

fn has_payload(packet: &[u8]) -> bool {
    let ip = Ipv4Packet::new_unchecked(packet);
    TcpPacket::new_checked(ip.payload()).is_ok_and(|tcp| !tcp.payload().is_empty())
}

fn is_pure_ack(packet: &[u8]) -> bool {
    let Ok(ip) = Ipv4Packet::new_checked(packet) else {
        return false;
    };
    let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else {
        return false;
    };
    ip.next_header() == IpProtocol::Tcp
        && tcp.ack()
        && !tcp.syn()
        && !tcp.fin()
        && !tcp.rst()
        && tcp.payload().is_empty()
}

/// The packet with its TCP header changed and its checksum right.
fn edited(mut packet: Vec<u8>, change: impl FnOnce(&mut TcpPacket<&mut [u8]>)) -> Vec<u8> {
    let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
    let (from, to) = (ip.src_addr(), ip.dst_addr());
    let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
    change(&mut tcp);
    tcp.fill_checksum(&IpAddress::Ipv4(from), &IpAddress::Ipv4(to));
    packet
}

/// The pure ACK with one SACK block more; `near`: beginning after its ACK number.
fn with_sack(packet: &[u8], from: u32, span: u32, near: bool) -> Vec<u8> {
    let header = {
        let ip = Ipv4Packet::new_unchecked(packet);
        let tcp = TcpPacket::new_unchecked(ip.payload());
        usize::from(tcp.header_len())
    };
    if header + 12 > 60 {
        return packet.to_vec();
    }
    let mut longer = packet.to_vec();
    longer.extend_from_slice(&[0; 12]);
    let len = longer.len() as u16;
    let mut ip = Ipv4Packet::new_unchecked(&mut longer[..]);
    ip.set_total_len(len);
    ip.fill_checksum();
    edited(longer, |tcp| {
        let ack = tcp.ack_number().0 as u32;
        let first = if near {
            ack.wrapping_add(from % 200_000)
        } else {
            from
        };
        tcp.set_header_len((header + 12) as u8);
        let options = tcp.options_mut();
        let at = options.len() - 12;
        options[at..at + 4].copy_from_slice(&[1, 1, 5, 10]);
        options[at + 4..at + 8].copy_from_slice(&first.to_be_bytes());
        options[at + 8..].copy_from_slice(&first.wrapping_add(span).to_be_bytes());
    })
}
