//! Fragments: those that come, and those that the line's MTU makes.
//!
//! Follows: RFC 4787 REQ-13 (too long for the line) and REQ-14 ("Received Fragment Out of Order"),
//! RFC 791 section 3.2 (fragmentation), RFC 1858 and RFC 3128 (fragments as an attack), RFC 6864
//! section 5.3.1 (identification behind a translator).
//! Units: bytes; fragment offsets in bytes, too.
//! Budget: 1.6 KiB × `FRAGMENTS_HELD` and 48 bytes × `FRAGMENT_TRACKS`, for each side.
//!
//! Nothing is reassembled. The first fragment of a datagram has the ports: it is translated as any
//! packet, and what became of its addresses is remembered for the others (a track). Those that come
//! before the first wait; what waits or is remembered too long, or too much of it, makes place for the
//! newest, so that a flood of fragments costs no more than other fragments that are out of order.
//! WAN and LAN have stores of their own.
//!
//! | fragment | is |
//! | --- | --- |
//! | first, of a flow | translated, tracked; those that waited follow it |
//! | first, of no flow | dropped as any packet of no flow |
//! | later, tracked | its addresses translated |
//! | later, not tracked | held for `FRAGMENT_HOLD_TIMEOUT` |
//! | TCP, with SYN, FIN, RST, or of a connection that has an exchange or is not established | refused |
//! | TCP, later, inside where a header may be | refused (RFC 3128) |
//!
//! Datagrams that leave in fragments get an identification of ours: two hosts of the LAN may use the same.
//!
//! Not done: options of a datagram that is cut are in its first fragment only.

use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Address;

use super::forward::{Edit, Translation};
use super::{Counter, Router, Verdict};
use crate::budget::{
    FRAGMENT_HOLD_TIMEOUT, FRAGMENT_TIMEOUT, FRAGMENT_TRACKS, FRAGMENTS_HELD, FRAME_BYTES_MAX,
};
use crate::conntrack::{Direction, EntryId};
use crate::counter_stage;
use crate::counters::Counts;
use crate::port::{Egress, Port};
use crate::wire::checksum;
use crate::wire::packet::{ETHERNET_BYTES, IPV4_BYTES, PROTOCOL_TCP, Packet, TCP_BYTES};
use crate::wire::rewrite::{self, End};

counter_stage! {
    /// What became of fragments.
    pub enum FragmentCounter {
        /// First fragments translated and remembered.
        Tracked = "tracked",
        /// Later fragments translated.
        Followed = "followed",
        /// Later fragments that wait for their first.
        Held = "held",
        /// Held fragments that left behind their first.
        Released = "released",
        /// Held fragments whose first never came.
        HoldExpired = "hold-expired",
        /// Held fragments that made place for newer ones.
        HoldReplaced = "hold-replaced",
        /// Remembered datagrams that made place for newer ones.
        TrackReplaced = "track-replaced",
        /// Fragments that look like an attack, or lie outside their connection's window.
        Refused = "refused",
        /// Datagrams cut because the line takes less.
        Cut = "cut",
    }
}

/// What the fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    src: Ipv4Address,
    dst: Ipv4Address,
    ident: u16,
    protocol: u8,
}

impl Key {
    const NONE: Self = Self {
        src: Ipv4Address::UNSPECIFIED,
        dst: Ipv4Address::UNSPECIFIED,
        ident: 0,
        protocol: 0,
    };

    const fn of(packet: &Packet) -> Self {
        Self {
            src: packet.src,
            dst: packet.dst,
            ident: packet.ident,
            protocol: packet.protocol,
        }
    }
}

/// An `Option` whose empty form is all zero, so that a table of them is no part of the image:
/// `Option` itself writes its emptiness into a spare value of what it holds.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Maybe<T> {
    None,
    Some(T),
}

impl<T> From<Option<T>> for Maybe<T> {
    fn from(value: Option<T>) -> Self {
        match value {
            Some(value) => Maybe::Some(value),
            None => Maybe::None,
        }
    }
}

/// What became of a datagram's first fragment.
#[derive(Clone, Copy)]
struct Track {
    key: Key,
    /// [`Instant::ZERO`] when the place is free.
    until: Instant,
    edit: (End, Ipv4Address),
    other: Maybe<(End, Ipv4Address)>,
    egress: Port,
    to: Ipv4Address,
    ident: u16,
    /// Its connection, if TCP, and the sequence number of its byte 0.
    tcp: Maybe<(EntryId, Direction, u32)>,
    /// Order of arrival, wrapping.
    serial: u32,
    /// How much of it has come.
    missing: Missing,
}

