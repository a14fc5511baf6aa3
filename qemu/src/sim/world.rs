//! The neighbourhood: routers, lines, clients and the internet on one virtual clock.
//!
//! Units: µs of virtual time from 0. An event is a frame's arrival, a deadline of a node or an action of the
//! script; nothing takes time but the lines. Everything is a function of the set-up, its seed included, so
//! the hash over all arrivals (U10) is too.
//!
//! ```text
//! client i ──lan──▶ router i ──wan──▶ internet (gateways, origins)
//!                      └──air──▶ every other router
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use firmware::budget::{Memory, STITCH_BLOCKS};
use firmware::port::Port;
use firmware::settings::{Path, Probe};
use firmware::wire::packet::{Packet, flags};
use firmware::wire::segment::{self, SegmentHeader};
use smoltcp::wire::{EthernetAddress, Ipv4Address, Ipv4Cidr};

use super::client::{Client, FetchPlan, Outcome};
use super::dhcp::{Asked, Provider};
use super::ether::seed_of_first_isn;
use super::guest::Guest;
use super::node::Node;
use super::oddity::Oddity;
use super::origin::{Internet, OriginLog, OriginSetup, earliest};
use super::tap::{Tap, TapReport};
use super::trace::{Capture, describe};
use crate::line::{LineCounts, Pipe, Rng, Shape};

/// One of the five directions around a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Client to router.
    LanUp,
    /// Router to client.
    LanDown,
    /// Router to internet.
    WanUp,
    /// Internet to router.
    WanDown,
    /// Router to the other routers.
    Air,
}

impl Wire {
    /// All, in index order.
    pub const ALL: [Wire; 5] = [
        Wire::LanUp,
        Wire::LanDown,
        Wire::WanUp,
        Wire::WanDown,
        Wire::Air,
    ];

    fn name(self) -> &'static str {
        match self {
            Wire::LanUp => "lan-up",
            Wire::LanDown => "lan-down",
            Wire::WanUp => "wan-up",
            Wire::WanDown => "wan-down",
            Wire::Air => "air",
        }
    }
}

/// The lines around one router.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    /// Client and router, either direction.
    pub lan: Shape,
    /// Internet line, router to internet.
    pub wan_up: Shape,
    /// Internet line, internet to router.
    pub wan_down: Shape,
    /// The router's transmissions to others.
    pub air: Shape,
}

impl Default for Lines {
    /// The lab's default: 8 Mbit/s with 25 ms, air 25 Mbit/s with 1 ms, LAN 100 Mbit/s.
    fn default() -> Self {
        Self {
            lan: Shape::new(100_000_000, 100),
            wan_up: Shape::new(8_000_000, 25_000),
            wan_down: Shape::new(8_000_000, 25_000),
            air: Shape::new(25_000_000, 1_000),
        }
    }
}

impl Lines {
    fn shape(&self, wire: Wire) -> Shape {
        match wire {
            Wire::LanUp | Wire::LanDown => self.lan,
            Wire::WanUp => self.wan_up,
            Wire::WanDown => self.wan_down,
            Wire::Air => self.air,
        }
    }
}

/// What the script does at a time.
#[derive(Clone, Debug)]
pub enum Act {
    /// Changes one direction of a line.
    Line(usize, Wire, Shape),
    /// Resets a router; its configuration is typed again at once.
    Reset(usize),
    /// Types a console line on a router.
    Console(usize, String),
    /// A router stands still for so many µs: what comes meanwhile is lost.
    Freeze(usize, u64),
}

