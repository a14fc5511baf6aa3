//! Every count and byte bound of the router, with its reason, asserted against the board's RAM.

use smoltcp::time::Duration;

use crate::conntrack::Table;
use crate::console::Console;
use crate::events::Log;
use crate::exchange;
use crate::links::lender;
use crate::links::peer::Peer;
use crate::neighbor::Neighbors;
use crate::router::fragments::Fragments;
use crate::stack::Buffers;
use crate::stitch::Block;

/// RAM of the smallest supported board, bytes (WRT54G v1-v4: 16 MiB).
pub const BOARD_RAM: usize = 16 * 1024 * 1024;
/// The largest frame of any port: Ethernet header and 1500 bytes of IP, bytes.
pub const FRAME_BYTES_MAX: usize = 1514;

/// Bytes of one block of held stream bytes: a whole number of segments is not needed, a power of two is.
pub const STITCH_BLOCK_BYTES: usize = 4096;
/// Blocks that all streams share: 4 MiB, a quarter of the smallest board's RAM.
pub const STITCH_BLOCKS: usize = 1024;
/// Blocks from a stream's released position that bytes may lie in: 2 MiB; a power of two.
pub const STITCH_SPAN_BLOCKS: usize = 512;
/// Disjoint intervals of one stream: two ranges in flight on each of several links, and gaps of each.
pub const STITCH_INTERVALS: usize = 24;
/// Runs of one sender's scoreboard: some 60 holes in a window; beyond that bytes are sent again needlessly.
pub const STITCH_RUNS: usize = 128;

