//! The host on a LAN: asks by a script, checks every byte it receives, and tells how it went.
//!
//! Units: µs, bytes. What a reply should contain follows from its target (`/o/SEED/SIZE/NAME`), its status, its
//! ETag and its Content-Range, so any mixture of versions or offsets shows as a wrong byte.

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, IpAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv4Packet,
    TcpOption, TcpPacket,
};

use super::behaviour::{Object, Request, asked_range};
use super::content;
use super::ether::{Ether, IpQueues};
use super::oddity::{Odd, Oddity};
use super::origin::earliest;
use super::syn::{self, Scales, SynOdd};

/// One request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The bytes sent.
    pub raw: Vec<u8>,
    /// The reply has no body (HEAD).
    pub head_only: bool,
    /// The object named.
    pub object: Object,
}

impl Ask {
    /// A GET of `/o/seed/size/name`; `fields` are whole lines with CRLF.
    pub fn get(seed: u64, size: u64, name: &str, fields: &str) -> Self {
        Self::with_method("GET", seed, size, name, fields)
    }

    /// Any method.
    pub fn with_method(method: &str, seed: u64, size: u64, name: &str, fields: &str) -> Self {
        let target = format!("/o/{seed}/{size}/{name}");
        let raw = format!(
            "{method} {target} HTTP/1.1\r\nHost: origin.example\r\nUser-Agent: sim\r\nAccept: */*\r\n{fields}\r\n"
        );
        Self {
            raw: raw.into_bytes(),
            head_only: method == "HEAD",
            object: Object::parse(&target).expect("a target made here is well-formed"),
        }
    }

    /// The interval of the object that it asks for, end exclusive; `None` when it asks for the whole or for nothing
    /// that the object has.
    pub fn interval(&self) -> Option<(u64, u64)> {
        let range = Request::parse(&self.raw)?.range?;
        asked_range(&range, self.object.size)?.ok()
    }
}

/// How a client ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// FIN after the last reply.
    Close,
    /// FIN right after the last request; the replies are still read.
    HalfClose,
    /// RST after this many body bytes.
    AbortAfter(u64),
    /// RST so many µs after the connection was asked for, whatever has come.
    AbortAt(u64),
    /// FIN in the middle, after this many body bytes; what comes later is answered with RST, as a kernel does
    /// for a program that has gone.
    CloseAfter(u64),
}

/// One TCP connection of a client.
#[derive(Clone, Debug)]
pub struct FetchPlan {
    /// When it connects.
    pub start_us: u64,
    /// Where to.
    pub server: (Ipv4Address, u16),
    /// What it asks, in order.
    pub asks: Vec<Ask>,
    /// All requests at once instead of one after each reply.
    pub pipelined: bool,
    /// Wait between a reply and the next request; between requests where all go at once.
    pub think_us: u64,
    /// Receive buffer.
    pub rx_bytes: usize,
    /// Sizes of the pieces in which requests are sent, repeated; empty: in one piece.
    pub pieces: Vec<usize>,
    /// Time between two pieces.
    pub piece_gap_us: u64,
    /// Reads at most so many bytes each so many µs.
    pub pace: Option<(usize, u64)>,
    /// Reads nothing in this interval.
    pub sleep: Option<(u64, u64)>,
    /// How it ends.
    pub ending: Ending,
    /// Offers SACK.
    pub sack: bool,
    /// Offers window scaling.
    pub window_scale: bool,
    /// Offers timestamps.
    pub timestamps: bool,
    /// What else is odd in its SYN.
    pub syn: SynOdd,
    /// Its port, instead of one of its own.
    pub port: Option<u16>,
    /// Sends a keep-alive probe each so many µs.
    pub keep_alive_us: Option<u64>,
    /// Acknowledges so late, instead of as the stack does.
    pub ack_delay_us: Option<u64>,
}

impl FetchPlan {
    /// One plain connection at time 0 with everything that a modern host offers.
    pub fn new(server: Ipv4Address, asks: Vec<Ask>) -> Self {
        Self {
            start_us: 0,
            server: (server, 80),
            asks,
            pipelined: false,
            think_us: 0,
            rx_bytes: 256 * 1024,
            pieces: Vec::new(),
            piece_gap_us: 1,
            pace: None,
            sleep: None,
            ending: Ending::Close,
            sack: true,
            window_scale: true,
            timestamps: true,
            syn: SynOdd::default(),
            port: None,
            keep_alive_us: None,
            ack_delay_us: None,
        }
    }
}

