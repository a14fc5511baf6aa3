//! What a forwarded packet costs: one router, and a harness that is its client, its provider and its origin.
//!
//! Units: bytes; instructions of the guest.

use crate::bench::figure::{Bound, Figures};
use crate::bench::profile::Functions;
use crate::image;
use crate::lab::plan;
use crate::lab::state::StateDirectory;
use crate::machine::{Count, Machine, Sockets};
use anyhow::{Context, Result, bail, ensure};
use firmware::settings::Settings;
use firmware::store::provision;
use firmware::wire::options::OptionsBuf;
use firmware::wire::packet::{Packet, flags};
use firmware::wire::segment::{self, SegmentHeader};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Ipv4Address,
};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is sent, and how.
struct Case {
    name: &'static str,
    /// Towards the client; else towards the origin.
    down: bool,
    payload: usize,
    burst: usize,
    /// Instructions a packet, at most.
    bound: Bound,
}

/// Bounds: a fifth of lean Linux with its flow table on the same board.
const CASES: [Case; 4] = [
    Case {
        name: "nat-data-batched",
        down: true,
        payload: PAYLOAD,
        burst: BATCH,
        bound: Bound::Most(890.0),
    },
    Case {
        name: "nat-ack-batched",
        down: false,
        payload: 0,
        burst: BATCH,
        bound: Bound::Most(850.0),
    },
    Case {
        name: "nat-data-isolated",
        down: true,
        payload: PAYLOAD,
        burst: 1,
        bound: Bound::Most(1_470.0),
    },
    Case {
        name: "nat-ack-isolated",
        down: false,
        payload: 0,
        burst: 1,
        bound: Bound::Most(1_400.0),
    },
];

/// A full segment of an Ethernet line, without options.
const PAYLOAD: usize = 1_460;
/// Frames of a batched burst.
const BATCH: usize = 16;
/// Packets of a run, and runs of a case.
const PACKETS: usize = 2_000;
const RUNS: usize = 5;

const LAN: usize = 0;
const WAN: usize = 1;
/// Every host of the harness has this Ethernet address.
const OURS: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0x0b, 1]);
const CLIENT: Ipv4Address = Ipv4Address::new(192, 168, 1, 10);
const ORIGIN: Ipv4Address = Ipv4Address::new(198, 51, 100, 10);
const WAN_ADDRESS: Ipv4Address = Ipv4Address::new(203, 0, 113, 2);
const CLIENT_PORT: u16 = 40_000;
const ORIGIN_PORT: u16 = 5_001;
/// Initial sequence numbers.
const CLIENT_ISN: u32 = 1_000;
const ORIGIN_ISN: u32 = 5_000_000;

/// How long the router may take to boot and forward its first segment.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// How long a burst may take to come out.
const BURST_LIMIT: Duration = Duration::from_secs(10);
/// How long the processor must have slept to count as idle.
const QUIET: Duration = Duration::from_micros(150);
/// How long the idle router is looked at.
const IDLE: Duration = Duration::from_secs(2);

/// Names of the figures.
pub fn names() -> Vec<String> {
    let cases = CASES.iter().map(|case| case.name);
    cases
        .chain(["idle", "boot-to-first-packet"])
        .map(str::to_owned)
        .collect()
}

/// Measures them.
///
/// # Errors
/// QEMU does not start, or a frame is lost or wrong.
pub fn measure(elf: &Path, plugin: &Path, profile: bool, figures: &mut Figures) -> Result<()> {
    let functions = match profile {
        true => Some(Functions::of(elf)?),
        false => None,
    };
    let state = StateDirectory::of("bench-lockstep")?;
    std::fs::create_dir_all(state.path())?;
    let result = Bench::start(&state, elf, plugin)
        .and_then(|mut bench| bench.run(figures, functions.as_ref()));
    state.remove()?;
    result
}

struct Bench {
    _machine: Machine,
    count: Count,
    lines: [Line; 3],
    _serial: [UnixStream; 2],
    router: [EthernetAddress; 3],
    /// The client's port as the origin sees it.
    wan_port: u16,
    /// How far client and origin have sent.
    sent: [u32; 2],
    /// How far the client has acknowledged.
    acked: u32,
}