/// Everything a run depends on.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Seeds lines, stacks and routers.
    pub seed: u64,
    /// One entry a router.
    pub lines: Vec<Lines>,
    /// Connections of the client behind each router.
    pub clients: Vec<Vec<FetchPlan>>,
    /// Initial sequence numbers of the first client's and the origins' first connection; drawn if absent.
    pub first_isns: (Option<u32>, Option<u32>),
    /// What the first client's TCP does besides.
    pub oddity: Option<Oddity>,
    /// MTU of the clients, bytes of IP packet.
    pub client_mtu: usize,
    /// The internet lines' addresses come by DHCP, for so many seconds; else they are typed.
    pub provider_lease_s: Option<u32>,
    /// The routers' time is made of a 32-bit counter of this rate, which starts shortly before its wrap.
    pub count_hertz: Option<u32>,
    /// How long the routers have been up when the run begins, µs.
    pub uptime_us: u64,
    /// Somebody on the internet sends segments with random numbers into every connection of the first line.
    pub blind: bool,
    /// Each LAN has a host that gets its address from the router and opens a flow a minute.
    pub guest: bool,
    /// The routers' transmit slots drain no faster than their lines; else lines take what comes into queues of their own.
    pub slots_wait: bool,
    /// Blocks of each router's stitch pool.
    pub stitch_blocks: usize,
    /// Splitting is on, on the first router.
    pub accel: bool,
    /// How the routers learn what an origin will answer.
    pub probe: Probe,
    /// How ranges come from the neighbours; each router lends by NAT if it is that.
    pub path: Path,
    /// More console lines for each router, typed at the start.
    pub console: Vec<String>,
    /// The origins.
    pub origin: OriginSetup,
    /// What happens when, in order of time.
    pub acts: Vec<(u64, Act)>,
    /// The run ends here at the latest.
    pub limit_us: u64,
    /// Goes on for this long after the last client is done, so that pools come to rest.
    pub rest_us: u64,
    /// The first client asks once more at the end, this on lines without fault and of an honest origin (U7).
    pub again: Option<FetchPlan>,
    /// The second router's clock gains so many µs each second.
    pub fast_ppm: u64,
    /// A run of more frames than this has no end.
    pub events_max: u64,
}

impl Setup {
    /// Two routers on the default lines, one honest origin, nothing asked yet.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            lines: vec![Lines::default(); 2],
            clients: vec![Vec::new(); 2],
            first_isns: (None, None),
            oddity: None,
            client_mtu: 1_500,
            provider_lease_s: None,
            count_hertz: None,
            uptime_us: 0,
            blind: false,
            guest: false,
            slots_wait: false,
            stitch_blocks: STITCH_BLOCKS,
            accel: true,
            probe: Probe::Reply,
            path: Path::Relay,
            console: Vec::new(),
            origin: OriginSetup::default(),
            acts: Vec::new(),
            limit_us: 600_000_000,
            rest_us: 10_000_000,
            again: None,
            fast_ppm: 0,
            events_max: u64::MAX,
        }
    }

    /// Memory blocks the run needs: one a router, one more for each reset.
    pub fn memories(&self) -> usize {
        let resets = self
            .acts
            .iter()
            .filter(|(_, act)| matches!(act, Act::Reset(_)))
            .count();
        self.lines.len() + resets
    }

    /// Some line is, now or later, so.
    pub(super) fn any_line(&self, is_so: impl Fn(&Shape) -> bool) -> bool {
        let acts = self.acts.iter().filter_map(|(_, act)| match act {
            Act::Line(_, _, shape) => Some(*shape),
            Act::Reset(_) | Act::Console(..) | Act::Freeze(..) => None,
        });
        self.lines
            .iter()
            .flat_map(|lines| Wire::ALL.map(|wire| lines.shape(wire)))
            .chain(acts)
            .any(|shape| is_so(&shape))
    }
}

/// Where the run is written down.
#[derive(Clone, Debug, Default)]
pub struct TraceTo {
    /// Prints each arrival.
    pub print: bool,
    /// Writes a capture for each line here.
    pub captures: Option<PathBuf>,
}

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// Exchanges by router, connection, number.
    pub outcomes: Vec<Vec<Vec<Outcome>>>,
    /// What the origins saw.
    pub origin: OriginLog,
    /// What a strict peer objects to, for each LAN.
    pub taps: Vec<TapReport>,
    /// Counters of each line direction.
    pub lines: Vec<[LineCounts; 5]>,
    /// What the consoles said, by router.
    pub consoles: Vec<String>,
    /// Counters of each router at the end, by `stage.name`.
    pub counters: Vec<BTreeMap<String, u64>>,
    /// What no run may show.
    pub violations: Vec<String>,
    /// Hash over all arrivals.
    pub hash: u64,
    /// What each router asked its provider's DHCP server.
    pub asked: Vec<Vec<Asked>>,
    /// How the hosts fared that get their address from a router.
    pub guests: Vec<GuestReport>,
    /// Arrivals.
    pub events: u64,
    /// Router polls.
    pub polls: u64,
    /// When the last client was done.
    pub end_us: u64,
    /// How the request after the fault ended.
    pub again: Option<Outcome>,
    /// What was not at rest before that request, also where clients still waited.
    pub unrest: Vec<String>,
}

