//! The internet: gateways of all lines, a router between them, and HTTP origins behind it.
//!
//! Units: µs, bytes. Every origin address is served by one smoltcp interface; a listening socket is made for each
//! SYN, so no backlog bounds anything. No time passes inside: the lines are where time is spent.

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpProtocol, Ipv4Address, Ipv4Cidr,
    Ipv4Packet, TcpPacket,
};

use super::behaviour::{self, Cut, Reply, Request, Rule};
use super::content;
use super::ether::{Ether, IpQueues};
use super::middle;

/// How the origins behave.
#[derive(Clone, Debug)]
pub struct OriginSetup {
    /// Addresses that answer on ports 80 and 8080; at most 4.
    pub addresses: Vec<Ipv4Address>,
    /// What is not honest.
    pub rules: Vec<Rule>,
    /// Send buffer of a connection.
    pub tx_bytes: usize,
    /// Congestion control; off, the send buffer alone bounds what is in flight.
    pub reno: bool,
    /// Packets from this source go nowhere; with `true` it is told so (ICMP host unreachable).
    pub unreachable: Option<(Ipv4Address, bool)>,
    /// A second connection of an address, while one is open, is refused.
    pub one_connection: bool,
    /// Window scaling is taken out of SYNs before the origin reads them.
    pub no_scale: bool,
}

impl Default for OriginSetup {
    /// One honest origin, 198.51.100.10.
    fn default() -> Self {
        Self {
            addresses: vec![Ipv4Address::new(198, 51, 100, 10)],
            rules: Vec::new(),
            tx_bytes: 256 * 1024,
            reno: true,
            unreachable: None,
            one_connection: false,
            no_scale: false,
        }
    }
}

/// One request and what became of it.
#[derive(Clone, Debug)]
pub struct RequestLog {
    /// When its head was complete.
    pub at_us: u64,
    /// Number of its connection.
    pub connection: usize,
    /// Where it came from.
    pub source: Ipv4Address,
    /// The request.
    pub request: Request,
    /// The status answered; 0 = no answer.
    pub status: u16,
    /// Body bytes given to TCP.
    pub body_sent: u64,
}

/// One connection to an origin.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLog {
    /// Where it came from.
    pub source: Ipv4Address,
    /// When its SYN came.
    pub opened_us: u64,
    /// When it was gone.
    pub closed_us: Option<u64>,
}

/// Everything the origins saw.
#[derive(Clone, Debug, Default)]
pub struct OriginLog {
    /// Requests in order.
    pub requests: Vec<RequestLog>,
    /// Connections by number.
    pub connections: Vec<ConnectionLog>,
    /// Bytes that were no HTTP/1 request, first line of each.
    pub garbage: Vec<String>,
    /// Packets that must not be on the internet (private source or destination).
    pub leaks: u64,
}

/// A reply under way.
#[derive(Debug)]
struct Sending {
    reply: Reply,
    log: usize,
    /// Bytes that go before the next body byte: head, chunk frame.
    pending: Vec<u8>,
    pending_sent: usize,
    body_at: u64,
    /// End of the current chunk, for a chunked body.
    chunk_end: u64,
    last_chunk_done: bool,
    tail_done: bool,
    /// End of the pause, once it has begun.
    paused_until_us: Option<u64>,
    start_us: u64,
}

#[derive(Debug)]
struct Connection {
    handle: SocketHandle,
    number: usize,
    source: Ipv4Address,
    port: u16,
    received: Vec<u8>,
    sending: Option<Sending>,
    /// Nothing more is said on it.
    mute: bool,
    closing: bool,
    /// When a connection whose bytes are all acknowledged is given up.
    give_up_us: Option<u64>,
}

/// smoltcp may forget to repeat a FIN that was lost in a burst of losses: a server's kernel would not, so the
/// connection is reset after this long.
const FIN_PATIENCE_US: u64 = 20_000_000;

/// The internet.
pub struct Internet {
    ports: Vec<Ether>,
    setup: OriginSetup,
    queues: IpQueues,
    iface: Interface,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    log: OriginLog,
    at: Option<u64>,
}

/// smoltcp's clock runs this much faster than time: its shortest retransmission time-out of 1 s, and its longest
/// of 60 s, become 250 ms and 15 s, about what a server's kernel has. Measured times scale with it.
const CLOCK: u64 = 4;

