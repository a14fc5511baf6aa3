//! Where the next request of a connection begins, and what the router said of the last one.
//!
//! A connection is followed from one request to the next as long as the router knows exactly where each ends: the
//! request's head was whole in its segments and has no body, and the reply's head tells its length in one way only.
//!
//! Units: sequence numbers in the origin's view.
//! Invariants: I1 while a connection is followed, nothing but whole requests and their replies has passed on it, and the
//! origin was never told that it may send more than [`HANDSHAKE_WINDOW_MAX`] bytes past the end of the last reply. So a
//! reply is never slowed, and the edge of the next one's first window is known, where help can begin.

use crate::budget::HANDSHAKE_WINDOW_MAX;
use crate::wire::seq;

/// Where a followed connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Follow {
    /// First byte of the client's next request.
    pub request: u32,
    /// First byte of the origin's next reply: behind the one that passes, if one does.
    pub reply: u32,
    /// First byte of the request that was answered or waits for its answer, and its digest.
    asked: (u32, u32),
    /// The reply to it has no body whatever its head says.
    pub head_only: bool,
}

/// What a segment of the client with payload is to a followed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It begins the next request.
    Next,
    /// What was sent before comes again: it changes nothing.
    Again,
    /// Anything else.
    Astray,
}

impl Follow {
    /// A connection whose first request begins at `request`, the reply to it at `reply`.
    pub const fn from(request: u32, reply: u32) -> Self {
        Self {
            request,
            reply,
            asked: (request, 0),
            head_only: false,
        }
    }

    /// The next request passes, whole, in one segment; its reply is awaited.
    pub fn ask(&mut self, payload: &[u8], head_only: bool) {
        self.asked = (self.request, digest(payload));
        // A segment's payload is far below 2^32.
        self.request = self.request.wrapping_add(payload.len() as u32);
        self.head_only = head_only;
    }

    /// The reply to it was seen to be so many bytes long, head included.
    pub fn answer(&mut self, bytes: u32) {
        self.reply = self.reply.wrapping_add(bytes);
    }

    /// What a segment with payload at `seq` is while the reply is awaited: the request itself may come again, for it
    /// may have been lost behind the router, but not with other bytes than those that were judged (FAULTS G7).
    pub fn place_while_asked(&self, seq: u32, payload: &[u8]) -> Place {
        let end = seq.wrapping_add(payload.len() as u32);
        let is_before = seq::le(end, self.asked.0);
        let is_it = seq == self.asked.0 && end == self.request && digest(payload) == self.asked.1;
        if is_before || is_it {
            Place::Again
        } else {
            Place::Astray
        }
    }

    /// What a segment with payload at `seq` that acknowledges up to `ack` is once the origin has the last request.
    pub fn place(&self, seq: u32, ack: u32, len: u32) -> Place {
        if seq == self.request && ack == self.reply {
            Place::Next
        } else if seq::le(seq.wrapping_add(len), self.request) {
            Place::Again
        } else {
            Place::Astray
        }
    }

    /// The window field for a segment of the client, if it must not be its own: I1.
    #[inline]
    pub fn window_to_origin(&self, ack: u32, window: u16, shift: u8) -> Option<u16> {
        let edge = self.reply.wrapping_add(HANDSHAKE_WINDOW_MAX as u32);
        let offered = ack.wrapping_add(u32::from(window) << shift);
        if seq::le(offered, edge) {
            return None;
        }
        let room = u32::try_from(seq::diff(edge, ack)).unwrap_or(0);
        let field = u16::try_from(room >> shift).unwrap_or(u16::MAX);
        (field < window).then_some(field)
    }
}

/// FNV-1a, to tell a request from another one in its place; not against an attacker, who would fool himself only.
fn digest(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    fn asked() -> Follow {
        let mut follow = Follow::from(u32::MAX - 3, 5000);
        follow.ask(GET, false);
        follow
    }

    #[test]
    fn g7_a_request_may_come_again_as_it_was_and_not_otherwise() {
        let follow = asked();
        let at = u32::MAX - 3;
        assert_eq!(follow.request, GET.len() as u32 - 4);
        assert_eq!(follow.place_while_asked(at, GET), Place::Again);
        let mut other = GET.to_vec();
        other[5] = b'?';
        assert_eq!(follow.place_while_asked(at, &other), Place::Astray);
        assert_eq!(follow.place_while_asked(at, &GET[..5]), Place::Astray);
        assert_eq!(
            follow.place_while_asked(at.wrapping_sub(1), b"x"),
            Place::Again
        );
        assert_eq!(follow.place_while_asked(follow.request, GET), Place::Astray);
    }

    #[test]
    fn q4_only_what_begins_exactly_behind_both_ends_is_the_next_request() {
        let mut follow = asked();
        follow.answer(300);
        let next = follow.request;
        assert_eq!(follow.place(next, 5300, 10), Place::Next);
        assert_eq!(follow.place(next, 5299, 10), Place::Astray);
        assert_eq!(follow.place(next, 5301, 10), Place::Astray);
        assert_eq!(follow.place(next.wrapping_add(1), 5300, 10), Place::Astray);
        assert_eq!(follow.place(next.wrapping_sub(1), 5300, 10), Place::Astray);
        // A keep-alive probe's one byte, and the last request once more.
        assert_eq!(follow.place(next.wrapping_sub(1), 5300, 1), Place::Again);
        assert_eq!(
            follow.place(u32::MAX - 3, 5100, GET.len() as u32),
            Place::Again
        );
    }

    #[test]
    fn the_origin_is_never_told_of_more_than_a_handshake_says_behind_the_end() {
        let follow = Follow::from(0, u32::MAX - 10_000);
        for shift in [0, 3, 7, 14] {
            for window in [0, 1, 100, 8_192, u16::MAX] {
                for before in [0, 1, 70_000, 2_000_000] {
                    let ack = follow.reply.wrapping_sub(before);
                    let told = follow
                        .window_to_origin(ack, window, shift)
                        .unwrap_or(window);
                    assert!(told <= window);
                    let edge = u64::from(told) << shift;
                    let most = u64::from(before) + HANDSHAKE_WINDOW_MAX;
                    assert!(edge <= most, "{shift} {window} {before}");
                    // All of the reply may come, if the client has the room.
                    let own = u64::from(window) << shift;
                    assert!(edge >= own.min(most - ((1 << shift) - 1)));
                }
            }
        }
    }
}
