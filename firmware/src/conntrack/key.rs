//! Who talks to whom, and how that is hashed.
//!
//! The hash is NH (RFC 4418 section 5.2) over the key's words with secret 32-bit keys, folded
//! by one more keyed multiplication: somebody who does not know the keys cannot make long chains.
//! Three multiplications; much less than SipHash costs on the target.
//!
//! Units: ports and addresses as numbers.

use smoltcp::wire::Ipv4Address;

use crate::budget::FLOW_BUCKETS;
use crate::random::Random;

/// What can be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
#[repr(u8)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP echo; its identifier stands for the client's port, and the remote port is 0.
    Icmp,
}

/// Which way a packet of a flow goes. Who opened the flow does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Direction {
    /// From the client on the LAN to the far end.
    Original,
    /// From the far end to the client.
    Reply,
}

impl Direction {
    /// The other way.
    #[inline]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// A flow as its client names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// Address on the LAN.
    pub client: Ipv4Address,
    /// Address of the other end.
    pub remote: Ipv4Address,
    /// Port of the client, or its identifier.
    pub client_port: u16,
    /// Port of the other end.
    pub remote_port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// A flow as its origin names it; the address is the router's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyKey {
    /// Address of the other end.
    pub remote: Ipv4Address,
    /// Port of the other end.
    pub remote_port: u16,
    /// Port of the router, or identifier.
    pub wan_port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// Keyed hash of flows into buckets, and the random numbers of port choice.
#[derive(Clone, Debug)]
pub(super) struct Hasher {
    keys: [u32; 6],
    random: Random,
}

impl Hasher {
    pub(super) const ZERO: Self = Self {
        keys: [0; 6],
        random: Random::UNSEEDED,
    };

    pub(super) fn new(mut random: Random) -> Self {
        Self {
            keys: core::array::from_fn(|_| random.next_u32()),
            random,
        }
    }

    #[inline]
    fn bucket(&self, a: u32, b: u32, ports: u32, protocol: Protocol) -> usize {
        let [k0, k1, k2, k3, k4, k5] = self.keys;
        let first = u64::from(a.wrapping_add(k0)) * u64::from(b.wrapping_add(k1));
        let second =
            u64::from(ports.wrapping_add(k2)) * u64::from((protocol as u32).wrapping_add(k3));
        let sum = first.wrapping_add(second);
        let folded = u64::from((sum as u32).wrapping_add(k4))
            * u64::from(((sum >> 32) as u32).wrapping_add(k5));
        ((folded >> 32) as u32 ^ folded as u32) as usize % FLOW_BUCKETS
    }

    #[inline]
    pub(super) fn flow(&self, key: &FlowKey) -> usize {
        let ports = u32::from(key.client_port) << 16 | u32::from(key.remote_port);
        self.bucket(number(key.client), number(key.remote), ports, key.protocol)
    }

    #[inline]
    pub(super) fn reply(&self, key: &ReplyKey) -> usize {
        let ports = u32::from(key.wan_port) << 16 | u32::from(key.remote_port);
        self.bucket(0, number(key.remote), ports, key.protocol)
    }

    #[inline]
    pub(super) fn address(&self, key: &ReplyKey) -> usize {
        let ports = u32::from(key.wan_port) << 16;
        self.bucket(1, number(key.remote), ports, key.protocol)
    }

    /// The account of a LAN host: hosts of one /24 have different ones.
    pub(super) fn account(&self, host: Ipv4Address) -> u16 {
        let [a, b, c, last] = host.octets();
        let net = self.bucket(2, number(Ipv4Address::new(a, b, c, 0)), 0, Protocol::Tcp);
        u16::from(last ^ net as u8)
    }

    pub(super) fn client_port(&self, protocol: Protocol, client: Ipv4Address, port: u16) -> usize {
        self.bucket(number(client), 0, u32::from(port), protocol)
    }

    pub(super) fn wan_port(&self, protocol: Protocol, port: u16) -> usize {
        self.bucket(0, 0, u32::from(port), protocol)
    }

    pub(super) fn random(&mut self) -> &mut Random {
        &mut self.random
    }
}

/// The address as a word, in whatever order the machine reads it.
#[inline]
fn number(address: Ipv4Address) -> u32 {
    u32::from_ne_bytes(address.octets())
}

const _: () = assert!(FLOW_BUCKETS.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_that_differ_in_one_port_spread_over_the_buckets() {
        for seed in 0..8 {
            let hasher = Hasher::new(Random::repeatable(seed));
            let mut counts = vec![0u32; FLOW_BUCKETS];
            for client_port in 20_000..20_000 + FLOW_BUCKETS as u16 {
                let key = FlowKey {
                    client: Ipv4Address::new(192, 168, 1, 100),
                    remote: Ipv4Address::new(198, 51, 100, 10),
                    client_port,
                    remote_port: 80,
                    protocol: Protocol::Tcp,
                };
                counts[hasher.flow(&key)] += 1;
            }
            // 4,096 balls into 4,096 bins: the fullest has about 7, hardly ever 12.
            assert!(*counts.iter().max().unwrap() <= 12, "seed {seed}");
        }
    }
}
