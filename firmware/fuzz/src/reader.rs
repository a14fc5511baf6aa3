//! A strict reader of HTTP/1.1 heads that shares nothing with the firmware's: another order, other means.
//!
//! It reads a head as a whole, from a copy, and knows no "more": what it takes, every reader takes alike.
//! Follows: RFC 9112 (sections 2 to 5), RFC 9110 (5.5, 5.6, 14.4), without what RFC 9112 lets a lenient reader do.

/// A head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The three parts of its first line.
    pub first: [String; 3],
    /// Names in lower case, and values without blanks around them, in order.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Its length with the empty line, bytes.
    pub len: usize,
}

impl Head {
    /// The values of the fields of this name.
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        let named = self.fields.iter().filter(|(found, _)| found == name);
        named.map(|(_, value)| value.as_slice()).collect()
    }

    /// The value of the field of this name if there is exactly one.
    pub fn single(&self, name: &str) -> Option<&[u8]> {
        match self.values(name)[..] {
            [value] => Some(value),
            [] | [_, _, ..] => None,
        }
    }

    /// There is a field of this name.
    pub fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }
}

/// Reads the head at the start of `bytes`; `None` when it is not whole or not strict.
pub fn read(bytes: &[u8]) -> Option<Head> {
    let text: Vec<char> = bytes.iter().map(|&byte| char::from(byte)).collect();
    let text: String = text.into_iter().collect(); // Latin-1: one char a byte
    let (head, _) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let first = lines.next()?;
    if !first.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return None;
    }
    let mut parts = first.splitn(3, ' ').map(str::to_owned);
    let first = [parts.next()?, parts.next()?, parts.next()?];
    if first.iter().any(String::is_empty) {
        return None;
    }
    let mut fields = Vec::new();
    for line in lines {
        let is_allowed = |c: char| c == ' ' || c.is_ascii_graphic() || c >= '\u{80}';
        if !line.chars().all(is_allowed) {
            return None;
        }
        let (name, value) = line.split_once(':')?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_name) {
            return None;
        }
        let value = value.trim_matches(' ').chars().map(|c| c as u8).collect();
        fields.push((name.to_ascii_lowercase(), value));
    }
    Some(Head {
        first,
        fields,
        len: head.chars().count() + 4,
    })
}

/// A decimal number of digits alone, below 2^63.
pub fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = text.trim_start_matches('0');
    if digits.len() > 19 {
        return None;
    }
    let value: u128 = if digits.is_empty() {
        0
    } else {
        digits.parse().ok()?
    };
    u64::try_from(value).ok().filter(|&value| value < 1 << 63)
}

/// `bytes FIRST-LAST/TOTAL` with `FIRST <= LAST < TOTAL`.
pub fn content_range(value: &[u8]) -> Option<(u64, u64, u64)> {
    let text = std::str::from_utf8(value).ok()?;
    let mut parts = text.strip_prefix("bytes ")?.split(['-', '/']);
    let numbers = [parts.next()?, parts.next()?, parts.next()?].map(|part| number(part.as_bytes()));
    let [first, last, total] = [numbers[0]?, numbers[1]?, numbers[2]?];
    let is_whole = parts.next().is_none() && text.contains('-') && text.contains('/');
    // The signs stand in this order: else the parts would have been others.
    (is_whole && text.find('-') < text.find('/') && first <= last && last < total)
        .then_some((first, last, total))
}