/// The longest request head that is read; longer ones are plain (the client's head is held whole), bytes.
pub const REQUEST_HEAD_BYTES_MAX: usize = 8192;
/// Field lines of a request head; browsers send about 12, a head with more is plain.
pub const REQUEST_FIELDS_MAX: usize = 32;
/// The longest reply head that is read; longer ones are refused, bytes.
pub const REPLY_HEAD_BYTES_MAX: usize = 4096;
/// Field lines of a reply head (an origin may well add 60 that nobody knows).
pub const REPLY_FIELDS_MAX: usize = 96;
/// The longest ETag or Last-Modified that may join ranges, bytes; the servers known use below 64.
pub const VALIDATOR_BYTES_MAX: usize = 128;
/// The longest media type with parameters that is compared; the longest registered one in use has 73, bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 96;
/// Neighbours a router is paired with.
pub const PEERS_MAX: usize = 4;
/// Origin ports that may be accelerated.
pub const ACCEL_PORTS_MAX: usize = 4;
/// The largest postcard body of a peer message: a whole request head's values and the validator, bytes.
pub const PEER_MESSAGE_BYTES_MAX: usize = REQUEST_HEAD_BYTES_MAX + 512;
/// Raw bytes that one peer `Data` message announces, at most.
pub const PEER_DATA_BYTES_MAX: u16 = 16 * 1024;
/// Resolvers that are asked in turn; more than three only delay the failure.
pub const WAN_DNS_MAX: usize = 3;
/// Largest IP packet of an internet line without tags: Ethernet's, bytes.
pub const WAN_MTU_MAX: u16 = 1500;
/// Smallest `wan.mtu`: what every host must take (RFC 791 section 3.1), bytes.
pub const WAN_MTU_MIN: u16 = 576;
/// Forwarded ports; a home has a handful.
pub const FORWARDS_MAX: usize = 16;
/// Reserved addresses.
pub const RESERVATIONS_MAX: usize = 16;
/// Lease of a LAN host unless set: a day, so that a host that is away overnight keeps its address, seconds.
pub const LAN_LEASE_SECONDS: u32 = 86_400;
/// Shortest lease that can be set: hosts renew at half of it, seconds.
pub const LAN_LEASE_SECONDS_MIN: u32 = 120;
/// Longest lease that can be set: a week, seconds.
pub const LAN_LEASE_SECONDS_MAX: u32 = 604_800;
/// Addresses that are leased or remembered at once: twice what a home has.
pub const LEASES: usize = 128;
/// Longest client identifier: a DUID of RFC 8415 has at most 130 bytes, RFC 4361 adds 5. Longer
/// ones are refused, so that a reply that returns it fits the 548 bytes that every client takes.
pub const CLIENT_ID_BYTES_MAX: usize = 160;
/// Bytes of a host's name that are kept; the rest is cut.
pub const HOST_NAME_BYTES_MAX: usize = 32;
/// How long an address is kept for a client that was offered it: such a client repeats its request
/// for about a minute (RFC 2131 section 4.1).
pub const OFFER_TIMEOUT: Duration = Duration::from_secs(60);
/// Offers that are kept at once, at most a quarter of the pool; the oldest goes first.
pub const OFFERS_MAX: usize = 32;
/// Offers of one station: a repeater, a host with virtual machines.
pub const OFFERS_PER_STATION_MAX: usize = 4;
/// Leases of one station, at most a quarter of the pool.
pub const LEASES_PER_STATION_MAX: usize = 16;
/// Leases of one station also in a small pool.
pub const LEASES_PER_STATION_MIN: usize = 4;
/// First lease of a stranger while three quarters of the pool are in use: what a flood took is
/// free again after it; a host that stays renews at half of it and then has the full time.
pub const LEASE_SCARCE: Duration = Duration::from_secs(10 * 60);
/// How long an address is not given that a client found in use.
pub const DECLINED_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Addresses put aside so, at most a quarter of the pool: a client can lie.
pub const DECLINED_MAX: usize = 16;
/// Addresses looked at for one that is free: all leases, reservations and neighbors, and as many again.
pub const POOL_PROBES_MAX: usize = 512;
/// From a change of the leases to the write of the table: several at once are one write. Beyond
/// [`LEASE_SAVES_AT_ONCE`] the store paces them.
pub const LEASE_SAVE_SOON: Duration = Duration::from_secs(30);
/// Bytes of a host's name that are stored; the whole one comes with its next renewal.
pub const STORED_NAME_BYTES_MAX: usize = 20;
/// Stored form of a full table; fits a slot, see [`STORE_SLOTS_LEASES`], bytes.
pub const LEASES_BYTES_MAX: usize = 5_888;
/// A console line; longer ones are refused whole, bytes.
pub const CONSOLE_LINE_BYTES_MAX: usize = 256;
/// Lines given before, on the console: some thirty, bytes.
pub const CONSOLE_HISTORY_BYTES: usize = 1024;
/// Typed bytes that wait while a listing or a ping runs: two lines; beyond, the board leaves them in the UART, bytes.
pub const CONSOLE_INPUT_BYTES: usize = 512;
/// Free places of the output before a command begins: the longest answer that is not a listing, `status`, bytes.
pub const CONSOLE_ANSWER_BYTES: usize = 2560;
/// Free places of the output before a row, a notice or a key's echo, bytes.
pub const CONSOLE_ROW_BYTES: usize = 768;
/// Console work of one turn: a typed byte is 1, a row of a table [`CONSOLE_ROW_WORK`]. 8 rows are below a millisecond.
pub const CONSOLE_WORK: u32 = 64;
/// A row of a table, in console work.
pub const CONSOLE_ROW_WORK: u32 = 8;
/// Echo requests of `ping` when their count is not given: what other systems send.
pub const PING_COUNT: u32 = 4;
/// Echo requests of one `ping`, at most; two minutes or three.
pub const PING_COUNT_MAX: u32 = 100;
/// From one echo request to the next.
pub const PING_INTERVAL: Duration = Duration::from_secs(1);
/// An echo that takes longer is lost: twice what a satellite needs.
pub const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// After this time without a word of the board's store, settings count as not stored. A worn sector takes 15 s to erase.
pub const SAVE_TIMEOUT: Duration = Duration::from_secs(60);
/// Events remembered for `log`: two or three screens.
pub const EVENTS: usize = 64;
/// Text from outside in an event; a host name or the place of a crash is read from its beginning, bytes.
pub const EVENT_TEXT_BYTES_MAX: usize = 40;
/// Events of one kind that strangers can cause count as one within this time.
pub const EVENT_REPEAT: Duration = Duration::from_secs(60);

/// Sets of the neighbor table; a power of two.
pub const NEIGHBOR_SETS: usize = 32;
/// Neighbors of one set: 128 in all, twice what a home has, on all three ports together.
pub const NEIGHBOR_WAYS: usize = 4;
/// Frames that wait for a neighbor's answer: RFC 1122 section 2.3.2.2 asks for one; a burst has more.
pub const HELD_FRAMES: usize = 8;