/// How a reply ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Not yet.
    Open,
    /// As its head declared.
    Whole,
    /// The connection was refused.
    Refused,
    /// RST before its end.
    Rst,
    /// FIN before its end.
    Fin,
    /// The client ended it by its own plan.
    Left,
    /// A wrong byte at this offset of the object (or of the body, for an error).
    Wrong(u64),
    /// A head that cannot be read.
    Malformed(String),
}

/// What a client saw of one exchange.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Status code; 0 before the head.
    pub status: u16,
    /// Its head.
    pub head: String,
    /// Body bytes received and right.
    pub body_bytes: u64,
    /// How it ended.
    pub end: End,
    /// When the connection was opened (first ask) or the request sent.
    pub start_us: u64,
    /// When the first byte of the reply came.
    pub first_byte_us: Option<u64>,
    /// When it ended.
    pub end_us: Option<u64>,
    /// The longest time between two arrivals in the body.
    pub pause_us_max: u64,
}

/// What the body being read is.
#[derive(Debug)]
enum Framing {
    Length(u64),
    Chunked(Chunk),
    UntilClose,
}

/// Where in a chunked body.
#[derive(Debug)]
enum Chunk {
    Size(Vec<u8>),
    Data(u64),
    /// CRLF after the data, this many bytes still to come.
    DataEnd(u8),
    /// The CRLF after the last size.
    LastEnd(u8),
}

/// Between the ports of a fetch's first and second connection.
const PORTS_APART: u16 = 1_000;
/// Connections that one fetch opens in all: servers close after a reply, and the next request goes on a new one.
const CONNECTIONS_MAX: u16 = 6;

/// Where in a reply.
#[derive(Debug)]
enum Reading {
    Head(Vec<u8>),
    Body(Framing, BodyCheck),
}

/// What the next body byte must be.
#[derive(Debug)]
struct BodyCheck {
    seeds: Vec<u64>,
    offset: u64,
}

struct Fetch {
    plan: FetchPlan,
    handle: Option<SocketHandle>,
    /// Asks handed to TCP completely.
    asked: usize,
    /// Bytes of the current ask handed to TCP.
    asked_bytes: usize,
    piece: usize,
    next_write_us: u64,
    next_read_us: u64,
    reading: Reading,
    outcomes: Vec<Outcome>,
    last_arrival_us: u64,
    closed: bool,
    /// Connections that ended between two replies.
    connections: u16,
    /// Replies that came whole on earlier connections.
    answered_before: usize,
    /// Bytes in the socket when the client left.
    left_unread: usize,
    scales: Option<Scales>,
}

/// A host on a LAN.
pub struct Client {
    ether: Ether,
    queues: IpQueues,
    iface: Interface,
    sockets: SocketSet<'static>,
    fetches: Vec<Fetch>,
    port_base: u16,
    odd: Option<Odd>,
    at: Option<u64>,
}

fn instant(us: u64) -> Instant {
    Instant::from_micros(i64::try_from(us).unwrap_or(i64::MAX))
}

impl Client {
    /// A host with the connections of `plans`; `seed` decides sequence numbers and ports.
    pub fn new(
        number: u8,
        address: Ipv4Cidr,
        gateway: Ipv4Address,
        mtu: usize,
        plans: Vec<FetchPlan>,
        seed: u64,
    ) -> Self {
        let mac = EthernetAddress([0x02, 0, 0, 0, 0xcc, number]);
        let mut queues = IpQueues::new(mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut queues, Instant::ZERO);
        iface.update_ip_addrs(|addrs| {
            let cidr = IpCidr::new(IpAddress::Ipv4(address.address()), address.prefix_len());
            addrs.push(cidr).expect("one address fits");
        });
        let fetches: Vec<Fetch> = plans.into_iter().map(Fetch::new).collect();
        Self {
            ether: Ether::new(mac, address, Some(gateway)),
            queues,
            iface,
            sockets: SocketSet::new(Vec::new()),
            at: fetches.iter().map(|fetch| fetch.plan.start_us).min(),
            fetches,
            port_base: 32_768 + (seed % 20_000) as u16,
            odd: None,
        }
    }

