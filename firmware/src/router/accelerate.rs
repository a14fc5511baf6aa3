//! Where a connection that may be accelerated leaves the plain path.

use smoltcp::time::Instant;

use super::{Router, Verdict};
use crate::conntrack::{Direction, EntryId};
use crate::port::Egress;
use crate::wire::packet::Packet;

impl Router<'_> {
    /// Takes a segment of a flow whose stage is not `Plain`, before anything of it is rewritten;
    /// `None` lets it pass as plain translation. Its transport checksum was verified.
    ///
    /// Conntrack has not judged the segment yet: of a watched flow only the exact next byte is looked
    /// at, and of one with an exchange both ends are the exchange's own.
    pub(super) fn accelerate<E: Egress>(
        &mut self,
        now: Instant,
        id: EntryId,
        direction: Direction,
        packet: &Packet,
        frame: &mut [u8],
        out: &mut E,
    ) -> Option<Verdict> {
        self.accelerator_duty.touch();
        let (accelerator, mut lent) = self.split(out);
        accelerator.on_flow_segment(now, id, direction, packet, frame, &mut lent)
    }
}