/// Flows that are translated at once; some 200 bytes each. A busy home has a few hundred.
pub const FLOWS: usize = 2048;
/// Buckets of each flow hash: twice the flows, so that a chain has hardly ever more than two; a power of two.
pub const FLOW_BUCKETS: usize = 4096;
/// First port on the WAN address that belongs to the router's own sockets and is never given to a flow.
pub const LOCAL_PORT_FIRST: u16 = 61_000;
/// Flows that one LAN host may have besides ended ones: three quarters, the rest is for the others.
pub const FLOWS_PER_HOST_MAX: usize = FLOWS / 4 * 3;
/// Flows that one LAN host may have without any answer yet; beyond, its own oldest one goes.
pub const FLOWS_FRESH_PER_HOST_MAX: usize = FLOWS / 4;
/// Flows that were opened from outside, all together: half, so that a crowd at a forwarded port leaves room.
pub const FLOWS_OUTSIDE_MAX: usize = FLOWS / 2;
/// Flows opened from outside that no LAN host has answered; beyond, the oldest of them goes.
pub const FLOWS_FRESH_OUTSIDE_MAX: usize = FLOWS / 8;
/// Flows opened from outside on one mapping, by addresses that its client sent to: a game or a call has a few.
pub const INBOUND_PER_MAPPING_MAX: u16 = 16;
/// Flows opened from outside on one forwarded port: a quarter of the table.
pub const INBOUND_PER_FORWARD_MAX: u16 = (FLOWS / 4) as u16;
/// ICMP errors and resets of the router's own to one LAN host in a second: enough for a traceroute, no amplifier.
pub const ERRORS_PER_SECOND_MAX: u8 = 50;
/// Entries looked at in one search for one that may be given away, and in one call of `poll`.
pub const FLOW_STEPS_MAX: usize = 64;

/// Fragmented datagrams from one side whose translation is remembered: at 8 Mbit/s and 9 KiB each, half a second of them.
pub const FRAGMENT_TRACKS: usize = 64;
/// Fragments from one side that wait for the first of their datagram; reordering is by a few packets.
pub const FRAGMENTS_HELD: usize = 8;
/// How long the rest of a datagram is expected: RFC 1122 section 3.3.2 has "60 to 120 seconds" for who reassembles; ours, shorter, so that an identification may come again.
pub const FRAGMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a fragment waits for the first of its datagram: far more than lines reorder.
pub const FRAGMENT_HOLD_TIMEOUT: Duration = Duration::from_secs(2);

/// An established connection without traffic: RFC 5382 REQ-5, "MUST NOT be less than 2 hours 4 minutes".
pub const TCP_ESTABLISHED_TIMEOUT: Duration = Duration::from_secs(2 * 3600 + 4 * 60);
/// One side has closed and nothing moves: ours; above the 4 minutes of RFC 5382 REQ-5.
pub const TCP_HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Partly open, closing, TIME-WAIT: RFC 5382 REQ-5, "MUST NOT be less than 4 minutes".
pub const TCP_TRANSITORY_TIMEOUT: Duration = Duration::from_secs(4 * 60);
/// After RST: RFC 7857 section 2.2, "SHOULD wait for 4 minutes before deleting the session".
pub const TCP_RESET_TIMEOUT: Duration = Duration::from_secs(4 * 60);
/// RFC 4787 REQ-5: "a value of five minutes or more for the default value … is RECOMMENDED".
pub const UDP_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Never answered: RFC 4787 REQ-5, "MUST NOT expire in less than two minutes".
pub const UDP_UNANSWERED_TIMEOUT: Duration = Duration::from_secs(2 * 60);
/// To port 53; RFC 4787 REQ-5 a) allows less for well-known ports. Resolvers give up within 30 s.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(30);
/// RFC 5508 REQ-2: an ICMP query session "MUST NOT expire in less than 60 seconds".
pub const ICMP_TIMEOUT: Duration = Duration::from_secs(60);
/// Only in a full table: an answered datagram flow that was silent so long may be given away.
pub const DATAGRAM_EVICT_IDLE: Duration = Duration::from_secs(30);
/// Only in a full table: an unanswered flow younger than this is spared while an older flow of a later class can go.
pub const FRESH_EVICT_IDLE: Duration = Duration::from_secs(10);
/// Only in a full table: a connection that was silent so long no longer counts as active.
pub const TCP_EVICT_IDLE: Duration = Duration::from_secs(15 * 60);

