//! Random lives of clients against a plain list of what each believes to have.
//!
//! The invariant that matters: no address is believed by two clients at once. A client believes
//! what it read in an ACK until the time stated there is over, or it gave the address up.

use proptest::prelude::*;

use super::*;

const CLIENTS: u16 = 24;

#[derive(Clone, Debug)]
enum Op {
    /// DISCOVER, and the REQUEST of what was offered, if it comes at all.
    Discover(u16, bool, Option<u8>),
    /// REQUEST of the last offer, however old.
    Select(u16),
    /// INIT-REBOOT with what the client has or had, or with anything.
    Reboot(u16, Option<u8>),
    Renew(u16),
    Release(u16),
    Decline(u16),
    /// The client took another server's offer.
    Elsewhere(u16),
    /// A message under a false name.
    Forge(u16, u16),
    Pass(u32),
    /// The router starts again with what was stored.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let client = || 0..CLIENTS;
    let last = || prop::option::of(95u8..115);
    prop_oneof![
        8 => (client(), any::<bool>(), last()).prop_map(|(a, b, c)| Op::Discover(a, b, c)),
        2 => client().prop_map(Op::Select),
        3 => (client(), last()).prop_map(|(a, b)| Op::Reboot(a, b)),
        6 => client().prop_map(Op::Renew),
        2 => client().prop_map(Op::Release),
        1 => client().prop_map(Op::Decline),
        1 => client().prop_map(Op::Elsewhere),
        2 => (client(), client()).prop_map(|(a, b)| Op::Forge(a, b)),
        4 => prop_oneof![0u32..90, 0u32..2_000, 0u32..100_000].prop_map(Op::Pass),
        1 => Just(Op::Restart),
    ]
}

#[derive(Clone, Copy, Default)]
struct Believes {
    offered: Option<Ipv4Address>,
    /// And until when.
    has: Option<(Ipv4Address, Instant)>,
    had: Option<Ipv4Address>,
}

struct World {
    net: Net,
    clients: [Believes; CLIENTS as usize],
}

impl World {
    fn new() -> Self {
        let mut net = Net::with_pool(100, 109);
        net.reserve(0, host(100));
        net.reserve(1, host(20));
        Self {
            net,
            clients: [Believes::default(); CLIENTS as usize],
        }
    }

    /// Two of each three clients send an identifier; neighbours in number share a MAC address.
    fn ask(kind: u8, client: u16) -> Ask {
        if client < 6 {
            return Ask::new(kind, client);
        }
        Ask::new(kind, client / 2 + 50).id(&[0, client as u8, 1])
    }

    fn has(&self, client: u16) -> Option<Ipv4Address> {
        let (address, until) = self.clients[usize::from(client)].has?;
        (until > self.net.now).then_some(address)
    }

    fn take(&mut self, client: u16, got: Option<Got>) {
        let Some(got) = got else { return };
        let believes = &mut self.clients[usize::from(client)];
        match got.kind() {
            OFFER => believes.offered = Some(got.address()),
            ACK => {
                let until = self.net.now + Duration::from_secs(u64::from(got.number(51)));
                believes.has = Some((got.address(), until));
                believes.had = Some(got.address());
            }
            NAK => believes.has = None,
            kind => panic!("reply of type {kind}"),
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Discover(client, takes, wished) => {
                // A client in INIT has given up what it had.
                self.clients[usize::from(client)].has = None;
                let mut ask = Self::ask(DISCOVER, client);
                if let Some(last) = wished {
                    ask = ask.wish(host(last));
                }
                let got = self.net.ask(&ask);
                self.take(client, got);
                if takes {
                    self.run(&Op::Select(client));
                }
            }
            Op::Select(client) => {
                if let Some(address) = self.clients[usize::from(client)].offered.take() {
                    let ask = Self::ask(REQUEST, client).server(SERVER).wish(address);
                    let got = self.net.ask(&ask);
                    self.take(client, got);
                }
            }
            Op::Reboot(client, last) => {
                let address = last.map(host).or(self.clients[usize::from(client)].had);
                if let Some(address) = address {
                    let got = self.net.ask(&Self::ask(REQUEST, client).wish(address));
                    self.take(client, got);
                }
            }
            Op::Renew(client) => {
                if let Some(address) = self.has(client) {
                    let got = self.net.ask(&Self::ask(REQUEST, client).at(address));
                    self.take(client, got);
                }
            }
            Op::Release(client) => {
                if let Some(address) = self.has(client) {
                    self.clients[usize::from(client)].has = None;
                    self.net.ask(&Self::ask(RELEASE, client).at(address));
                }
            }
            Op::Decline(client) => {
                if let Some(address) = self.has(client) {
                    self.clients[usize::from(client)].has = None;
                    self.net.ask(&Self::ask(DECLINE, client).wish(address));
                }
            }
            Op::Elsewhere(client) => {
                self.clients[usize::from(client)].offered = None;
                let ask = Self::ask(REQUEST, client).server(host(77)).wish(host(78));
                assert!(self.net.ask(&ask).is_none());
            }
            Op::Forge(client, victim) => {
                if let (Some(address), true) = (self.has(victim), client != victim) {
                    let release = Self::ask(RELEASE, client).at(address);
                    let decline = Self::ask(DECLINE, client).wish(address);
                    assert!(self.net.ask(&release).is_none());
                    assert!(self.net.ask(&decline).is_none());
                }
            }
            Op::Pass(seconds) => self.net.pass(Duration::from_secs(u64::from(seconds))),
            Op::Restart => {
                let mut bytes = [0; crate::budget::LEASES_BYTES_MAX];
                let len = self.net.server.encode(self.net.now, &mut bytes);
                let lan = self.net.lan;
                let context = Context::new(&lan).unwrap();
                self.net.server = Server::new();
                let restored =
                    self.net
                        .server
                        .restore(self.net.now, &context, STORED_VERSION, &bytes[..len]);
                restored.unwrap();
            }
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        self.net.server.check();
        let mut owners = BTreeMap::new();
        for client in 0..CLIENTS {
            if let Some(address) = self.has(client) {
                let other = owners.insert(address, client);
                prop_assert_eq!(other, None, "{} is believed by {} too", address, client);
                let reserved = match address.octets()[3] {
                    100 => Some(0),
                    20 => Some(1),
                    _ => None,
                };
                prop_assert!(reserved.is_none_or(|owner| owner == client));
                prop_assert_eq!(self.net.state(address), Some(LeaseState::Bound));
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn s13_no_address_is_believed_by_two_clients(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
            world.check()?;
        }
    }

    #[test]
    fn s13_after_any_life_everybody_finds_room_when_all_have_left(
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        world.net.pass(Duration::from_secs(200_000));
        // Nine of the pool are for anybody.
        for client in 6..15 {
            world.run(&Op::Discover(client, true, None));
            prop_assert!(world.has(client).is_some());
        }
        world.check()?;
    }
}
