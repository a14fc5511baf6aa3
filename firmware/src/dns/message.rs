//! DNS messages as bytes: where things lie in them, and the few that the relay writes itself.
//!
//! Follows: RFC 1035 section 4 (format), RFC 2181 section 8 (TTL), RFC 2308 section 5 (SOA), RFC 6891 (EDNS).
//! Units: byte offsets into the message; seconds.
//!
//! The relay never needs a name but the question's, which is not compressed. Names of records are
//! stepped over: a pointer ends a name, and is never followed, so it cannot lead in a circle.
//!
//! `smoltcp::wire::dns` does not serve here: it refuses each record that is not of class IN, so every
//! OPT (whose class is a size), and knows four types, while a relay passes all.

/// Bytes of the header.
pub(super) const HEADER: usize = 12;
/// The longest name, with its length bytes and its end (RFC 1035 section 2.3.4).
const NAME_MAX: usize = 255;
/// Bytes of an OPT record without options.
pub(super) const OPT_BYTES: usize = 11;
/// Bytes of an A record whose name is a pointer to the question.
pub(super) const A_BYTES: usize = 16;

/// Bits of the second header word.
pub(super) mod flags {
    pub(in crate::dns) const RESPONSE: u16 = 0x8000;
    pub(in crate::dns) const OPCODE: u16 = 0x7800;
    pub(in crate::dns) const AUTHORITATIVE: u16 = 0x0400;
    pub(in crate::dns) const TRUNCATED: u16 = 0x0200;
    pub(in crate::dns) const RECURSION_DESIRED: u16 = 0x0100;
    pub(in crate::dns) const RECURSION_AVAILABLE: u16 = 0x0080;
    pub(in crate::dns) const AUTHENTIC_DATA: u16 = 0x0020;
    pub(in crate::dns) const CHECKING_DISABLED: u16 = 0x0010;
    pub(in crate::dns) const RCODE: u16 = 0x000f;
}

/// Response codes.
pub(super) mod rcode {
    pub(in crate::dns) const NO_ERROR: u16 = 0;
    pub(in crate::dns) const FORMAT: u16 = 1;
    pub(in crate::dns) const SERVER_FAILURE: u16 = 2;
    pub(in crate::dns) const NO_NAME: u16 = 3;
    pub(in crate::dns) const NOT_IMPLEMENTED: u16 = 4;
    pub(in crate::dns) const REFUSED: u16 = 5;
}

/// Record types that the relay itself looks at.
pub(super) mod kind {
    pub(in crate::dns) const A: u16 = 1;
    pub(in crate::dns) const SOA: u16 = 6;
    pub(in crate::dns) const OPT: u16 = 41;
    /// From here on types ask for no record of that type: TKEY, TSIG, transfers, ANY.
    pub(in crate::dns) const META_FIRST: u16 = 249;
    pub(in crate::dns) const META_LAST: u16 = 255;
    pub(in crate::dns) const ANY: u16 = 255;
}

/// Class IN.
pub(super) const CLASS_IN: u16 = 1;

/// Reads a big-endian word.
pub(super) fn word(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*bytes))
}

/// Writes a big-endian word; nothing where there is no room.
pub(super) fn set_word(message: &mut [u8], at: usize, value: u16) {
    if let Some(bytes) = message.get_mut(at..at + 2) {
        bytes.copy_from_slice(&value.to_be_bytes());
    }
}

/// The header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u16,
    pub(super) flags: u16,
    pub(super) questions: u16,
    /// Records of the answer, authority and additional section.
    pub(super) records: [u16; 3],
}

impl Header {
    /// `None` for less than 12 bytes.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        Some(Self {
            id: word(message, 0)?,
            flags: word(message, 2)?,
            questions: word(message, 4)?,
            records: [word(message, 6)?, word(message, 8)?, word(message, 10)?],
        })
    }

    pub(super) const fn is_response(&self) -> bool {
        self.flags & flags::RESPONSE != 0
    }

    pub(super) const fn is_truncated(&self) -> bool {
        self.flags & flags::TRUNCATED != 0
    }

    pub(super) const fn opcode(&self) -> u16 {
        self.flags & flags::OPCODE
    }

    pub(super) const fn rcode(&self) -> u16 {
        self.flags & flags::RCODE
    }
}

/// The question, at the header's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// Offset behind the name.
    pub(super) name_end: usize,
    pub(super) kind: u16,
    pub(super) class: u16,
}

impl Question {
    /// Reads the first question; `None` if it is cut, compressed or longer than a name may be.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let mut at = HEADER;
        loop {
            let len = usize::from(*message.get(at)?);
            at += 1;
            if len == 0 {
                break;
            }
            if len > 63 {
                return None;
            }
            at += len;
            // The end must still fit, so the loop has 127 rounds at most.
            if at - HEADER >= NAME_MAX {
                return None;
            }
        }
        Some(Self {
            name_end: at,
            kind: word(message, at)?,
            class: word(message, at + 2)?,
        })
    }

    /// Offset behind the question.
    pub(super) const fn end(&self) -> usize {
        self.name_end + 4
    }

    /// The name as on the wire.
    pub(super) fn name<'m>(&self, message: &'m [u8]) -> &'m [u8] {
        message.get(HEADER..self.name_end).unwrap_or_default()
    }
}