/// How a host fared that gets its address from the router.
#[derive(Clone, Debug)]
pub struct GuestReport {
    /// Each address that it was given.
    pub leases: Vec<Ipv4Cidr>,
    /// Times that it lost one.
    pub losses: u32,
    /// Datagrams that it sent.
    pub sent: u32,
}

/// Address of router `index` on its LAN.
pub fn lan_address(index: usize) -> Ipv4Address {
    Ipv4Address::new(192, 168, 1 + index as u8, 1)
}

/// Address of router `index` on its line.
pub fn wan_address(index: usize) -> Ipv4Address {
    Ipv4Address::new(203, 0, 113, 2 + 64 * index as u8)
}

/// The gateway of line `index`.
pub fn gateway(index: usize) -> Ipv4Address {
    Ipv4Address::new(203, 0, 113, 1 + 64 * index as u8)
}

/// Address of router `index` on air.
pub fn air_address(index: usize) -> Ipv4Address {
    Ipv4Address::new(10, 77, 0, 1 + index as u8)
}

/// Hardware addresses of router `index`.
fn macs(index: usize) -> [EthernetAddress; 3] {
    [1, 2, 3].map(|port| EthernetAddress([0x52, 0x54, 0, 0x0a + index as u8, 0, port]))
}

struct World<'s> {
    setup: &'s Setup,
    now_us: u64,
    nodes: Vec<Node<'static>>,
    spare: Vec<&'static mut Memory>,
    pipes: Vec<[Pipe; 5]>,
    clients: Vec<Client>,
    internet: Internet,
    providers: Vec<Provider>,
    guests: Vec<Guest>,
    attacker: Rng,
    taps: Vec<Tap>,
    next_act: usize,
    boots: u64,
    consoles: Vec<String>,
    violations: Vec<String>,
    hash: u64,
    events: u64,
    /// Each router stands still until then.
    frozen_us: Vec<u64>,
    forging: bool,
    print: bool,
    captures: Vec<Option<Capture>>,
    /// Reused: frames on their way from a router's slots to its lines.
    leaving: Vec<(Port, Vec<u8>)>,
    leaving_isp: Vec<(usize, Vec<u8>)>,
    leaving_client: Vec<Vec<u8>>,
}

/// Runs a set-up. `memories` are fresh and as many as [`Setup::memories`] says.
pub fn run(setup: &Setup, memories: Vec<&'static mut Memory>, trace: &TraceTo) -> Report {
    let mut spare = memories;
    let mut seeds = Rng::new(setup.seed);
    let count = setup.lines.len();
    let pipes = setup
        .lines
        .iter()
        .map(|lines| Wire::ALL.map(|wire| Pipe::new(lines.shape(wire), seeds.next_u64())))
        .collect();
    let clients = (0..count)
        .map(|index| {
            let [a, b, c, _] = lan_address(index).octets();
            let address = Ipv4Cidr::new(Ipv4Address::new(a, b, c, 100), 24);
            let plans = setup.clients.get(index).cloned().unwrap_or_default();
            let isn = setup.first_isns.0.filter(|_| index == 0);
            let seed = seeds.next_u64();
            Client::new(
                index as u8,
                address,
                lan_address(index),
                setup.client_mtu,
                plans,
                isn.map_or(seed, seed_of_first_isn),
            )
            .with_oddity(setup.oddity.filter(|_| index == 0), seed)
        })
        .collect();
    let gateways: Vec<Ipv4Cidr> = (0..count)
        .map(|index| Ipv4Cidr::new(gateway(index), 26))
        .collect();
    let origin_seed = seeds.next_u64();
    let captures = (0..count * 5)
        .map(|number| {
            let name = format!("{}-{}.pcap", Wire::ALL[number % 5].name(), number / 5);
            let path = trace.captures.as_ref()?.join(name);
            Capture::create(&path).ok()
        })
        .collect();
    let corruption = setup.any_line(|shape| shape.corrupt_ppm > 0);
    let reordering = setup.any_line(|shape| shape.reorder_ppm > 0);
    let mut world = World {
        setup,
        now_us: 0,
        nodes: Vec::new(),
        pipes,
        clients,
        internet: Internet::new(
            &gateways,
            setup.origin.clone(),
            setup.first_isns.1.map_or(origin_seed, seed_of_first_isn),
        ),
        providers: (0..count)
            .filter_map(|index| {
                let lease_s = setup.provider_lease_s?;
                let address = Ipv4Cidr::new(wan_address(index), 26);
                Some(Provider::new(address, gateway(index), lease_s))
            })
            .collect(),
        guests: (0..count)
            .filter(|_| setup.guest)
            .map(|index| {
                let mac = EthernetAddress([2, 0, 0, 0, 3, index as u8]);
                let seed = setup.seed ^ 0x6775_6573_7400 ^ index as u64;
                Guest::new(mac, seed, GUEST_TARGET, GUEST_EVERY_US)
            })
            .collect(),
        attacker: Rng::new(setup.seed ^ 0x6261_6421),
        taps: (0..count)
            .map(|_| Tap::new(corruption, reordering))
            .collect(),
        next_act: 0,
        boots: 0,
        consoles: vec![String::new(); count],
        violations: Vec::new(),
        hash: setup.seed,
        events: 0,
        frozen_us: vec![0; count],
        forging: setup.blind,
        print: trace.print,
        captures,
        leaving: Vec::new(),
        leaving_isp: Vec::new(),
        leaving_client: Vec::new(),
        spare: Vec::new(),
    };
    for index in 0..count {
        let memory = spare.pop().expect("a memory for each router");
        let node = world.boot(index, memory);
        world.nodes.push(node);
        world.configure(index);
    }
    world.spare = spare;
    world.run_to_end()
}