/// How much of a datagram is still to come.
#[derive(Clone, Copy)]
struct Missing {
    seen_bytes: u32,
    /// Known from its last fragment.
    whole_bytes: Option<u32>,
}

impl Missing {
    const ALL: Self = Self {
        seen_bytes: 0,
        whole_bytes: None,
    };

    /// Notes a fragment; true when the datagram is whole. One that comes twice counts twice: then
    /// only time ends the track, or ends it early, and what follows waits for nothing.
    fn take(&mut self, packet: &Packet) -> bool {
        let len = u32::from(packet.ip_end - packet.l4);
        self.seen_bytes = self.seen_bytes.saturating_add(len);
        if !packet.more_fragments() {
            self.whole_bytes = Some(packet.fragment_offset() + len);
        }
        self.whole_bytes == Some(self.seen_bytes)
    }
}

impl Track {
    const FREE: Self = Self {
        key: Key::NONE,
        until: Instant::ZERO,
        edit: (End::Source, Ipv4Address::UNSPECIFIED),
        other: Maybe::None,
        egress: Port::Lan,
        to: Ipv4Address::UNSPECIFIED,
        ident: 0,
        tcp: Maybe::None,
        serial: 0,
        missing: Missing::ALL,
    };
}

#[derive(Clone, Copy)]
struct Held {
    key: Key,
    until: Instant,
    /// Order of arrival, wrapping.
    serial: u32,
    /// 0 when the place is free.
    len: u16,
    frame: [u8; FRAME_BYTES_MAX],
}

impl Held {
    const FREE: Self = Self {
        key: Key::NONE,
        until: Instant::ZERO,
        serial: 0,
        len: 0,
        frame: [0; FRAME_BYTES_MAX],
    };
}

/// Datagrams in pieces that came by one port.
struct Side {
    tracks: [Track; FRAGMENT_TRACKS],
    held: [Held; FRAGMENTS_HELD],
}

impl Side {
    const EMPTY: Self = Self {
        tracks: [Track::FREE; FRAGMENT_TRACKS],
        held: [Held::FREE; FRAGMENTS_HELD],
    };
}

/// All datagrams in pieces.
pub struct Fragments {
    lan: Side,
    wan: Side,
    /// Fragments that were remembered so far, wrapping.
    serial: u32,
    /// The last identification given to a datagram that leaves in fragments.
    ident: u16,
    counts: Counts<FragmentCounter>,
}

impl Fragments {
    /// None; all bytes zero.
    pub const EMPTY: Self = Self {
        lan: Side::EMPTY,
        wan: Side::EMPTY,
        serial: 0,
        ident: 0,
        counts: Counts::new(),
    };

    /// Forgets all, as after a change of an address.
    pub(super) fn clear(&mut self) {
        for side in [&mut self.lan, &mut self.wan] {
            side.tracks
                .iter_mut()
                .for_each(|track| track.until = Instant::ZERO);
            side.held.iter_mut().for_each(|held| held.len = 0);
        }
    }

    /// Starts identifications somewhere.
    pub(super) fn set_ident(&mut self, ident: u16) {
        self.clear();
        self.ident = ident;
    }

    /// What happened so far.
    pub(super) const fn counts(&self) -> &Counts<FragmentCounter> {
        &self.counts
    }

    const fn side(&mut self, ingress: Port) -> &mut Side {
        match ingress {
            Port::Lan => &mut self.lan,
            Port::Wan | Port::Air => &mut self.wan,
        }
    }

    fn next_ident(&mut self) -> u16 {
        self.ident = self.ident.wrapping_add(1);
        self.ident
    }

    fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    /// What became of the first fragment of this one's datagram.
    fn find(&mut self, now: Instant, ingress: Port, packet: &Packet) -> Option<Track> {
        let key = Key::of(packet);
        let tracks = &mut self.side(ingress).tracks;
        let found = tracks
            .iter_mut()
            .find(|track| track.until > now && track.key == key)?;
        let track = *found;
        if found.missing.take(packet) {
            found.until = Instant::ZERO;
        }
        Some(track)
    }

    /// Remembers a datagram, in the place of the same one, a free one, or the oldest.
    fn track(&mut self, now: Instant, ingress: Port, mut track: Track) {
        self.counts.bump(FragmentCounter::Tracked);
        track.serial = self.next_serial();
        let tracks = &mut self.side(ingress).tracks;
        let same = |old: &Track| old.until > now && old.key == track.key;
        let place = tracks
            .iter()
            .position(same)
            .or_else(|| tracks.iter().position(|old| old.until <= now));
        let is_replaced = place.is_none();
        let oldest = (0..FRAGMENT_TRACKS).max_by_key(|&i| age(track.serial, tracks[i].serial));
        if let Some(place) = place.or(oldest) {
            tracks[place] = track;
        }
        if is_replaced {
            self.counts.bump(FragmentCounter::TrackReplaced);
        }
    }