    /// Gives the host's TCP an oddity.
    pub fn with_oddity(mut self, oddity: Option<Oddity>, seed: u64) -> Self {
        self.odd = oddity.map(|oddity| Odd::new(oddity, seed));
        self
    }

    /// What became of each exchange, by connection.
    pub fn outcomes(&self) -> Vec<Vec<Outcome>> {
        self.fetches
            .iter()
            .map(|fetch| fetch.outcomes.clone())
            .collect()
    }

    /// Every connection has ended, one way or the other.
    pub fn is_done(&self) -> bool {
        self.fetches.iter().all(|fetch| fetch.closed)
    }

    /// When `poll` is due.
    pub fn poll_at(&self) -> Option<u64> {
        self.at
    }

    /// Takes a frame from the LAN.
    pub fn on_frame(&mut self, frame: &[u8], out: &mut Vec<Vec<u8>>) {
        if let Some(packet) = self.ether.receive(frame, out) {
            self.queues.rx.push_back(packet);
        }
    }

    /// Runs all that is due and sends what may be sent.
    pub fn poll(&mut self, now_us: u64, out: &mut Vec<Vec<u8>>) {
        let now = instant(now_us);
        self.iface.poll(now, &mut self.queues, &mut self.sockets);
        let mut wake = None;
        for (index, fetch) in self.fetches.iter_mut().enumerate() {
            let own = self.port_base + index as u16 + fetch.connections * PORTS_APART;
            let port = fetch.plan.port.unwrap_or(own);
            let due = fetch.run(now_us, port, &mut self.iface, &mut self.sockets);
            wake = earliest(wake, due);
        }
        self.iface.poll(now, &mut self.queues, &mut self.sockets);
        while let Some(mut packet) = self.queues.tx.pop_front() {
            self.edit_syn(&mut packet);
            let packets = match &mut self.odd {
                Some(odd) => odd.change(packet),
                None => vec![packet],
            };
            for packet in packets {
                self.ether.send(now_us, &packet, out);
            }
        }
        self.ether.poll(now_us, out);
        let stack = self.iface.poll_at(now, &self.sockets);
        let stack = stack.map(|at| u64::try_from(at.total_micros()).unwrap_or(0));
        self.at = earliest(earliest(wake, stack), self.ether.poll_at());
    }

    /// Takes out of a SYN the options that its plan does not offer; smoltcp always offers them.
    fn edit_syn(&mut self, packet: &mut Vec<u8>) {
        let Ok(mut ip) = Ipv4Packet::new_checked(&mut packet[..]) else {
            return;
        };
        let (from, to) = (ip.src_addr(), ip.dst_addr());
        let Ok(mut tcp) = TcpPacket::new_checked(ip.payload_mut()) else {
            return;
        };
        let index = usize::from(tcp.src_port().wrapping_sub(self.port_base) % PORTS_APART);
        let Some(fetch) = self.fetches.get_mut(index) else {
            return;
        };
        if !tcp.syn() {
            if let Some(scales) = fetch.scales {
                syn::rescale(packet, scales);
            }
            return;
        }
        let (sack, scale) = (fetch.plan.sack, fetch.plan.window_scale);
        let options = tcp.options_mut();
        let mut at = 0;
        while at < options.len() {
            let Ok((rest, option)) = TcpOption::parse(&options[at..]) else {
                break;
            };
            let len = options.len() - at - rest.len();
            let unwanted = match option {
                TcpOption::SackPermitted => !sack,
                TcpOption::WindowScale(_) => !scale,
                TcpOption::EndOfList => break,
                TcpOption::NoOperation
                | TcpOption::MaxSegmentSize(_)
                | TcpOption::SackRange(_)
                | TcpOption::TimeStamp { .. }
                | TcpOption::Unknown { .. } => false,
            };
            if unwanted {
                options[at..at + len].fill(1);
            }
            at += len;
        }
        tcp.fill_checksum(&from.into(), &to.into());
        let odd = fetch.plan.syn.clone();
        fetch.scales = syn::edit(packet, &odd).or(fetch.scales);
    }

