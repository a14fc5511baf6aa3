//! What an origin may do besides answering honestly, and the reply it gives to one request.
//!
//! Follows: RFC 9110 sections 8.8, 13.1.5, 14 (validators, If-Range, ranges); RFC 9112.
//! Units: bytes; `requests` count those of the whole origin, from 0.

use smoltcp::wire::Ipv4Address;

use super::bend::{self, Bend};

/// One way to differ from an honest server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// `200` with the whole body to every Range; `announce`: says `Accept-Ranges: bytes` all the same.
    IgnoreRange {
        /// Whether ranges are announced.
        announce: bool,
    },
    /// `Accept-Ranges: none`, and ranges are ignored.
    RangesNone,
    /// HEAD gets this status and no length.
    HeadStatus(u16),
    /// HEAD gets no answer.
    HeadSilent,
    /// HEAD makes the origin close the connection.
    HeadClose,
    /// GET gets this status with a short body.
    GetStatus(u16),
    /// A range gets this status (416, 302, 503 …) with a short body.
    RangeStatus(u16),
    /// Only a weak ETag.
    WeakEtag,
    /// Neither ETag nor Last-Modified.
    NoValidator,
    /// Last-Modified alone; strong: long before Date, else equal to it.
    LastModifiedOnly {
        /// Whether the date is old enough to be a strong validator.
        strong: bool,
    },
    /// The object is replaced: other bytes, other ETag.
    NewVersion,
    /// Other bytes under the same ETag: what no header shows.
    OtherBytes,
    /// `206` whatever `If-Range` says.
    IgnoreIfRange,
    /// `200` to every request with `If-Range`.
    RefuseIfRange,
    /// `206` without Content-Range.
    NoContentRange,
    /// `206` whose Content-Range begins one byte late, the body too.
    ShiftedRange,
    /// `206` with the right Content-Range and the bytes from one further on.
    ShiftedBody,
    /// `206` whose Content-Range tells another total.
    OtherTotal,
    /// `206` of the first half of what was asked, and says so.
    ShortRange,
    /// RST after this many body bytes.
    RstAfter(u64),
    /// FIN after this many body bytes.
    FinAfter(u64),
    /// Nothing more after this many body bytes.
    StallAfter(u64),
    /// At most this many body bytes a second.
    Slow(u64),
    /// Answers after this many µs.
    Late(u64),
    /// The whole body chunked, without length.
    Chunked,
    /// Closes after each reply; `announce`: says `Connection: close`.
    CloseAfterReply {
        /// Whether the close is announced.
        announce: bool,
    },
    /// An HTTP/1.0 reply.
    Version10,
    /// A reply that is bent after it was made.
    Bent(Bend),
}

/// Where a behaviour applies.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// What the origin does.
    pub behaviour: Behaviour,
    /// Only to this source address.
    pub source: Option<Ipv4Address>,
    /// Only from this request on (counted over the whole origin) …
    pub from_request: u32,
    /// … and before this one.
    pub to_request: u32,
    /// Only to requests with a Range.
    pub ranges_only: bool,
    /// Only to requests without one.
    pub wholes_only: bool,
}

impl Rule {
    /// A behaviour that always applies.
    pub fn always(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            source: None,
            from_request: 0,
            to_request: u32::MAX,
            ranges_only: false,
            wholes_only: false,
        }
    }

    /// A behaviour towards one source address.
    pub fn towards(source: Ipv4Address, behaviour: Behaviour) -> Self {
        Self {
            source: Some(source),
            ..Self::always(behaviour)
        }
    }

    /// A behaviour from the `from`th request until before the `to`th.
    pub fn between(from: u32, to: u32, behaviour: Behaviour) -> Self {
        Self {
            from_request: from,
            to_request: to,
            ..Self::always(behaviour)
        }
    }

    /// The same rule for requests with a Range only.
    pub fn on_ranges(mut self) -> Self {
        self.ranges_only = true;
        self
    }

    /// The same rule for requests without a Range only.
    pub fn on_wholes(mut self) -> Self {
        self.wholes_only = true;
        self
    }

    fn applies(&self, request: &Request, source: Ipv4Address, number: u32) -> bool {
        self.source.is_none_or(|only| only == source)
            && (self.from_request..self.to_request).contains(&number)
            && (!self.ranges_only || request.range.is_some())
            && (!self.wholes_only || request.range.is_none())
    }
}

/// A request as the origin read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD` and so on, as sent.
    pub method: String,
    /// The target, as sent.
    pub target: String,
    /// The Range field's value.
    pub range: Option<String>,
    /// The Host field's value.
    pub host: Option<String>,
    /// The If-Range field's value.
    pub if_range: Option<String>,
    /// The connection ends after the reply.
    pub close: bool,
    /// The bytes as received.
    pub raw: Vec<u8>,
}

