//! Registers of the Sonics backplane: those that every core has, and those of the PCI core and its bridge.
//!
//! Offsets are in bytes from the core's window; bits are masks.

/// Bytes of a core's window.
pub const WINDOW_BYTES: usize = 0x1000;
/// Backplane address of core 0.
pub const FIRST_CORE: u32 = 0x1800_0000;

/// Interrupt routing: four fields of six bits (the processor's core only).
pub const IPSFLAG: usize = 0xf08;
/// The core's own interrupt flag.
pub const TPSFLAG: usize = 0xf18;
/// `TPSFLAG`: the flag's number.
pub const TPSFLAG_NUMBER: u32 = 0x3f;
/// Initiator's state.
pub const IMSTATE: usize = 0xf90;
/// `IMSTATE`: an error came back in band.
pub const IMSTATE_IN_BAND_ERROR: u32 = 1 << 17;
/// `IMSTATE`: a request timed out.
pub const IMSTATE_TIMEOUT: u32 = 1 << 18;
/// `IMSTATE`: requests are under way.
pub const IMSTATE_BUSY: u32 = 3 << 23;
/// `IMSTATE`: no new requests.
pub const IMSTATE_REJECT: u32 = 1 << 25;
/// Mask of flags that raise the core's interrupt.
pub const INTVEC: usize = 0xf94;
/// Target's state, low word.
pub const TMSLOW: usize = 0xf98;
/// `TMSLOW`: in reset.
pub const TMSLOW_RESET: u32 = 1 << 0;
/// `TMSLOW`: requests are rejected, backplane 2.2.
pub const TMSLOW_REJECT: u32 = 1 << 1;
/// `TMSLOW`: the same, backplane 2.3.
pub const TMSLOW_REJECT_23: u32 = 1 << 2;
/// `TMSLOW`: clock on.
pub const TMSLOW_CLOCK: u32 = 1 << 16;
/// `TMSLOW`: clock on where it would be gated.
pub const TMSLOW_FORCE_CLOCK: u32 = 1 << 17;
/// Target's state, high word.
pub const TMSHIGH: usize = 0xf9c;
/// `TMSHIGH`: the core reported an error.
pub const TMSHIGH_SERR: u32 = 1 << 0;
/// `TMSHIGH`: requests are under way.
pub const TMSHIGH_BUSY: u32 = 1 << 2;
/// Initiator's configuration, low word.
pub const IMCFGLO: usize = 0xfa8;
/// Identification, low word.
pub const IDLOW: usize = 0xff8;
/// `IDLOW`: the core can be an initiator.
pub const IDLOW_INITIATOR: u32 = 1 << 7;
/// Identification, high word: vendor, core, revision.
pub const IDHIGH: usize = 0xffc;

/// ChipCommon: identity of the chip.
pub const CHIP_ID: usize = 0x000;

/// PCI core: address and data of a commit.
pub const BROADCAST_ADDRESS: usize = 0x050;
/// PCI core: see [`BROADCAST_ADDRESS`].
pub const BROADCAST_DATA: usize = 0x054;
/// What a commit is addressed to.
pub const ACTCFG: u32 = 0xfd8;
/// PCI core: its third window to the bus.
pub const SBTOPCI2: usize = 0x108;
/// `SBTOPCI2`: prefetch.
pub const SBTOPCI_PREFETCH: u32 = 1 << 2;
/// `SBTOPCI2`: bursts.
pub const SBTOPCI_BURST: u32 = 1 << 3;
/// `SBTOPCI2`: read multiple (core revision 11 on).
pub const SBTOPCI_READ_MULTIPLE: u32 = 2 << 4;
/// PCI core: shadow of the SPROM, whose first word names the core's own index in bits 15:12.
pub const PCI_SHADOW: usize = 0x800;

/// Bridge, PCI configuration space: the window's backplane address.
pub const CONFIG_WINDOW: u8 = 0x80;
/// Bridge: mask of cores that raise INTA, from bit 8 on (PCI core revision 6 on).
pub const CONFIG_INTERRUPT_MASK: u8 = 0x94;
/// Bridge: GPIO inputs.
pub const CONFIG_GPIO_IN: u8 = 0xb0;
/// Bridge: GPIO outputs.
pub const CONFIG_GPIO_OUT: u8 = 0xb4;
/// Bridge: GPIO output enables.
pub const CONFIG_GPIO_ENABLE: u8 = 0xb8;
/// GPIO: the crystal has power.
pub const GPIO_CRYSTAL: u32 = 0x40;
/// GPIO: the PLL has none.
pub const GPIO_PLL_OFF: u32 = 0x80;
/// Base address 0: where the SPROM's words lie, read by 16 bits.
pub const BAR_SPROM: usize = 0x1000;
