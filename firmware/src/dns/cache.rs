//! Answers that hold for a while.
//!
//! Follows: RFC 1035 section 7.4, RFC 2308 (there is none), RFC 2181 section 8 (TTL), RFC 6840 section 5.8 (AD).
//! Units: seconds, bytes.
//!
//! An answer is kept as it came, without its OPT record, and handed out with the asker's id, letters and
//! flags, its TTLs counted down. What is not whole, truncated, an error, or for one client only is not kept.
//! Room is made by the answer that was used the longest time ago.
//!
//! Budget: [`DNS_CACHE_ENTRIES`] of [`DNS_CACHE_BYTES_MAX`] bytes and 32.

use heapless::Vec;
use smoltcp::time::Instant;

use super::Query;
use super::message::{
    self, Contents, HEADER, Header, OPT_BYTES, Question, flags, kind, rcode, set_word, write_opt,
};
use crate::budget::{
    DNS_CACHE_BYTES_MAX, DNS_CACHE_ENTRIES, DNS_NEGATIVE_TTL_MAX, DNS_TTL_MAX, DNS_UDP_BYTES,
};

/// Flags of a question that its answer depends on.
const SHARED_FLAGS: u16 = flags::AUTHENTIC_DATA | flags::CHECKING_DISABLED;
/// Beside them in [`Entry::bits`]: DNSSEC records were asked for. A bit that no flag above uses.
const WANTS_DNSSEC: u16 = 1;

struct Entry {
    hash: u32,
    /// Of the question: [`SHARED_FLAGS`] and [`WANTS_DNSSEC`].
    bits: u16,
    len: u16,
    ttl_s: u32,
    stored_at: Instant,
    used: u32,
    message: [u8; DNS_CACHE_BYTES_MAX],
}

/// The answers kept.
pub(super) struct Cache {
    entries: Vec<Entry, DNS_CACHE_ENTRIES>,
    /// Counts uses; the least is the oldest. At a thousand a second it wraps after 49 days, and then
    /// one choice is a poor one.
    clock: u32,
}

/// An answer found.
pub(super) struct Hit<'a> {
    entry: &'a Entry,
    age_s: u32,
}

impl Cache {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            clock: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The answer to a question, while it holds.
    pub(super) fn find(&mut self, now: Instant, asked: &[u8], query: &Query) -> Option<Hit<'_>> {
        let index = self.position(asked, &query.question, bits(query))?;
        self.clock = self.clock.wrapping_add(1);
        let entry = self.entries.get_mut(index)?;
        let age_s = age_s(entry, now);
        if age_s >= entry.ttl_s {
            self.entries.swap_remove(index);
            return None;
        }
        entry.used = self.clock;
        let entry = self.entries.get(index)?;
        Some(Hit { entry, age_s })
    }

    fn position(&self, asked: &[u8], question: &Question, bits: u16) -> Option<usize> {
        let hash = hash(asked, question, bits);
        self.entries.iter().position(|entry| {
            entry.hash == hash
                && entry.bits == bits
                && message::is_same_question(asked, question, entry.bytes())
        })
    }

    /// Keeps the answer to `query` if it may be kept; says whether.
    pub(super) fn store(
        &mut self,
        now: Instant,
        query: &Query,
        answer: &[u8],
        contents: &Contents,
    ) -> bool {
        let Some((header, ttl_s)) = holds_for(query, answer, contents) else {
            return false;
        };
        let kept = match contents.edns {
            // Without the last record no pointer of the others changes.
            Some(edns) if edns.end == answer.len() => answer.get(..edns.start),
            Some(_) => None,
            None => Some(answer),
        };
        let Some(kept) = kept.filter(|kept| kept.len() <= DNS_CACHE_BYTES_MAX) else {
            return false;
        };
        let bits = bits(query);
        self.clock = self.clock.wrapping_add(1);
        let mut entry = Entry {
            hash: hash(kept, &query.question, bits),
            bits,
            len: kept.len() as u16,
            ttl_s,
            stored_at: now,
            used: self.clock,
            message: [0; DNS_CACHE_BYTES_MAX],
        };
        entry.message[..kept.len()].copy_from_slice(kept);
        let additional = header.records[2] - u16::from(contents.edns.is_some());
        set_word(&mut entry.message, 10, additional);
        let place = self
            .position(kept, &query.question, bits)
            .or_else(|| self.make_room(now));
        match place {
            Some(place) => self.entries[place] = entry,
            None => {
                let is_kept = self.entries.push(entry).is_ok();
                debug_assert!(is_kept, "there is room or a place was given");
            }
        }
        true
    }

    /// The place to be written over when all are taken: what no longer holds, else what was used
    /// the longest time ago.
    fn make_room(&self, now: Instant) -> Option<usize> {
        if !self.entries.is_full() {
            return None;
        }
        let over = |entry: &Entry| age_s(entry, now) >= entry.ttl_s;
        let places = self.entries.iter().enumerate();
        places
            .min_by_key(|(_, entry)| {
                let unused = self.clock.wrapping_sub(entry.used);
                (!over(entry), u32::MAX - unused)
            })
            .map(|(place, _)| place)
    }
}