impl Request {
    /// Reads a head that ends in an empty line; `None` if it is no HTTP/1 request.
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(raw).ok()?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let mut request = Self {
            method: words.next()?.to_string(),
            target: words.next()?.to_string(),
            raw: raw.to_vec(),
            ..Self::default()
        };
        let version = words.next()?;
        if !version.starts_with("HTTP/1.") || words.next().is_some() {
            return None;
        }
        request.close = version == "HTTP/1.0";
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            let value = value.trim().to_string();
            match name.to_ascii_lowercase().as_str() {
                "range" => request.range = Some(value),
                "host" => request.host = Some(value),
                "if-range" => request.if_range = Some(value),
                "connection" => request.close = value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        Some(request)
    }

    /// The object that the target names: `/o/SEED/SIZE/NAME`.
    pub fn object(&self) -> Option<Object> {
        Object::parse(&self.target)
    }
}

/// What a target names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Seed of the first version's bytes.
    pub seed: u64,
    /// Length.
    pub size: u64,
    /// Content-Type.
    pub content_type: &'static str,
}

impl Object {
    /// The object behind `/o/SEED/SIZE/NAME`.
    pub fn parse(target: &str) -> Option<Self> {
        let mut parts = target.split('/').skip(1);
        if parts.next()? != "o" {
            return None;
        }
        let seed = parts.next()?.parse().ok()?;
        let size = parts.next()?.parse().ok()?;
        let content_type = match parts.next()?.rsplit('.').next()? {
            "mp4" => "video/mp4",
            "mp3" => "audio/mpeg",
            "html" => "text/html",
            "js" => "text/javascript",
            "png" => "image/png",
            _ => "application/octet-stream",
        };
        Some(Self {
            seed,
            size,
            content_type,
        })
    }

    /// The seed of the bytes of a version; see [`super::content`].
    pub fn version_seed(&self, version: u32) -> u64 {
        self.seed ^ (u64::from(version) << 32)
    }
}

/// How a reply ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// RST.
    Rst,
    /// FIN.
    Fin,
    /// Silence.
    Stall,
}

/// One reply, ready to be sent.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code; 0 when nothing is answered.
    pub status: u16,
    /// Status line and fields, with the empty line.
    pub head: Vec<u8>,
    /// Seed and first offset of the body's bytes.
    pub body_seed: u64,
    /// First offset.
    pub body_from: u64,
    /// Offset after the last byte.
    pub body_to: u64,
    /// Body in chunks.
    pub chunked: bool,
    /// The connection ends after the reply.
    pub close: bool,
    /// What happens after this many body bytes.
    pub cut: Option<(u64, Cut)>,
    /// Body bytes a second; 0 = as fast as TCP takes them.
    pub rate: u64,
    /// Waits this long before the first byte, µs.
    pub late_us: u64,
    /// What follows the body without belonging to it.
    pub tail: Vec<u8>,
    /// Head bytes a second; 0 = as fast as TCP takes them.
    pub head_rate: u64,
    /// After so many body bytes nothing for so many µs.
    pub pause: Option<(u64, u64)>,
    /// RST once everything is acknowledged.
    pub reset_at_end: bool,
}

/// A day of the strong Last-Modified.
const LAST_MODIFIED: &str = "Mon, 02 Nov 2026 08:00:00 GMT";
/// The day it is.
const DATE: &str = "Sun, 22 Nov 2026 12:00:00 GMT";

/// The reply of an origin with these `rules` to the `number`th request.
pub fn reply(rules: &[Rule], request: &Request, source: Ipv4Address, number: u32) -> Reply {
    let bends = rules
        .iter()
        .filter(|rule| rule.applies(request, source, number))
        .filter_map(|rule| match rule.behaviour {
            Behaviour::Bent(bend) => Some(bend),
            _ => None,
        });
    let bends: Vec<Bend> = bends.collect();
    let mut read = request.clone();
    for bend in &bends {
        bend::read_request(*bend, &mut read);
    }
    let mut reply = straight(rules, &read, source, number);
    for bend in bends {
        bend::bend(bend, &read, read.object(), &mut reply);
    }
    reply
}