/// Whether two messages ask the same; letters count alike (RFC 4343).
pub(super) fn is_same_question(one: &[u8], question: &Question, other: &[u8]) -> bool {
    Question::parse(other).is_some_and(|theirs| {
        theirs == *question && theirs.name(other).eq_ignore_ascii_case(question.name(one))
    })
}

/// A record, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// 0 answer, 1 authority, 2 additional.
    pub(super) section: usize,
    pub(super) start: usize,
    pub(super) kind: u16,
    pub(super) class: u16,
    /// Offset of the four TTL bytes.
    pub(super) ttl_at: usize,
    pub(super) ttl: u32,
    pub(super) data_at: usize,
    pub(super) end: usize,
}

impl Record {
    pub(super) fn data<'m>(&self, message: &'m [u8]) -> &'m [u8] {
        message.get(self.data_at..self.end).unwrap_or_default()
    }
}

/// The message ends before what its header announces, or is no message at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut;

/// All records from `at` on, in order; after an error there is no more. Each takes 11 bytes at least,
/// so the counts of the header bound nothing that the message's length does not.
pub(super) fn records(
    message: &[u8],
    at: usize,
    counts: [u16; 3],
) -> impl Iterator<Item = Result<Record, Cut>> {
    let mut at = at;
    let mut left = counts;
    let mut is_broken = false;
    core::iter::from_fn(move || {
        let section = left.iter().position(|&count| count > 0)?;
        if is_broken {
            return None;
        }
        left[section] -= 1;
        let record = record(message, at, section);
        match &record {
            Some(record) => at = record.end,
            None => is_broken = true,
        }
        Some(record.ok_or(Cut))
    })
}

fn record(message: &[u8], start: usize, section: usize) -> Option<Record> {
    let name_end = skip_name(message, start)?;
    let fixed = message.get(name_end..)?.first_chunk::<10>()?;
    let [k0, k1, c0, c1, t0, t1, t2, t3, l0, l1] = *fixed;
    let data_at = name_end + 10;
    let end = data_at + usize::from(u16::from_be_bytes([l0, l1]));
    message.get(data_at..end)?;
    Some(Record {
        section,
        start,
        kind: u16::from_be_bytes([k0, k1]),
        class: u16::from_be_bytes([c0, c1]),
        ttl_at: name_end + 4,
        ttl: u32::from_be_bytes([t0, t1, t2, t3]),
        data_at,
        end,
    })
}

/// Offset behind a name that may end in a pointer.
fn skip_name(message: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while at - start < NAME_MAX {
        let len = *message.get(at)?;
        at += 1;
        match len {
            0 => return Some(at),
            1..=63 => at += usize::from(len),
            // Its second byte must be there.
            0xc0.. => return message.get(at).map(|_low| at + 1),
            // RFC 6891 section 5: the other two label types are not in use.
            64..0xc0 => return None,
        }
    }
    None
}

/// How a sender's EDNS options bear on sharing an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Options {
    /// There are none.
    None,
    /// Only such as concern the hop: cookie, keep-alive, padding, name of the server.
    Hop,
    /// Others, such as the client's net (RFC 7871): the answer may be for this client only.
    Own,
}

/// What an OPT record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edns {
    /// The largest answer that is wanted, bytes; at least 512.
    pub(super) size: u16,
    pub(super) wants_dnssec: bool,
    pub(super) options: Options,
    /// Upper bits of the response code and the version; not zero is nothing to be shared.
    pub(super) is_extended: bool,
    /// Where the record lies.
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Edns {
    /// Offset of the two bytes of [`Self::size`]: behind the root's name and the type.
    pub(super) const fn size_at(&self) -> usize {
        self.start + 3
    }

    fn read(message: &[u8], record: &Record) -> Self {
        let mut options = Options::None;
        let mut rest = record.data(message);
        while let Some((head, tail)) = rest.split_first_chunk::<4>() {
            let code = u16::from_be_bytes([head[0], head[1]]);
            let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
            options = match code {
                3 | 10 | 11 | 12 if options != Options::Own => Options::Hop,
                _ => Options::Own,
            };
            rest = tail.get(len..).unwrap_or_default();
        }
        Self {
            size: record.class.max(512),
            wants_dnssec: record.ttl & 0x8000 != 0,
            options,
            is_extended: record.ttl >> 16 != 0,
            start: record.start,
            end: record.end,
        }
    }
}

/// What a message holds behind the question, if it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) edns: Option<Edns>,
    /// Seconds for which all of it holds; `None` when it must not be kept.
    pub(super) ttl_s: Option<u32>,
    /// There is an SOA record that says how long "there is none" holds.
    pub(super) has_soa: bool,
}

