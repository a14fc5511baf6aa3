//! Every capacity, timeout, interval and rate of the router, with its reason, asserted against the board's RAM.
//!
//! Elsewhere stand numbers that a protocol or a stored form fixes, and counts that follow from those here. The drivers
//! (`hal-mips`) know nothing of a router: their waits and rings are constants beside each driver, with their reasons,
//! and so are those of the loader. A test of `qemu` looks for others.

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
/// First host of the LAN's pool unless set: below are addresses that people give by hand.
pub const POOL_HOST_FIRST: u32 = 100;
/// Last host of the LAN's pool unless set: 100 in all, which a home does not use up.
pub const POOL_HOST_LAST: u32 = 199;
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
/// A console line, bytes: `set lan.reservations` with every place taken needs 600. Longer ones are refused whole.
pub const CONSOLE_LINE_BYTES_MAX: usize = 640;
/// Lines given before, on the console: some sixty, or the three longest, bytes.
pub const CONSOLE_HISTORY_BYTES: usize = 2048;
/// Typed bytes that wait while a listing or a ping runs: two lines; beyond, the board leaves them in the UART, bytes.
pub const CONSOLE_INPUT_BYTES: usize = 1280;
/// Free places of the output before a command begins: the longest answer that is not a listing, `status`, bytes.
pub const CONSOLE_ANSWER_BYTES: usize = 2560;
/// Free places of the output before a row, a notice or a key's echo, bytes.
pub const CONSOLE_ROW_BYTES: usize = 1280;
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
/// Reports of `ping` that wait for the console; more arrive only while it is not read.
pub const PING_REPORTS: usize = 4;
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
/// Lent flows that one neighbour may have besides ended ones: one a download, twice over while old ones end.
pub const LENT_FLOWS_MAX: usize = 16;
/// Lent flows of one neighbour that no origin has answered yet; beyond, its own oldest one goes.
pub const LENT_FLOWS_FRESH_MAX: usize = 8;
/// Lent flows that one neighbour may open in a second: a download that is split opens one, and a scanner wants thousands.
pub const LENT_OPENS_PER_SECOND_MAX: u8 = 8;
/// The span over which [`LENT_OPENS_PER_SECOND_MAX`] is counted.
pub const LENT_OPENS_SPAN: Duration = Duration::from_secs(1);
/// A lent flow without traffic, in whatever state: the neighbour gives an idle connection up in a few seconds
/// ([`FETCH_IDLE_TIMEOUT`]), and one that was reset has forgotten its own.
pub const LENT_TIMEOUT: Duration = Duration::from_secs(30);
/// ICMP errors and resets of the router's own to one LAN host in a second: enough for a traceroute, no amplifier.
pub const ERRORS_PER_SECOND_MAX: u8 = 50;
/// The span over which [`ERRORS_PER_SECOND_MAX`] is counted.
pub const ERRORS_SPAN: Duration = Duration::from_secs(1);
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
/// The shortest least time between two attempts to renew, for leases of seconds.
pub const DHCP_RENEW_RETRY_MIN: Duration = Duration::from_secs(2);
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
pub const SOCKETS: usize = FETCH_SOCKETS + 2 * PEERS_MAX;
/// Receive ring of a connection that leads through a neighbour: 15 Mbit/s over 50 ms, bytes.
pub const NAT_RX_BYTES: usize = 96 * 1024;
/// How long a neighbour is asked to relay after a connection through it did not open: it may not lend so.
pub const NAT_AGAIN: Duration = Duration::from_secs(60);
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
/// Bytes of flash programmed or read back by one step of an upgrade; the driver goes on with what takes long. A power of
/// two, so that no step crosses the border of a sector or of a larger write buffer.
pub const UPGRADE_CHUNK_BYTES: usize = 1024;
/// How long steps of an upgrade may follow one another within a turn of the main loop. With the step that is under way
/// when it is over (half a millisecond of bus cycles) less than the 64 receive slots of a card last at 100 Mbit/s in
/// full frames: who is upgraded forwards on.
pub const UPGRADE_TURN: Duration = Duration::from_millis(1);
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

