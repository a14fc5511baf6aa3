//! One message of a client read, one reply written.
//!
//! Follows: RFC 2131 section 2 and table 3 (fields), RFC 2132 (options; 9.3 overload), RFC 3396
//! (a long option in pieces), RFC 6842 (the client identifier is returned).
//!
//! The header's fields are read and written by [`DhcpPacket`]. Its walk over the options stops at
//! the first bad one as if there were no more, and does not know overloading, so ours is stricter: a
//! message whose options do not add up is refused whole.

use heapless::Vec;
use smoltcp::time::Duration;
use smoltcp::wire::{
    DhcpFlags, DhcpMessageType, DhcpOpCode, DhcpPacket, EthernetAddress, Ipv4Address,
};

use crate::budget::{CLIENT_ID_BYTES_MAX, HOST_NAME_BYTES_MAX};

/// Where the options begin: behind fixed fields and magic number.
const OPTIONS_OFFSET: usize = 240;
const SERVER_NAME: core::ops::Range<usize> = 44..108;
const BOOT_FILE: core::ops::Range<usize> = 108..236;
/// RFC 951: a BOOTP message has 300 bytes; some clients drop shorter ones.
const MESSAGE_BYTES_MIN: usize = 300;
/// Bytes of a reply's options: those of fixed size, and the returned client identifier.
const REPLY_OPTIONS_BYTES_MAX: usize = 64 + CLIENT_ID_BYTES_MAX;
/// RFC 2131 section 2: every client takes 576 bytes of IP, so much of it is UDP payload.
const REPLY_BYTES_MAX: usize = 548;
const MAGIC: u32 = 0x6382_5363;

const PAD: u8 = 0;
const SUBNET_MASK: u8 = 1;
const ROUTER: u8 = 3;
const RESOLVERS: u8 = 6;
const HOST_NAME: u8 = 12;
const BROADCAST_ADDRESS: u8 = 28;
const REQUESTED_ADDRESS: u8 = 50;
const LEASE_SECONDS: u8 = 51;
const OVERLOAD: u8 = 52;
const MESSAGE_TYPE: u8 = 53;
const SERVER_ID: u8 = 54;
const RENEW_SECONDS: u8 = 58;
const REBIND_SECONDS: u8 = 59;
const CLIENT_ID: u8 = 61;
const END: u8 = 255;

/// A host's name as it gave it: any bytes.
pub(super) type Name = Vec<u8, HOST_NAME_BYTES_MAX, u8>;

/// A client's message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) kind: DhcpMessageType,
    pub(super) xid: u32,
    /// The client cannot take a unicast frame before it has its address.
    pub(super) broadcast: bool,
    /// The address that the client has and answers for; unspecified when none.
    pub(super) ciaddr: Ipv4Address,
    pub(super) chaddr: EthernetAddress,
    pub(super) requested: Option<Ipv4Address>,
    pub(super) server: Option<Ipv4Address>,
    pub(super) lease_seconds: Option<u32>,
    /// Empty when the client sends none.
    pub(super) client_id: Vec<u8, CLIENT_ID_BYTES_MAX, u8>,
    /// Empty when the client sends none; cut to what is kept.
    pub(super) name: Name,
}

/// Why a datagram is no client's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is no DHCP, not from Ethernet, or its options do not add up.
    Malformed,
    /// It came through a relay agent; there is only one net here.
    Relayed,
    /// It is a server's reply.
    Reply,
}

