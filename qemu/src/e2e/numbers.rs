//! Numbers that nobody may foretell, over ten starts of one flash image (FAULTS A8).
//!
//! The worst case on purpose: each machine is powered up with the same flash, in which no seed is stored yet, and the
//! same memory; all that differs is what the firmware can measure itself. No lab: the test sits on the three lines, gives
//! the router an address, answers ARP for its gateway and its neighbour, and reads the numbers of its first packets.

use super::{Scenario, Stage};
use crate::image;
use crate::lab::plan;
use crate::machine::{Machine, Sockets};
use crate::sim::dhcp::Provider;
use anyhow::{Context, Result, ensure};
use firmware::settings::Settings;
use firmware::store::provision;
use firmware::wire::datagram::{self, DatagramHeader};
use firmware::wire::packet::{Packet, Transport, flags};
use firmware::wire::segment::{self, SegmentHeader};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Ipv4Address, Ipv4Cidr,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Starts of the image.
const BOOTS: usize = 10;
/// For all numbers of a start; a quiet machine takes two seconds.
const BOOT_LIMIT: Duration = Duration::from_secs(40);
/// From one attempt of the LAN's host to the next.
const AGAIN: Duration = Duration::from_millis(200);
/// Between two looks at the lines.
const LOOK: Duration = Duration::from_millis(2);
const LAN: usize = 0;
const WAN: usize = 1;
const AIR: usize = 2;
const ROUTER: Ipv4Address = Ipv4Address::new(192, 168, 1, 1);
const CLIENT: Ipv4Address = Ipv4Address::new(192, 168, 1, 100);
const GATEWAY: Ipv4Address = Ipv4Address::new(203, 0, 113, 1);
const ADDRESS: Ipv4Address = Ipv4Address::new(203, 0, 113, 2);
const PEER: Ipv4Address = Ipv4Address::new(10, 77, 0, 2);
const ORIGIN: Ipv4Address = Ipv4Address::new(198, 51, 100, 10);
/// Whoever answers on a line.
const OURS: EthernetAddress = EthernetAddress([2, 0, 0, 0, 7, 1]);
/// A port of the client's that the router takes for its own connections, so that its NAT must choose another.
const TAKEN_PORT: u16 = 61_234;
/// A question for the address of `a8.example.com`, as the client asks it (RFC 1035 section 4.1).
const QUESTION: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02a8\x07example\x03com\x00\x00\x01\x00\x01";

/// See each name.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a8: ten boots of the same flash image never repeat nor count up their numbers",
    run: a8_ten_boots,
}];

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Number {
    DhcpTransaction,
    /// Of the connection to the neighbour.
    TcpSequence,
    /// Identifier and source port of a question to the provider's resolver, in one.
    DnsIdentAndPort,
    /// Of that question's datagram. (DHCP's and TCP's are 0 with DF set, which says nothing: RFC 6864 section 4.1.)
    IpIdent,
    NatPort,
}

impl Number {
    const ALL: [Self; 5] = [
        Self::DhcpTransaction,
        Self::TcpSequence,
        Self::DnsIdentAndPort,
        Self::IpIdent,
        Self::NatPort,
    ];

    /// How many values it can have; about.
    const fn span(self) -> u64 {
        match self {
            Self::DhcpTransaction | Self::TcpSequence | Self::DnsIdentAndPort => 1 << 32,
            Self::IpIdent => 1 << 16,
            // User ports below the router's own, of one parity.
            Self::NatPort => 60_000,
        }
    }
}

/// An end of a line: each frame behind its length in four bytes, big endian.
struct Line {
    stream: UnixStream,
    heard: Vec<u8>,
}

impl Line {
    fn new(stream: UnixStream) -> Result<Self> {
        stream.set_nonblocking(true)?;
        let heard = Vec::new();
        Ok(Self { stream, heard })
    }

    /// The next frame, if one is there.
    fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => anyhow::bail!("the machine has ended"),
            Ok(count) => self.heard.extend_from_slice(&buffer[..count]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("a line"),
        }
        let Some((length, rest)) = self.heard.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if rest.len() < length {
            return Ok(None);
        }
        let frame = rest[..length].to_vec();
        self.heard.drain(..4 + length);
        Ok(Some(frame))
    }

    fn send(&mut self, frame: &[u8]) -> Result<()> {
        let length = u32::try_from(frame.len())?.to_be_bytes();
        // A few hundred bytes fit the socket, or the machine hangs.
        self.stream
            .write_all(&[&length, frame].concat())
            .context("a line")
    }
}

/// A start of the image, and what has been seen of it.
struct Boot {
    _machine: Machine,
    lines: [Line; 3],
    /// Kept open: a closed one would be noticed.
    _serial: [UnixStream; 2],
    router: EthernetAddress,
    provider: Provider,
    has_address: bool,
    seen: BTreeMap<Number, u32>,
}

