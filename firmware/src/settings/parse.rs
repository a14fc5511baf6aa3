//! Text to values and back, for settings.

use core::fmt::{self, Write};
use core::net::Ipv4Addr;

use super::{Net, SettingError};

pub(super) fn write_option(out: &mut dyn Write, value: Option<impl fmt::Display>) -> fmt::Result {
    match value {
        Some(value) => write!(out, "{value}"),
        None => out.write_str("none"),
    }
}

pub(super) fn write_list(
    out: &mut dyn Write,
    values: impl Iterator<Item = impl fmt::Display>,
) -> fmt::Result {
    let mut any = false;
    for value in values {
        if any {
            out.write_str(",")?;
        }
        write!(out, "{value}")?;
        any = true;
    }
    if any { Ok(()) } else { out.write_str("none") }
}

pub(super) fn parse_option<T>(
    value: &str,
    parse: impl FnOnce(&str) -> Result<T, SettingError>,
) -> Result<Option<T>, SettingError> {
    if value == "none" {
        Ok(None)
    } else {
        parse(value).map(Some)
    }
}

/// Parses an address that a host can have.
pub(crate) fn parse_host(value: &str) -> Result<Ipv4Addr, SettingError> {
    let address = value.parse().map_err(|_| SettingError::NotAnAddress)?;
    if is_host(address) {
        Ok(address)
    } else {
        Err(SettingError::NotAHost)
    }
}

pub(super) fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first != 127 && first < 224
}

/// Parses a net in which the router has an address, and which overlaps none of `others`.
pub(super) fn parse_net(value: &str, others: [Option<Net>; 2]) -> Result<Net, SettingError> {
    let (address, prefix) = value.split_once('/').ok_or(SettingError::NotANet)?;
    let address = address.parse().map_err(|_| SettingError::NotANet)?;
    let prefix = parse_number(prefix).ok_or(SettingError::NotANet)?;
    let prefix = u8::try_from(prefix).map_err(|_| SettingError::Prefix)?;
    if !(8..=30).contains(&prefix) {
        return Err(SettingError::Prefix);
    }
    let net = Net { address, prefix };
    if !is_host(address) || !net.has_host(address) {
        return Err(SettingError::NotAHost);
    }
    if others.iter().flatten().any(|&other| net.overlaps(other)) {
        return Err(SettingError::Overlap);
    }
    Ok(net)
}

pub(super) fn parse_on_off(value: &str) -> Result<bool, SettingError> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(SettingError::NotOnOff),
    }
}

/// Digits only: `str::parse` would take a plus sign.
pub(super) fn parse_number(value: &str) -> Option<u64> {
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().ok()
    } else {
        None
    }
}