fn instant(us: u64) -> Instant {
    Instant::from_micros(i64::try_from(us.saturating_mul(CLOCK)).unwrap_or(i64::MAX))
}

/// The time that the stack calls `at`; never before it.
fn time_of(at: Instant) -> u64 {
    u64::try_from(at.total_micros())
        .unwrap_or(0)
        .div_ceil(CLOCK)
}

impl Internet {
    /// An internet with one gateway for each line; `seed` decides the origins' initial sequence numbers.
    pub fn new(gateways: &[Ipv4Cidr], setup: OriginSetup, seed: u64) -> Self {
        let ports = gateways
            .iter()
            .enumerate()
            .map(|(line, cidr)| {
                let mac = EthernetAddress([0x02, 0, 0, 0, 0xee, line as u8]);
                Ether::new(mac, *cidr, None)
            })
            .collect();
        let mut queues = IpQueues::new(1_500);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut queues, Instant::ZERO);
        iface.update_ip_addrs(|addrs| {
            for address in &setup.addresses {
                let cidr = IpCidr::new(IpAddress::Ipv4(*address), 24);
                addrs.push(cidr).expect("at most 4 origin addresses");
            }
        });
        Self {
            ports,
            setup,
            queues,
            iface,
            sockets: SocketSet::new(Vec::new()),
            connections: Vec::new(),
            log: OriginLog::default(),
            at: None,
        }
    }

    /// What the origins saw so far.
    pub fn log(&self) -> &OriginLog {
        &self.log
    }

    /// When `poll` is due.
    pub fn poll_at(&self) -> Option<u64> {
        self.at
    }

    /// Takes a frame from a line. Answers appear in `out` as (line, frame).
    pub fn on_frame(
        &mut self,
        now_us: u64,
        line: usize,
        frame: &[u8],
        out: &mut Vec<(usize, Vec<u8>)>,
    ) {
        let mut frames = Vec::new();
        let packet = self.ports[line].receive(frame, &mut frames);
        out.extend(frames.into_iter().map(|frame| (line, frame)));
        if let Some(packet) = packet {
            self.on_packet(now_us, packet, out);
        }
    }

    fn on_packet(&mut self, now_us: u64, mut packet: Vec<u8>, out: &mut Vec<(usize, Vec<u8>)>) {
        let Ok(ip) = Ipv4Packet::new_checked(&packet[..]) else {
            return;
        };
        // The header may have been corrupted on the line: such a packet shows nothing.
        if !ip.verify_checksum() {
            return;
        }
        let (from, to) = (ip.src_addr(), ip.dst_addr());
        if from.is_private() || to.is_private() {
            self.log.leaks += 1;
            return;
        }
        if self.setup.addresses.contains(&to) {
            if let Some((source, told)) = self.setup.unreachable
                && source == from
            {
                if told {
                    let answer = middle::host_unreachable(&packet);
                    self.route(now_us, &answer, from, out);
                }
                return;
            }
            if self.setup.one_connection && self.is_crowded(&ip) {
                if let Some(answer) = middle::refusal(&packet) {
                    self.route(now_us, &answer, from, out);
                }
                return;
            }
            if self.setup.no_scale {
                middle::without_scale(&mut packet);
            }
            let ip = Ipv4Packet::new_unchecked(&packet[..]);
            self.listen_for(now_us, &ip);
            self.queues.rx.push_back(packet);
        } else {
            self.route(now_us, &packet, to, out);
        }
    }

    /// A SYN of an address that has another connection open.
    fn is_crowded(&self, ip: &Ipv4Packet<&[u8]>) -> bool {
        let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else {
            return false;
        };
        let is_open = |connection: &Connection| {
            let socket = self.sockets.get::<tcp::Socket<'_>>(connection.handle);
            connection.source == ip.src_addr()
                && connection.port != tcp.src_port()
                && socket.may_send()
        };
        ip.next_header() == IpProtocol::Tcp
            && tcp.syn()
            && !tcp.ack()
            && self.connections.iter().any(is_open)
    }

    /// From now on the origins are honest and can be reached.
    pub fn mend(&mut self) {
        self.setup.rules.clear();
        self.setup.unreachable = None;
        self.setup.one_connection = false;
        self.setup.no_scale = false;
    }

    fn route(
        &mut self,
        now_us: u64,
        packet: &[u8],
        to: Ipv4Address,
        out: &mut Vec<(usize, Vec<u8>)>,
    ) {
        let Some(line) = self
            .ports
            .iter()
            .position(|port| port.cidr.contains_addr(&to) && port.cidr.address() != to)
        else {
            return;
        };
        let mut frames = Vec::new();
        self.ports[line].send(now_us, packet, &mut frames);
        out.extend(frames.into_iter().map(|frame| (line, frame)));
    }

    /// Makes a listening socket for a SYN that opens a connection.
    fn listen_for(&mut self, now_us: u64, ip: &Ipv4Packet<&[u8]>) {
        if ip.next_header() != IpProtocol::Tcp {
            return;
        }
        let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else {
            return;
        };
        let (source, to) = (ip.src_addr(), ip.dst_addr());
        if !tcp.syn()
            || tcp.ack()
            || !tcp.verify_checksum(&source.into(), &to.into())
            || !matches!(tcp.dst_port(), 80 | 8080)
        {
            return;
        }
        let port = tcp.src_port();
        let known = self.connections.iter().position(|connection| {
            let socket = self.sockets.get::<tcp::Socket<'_>>(connection.handle);
            (connection.source, connection.port) == (source, port)
                && socket.local_endpoint().is_none_or(|local| {
                    local.addr == IpAddress::Ipv4(to) && local.port == tcp.dst_port()
                })
        });
        if let Some(index) = known {
            let socket = self
                .sockets
                .get::<tcp::Socket<'_>>(self.connections[index].handle);
            if socket.is_open() {
                return;
            }
            self.forget(now_us, index);
        }
        let rx = tcp::SocketBuffer::new(vec![0; 32 * 1024]);
        let tx = tcp::SocketBuffer::new(vec![0; self.setup.tx_bytes]);
        let mut socket = tcp::Socket::new(rx, tx);
        socket.set_congestion_control(match self.setup.reno {
            true => tcp::CongestionControl::Reno,
            false => tcp::CongestionControl::None,
        });
        socket.set_nagle_enabled(false);
        // Long: a server keeps a client that sleeps; short enough that lost clients do not pile up.
        socket.set_timeout(Some(Duration::from_secs(900 * CLOCK)));
        if socket
            .listen((IpAddress::Ipv4(to), tcp.dst_port()))
            .is_err()
        {
            return;
        }
        let number = self.log.connections.len();
        self.log.connections.push(ConnectionLog {
            source,
            opened_us: now_us,
            closed_us: None,
        });
        self.connections.push(Connection {
            handle: self.sockets.add(socket),
            number,
            source,
            port,
            received: Vec::new(),
            sending: None,
            mute: false,
            closing: false,
            give_up_us: None,
        });
    }

    fn forget(&mut self, now_us: u64, index: usize) {
        let connection = self.connections.swap_remove(index);
        let log = &mut self.log.connections[connection.number];
        log.closed_us = log.closed_us.or(Some(now_us));
        self.sockets.remove(connection.handle);
    }

    /// Runs all that is due and sends what may be sent.
    pub fn poll(&mut self, now_us: u64, out: &mut Vec<(usize, Vec<u8>)>) {
        let now = instant(now_us);
        self.iface.poll(now, &mut self.queues, &mut self.sockets);
        let mut wake: Option<u64> = None;
        for index in 0..self.connections.len() {
            wake = earliest(wake, self.serve(now_us, index));
        }
        self.iface.poll(now, &mut self.queues, &mut self.sockets);
        // Only now: a socket that aborts sends its RST from the poll.
        for index in (0..self.connections.len()).rev() {
            let handle = self.connections[index].handle;
            match self.sockets.get::<tcp::Socket<'_>>(handle).state() {
                tcp::State::Closed => self.forget(now_us, index),
                tcp::State::TimeWait => {
                    let log = &mut self.log.connections[self.connections[index].number];
                    log.closed_us = log.closed_us.or(Some(now_us));
                }
                _ => {}
            }
        }
        while let Some(packet) = self.queues.tx.pop_front() {
            if let Ok(ip) = Ipv4Packet::new_checked(&packet[..]) {
                let to = ip.dst_addr();
                self.route(now_us, &packet, to, out);
            }
        }
        for (line, port) in self.ports.iter_mut().enumerate() {
            let mut frames = Vec::new();
            port.poll(now_us, &mut frames);
            out.extend(frames.into_iter().map(|frame| (line, frame)));
            wake = earliest(wake, port.poll_at());
        }
        let stack = self.iface.poll_at(now, &self.sockets);
        let stack = stack.map(time_of);
        self.at = earliest(wake, stack);
    }

    /// Reads requests and writes replies of one connection; when it wants to go on by itself.
    fn serve(&mut self, now_us: u64, index: usize) -> Option<u64> {
        let connection = &mut self.connections[index];
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(connection.handle);
        while socket.can_recv() && connection.received.len() < 64 * 1024 {
            let received = &mut connection.received;
            let taken = socket.recv(|bytes| {
                received.extend_from_slice(bytes);
                (bytes.len(), ())
            });
            if taken.is_err() {
                break;
            }
        }
        loop {
            if connection.closing && socket.send_queue() == 0 {
                let give_up = *connection
                    .give_up_us
                    .get_or_insert(now_us + FIN_PATIENCE_US);
                let is_unheard = matches!(
                    socket.state(),
                    tcp::State::FinWait1 | tcp::State::LastAck | tcp::State::Closing
                );
                if is_unheard && now_us >= give_up {
                    socket.abort();
                }
                return Some(give_up).filter(|at| *at > now_us && is_unheard);
            }
            if connection.mute || connection.closing {
                return None;
            }
            if connection.sending.is_none() {
                let Some(end) = request_end(&connection.received) else {
                    if socket.state() == tcp::State::CloseWait {
                        socket.close();
                        connection.closing = true;
                    }
                    return None;
                };
                let mut raw: Vec<u8> = connection.received.drain(..end).collect();
                // The body, if there is one, is of no interest.
                raw.truncate(head_end(&raw).unwrap_or(end));
                let Some(request) = Request::parse(&raw) else {
                    let line = raw.split(|byte| *byte == b'\r').next().unwrap_or(&[]);
                    let line = String::from_utf8_lossy(line).into_owned();
                    self.log.garbage.push(line);
                    socket.abort();
                    connection.closing = true;
                    return None;
                };
                let number = self.log.requests.len() as u32;
                let reply =
                    behaviour::reply(&self.setup.rules, &request, connection.source, number);
                self.log.requests.push(RequestLog {
                    at_us: now_us,
                    connection: connection.number,
                    source: connection.source,
                    request,
                    status: reply.status,
                    body_sent: 0,
                });
                connection.sending = Some(Sending {
                    pending: reply.head.clone(),
                    pending_sent: 0,
                    body_at: reply.body_from,
                    chunk_end: reply.body_from,
                    last_chunk_done: false,
                    tail_done: false,
                    paused_until_us: None,
                    start_us: now_us + reply.late_us,
                    log: number as usize,
                    reply,
                });
            }
            let Some(sending) = &mut connection.sending else {
                return None;
            };
            match sending.write(now_us, socket, &mut self.log.requests) {
                Progress::Blocked => return None,
                Progress::Until(at) => return Some(at),
                Progress::Cut(Cut::Rst) => {
                    socket.abort();
                    connection.closing = true;
                }
                Progress::Cut(Cut::Fin) => {
                    socket.close();
                    connection.closing = true;
                }
                Progress::Cut(Cut::Stall) => connection.mute = true,
                Progress::Done => {
                    if sending.reply.close {
                        socket.close();
                        connection.closing = true;
                    }
                    connection.sending = None;
                }
            }
        }
    }
}