    /// Keeps a copy of a fragment that came before the first one.
    fn hold(&mut self, now: Instant, ingress: Port, key: Key, frame: &[u8]) {
        let serial = self.next_serial();
        let held = &mut self.side(ingress).held;
        let place = held
            .iter()
            .position(|held| held.len == 0 || held.until <= now);
        let oldest = (0..FRAGMENTS_HELD).max_by_key(|&i| age(serial, held[i].serial));
        let (Some(place), true) = (place.or(oldest), frame.len() <= FRAME_BYTES_MAX) else {
            return;
        };
        let slot = &mut held[place];
        let (was_held, expired) = (slot.len != 0, slot.until <= now);
        slot.key = key;
        slot.until = now + FRAGMENT_HOLD_TIMEOUT;
        slot.serial = serial;
        slot.len = frame.len() as u16;
        slot.frame[..frame.len()].copy_from_slice(frame);
        self.counts.bump(FragmentCounter::Held);
        if was_held {
            self.counts.bump(if expired {
                FragmentCounter::HoldExpired
            } else {
                FragmentCounter::HoldReplaced
            });
        }
    }

    /// Takes out the fragment of a datagram that has waited longest.
    fn release(&mut self, now: Instant, ingress: Port, key: &Key) -> Option<Held> {
        let serial = self.serial;
        let held = &mut self.side(ingress).held;
        let place = (0..FRAGMENTS_HELD)
            .filter(|&i| held[i].len != 0 && held[i].until > now && held[i].key == *key)
            .max_by_key(|&i| age(serial, held[i].serial))?;
        let taken = held[place];
        held[place].len = 0;
        Some(taken)
    }
}

/// How long ago something was remembered, in fragments.
const fn age(now: u32, then: u32) -> u32 {
    now.wrapping_sub(then)
}

