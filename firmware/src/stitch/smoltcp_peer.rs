//! A smoltcp client behind queues, for tests: an independent TCP at the other end.

use std::collections::VecDeque;
use std::vec::Vec;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Address};

use crate::wire::segment::{SegmentHeader, emit, frame_len};

pub(super) const CLIENT: Ipv4Address = Ipv4Address::new(10, 77, 0, 1);
pub(super) const SERVER: Ipv4Address = Ipv4Address::new(10, 77, 0, 2);
pub(super) const CLIENT_PORT: u16 = 61_000;
pub(super) const SERVER_PORT: u16 = 4377;

/// Bytes in front of an IP packet in a frame.
const ETHERNET: usize = 14;

#[derive(Default)]
struct Queues {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl smoltcp::phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl smoltcp::phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = std::vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        let packet = self.rx.pop_front()?;
        Some((Rx(packet), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        let mut checksum = ChecksumCapabilities::default();
        checksum.tcp = Checksum::Both;
        capabilities.checksum = checksum;
        capabilities
    }
}

/// One smoltcp host with one TCP socket.
pub(super) struct Client<'a> {
    queues: Queues,
    interface: Interface,
    sockets: SocketSet<'a>,
    handle: SocketHandle,
}

impl<'a> Client<'a> {
    pub(super) fn new(
        storage: &'a mut [SocketStorage<'a>],
        rx: &'a mut [u8],
        tx: &'a mut [u8],
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut queues = Queues::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut queues, now);
        interface
            .update_ip_addrs(|addresses| addresses.push(IpCidr::new(CLIENT.into(), 24)).unwrap());
        let mut sockets = SocketSet::new(storage);
        let socket = tcp::Socket::new(tcp::SocketBuffer::new(rx), tcp::SocketBuffer::new(tx));
        let handle = sockets.add(socket);
        Client {
            queues,
            interface,
            sockets,
            handle,
        }
    }

    pub(super) fn connect(&mut self) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        socket
            .connect(self.interface.context(), (SERVER, SERVER_PORT), CLIENT_PORT)
            .unwrap();
    }

    pub(super) fn socket(&mut self) -> &mut tcp::Socket<'a> {
        self.sockets.get_mut::<tcp::Socket<'a>>(self.handle)
    }

    /// Takes a frame with Ethernet header.
    pub(super) fn receive(&mut self, frame: &[u8]) {
        self.queues.rx.push_back(frame[ETHERNET..].to_vec());
    }

    pub(super) fn poll(&mut self, now: Instant) {
        self.interface
            .poll(now, &mut self.queues, &mut self.sockets);
    }

    pub(super) fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        self.interface.poll_at(now, &self.sockets)
    }

    /// The next frame it sent, with an Ethernet header.
    pub(super) fn transmit(&mut self) -> Option<Vec<u8>> {
        let packet = self.queues.tx.pop_front()?;
        let mut frame = std::vec![0; ETHERNET];
        frame[12] = 8;
        frame.extend_from_slice(&packet);
        Some(frame)
    }
}

/// A frame from the server to the client.
pub(super) fn server_frame(
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = std::vec![0; frame_len(options.len(), payload.len())];
    let header = SegmentHeader {
        src_mac: Default::default(),
        dst_mac: Default::default(),
        src: SERVER,
        dst: CLIENT,
        src_port: SERVER_PORT,
        dst_port: CLIENT_PORT,
        seq,
        ack,
        flags,
        window,
        ident: 0,
        options,
    };
    emit(&mut frame, &header, |bytes| bytes.copy_from_slice(payload));
    frame
}