// Exchanges: deadlines and patience.
/// The held GET leaves at the latest this long after its first byte came (FAULTS O8): a person hardly sees one second, and a
/// HEAD over the slowest line usually is back.
pub const EXCHANGE_HOLD_MAX: Duration = Duration::from_millis(1000);
/// Reorder windows of an exchange that are tried in turn, in blocks: 1 MiB if the pool can promise it, 256 KiB at least.
pub const WINDOW_BLOCKS: [usize; 3] = [256, 128, 64];
/// A link that failed this often in one exchange is not asked again in it: once can be a lost packet, three times is the link.
pub const LINK_FAILURES_MAX: u8 = 3;
/// The own line's origin refused or broke off so often in a row, without a byte: it will not serve this object.
pub const OWN_FAULTS_MAX: u8 = 2;
/// How often the time that a lone own line may be silent doubles: 2 s to 16 s.
pub const STALL_DOUBLINGS_MAX: u8 = 3;
/// Pause before a link that failed is asked again: some round trips, and far below the client's own timeout.
pub const LINK_PAUSE: Duration = Duration::from_millis(300);
/// How long the client may take to close after our FIN was acknowledged; its flow then ends, its exchange's place is free.
pub const CLIENT_CLOSING_MAX: Duration = Duration::from_secs(10);
/// The client's stream ends if no link brought a byte for this long: below the 60 s after which most clients give up.
pub const CLIENT_STARVED_MAX: Duration = Duration::from_secs(30);
/// Taken for a line's rate while none is known, bytes/s: 8 Mbit/s. Too much costs a neighbour's first range, too little
/// moves the place where it goes on.
pub const RACE_RATE_ASSUMED: u64 = 1_000_000;
/// What a neighbour must have brought before the origin's connection is given up for it, bytes: more than one that only
/// begins, less than its first range.
pub const RACE_PROOF_BYTES: u64 = 8 * 1024;
/// The end of a response is not worth a neighbour's connection below this, bytes: two round trips of a slow line.
pub const RACE_PART_BYTES_MIN: u64 = 32 * 1024;
/// Neighbours go on at the latest here in a response, bytes: positions then fit sequence arithmetic with room to spare.
pub const RACE_CUT_BYTES_MAX: u64 = 16 << 20;
/// What the origin has in flight at least, bytes: it must not come closer to the cut before somebody goes on there.
pub const RACE_GUARD_BYTES_MIN: u64 = 16 * 1024;
/// How often the cut moves before a late neighbour's help is given up: each time farther, 480 KiB in all.
pub const RACE_RAISES_MAX: u8 = 4;
/// How far the cut moves the first time, bytes; each time twice as far.
pub const RACE_RAISE_BYTES: u64 = 32 * 1024;
/// The window that an origin is told before its reply is seen, bytes: the most that a SYN can say, and more than any
/// origin sends at first.
pub const HANDSHAKE_WINDOW_MAX: u64 = 65_535;
/// The longest reply behind which the next request of a connection is looked for, bytes: a quarter of the sequence
/// space, so that positions before and behind its end are never mistaken for each other.
pub const FOLLOW_BYTES_MAX: u64 = 1 << 30;
/// A flow without a whole request, or without a reply, is left alone after this: origins that think longer exist, but
/// their exchange's place is worth more.
pub const LISTEN_TIMEOUT: Duration = Duration::from_secs(60);
/// A response of which the client reads nothing is left to its origin after this.
pub const RACE_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Round trips from asking a neighbour until its first bytes: connection and request.
pub const RACE_PEER_ROUND_TRIPS: u64 = 2;
/// The own second connection begins so many round trips before the cut: connection, request, slow start.
pub const RACE_OWN_ROUND_TRIPS: u64 = 5;
/// From a request to its reply is taken for a round trip, but no more than this, µs: an origin that thinks must not move
/// the cut away.
pub const RACE_RTT_US_MAX: u64 = 400_000;
/// Path of a download that `why` shows, bytes: what an 80-column row has room for.
pub const WHY_TEXT_BYTES: usize = 64;
/// Downloads remembered for `why`: half a screen.
pub const DECLINED_DOWNLOADS_MAX: usize = 8;
/// Clients whose help is counted: as many hosts as a home has; the one idle longest gives way.
pub const SAVED_CLIENTS_MAX: usize = 32;
/// Segments sent to one client or neighbour a call: a quarter of a port's ring, so that other flows find room.
pub const SEND_BURST_MAX: usize = 16;
/// The router's own streams add to a port's queue only while fewer frames wait there, so that a frame of somebody else
/// waits for no more than these: 2 ms on a LAN of 100 Mbit/s, 8 ms on an air of 25. Twice what leaves in
/// [`PORT_FULL_WAIT`] at 100 Mbit/s, so that no port runs dry meanwhile.
pub const BULK_FRAMES_QUEUED_MAX: usize = 16;
/// When a full port is tried again: at 100 Mbit/s eight frames have left by then.
pub const PORT_FULL_WAIT: Duration = Duration::from_millis(1);