    /// Opens one more connection, as another host would that has nothing odd.
    pub fn also(&mut self, plan: FetchPlan) {
        self.odd = None;
        self.at = earliest(self.at, Some(plan.start_us));
        self.fetches.push(Fetch::new(plan));
    }
}

impl Fetch {
    fn new(plan: FetchPlan) -> Self {
        Self {
            next_write_us: plan.start_us,
            next_read_us: 0,
            plan,
            handle: None,
            asked: 0,
            asked_bytes: 0,
            piece: 0,
            reading: Reading::Head(Vec::new()),
            outcomes: Vec::new(),
            last_arrival_us: 0,
            closed: false,
            connections: 0,
            answered_before: 0,
            left_unread: 0,
            scales: None,
        }
    }

    /// One step; when it wants to go on by itself.
    fn run(
        &mut self,
        now_us: u64,
        port: u16,
        iface: &mut Interface,
        sockets: &mut SocketSet<'static>,
    ) -> Option<u64> {
        if self.closed {
            if let (Some(handle), Ending::CloseAfter(_)) = (self.handle, self.plan.ending) {
                let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
                let is_new = socket.recv_queue() > self.left_unread;
                if is_new && socket.is_open() {
                    socket.abort();
                }
            }
            return None;
        }
        let Some(handle) = self.handle else {
            if now_us < self.plan.start_us {
                return Some(self.plan.start_us);
            }
            self.connect(now_us, port, iface, sockets);
            return None;
        };
        let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
        let abort_due = match self.plan.ending {
            Ending::AbortAt(after_us) => Some(self.plan.start_us + after_us),
            Ending::Close | Ending::HalfClose | Ending::AbortAfter(_) | Ending::CloseAfter(_) => {
                None
            }
        };
        if abort_due.is_some_and(|at| at <= now_us) {
            socket.abort();
            self.leave(now_us, 0);
            return None;
        }
        if socket.state() == tcp::State::SynSent {
            return abort_due;
        }
        let write_due = self.write(now_us, socket);
        let read_due = self.read(now_us, socket);
        if self.handle.is_none() {
            return Some(now_us);
        }
        earliest(earliest(write_due, read_due), abort_due)
    }

    fn connect(
        &mut self,
        now_us: u64,
        port: u16,
        iface: &mut Interface,
        sockets: &mut SocketSet<'static>,
    ) {
        let rx = tcp::SocketBuffer::new(vec![0; self.plan.rx_bytes]);
        let tx = tcp::SocketBuffer::new(vec![0; 16 * 1024]);
        let mut socket = tcp::Socket::new(rx, tx);
        socket.set_nagle_enabled(false);
        if self.plan.timestamps {
            socket.set_tsval_generator(Some(|| 0x0102_0304));
        }
        socket.set_keep_alive(self.plan.keep_alive_us.map(Duration::from_micros));
        if let Some(us) = self.plan.ack_delay_us {
            socket.set_ack_delay(Some(Duration::from_micros(us)));
        }
        // smoltcp's time-out also ends idle connections, which no host does: the run's limit ends them.
        let (to, to_port) = self.plan.server;
        let connected = socket.connect(iface.context(), (IpAddress::Ipv4(to), to_port), port);
        connected.expect("the interface has an address, the port is not 0");
        self.handle = Some(sockets.add(socket));
        if self.connections == 0 {
            self.begin_outcome(now_us);
        }
    }

    fn begin_outcome(&mut self, now_us: u64) {
        self.last_arrival_us = now_us;
        self.outcomes.push(Outcome {
            status: 0,
            head: String::new(),
            body_bytes: 0,
            end: End::Open,
            start_us: now_us,
            first_byte_us: None,
            end_us: None,
            pause_us_max: 0,
        });
    }

    /// Replies received completely.
    fn answered(&self) -> usize {
        self.outcomes
            .iter()
            .filter(|outcome| outcome.end == End::Whole)
            .count()
    }