impl Bench {
    fn start(state: &StateDirectory, elf: &Path, plugin: &Path) -> Result<Self> {
        let bytes = std::fs::read(elf).with_context(|| elf.display().to_string())?;
        let mut flash = image::flash_image(&image::pack(&bytes)?)?;
        let mut settings = Settings::new();
        for (key, value) in [
            ("wan.address", "203.0.113.2/26"),
            ("wan.gateway", "203.0.113.1"),
        ] {
            if let Err(error) = settings.set(key, value) {
                bail!("{key} {value}: {error}");
            }
        }
        if let Err(error) = provision(&mut flash, &settings) {
            bail!("settings cannot be stored: {error:?}");
        }
        let file = state.file("router.flash");
        std::fs::write(&file, flash).with_context(|| file.display().to_string())?;
        let count = Count {
            plugin: plugin.to_owned(),
            file: state.file("router.count"),
        };
        let macs = plan::router_macs(0);
        let mut router = [OURS; 3];
        for (address, text) in router.iter_mut().zip(&macs) {
            let Ok(parsed) = text.parse() else {
                bail!("no Ethernet address: {text}");
            };
            *address = parsed;
        }
        let messages = File::create(state.file("router.log"))?;
        let loader = image::loader_of(elf);
        let (machine, sockets) =
            Machine::start_with("bench", &macs, &loader, &file, messages, Some(&count))?;
        let Sockets { nics, console, log } = sockets;
        for serial in [&console, &log] {
            drain(serial)?;
        }
        let [lan, wan, air] = nics.map(Line::new);
        Ok(Self {
            _machine: machine,
            count,
            lines: [lan?, wan?, air?],
            _serial: [console, log],
            router,
            wan_port: 0,
            sent: [CLIENT_ISN + 1, ORIGIN_ISN + 1],
            acked: ORIGIN_ISN + 1,
        })
    }

    fn run(&mut self, figures: &mut Figures, functions: Option<&Functions>) -> Result<()> {
        self.connect()?;
        let boot = self.count.read()?.instructions as f64 / 1e6;
        figures.add("boot-to-first-packet", "M insn", Bound::None, &[boot]);
        let idle = self.idle_rate()?;
        figures.add("idle", "insn/s", Bound::None, &[idle]);
        for case in &CASES {
            if !figures.wants(case.name) {
                continue;
            }
            let mut values = Vec::new();
            let before = self.count.blocks()?;
            for _ in 0..RUNS {
                values.push(self.run_case(case, idle)?);
            }
            figures.add(case.name, "insn/packet", case.bound, &values);
            if let Some(functions) = functions {
                functions.print(&before, &self.count.blocks()?, RUNS * PACKETS);
            }
        }
        Ok(())
    }