impl Message {
    /// Reads a UDP payload.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Refused> {
        let packet = DhcpPacket::new_checked(payload).map_err(|_| Refused::Malformed)?;
        let chaddr = packet.client_hardware_address();
        // The accessor widens one byte; Ethernet is 1 (RFC 1700).
        let is_ethernet = payload[1] == 1 && packet.hardware_len() == 6;
        if packet.magic_number() != MAGIC || !is_ethernet || !chaddr.is_unicast() {
            return Err(Refused::Malformed);
        }
        match packet.opcode() {
            DhcpOpCode::Request => {}
            DhcpOpCode::Reply => return Err(Refused::Reply),
            DhcpOpCode::Unknown(_) => return Err(Refused::Malformed),
        }
        if !packet.relay_agent_ip().is_unspecified() {
            return Err(Refused::Relayed);
        }
        let options = Options::parse(payload).ok_or(Refused::Malformed)?;
        Ok(Self {
            kind: DhcpMessageType::from(options.kind.ok_or(Refused::Malformed)?),
            xid: packet.transaction_id(),
            broadcast: packet.flags().contains(DhcpFlags::BROADCAST),
            ciaddr: packet.client_ip(),
            chaddr,
            requested: options.requested.map(Ipv4Address::from_bits),
            server: options.server.map(Ipv4Address::from_bits),
            lease_seconds: options.lease_seconds,
            client_id: options.client_id,
            name: options.name,
        })
    }
}

#[derive(Default)]
struct Options {
    kind: Option<u8>,
    overload: Option<u8>,
    requested: Option<u32>,
    server: Option<u32>,
    lease_seconds: Option<u32>,
    client_id: Vec<u8, CLIENT_ID_BYTES_MAX, u8>,
    name: Name,
}

impl Options {
    /// `None` when an option reaches beyond its field, has a wrong length, stands twice where it
    /// may not, or is longer than is kept.
    fn parse(payload: &[u8]) -> Option<Self> {
        let mut options = Self::default();
        options.read(payload.get(OPTIONS_OFFSET..)?)?;
        // RFC 2131 section 4.1: "the options in the 'options' field MUST be interpreted first",
        // then 'file', then 'sname'. An overload option inside those changes nothing any more.
        let overload = options.overload.unwrap_or(0);
        if overload > 3 {
            return None;
        }
        if overload & 1 != 0 {
            options.read(&payload[BOOT_FILE])?;
        }
        if overload & 2 != 0 {
            options.read(&payload[SERVER_NAME])?;
        }
        // RFC 2132 section 9.14: "Its minimum length is 2".
        (options.client_id.len() != 1).then_some(options)
    }

    fn read(&mut self, mut field: &[u8]) -> Option<()> {
        while let [code, rest @ ..] = field {
            field = match *code {
                PAD => rest,
                END => break,
                code => {
                    let (&len, rest) = rest.split_first()?;
                    let (data, rest) = rest.split_at_checked(usize::from(len))?;
                    self.take(code, data)?;
                    rest
                }
            };
        }
        // A missing end marker at the end of the field harms nobody.
        Some(())
    }

    fn take(&mut self, code: u8, data: &[u8]) -> Option<()> {
        match code {
            MESSAGE_TYPE => once(&mut self.kind, u8_of(data)?),
            OVERLOAD => once(&mut self.overload, u8_of(data)?),
            REQUESTED_ADDRESS => once(&mut self.requested, u32_of(data)?),
            SERVER_ID => once(&mut self.server, u32_of(data)?),
            LEASE_SECONDS => once(&mut self.lease_seconds, u32_of(data)?),
            // Cut, it would be another client's.
            CLIENT_ID => self.client_id.extend_from_slice(data).ok(),
            HOST_NAME => {
                let room = self.name.capacity() - self.name.len();
                self.name
                    .extend_from_slice(&data[..data.len().min(room)])
                    .ok()
            }
            _ => Some(()),
        }
    }
}

/// RFC 2131 section 4.1: "Options may appear only once, unless otherwise specified".
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

fn u8_of(data: &[u8]) -> Option<u8> {
    <[u8; 1]>::try_from(data).ok().map(|[byte]| byte)
}

fn u32_of(data: &[u8]) -> Option<u32> {
    data.try_into().ok().map(u32::from_be_bytes)
}

/// What a client is told about its net.
#[derive(Clone, Copy, Debug)]
pub(super) struct NetOptions {
    /// Mask of the net.
    pub(super) mask: Ipv4Address,
    /// Its broadcast address.
    pub(super) broadcast: Ipv4Address,
    /// How long the address is given; `None` answers DHCPINFORM.
    pub(super) lease: Option<Duration>,
}