    fn write(&mut self, now_us: u64, socket: &mut tcp::Socket<'_>) -> Option<u64> {
        while socket.may_send() && self.asked < self.plan.asks.len() {
            if !self.plan.pipelined && self.asked > self.answered() {
                return None;
            }
            if now_us < self.next_write_us {
                return Some(self.next_write_us);
            }
            if self.asked_bytes == 0 && self.asked > 0 && !self.plan.pipelined {
                self.begin_outcome(now_us);
            }
            let raw = &self.plan.asks[self.asked].raw;
            let raw_left = &raw[self.asked_bytes..];
            let piece = match self.plan.pieces.len() {
                0 => raw_left.len(),
                count => self.plan.pieces[self.piece % count].clamp(1, raw_left.len()),
            };
            let sent = socket.send_slice(&raw_left[..piece]).unwrap_or(0);
            if sent == 0 {
                return None;
            }
            self.piece += 1;
            self.asked_bytes += sent;
            if self.asked_bytes == raw.len() {
                self.asked += 1;
                self.asked_bytes = 0;
                if self.plan.pipelined {
                    self.next_write_us = now_us + self.plan.think_us;
                }
            }
            if !self.plan.pieces.is_empty() {
                self.next_write_us = now_us + self.plan.piece_gap_us.max(1);
            }
        }
        if self.plan.ending == Ending::HalfClose
            && self.asked == self.plan.asks.len()
            && socket.may_send()
        {
            socket.close();
        }
        None
    }

    fn read(&mut self, now_us: u64, socket: &mut tcp::Socket<'_>) -> Option<u64> {
        if let Some((from, to)) = self.plan.sleep
            && (from..to).contains(&now_us)
        {
            return Some(to);
        }
        if now_us < self.next_read_us {
            return Some(self.next_read_us);
        }
        let mut left = self.plan.pace.map_or(usize::MAX, |(bytes, _)| bytes);
        while left > 0 && socket.can_recv() && !self.closed {
            let taken = socket.recv(|bytes| {
                let take = bytes.len().min(left);
                let used = self.take(now_us, &bytes[..take]);
                (used, used)
            });
            match taken {
                Ok(used) if used > 0 => left -= used,
                Ok(_) | Err(_) => break,
            }
            self.leave_by_plan(now_us, socket);
        }
        if !self.closed && !socket.can_recv() && !socket.may_recv() {
            self.on_connection_end(now_us, socket);
        } else if !self.closed && self.answered() == self.plan.asks.len() {
            self.closed = true;
            if socket.may_send() {
                socket.close();
            }
        }
        match self.plan.pace {
            Some((_, every_us)) if left == 0 && !self.closed => {
                self.next_read_us = now_us + every_us;
                Some(self.next_read_us)
            }
            Some(_) | None => None,
        }
    }

    /// The other side will send nothing more.
    fn on_connection_end(&mut self, now_us: u64, socket: &mut tcp::Socket<'_>) {
        // RFC 9112 section 9.3.1: requests that a persistent connection left without an answer are sent again.
        let answered = self.answered();
        let is_between = self
            .outcomes
            .last()
            .is_none_or(|last| last.end != End::Open || last.first_byte_us.is_none());
        if is_between
            && (self.answered_before + 1..self.plan.asks.len()).contains(&answered)
            && self.connections + 1 < CONNECTIONS_MAX
        {
            if socket.may_send() {
                socket.close();
            }
            self.outcomes.truncate(answered);
            self.handle = None;
            self.connections += 1;
            self.answered_before = answered;
            // The wait between two requests is the client's, whatever connection they go on.
            let next_write_us = self.next_write_us.max(now_us);
            (self.asked, self.asked_bytes, self.next_write_us) = (answered, 0, next_write_us);
            self.reading = Reading::Head(Vec::new());
            return;
        }
        self.closed = true;
        let reset = socket.state() == tcp::State::Closed;
        if socket.may_send() {
            socket.close();
        }
        let until_close = matches!(self.reading, Reading::Body(Framing::UntilClose, _));
        let Some(outcome) = self
            .outcomes
            .last_mut()
            .filter(|outcome| outcome.end == End::Open)
        else {
            return;
        };
        outcome.end_us = Some(now_us);
        outcome.end = match (reset, until_close) {
            (false, true) => End::Whole,
            (false, false) => End::Fin,
            (true, _) if outcome.first_byte_us.is_none() && self.asked == 0 => End::Refused,
            (true, _) => End::Rst,
        };
    }