/// The reply before anything bends it.
fn straight(rules: &[Rule], request: &Request, source: Ipv4Address, number: u32) -> Reply {
    let acts: Vec<Behaviour> = rules
        .iter()
        .filter(|rule| rule.applies(request, source, number))
        .map(|rule| rule.behaviour)
        .collect();
    let has = |behaviour| acts.contains(&behaviour);
    let head_only = request.method == "HEAD";
    let mut answer = Reply {
        status: 200,
        head: Vec::new(),
        body_seed: 0,
        body_from: 0,
        body_to: 0,
        chunked: false,
        close: request.close,
        cut: None,
        rate: 0,
        late_us: 0,
        tail: Vec::new(),
        head_rate: 0,
        pause: None,
        reset_at_end: false,
    };
    let mut announced_close = false;
    for act in &acts {
        match *act {
            Behaviour::RstAfter(bytes) => answer.cut = Some((bytes, Cut::Rst)),
            Behaviour::FinAfter(bytes) => answer.cut = Some((bytes, Cut::Fin)),
            Behaviour::StallAfter(bytes) => answer.cut = Some((bytes, Cut::Stall)),
            Behaviour::Slow(rate) => answer.rate = rate,
            Behaviour::Late(us) => answer.late_us = us,
            Behaviour::CloseAfterReply { announce } => {
                answer.close = true;
                announced_close |= announce;
            }
            Behaviour::Version10 => answer.close = true,
            Behaviour::HeadSilent if head_only => {
                answer.status = 0;
                answer.cut = Some((0, Cut::Stall));
                return answer;
            }
            Behaviour::HeadClose if head_only => {
                answer.status = 0;
                answer.cut = Some((0, Cut::Fin));
                return answer;
            }
            _ => {}
        }
    }
    let object = request.object();
    let refused = acts.iter().find_map(|act| match *act {
        Behaviour::HeadStatus(status) if head_only => Some(status),
        Behaviour::GetStatus(status) if !head_only => Some(status),
        Behaviour::RangeStatus(status) if request.range.is_some() => Some(status),
        _ => None,
    });
    let refused = match (&request.method[..], object) {
        ("GET" | "HEAD", Some(_)) => refused,
        ("GET" | "HEAD", None) => refused.or(Some(404)),
        _ => Some(501),
    };
    let version = match has(Behaviour::Version10) {
        true => "HTTP/1.0",
        false => "HTTP/1.1",
    };
    if let Some(status) = refused {
        answer.status = status;
        let location = match status {
            300..=308 => "Location: http://198.51.100.11/elsewhere\r\n",
            _ => "",
        };
        answer.body_seed = u64::from(status);
        answer.body_to = if head_only { 0 } else { 40 };
        answer.head = format!(
            "{version} {status} Refused\r\nDate: {DATE}\r\n{location}Content-Type: text/plain\r\nContent-Length: 40\r\n\r\n"
        )
        .into_bytes();
        return answer;
    }
    let Some(object) = object else {
        return answer;
    };

    let replaced = u32::from(has(Behaviour::NewVersion));
    let etag = match has(Behaviour::WeakEtag) {
        true => format!("W/\"{}-{replaced}\"", object.seed),
        false => format!("\"{}-{replaced}\"", object.seed),
    };
    let dates_only = acts.iter().find_map(|act| match *act {
        Behaviour::LastModifiedOnly { strong } => Some(strong),
        _ => None,
    });
    let validators = match dates_only {
        _ if has(Behaviour::NoValidator) => String::new(),
        Some(true) => format!("Last-Modified: {LAST_MODIFIED}\r\n"),
        Some(false) => format!("Last-Modified: {DATE}\r\n"),
        None => format!("Last-Modified: {LAST_MODIFIED}\r\nETag: {etag}\r\n"),
    };
    answer.body_seed = match has(Behaviour::OtherBytes) {
        true => object.version_seed(77),
        false => object.version_seed(replaced),
    };

    let ignores = acts
        .iter()
        .any(|act| matches!(act, Behaviour::IgnoreRange { .. } | Behaviour::RangesNone));
    let matches = match &request.if_range {
        None => true,
        Some(_) if has(Behaviour::IgnoreIfRange) => true,
        Some(_) if has(Behaviour::RefuseIfRange) => false,
        Some(value) if value.starts_with('"') => *value == etag && dates_only.is_none(),
        Some(value) => dates_only.is_none_or(|strong| strong) && value == LAST_MODIFIED,
    };
    // RFC 9110 section 14.2: a server ignores a Range field of a method other than GET.
    let asked = request
        .range
        .as_deref()
        .filter(|_| !head_only && !ignores && matches);
    let asked = asked.and_then(|range| asked_range(range, object.size));
    let ranges = if has(Behaviour::IgnoreRange { announce: false }) {
        ""
    } else if has(Behaviour::RangesNone) {
        "Accept-Ranges: none\r\n"
    } else {
        "Accept-Ranges: bytes\r\n"
    };
    let mut fields = String::new();
    (answer.body_from, answer.body_to) = (0, object.size);
    match asked {
        None => {}
        Some(Err(())) => {
            answer.status = 416;
            answer.body_to = 0;
            fields = format!("Content-Range: bytes */{}\r\n", object.size);
        }
        Some(Ok((from, mut to))) => {
            answer.status = 206;
            if has(Behaviour::ShortRange) {
                to = from + (to - from).div_ceil(2);
            }
            let shift = u64::from(has(Behaviour::ShiftedRange));
            let total = object.size + u64::from(has(Behaviour::OtherTotal));
            if !has(Behaviour::NoContentRange) {
                fields = format!(
                    "Content-Range: bytes {}-{}/{total}\r\n",
                    from + shift,
                    to - 1 + shift,
                );
            }
            let shift = shift + u64::from(has(Behaviour::ShiftedBody));
            (answer.body_from, answer.body_to) = (from + shift, to + shift);
        }
    }
    answer.chunked = has(Behaviour::Chunked) && answer.status == 200;
    let length = match answer.chunked {
        true => "Transfer-Encoding: chunked\r\n".to_string(),
        false => format!("Content-Length: {}\r\n", answer.body_to - answer.body_from),
    };
    let reason = match answer.status {
        206 => "206 Partial Content",
        416 => "416 Range Not Satisfiable",
        _ => "200 OK",
    };
    let connection = match answer.close && (announced_close || request.close) {
        true => "Connection: close\r\n",
        false => "",
    };
    answer.head = format!(
        "{version} {reason}\r\nServer: sim\r\nDate: {DATE}\r\nContent-Type: {}\r\n{length}{validators}{ranges}{fields}{connection}\r\n",
        object.content_type
    )
    .into_bytes();
    if head_only {
        answer.body_to = answer.body_from;
        answer.chunked = false;
    }
    answer
}