/// A reply to a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply<'a> {
    pub(super) kind: DhcpMessageType,
    pub(super) to: &'a Message,
    /// The router's address: server, gateway and resolver.
    pub(super) router: Ipv4Address,
    pub(super) yiaddr: Ipv4Address,
    /// `None` in a refusal.
    pub(super) net: Option<NetOptions>,
}

/// A reply's options in wire form.
pub(super) struct ReplyOptions(Vec<u8, REPLY_OPTIONS_BYTES_MAX, u8>);

impl Reply<'_> {
    /// The options, whose length gives that of the reply.
    pub(super) fn options(&self) -> ReplyOptions {
        let mut out = ReplyOptions(Vec::new());
        let router = self.router.octets();
        out.put(MESSAGE_TYPE, &[self.kind.into()]);
        out.put(SERVER_ID, &router);
        if let Some(net) = self.net {
            if let Some(lease) = net.lease {
                let seconds = u32::try_from(lease.secs()).unwrap_or(u32::MAX);
                // RFC 2131 section 4.4.5: T1 is half of the lease, T2 seven eighths.
                let rebind = seconds - seconds.div_ceil(8);
                out.put(LEASE_SECONDS, &seconds.to_be_bytes());
                out.put(RENEW_SECONDS, &(seconds / 2).to_be_bytes());
                out.put(REBIND_SECONDS, &rebind.to_be_bytes());
            }
            // RFC 2132 section 3.3: "the subnet mask option MUST be first".
            out.put(SUBNET_MASK, &net.mask.octets());
            out.put(ROUTER, &router);
            out.put(RESOLVERS, &router);
            out.put(BROADCAST_ADDRESS, &net.broadcast.octets());
        }
        if !self.to.client_id.is_empty() {
            out.put(CLIENT_ID, &self.to.client_id);
        }
        out.0
            .push(END)
            .expect("REPLY_OPTIONS_BYTES_MAX counts them all");
        out
    }

    /// Writes the reply over all of `payload`, which has [`ReplyOptions::payload_bytes`].
    pub(super) fn write(&self, options: &ReplyOptions, payload: &mut [u8]) {
        payload.fill(0);
        payload[1] = 1; // Ethernet
        payload[OPTIONS_OFFSET..][..options.0.len()].copy_from_slice(&options.0);
        let is_nak = self.kind == DhcpMessageType::Nak;
        let mut packet = DhcpPacket::new_unchecked(payload);
        packet.set_opcode(DhcpOpCode::Reply);
        packet.set_hardware_len(6);
        packet.set_transaction_id(self.to.xid);
        packet.set_flags(if self.to.broadcast {
            DhcpFlags::BROADCAST
        } else {
            DhcpFlags::empty()
        });
        // RFC 2131 table 3: 'ciaddr' of the request in DHCPACK, 0 in the others.
        if self.kind == DhcpMessageType::Ack {
            packet.set_client_ip(self.to.ciaddr);
        }
        if !is_nak {
            packet.set_your_ip(self.yiaddr);
        }
        packet.set_client_hardware_address(self.to.chaddr);
        packet.set_magic_number(MAGIC);
    }
}

impl ReplyOptions {
    /// Length of the whole reply, bytes; at most 548.
    pub(super) fn payload_bytes(&self) -> usize {
        MESSAGE_BYTES_MIN.max(OPTIONS_OFFSET + self.0.len())
    }

    fn put(&mut self, code: u8, data: &[u8]) {
        let len = u8::try_from(data.len()).expect("no option of ours has more than 255 bytes");
        self.0
            .extend_from_slice(&[code, len])
            .and_then(|()| self.0.extend_from_slice(data))
            .expect("REPLY_OPTIONS_BYTES_MAX counts them all");
    }
}

const _: () = assert!(OPTIONS_OFFSET + REPLY_OPTIONS_BYTES_MAX <= REPLY_BYTES_MAX);
const _: () = assert!(REPLY_OPTIONS_BYTES_MAX <= u8::MAX as usize);
