//! Names of this house: the router's and those its hosts lease their addresses with.
//!
//! A name under `lan` is answered here and never asked for outside, where it would be nobody's name and
//! would tell strangers what hosts there are.
//!
//! Follows: RFC 1035; RFC 2308 section 2 (no name, no data).

use smoltcp::wire::Ipv4Address;

use super::Query;
use super::message::{CLASS_IN, kind, rcode};
use crate::budget::DNS_LOCAL_TTL;

/// The last label of local names, in small letters.
const SUFFIX: &[u8] = b"lan";
/// Names of the router itself, without the suffix.
const ROUTER: [&[u8]; 2] = [b"router", b"tandem"];
/// The longest label.
const LABEL_MAX: usize = 63;

/// The answer to a question about a local name: its response code, and the address with its TTL (seconds).
pub(super) type Local = (u16, Option<([u8; 4], u32)>);

/// The answer, if the name is a local one.
pub(super) fn answer(
    asked: &[u8],
    query: &Query,
    router: Ipv4Address,
    hosts: &dyn Fn(&[u8]) -> Option<Ipv4Address>,
) -> Option<Local> {
    let mut labels = [b"".as_slice(); 2];
    let mut count = 0usize;
    let mut name = query.question.name(asked);
    while let Some((&len, rest)) = name.split_first() {
        if len == 0 {
            break;
        }
        let (label, rest) = rest.split_at_checked(usize::from(len))?;
        labels = [labels[1], label];
        count += 1;
        name = rest;
    }
    let [host, suffix] = labels;
    if !suffix.eq_ignore_ascii_case(SUFFIX) {
        return None;
    }
    // `lan` itself has no address; below a host there is nothing.
    let address = match count {
        2 => find(host, router, hosts),
        _ => None,
    };
    let wants_address = matches!(query.question.kind, kind::A | kind::ANY);
    Some(match address {
        Some(address) if wants_address && query.question.class == CLASS_IN => (
            rcode::NO_ERROR,
            Some((address.octets(), DNS_LOCAL_TTL.secs() as u32)),
        ),
        Some(_) => (rcode::NO_ERROR, None),
        None if count == 1 => (rcode::NO_ERROR, None),
        None => (rcode::NO_NAME, None),
    })
}

fn find(
    host: &[u8],
    router: Ipv4Address,
    hosts: &dyn Fn(&[u8]) -> Option<Ipv4Address>,
) -> Option<Ipv4Address> {
    let mut small = [0; LABEL_MAX];
    let small = small.get_mut(..host.len())?;
    small.copy_from_slice(host);
    small.make_ascii_lowercase();
    if ROUTER.contains(&&*small) {
        return Some(router);
    }
    hosts(small)
}
