//! Where a connection that may be accelerated leaves the plain path.

use smoltcp::time::Instant;

use super::{Router, Verdict};
use crate::conntrack::{Direction, EntryId};
use crate::port::Egress;
use crate::wire::packet::Packet;

impl Router<'_> {
    /// Takes a segment of a flow whose stage is not `Plain`, before the flow has judged it and
    /// before anything of it is rewritten; `None` lets it go on as plain translation. Its
    /// transport checksum was verified.
    pub(super) fn accelerate<E: Egress>(
        &mut self,
        now: Instant,
        id: EntryId,
        direction: Direction,
        packet: &Packet,
        frame: &mut [u8],
        out: &mut E,
    ) -> Option<Verdict> {
        let _ = (now, id, direction, packet, frame, out);
        None
    }
}
