//! Registers of the 44xx Ethernet core, descriptors, the header before each received frame, and the PHY.
//!
//! Names are those of the public headers; where these disagree with each other, Broadcom's own is right. Offsets are in
//! bytes; all registers are 32 bits wide.

/// Device control.
pub const DEVCTRL: usize = 0x000;
/// `DEVCTRL`: the core has a PHY of its own.
pub const DEVCTRL_INTERNAL_PHY: u32 = 1 << 10;
/// `DEVCTRL`: that PHY is held in reset.
pub const DEVCTRL_PHY_RESET: u32 = 1 << 15;
/// Interrupt status; a written one clears.
pub const ISTAT: usize = 0x020;
/// `ISTAT`: the link changed (revision 7 on).
pub const ISTAT_LINK: u32 = 1 << 5;
/// `ISTAT`: the general purpose timer ran out.
pub const ISTAT_TIMER: u32 = 1 << 7;
/// `ISTAT`: a descriptor could not be read.
pub const ISTAT_DESCRIPTOR_READ: u32 = 1 << 10;
/// `ISTAT`: a buffer could not be read or written.
pub const ISTAT_DATA_BUS: u32 = 1 << 11;
/// `ISTAT`: a descriptor makes no sense.
pub const ISTAT_PROTOCOL: u32 = 1 << 12;
/// `ISTAT`: a frame came and no descriptor was there; by itself no error.
pub const ISTAT_RX_UNDERFLOW: u32 = 1 << 13;
/// `ISTAT`: the receive FIFO ran over; it stays so until the core is reset.
pub const ISTAT_RX_OVERFLOW: u32 = 1 << 14;
/// `ISTAT`: the transmit FIFO ran empty in the middle of a frame.
pub const ISTAT_TX_UNDERFLOW: u32 = 1 << 15;
/// `ISTAT`: frames were received, as many as `RCV_LAZY` says.
pub const ISTAT_RX: u32 = 1 << 16;
/// `ISTAT`: a descriptor that asked for it was sent.
pub const ISTAT_TX: u32 = 1 << 24;
/// `ISTAT`: see `EMAC_ISTAT`.
pub const ISTAT_EMAC: u32 = 1 << 26;
/// `ISTAT`: what only a reset ends.
pub const ISTAT_ERRORS: u32 = ISTAT_DESCRIPTOR_READ
    | ISTAT_DATA_BUS
    | ISTAT_PROTOCOL
    | ISTAT_RX_OVERFLOW
    | ISTAT_TX_UNDERFLOW;