// Ranges.
/// Ranges under way on one link: one arriving, one behind it so that the line never idles a round trip.
pub const ASKS_PER_LINK: usize = 2;
/// Size of a range while a link's rate is unknown, bytes: two of them cover 8 Mbit/s over 100 ms.
pub const RANGE_BYTES_FIRST: u64 = 64 * 1024;
/// Smallest range worth a request head in each direction, bytes.
pub const RANGE_BYTES_MIN: u64 = 8 * 1024;
/// Largest range, bytes: bounds what one slow link can keep the others waiting for.
pub const RANGE_BYTES_MAX: u64 = 256 * 1024;
/// A range should last this long, so that two in flight cover the round trips of a home line, µs.
pub const RANGE_TIME_US: u64 = 200_000;
/// Shortest such range where the round trip is known, µs: the head of a request and of its reply are 0.3 % of it at
/// 8 Mbit/s, and two of them delay what is urgent by a quarter of a second.
pub const RANGE_TIME_US_MIN: u64 = 125_000;
/// A range lasts so many round trips, within these bounds: the next one is asked for when one of two is through.
pub const RANGE_ROUND_TRIPS: u64 = 2;
/// A link that works is late after so many round trips without a byte: a lost packet is back within two.
pub const HEDGE_ROUND_TRIPS: u64 = 2;
/// And so many times the longest silence it showed lately.
pub const HEDGE_GAPS: u64 = 4;
/// Late no sooner than this, µs: bursts and a busy air are shorter.
pub const HEDGE_US_MIN: u64 = 100_000;
/// Late by then in any case, µs: with what the other link has to bring first, a client pauses less than half a second.
pub const HEDGE_US_MAX: u64 = 200_000;
/// A link that has just been asked is late after so many round trips: connection, request, and as much again.
pub const HEDGE_ANSWER_ROUND_TRIPS: u64 = 5;
/// Between half of this and this, µs; the whole while the round trip is unknown.
pub const HEDGE_ANSWER_US: u64 = 500_000;
/// Bytes of one exchange that may come twice because a link was late, beside one in [`HEDGE_SHARE`] of the response; when
/// they have, silence is waited out: two of the largest ranges.
pub const HEDGE_BYTES: u64 = 512 * 1024;
/// The part of a response that may come twice, see [`HEDGE_BYTES`].
pub const HEDGE_SHARE: u64 = 32;
/// Facts about origin hosts that are remembered: a household downloads large files from a handful of hosts at a time.
pub const HOST_FACTS_MAX: usize = 16;
/// How long a host's habit is believed: servers change seldom, and a user who waits that long asks again anyway.
pub const HOST_MEMORY: Duration = Duration::from_secs(10 * 60);
/// How long a host that wants fewer requests is spared (FAULTS K11): what servers mostly tell in `Retry-After` is less.
pub const HOST_BUSY: Duration = Duration::from_secs(120);
/// A link that brings nothing for this long loses its ranges (FAULTS K5): longer than an origin takes to send a lost
/// packet again, so that a lost packet is no lost link.
pub const LINK_STALL: Duration = Duration::from_millis(2000);
/// A link slower than the best by this factor gets no further range (FAULTS K7): its smallest range would be the last to come.
pub const RATE_RATIO_MAX: u64 = 20;
/// Spans that can wait to be asked again; more are merged with what lies between them.
pub const RANGES_RETURNED_MAX: usize = 16;