/// The one interval of a Range field, end exclusive: `None` when the field is to be ignored, `Err` when it
/// cannot be satisfied.
pub(super) fn asked_range(value: &str, size: u64) -> Option<Result<(u64, u64), ()>> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (first.trim(), last.trim()) {
        ("", suffix) => {
            let suffix: u64 = suffix.parse().ok()?;
            (size.saturating_sub(suffix), size)
        }
        (first, "") => (first.parse().ok()?, size),
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            (first, last.saturating_add(1).min(size))
        }
    };
    Some(if from < to { Ok((from, to)) } else { Err(()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Address = Ipv4Address::new(203, 0, 113, 2);

    fn ask(rules: &[Rule], fields: &str) -> (Reply, String) {
        let raw = format!("GET /o/5/1000/film.mp4 HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let request = Request::parse(raw.as_bytes()).expect("a request");
        let reply = reply(rules, &request, A, 3);
        let head = String::from_utf8(reply.head.clone()).expect("text");
        (reply, head)
    }

    #[test]
    fn an_honest_origin_answers_whole_and_in_ranges() {
        let (whole, head) = ask(&[], "");
        assert_eq!(
            (whole.status, whole.body_from, whole.body_to),
            (200, 0, 1_000)
        );
        assert!(head.contains("Content-Length: 1000\r\n") && head.contains("ETag: \"5-0\"\r\n"));
        let (part, head) = ask(&[], "Range: bytes=100-199\r\n");
        assert_eq!((part.status, part.body_from, part.body_to), (206, 100, 200));
        assert!(head.contains("Content-Range: bytes 100-199/1000\r\n"));
        assert_eq!(ask(&[], "Range: bytes=-10\r\n").0.body_from, 990);
        assert_eq!(ask(&[], "Range: bytes=990-\r\n").0.body_from, 990);
        assert_eq!(ask(&[], "Range: bytes=1000-\r\n").0.status, 416);
        assert_eq!(ask(&[], "Range: bytes=0-1,5-6\r\n").0.status, 200);
    }

    #[test]
    fn if_range_joins_only_the_same_version() {
        let fields = "Range: bytes=0-9\r\nIf-Range: \"5-0\"\r\n";
        assert_eq!(ask(&[], fields).0.status, 206);
        let changed = [Rule::between(3, 9, Behaviour::NewVersion)];
        let (reply, head) = ask(&changed, fields);
        assert_eq!(reply.status, 200);
        assert!(head.contains("\"5-1\""));
        assert_ne!(reply.body_seed, 5);
    }

    #[test]
    fn a_rule_holds_for_its_source_and_its_requests() {
        let other = Ipv4Address::new(203, 0, 113, 66);
        let refuse = Behaviour::GetStatus(403);
        assert_eq!(ask(&[Rule::towards(A, refuse)], "").0.status, 403);
        assert_eq!(ask(&[Rule::towards(other, refuse)], "").0.status, 200);
        assert_eq!(ask(&[Rule::between(0, 3, refuse)], "").0.status, 200);
        assert_eq!(ask(&[Rule::always(refuse).on_ranges()], "").0.status, 200);
    }
}
