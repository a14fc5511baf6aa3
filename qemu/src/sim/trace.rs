//! One line of text for a frame, and captures of a run, for reading a failing seed.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use smoltcp::wire::{
    ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, TcpOption,
    TcpPacket, UdpPacket,
};

/// What a frame is, in one line.
pub fn describe(frame: &[u8]) -> String {
    try_describe(frame).unwrap_or_else(|| format!("{} bytes, unreadable", frame.len()))
}

fn try_describe(frame: &[u8]) -> Option<String> {
    let ether = EthernetFrame::new_checked(frame).ok()?;
    match ether.ethertype() {
        EthernetProtocol::Arp => {
            let arp = ArpRepr::parse(&ArpPacket::new_checked(ether.payload()).ok()?).ok()?;
            return Some(format!("{arp}"));
        }
        EthernetProtocol::Ipv4 => {}
        EthernetProtocol::Ipv6 | EthernetProtocol::Unknown(_) => {
            return Some(format!("ethertype {}", ether.ethertype()));
        }
    }
    let ip = Ipv4Packet::new_checked(ether.payload()).ok()?;
    let (from, to) = (ip.src_addr(), ip.dst_addr());
    match ip.next_header() {
        IpProtocol::Tcp => {
            let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
            let mut flags = String::new();
            for (set, letter) in [
                (tcp.syn(), 'S'),
                (tcp.fin(), 'F'),
                (tcp.rst(), 'R'),
                (tcp.psh(), 'P'),
                (tcp.ack(), '.'),
            ] {
                if set {
                    flags.push(letter);
                }
            }
            let mut options = String::new();
            let mut rest = tcp.options();
            while let Ok((next, option)) = TcpOption::parse(rest) {
                match option {
                    TcpOption::EndOfList => break,
                    TcpOption::NoOperation => {}
                    TcpOption::MaxSegmentSize(mss) => options.push_str(&format!(" mss={mss}")),
                    TcpOption::WindowScale(shift) => options.push_str(&format!(" ws={shift}")),
                    TcpOption::SackPermitted => options.push_str(" sackok"),
                    TcpOption::SackRange(ranges) => {
                        for (a, b) in ranges.into_iter().flatten() {
                            options.push_str(&format!(" sack={a}-{b}"));
                        }
                    }
                    TcpOption::TimeStamp { .. } => options.push_str(" ts"),
                    TcpOption::Unknown { kind, .. } => options.push_str(&format!(" opt{kind}")),
                }
                if next.is_empty() {
                    break;
                }
                rest = next;
            }
            let bad = match tcp.verify_checksum(&from.into(), &to.into()) {
                true => "",
                false => " BAD-CHECKSUM",
            };
            let start: String = tcp
                .payload()
                .iter()
                .take_while(|byte| byte.is_ascii_graphic() || **byte == b' ')
                .take(48)
                .map(|byte| char::from(*byte))
                .collect();
            let start = if start.len() >= 8 {
                start
            } else {
                String::new()
            };
            Some(format!(
                "{from}:{} > {to}:{} [{flags}] seq={} ack={} win={} len={}{options}{bad} {start}",
                tcp.src_port(),
                tcp.dst_port(),
                tcp.seq_number().0 as u32,
                tcp.ack_number().0 as u32,
                tcp.window_len(),
                tcp.payload().len(),
            ))
        }
        IpProtocol::Udp => {
            let udp = UdpPacket::new_checked(ip.payload()).ok()?;
            Some(format!(
                "{from}:{} > {to}:{} udp len={}",
                udp.src_port(),
                udp.dst_port(),
                udp.payload().len()
            ))
        }
        other => Some(format!("{from} > {to} {other} len={}", ip.payload().len())),
    }
}

/// A capture file (classic pcap, Ethernet, µs).
#[derive(Debug)]
pub struct Capture {
    file: BufWriter<File>,
}

impl Capture {
    /// Creates the file with its header.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&0xa1b2_c3d4_u32.to_le_bytes())?;
        file.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        file.write_all(&65_535_u32.to_le_bytes())?;
        file.write_all(&1_u32.to_le_bytes())?;
        Ok(Self { file })
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn frame(&mut self, now_us: u64, frame: &[u8]) -> std::io::Result<()> {
        let len = (frame.len() as u32).to_le_bytes();
        let seconds = (now_us / 1_000_000) as u32;
        let micros = (now_us % 1_000_000) as u32;
        self.file.write_all(&seconds.to_le_bytes())?;
        self.file.write_all(&micros.to_le_bytes())?;
        self.file.write_all(&len)?;
        self.file.write_all(&len)?;
        self.file.write_all(frame)
    }
}