impl World<'_> {
    fn boot(&mut self, index: usize, memory: &'static mut Memory) -> Node<'static> {
        self.boots += 1;
        let seed = Rng::new(self.setup.seed ^ (self.boots << 48)).next_u64();
        memory.blocks_spared = STITCH_BLOCKS.saturating_sub(self.setup.stitch_blocks);
        Node::new(memory, macs(index), seed)
            .with_count(self.setup.count_hertz)
            .up_for(self.setup.uptime_us)
            .gaining(if index == 1 { self.setup.fast_ppm } else { 0 })
    }

    fn configure(&mut self, index: usize) {
        let mut lines = vec![
            format!("set lan.address {}/24", lan_address(index)),
            format!("set air.address {}/24", air_address(index)),
        ];
        if self.setup.provider_lease_s.is_none() {
            lines.push(format!("set wan.address {}/26", wan_address(index)));
            lines.push(format!("set wan.gateway {}", gateway(index)));
        }
        for peer in (0..self.setup.lines.len()).filter(|peer| *peer != index) {
            lines.push(format!(
                "peer add {} {}",
                air_address(peer),
                self.setup.path.name()
            ));
        }
        if self.setup.path == Path::Nat {
            lines.push("set lend.nat on".to_string());
        }
        let accel = if self.setup.accel { "on" } else { "off" };
        lines.push(format!("set accel.enabled {accel}"));
        lines.push(format!("set accel.probe {}", self.setup.probe.name()));
        lines.extend(self.setup.console.iter().cloned());
        for line in lines {
            self.console(index, &line);
        }
    }

    fn console(&mut self, index: usize, line: &str) {
        let (answer, _reboot) = self.nodes[index].console(self.now_us, line);
        self.consoles[index].push_str(&answer);
    }

    /// The next time at which anything can happen.
    fn next_at(&self) -> Option<u64> {
        let mut at = self.internet.poll_at();
        for pipe in self.pipes.iter().flatten() {
            at = earliest(at, pipe.next_at());
        }
        for (node, frozen) in self.nodes.iter().zip(&self.frozen_us) {
            at = earliest(at, node.poll_at().map(|at| at.max(*frozen)));
        }
        for client in &self.clients {
            at = earliest(at, client.poll_at());
        }
        for guest in &self.guests {
            at = earliest(at, guest.poll_at());
        }
        let act = self.setup.acts.get(self.next_act).map(|(at, _)| *at);
        earliest(at, act)
    }

    fn run_to_end(mut self) -> Report {
        let mut done_us = None;
        let mut rounds_now = 0_u32;
        while let Some(at) = self.next_at() {
            let at = at.max(self.now_us);
            let limit = done_us.map_or(self.setup.limit_us, |done| done + self.setup.rest_us);
            if at > limit {
                break;
            }
            rounds_now = if at == self.now_us { rounds_now + 1 } else { 0 };
            if rounds_now > 100_000 {
                self.violations.push(format!("no progress at {at} µs"));
                break;
            }
            if self.events > self.setup.events_max {
                self.violations
                    .push(format!("{} frames and no end", self.events));
                break;
            }
            self.now_us = at;
            self.round();
            if done_us.is_none() && self.clients.iter().all(Client::is_done) {
                done_us = Some(self.now_us);
            }
        }
        let end_us = done_us.unwrap_or(self.setup.limit_us);
        let is_over = done_us.is_some();
        let mut unrest = self.unrest();
        // A liveness message may be under way just now: at rest is what is so some time within two seconds.
        for _ in 0..40 {
            if unrest.is_empty() {
                break;
            }
            let until = self.now_us + 50_000;
            while let Some(at) = self.next_at().filter(|at| *at <= until) {
                self.now_us = at.max(self.now_us);
                self.round();
            }
            self.now_us = until;
            unrest = self.unrest();
        }
        if is_over {
            self.violations.extend(unrest.iter().cloned());
        }
        let again = self.once_more();
        let mut report = self.report(end_us, again);
        report.unrest = unrest;
        report
    }

    /// U7: after the fault, the same download on lines that only have their drawn rates.
    fn once_more(&mut self) -> Option<Outcome> {
        let mut plan = self.setup.again.clone()?;
        self.internet.mend();
        self.forging = false;
        self.frozen_us.fill(0);
        for (index, lines) in self.setup.lines.iter().enumerate() {
            for wire in Wire::ALL {
                let drawn = lines.shape(wire);
                let mended = Shape {
                    queue_bytes: drawn.queue_bytes,
                    ..Shape::new(drawn.rate_bit_s, drawn.delay_us)
                };
                self.pipes[index][wire as usize].set(self.now_us, mended);
            }
        }
        plan.start_us = self.now_us + AGAIN_AFTER_US;
        self.clients[0].also(plan);
        let limit = self.now_us + AGAIN_LIMIT_US;
        let outcome = |client: &Client| {
            client
                .outcomes()
                .last()
                .and_then(|last| last.last().cloned())
        };
        let is_open = |client: &Client| {
            outcome(client).is_none_or(|outcome| outcome.end == super::client::End::Open)
        };
        let mut rounds_now = 0_u32;
        while is_open(&self.clients[0])
            && let Some(at) = self.next_at().filter(|at| *at <= limit)
        {
            rounds_now = if at <= self.now_us { rounds_now + 1 } else { 0 };
            if rounds_now > 100_000 {
                self.violations.push(format!("no progress at {at} µs"));
                break;
            }
            self.now_us = at.max(self.now_us);
            self.round();
        }
        outcome(&self.clients[0])
    }

    /// Everything that is due now, once.
    fn round(&mut self) {
        let setup = self.setup;
        while let Some((at, act)) = setup.acts.get(self.next_act)
            && *at <= self.now_us
        {
            self.next_act += 1;
            self.act(act);
        }
        for index in 0..self.pipes.len() {
            for wire in Wire::ALL {
                let due = self.pipes[index][wire as usize].next_at();
                if due.is_some_and(|at| at <= self.now_us) {
                    while let Some(frame) = self.pipes[index][wire as usize].pop(self.now_us) {
                        self.arrive(index, wire, frame);
                    }
                    self.poll_target(index, wire);
                }
            }
        }
        for index in 0..self.nodes.len() {
            if self.nodes[index]
                .poll_at()
                .is_some_and(|at| at.max(self.frozen_us[index]) <= self.now_us)
            {
                self.poll_node(index);
            }
            if self.clients[index]
                .poll_at()
                .is_some_and(|at| at <= self.now_us)
            {
                self.poll_client(index);
            }
            self.poll_guest(index);
        }
        if self.internet.poll_at().is_some_and(|at| at <= self.now_us) {
            self.poll_internet();
        }
    }

    fn arrive(&mut self, index: usize, wire: Wire, frame: Vec<u8>) {
        self.events += 1;
        self.hash_arrival(index, wire, &frame);
        if self.print {
            println!(
                "{:>12} {:>8}-{index} {}",
                self.now_us,
                wire.name(),
                describe(&frame)
            );
        }
        if let Some(capture) = &mut self.captures[index * 5 + wire as usize]
            && let Err(error) = capture.frame(self.now_us, &frame)
        {
            self.violations.push(format!("capture: {error}"));
        }
        match wire {
            Wire::LanUp => {
                self.taps[index].on_client_frame(self.now_us, &frame);
                self.deliver(index, Port::Lan, frame);
            }
            Wire::WanDown => self.deliver(index, Port::Wan, frame),
            Wire::LanDown => {
                self.clients[index].on_frame(&frame, &mut self.leaving_client);
                self.flush_client(index);
                if let Some(guest) = self.guests.get_mut(index) {
                    guest.on_frame(self.now_us, &frame);
                }
            }
            Wire::WanUp if self.provide(index, &frame) => {}
            Wire::WanUp => {
                if self.forging && index == 0 {
                    self.forge(&frame);
                }
                self.internet
                    .on_frame(self.now_us, index, &frame, &mut self.leaving_isp);
                self.flush_internet();
            }
            Wire::Air => {
                let to = EthernetAddress::from_bytes(&frame[..6]);
                let one = (0..self.nodes.len()).find(|other| macs(*other)[2] == to);
                for other in 0..self.nodes.len() {
                    if other != index && one.is_none_or(|one| one == other) {
                        self.deliver(other, Port::Air, frame.clone());
                    }
                }
            }
        }
    }

    fn deliver(&mut self, index: usize, port: Port, frame: Vec<u8>) {
        if self.now_us < self.frozen_us[index] {
            return;
        }
        self.tell_waiting(index);
        self.nodes[index].on_frame(self.now_us, port, frame, &mut self.leaving);
        self.flush_node(index);
    }

    fn poll_target(&mut self, index: usize, wire: Wire) {
        match wire {
            Wire::LanUp | Wire::WanDown => self.poll_node(index),
            Wire::LanDown => self.poll_client(index),
            Wire::WanUp => self.poll_internet(),
            Wire::Air => {
                for other in (0..self.nodes.len()).filter(|other| *other != index) {
                    self.poll_node(other);
                }
            }
        }
    }

    fn poll_node(&mut self, index: usize) {
        if self.now_us < self.frozen_us[index] {
            return;
        }
        self.tell_waiting(index);
        self.nodes[index].poll(self.now_us, &mut self.leaving);
        self.flush_node(index);
    }

    fn poll_client(&mut self, index: usize) {
        self.clients[index].poll(self.now_us, &mut self.leaving_client);
        self.flush_client(index);
    }

    /// Shows a frame to the line's DHCP server; true when it was for it.
    fn provide(&mut self, index: usize, frame: &[u8]) -> bool {
        let Some(provider) = self.providers.get_mut(index) else {
            return false;
        };
        let mut answers = Vec::new();
        let is_dhcp = provider.on_frame(self.now_us, frame, &mut answers);
        for frame in answers {
            self.pipes[index][Wire::WanDown as usize].push(self.now_us, frame);
        }
        is_dhcp
    }

    /// Answers a segment of the first line with forged ones: the connection is known, its numbers are not.
    fn forge(&mut self, frame: &[u8]) {
        let Ok(packet) = Packet::parse(frame) else {
            return;
        };
        // Who is blind does not see the handshake.
        let Some(tcp) = packet.tcp().filter(|tcp| !tcp.has(flags::SYN)) else {
            return;
        };
        for flags in FORGED {
            let payload: &[u8] = if flags == flags::PSH | flags::ACK {
                b"forged"
            } else {
                b""
            };
            let header = SegmentHeader {
                src_mac: EthernetAddress([2, 0, 0, 0, 0x0d, 2]),
                dst_mac: macs(0)[1],
                src: packet.dst,
                dst: packet.src,
                src_port: tcp.dst_port,
                dst_port: tcp.src_port,
                // Outside of any window: a reset inside of it is the client's to judge (RFC 5961 section 3.2), and
                // smoltcp, unlike others, takes any such one.
                seq: tcp
                    .ack
                    .wrapping_add(1 << 24)
                    .wrapping_add(self.attacker.below((1 << 32) - (1 << 25)) as u32),
                ack: self.attacker.next_u64() as u32,
                flags,
                window: self.attacker.next_u64() as u16,
                ident: 0,
                options: &[],
            };
            let mut forged = vec![0; segment::frame_len(0, payload.len())];
            segment::emit(&mut forged, &header, |room| room.copy_from_slice(payload));
            self.pipes[0][Wire::WanDown as usize].push(self.now_us, forged);
        }
    }

    fn poll_guest(&mut self, index: usize) {
        let Some(guest) = self.guests.get_mut(index) else {
            return;
        };
        if guest.poll_at().is_none_or(|at| at > self.now_us) {
            return;
        }
        let mut frames = Vec::new();
        guest.poll(self.now_us, &mut frames);
        for frame in frames {
            self.pipes[index][Wire::LanUp as usize].push(self.now_us, frame);
        }
    }

    fn poll_internet(&mut self) {
        self.internet.poll(self.now_us, &mut self.leaving_isp);
        self.flush_internet();
    }

    fn tell_waiting(&mut self, index: usize) {
        if self.setup.slots_wait {
            let wires = [Wire::LanDown, Wire::WanUp, Wire::Air];
            let pipes = &mut self.pipes[index];
            let waiting = wires.map(|wire| pipes[wire as usize].queued_frames(self.now_us));
            self.nodes[index].set_waiting(waiting);
        }
    }

    fn flush_node(&mut self, index: usize) {
        for (port, frame) in self.leaving.drain(..) {
            let wire = match port {
                Port::Lan => {
                    self.taps[index].on_router_frame(self.now_us, &frame);
                    Wire::LanDown
                }
                Port::Wan => Wire::WanUp,
                Port::Air => Wire::Air,
            };
            if !(ETHERNET_MIN..=ETHERNET_MAX).contains(&frame.len()) {
                let text = format!("router {index} sent a frame of {} bytes", frame.len());
                self.violations.push(text);
                continue;
            }
            self.pipes[index][wire as usize].push(self.now_us, frame);
        }
    }

    fn flush_client(&mut self, index: usize) {
        for frame in self.leaving_client.drain(..) {
            self.pipes[index][Wire::LanUp as usize].push(self.now_us, frame);
        }
    }

    fn flush_internet(&mut self) {
        for (line, frame) in self.leaving_isp.drain(..) {
            self.pipes[line][Wire::WanDown as usize].push(self.now_us, frame);
        }
    }

    fn act(&mut self, act: &Act) {
        if self.print {
            println!("{:>12} {act:?}", self.now_us);
        }
        match act {
            Act::Line(index, wire, shape) => {
                self.pipes[*index][*wire as usize].set(self.now_us, *shape);
            }
            Act::Reset(index) => {
                let memory = self.spare.pop().expect("a memory for each reset");
                let node = self.boot(*index, memory);
                self.nodes[*index] = node;
                self.configure(*index);
            }
            Act::Console(index, line) => self.console(*index, line),
            Act::Freeze(index, us) => self.frozen_us[*index] = self.now_us + us,
        }
    }

    /// Mixes an arrival into the hash (FNV-1a over 8-byte words: speed, not strength).
    fn hash_arrival(&mut self, index: usize, wire: Wire, frame: &[u8]) {
        let mut hash = self.hash;
        let mut mix = |word: u64| {
            hash = (hash ^ word)
                .wrapping_mul(0x0000_0100_0000_01B3)
                .rotate_left(29)
        };
        mix(self.now_us);
        mix((index * 5 + wire as usize) as u64);
        for chunk in frame.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(u64::from_le_bytes(word));
        }
        self.hash = hash;
    }

    /// All counters of a router, as its console tells them.
    fn counters(&mut self, index: usize) -> BTreeMap<String, u64> {
        let (answer, _reboot) = self.nodes[index].console(self.now_us, "counters");
        answer
            .lines()
            .filter_map(|line| {
                let (name, value) = line.trim().rsplit_once([' ', '='])?;
                Some((name.trim().to_string(), value.parse().ok()?))
            })
            .collect()
    }

    /// U5: what is not at rest.
    fn unrest(&mut self) -> Vec<String> {
        let mut unrest = Vec::new();
        for index in 0..self.nodes.len() {
            if self.now_us < self.frozen_us[index] {
                continue;
            }
            let counters = self.counters(index);
            let value = |name: &str| counters.get(name).copied();
            let (free, total) = (value("pool.blocks-free"), value("pool.blocks-total"));
            if free != total {
                unrest.push(format!(
                    "router {index}: {free:?} of {total:?} blocks free at rest"
                ));
            }
            for name in ["pool.exchanges", "pool.lendings"] {
                if let Some(left) = value(name).filter(|left| *left > 0) {
                    unrest.push(format!("router {index}: {name} = {left} at rest"));
                }
            }
        }
        unrest
    }

    fn report(mut self, end_us: u64, again: Option<Outcome>) -> Report {
        let counters: Vec<BTreeMap<String, u64>> = (0..self.nodes.len())
            .map(|index| self.counters(index))
            .collect();
        for (index, counters) in counters.iter().enumerate() {
            let wrong = verdicts(counters);
            let wrong = wrong.map(|text| format!("router {index}: {text}"));
            self.violations.extend(wrong);
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if node.idle_spins() > 1_000 {
                let text = format!(
                    "router {index} asked {} times to be polled at once for nothing",
                    node.idle_spins()
                );
                self.violations.push(text);
            }
        }
        for (index, tap) in self.taps.iter().enumerate() {
            for violation in &tap.report().violations {
                self.violations.push(format!("LAN {index}: {violation}"));
            }
        }
        if self.internet.log().leaks > 0 {
            let leaks = self.internet.log().leaks;
            // A flipped bit in an address is caught by the IP checksum, so even then this is the router's.
            self.violations
                .push(format!("{leaks} private addresses on the internet"));
        }
        Report {
            outcomes: self
                .clients
                .iter()
                .enumerate()
                .map(|(index, client)| {
                    let mut outcomes = client.outcomes();
                    // The last request, after the fault, is told apart.
                    outcomes.truncate(self.setup.clients.get(index).map_or(0, Vec::len));
                    outcomes
                })
                .collect(),
            origin: self.internet.log().clone(),
            taps: self.taps.iter().map(|tap| tap.report().clone()).collect(),
            lines: self
                .pipes
                .iter()
                .map(|pipes| std::array::from_fn(|wire| pipes[wire].counts()))
                .collect(),
            consoles: self.consoles,
            counters,
            asked: self
                .providers
                .into_iter()
                .map(|provider| provider.asked)
                .collect(),
            guests: self
                .guests
                .into_iter()
                .map(|guest| GuestReport {
                    leases: guest.leases,
                    losses: guest.losses,
                    sent: guest.sent,
                })
                .collect(),
            violations: self.violations,
            hash: self.hash,
            events: self.events,
            polls: self.nodes.iter().map(Node::polls).sum(),
            end_us,
            again,
            unrest: Vec::new(),
        }
    }
}