/// Interrupt mask: gates the core's flag, hides nothing in `ISTAT`.
pub const IMASK: usize = 0x024;
/// General purpose timer, counts down backplane clocks.
pub const GPTIMER: usize = 0x028;
/// MAC control.
pub const MAC_CTRL: usize = 0x0a8;
/// `MAC_CTRL`: a check sequence is appended to each frame sent.
pub const MAC_CTRL_CRC: u32 = 1 << 0;
/// `MAC_CTRL`: mode of the internal PHY's lights, as all drivers set it.
pub const MAC_CTRL_LEDS: u32 = 0xe0;
/// Interrupt moderation of receiving: frames in bits 31:24, timeout in backplane clocks in 23:0.
pub const RCV_LAZY: usize = 0x100;
/// Transmit DMA control.
pub const DMATX_CTRL: usize = 0x200;
/// Transmit ring, 4 KiB aligned.
pub const DMATX_ADDR: usize = 0x204;
/// Byte offset of the first descriptor that is not posted.
pub const DMATX_PTR: usize = 0x208;
/// Current descriptor, state, error.
pub const DMATX_STAT: usize = 0x20c;
/// Receive DMA control.
pub const DMARX_CTRL: usize = 0x210;
/// Receive ring.
pub const DMARX_ADDR: usize = 0x214;
/// As [`DMATX_PTR`].
pub const DMARX_PTR: usize = 0x218;
/// As [`DMATX_STAT`].
pub const DMARX_STAT: usize = 0x21c;
/// `DMATX_CTRL`, `DMARX_CTRL`: runs.
pub const DMA_ENABLE: u32 = 1 << 0;
/// `DMARX_CTRL`: shift of the frame's offset in its buffer.
pub const DMARX_OFFSET_SHIFT: u32 = 1;
/// `DMATX_STAT`, `DMARX_STAT`: byte offset of the current descriptor.
pub const DMA_CURRENT: u32 = 0xfff;
/// The same: state.
pub const DMA_STATE: u32 = 0xf000;
/// The same: idle.
pub const DMA_IDLE: u32 = 0x2000;
/// The same: what went wrong.
pub const DMA_ERROR: u32 = 0xf_0000;
/// Receive configuration.
pub const RXCONFIG: usize = 0x400;
/// `RXCONFIG`: every multicast frame is taken.
pub const RXCONFIG_ALL_MULTICAST: u32 = 1 << 1;
/// `RXCONFIG`: every frame is taken.
pub const RXCONFIG_PROMISCUOUS: u32 = 1 << 3;
/// `RXCONFIG`: frames sent are received, those of the line are not.
pub const RXCONFIG_LOOPBACK: u32 = 1 << 4;
/// `RXCONFIG`: there is no address filter.
pub const RXCONFIG_NO_CAM: u32 = 1 << 8;
/// Longest frame received, check sequence included.
pub const RXMAXLEN: usize = 0x404;
/// Longest frame sent.
pub const TXMAXLEN: usize = 0x408;
/// MDIO clock divider and preamble.
pub const MDIO_CTRL: usize = 0x410;
/// `MDIO_CTRL`: preamble.
pub const MDIO_PREAMBLE: u32 = 0x80;
/// MDIO transfer.
pub const MDIO_DATA: usize = 0x414;
/// `MDIO_DATA`: start and turnaround.
pub const MDIO_FRAME: u32 = 1 << 30 | 2 << 16;
/// `MDIO_DATA`: write.
pub const MDIO_WRITE: u32 = 1 << 28;
/// `MDIO_DATA`: read.
pub const MDIO_READ: u32 = 2 << 28;
/// `MDIO_DATA`: shift of the PHY's address.
pub const MDIO_PHY_SHIFT: u32 = 23;
/// `MDIO_DATA`: shift of the register's number.
pub const MDIO_REGISTER_SHIFT: u32 = 18;
/// The MAC's own interrupt mask.
pub const EMAC_IMASK: usize = 0x418;
/// The MAC's own interrupt status; a written one clears.
pub const EMAC_ISTAT: usize = 0x41c;
/// `EMAC_ISTAT`: an MDIO transfer is done.
pub const EMAC_MDIO: u32 = 1 << 0;
/// Address filter: bytes 2 to 5.
pub const CAM_DATA_LO: usize = 0x420;
/// Address filter: bytes 0 and 1.
pub const CAM_DATA_HI: usize = 0x424;
/// `CAM_DATA_HI`: the entry counts.
pub const CAM_VALID: u32 = 1 << 16;
/// Address filter control.
pub const CAM_CTRL: usize = 0x428;
/// `CAM_CTRL`: it filters.
pub const CAM_ENABLE: u32 = 1 << 0;
/// `CAM_CTRL`: read an entry.
pub const CAM_READ: u32 = 1 << 2;
/// `CAM_CTRL`: write an entry.
pub const CAM_WRITE: u32 = 1 << 3;
/// `CAM_CTRL`: shift of the entry's number.
pub const CAM_INDEX_SHIFT: u32 = 16;
/// `CAM_CTRL`: under way.
pub const CAM_BUSY: u32 = 1 << 31;
/// Entries of the address filter.
pub const CAM_ENTRIES: u32 = 64;
/// MAC control.
pub const ENET_CTRL: usize = 0x42c;
/// `ENET_CTRL`: runs.
pub const ENET_ENABLE: u32 = 1 << 0;
/// `ENET_CTRL`: stop; clears itself when that is done.
pub const ENET_DISABLE: u32 = 1 << 1;
/// `ENET_CTRL`: the PHY, or the switch, is at the pins.
pub const ENET_EXTERNAL_PHY: u32 = 1 << 3;
/// Transmit control.
pub const TX_CTRL: usize = 0x430;
/// `TX_CTRL`: full duplex.
pub const TX_DUPLEX: u32 = 1 << 0;
/// Transmit FIFO: bytes in it before a frame starts to leave, in units of the hardware's.
pub const TX_WMARK: usize = 0x434;
/// Counter control.
pub const MIB_CTRL: usize = 0x438;
/// `MIB_CTRL`: reading a counter clears it.
pub const MIB_CLEAR_ON_READ: u32 = 1 << 0;
/// First transmit counter.
pub const MIB_TX: usize = 0x500;
/// Transmit counters.
pub const MIB_TX_COUNT: usize = 24;
/// First receive counter.
pub const MIB_RX: usize = 0x580;
/// Receive counters.
pub const MIB_RX_COUNT: usize = 23;

/// A transmit counter, by its place.
pub mod mib_tx {
    /// Frames sent.
    pub const PACKETS: usize = 3;
    /// The FIFO ran empty.
    pub const UNDERRUN: usize = 15;
    /// Given up after 16 collisions.
    pub const EXCESSIVE: usize = 19;
    /// Collided too late to be repeated.
    pub const LATE: usize = 20;
}