/// The shortest lease that is taken: below, renewing would be all the line does. Real ones start at two minutes.
pub const DHCP_LEASE_MIN: Duration = Duration::from_secs(10);
/// The least time until the first renewal; a smaller T1 (a server may say 0) is replaced by the default.
pub const DHCP_RENEW_MIN: Duration = Duration::from_secs(5);
/// Taken where an acknowledgment has no lease time, which RFC 2131 table 3 demands.
pub const DHCP_LEASE_DEFAULT: Duration = Duration::from_secs(120);
/// First wait for an offer, RFC 2131 section 4.1; a server may first ping the address for 3 s.
pub const DHCP_DISCOVER_TIMEOUT: Duration = Duration::from_secs(4);
/// Doublings of that wait: to 32 s and not to 64, because nobody tells when a cable is plugged in again.
pub const DHCP_DISCOVER_DOUBLINGS: u32 = 3;
/// Spread of that wait, up to, RFC 2131 section 4.1: one second less or more.
pub const DHCP_DISCOVER_SPREAD: Duration = Duration::from_secs(2);
/// The longest least time between two attempts to renew, RFC 2131 section 4.4.5; shorter for short leases.
pub const DHCP_RENEW_RETRY_MAX: Duration = Duration::from_secs(60);
/// Wait for a free transmit slot before the next try.
pub const DHCP_FULL_RETRY: Duration = Duration::from_millis(100);

/// Questions of the LAN that wait for a resolver; some 700 bytes each. A page that opens asks for 30.
pub const DNS_PENDING: usize = 64;
/// Of them, those of one host: half, the rest is for the others.
pub const DNS_PENDING_PER_HOST: usize = DNS_PENDING / 2;
/// Clients that wait for the same answer; the next asks again a few seconds later.
pub const DNS_WAITERS: usize = 8;
/// The longest question that is relayed, bytes: a name of 255, an OPT record with a cookie, padding (RFC 8467: to 128).
pub const DNS_QUERY_BYTES_MAX: usize = 512;
/// Answers kept; some 540 bytes each.
pub const DNS_CACHE_ENTRIES: usize = 64;
/// The longest answer kept, bytes: what a client without EDNS can take. Longer ones are relayed each time.
pub const DNS_CACHE_BYTES_MAX: usize = 512;
/// The largest answer that resolvers are asked for, bytes: never a fragment (DNS flag day 2020).
pub const DNS_UDP_BYTES: u16 = 1232;
/// Without an answer for so long the next resolver is asked; stub resolvers wait 5 s.
pub const DNS_RETRY: Duration = Duration::from_secs(2);
/// Without any answer for so long the client is told; it has asked again by then.
pub const DNS_GIVE_UP: Duration = Duration::from_secs(10);
/// Wait for a free transmit slot, or for ARP, before the next try.
pub const DNS_FULL_RETRY: Duration = Duration::from_millis(200);
/// An answer is kept no longer, RFC 8767 section 4 names a day as a common cap.
pub const DNS_TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// "There is none" is kept no longer: someone has just made that name, RFC 2308 section 5 allows up to 3 hours.
pub const DNS_NEGATIVE_TTL_MAX: Duration = Duration::from_secs(15 * 60);
/// TTL of names of this house: a host that comes back with another address is found after a minute.
pub const DNS_LOCAL_TTL: Duration = Duration::from_secs(60);
/// The largest payload of a datagram of the router's own, bytes: a frame's, without the headers.
pub const UDP_PAYLOAD_MAX: u16 = (FRAME_BYTES_MAX - 14 - 20 - 8) as u16;

