//! Line shapes as people write them: `8M/25ms/0%` for a whole line, `rate=8M` for one change.
//!
//! Units: rates in bit/s with decimal prefixes, delays in µs, shares in parts per million, sizes in bytes with binary
//! prefixes. Numbers are decimal fractions (`1.5M`, `0.1%`), computed without rounding to a float.

use crate::line::Shape;
use anyhow::{Context, Result, bail};

/// `number` times `unit`, for a decimal fraction; digits below one are cut off.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let mut value = match whole {
        "" => 0,
        digits => digits.parse::<u64>().ok()?.checked_mul(unit)?,
    };
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        value = value.checked_add(u64::from(digit - b'0') * place)?;
    }
    Some(value)
}

/// The number and the unit behind it.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Reads a rate: `8M`, `800k`, `1.5Mbit`, `1G`, `8000000`; `0` is unlimited. Bit/s.
///
/// # Errors
/// Not a rate.
pub fn parse_rate(text: &str) -> Result<u64> {
    let (number, unit) = split_unit(text.trim());
    let unit = unit.trim_end_matches("bit/s").trim_end_matches("bit");
    let scale = match unit {
        "" => Some(1),
        "k" | "K" => Some(1_000),
        "M" | "m" => Some(1_000_000),
        "G" | "g" => Some(1_000_000_000),
        _ => None,
    };
    scale
        .and_then(|scale| scaled(number, scale))
        .with_context(|| format!("`{text}` is not a rate; write it like `8M` or `800k`"))
}

/// Reads a delay: `25ms`, `500us`, `1s`; a bare number is in ms. µs.
///
/// # Errors
/// Not a delay.
pub fn parse_delay(text: &str) -> Result<u64> {
    let (number, unit) = split_unit(text.trim());
    let scale = match unit {
        "" | "ms" => Some(1_000),
        "us" | "µs" => Some(1),
        "s" => Some(1_000_000),
        _ => None,
    };
    scale
        .and_then(|scale| scaled(number, scale))
        .with_context(|| format!("`{text}` is not a delay; write it like `25ms`"))
}

/// Reads a share: `1%`, `0.1%`, `500ppm`; a bare number is in percent. Parts per million.
///
/// # Errors
/// Not a share between 0 and 100 %.
pub fn parse_share(text: &str) -> Result<u32> {
    let (number, unit) = split_unit(text.trim());
    let scale = match unit {
        "" | "%" => Some(10_000),
        "ppm" => Some(1),
        _ => None,
    };
    scale
        .and_then(|scale| scaled(number, scale))
        .filter(|ppm| *ppm <= 1_000_000)
        .and_then(|ppm| u32::try_from(ppm).ok())
        .with_context(|| format!("`{text}` is not a share; write it like `1%`"))
}

/// Reads a size: `32M`, `64K`, `1G`, `32MiB`, `1000`; prefixes are powers of 1024. Bytes.
///
/// # Errors
/// Not a size.
pub fn parse_size(text: &str) -> Result<u64> {
    let (number, unit) = split_unit(text.trim());
    let unit = unit.trim_end_matches("iB").trim_end_matches('B');
    let scale = match unit {
        "" => Some(1),
        "k" | "K" => Some(1 << 10),
        "M" | "m" => Some(1 << 20),
        "G" | "g" => Some(1 << 30),
        _ => None,
    };
    scale
        .and_then(|scale| scaled(number, scale))
        .with_context(|| format!("`{text}` is not a size; write it like `32M` or `64K`"))
}

/// Reads a whole line: `RATE/DELAY/LOSS`, later parts may be left out.
///
/// # Errors
/// A part is not what it should be, or there are more than three.
pub fn parse_shape(text: &str) -> Result<Shape> {
    let mut shape = Shape::default();
    for (index, part) in text.split('/').enumerate() {
        match index {
            0 => shape.rate_bit_s = parse_rate(part)?,
            1 => shape.delay_us = parse_delay(part)?,
            2 => shape.loss_ppm = parse_share(part)?,
            _ => bail!("`{text}` has too many parts; write RATE/DELAY/LOSS, like `8M/25ms/0%`"),
        }
    }
    Ok(shape)
}

/// Applies one change: `up`, `down`, or `KEY=VALUE` with a key of `lab link --help`.
///
/// # Errors
/// No such key, or not a value for it.
pub fn apply(shape: &mut Shape, change: &str) -> Result<()> {
    match change.split_once('=') {
        None if change == "up" => shape.up = true,
        None if change == "down" => shape.up = false,
        Some(("rate", value)) => shape.rate_bit_s = parse_rate(value)?,
        Some(("delay", value)) => shape.delay_us = parse_delay(value)?,
        Some(("loss", value)) => shape.loss_ppm = parse_share(value)?,
        Some(("reorder", value)) => shape.reorder_ppm = parse_share(value)?,
        Some(("reorder-delay", value)) => shape.reorder_us = parse_delay(value)?,
        Some(("duplicate", value)) => shape.duplicate_ppm = parse_share(value)?,
        Some(("corrupt", value)) => shape.corrupt_ppm = parse_share(value)?,
        Some(("queue", value)) => {
            shape.queue_bytes = usize::try_from(parse_size(value)?).context("queue too large")?;
        }
        None | Some(_) => bail!(
            "`{change}` changes no line; write up, down, rate=8M, delay=25ms, loss=1%, reorder=1%, \
             reorder-delay=5ms, duplicate=1%, corrupt=1% or queue=64K"
        ),
    }
    Ok(())
}