/// A receive counter, by its place.
pub mod mib_rx {
    /// Frames received.
    pub const PACKETS: usize = 3;
    /// Too long, with a wrong check sequence.
    pub const JABBER: usize = 12;
    /// Too long.
    pub const OVERSIZE: usize = 13;
    /// Too short, with a wrong check sequence.
    pub const FRAGMENT: usize = 14;
    /// No room in the FIFO.
    pub const MISSED: usize = 15;
    /// Too short.
    pub const UNDERSIZE: usize = 17;
    /// Wrong check sequence.
    pub const CRC: usize = 18;
    /// Not a whole number of bytes.
    pub const ALIGN: usize = 19;
    /// Code errors of the PHY.
    pub const SYMBOL: usize = 20;
}

/// A descriptor: control word, then address.
pub const DESCRIPTOR_BYTES: usize = 8;
/// Control: bytes of the buffer.
pub const DESCRIPTOR_LENGTH: u32 = 0x1fff;
/// Control: last of the table.
pub const DESCRIPTOR_END_OF_TABLE: u32 = 1 << 28;
/// Control: interrupt when done.
pub const DESCRIPTOR_INTERRUPT: u32 = 1 << 29;
/// Control: last of a frame.
pub const DESCRIPTOR_END_OF_FRAME: u32 = 1 << 30;
/// Control: first of a frame.
pub const DESCRIPTOR_START_OF_FRAME: u32 = 1 << 31;
/// Descriptors that the byte offset can name.
pub const DESCRIPTORS_MAX: usize = 512;

/// Receive header, low half: bytes of the frame, check sequence included.
pub const HEADER_LENGTH: u32 = 0xffff;
/// Receive header, flags: the FIFO ran over.
pub const HEADER_OVERFLOW: u32 = 1 << 16;
/// Receive header, flags: wrong check sequence.
pub const HEADER_CRC: u32 = 1 << 17;
/// Receive header, flags: code error of the PHY.
pub const HEADER_SYMBOL: u32 = 1 << 18;
/// Receive header, flags: half a byte too many.
pub const HEADER_ODD: u32 = 1 << 19;
/// Receive header, flags: longer than `RXMAXLEN`.
pub const HEADER_LONG: u32 = 1 << 20;
/// Receive header, flags: multicast.
pub const HEADER_MULTICAST: u32 = 1 << 21;
/// Receive header, flags: broadcast.
pub const HEADER_BROADCAST: u32 = 1 << 22;
/// Receive header, flags: last buffer of the frame.
pub const HEADER_LAST: u32 = 1 << 27;
/// Receive header, flags: what makes a frame worthless.
pub const HEADER_BAD: u32 = HEADER_OVERFLOW | HEADER_CRC | HEADER_SYMBOL | HEADER_ODD | HEADER_LONG;

/// PHY registers: IEEE 802.3 clause 22, and those of the internal PHY.
pub mod phy {
    /// Control.
    pub const BMCR: u8 = 0;
    /// `BMCR`: reset.
    pub const BMCR_RESET: u16 = 1 << 15;
    /// `BMCR`: negotiate, from the start.
    pub const BMCR_NEGOTIATE: u16 = 1 << 12 | 1 << 9;
    /// Status.
    pub const BMSR: u8 = 1;
    /// `BMSR`: link; once down it stays so until it is read.
    pub const BMSR_LINK: u16 = 1 << 2;
    /// What we can.
    pub const ADVERTISE: u8 = 4;
    /// `ADVERTISE`: IEEE 802.3, 10 and 100 Mbit/s, half and full duplex.
    pub const ADVERTISE_ALL: u16 = 0x01e1;
    /// What the other side can.
    pub const PARTNER: u8 = 5;
    /// Both: 100 Mbit/s full duplex.
    pub const CAN_100_FULL: u16 = 1 << 8;
    /// Both: 100 Mbit/s.
    pub const CAN_100_HALF: u16 = 1 << 7;
    /// Both: 10 Mbit/s full duplex.
    pub const CAN_10_FULL: u16 = 1 << 6;
    /// Internal PHY: what was negotiated.
    pub const RESULT: u8 = 24;
    /// `RESULT`: full duplex.
    pub const RESULT_FULL: u16 = 1 << 0;
    /// `RESULT`: 100 Mbit/s.
    pub const RESULT_100: u16 = 1 << 1;
    /// Internal PHY: activity light.
    pub const ACTIVITY: u8 = 26;
    /// `ACTIVITY`: what is kept.
    pub const ACTIVITY_KEEP: u16 = 0x7fff;
    /// Internal PHY: traffic light.
    pub const TRAFFIC: u8 = 27;
    /// `TRAFFIC`: what is set.
    pub const TRAFFIC_ON: u16 = 0x0040;
}