impl Boot {
    fn start(directory: &Path, loader: &Path, flash: &[u8]) -> Result<Self> {
        let file = directory.join("numbers.flash");
        std::fs::write(&file, flash).with_context(|| file.display().to_string())?;
        let messages = File::create(directory.join("numbers.log"))?;
        let macs = plan::router_macs(0);
        let router = macs[LAN].parse();
        let router = router.map_err(|()| anyhow::anyhow!("no Ethernet address: {}", macs[LAN]))?;
        let (machine, sockets) = Machine::start("numbers", &macs, loader, &file, messages)?;
        let Sockets { nics, console, log } = sockets;
        let [lan, wan, air] = nics.map(Line::new);
        Ok(Self {
            _machine: machine,
            lines: [lan?, wan?, air?],
            _serial: [console, log],
            router,
            provider: Provider::new(Ipv4Cidr::new(ADDRESS, 26), GATEWAY, 3600),
            has_address: false,
            seen: BTreeMap::new(),
        })
    }

    /// Its numbers, when all have been seen.
    fn numbers(mut self) -> Result<BTreeMap<Number, u32>> {
        let deadline = Instant::now() + BOOT_LIMIT;
        let mut next = Instant::now();
        while self.seen.len() < Number::ALL.len() {
            let now = Instant::now();
            ensure!(
                now < deadline,
                "the router shows no more than {:?}",
                self.seen
            );
            for line in [LAN, WAN, AIR] {
                while let Some(frame) = self.lines[line].receive()? {
                    self.on_frame(line, &frame)?;
                }
            }
            if self.has_address && now >= next {
                next = now + AGAIN;
                self.ask()?;
            }
            std::thread::sleep(LOOK);
        }
        Ok(self.seen)
    }

    fn on_frame(&mut self, line: usize, frame: &[u8]) -> Result<()> {
        if let Some(answer) = arp_answer(line, frame) {
            return self.lines[line].send(&answer);
        }
        let Ok(packet) = Packet::parse(frame) else {
            return Ok(());
        };
        let mut out = Vec::new();
        if line == WAN && self.provider.on_frame(0, frame, &mut out) {
            // RFC 2131 section 2: the transaction's identifier is the second word.
            if let Some(word) = packet.payload(frame).get(4..).and_then(<[u8]>::first_chunk) {
                self.saw(Number::DhcpTransaction, u32::from_be_bytes(*word));
            }
            // Two messages of the router's: it has been offered the address, and has taken it.
            self.has_address = self.provider.asked.len() > 1;
            for answer in out {
                self.lines[line].send(&answer)?;
            }
            return Ok(());
        }
        match packet.transport {
            Transport::Tcp(tcp) if tcp.has(flags::SYN) && !tcp.has(flags::ACK) => {
                if line == AIR && packet.dst == PEER {
                    self.saw(Number::TcpSequence, tcp.seq);
                }
                if line == WAN && packet.dst == ORIGIN {
                    self.saw(Number::NatPort, tcp.src_port.into());
                }
            }
            Transport::Udp(udp) if line == WAN && udp.dst_port == 53 => {
                self.saw(Number::IpIdent, packet.ident.into());
                if let Some(ident) = packet.payload(frame).first_chunk() {
                    let ident = u32::from(u16::from_be_bytes(*ident));
                    self.saw(
                        Number::DnsIdentAndPort,
                        ident << 16 | u32::from(udp.src_port),
                    );
                }
            }
            Transport::Tcp(_)
            | Transport::Udp(_)
            | Transport::Icmp(_)
            | Transport::Fragment
            | Transport::Other => {}
        }
        Ok(())
    }

    /// The first of its kind counts.
    fn saw(&mut self, number: Number, value: u32) {
        self.seen.entry(number).or_insert(value);
    }

    /// The client opens a connection and asks for a name.
    fn ask(&mut self) -> Result<()> {
        let header = SegmentHeader {
            src_mac: OURS,
            dst_mac: self.router,
            src: CLIENT,
            dst: ORIGIN,
            src_port: TAKEN_PORT,
            dst_port: 443,
            seq: 1,
            ack: 0,
            flags: flags::SYN,
            window: 8192,
            ident: 1,
            options: &[],
        };
        let mut frame = vec![0; segment::frame_len(0, 0)];
        segment::emit(&mut frame, &header, |_| ());
        self.lines[LAN].send(&frame)?;
        let header = DatagramHeader {
            src_mac: OURS,
            dst_mac: self.router,
            src: CLIENT,
            dst: ROUTER,
            src_port: 40_000,
            dst_port: 53,
            ident: 2,
        };
        let mut frame = vec![0; datagram::frame_len(QUESTION.len())];
        datagram::emit(&mut frame, &header, |payload| {
            payload.copy_from_slice(QUESTION)
        });
        self.lines[LAN].send(&frame)
    }
}

