//! Two interfaces over one: each frame from the switch tells by its tag which side it is of.
//!
//! Follows: IEEE 802.1Q: the tag is 4 bytes behind the addresses. It is removed and put in by moving the 12 bytes of
//! addresses within the buffer, so nothing else is copied and IP stays aligned.
//! A frame to the switch is at least 64 bytes without its check sequence: the switch takes 4 away on its way out.
//! Budget: a ring full of frames a side.

use core::convert::Infallible;

use crate::dma::{Frame, FramePool, RING_SLOTS};
use crate::frame_io::{FrameIo, Full};

/// One side of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Side {
    /// VLAN 0.
    Lan,
    /// VLAN 1.
    Wan,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Lan, Self::Wan];

    /// Its VLAN.
    pub const fn vlan(self) -> u16 {
        match self {
            Self::Lan => 0,
            Self::Wan => 1,
        }
    }
}

/// Shortest frame with its tag.
const TAGGED_BYTES_MIN: usize = 64;
const ADDRESSES: usize = 12;
const TAG_BYTES: usize = 4;
const TAG_TYPE: [u8; 2] = [0x81, 0x00];
/// The VLAN's number in the tag; above it are priority and a flag.
const VLAN_MASK: u16 = 0x0fff;

/// An interface whose frames are tagged.
pub struct Tagged<N> {
    nic: N,
    waiting: [heapless::Deque<Frame, RING_SLOTS>; 2],
    untagged: u32,
}

impl<N: FrameIo> Tagged<N> {
    /// Splits an interface.
    pub fn new(nic: N) -> Self {
        Self {
            nic,
            waiting: [const { heapless::Deque::new() }; 2],
            untagged: 0,
        }
    }

    /// The interface beneath, for all that is not of one side.
    pub fn nic(&mut self) -> &mut N {
        &mut self.nic
    }

    /// Frames dropped since the start: without a tag, or of no VLAN of ours. The switch should let none through.
    pub fn untagged(&self) -> u32 {
        self.untagged
    }

    /// The next frame of a side, without its tag.
    ///
    /// # Errors
    /// `WouldBlock` when none is there, or the other side's wait to be fetched in such number that none can be looked at.
    pub fn receive(&mut self, side: Side, pool: &mut FramePool) -> nb::Result<Frame, Infallible> {
        if let Some(frame) = self.waiting[usize::from(side.vlan())].pop_front() {
            return Ok(frame);
        }
        // Ends: each turn takes a frame from the ring, or returns.
        while !self.waiting.iter().any(heapless::Deque::is_full) {
            let frame = self.nic.receive(pool)?;
            match untag(frame) {
                Ok((found, frame)) if found == side => return Ok(frame),
                Ok((found, frame)) => {
                    // There is room.
                    let _room = self.waiting[usize::from(found.vlan())].push_back(frame);
                }
                Err(frame) => {
                    self.untagged = self.untagged.wrapping_add(1);
                    pool.put(frame);
                }
            }
        }
        Err(nb::Error::WouldBlock)
    }

    /// Queues a frame for a side, with its tag.
    ///
    /// # Errors
    /// [`Full`], with the frame as it was, when no slot is free or it is too short or too long to be tagged.
    pub fn transmit(&mut self, side: Side, frame: Frame) -> Result<(), Full> {
        if self.nic.room() == 0 {
            return Err(Full(frame));
        }
        let frame = tag(frame, side).map_err(Full)?;
        // `room` has just said that there is a slot.
        self.nic.transmit(frame)
    }

    /// Whether a frame of either side waits here; the ring is the interface's own matter.
    pub fn has_waiting(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }
}

/// Takes the tag off.
///
/// # Errors
/// The frame, when it has none of ours.
fn untag(mut frame: Frame) -> Result<(Side, Frame), Frame> {
    let bytes = frame.bytes();
    let Some(tag) = bytes.get(ADDRESSES..ADDRESSES + TAG_BYTES + 2) else {
        return Err(frame);
    };
    let vlan = u16::from_be_bytes([tag[2], tag[3]]) & VLAN_MASK;
    let side = Side::ALL.into_iter().find(|side| side.vlan() == vlan);
    let (true, Some(side)) = (tag[..2] == TAG_TYPE, side) else {
        return Err(frame);
    };
    frame.bytes_mut().copy_within(..ADDRESSES, TAG_BYTES);
    frame.cut_front(TAG_BYTES);
    Ok((side, frame))
}

/// Puts the tag in.
///
/// # Errors
/// The frame, when it is shorter than its addresses or there is no room.
fn tag(mut frame: Frame, side: Side) -> Result<Frame, Frame> {
    let length = frame.length();
    if length < ADDRESSES || !frame.grow_front(TAG_BYTES) {
        return Err(frame);
    }
    let bytes = frame.bytes_mut();
    bytes.copy_within(TAG_BYTES..TAG_BYTES + ADDRESSES, 0);
    bytes[ADDRESSES..ADDRESSES + 2].copy_from_slice(&TAG_TYPE);
    bytes[ADDRESSES + 2..ADDRESSES + TAG_BYTES].copy_from_slice(&side.vlan().to_be_bytes());
    let tagged = length + TAG_BYTES;
    if tagged < TAGGED_BYTES_MIN {
        frame.set_length(TAGGED_BYTES_MIN);
        frame.bytes_mut()[tagged..].fill(0);
    }
    Ok(frame)
}