// Connections of the router's own.
/// No data for this long ends a connection of the router's own: several times the silence after which its range is
/// fetched by another link, so this is for what everyone else forgot.
pub const SOCKET_TIMEOUT: Duration = Duration::from_secs(20);
/// A local port is so many behind the last one, at most (RFC 6056 section 3.3.5, random increments): not to be guessed
/// exactly, and not used again before some 140 connections, when an origin's TIME-WAIT is over.
pub const LOCAL_PORT_STEP_MAX: u32 = 64;
/// Egress passes a call: each sends at most one packet a socket, so half a port's ring for one socket at most.
pub const EGRESS_PASSES_MAX: usize = 8;
/// Requests in flight on one connection: [`ASKS_PER_LINK`], and one that was given up and still arrives.
pub const FETCH_ASKS_MAX: usize = 3;
/// How long a connection to an origin may take to open: a second SYN, sent after 1 s, still has 2 s for its answer.
pub const FETCH_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Between attempts to connect while the socket's last reset has not been sent: one turn of the main loop sends it.
pub const CONNECT_AGAIN: Duration = Duration::from_millis(2);
/// How long an orderly close may take before the connection is reset: the socket is wanted for the next fetch.
pub const FETCH_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an unused connection is kept for the next request (servers close after 5 s and more).
pub const FETCH_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

// Neighbours.
/// Between attempts to reach a peer that is down: one small packet a second on the air, and it is back soon after it boots.
pub const PEER_RETRY: Duration = Duration::from_millis(1000);
/// How long opening and greeting may take: a SYN lost on the air is sent again after 1 s.
pub const PEER_GREETING_TIMEOUT: Duration = Duration::from_millis(2000);
/// A ping this often shows that a silent session is alive: three may be lost within [`PEER_SILENCE_MAX`].
pub const PEER_PING_INTERVAL: Duration = Duration::from_millis(500);
/// A session that is silent this long in spite of pings is over; downloads go on by the own line.
pub const PEER_SILENCE_MAX: Duration = Duration::from_millis(2000);
/// Messages taken from a peer a call, so that one peer cannot hold the loop.
pub const PEER_EVENTS_MAX: usize = 64;
/// Bytes a session may hold for a neighbour until acknowledged: 25 Mbit/s for 60 ms.
pub const LENDER_STREAM_BYTES_MAX: u64 = 192 * 1024;
/// Room kept in a session's stream for messages that are not data, bytes: some twenty of the longest.
pub const LENDER_CONTROL_BYTES: u64 = 1024;
/// Largest run of body bytes in one `Data` message, bytes: a block of the pool, so that another range's bytes soon follow.
pub const LENDER_DATA_BYTES_MAX: usize = 4096;
/// Requests that wait for a lending's connection to open: what a link has in flight, [`ASKS_PER_LINK`].
pub const LENDING_WAITING_MAX: usize = 2;
/// A lending whose origin brings nothing for this long is given up: twice [`LINK_STALL`], after which the borrower has gone
/// elsewhere anyway.
pub const LENDING_STALL: Duration = Duration::from_secs(4);
/// Messages taken from a session a call, so that one neighbour cannot hold the loop; more than it has ranges in flight.
pub const LENDER_MESSAGES_MAX: usize = 16;

