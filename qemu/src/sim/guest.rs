//! A host of the LAN that gets its address from the router, keeps it, and says so.
//!
//! smoltcp's own DHCP client and Ethernet side, so that nothing of it is the router's code.

use std::collections::VecDeque;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::{dhcpv4, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Address, Ipv4Cidr};

/// Frames in and out.
#[derive(Debug, Default)]
struct Port {
    rx: VecDeque<Vec<u8>>,
    tx: Vec<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Port {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Rx, Tx<'_>)> {
        let frame = self.rx.pop_front()?;
        Some((Rx(frame), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// The host. It sends a datagram to `target` each `every_us`, so that flows open and expire.
pub struct Guest {
    port: Port,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    udp: SocketHandle,
    target: (Ipv4Address, u16),
    every_us: u64,
    next_us: u64,
    at: Option<u64>,
    /// Addresses that it was given, each time that one was.
    pub leases: Vec<Ipv4Cidr>,
    /// Times that it lost its address.
    pub losses: u32,
    /// Datagrams sent.
    pub sent: u32,
}

fn instant(us: u64) -> Instant {
    Instant::from_micros(i64::try_from(us).unwrap_or(i64::MAX))
}

impl Guest {
    /// A host without an address.
    pub fn new(mac: EthernetAddress, seed: u64, target: (Ipv4Address, u16), every_us: u64) -> Self {
        let mut config = Config::new(HardwareAddress::Ethernet(mac));
        config.random_seed = seed;
        let mut port = Port::default();
        let interface = Interface::new(config, &mut port, Instant::ZERO);
        let mut sockets = SocketSet::new(Vec::new());
        let dhcp = sockets.add(dhcpv4::Socket::new());
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 2048]);
        let udp = sockets.add(udp::Socket::new(buffer(), buffer()));
        Self {
            port,
            interface,
            sockets,
            dhcp,
            udp,
            target,
            every_us,
            next_us: every_us,
            at: Some(0),
            leases: Vec::new(),
            losses: 0,
            sent: 0,
        }
    }

    /// When to call `poll`.
    pub fn poll_at(&self) -> Option<u64> {
        self.at
    }

    /// Takes a frame from the LAN.
    pub fn on_frame(&mut self, now_us: u64, frame: &[u8]) {
        self.port.rx.push_back(frame.to_vec());
        self.at = Some(now_us);
    }

    /// Runs what is due; frames for the LAN go to `out`.
    pub fn poll(&mut self, now_us: u64, out: &mut Vec<Vec<u8>>) {
        let now = instant(now_us);
        self.interface.poll(now, &mut self.port, &mut self.sockets);
        match self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.dhcp).poll() {
            Some(dhcpv4::Event::Configured(lease)) => {
                let (address, router) = (lease.address, lease.router);
                self.leases.push(address);
                self.interface.update_ip_addrs(|own| {
                    own.clear();
                    own.push(IpCidr::Ipv4(address)).expect("one address fits");
                });
                let routes = self.interface.routes_mut();
                routes.remove_default_ipv4_route();
                if let Some(router) = router {
                    routes
                        .add_default_ipv4_route(router)
                        .expect("one route fits");
                }
            }
            Some(dhcpv4::Event::Deconfigured) => {
                self.losses += u32::from(!self.leases.is_empty());
                self.interface.update_ip_addrs(|own| own.clear());
            }
            None => {}
        }
        if now_us >= self.next_us {
            self.next_us = now_us + self.every_us;
            self.say();
        }
        self.interface.poll(now, &mut self.port, &mut self.sockets);
        out.append(&mut self.port.tx);
        let due = self.interface.poll_at(now, &self.sockets);
        let due = due.map(|at| {
            u64::try_from(at.total_micros())
                .unwrap_or(0)
                .max(now_us + 1)
        });
        self.at = Some(due.unwrap_or(self.next_us).min(self.next_us));
    }

    /// One datagram from a fresh port.
    fn say(&mut self) {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.udp);
        socket.close();
        let port = 1024 + (self.sent % 50_000) as u16;
        if socket.bind(port).is_ok() && socket.send_slice(b"tick", self.target).is_ok() {
            self.sent += 1;
        }
    }
}