impl Contents {
    /// Steps through all records.
    ///
    /// # Errors
    /// [`Cut`].
    pub(super) fn read(message: &[u8], header: &Header, question: &Question) -> Result<Self, Cut> {
        let mut edns = None;
        let mut has_soa = false;
        let mut ttl_s: Option<u32> = None;
        for record in records(message, question.end(), header.records) {
            let record = record?;
            if record.kind == kind::OPT && record.section == 2 {
                // RFC 6891 section 6.1.1: one at most; a second makes the message wrong.
                if edns.is_some() || record.data_at - record.start != OPT_BYTES {
                    return Err(Cut);
                }
                edns = Some(Edns::read(message, &record));
                continue;
            }
            let mut ttl = effective_ttl(record.ttl);
            if record.kind == kind::SOA && record.section == 1 {
                // Two names and five words; the last word is the time of "there is none".
                if let Some(minimum) = record.data(message).last_chunk::<4>() {
                    ttl = ttl.min(effective_ttl(u32::from_be_bytes(*minimum)));
                    has_soa = true;
                }
            }
            ttl_s = Some(ttl_s.map_or(ttl, |least| least.min(ttl)));
        }
        Ok(Self {
            edns,
            ttl_s,
            has_soa,
        })
    }
}

/// RFC 2181 section 8: "treat TTL values received with the most significant bit set as if the entire
/// value received was zero".
const fn effective_ttl(ttl: u32) -> u32 {
    if ttl > i32::MAX as u32 { 0 } else { ttl }
}

/// Counts all TTLs down by `age_s` seconds, not below 0.
pub(super) fn age(message: &mut [u8], age_s: u32) {
    let (Some(header), Some(question)) = (Header::parse(message), Question::parse(message)) else {
        return;
    };
    let mut at = question.end();
    for section in 0..3 {
        for _record in 0..header.records[section] {
            let Some(record) = record(message, at, section) else {
                return;
            };
            if let Some(ttl) = message.get_mut(record.ttl_at..record.ttl_at + 4) {
                ttl.copy_from_slice(&record.ttl.saturating_sub(age_s).to_be_bytes());
            }
            at = record.end;
        }
    }
}

/// Writes an OPT record to the 11 bytes of `place` (RFC 6891 section 6.1.2).
pub(super) fn write_opt(place: &mut [u8], size: u16, wants_dnssec: bool) {
    let [s0, s1] = size.to_be_bytes();
    let dnssec = if wants_dnssec { 0x80 } else { 0 };
    let opt = [0, 0, kind::OPT as u8, s0, s1, 0, 0, dnssec, 0, 0, 0];
    if place.len() == OPT_BYTES {
        place.copy_from_slice(&opt);
    }
}

/// A message that the relay makes itself: a question and at most one address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain<'a> {
    pub(super) id: u16,
    pub(super) flags: u16,
    /// The question as asked, without the header; empty if there was none.
    pub(super) question: &'a [u8],
    /// An address and its TTL, seconds.
    pub(super) address: Option<([u8; 4], u32)>,
    /// With an OPT record: our size, and whether DNSSEC was asked for.
    pub(super) opt: Option<(u16, bool)>,
}

impl Plain<'_> {
    pub(super) fn len(&self) -> usize {
        HEADER
            + self.question.len()
            + self.address.map_or(0, |_| A_BYTES)
            + self.opt.map_or(0, |_| OPT_BYTES)
    }

    /// Writes the message to `out`, which has [`Self::len`] bytes.
    pub(super) fn emit(&self, out: &mut [u8]) {
        out.fill(0);
        set_word(out, 0, self.id);
        set_word(out, 2, self.flags);
        set_word(out, 4, u16::from(!self.question.is_empty()));
        set_word(out, 6, u16::from(self.address.is_some()));
        set_word(out, 10, u16::from(self.opt.is_some()));
        let mut at = HEADER + self.question.len();
        if let Some(place) = out.get_mut(HEADER..at) {
            place.copy_from_slice(self.question);
        }
        if let Some((address, ttl_s)) = self.address {
            let [t0, t1, t2, t3] = ttl_s.to_be_bytes();
            let [a0, a1, a2, a3] = address;
            let record: [u8; A_BYTES] = [
                0xc0,
                HEADER as u8,
                0,
                1,
                0,
                1,
                t0,
                t1,
                t2,
                t3,
                0,
                4,
                a0,
                a1,
                a2,
                a3,
            ];
            if let Some(place) = out.get_mut(at..at + A_BYTES) {
                place.copy_from_slice(&record);
            }
            at += A_BYTES;
        }
        if let (Some((size, wants_dnssec)), Some(place)) = (self.opt, out.get_mut(at..)) {
            write_opt(place, size, wants_dnssec);
        }
    }
}

/// The question's bytes, or as much of them as there is.
pub(super) fn question_bytes(message: &[u8]) -> &[u8] {
    let end = Question::parse(message).map_or(HEADER, |question| question.end());
    message.get(HEADER..end).unwrap_or_default()
}