impl Entry {
    fn bytes(&self) -> &[u8] {
        self.message
            .get(..usize::from(self.len))
            .unwrap_or_default()
    }
}

impl Hit<'_> {
    /// Bytes of the answer to `query`.
    pub(super) fn len(&self, query: &Query) -> usize {
        usize::from(self.entry.len) + query.edns.map_or(0, |_| OPT_BYTES)
    }

    /// Writes the answer to `query`, which `asked` holds, to `out` of [`Self::len`] bytes.
    pub(super) fn emit(&self, asked: &[u8], query: &Query, out: &mut [u8]) {
        let bytes = self.entry.bytes();
        let Some((answer, opt)) = out.split_at_mut_checked(bytes.len()) else {
            return;
        };
        answer.copy_from_slice(bytes);
        message::age(answer, self.age_s);
        set_word(answer, 0, query.header.id);
        let copied = flags::RECURSION_DESIRED | flags::CHECKING_DISABLED;
        let stored = message::word(answer, 2).unwrap_or(0);
        set_word(
            answer,
            2,
            // Out of a cache no answer is an authority's (RFC 1035 section 4.1.1, AA).
            (stored & !copied & !flags::AUTHORITATIVE) | (query.header.flags & copied),
        );
        // A client may tell a forger by its mix of capital and small letters.
        let name = query.question.name(asked);
        if let Some(place) = answer.get_mut(HEADER..HEADER + name.len()) {
            place.copy_from_slice(name);
        }
        if let Some(edns) = query.edns {
            let additional = message::word(answer, 10).unwrap_or(0);
            set_word(answer, 10, additional.saturating_add(1));
            write_opt(opt, DNS_UDP_BYTES, edns.wants_dnssec);
        }
    }
}

fn age_s(entry: &Entry, now: Instant) -> u32 {
    // A clock that went back makes nothing older; ages beyond a u32 are over.
    let age = if now > entry.stored_at {
        (now - entry.stored_at).secs()
    } else {
        0
    };
    u32::try_from(age).unwrap_or(u32::MAX)
}

/// How long an answer may be kept, seconds; `None` if not at all.
fn holds_for(query: &Query, answer: &[u8], contents: &Contents) -> Option<(Header, u32)> {
    let header = Header::parse(answer)?;
    let meta = kind::META_FIRST..=kind::META_LAST;
    let is_extended = contents.edns.is_some_and(|edns| edns.is_extended);
    if !query.is_shared()
        || header.is_truncated()
        || header.questions != 1
        || meta.contains(&query.question.kind)
        || is_extended
    {
        return None;
    }
    let is_none = match header.rcode() {
        rcode::NO_ERROR => header.records[0] == 0,
        rcode::NO_NAME => true,
        _ => return None,
    };
    // RFC 2308 section 5: without SOA "SHOULD NOT be cached".
    if is_none && !contents.has_soa {
        return None;
    }
    let longest = if contents.has_soa {
        DNS_NEGATIVE_TTL_MAX
    } else {
        DNS_TTL_MAX
    };
    let ttl_s = contents.ttl_s?.min(longest.secs() as u32);
    (ttl_s > 0).then_some((header, ttl_s))
}

fn bits(query: &Query) -> u16 {
    let wants_dnssec = query.edns.is_some_and(|edns| edns.wants_dnssec);
    (query.header.flags & SHARED_FLAGS) | if wants_dnssec { WANTS_DNSSEC } else { 0 }
}

/// FNV-1a over the name in small letters, type, class and bits. Whoever finds names that collide makes
/// a few names be compared in full.
fn hash(asked: &[u8], question: &Question, bits: u16) -> u32 {
    let name = question.name(asked).iter().map(u8::to_ascii_lowercase);
    let [k0, k1] = question.kind.to_be_bytes();
    let [c0, c1] = question.class.to_be_bytes();
    let [b0, b1] = bits.to_be_bytes();
    name.chain([k0, k1, c0, c1, b0, b1])
        .fold(0x811c_9dc5, |hash: u32, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        })
}
