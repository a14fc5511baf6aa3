//! The flow table through sequences of operations: opens from all sides, segments, time, floods, other forwards.
//!
//! After each operation the table's own invariants hold, and what hosts may rely on: one port of ours for a client's
//! port, never two clients behind one; a flow in an exchange stays; nobody has more than his share. At the end, left
//! alone, every flow ends by its timer.

use std::collections::HashMap;

use firmware::budget::{
    FLOWS, FLOWS_OUTSIDE_MAX, FLOWS_PER_HOST_MAX, INBOUND_PER_FORWARD_MAX, LOCAL_PORT_FIRST,
    TCP_ESTABLISHED_TIMEOUT,
};
use firmware::conntrack::tcp::{Segment, State};
use firmware::conntrack::{
    Direction, EntryId, ExchangeId, FlowKey, Forward, Outside, Protocol, ReplyKey, Stage, Table,
    Tcp,
};
use firmware::random::Random;
use firmware::wire::options::Summary;
use firmware::wire::packet;
use firmware::wire::packet::flags;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::Ipv4Address;

use crate::input::Input;

/// Operations of one input, at most: a longer one is only slower.
const OPERATIONS_MAX: usize = 96;
/// Floods of one input, at most: each brings up to two thousand flows.
const FLOODS_MAX: u32 = 2;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World {
        table: Box::new(Table::EMPTY),
        now: Instant::from_secs(1000),
        pinned: Vec::new(),
        forwards: Vec::new(),
        floods: 0,
    };
    world
        .table
        .set_seed(Random::repeatable(u64::from(input.byte())));
    world.table.poll(world.now);
    for count in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        world.operate(&mut input);
        // A table of thousands is looked through less often.
        if world.table.len() < 64 || count % 32 == 0 {
            world.check();
        }
    }
    world.check();
    world.drain();
}

struct World {
    table: Box<Table>,
    now: Instant,
    /// Flows that are in an exchange.
    pinned: Vec<EntryId>,
    forwards: Vec<Forward>,
    floods: u32,
}

const fn lan(host: u8) -> Ipv4Address {
    Ipv4Address::new(192, 168, 1, host)
}

const fn far(host: u8) -> Ipv4Address {
    Ipv4Address::new(198, 51, 100, host)
}

impl World {
    fn operate(&mut self, input: &mut Input<'_>) {
        let op = input.byte();
        let protocol = match input.byte() % 4 {
            0 | 1 => Protocol::Tcp,
            2 => Protocol::Udp,
            _ => Protocol::Icmp,
        };
        match op % 12 {
            0 | 1 => {
                let key = Self::key(protocol, input);
                let number = input.byte();
                self.open(key, number);
            }
            2 => {
                // The client means another far end than it gets.
                let key = Self::key(protocol, input);
                if self.table.find(&key).is_none() {
                    let state = opening(protocol, input.byte());
                    let meant = (far(input.byte() % 4), u16::from(input.byte() % 4));
                    let _refused = self.table.open_redirected(self.now, key, meant, state);
                }
            }
            3 => {
                let key = ReplyKey {
                    remote: far(input.byte() % 4),
                    remote_port: u16::from(input.byte() % 4),
                    wan_port: self.wan_port(input),
                    protocol,
                };
                let who = match input.byte() {
                    who @ 0..8 => Outside::Hairpin(lan(who)),
                    8.. => Outside::Wan,
                };
                if self.table.find_reply(&key).is_none() {
                    let state = opening(protocol, 1);
                    let before = self.table.len();
                    match self.table.open_inbound(self.now, key, who, state) {
                        Ok(id) => assert_eq!(self.table.find_reply(&key), Some(id)),
                        Err(_) => assert!(self.table.len() <= before),
                    }
                }
            }
            4 | 5 => {
                if let Some(id) = self.pick(input) {
                    self.pass(id, input);
                }
            }
            6 => {
                if let Some(id) = self.pick(input) {
                    self.establish(id);
                }
            }
            7 => {
                // A second, or hours.
                let seconds = u64::from(input.byte()).pow(2);
                self.now += Duration::from_secs(seconds.max(1));
                self.table.poll(self.now);
            }
            8 => {
                if let Some(id) = self.pick(input) {
                    self.pinned.retain(|&pinned| pinned != id);
                    self.table.remove(id);
                    assert!(self.table.get(id).is_none());
                }
            }
            9 => {
                if let Some(id) = self.pick(input) {
                    self.pin(id, input.byte().is_multiple_of(2));
                }
            }
            10 => {
                let client = input.byte() % 8;
                self.forwards = (0..input.byte() % 4)
                    .map(|n| Forward {
                        protocol: if n % 2 == 0 {
                            Protocol::Tcp
                        } else {
                            Protocol::Udp
                        },
                        wan_port: u16::from(n) + 1 + u16::from(input.byte() % 8),
                        client: lan(client + n),
                        client_port: u16::from(n) + 1,
                    })
                    .collect();
                self.table.set_forwards(self.forwards.iter().copied());
                // Its flows may have ended with it, pinned or not: the owner of an exchange learns it by its name.
                let table = &self.table;
                self.pinned.retain(|&id| table.get(id).is_some());
            }
            _ if self.floods < FLOODS_MAX => {
                self.floods += 1;
                self.flood(protocol, input);
            }
            _ => {}
        }
    }