/// How far a reply came.
enum Progress {
    /// TCP takes no more now.
    Blocked,
    /// Goes on at this time.
    Until(u64),
    /// Ends before its time.
    Cut(Cut),
    /// All is with TCP.
    Done,
}

impl Sending {
    fn write(
        &mut self,
        now_us: u64,
        socket: &mut tcp::Socket<'_>,
        log: &mut [RequestLog],
    ) -> Progress {
        if now_us < self.start_us {
            return Progress::Until(self.start_us);
        }
        loop {
            if let Some((after, Cut::Stall | Cut::Fin | Cut::Rst)) = self.reply.cut
                && self.reply.status == 0
                && after == 0
            {
                // Nothing is answered at all.
                return self.cut(socket);
            }
            if self.pending_sent < self.pending.len() {
                if !socket.can_send() {
                    return Progress::Blocked;
                }
                let mut until = self.pending.len();
                if self.reply.head_rate > 0 && self.body_at == self.reply.body_from {
                    let allowed = 1 + (now_us - self.start_us) * self.reply.head_rate / 1_000_000;
                    until = until.min(allowed as usize);
                    if self.pending_sent >= until {
                        return Progress::Until(now_us + 100_000);
                    }
                }
                match socket.send_slice(&self.pending[self.pending_sent..until]) {
                    Ok(sent) => self.pending_sent += sent,
                    Err(_) => return Progress::Blocked,
                }
                continue;
            }
            let done = self.body_at - self.reply.body_from;
            let mut limit = self.reply.body_to;
            if let Some((after, _)) = self.reply.cut {
                if done >= after && self.reply.body_to - self.reply.body_from > after {
                    return self.cut(socket);
                }
                limit = limit.min(self.reply.body_from + after);
            }
            if let Some((after, us)) = self.reply.pause {
                if done >= after {
                    let until = *self.paused_until_us.get_or_insert(now_us + us);
                    if now_us < until {
                        return Progress::Until(until);
                    }
                } else {
                    limit = limit.min(self.reply.body_from + after);
                }
            }
            if self.body_at >= self.reply.body_to && !self.tail_done && !self.reply.chunked {
                self.tail_done = true;
                self.pend(self.reply.tail.clone());
                continue;
            }
            if self.body_at >= self.reply.body_to {
                if self.reply.reset_at_end {
                    return match socket.send_queue() {
                        0 => Progress::Cut(Cut::Rst),
                        _ => Progress::Blocked,
                    };
                }
                if !self.reply.chunked || self.last_chunk_done {
                    return Progress::Done;
                }
                self.last_chunk_done = true;
                self.pend(b"\r\n0\r\n\r\n".to_vec());
                continue;
            }
            if self.reply.chunked && self.body_at == self.chunk_end {
                let size = (self.reply.body_to - self.body_at).min(4_000);
                let lead = if done == 0 { "" } else { "\r\n" };
                self.chunk_end = self.body_at + size;
                self.pend(format!("{lead}{size:x}\r\n").into_bytes());
                continue;
            }
            if self.reply.chunked {
                limit = limit.min(self.chunk_end);
            }
            if self.reply.rate > 0 {
                let allowed = 1 + (now_us - self.start_us) * self.reply.rate / 1_000_000;
                if done >= allowed {
                    // Tenths of a second, so that a slow body is not one event for each byte.
                    return Progress::Until(now_us + 100_000);
                }
                limit = limit.min(self.reply.body_from + allowed);
            }
            if !socket.can_send() {
                return Progress::Blocked;
            }
            let (seed, at) = (self.reply.body_seed, self.body_at);
            let sent = socket.send(|buffer| {
                let want = (limit - at).min(buffer.len() as u64) as usize;
                content::fill(seed, at, &mut buffer[..want]);
                (want, want)
            });
            match sent {
                Ok(0) | Err(_) => return Progress::Blocked,
                Ok(sent) => {
                    self.body_at += sent as u64;
                    log[self.log].body_sent += sent as u64;
                }
            }
        }
    }

    fn pend(&mut self, bytes: Vec<u8>) {
        self.pending = bytes;
        self.pending_sent = 0;
    }

    /// The cut, once what was promised before it has been acknowledged.
    fn cut(&self, socket: &tcp::Socket<'_>) -> Progress {
        match self.reply.cut {
            // smoltcp throws its send buffer away on abort.
            Some((_, Cut::Rst)) if socket.send_queue() > 0 => Progress::Blocked,
            Some((_, cut)) => Progress::Cut(cut),
            None => Progress::Done,
        }
    }
}

/// Length of the first head in `bytes`, its empty line included.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

/// Where a request ends, head and body; `None` while it is not whole.
fn request_end(bytes: &[u8]) -> Option<usize> {
    let end = head_end(bytes)?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|value| value.trim().parse::<usize>().ok());
    Some(end + length.unwrap_or(0)).filter(|end| *end <= bytes.len())
}

/// The earlier of two times.
pub fn earliest(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