    fn leave_by_plan(&mut self, now_us: u64, socket: &mut tcp::Socket<'_>) {
        let bytes: u64 = self.outcomes.iter().map(|outcome| outcome.body_bytes).sum();
        let wrong = self
            .outcomes
            .last()
            .is_some_and(|outcome| matches!(outcome.end, End::Wrong(_) | End::Malformed(_)));
        match self.plan.ending {
            _ if wrong => socket.abort(),
            Ending::AbortAfter(after) if bytes >= after => socket.abort(),
            Ending::CloseAfter(after) if bytes >= after => socket.close(),
            Ending::Close
            | Ending::HalfClose
            | Ending::AbortAfter(_)
            | Ending::AbortAt(_)
            | Ending::CloseAfter(_) => return,
        }
        let unread = socket.recv_queue();
        self.leave(now_us, unread);
    }

    /// The client has gone by its own plan.
    fn leave(&mut self, now_us: u64, unread: usize) {
        self.closed = true;
        self.left_unread = unread;
        if let Some(outcome) = self.outcomes.last_mut() {
            outcome.end_us = Some(now_us);
            if outcome.end == End::Open {
                outcome.end = End::Left;
            }
        }
    }

    /// Reads on in the reply; how many of `bytes` were used.
    fn take(&mut self, now_us: u64, bytes: &[u8]) -> usize {
        if self
            .outcomes
            .last()
            .is_none_or(|last| last.end != End::Open)
        {
            if self.outcomes.len() >= self.plan.asks.len().min(self.asked + 1) {
                // Bytes after the last reply: nobody asked for them.
                let text = format!("{} bytes after the last reply", bytes.len());
                if let Some(outcome) = self.outcomes.last_mut() {
                    outcome.end = End::Malformed(text);
                }
                return bytes.len();
            }
            self.begin_outcome(now_us);
        }
        let number = self.outcomes.len() - 1;
        let ask = &self.plan.asks[number];
        let outcome = &mut self.outcomes[number];
        outcome.first_byte_us = outcome.first_byte_us.or(Some(now_us));
        match &mut self.reading {
            Reading::Head(head) => {
                let before = head.len();
                head.extend_from_slice(bytes);
                let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                    return bytes.len();
                };
                head.truncate(end + 4);
                let used = head.len() - before;
                outcome.head = String::from_utf8_lossy(head).into_owned();
                self.last_arrival_us = now_us;
                match read_head(&outcome.head, ask) {
                    // RFC 9110 section 15.2: an interim reply has no body, and the final one follows.
                    Ok((100 | 102..=199, _, _)) => {
                        self.reading = Reading::Head(Vec::new());
                        return used;
                    }
                    Ok((status, framing, check)) => {
                        outcome.status = status;
                        self.reading = Reading::Body(framing, check);
                    }
                    Err(text) => {
                        outcome.end = End::Malformed(text);
                        return used;
                    }
                }
                self.end_if_whole(now_us);
                used
            }
            Reading::Body(framing, check) => {
                let pause = now_us - self.last_arrival_us;
                outcome.pause_us_max = outcome.pause_us_max.max(pause);
                self.last_arrival_us = now_us;
                let (used, body) = framing.split(bytes);
                match body.and_then(|body| check.first_wrong(body)) {
                    Some(offset) => outcome.end = End::Wrong(offset),
                    None => outcome.body_bytes += body.map_or(0, |body| body.len() as u64),
                }
                self.end_if_whole(now_us);
                used
            }
        }
    }

    fn end_if_whole(&mut self, now_us: u64) {
        let whole = match &self.reading {
            Reading::Body(Framing::Length(0), _)
            | Reading::Body(Framing::Chunked(Chunk::LastEnd(0)), _) => true,
            Reading::Body(Framing::Length(_) | Framing::Chunked(_) | Framing::UntilClose, _)
            | Reading::Head(_) => false,
        };
        if let Some(outcome) = self.outcomes.last_mut()
            && whole
            && outcome.end == End::Open
        {
            outcome.end = End::Whole;
            outcome.end_us = Some(now_us);
            self.reading = Reading::Head(Vec::new());
            self.next_write_us = now_us + self.plan.think_us;
        }
    }
}