// The TCP sender of clients' streams and of the air.
/// Retransmission timeout before the first sample, RFC 6298 section 2.1, µs.
pub const RTO_INITIAL_US: u32 = 1_000_000;
/// No sample and no timeout is longer (RFC 6298 section 2.5: a bound of at least 60 s), µs.
pub const RTO_MAX_US: u32 = 60_000_000;
/// How long a smallest round trip stays the smallest, at least: a path may grow longer.
pub const RTT_MIN_WINDOW: Duration = Duration::from_secs(10);
/// Least retransmission timeout. RFC 6298 says 1 s; 200 ms is above every delayed ACK in use
/// (Linux 40 ms, Windows and macOS up to 200 ms) and what other stacks do.
pub const SENDER_RTO_MIN: Duration = Duration::from_millis(200);
/// Largest timeout after backing off, towards clients: RFC 6298 section 2.5 wants 60 s at least.
pub const SENDER_RTO_MAX: Duration = Duration::from_secs(60);
/// Without progress for so long a client is given up: RFC 9293 section 3.8.3 wants 100 s at least.
pub const SENDER_GIVE_UP: Duration = Duration::from_secs(100);
/// Most bytes ever in flight to one client: half of what its stream may hold.
pub const SENDER_FLIGHT_BYTES_MAX: u32 = 1 << 20;
/// Duplicate ACKs that show a loss on paths that reorder, at most: a window of a home line.
pub const SENDER_DUP_THRESHOLD_MAX: u32 = 100;
/// Longest an ACK may be withheld (RFC 1122 section 4.2.3.2 says 500 ms; RFC 8985 assumes 200 ms).
pub const SENDER_ACK_DELAY_MAX: Duration = Duration::from_millis(200);
/// Least wait for a reordered segment: the timer is not finer than the main loop.
pub const SENDER_REORDER_WAIT_MIN: Duration = Duration::from_millis(2);
/// Attempts that must fail before the other side is given up, whatever the time: the first two can be one burst of losses.
pub const SENDER_ATTEMPTS_MIN: u8 = 3;
/// Tries of a neighbour's SYN and ACK, each after twice as long as the one before: 31 s, as other systems.
pub const PEER_TCP_SYN_TRIES: u8 = 5;
/// Wait after the first of them, RFC 6298 section 2.1.
pub const PEER_TCP_SYN_WAIT: Duration = Duration::from_millis(1_000);
/// Longest an ACK to a neighbour waits for data to ride on (RFC 1122: below 500 ms); what Linux has.
pub const PEER_TCP_ACK_DELAY: Duration = Duration::from_millis(40);
/// Without progress for so long the neighbour is gone: its range is wanted from another link.
pub const PEER_TCP_GIVE_UP: Duration = Duration::from_secs(4);
/// Largest retransmission timeout on the air: one hop, and a link that comes back is used at once.
pub const PEER_TCP_RTO_MAX: Duration = Duration::from_millis(1_000);
/// Silence after which a neighbour's TCP is asked whether it lives: its own pings come each [`PEER_PING_INTERVAL`].
pub const PEER_TCP_KEEP_ALIVE_AFTER: Duration = Duration::from_secs(3);
/// From one such question to the next.
pub const PEER_TCP_KEEP_ALIVE_EVERY: Duration = Duration::from_millis(1_500);
/// Such questions without an answer before the connection is over: 9 s of silence in all.
pub const PEER_TCP_KEEP_ALIVE_TRIES: u8 = 4;
/// TIME-WAIT and the longest FIN-WAIT-2 on the air. One hop keeps no segment for RFC 9293's 4 minutes.
pub const PEER_TCP_LINGER: Duration = Duration::from_secs(10);
/// At most one challenge ACK in this time (RFC 5961 section 7).
pub const PEER_TCP_CHALLENGE_EVERY: Duration = Duration::from_millis(500);

