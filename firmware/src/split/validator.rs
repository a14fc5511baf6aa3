//! What may be joined: a strong validator, and nothing without one.
//!
//! Follows: RFC 9110 sections 8.8.2.2 (when a date is strong), 8.8.3 (entity tags), 15.3.7.3
//! ("a client MUST NOT combine" parts but by an equal strong validator).
//! Units: seconds in dates.
//! Budget: 130 bytes each, one an exchange and one a fetch being opened.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::budget::VALIDATOR_BYTES_MAX;
use crate::wire::http::parse_date;

/// Which field a validator came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, defmt::Format)]
pub enum ValidatorKind {
    /// `ETag`, strong.
    ETag,
    /// `Last-Modified`, of a reply whose `Date` makes it strong.
    LastModified,
}

/// Names one version of an object, byte for byte; equality is the strong comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    kind: ValidatorKind,
    bytes: Vec<u8, VALIDATOR_BYTES_MAX, u8>,
}

/// Why a value is no strong validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum NotStrong {
    /// `W/"…"`.
    Weak,
    /// Not `DQUOTE 1*etagc DQUOTE` of ASCII without comma, or too long.
    Malformed,
    /// A date that does not parse, or is not at least a second before `Date`.
    Date,
}

impl Validator {
    /// From an `ETag` field's value, quotes included.
    ///
    /// # Errors
    /// Why it joins nothing. Empty tags and those with commas are not used: servers that write
    /// such are known to compare lists of them wrongly.
    pub fn etag(value: &[u8]) -> Result<Self, NotStrong> {
        if value.starts_with(b"W/") {
            return Err(NotStrong::Weak);
        }
        let [b'"', tag @ .., b'"'] = value else {
            return Err(NotStrong::Malformed);
        };
        let is_good = |&byte: &u8| matches!(byte, b'!' | b'#'..=b'~') && byte != b',';
        if tag.is_empty() || !tag.iter().all(is_good) {
            return Err(NotStrong::Malformed);
        }
        Self::new(ValidatorKind::ETag, value)
    }

    /// From the values of `Last-Modified` and `Date` of one reply.
    ///
    /// # Errors
    /// [`NotStrong::Date`] unless both are dates and the first is at least one second earlier.
    pub fn last_modified(value: &[u8], date: &[u8]) -> Result<Self, NotStrong> {
        match (parse_date(value), parse_date(date)) {
            (Some(modified), Some(date)) if modified < date => {
                Self::new(ValidatorKind::LastModified, value)
            }
            (Some(_) | None, Some(_) | None) => Err(NotStrong::Date),
        }
    }

    /// From what a neighbour sent as [`kind`](Self::kind) and [`bytes`](Self::bytes).
    ///
    /// # Errors
    /// Why it cannot stand in a request of ours; a date's strength is the asking router's word.
    pub fn from_parts(kind: ValidatorKind, bytes: &[u8]) -> Result<Self, NotStrong> {
        match kind {
            ValidatorKind::ETag => Self::etag(bytes),
            ValidatorKind::LastModified if parse_date(bytes).is_some() => Self::new(kind, bytes),
            ValidatorKind::LastModified => Err(NotStrong::Date),
        }
    }

    fn new(kind: ValidatorKind, value: &[u8]) -> Result<Self, NotStrong> {
        let bytes = Vec::from_slice(value).map_err(|_| NotStrong::Malformed)?;
        Ok(Self { kind, bytes })
    }

    /// Which field it came from.
    pub fn kind(&self) -> ValidatorKind {
        self.kind
    }

    /// The field's value, as `If-Range` takes it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &[u8] = b"Sun, 06 Nov 1994 08:49:38 GMT";

    #[test]
    fn a_quoted_tag_is_strong_and_equal_only_to_itself() {
        let one = Validator::etag(b"\"5f-1000\"").unwrap();
        assert_eq!(Validator::etag(b"\"5f-1000\"").as_ref(), Ok(&one));
        assert_ne!(Validator::etag(b"\"5F-1000\"").as_ref(), Ok(&one));
        assert_eq!(
            (one.kind(), one.bytes()),
            (ValidatorKind::ETag, &b"\"5f-1000\""[..])
        );
    }

    #[test]
    fn o13_a_weak_tag_joins_nothing() {
        assert_eq!(Validator::etag(b"W/\"5f\""), Err(NotStrong::Weak));
    }

    #[test]
    fn o17_an_odd_tag_joins_nothing() {
        let long = [b"\"".as_slice(), &[b'a'; 4096], b"\""].concat();
        let over = [b"\"".as_slice(), &[b'a'; VALIDATOR_BYTES_MAX - 1], b"\""].concat();
        for bad in [
            b"".as_slice(),
            b"\"",
            b"\"\"",
            b"5f",
            b"\"5f",
            b"5f\"",
            b"\"a,b\"",
            b"\"a b\"",
            b"\"\xe4\"",
            b"\"a\"b\"",
            b"'5f'",
            b"w/\"5f\"",
            &long,
            &over,
        ] {
            let shown = String::from_utf8_lossy(bad);
            assert_eq!(Validator::etag(bad), Err(NotStrong::Malformed), "{shown}");
        }
        let largest = [b"\"".as_slice(), &[b'a'; VALIDATOR_BYTES_MAX - 2], b"\""].concat();
        assert!(Validator::etag(&largest).is_ok());
    }

    #[test]
    fn o14_a_date_a_second_before_the_replys_is_strong() {
        let validator = Validator::last_modified(EARLY, LATER).unwrap();
        assert_eq!(validator.kind(), ValidatorKind::LastModified);
        assert_eq!(validator.bytes(), EARLY);
    }

    #[test]
    fn o15_a_date_equal_to_or_after_the_replys_or_unreadable_is_not() {
        for (modified, date) in [
            (EARLY, EARLY),
            (LATER, EARLY),
            (b"yesterday".as_slice(), LATER),
            (EARLY, b""),
        ] {
            assert_eq!(
                Validator::last_modified(modified, date),
                Err(NotStrong::Date)
            );
        }
    }

    #[test]
    fn a_date_and_a_tag_are_never_equal() {
        let date = Validator::last_modified(EARLY, LATER).unwrap();
        let again = Validator::from_parts(date.kind(), date.bytes());
        assert_eq!(again, Ok(date));
        assert!(Validator::from_parts(ValidatorKind::ETag, EARLY).is_err());
        assert!(Validator::from_parts(ValidatorKind::LastModified, b"\"a\"\r\n").is_err());
    }
}
