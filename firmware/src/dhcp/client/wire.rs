//! What lies between smoltcp's socket and the line.
//!
//! Units: bytes.
//!
//! In: frames written here, of values that were judged before. Out: the socket's messages; its
//! question for the server's hardware address stays here.

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr,
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Address,
    Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use super::reply::{Kind, Reply, option};
use super::{CLIENT_PORT, Lease, SERVER_PORT};
use crate::budget::{DHCP_FRAME_BYTES_MAX, FRAME_BYTES_MAX};
use crate::port::{Egress, Full, Port};

/// Ethernet, IPv4 and UDP header, bytes.
pub(super) const HEADERS: usize = 14 + 20 + 8;
/// A frame with an ARP message.
const ARP_FRAME: usize = 14 + 28;

/// What left the socket in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    NoRoom,
    Message { kind: DhcpMessageType, xid: u32 },
}

/// What smoltcp takes for a network device: one frame in, one message out.
pub(super) struct Wire<'a, E: Egress> {
    frame: Option<&'a [u8]>,
    out: &'a mut E,
    pub(super) left: Left,
    /// The address whose hardware address the socket wants to know.
    pub(super) asked: Option<Ipv4Address>,
}

impl<'a, E: Egress> Wire<'a, E> {
    pub(super) fn new(frame: Option<&'a [u8]>, out: &'a mut E) -> Self {
        Self {
            frame,
            out,
            left: Left::Nothing,
            asked: None,
        }
    }

    fn send(&mut self, frame: &[u8]) {
        let Ok(ethernet) = EthernetFrame::new_checked(frame) else {
            return;
        };
        if ethernet.ethertype() == EthernetProtocol::Arp {
            let asked = ArpPacket::new_checked(ethernet.payload());
            self.asked = asked
                .ok()
                .and_then(|arp| arp.target_protocol_addr().try_into().ok())
                .map(|address: [u8; 4]| Ipv4Address::from(address));
            return;
        }
        let message = frame.get(HEADERS..).map(DhcpPacket::new_checked);
        let Some(Ok(message)) = message else { return };
        let kind = message
            .options()
            .find(|option| option.kind == option::MESSAGE_TYPE)
            .and_then(|option| option.data.first().copied());
        let sent = self
            .out
            .transmit(Port::Wan, frame.len(), |slot| slot.copy_from_slice(frame));
        self.left = match (sent, kind) {
            (Ok(()), Some(kind)) => Left::Message {
                kind: DhcpMessageType::from(kind),
                xid: message.transaction_id(),
            },
            (Ok(()), None) => Left::Nothing,
            // The socket takes it for sent and repeats it in its time.
            (Err(_), _) => Left::NoRoom,
        };
    }
}

pub(super) struct Incoming<'a>(&'a [u8]);

pub(super) struct Outgoing<'w, 'a, E: Egress>(&'w mut Wire<'a, E>);

impl phy::RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl<E: Egress> phy::TxToken for Outgoing<'_, '_, E> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // Its messages have no option of variable length but the list above: `DHCP_FRAME_BYTES_MAX` holds them.
        let mut frame = [0; DHCP_FRAME_BYTES_MAX];
        let frame = &mut frame[..len.min(DHCP_FRAME_BYTES_MAX)];
        let result = f(frame);
        self.0.send(frame);
        result
    }
}