/// A rate as people write it.
pub fn rate_text(bit_s: u64) -> String {
    match bit_s {
        0 => "unlimited".to_owned(),
        rate if rate.is_multiple_of(1_000_000) => format!("{}M", rate / 1_000_000),
        rate if rate.is_multiple_of(1_000) => format!("{}k", rate / 1_000),
        rate => rate.to_string(),
    }
}

fn delay_text(us: u64) -> String {
    if us.is_multiple_of(1_000) {
        format!("{}ms", us / 1_000)
    } else {
        format!("{us}us")
    }
}

fn share_text(ppm: u32) -> String {
    let (whole, rest) = (ppm / 10_000, ppm % 10_000);
    match rest {
        0 => format!("{whole}%"),
        rest => format!("{whole}.{}%", format!("{rest:04}").trim_end_matches('0')),
    }
}

/// A shape as people write it: what `apply` takes, faults that are absent left out.
pub fn describe(shape: &Shape) -> String {
    let mut text = format!(
        "{} rate={} delay={} loss={} queue={}K",
        if shape.up { "up" } else { "down" },
        rate_text(shape.rate_bit_s),
        delay_text(shape.delay_us),
        share_text(shape.loss_ppm),
        match shape.queue_bytes {
            0 => shape.queue_bytes_default(),
            bytes => bytes,
        } / 1024,
    );
    for (name, ppm) in [
        ("reorder", shape.reorder_ppm),
        ("duplicate", shape.duplicate_ppm),
        ("corrupt", shape.corrupt_ppm),
    ] {
        if ppm > 0 {
            text.push_str(&format!(" {name}={}", share_text(ppm)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_decimal_prefixes_and_fractions() {
        for (text, expected) in [
            ("8M", 8_000_000),
            ("1.5M", 1_500_000),
            ("800k", 800_000),
            ("1G", 1_000_000_000),
            ("25Mbit", 25_000_000),
            ("25Mbit/s", 25_000_000),
            ("9600", 9_600),
            ("0", 0),
            (".5M", 500_000),
        ] {
            assert_eq!(parse_rate(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "M",
            "8X",
            "8 M",
            "-8M",
            "1.2.3M",
            "8M8",
            "99999999999999999999",
        ] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn delays_default_to_milliseconds() {
        for (text, expected) in [
            ("25ms", 25_000),
            ("25", 25_000),
            ("0.5ms", 500),
            ("500us", 500),
            ("1s", 1_000_000),
            ("0ms", 0),
        ] {
            assert_eq!(parse_delay(text).unwrap(), expected, "{text}");
        }
        assert!(parse_delay("25m").is_err());
    }

    #[test]
    fn shares_default_to_percent_and_stop_at_all() {
        for (text, expected) in [
            ("1%", 10_000),
            ("0.01%", 100),
            ("1", 10_000),
            ("100%", 1_000_000),
            ("7ppm", 7),
            ("0%", 0),
        ] {
            assert_eq!(parse_share(text).unwrap(), expected, "{text}");
        }
        assert!(parse_share("100.1%").is_err());
        assert!(parse_share("x").is_err());
    }

    #[test]
    fn sizes_have_binary_prefixes() {
        for (text, expected) in [
            ("32M", 32 << 20),
            ("64KiB", 64 << 10),
            ("64KB", 64 << 10),
            ("10", 10),
        ] {
            assert_eq!(parse_size(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_line_may_leave_out_delay_and_loss() {
        let shape = parse_shape("8M/25ms/0.5%").unwrap();
        assert_eq!(
            (shape.rate_bit_s, shape.delay_us, shape.loss_ppm),
            (8_000_000, 25_000, 5_000)
        );
        let shape = parse_shape("100M").unwrap();
        assert_eq!(
            (shape.rate_bit_s, shape.delay_us, shape.loss_ppm, shape.up),
            (100_000_000, 0, 0, true)
        );
        assert!(parse_shape("8M/25ms/0%/1").is_err());
        assert!(parse_shape("8M/fast").is_err());
    }

    #[test]
    fn what_describe_writes_apply_reads_back() {
        let shape = Shape {
            rate_bit_s: 1_500_000,
            delay_us: 12_345,
            loss_ppm: 12_500,
            reorder_ppm: 10_000,
            duplicate_ppm: 1,
            corrupt_ppm: 250_000,
            queue_bytes: 96 << 10,
            up: false,
            ..Shape::default()
        };
        let mut again = Shape::default();
        for change in describe(&shape).split(' ') {
            apply(&mut again, change).unwrap();
        }
        assert_eq!(again, shape);
    }

    #[test]
    fn an_unknown_change_changes_nothing_and_says_what_would() {
        let mut shape = Shape::default();
        for change in ["speed=8M", "sideways", "rate=fast", "loss=101%", "="] {
            assert!(apply(&mut shape, change).is_err(), "{change}");
        }
        assert_eq!(shape, Shape::default());
        assert!(format!("{:#}", apply(&mut shape, "speed=8M").unwrap_err()).contains("rate=8M"));
    }
}
