//! The provider's DHCP server in the simulation: one address a line, short leases, and a note of what was asked.
//!
//! Follows: RFC 2131. Not done: several clients on a line; what a lease means is the router's to keep.

use firmware::wire::datagram::{self, DatagramHeader};
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    IpProtocol, Ipv4Address, Ipv4Cidr, Ipv4Packet, UdpPacket,
};

/// The server's hardware address on every line; the gateway's need not be the same.
const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0x0d, 1]);
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// What a client asked, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Time of arrival, µs.
    pub at_us: u64,
    /// What it was.
    pub kind: DhcpMessageType,
    /// The client had an address already and names it as its own (a renewal).
    pub renews: bool,
}

/// The server of one line.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The client's address and net.
    pub address: Ipv4Cidr,
    gateway: Ipv4Address,
    lease_s: u32,
    /// All that was asked.
    pub asked: Vec<Asked>,
}

impl Provider {
    /// Gives `address` for `lease_s` seconds.
    pub fn new(address: Ipv4Cidr, gateway: Ipv4Address, lease_s: u32) -> Self {
        Self {
            address,
            gateway,
            lease_s,
            asked: Vec::new(),
        }
    }

    /// Takes a frame of the line; true when it was DHCP. The answer, if any, is put into `out`.
    pub fn on_frame(&mut self, now_us: u64, frame: &[u8], out: &mut Vec<Vec<u8>>) -> bool {
        let Some((mac, payload)) = request(frame) else {
            return false;
        };
        let packet = DhcpPacket::new_checked(payload);
        let Some(ask) = packet
            .as_ref()
            .ok()
            .and_then(|dhcp| DhcpRepr::parse(dhcp).ok())
        else {
            return true;
        };
        let renews = !ask.client_ip.is_unspecified();
        self.asked.push(Asked {
            at_us: now_us,
            kind: ask.message_type,
            renews,
        });
        let wanted = if renews {
            Some(ask.client_ip)
        } else {
            ask.requested_ip
        };
        let answer = match ask.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            DhcpMessageType::Request if wanted == Some(self.address.address()) => {
                DhcpMessageType::Ack
            }
            DhcpMessageType::Request => DhcpMessageType::Nak,
            _ => return true,
        };
        out.push(self.answer(&ask, answer, mac));
        true
    }

    fn answer(&self, ask: &DhcpRepr<'_>, kind: DhcpMessageType, mac: EthernetAddress) -> Vec<u8> {
        let is_given = kind != DhcpMessageType::Nak;
        let reply = DhcpRepr {
            message_type: kind,
            transaction_id: ask.transaction_id,
            secs: 0,
            client_hardware_address: ask.client_hardware_address,
            client_ip: Ipv4Address::UNSPECIFIED,
            your_ip: if is_given {
                self.address.address()
            } else {
                Ipv4Address::UNSPECIFIED
            },
            server_ip: self.gateway,
            router: is_given.then_some(self.gateway),
            subnet_mask: is_given.then(|| self.address.netmask()),
            relay_agent_ip: Ipv4Address::UNSPECIFIED,
            broadcast: false,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(self.gateway),
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: is_given.then_some(self.lease_s),
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let header = DatagramHeader {
            src_mac: MAC,
            dst_mac: mac,
            src: self.gateway,
            dst: self.address.address(),
            src_port: SERVER_PORT,
            dst_port: CLIENT_PORT,
            ident: ask.transaction_id as u16,
        };
        let mut frame = vec![0; datagram::frame_len(reply.buffer_len())];
        datagram::emit(&mut frame, &header, |payload| {
            reply
                .emit(&mut DhcpPacket::new_unchecked(payload))
                .expect("the buffer has the length that the message asked for");
        });
        frame
    }
}

/// The sender and the payload of a datagram for a DHCP server.
fn request(frame: &[u8]) -> Option<(EthernetAddress, &[u8])> {
    let ether = EthernetFrame::new_checked(frame).ok()?;
    if ether.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let ip = Ipv4Packet::new_checked(ether.payload()).ok()?;
    if ip.next_header() != IpProtocol::Udp || !ip.verify_checksum() {
        return None;
    }
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    (udp.dst_port() == SERVER_PORT).then(|| (ether.src_addr(), udp.payload()))
}