// ARP, and the WAN's DHCP client.
/// How long an answer is believed before it is asked for again. RFC 1122 section 2.3.2.1 has "on the order of a minute";
/// half of it, since the question goes to one station only.
pub const NEIGHBOR_REFRESH_AFTER: Duration = Duration::from_secs(30);
/// "The recommended maximum rate is 1 per second per destination" (RFC 1122 section 2.3.2.1).
pub const ARP_ASK_INTERVAL: Duration = Duration::from_secs(1);
/// Broadcast questions before an address counts as nobody's: two may be lost, and nobody waits longer than 3 s.
pub const ARP_ASKS_MAX: u8 = 3;
/// Questions to the known neighbor alone before all are asked: one may be lost.
pub const ARP_UNICAST_ASKS: u8 = 2;
/// Frames that may wait for one address, so that one silent neighbor cannot take the store.
pub const HELD_FRAMES_EACH: usize = HELD_FRAMES / 2;
/// Questions for new addresses that may leave in one [`ARP_ASK_INTERVAL`]: a scan of our net by a LAN host must not
/// become a broadcast storm.
pub const ARP_NEW_ASKS_PER_INTERVAL: u8 = 32;
/// Passes of the DHCP client's socket a call, each with one frame: a question for the server's address, the message itself,
/// and as many again.
pub const DHCP_PASSES_MAX: usize = 4;
/// Events between two looks of the router at its DHCP client; a call of the client makes two at most.
pub const DHCP_EVENTS: usize = 4;
/// The largest frame in or out of the DHCP client's socket, bytes: 240 of DHCP and a few options; what a server sends is
/// rewritten to what is read.
pub const DHCP_FRAME_BYTES_MAX: usize = 400;

// NAT.
/// Tries for a free port. At most `FLOWS` of some 60,000 are taken, so each try fails with less
/// than 4 %.
pub const PORT_TRIES: usize = 16;
/// Slots of the flows' timer wheel, a second each: a turn of 256 s, so that all but established flows fit one turn.
pub const TIMER_WHEEL_SLOTS: usize = 256;
/// Polls that one byte of `Router::on_console_byte` sets off, at most: every listing is over by then.
pub const CONSOLE_POLLS_MAX: usize = 1024;

// Settings, store, upgrade.
/// Characters of a setting's longest value: sixteen reservations of 34 each.
pub const SETTING_CHARACTERS_MAX: usize = 640;
/// Bytes of flash read, compared or programmed in one call of the store: about a millisecond on NOR flash.
pub const STORE_CHUNK_BYTES: usize = 256;
/// Slots of one sector that are tried in one save: a cell that is worn seldom has a worn neighbour.
pub const STORE_SLOT_TRIES: u8 = 2;
/// Records offered to their reader at boot, from the newest on: each was whole, so a second one is hardly ever needed.
pub const STORE_OFFERS_MAX: usize = 8;
/// Most bytes XMODEM sends after a call: an answer is one byte, giving up is five and as many backspaces.
pub const XMODEM_ANSWER_BYTES: usize = 16;
/// Starts that an unconfirmed image is given: one may end by a power cut, two hardly do.
pub const UPGRADE_TRIALS: usize = 3;
/// Longest text of a TFTP error, bytes: one line of a terminal.
pub const TFTP_TEXT_BYTES: usize = 80;
/// Option names and values that TFTP answers, bytes: three options of at most 7 + 1 + 10 + 1.
pub const TFTP_OPTIONS_BYTES: usize = 64;
/// Words of a command: the longest have four; beyond is an error.
pub const CONSOLE_WORDS_MAX: usize = 6;

// The board's main loop.
/// Console output that may wait, bytes: a screen of 80 columns and [`CONSOLE_ANSWER_BYTES`] behind it; 0.7 s of the line.
pub const CONSOLE_OUTPUT_BYTES: usize = 8192;
/// Frames taken from one card before the next has its turn: a quarter of its ring.
pub const RECEIVE_BURST: usize = 16;
/// Console bytes read, and bytes of console and of log sent, in one turn. A UART holds 16, and 115200 bit/s are 12 in a
/// millisecond; a line that knows no such limit may take as long as a burst of frames.
pub const SERIAL_BURST_BYTES: usize = 256;
/// Timings taken at boot for the random numbers: half a bit each would make a key.
pub const JITTER_READINGS: usize = 512;
/// Longest wait for console output before a reboot that was asked for, µs: [`CONSOLE_OUTPUT_BYTES`] take 0.7 s.
pub const GOODBYE_US: u64 = 1_000_000;

/// All large tables of a router; placed by the board, borrowed by [`Router`](crate::router::Router).
pub struct Memory {
    /// Bytes held for clients and peers.
    pub blocks: [Block; STITCH_BLOCKS],
    /// Blocks that no stream gets: how a router fares with less memory can be tried.
    pub blocks_spared: usize,
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
            blocks_spared: 0,
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