/// Exchanges split at once; a seventh download is plain. Each guarantees itself at least 256 KiB of blocks.
pub const EXCHANGES_MAX: usize = 6;
/// Origin connections this router keeps for neighbours.
pub const LENDINGS_MAX: usize = 6;
/// Sockets of the router's own towards origins.
pub const FETCH_SOCKETS: usize = EXCHANGES_MAX + LENDINGS_MAX;
/// Sockets of the stack: the cost of a pass is linear in them (205 instructions each).
pub const SOCKETS: usize = FETCH_SOCKETS + PEERS_MAX;
/// Receive ring of a fetch: 20 Mbit/s over 50 ms, bytes.
pub const FETCH_RX_BYTES: usize = 128 * 1024;
/// The longest request the router writes itself: a client's head and a Range field, bytes.
pub const REQUEST_BYTES_MAX: usize = REQUEST_HEAD_BYTES_MAX + 256;
/// Send ring of a fetch: two requests, bytes.
pub const FETCH_TX_BYTES: usize = 2 * REQUEST_BYTES_MAX;
/// Receive ring of a peer session: 25 Mbit/s for 20 ms, bytes.
pub const PEER_RX_BYTES: usize = 64 * 1024;
/// Send ring of a peer session: two requests, bytes.
pub const PEER_TX_BYTES: usize = 2 * (PEER_MESSAGE_BYTES_MAX + 64);
/// TCP port on which neighbours are served, on the air only.
pub const PEER_PORT: u16 = 4377;
/// Last port of the router's own sockets.
pub const LOCAL_PORT_LAST: u16 = 65535;

/// The longest body of a stored record, bytes: what a slot of leases takes, see [`STORE_SLOTS_LEASES`].
pub const STORE_BODY_BYTES_MAX: usize = 8160;
/// Settings records that a sector of 64 KiB takes: 2 KiB each; 100,000 erases are then 6.4 million saves.
pub const STORE_SLOTS_SETTINGS: u32 = 32;
/// Lease records that a sector of 64 KiB takes: 8 KiB each.
pub const STORE_SLOTS_LEASES: u32 = 8;
/// Seed records that a sector of 64 KiB takes: 124 bytes each, one a boot.
pub const STORE_SLOTS_SEED: u32 = 512;
/// The stored form of settings, bytes; with every list full it has about 500.
pub const SETTINGS_BYTES_MAX: usize = 1024;
/// Erases that a sector stands: data sheets of the boards' chips say 100,000.
pub const SECTOR_ERASES_MAX: u32 = 100_000;
/// Lease saves that may follow each other at once: a household coming home.
pub const LEASE_SAVES_AT_ONCE: u8 = 16;
/// One more lease save in each such time: 52,560 a year, 3,300 erases of each sector, 30 years.
pub const LEASE_SAVE_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// How often a sector's erase is looked at; it takes 0.7 s typically.
pub const STORE_ERASE_LOOK: Duration = Duration::from_millis(5);
/// Longest save at boot: an erase of the slowest chip, 20 s, and the record.
pub const STORE_SAVE_TIMEOUT: Duration = Duration::from_secs(30);

/// The main loop must come round in this time, µs, or the machine is reset: twice its longest sleep (4 s). A turn takes
/// milliseconds; the longest thing done in one is a report on a console that does not move.
pub const WATCHDOG_US: u32 = 8_000_000;
/// How often lights and display are brought up to date: faster than an eye asks for.
pub const PANEL_INTERVAL: Duration = Duration::from_millis(250);
/// A button is down or up once it has been so for this long: contacts bounce for some 10 ms.
pub const BUTTON_DEBOUNCE: Duration = Duration::from_millis(50);
/// How often a button is looked at while nothing else wakes the machine; a press shorter than this may be missed.
pub const BUTTON_LOOK: Duration = Duration::from_millis(100);
/// A button held so long asks for the factory's settings; shorter, for a reboot.
pub const BUTTON_LONG: Duration = Duration::from_secs(5);
/// Arrivals of frames after a boot whose times all go into the random numbers: two bits each would fill a key.
pub const ARRIVALS_ABSORBED: u8 = 128;
/// Later one arrival in so long goes in: costs nothing, and undoes a state that leaked.
pub const ABSORB_INTERVAL: Duration = Duration::from_secs(60);