    /// Instructions of a router that has nothing to do, a second.
    fn idle_rate(&mut self) -> Result<f64> {
        self.settle()?;
        let (start, before) = (Instant::now(), self.count.read()?.instructions);
        while start.elapsed() < IDLE {
            self.serve()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        let instructions = self.count.read()?.instructions - before;
        Ok(instructions as f64 / start.elapsed().as_secs_f64())
    }

    /// Instructions a packet, without those of an idle router.
    fn run_case(&mut self, case: &Case, idle: f64) -> Result<f64> {
        // The first burst finds ARP entries and translated code.
        self.burst(case)?;
        self.settle()?;
        let (start, before) = (Instant::now(), self.count.read()?.instructions);
        let mut packets = 0;
        while packets < PACKETS {
            self.burst(case)?;
            packets += case.burst;
            if case.burst == 1 {
                self.settle()?;
            }
        }
        self.settle()?;
        let instructions = (self.count.read()?.instructions - before) as f64;
        let idle = idle * start.elapsed().as_secs_f64();
        Ok((instructions - idle) / packets as f64)
    }

    /// Sends a burst; returns when all of it has come out, as it must.
    fn burst(&mut self, case: &Case) -> Result<()> {
        let (from, to) = match case.down {
            true => (WAN, LAN),
            false => (LAN, WAN),
        };
        let mut frames = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..case.burst {
            let header = match case.down {
                true => self.origin_header(flags::ACK, &[]),
                false => self.client_header(flags::ACK, &[]),
            };
            expected.push((header.seq, header.ack));
            let frame = frame_of(&header, case.payload);
            frames.extend_from_slice(&u32::try_from(frame.len())?.to_be_bytes());
            frames.extend_from_slice(&frame);
            match case.down {
                true => self.sent[1] = self.sent[1].wrapping_add(case.payload as u32),
                // As far as the origin has sent, each ACK says something new.
                false if self.acked != self.sent[1] => self.acked = self.acked.wrapping_add(1),
                false => {}
            }
        }
        self.lines[from].write(&frames)?;
        let deadline = Instant::now() + BURST_LIMIT;
        for (seq, ack) in expected {
            let frame = self.expect(to, deadline)?;
            let packet = Packet::parse(&frame).ok().context("a malformed frame")?;
            let tcp = packet.tcp().context("another packet came out")?;
            let is_translated = match case.down {
                true => (packet.dst, tcp.dst_port) == (CLIENT, CLIENT_PORT),
                false => (packet.src, tcp.src_port) == (WAN_ADDRESS, self.wan_port),
            };
            ensure!(
                is_translated && (tcp.seq, tcp.ack) == (seq, ack),
                "another segment came out than went in"
            );
            ensure!(
                packet.payload_len() == case.payload && packet.transport_checksum_ok(&frame),
                "a damaged segment came out"
            );
        }
        Ok(())
    }

    fn client_header<'o>(&self, bits: u8, options: &'o [u8]) -> SegmentHeader<'o> {
        SegmentHeader {
            src_mac: OURS,
            dst_mac: self.router[LAN],
            src: CLIENT,
            dst: ORIGIN,
            src_port: CLIENT_PORT,
            dst_port: ORIGIN_PORT,
            seq: self.sent[0],
            ack: self.acked,
            flags: bits,
            window: u16::MAX,
            ident: 0,
            options,
        }
    }

    fn origin_header<'o>(&self, bits: u8, options: &'o [u8]) -> SegmentHeader<'o> {
        SegmentHeader {
            src_mac: OURS,
            dst_mac: self.router[WAN],
            src: ORIGIN,
            dst: WAN_ADDRESS,
            src_port: ORIGIN_PORT,
            dst_port: self.wan_port,
            seq: self.sent[1],
            ack: self.sent[0],
            flags: bits,
            window: u16::MAX,
            ident: 0,
            options,
        }
    }

    /// The handshake through the router; the largest windows, so that data needs no ACKs.
    fn connect(&mut self) -> Result<()> {
        let options = OptionsBuf::new().mss(1_460).window_scale(14);
        let mut syn = self.client_header(flags::SYN, options.as_bytes());
        (syn.seq, syn.ack) = (CLIENT_ISN, 0);
        let syn = frame_of(&syn, 0);
        let start = Instant::now();
        let mut next = start;
        while self.wan_port == 0 {
            let now = Instant::now();
            ensure!(now < start + BOOT_LIMIT, "the router does not forward");
            if now >= next {
                next = now + Duration::from_millis(200);
                self.lines[LAN].send(&syn)?;
            }
            for (line, frame) in self.serve()? {
                if let (WAN, Ok(packet)) = (line, Packet::parse(&frame))
                    && let Some(tcp) = packet.tcp().filter(|tcp| tcp.has(flags::SYN))
                {
                    ensure!(packet.src == WAN_ADDRESS, "sent from {}", packet.src);
                    self.wan_port = tcp.src_port;
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut reply = self.origin_header(flags::SYN | flags::ACK, options.as_bytes());
        reply.seq = ORIGIN_ISN;
        let reply = frame_of(&reply, 0);
        self.lines[WAN].send(&reply)?;
        self.expect(LAN, Instant::now() + BURST_LIMIT)?;
        let ack = frame_of(&self.client_header(flags::ACK, &[]), 0);
        self.lines[LAN].send(&ack)?;
        self.expect(WAN, Instant::now() + BURST_LIMIT).map(drop)
    }

    /// Waits until the processor sleeps and goes on sleeping.
    fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + BURST_LIMIT;
        loop {
            let before = self.count.read()?;
            std::thread::sleep(QUIET);
            let after = self.count.read()?;
            if after.is_asleep && before == after {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the processor never sleeps");
        }
    }

    /// The next frame of `line` that is for a host behind it.
    fn expect(&mut self, line: usize, deadline: Instant) -> Result<Vec<u8>> {
        loop {
            if let Some(frame) = self.receive(line)? {
                return Ok(frame);
            }
            ensure!(Instant::now() < deadline, "a frame was lost");
            std::thread::yield_now();
        }
    }

    /// What came out on each line, but for what the harness answers itself.
    fn serve(&mut self) -> Result<Vec<(usize, Vec<u8>)>> {
        let mut came = Vec::new();
        for line in 0..self.lines.len() {
            while let Some(frame) = self.receive(line)? {
                came.push((line, frame));
            }
        }
        Ok(came)
    }

    /// The next TCP frame of a line; ARP is answered, all else ignored.
    fn receive(&mut self, line: usize) -> Result<Option<Vec<u8>>> {
        while let Some(frame) = self.lines[line].receive()? {
            if let Some(answer) = arp_answer(&frame) {
                self.lines[line].send(&answer)?;
                continue;
            }
            let is_tcp = Packet::parse(&frame).is_ok_and(|packet| packet.tcp().is_some());
            if is_tcp {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }
}

fn frame_of(header: &SegmentHeader<'_>, payload: usize) -> Vec<u8> {
    let mut frame = vec![0; segment::frame_len(header.options.len(), payload)];
    segment::emit(&mut frame, header, |bytes| bytes.fill(b'x'));
    frame
}

/// We have every address.
fn arp_answer(frame: &[u8]) -> Option<Vec<u8>> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Arp {
        return None;
    }
    let asked = ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).ok()?).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = asked
    else {
        return None;
    };
    // Of its own address it asks whether another has it.
    if source_protocol_addr == target_protocol_addr || source_protocol_addr.is_unspecified() {
        return None;
    }
    let answer = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: OURS,
        source_protocol_addr: target_protocol_addr,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    let header = EthernetRepr {
        src_addr: OURS,
        dst_addr: source_hardware_addr,
        ethertype: EthernetProtocol::Arp,
    };
    let mut bytes = vec![0; header.buffer_len() + answer.buffer_len()];
    let mut ethernet = EthernetFrame::new_unchecked(&mut bytes);
    header.emit(&mut ethernet);
    answer.emit(&mut ArpPacket::new_unchecked(ethernet.payload_mut()));
    Some(bytes)
}

/// Reads a serial line away, or the router would wait.
fn drain(serial: &UnixStream) -> Result<()> {
    let mut serial = serial.try_clone().context("a serial line")?;
    std::thread::Builder::new()
        .name("drain".to_owned())
        .spawn(move || {
            let mut buffer = [0; 4096];
            while serial.read(&mut buffer).is_ok_and(|count| count > 0) {}
        })
        .context("no thread for a serial line")
        .map(drop)
}

/// An end of a line: each frame behind its length in four bytes, big endian.
struct Line {
    stream: UnixStream,
    heard: Vec<u8>,
    /// Bytes of `heard` that have been given out.
    taken: usize,
}

impl Line {
    fn new(stream: UnixStream) -> Result<Self> {
        stream.set_nonblocking(true).context("a line")?;
        Ok(Self {
            stream,
            heard: Vec::new(),
            taken: 0,
        })
    }

    fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        if let Some(frame) = self.take()? {
            return Ok(Some(frame));
        }
        let mut buffer = [0; 65_536];
        match self.stream.read(&mut buffer) {
            Ok(0) => bail!("the machine has ended"),
            Ok(count) => {
                self.heard.drain(..self.taken);
                self.taken = 0;
                self.heard.extend_from_slice(&buffer[..count]);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("a line"),
        }
        self.take()
    }

    fn take(&mut self) -> Result<Option<Vec<u8>>> {
        let Some((length, rest)) = self.heard[self.taken..].split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        let Some(frame) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = frame.to_vec();
        self.taken += 4 + length;
        Ok(Some(frame))
    }

    fn send(&mut self, frame: &[u8]) -> Result<()> {
        let length = u32::try_from(frame.len())?.to_be_bytes();
        self.write(&[&length, frame].concat())
    }

    /// A burst fits the socket, or the machine hangs.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("a line")
    }
}