impl Framing {
    /// Takes from the front of `bytes` what belongs together: how many, and those that are body.
    fn split<'b>(&mut self, bytes: &'b [u8]) -> (usize, Option<&'b [u8]>) {
        match self {
            Framing::Length(left) => {
                let take = (*left).min(bytes.len() as u64) as usize;
                *left -= take as u64;
                (take, Some(&bytes[..take]))
            }
            Framing::UntilClose => (bytes.len(), Some(bytes)),
            Framing::Chunked(chunk) => match chunk {
                Chunk::Size(line) => {
                    line.push(bytes[0]);
                    if bytes[0] == b'\n' {
                        let text = String::from_utf8_lossy(line);
                        let size = u64::from_str_radix(text.trim(), 16).unwrap_or(0);
                        *chunk = match size {
                            0 => Chunk::LastEnd(2),
                            size => Chunk::Data(size),
                        };
                    }
                    (1, None)
                }
                Chunk::Data(left) => {
                    let take = (*left).min(bytes.len() as u64) as usize;
                    *left -= take as u64;
                    if *left == 0 {
                        *chunk = Chunk::DataEnd(2);
                    }
                    (take, Some(&bytes[..take]))
                }
                Chunk::DataEnd(left) => {
                    *left -= 1;
                    if *left == 0 {
                        *chunk = Chunk::Size(Vec::new());
                    }
                    (1, None)
                }
                Chunk::LastEnd(left) => {
                    *left -= 1;
                    (1, None)
                }
            },
        }
    }
}

impl BodyCheck {
    fn first_wrong(&mut self, body: &[u8]) -> Option<u64> {
        let mut wrong = Some(self.offset);
        let offset = self.offset;
        self.seeds
            .retain(|seed| match content::first_wrong(*seed, offset, body) {
                None => {
                    wrong = None;
                    true
                }
                Some(at) => {
                    wrong = wrong.map(|before| before.max(at));
                    false
                }
            });
        self.offset += body.len() as u64;
        wrong.filter(|_| !body.is_empty())
    }
}

/// Status, framing and expected bytes of a reply.
fn read_head(head: &str, ask: &Ask) -> Result<(u16, Framing, BodyCheck), String> {
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or("");
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|code| code.parse::<u16>().ok())
        .ok_or_else(|| format!("status line {first:?}"))?;
    let mut length = None;
    let mut chunked = false;
    let mut etag = None;
    let mut place = None;
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line
            .split_once(": ")
            .ok_or_else(|| format!("field {line:?}"))?;
        match name {
            "Content-Length" => {
                let is_plain = value.bytes().all(|byte| byte.is_ascii_digit());
                length = value.parse::<u64>().ok().filter(|_| is_plain);
            }
            "Transfer-Encoding" => chunked = value == "chunked",
            "ETag" => etag = Some(value.trim_start_matches("W/").trim_matches('"')),
            "Content-Range" => place = Some(value),
            _ => {}
        }
    }
    let mut from = 0;
    if status == 206 {
        let (first, end) = ask
            .interval()
            .ok_or_else(|| format!("206 {place:?} to a request for no part"))?;
        let wanted = format!("bytes {first}-{}/{}", end - 1, ask.object.size);
        if place != Some(wanted.as_str()) || length != Some(end - first) {
            return Err(format!("{place:?} of {length:?} bytes, not {wanted:?}"));
        }
        from = first;
    }
    let version = etag
        .and_then(|tag| tag.rsplit('-').next())
        .and_then(|version| version.parse::<u32>().ok());
    let seeds = match (status, version) {
        (200 | 206, Some(version)) => vec![ask.object.version_seed(version)],
        // Without ETag, the first bytes tell the version.
        (200 | 206, None) => vec![ask.object.version_seed(0), ask.object.version_seed(1)],
        (status, _) => vec![u64::from(status)],
    };
    let framing = match length {
        _ if ask.head_only || matches!(status, 204 | 304) => Framing::Length(0),
        _ if chunked => Framing::Chunked(Chunk::Size(Vec::new())),
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    };
    let check = BodyCheck {
        seeds,
        offset: from,
    };
    Ok((status, framing, check))
}