    fn key(protocol: Protocol, input: &mut Input<'_>) -> FlowKey {
        let (ends, ports) = (input.byte(), input.byte());
        FlowKey {
            client: lan(ends % 8),
            remote: far(ends / 8 % 4),
            client_port: u16::from(ports % 16),
            remote_port: match ports / 16 % 4 {
                0 => 53,
                port => u16::from(port),
            },
            protocol,
        }
    }

    fn open(&mut self, key: FlowKey, number: u8) {
        if self.table.find(&key).is_some() {
            return;
        }
        let state = opening(key.protocol, number);
        if let Ok(id) = self.table.open(self.now, key, state) {
            assert_eq!(self.table.find(&key), Some(id));
            let entry = self.table.get(id).expect("just opened");
            let reply = ReplyKey {
                remote: entry.far().0,
                remote_port: entry.far().1,
                wan_port: entry.wan_port(),
                protocol: key.protocol,
            };
            assert!(self.table.is_mapped(key.protocol, reply.wan_port));
            assert_eq!(self.table.find_reply(&reply), Some(id));
        }
    }

    /// Many flows at once: of one host, or of all.
    fn flood(&mut self, protocol: Protocol, input: &mut Input<'_>) {
        let (many, of, answered) = (input.byte(), input.byte(), input.byte());
        let start = u32::from(input.u16());
        let count = match many {
            0..224 => u32::from(many % 32),
            224.. => u32::from(many) * 8,
        };
        for n in 0..count {
            let host = if of < 128 { of } else { (n % 250) as u8 };
            let key = FlowKey {
                client: lan(host),
                remote: far(9),
                client_port: (start + n) as u16,
                remote_port: 80,
                protocol,
            };
            self.open(key, 1);
            if answered % 4 == 1
                && let Some(id) = self.table.find(&key)
            {
                self.establish(id);
            }
        }
    }

    /// A port of ours: of a flow, of a forward, or any small number.
    fn wan_port(&self, input: &mut Input<'_>) -> u16 {
        match input.byte() {
            0..128 => self
                .pick(input)
                .and_then(|id| self.table.get(id))
                .map_or(1, |entry| entry.wan_port()),
            n @ 128.. => u16::from(n % 16),
        }
    }

    fn pick(&self, input: &mut Input<'_>) -> Option<EntryId> {
        let place = usize::from(input.byte()) * self.table.len() / 256;
        self.table.iter().nth(place).map(|(id, _)| id)
    }

    /// A packet of the flow: numbers around those that fit, or any.
    fn pass(&mut self, id: EntryId, input: &mut Input<'_>) {
        let way = input.byte();
        let direction = if way.is_multiple_of(2) {
            Direction::Original
        } else {
            Direction::Reply
        };
        let entry = self.table.get(id).expect("a live flow");
        if entry.key().protocol != Protocol::Tcp {
            self.table.on_datagram(self.now, id, direction);
            return;
        }
        let sender = entry.tracked(direction);
        let (from, to) = (*entry.tcp.side(sender), *entry.tcp.side(sender.opposite()));
        let bits = input.byte() & 0x3f;
        let near = |base: u32, by: u8| base.wrapping_add_signed(i32::from(by as i8));
        let (seq, ack, len) = match way / 2 % 4 {
            0 | 1 => (
                near(from.next, input.byte() % 4),
                near(to.next, 0),
                u32::from(input.byte()),
            ),
            2 => (
                near(from.next, input.byte()),
                near(to.next, input.byte()),
                u32::from(input.u16()),
            ),
            _ => (input.u32(), input.u32(), u32::from(input.u16())),
        };
        let segment = packet::Tcp {
            src_port: 0,
            dst_port: 0,
            seq,
            ack,
            flags: bits,
            window: u16::from(input.byte()) << 8,
            payload: 0,
        };
        let before = *self.table.get(id).expect("a live flow");
        let options = Summary::default;
        if self
            .table
            .on_tcp(self.now, id, direction, &segment, len, options)
            .is_err()
        {
            let after = self.table.get(id).expect("a refused segment ends nothing");
            assert_eq!(before.last_seen(), after.last_seen());
            assert_eq!(before.tcp.state, after.tcp.state);
        }
        if way >= 192 {
            let _invalid = self
                .table
                .on_tcp_fragment(id, direction, seq.wrapping_add(len));
        }
    }