impl Router<'_> {
    /// A fragment that is not the first.
    pub(super) fn on_later_fragment<E: Egress>(
        &mut self,
        now: Instant,
        ingress: Port,
        packet: &Packet,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let offset = packet.fragment_offset();
        let end = offset + u32::from(packet.ip_end - packet.l4);
        if packet.protocol == PROTOCOL_TCP && offset < TCP_BYTES as u32 || end > u32::from(u16::MAX)
        {
            self.fragments.counts.bump(FragmentCounter::Refused);
            return self.drop(Counter::Fragment);
        }
        if packet.ttl <= 1 {
            return self.drop(Counter::Expired);
        }
        let Some(track) = self.fragments.find(now, ingress, packet) else {
            self.fragments.hold(now, ingress, Key::of(packet), frame);
            return Verdict::Intercept;
        };
        self.follow(now, &track, packet, frame, out)
    }

    /// Sends a later fragment where its first one went.
    fn follow<E: Egress>(
        &mut self,
        now: Instant,
        track: &Track,
        packet: &Packet,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        if let Maybe::Some((id, direction, base)) = track.tcp {
            let end = packet.fragment_offset() + u32::from(packet.ip_end - packet.l4);
            let taken = self
                .conntrack
                .on_tcp_fragment(id, direction, base.wrapping_add(end));
            if taken.is_err() {
                self.fragments.counts.bump(FragmentCounter::Refused);
                return self.drop(Counter::Fragment);
            }
        }
        if self.is_too_long(track.egress, packet) && packet.dont_fragment() {
            return self.drop(Counter::TooLong);
        }
        if let Maybe::Some((end, address)) = track.other {
            rewrite::endpoint(frame, packet, end, address, 0);
        }
        rewrite::forward(frame, packet, track.edit.0, track.edit.1, 0);
        rewrite::set_ident(frame, track.ident);
        self.fragments.counts.bump(FragmentCounter::Followed);
        if self.is_too_long(track.egress, packet) {
            return self.cut(now, packet, track.egress, track.to, frame, out);
        }
        self.egress(now, track.egress, track.to, frame, out)
    }

    /// Sends on a rewritten frame that is a first fragment, is too long for the line, or both.
    pub(super) fn send_fragment<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        translation: &Translation,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let (egress, to) = (translation.egress, translation.to);
        let ident = match egress {
            Port::Wan => self.fragments.next_ident(),
            Port::Lan | Port::Air => packet.ident,
        };
        rewrite::set_ident(frame, ident);
        self.counts.bump(translation.counter);
        if !packet.is_fragment() {
            return self.cut(now, packet, egress, to, frame, out);
        }
        let edit = |edit: Edit| (edit.end, edit.address);
        let key = Key::of(packet);
        let mut missing = Missing::ALL;
        missing.take(packet);
        let track = Track {
            key,
            serial: 0,
            missing,
            until: now + FRAGMENT_TIMEOUT,
            edit: edit(translation.edit),
            other: translation.other.map(edit).into(),
            egress,
            to,
            ident,
            tcp: packet
                .tcp()
                .map(|tcp| {
                    // Where byte 0 of the segment, its header, would lie in sequence space.
                    let header = u32::from(tcp.payload - packet.l4);
                    (
                        translation.id,
                        translation.direction,
                        tcp.seq.wrapping_sub(header),
                    )
                })
                .into(),
        };
        let ingress = translation.ingress;
        self.fragments.track(now, ingress, track);
        let Some(mut held) = self.fragments.release(now, ingress, &key) else {
            if self.is_too_long(egress, packet) {
                return self.cut(now, packet, egress, to, frame, out);
            }
            return self.egress(now, egress, to, frame, out);
        };
        // The first goes first, so a copy of it must leave now.
        let _dropped_and_counted = self.cut(now, packet, egress, to, frame, out);
        for _ in 0..FRAGMENTS_HELD {
            let len = usize::from(held.len);
            let waiting = &mut held.frame[..len];
            if let Ok(packet) = Packet::parse(waiting) {
                self.fragments.counts.bump(FragmentCounter::Released);
                // Notes it as come.
                self.fragments.find(now, ingress, &packet);
                if let Verdict::Forward(port) = self.follow(now, &track, &packet, waiting, out)
                    && out
                        .transmit(port, len, |slot| slot.copy_from_slice(waiting))
                        .is_err()
                {
                    self.counts.bump(Counter::EgressFull);
                }
            }
            match self.fragments.release(now, ingress, &key) {
                Some(next) => held = next,
                None => break,
            }
        }
        Verdict::Intercept
    }

    /// Sends a copy of a rewritten datagram or fragment, in as many pieces as the line asks for.
    fn cut<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        egress: Port,
        to: Ipv4Address,
        frame: &[u8],
        out: &mut E,
    ) -> Verdict {
        let (l4, ip_end) = (usize::from(packet.l4), usize::from(packet.ip_end));
        let (Some(header), Some(body)) = (frame.get(ETHERNET_BYTES..l4), frame.get(l4..ip_end))
        else {
            return self.drop(Counter::Fragment);
        };
        let mtu = match egress {
            Port::Wan => usize::from(self.line_mtu()),
            Port::Lan | Port::Air => FRAME_BYTES_MAX - ETHERNET_BYTES,
        };
        if body.len() + header.len() > mtu {
            self.fragments.counts.bump(FragmentCounter::Cut);
        }
        let mut done = 0;
        // `done` grows by at least eight each time: the MTU is 576 at least, a header 60 at most.
        while done < body.len() || done == 0 {
            let header = if done == 0 {
                header
            } else {
                &header[..IPV4_BYTES]
            };
            let room = mtu - header.len();
            let left = body.len() - done;
            let (piece, more) = if left <= room {
                (left, packet.more_fragments())
            } else {
                (room & !7, true)
            };
            let offset = packet.fragment_offset() as usize + done;
            let part = &body[done..done + piece];
            let len = ETHERNET_BYTES + header.len() + piece;
            let write = |ip: &mut [u8]| write_piece(ip, header, part, offset, more);
            if self.send_ip(now, egress, to, len, write, out).is_err() {
                return Verdict::Drop;
            }
            if piece == 0 {
                break;
            }
            done += piece;
        }
        Verdict::Intercept
    }
}

/// Writes one piece of a datagram: `offset` is that of its first byte.
fn write_piece(ip: &mut [u8], header: &[u8], part: &[u8], offset: usize, more: bool) {
    let (head, body) = ip.split_at_mut(header.len());
    head.copy_from_slice(header);
    body.copy_from_slice(part);
    let words = (header.len() / 4) as u8;
    head[0] = 0x40 | words;
    head[2..4].copy_from_slice(&((header.len() + part.len()) as u16).to_be_bytes());
    let field = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
    head[6..8].copy_from_slice(&field.to_be_bytes());
    head[10..12].fill(0);
    let sum = checksum::finish(checksum::sum(head));
    head[10..12].copy_from_slice(&sum.to_be_bytes());
}
