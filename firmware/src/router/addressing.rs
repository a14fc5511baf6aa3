//! How the ports are addressed: settings put in force, and the lease of the WAN followed.
//!
//! Follows: RFC 2131 section 4.4.5 (an address that has ended is used no more).
//!
//! A changed address of LAN or WAN ends all flows: their other ends know the old one. A lease that is
//! merely renewed disturbs nothing.

use smoltcp::wire::Ipv4Address;

use super::{Acceleration, Router};
use crate::budget::WAN_DNS_MAX;
use crate::conntrack;
use crate::dhcp::{client, server};
use crate::events::Event;
use crate::port::{Port, PortAddress, overlap};
use crate::settings::{ForwardProtocol, Net, Settings, WanAddress};

impl Router<'_> {
    /// Puts settings in force.
    pub(super) fn apply_settings(&mut self, settings: &Settings) {
        self.touch();
        let before = core::mem::replace(&mut self.settings, *settings);
        let cidr = |net: Option<Net>| net.map(Net::cidr);
        let air = settings.air_net(self.addresses[Port::Air.index()].mac);
        for (port, cidr) in [(Port::Lan, cidr(settings.lan.net)), (Port::Air, cidr(air))] {
            let mac = self.addresses[port.index()].mac;
            let gateway = None;
            self.set_address(port, PortAddress { mac, cidr, gateway });
        }
        self.set_acceleration(Acceleration {
            enabled: settings.accel.enabled,
            ports: settings.accel.ports,
        });
        if before.lan != settings.lan {
            let lan = server::Context::new(&self.settings.lan);
            self.services
                .dhcp_server
                .on_settings(self.now, lan.as_ref());
        }
        self.follow_wan_setting(before.wan.address);
        self.address_wan();
        self.apply_forwards();
        self.apply_lent();
    }

    /// Opens the forwarded ports, and closes those that are none any more.
    fn apply_forwards(&mut self) {
        let forwards = self.settings.forwards.iter();
        let open = forwards.map(|forward| conntrack::Forward {
            protocol: match forward.protocol {
                ForwardProtocol::Tcp => conntrack::Protocol::Tcp,
                ForwardProtocol::Udp => conntrack::Protocol::Udp,
            },
            wan_port: forward.wan_port,
            client: forward.host,
            client_port: forward.port,
        });
        self.conntrack.set_forwards(open);
    }

    /// Starts or stops the DHCP client as the settings say; a lease that the LAN or the air now
    /// overlaps is given up.
    fn follow_wan_setting(&mut self, before: WanAddress) {
        let now = self.now;
        let ports = &self.addresses;
        let client = &mut self.services.dhcp_client;
        let is_overlapped = client.lease().is_some_and(|lease| {
            [Port::Lan, Port::Air]
                .into_iter()
                .filter_map(|port| ports[port.index()].cidr)
                .any(|other| overlap(&lease.address, &other))
        });
        match (self.settings.wan.address, before) {
            (WanAddress::Dhcp, WanAddress::Dhcp) if !is_overlapped && !client.is_stopped() => {}
            (WanAddress::Dhcp, _) => client.restart(now),
            (WanAddress::None | WanAddress::Static(_), _) => client.stop(),
        }
        self.follow_lease();
    }

    /// Gives the WAN the address that settings and lease name, and tells the accelerator.
    fn address_wan(&mut self) {
        self.touch();
        let wan = &self.settings.wan;
        let (cidr, gateway, mtu) = match wan.address {
            WanAddress::None => (None, None, None),
            WanAddress::Static(net) => (Some(net.cidr()), wan.gateway, None),
            WanAddress::Dhcp => match self.services.dhcp_client.lease() {
                Some(lease) => (
                    Some(lease.address),
                    lease.gateway.or(wan.gateway),
                    lease.mtu,
                ),
                None => (None, None, None),
            },
        };
        self.wan_mtu = wan.mtu.min(mtu.unwrap_or(wan.mtu));
        self.accelerator.stack.set_wan_mtu(self.line_mtu());
        let mac = self.addresses[Port::Wan.index()].mac;
        self.set_address(Port::Wan, PortAddress { mac, cidr, gateway });
        self.accelerator
            .apply(self.now, &self.settings, &self.addresses);
    }

    /// Does what the DHCP client's events ask for.
    pub(super) fn follow_lease(&mut self) {
        while let Some(event) = self.services.dhcp_client.poll_event() {
            let told = match event {
                client::Event::Leased(lease) => Event::LeaseGot {
                    address: lease.address,
                    gateway: lease.gateway,
                    seconds: seconds(&lease),
                },
                client::Event::Renewed(lease) => Event::LeaseRenewed {
                    seconds: seconds(&lease),
                },
                client::Event::Lost(why) => Event::LeaseLost(why.text()),
                client::Event::Refused { why, .. } => Event::LeaseRefused(why.text()),
            };
            self.event(self.now, told);
            self.address_wan();
        }
    }

    /// The resolvers to ask: those that the owner named, else those of the lease.
    pub(super) fn resolvers(&self) -> [Option<Ipv4Address>; WAN_DNS_MAX] {
        let set = self.settings.wan.dns;
        let lease = self.services.dhcp_client.lease();
        match lease {
            Some(lease) if set == [None; WAN_DNS_MAX] => lease.dns,
            Some(_) | None => set,
        }
    }

    /// Sets how a port is addressed; its MAC address stays the board's. A change ends what
    /// depended on the old address: the port's neighbors, and all flows if it is not the air.
    pub fn set_address(&mut self, port: Port, address: PortAddress) {
        let old = self.addresses[port.index()];
        let new = PortAddress {
            mac: old.mac,
            ..address
        };
        if new == old {
            return;
        }
        self.touch();
        self.addresses[port.index()] = new;
        self.neighbors.forget(port);
        match port {
            Port::Lan | Port::Wan => {
                self.services.dns.forget();
                self.accelerator.forget_all(self.now);
                self.conntrack.clear();
                self.fragments.clear();
            }
            Port::Air => self.conntrack.end_lent(&[]),
        }
    }
}

fn seconds(lease: &client::Lease) -> u32 {
    u32::try_from(lease.duration.secs()).unwrap_or(u32::MAX)
}
