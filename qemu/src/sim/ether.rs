//! The Ethernet side of a simulated host: ARP, one address, one gateway, and a queue in front of smoltcp.
//!
//! Units: µs, bytes. smoltcp runs on bare IP packets here: its own ARP asks at most once a second for all
//! neighbours, which would hide what is measured.
//!
//! Follows: RFC 826; RFC 894 (frames are padded to 60 bytes, as a NIC does).

use std::collections::{BTreeMap, VecDeque};

use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Ipv4Address, Ipv4Cidr, Ipv4Packet,
};

/// Bytes of an Ethernet header.
pub const ETHERNET_HEADER: usize = 14;
/// The shortest frame a NIC sends, without FCS.
const FRAME_MIN: usize = 60;
/// How often an unanswered ARP request is repeated.
const ARP_RETRY_US: u64 = 500_000;
/// Packets that wait for one neighbour at most.
const WAITING_MAX: usize = 64;

/// The seed that makes a smoltcp interface give its first connection this initial sequence number.
///
/// Sequence numbers that wrap in the middle of a reply are rare by chance. smoltcp draws them from one generator
/// (its `rand.rs`, a 64-bit linear step), whose second output this is; so the step is undone twice.
pub fn seed_of_first_isn(isn: u32) -> u64 {
    const MULTIPLIER: u64 = 0xbb2e_fcec_3c39_611d;
    const INCREMENT: u64 = 0x7590_ef39;
    // Newton's iteration doubles the right bits of the inverse; an odd number is its own inverse to 3 bits.
    let mut inverse = MULTIPLIER;
    for _ in 0..5 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(MULTIPLIER.wrapping_mul(inverse)));
    }
    let mut state = u64::from(isn) << 29;
    for _ in 0..2 {
        state = state.wrapping_sub(INCREMENT).wrapping_mul(inverse);
    }
    state
}

/// Packets between a host's Ethernet side and its smoltcp interface.
#[derive(Debug)]
pub struct IpQueues {
    /// Towards smoltcp.
    pub rx: VecDeque<Vec<u8>>,
    /// From smoltcp.
    pub tx: VecDeque<Vec<u8>>,
    mtu: usize,
}

impl IpQueues {
    /// Empty queues; `mtu` in bytes of IP packet decides the MSS that smoltcp announces.
    pub fn new(mtu: usize) -> Self {
        Self {
            rx: VecDeque::new(),
            tx: VecDeque::new(),
            mtu,
        }
    }
}

/// A received packet on its way into smoltcp.
#[derive(Debug)]
pub struct RxToken(Vec<u8>);