impl<'a, E: Egress> phy::Device for Wire<'a, E> {
    type RxToken<'b>
        = Incoming<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Outgoing<'b, 'a, E>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let frame = self.frame.take()?;
        Some((Incoming(frame), Outgoing(self)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Self::TxToken<'_>> {
        if self.out.room(Port::Wan) == 0 {
            self.left = Left::NoRoom;
            return None;
        }
        Some(Outgoing(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities()
    }
}

fn capabilities() -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ethernet;
    capabilities.max_transmission_unit = FRAME_BYTES_MAX;
    // What comes in was written here, and checked before.
    capabilities.checksum.ipv4 = Checksum::Tx;
    capabilities.checksum.udp = Checksum::Tx;
    capabilities
}

/// The line before there is one.
pub(super) struct Nowhere;

impl Egress for Nowhere {
    fn transmit<R>(
        &mut self,
        _port: Port,
        _len: usize,
        _fill: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, Full> {
        Err(Full)
    }

    fn room(&self, _port: Port) -> usize {
        0
    }

    fn queued(&self, _port: Port) -> usize {
        0
    }
}

/// Writes what is left of a server's message for the socket; gives its length.
pub(super) fn write_reply(
    (mac, station): (EthernetAddress, EthernetAddress),
    reply: &Reply,
    lease: Option<&Lease>,
    frame: &mut [u8],
) -> usize {
    let seconds = |time: Duration| (time.secs() as u32).to_be_bytes();
    let (t1, t2) = lease.map_or(([0; 4], [0; 4]), |lease| {
        (seconds(lease.t1), seconds(lease.t2))
    });
    let times = [
        DhcpOption {
            kind: option::T1,
            data: &t1,
        },
        DhcpOption {
            kind: option::T2,
            data: &t2,
        },
    ];
    let server = reply.server.unwrap_or(Ipv4Address::UNSPECIFIED);
    let dhcp = DhcpRepr {
        message_type: match reply.kind {
            Kind::Offer => DhcpMessageType::Offer,
            Kind::Ack => DhcpMessageType::Ack,
            Kind::Nak => DhcpMessageType::Nak,
        },
        transaction_id: reply.xid,
        secs: 0,
        client_hardware_address: mac,
        client_ip: Ipv4Address::UNSPECIFIED,
        your_ip: reply.address,
        server_ip: Ipv4Address::UNSPECIFIED,
        router: None,
        subnet_mask: lease.map(|lease| lease.address.netmask()),
        relay_agent_ip: Ipv4Address::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: reply.server,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: lease.map(|lease| lease.duration.secs() as u32),
        renew_duration: None,
        rebind_duration: None,
        additional_options: if lease.is_some() { &times } else { &[] },
    };
    let udp = UdpRepr {
        src_port: SERVER_PORT,
        dst_port: CLIENT_PORT,
    };
    let ip = Ipv4Repr {
        src_addr: server,
        dst_addr: Ipv4Address::BROADCAST,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + dhcp.buffer_len(),
        hop_limit: 64,
    };
    let len = HEADERS + dhcp.buffer_len();
    let checksums = capabilities().checksum;
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..len]);
    EthernetRepr {
        src_addr: station,
        dst_addr: mac,
        ethertype: EthernetProtocol::Ipv4,
    }
    .emit(&mut ethernet);
    let mut packet = Ipv4Packet::new_unchecked(ethernet.payload_mut());
    ip.emit(&mut packet, &checksums);
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    udp.emit(
        &mut datagram,
        &ip.src_addr.into(),
        &ip.dst_addr.into(),
        dhcp.buffer_len(),
        |payload| {
            let written = dhcp.emit(&mut DhcpPacket::new_unchecked(payload));
            debug_assert!(written.is_ok(), "buffer_len is what emit needs");
        },
        &checksums,
    );
    len
}

/// Writes the station's answer to the socket's question for the hardware address of `server`.
pub(super) fn write_arp(
    (mac, station): (EthernetAddress, EthernetAddress),
    (own, server): (Ipv4Address, Ipv4Address),
) -> [u8; ARP_FRAME] {
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: station,
        source_protocol_addr: server,
        target_hardware_addr: mac,
        target_protocol_addr: own,
    };
    let mut bytes = [0; ARP_FRAME];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    EthernetRepr {
        src_addr: station,
        dst_addr: mac,
        ethertype: EthernetProtocol::Arp,
    }
    .emit(&mut frame);
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}
