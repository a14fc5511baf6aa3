//! `IMF-fixdate`, the one date form that servers write today.
//!
//! Follows: RFC 9110 section 5.6.7. The two obsolete forms are not read: a date in them is no date.
//! Units: seconds since 1970-01-01 00:00:00 UTC.

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];

/// Parses `Sun, 06 Nov 1994 08:49:37 GMT`, exactly that form, from 1970 on; seconds since then.
///
/// A weekday that does not belong to the date makes it none.
pub fn parse_date(text: &[u8]) -> Option<u64> {
    let text: &[u8; 29] = text.try_into().ok()?;
    let separators = [
        (3, b','),
        (4, b' '),
        (7, b' '),
        (11, b' '),
        (16, b' '),
        (19, b':'),
        (22, b':'),
        (25, b' '),
    ];
    if separators.iter().any(|&(at, byte)| text[at] != byte) || &text[26..] != b"GMT" {
        return None;
    }
    let day = number(&text[5..7])?;
    let month = MONTHS.iter().position(|name| *name == &text[8..11])? as u64;
    let year = number(&text[12..16])?;
    let (hour, minute) = (number(&text[17..19])?, number(&text[20..22])?);
    // 60 is a leap second; it counts as the second after it, as in POSIX time.
    let second = number(&text[23..25])?;
    if year < 1970 || day == 0 || day > days_in(month, year) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut days = day - 1;
    for earlier in 0..month {
        days += days_in(earlier, year);
    }
    let leap_days = |before: u64| (before - 1) / 4 - (before - 1) / 100 + (before - 1) / 400;
    days += (year - 1970) * 365 + leap_days(year) - leap_days(1970);
    if DAYS[(days % 7) as usize] != &text[..3] {
        return None;
    }
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(digits: &[u8]) -> Option<u64> {
    super::parse_length(digits)
}

fn days_in(month: u64, year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 => 28 + u64::from(leap),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_from_1970() {
        let known: [(&[u8], u64); 7] = [
            (b"Thu, 01 Jan 1970 00:00:00 GMT", 0),
            (b"Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            (b"Tue, 29 Feb 2000 12:00:00 GMT", 951_825_600),
            (b"Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800),
            (b"Tue, 19 Jan 2038 03:14:08 GMT", 2_147_483_648),
            (b"Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
            (b"Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        ];
        for (text, seconds) in known {
            assert_eq!(
                parse_date(text),
                Some(seconds),
                "{}",
                String::from_utf8_lossy(text)
            );
        }
    }

    #[test]
    fn o15_anything_but_an_exact_imf_fixdate_is_no_date() {
        for bad in [
            "",
            "0",
            "-1",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 6 Nov 1994 08:49:37 GMT ",
            "sun, 06 nov 1994 08:49:37 gmt",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Thu, 31 Nov 1994 08:49:37 GMT",
            "Tue, 29 Feb 2001 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
        ] {
            assert_eq!(parse_date(bad.as_bytes()), None, "{bad}");
        }
    }
}