/// Blocks of the stitch pool that a received image may take: a whole slot of the flash (1.75 MiB).
pub const UPGRADE_BLOCKS_MAX: usize = 448;
/// How long `upgrade` waits for somebody to begin sending: time to find the file and type a command.
pub const UPGRADE_ARMED: Duration = Duration::from_secs(120);
/// The longest transfer: XMODEM of a whole slot at 115200 bit/s takes three minutes.
pub const UPGRADE_TRANSFER_MAX: Duration = Duration::from_secs(600);
/// A new image that has run so long is confirmed; a crash before that counts as a failed trial. Longer than a boot with
/// DHCP takes, shorter than people wait before they pull the plug.
pub const UPGRADE_CONFIRM_AFTER: Duration = Duration::from_secs(60);
/// Bytes of flash programmed or read back in one turn of the main loop: about a millisecond on NOR flash.
pub const UPGRADE_CHUNK_BYTES: usize = 256;
/// Largest TFTP block agreed to: an Ethernet frame without fragments (1500 - 20 - 8 - 4), bytes.
pub const TFTP_BLOCK_BYTES_MAX: u16 = 1468;
/// Silence after which TFTP's last answer is sent again, unless the sender asks for another time.
pub const TFTP_TIMEOUT: Duration = Duration::from_secs(1);
/// Answers sent again in one silence before the transfer is given up.
pub const TFTP_RETRIES: u8 = 6;
/// How long a finished TFTP transfer still answers: the last answer may be lost, and the sender asks again.
pub const TFTP_DALLY: Duration = Duration::from_secs(3);
/// A duplicate that comes sooner after our answer was doubled by the network, not sent again for want of that answer:
/// it is not answered, which keeps a sorcerer's apprentice from doubling the rest.
pub const TFTP_DUPLICATE_GAP: Duration = Duration::from_millis(100);
/// How often XMODEM's receiver asks for the first block.
pub const XMODEM_ASK_INTERVAL: Duration = Duration::from_secs(3);
/// Silence between two XMODEM blocks after which the last answer is repeated (the protocol's 10 s).
pub const XMODEM_BLOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence within a block after which it is asked for again (the protocol's 1 s).
pub const XMODEM_BYTE_TIMEOUT: Duration = Duration::from_secs(1);
/// Errors in a row before XMODEM is given up (the protocol's 10).
pub const XMODEM_RETRIES: u8 = 10;

/// All large tables of a router; placed by the board, borrowed by [`Router`](crate::router::Router).
pub struct Memory {
    /// Bytes held for clients and peers.
    pub blocks: [Block; STITCH_BLOCKS],
    /// Who has which address on each port.
    pub neighbors: Neighbors,
    /// Who talks to whom.
    pub conntrack: Table,
    /// Datagrams in pieces.
    pub fragments: Fragments,
    /// Rings of the router's own sockets.
    pub buffers: Buffers,
    /// Exchanges.
    pub exchanges: exchange::Slots,
    /// Sessions and connections of the lender.
    pub lender: lender::Slots,
    /// Neighbours to borrow from.
    pub peers: heapless::Vec<Peer, PEERS_MAX>,
    /// What happened lately.
    pub log: Log,
    /// The WAN's DHCP client.
    pub dhcp: crate::dhcp::client::Storage,
    /// The serial console: what is typed, its history.
    pub console: Console,
    /// The LAN's DHCP server: who has which address.
    pub dhcp_server: crate::dhcp::server::Server,
    /// The LAN's resolver: answers kept, questions on their way.
    pub dns: crate::dns::Relay,
}

impl Memory {
    /// All empty; usable as a static's initial value.
    pub const fn new() -> Self {
        Self {
            blocks: [const { Block::EMPTY }; STITCH_BLOCKS],
            neighbors: Neighbors::new(),
            conntrack: Table::EMPTY,
            fragments: Fragments::EMPTY,
            buffers: Buffers::new(),
            exchanges: exchange::Slots::new(),
            lender: lender::Slots::new(),
            peers: heapless::Vec::new(),
            log: Log::new(),
            dhcp: crate::dhcp::client::Storage::new(),
            console: Console::new(),
            dhcp_server: crate::dhcp::server::Server::new(),
            dns: crate::dns::Relay::new(),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

const _: () = assert!(core::mem::size_of::<Memory>() < BOARD_RAM * 3 / 4);
