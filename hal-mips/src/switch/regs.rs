//! Registers of Broadcom's RoboSwitch: pages of registers of 8 to 48 bits, reached through five registers of a pseudo-PHY.
//!
//! Names say page and register; widths are in the driver's calls.

/// MDIO address of the pseudo-PHY.
pub const PSEUDO_PHY: u8 = 30;
/// PHY id, high half: all ones when there is no switch on MDIO.
pub const MII_ID: u8 = 2;
/// Page and access enable.
pub const MII_PAGE: u8 = 0x10;
/// `MII_PAGE`: access enable.
pub const MII_PAGE_ENABLE: u16 = 1;
/// Register and operation.
pub const MII_ADDRESS: u8 = 0x11;
/// `MII_ADDRESS`: write.
pub const MII_WRITE: u16 = 1;
/// `MII_ADDRESS`: read.
pub const MII_READ: u16 = 2;
/// `MII_ADDRESS`: under way.
pub const MII_BUSY: u16 = 3;
/// First of four data words, least significant first.
pub const MII_DATA: u8 = 0x18;

/// Control.
pub const PAGE_CONTROL: u8 = 0x00;
/// Control of jack port n, 8 bits: 0 is "receive, transmit, no spanning tree".
pub const PORT_CONTROL: u8 = 0x00;
/// Control of the processor's port, 8 bits.
pub const MII_CONTROL: u8 = 0x08;
/// Switch mode, 8 bits.
pub const MODE: u8 = 0x0b;
/// `MODE`: managed: frames to the processor carry a proprietary tag.
pub const MODE_MANAGED: u16 = 1 << 0;
/// `MODE`: forwarding.
pub const MODE_FORWARD: u16 = 1 << 1;
/// Override of the processor's port, 8 bits.
pub const MII_OVERRIDE: u8 = 0x0e;
/// `MII_OVERRIDE`: the switch takes the PHY's side of the MII.
pub const OVERRIDE_REVERSE_MII: u16 = 1 << 4;
/// Lights and ports, 16 bits.
pub const LIGHTS: u8 = 0x16;

/// Status.
pub const PAGE_STATUS: u8 = 0x01;
/// Link of each jack port, 16 bits.
pub const LINKS: u8 = 0x00;
/// Revision of the chip, 8 bits.
pub const REVISION: u8 = 0x50;

/// VLANs.
pub const PAGE_VLAN: u8 = 0x34;
/// Control 0, 8 bits.
pub const VLAN_CONTROL_0: u8 = 0x00;
/// `VLAN_CONTROL_0`: 802.1Q, learning by VLAN.
pub const VLAN_CONTROL_0_ON: u16 = 0xe0;
/// Control 1, 8 bits: where reserved multicasts go.
pub const VLAN_CONTROL_1: u8 = 0x01;
/// Control 4, 8 bits: what comes in without being a member is dropped.
pub const VLAN_CONTROL_4: u8 = 0x04;
/// Control 5, 8 bits: what is of no VLAN is dropped.
pub const VLAN_CONTROL_5: u8 = 0x05;
/// Access to the table, 16 bits.
pub const VLAN_ACCESS: u8 = 0x06;
/// `VLAN_ACCESS`: start, write.
pub const VLAN_ACCESS_WRITE: u16 = 0x3000;
/// Data for the table, 32 bits.
pub const VLAN_DATA: u8 = 0x08;
/// Default tag of port n, 16 bits, 2 apart.
pub const DEFAULT_TAG: u8 = 0x10;
/// Default tag of the processor's port.
pub const DEFAULT_TAG_MII: u8 = 0x1a;
/// Entries of the table.
pub const VLANS: u16 = 16;