/// Permission to queue one packet.
#[derive(Debug)]
pub struct TxToken<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::RxToken for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for IpQueues {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(RxToken, TxToken<'_>)> {
        self.rx
            .pop_front()
            .map(|packet| (RxToken(packet), TxToken(&mut self.tx)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<TxToken<'_>> {
        Some(TxToken(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

/// One Ethernet port of a host.
#[derive(Debug)]
pub struct Ether {
    /// The port's hardware address.
    pub mac: EthernetAddress,
    /// The host's address and net.
    pub cidr: Ipv4Cidr,
    gateway: Option<Ipv4Address>,
    neighbors: BTreeMap<Ipv4Address, EthernetAddress>,
    waiting: Vec<(Ipv4Address, Vec<u8>)>,
    ask_again_us: Option<u64>,
}

impl Ether {
    /// A port that sends what is not on its net to `gateway`.
    pub fn new(mac: EthernetAddress, cidr: Ipv4Cidr, gateway: Option<Ipv4Address>) -> Self {
        Self {
            mac,
            cidr,
            gateway,
            neighbors: BTreeMap::new(),
            waiting: Vec::new(),
            ask_again_us: None,
        }
    }

    /// Forgets all neighbours, as after a change of hardware at the other end.
    pub fn forget(&mut self) {
        self.neighbors.clear();
    }

    /// Takes a frame; gives the IP packet in it when it is for this port. ARP is handled here.
    pub fn receive(&mut self, frame: &[u8], out: &mut Vec<Vec<u8>>) -> Option<Vec<u8>> {
        let ether = EthernetFrame::new_checked(frame).ok()?;
        if ether.dst_addr() != self.mac && !ether.dst_addr().is_broadcast() {
            return None;
        }
        match ether.ethertype() {
            EthernetProtocol::Arp => {
                let arp = ArpRepr::parse(&ArpPacket::new_checked(ether.payload()).ok()?).ok()?;
                self.on_arp(arp, out);
                None
            }
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(ether.payload()).ok()?;
                let len = usize::from(packet.total_len());
                Some(ether.payload()[..len].to_vec())
            }
            EthernetProtocol::Ipv6 | EthernetProtocol::Unknown(_) => None,
        }
    }

    fn on_arp(&mut self, arp: ArpRepr, out: &mut Vec<Vec<u8>>) {
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = arp
        else {
            return;
        };
        if !self.cidr.contains_addr(&source_protocol_addr) || !source_hardware_addr.is_unicast() {
            return;
        }
        self.neighbors
            .insert(source_protocol_addr, source_hardware_addr);
        let (ready, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(next_hop, _)| *next_hop == source_protocol_addr);
        self.waiting = waiting;
        let ready: Vec<(Ipv4Address, Vec<u8>)> = ready;
        for (_, packet) in ready {
            out.push(framed(self.mac, source_hardware_addr, &packet));
        }
        if operation == ArpOperation::Request && target_protocol_addr == self.cidr.address() {
            out.push(self.arp(
                ArpOperation::Reply,
                source_hardware_addr,
                source_hardware_addr,
                source_protocol_addr,
            ));
        }
    }

    /// Sends an IP packet by its destination, after asking for the neighbour if need be.
    pub fn send(&mut self, now_us: u64, packet: &[u8], out: &mut Vec<Vec<u8>>) {
        let Ok(ip) = Ipv4Packet::new_checked(packet) else {
            return;
        };
        let to = ip.dst_addr();
        let next_hop = if self.cidr.contains_addr(&to) {
            Some(to)
        } else {
            self.gateway
        };
        let Some(next_hop) = next_hop else {
            return;
        };
        if let Some(mac) = self.neighbors.get(&next_hop) {
            out.push(framed(self.mac, *mac, packet));
            return;
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push((next_hop, packet.to_vec()));
        }
        if self.ask_again_us.is_none() {
            self.ask(now_us, out);
        }
    }

    /// When to call `poll`.
    pub fn poll_at(&self) -> Option<u64> {
        self.ask_again_us
    }

    /// Repeats ARP requests that are due.
    pub fn poll(&mut self, now_us: u64, out: &mut Vec<Vec<u8>>) {
        if self.ask_again_us.is_some_and(|at| at <= now_us) {
            self.ask(now_us, out);
        }
    }

    /// Asks for every next hop that packets wait for.
    fn ask(&mut self, now_us: u64, out: &mut Vec<Vec<u8>>) {
        let mut asked: Vec<Ipv4Address> = Vec::new();
        for (next_hop, _) in &self.waiting {
            if !asked.contains(next_hop) {
                asked.push(*next_hop);
            }
        }
        for next_hop in &asked {
            out.push(self.arp(
                ArpOperation::Request,
                EthernetAddress::BROADCAST,
                EthernetAddress([0; 6]),
                *next_hop,
            ));
        }
        self.ask_again_us = (!asked.is_empty()).then(|| now_us + ARP_RETRY_US);
    }

    fn arp(
        &self,
        operation: ArpOperation,
        to: EthernetAddress,
        target_mac: EthernetAddress,
        target: Ipv4Address,
    ) -> Vec<u8> {
        let repr = ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: self.mac,
            source_protocol_addr: self.cidr.address(),
            target_hardware_addr: target_mac,
            target_protocol_addr: target,
        };
        let mut frame = vec![0; FRAME_MIN];
        let mut ether = EthernetFrame::new_unchecked(&mut frame);
        ether.set_src_addr(self.mac);
        ether.set_dst_addr(to);
        ether.set_ethertype(EthernetProtocol::Arp);
        repr.emit(&mut ArpPacket::new_unchecked(ether.payload_mut()));
        frame
    }
}

/// An IP packet in an Ethernet frame.
fn framed(from: EthernetAddress, to: EthernetAddress, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; (ETHERNET_HEADER + packet.len()).max(FRAME_MIN)];
    frame[..6].copy_from_slice(to.as_bytes());
    frame[6..12].copy_from_slice(from.as_bytes());
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[ETHERNET_HEADER..ETHERNET_HEADER + packet.len()].copy_from_slice(packet);
    frame
}