/// The answer to a question of the router's for an address that somebody has on this line.
fn arp_answer(line: usize, frame: &[u8]) -> Option<Vec<u8>> {
    let ether = EthernetFrame::new_checked(frame).ok()?;
    if ether.ethertype() != EthernetProtocol::Arp {
        return None;
    }
    let packet = ArpPacket::new_checked(ether.payload()).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    if target_protocol_addr != [CLIENT, GATEWAY, PEER][line] {
        return None;
    }
    let answer = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: OURS,
        source_protocol_addr: target_protocol_addr,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    let header = EthernetRepr {
        src_addr: OURS,
        dst_addr: source_hardware_addr,
        ethertype: EthernetProtocol::Arp,
    };
    let mut bytes = vec![0; header.buffer_len() + answer.buffer_len()];
    let mut out = EthernetFrame::new_unchecked(&mut bytes);
    header.emit(&mut out);
    answer.emit(&mut ArpPacket::new_unchecked(out.payload_mut()));
    Some(bytes)
}

fn a8_ten_boots(stage: &mut Stage) -> Result<String> {
    let state = stage.world.state();
    let elf = std::fs::read(state.file("image.elf")).context("the lab has no image")?;
    let mut settings = Settings::new();
    for (key, value) in [
        ("peers", PEER.to_string()),
        ("wan.dns", GATEWAY.to_string()),
    ] {
        settings
            .set(key, &value)
            .map_err(|error| anyhow::anyhow!("{key} {value}: {error}"))?;
    }
    let mut flash = image::flash_image(&image::pack(&elf)?)?;
    provision(&mut flash, &settings).map_err(|error| anyhow::anyhow!("settings: {error:?}"))?;
    let loader = state.file("loader.elf");
    let mut all: BTreeMap<Number, Vec<u32>> = BTreeMap::new();
    for boot in 0..BOOTS {
        let boot = Boot::start(stage.world.directory(), &loader, &flash)
            .and_then(Boot::numbers)
            .with_context(|| format!("boot {boot}"))?;
        for (number, value) in boot {
            all.entry(number).or_default().push(value);
        }
    }
    for (number, values) in &all {
        unforeseeable(values, number.span()).with_context(|| format!("{number:?}: {values:x?}"))?;
    }
    let first = all.iter().map(|(number, values)| {
        let some: Vec<String> = values
            .iter()
            .take(3)
            .map(|value| format!("{value:x}"))
            .collect();
        format!("{number:?} {} …", some.join(" "))
    });
    Ok(first.collect::<Vec<_>>().join(", "))
}

/// Values out of `span` do not repeat, do not count up, and are found all over. Each bound leaves true chance less than
/// one failure in 10,000 runs.
fn unforeseeable(values: &[u32], span: u64) -> Result<()> {
    let distinct: BTreeSet<u32> = values.iter().copied().collect();
    // Of ten values out of 2^16 two are equal once in 1,500 runs, and twice two almost never.
    let pairs = if span < 1 << 32 { 1 } else { 0 };
    ensure!(distinct.len() + pairs >= values.len(), "they repeat");
    let steps: Vec<i64> = values
        .windows(2)
        .map(|pair| i64::from(pair[1]) - i64::from(pair[0]))
        .collect();
    let third = steps.len() / 3;
    let small = |step: &&i64| step.unsigned_abs() < span / 256;
    ensure!(
        steps.iter().filter(small).count() <= third,
        "most are near the one before"
    );
    let up = steps.iter().filter(|step| **step > 0).count();
    ensure!(up > 0 && up < steps.len(), "they go one way");
    let distinct: BTreeSet<i64> = steps.iter().copied().collect();
    ensure!(
        distinct.len() + third > steps.len(),
        "the step is the same again and again"
    );
    let range = values.iter().max().zip(values.iter().min());
    let range = range.map_or(0, |(max, min)| u64::from(max - min));
    ensure!(range >= span / 4, "they are close together");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(value: impl FnMut(u32) -> u32, span: u64) -> Option<String> {
        let values: Vec<u32> = (0..BOOTS as u32).map(value).collect();
        unforeseeable(&values, span)
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn numbers_that_repeat_count_up_or_lie_close_are_found() {
        let mixed = |i: u32| (i + 1).wrapping_mul(0x9e37_79b9).rotate_left(i) ^ i << 19;
        assert_eq!(reason(mixed, 1 << 32), None);
        assert_eq!(reason(|i| mixed(i) >> 16, 1 << 16), None);
        let repeats = Some("they repeat".to_owned());
        assert_eq!(reason(|i| mixed(i / 2), 1 << 32), repeats);
        assert_eq!(reason(|i| mixed(i.min(8)), 1 << 32), repeats);
        assert_eq!(reason(|i| mixed(i.min(7)) >> 16, 1 << 16), repeats);
        assert_eq!(reason(|i| mixed(i.min(8)) >> 16, 1 << 16), None);
        let near = Some("most are near the one before".to_owned());
        assert_eq!(reason(|i| 7_000 + i * 1_000_000, 1 << 32), near);
        let one_way = Some("they go one way".to_owned());
        assert_eq!(reason(|i| i * 0x1234_5678, 1 << 32), one_way);
        let same = Some("the step is the same again and again".to_owned());
        assert_eq!(reason(|i| i.wrapping_mul(0x7654_3210), 1 << 32), same);
        let close = Some("they are close together".to_owned());
        assert_eq!(reason(|i| mixed(i) >> 3, 1 << 32), close);
    }
}