    /// The rest of the handshake, or an answer.
    fn establish(&mut self, id: EntryId) {
        let entry = self.table.get(id).expect("a live flow");
        let inbound = entry.is_inbound();
        let (there, back) = if inbound {
            (Direction::Reply, Direction::Original)
        } else {
            (Direction::Original, Direction::Reply)
        };
        if entry.key().protocol != Protocol::Tcp {
            self.table.on_datagram(self.now, id, back);
            return;
        }
        let Tcp { state, client, .. } = entry.tcp;
        if state != State::SynSent {
            return;
        }
        let next = client.isn.wrapping_add(1);
        for (direction, bits, seq, ack) in [
            (back, flags::SYN | flags::ACK, 500, next),
            (there, flags::ACK, next, 501),
        ] {
            let segment = packet::Tcp {
                src_port: 0,
                dst_port: 0,
                seq,
                ack,
                flags: bits,
                window: 60_000,
                payload: 0,
            };
            let len = u32::from(bits & flags::SYN != 0);
            self.table
                .on_tcp(self.now, id, direction, &segment, len, Summary::default)
                .expect("a handshake is taken");
        }
    }

    /// An exchange begins on the flow, or ends.
    fn pin(&mut self, id: EntryId, begins: bool) {
        let entry = self.table.get_mut(id).expect("a live flow");
        let able = entry.key().protocol == Protocol::Tcp && entry.tcp.state == State::Established;
        if begins && able && !self.pinned.contains(&id) && self.pinned.len() < 8 {
            entry.tcp.stage = Stage::Exchange(ExchangeId(0));
            self.pinned.push(id);
        } else if !begins && self.pinned.contains(&id) {
            entry.tcp.stage = Stage::Plain;
            self.table.touch(self.now, id);
            self.pinned.retain(|&pinned| pinned != id);
        }
    }

    fn check(&mut self) {
        self.table.check();
        assert!(self.table.len() <= FLOWS);
        assert_eq!(
            self.table.poll_at().is_some(),
            !self.table.is_empty(),
            "a timer exactly if there is a flow"
        );
        let mut ports: HashMap<(u8, u16), (Ipv4Address, u16)> = HashMap::new();
        let mut mapped: HashMap<(u8, Ipv4Address, u16), u16> = HashMap::new();
        let mut live: HashMap<Ipv4Address, usize> = HashMap::new();
        let (mut outside, mut by_port) = (0, HashMap::<(u8, u16), usize>::new());
        for (_, entry) in self.table.iter() {
            let key = entry.key();
            let protocol = key.protocol as u8;
            let port = entry.wan_port();
            assert!((1..LOCAL_PORT_FIRST).contains(&port));
            let client = (key.client, key.client_port);
            let owner = *ports.entry((protocol, port)).or_insert(client);
            assert_eq!(owner, client, "two clients behind port {port}");
            let is_over = key.protocol == Protocol::Tcp
                && matches!(entry.tcp.state, State::TimeWait | State::Closed);
            if entry.is_inbound() {
                outside += usize::from(!is_over);
                *by_port.entry((protocol, port)).or_default() += 1;
            } else {
                let first = *mapped
                    .entry((protocol, key.client, key.client_port))
                    .or_insert(port);
                let forwarded = |port| {
                    let is_meant = |forward: &Forward| {
                        forward.protocol as u8 == protocol && forward.wan_port == port
                    };
                    self.forwards.iter().any(is_meant)
                };
                assert!(
                    first == port || forwarded(first) || forwarded(port),
                    "one client port by two ports of ours"
                );
                *live.entry(key.client).or_default() += usize::from(!is_over);
            }
        }
        assert!(live.values().all(|&count| count <= FLOWS_PER_HOST_MAX));
        // Hairpinned flows are on their LAN host's account: they come on top here.
        assert!(outside <= FLOWS_OUTSIDE_MAX + 8 * FLOWS_PER_HOST_MAX);
        assert!(
            by_port
                .values()
                .all(|&count| count <= usize::from(INBOUND_PER_FORWARD_MAX))
        );
        for &id in &self.pinned {
            assert!(
                self.table.get(id).is_some(),
                "a flow in an exchange was ended"
            );
        }
    }

    /// Left alone, every flow ends in time.
    fn drain(mut self) {
        for &id in &self.pinned {
            self.table.get_mut(id).expect("it stays").tcp.stage = Stage::Plain;
            self.table.touch(self.now, id);
        }
        // A poll looks at a bounded number of flows; one that was pinned is looked at again after its timeout.
        let end = self.now + TCP_ESTABLISHED_TIMEOUT * 2;
        let mut turns = 0;
        while let Some(due) = self.table.poll_at() {
            turns += 1;
            assert!(turns < 100_000 && due <= end, "a flow that never ends");
            self.now = due.max(self.now);
            self.table.poll(self.now);
        }
        self.table.set_forwards(core::iter::empty());
        self.table.check();
        assert!(self.table.is_empty());
    }
}

/// The state after the first SYN, for TCP.
fn opening(protocol: Protocol, number: u8) -> Option<Tcp> {
    (protocol == Protocol::Tcp).then(|| {
        let syn = Segment {
            // Close to the end of the numbers, on both sides of it.
            seq: u32::from(number).wrapping_sub(64),
            ack: 0,
            len: 1,
            window: 60_000,
            flags: flags::SYN,
        };
        Tcp::opened(&syn, &Summary::default(), number.is_multiple_of(2))
    })
}