/// Each request that was looked at has exactly one verdict, or is under way, and each verdict one reason.
fn verdicts(counters: &BTreeMap<String, u64>) -> Option<String> {
    let value = |name: &str| counters.get(name).copied().unwrap_or(0);
    let begins = |prefix: &str| -> u64 {
        let named = counters.iter().filter(|(name, _)| name.starts_with(prefix));
        named.map(|(_, value)| value).sum()
    };
    let (accelerated, declined) = (value("verdict.accelerated"), value("verdict.declined"));
    let (seen, said) = (value("exchange.seen"), accelerated + declined);
    if !(said..=said + value("pool.exchanges")).contains(&seen) {
        return Some(format!("{seen} requests seen, {said} verdicts"));
    }
    let flows = begins("verdict.flow-");
    let reasons = begins("declined.") + begins("verdict.") - said - flows;
    (reasons != declined).then(|| format!("{declined} requests declined for {reasons} reasons"))
}

/// Between the end of a run's rest and its last request.
const AGAIN_AFTER_US: u64 = 100_000;
/// That request has ended after this; a line that has just been mended is found again by then.
const AGAIN_LIMIT_US: u64 = 200_000_000;

/// Control bits of forged segments.
const FORGED: [u8; 4] = [
    flags::RST,
    flags::RST | flags::ACK,
    flags::SYN,
    flags::PSH | flags::ACK,
];

/// Where the hosts with addresses from the router send a datagram, and how often: discard (RFC 863) of the origin.
const GUEST_TARGET: (Ipv4Address, u16) = (Ipv4Address::new(198, 51, 100, 10), 9);
const GUEST_EVERY_US: u64 = 60_000_000;

/// The shortest frame a router may give to a NIC: an Ethernet header and something.
const ETHERNET_MIN: usize = 15;
/// The longest.
const ETHERNET_MAX: usize = firmware::budget::FRAME_BYTES_MAX;
