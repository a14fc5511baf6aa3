//! A virtio network device: both rings, feature negotiation, notification suppression, and misbehaviour on demand.

use std::cell::RefCell;
use std::rc::Rc;

use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{PhysAddr, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Descriptor flag: the device writes.
const WRITE: u16 = 2;

#[derive(Clone, Copy, Default)]
struct Ring {
    size: u16,
    descriptors: usize,
    available: usize,
    used: usize,
    taken: u16,
    done: u16,
}

/// What the device is; shared by the transport (the driver's side) and the test (the wire's side).
pub(super) struct Device {
    rings: [Ring; 2],
    pub(super) mac: [u8; 6],
    pub(super) features: u64,
    pub(super) accepted: u64,
    pub(super) status: DeviceStatus,
    /// Notices received, by queue.
    pub(super) notices: Vec<u16>,
    /// The interrupt line.
    pub(super) interrupt: bool,
    selected_type: DeviceType,
}

/// A word of ring memory, at an address that the driver gave.
fn load<T: Copy>(address: usize) -> T {
    // SAFETY: ring memory is never freed, and driver and model take turns in one thread.
    unsafe { (address as *const T).read_volatile() }
}

fn save<T: Copy>(address: usize, value: T) {
    // SAFETY: as above.
    unsafe { (address as *mut T).write_volatile(value) }
}

impl Device {
    pub(super) fn new(features: u64) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            rings: [Ring::default(); 2],
            mac: [0x52, 0x54, 0, 0x0a, 0, 1],
            features,
            accepted: 0,
            status: DeviceStatus::empty(),
            notices: Vec::new(),
            interrupt: false,
            selected_type: DeviceType::Network,
        }))
    }

    /// The next buffer that the driver has offered on `queue`: slot, address, length, flags.
    fn next(&mut self, queue: usize) -> Option<(u16, usize, usize, u16)> {
        let ring = &mut self.rings[queue];
        if load::<u16>(ring.available + 2) == ring.taken {
            return None;
        }
        let slot: u16 = load(ring.available + 4 + usize::from(ring.taken % ring.size) * 2);
        ring.taken = ring.taken.wrapping_add(1);
        let descriptor = ring.descriptors + usize::from(slot) * 16;
        Some((
            slot,
            load::<u64>(descriptor) as usize,
            load::<u32>(descriptor + 8) as usize,
            load(descriptor + 12),
        ))
    }

    /// Gives a slot back to the driver, and interrupts unless the driver asked not to.
    pub(super) fn give_back(&mut self, queue: usize, slot: u16, written: usize) {
        let ring = &mut self.rings[queue];
        let element = ring.used + 4 + usize::from(ring.done % ring.size) * 8;
        save(element, u32::from(slot));
        save(element + 4, written as u32);
        ring.done = ring.done.wrapping_add(1);
        save(ring.used + 2, ring.done);
        if load::<u16>(ring.available) & 1 == 0 {
            self.interrupt = true;
        }
    }

    /// A frame arrives; false when no buffer is there or it does not fit.
    pub(super) fn deliver(&mut self, frame: &[u8]) -> bool {
        let Some((slot, address, length, flags)) = self.next(0) else {
            return false;
        };
        assert_eq!(flags, WRITE);
        assert_eq!(address % 4, 2, "the IP header would be misaligned");
        if 12 + frame.len() > length {
            return false;
        }
        // A header that must not leak into what is sent.
        for (offset, byte) in [0xee; 12].iter().chain(frame).enumerate() {
            save(address + offset, *byte);
        }
        self.give_back(0, slot, 12 + frame.len());
        true
    }

    /// Everything that the driver has queued for sending, done with at once; headers are checked.
    pub(super) fn collect(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some((slot, address, length, flags)) = self.next(1) {
            assert_eq!(flags, 0);
            let bytes: Vec<u8> = (0..length).map(|offset| load(address + offset)).collect();
            assert_eq!(bytes[..12], [0; 12], "the header asks for an offload");
            frames.push(bytes[12..].to_vec());
            self.give_back(1, slot, 0);
        }
        frames
    }

    /// Tells the driver whether notices are wanted.
    pub(super) fn listen(&mut self, queue: usize, listen: bool) {
        save(self.rings[queue].used, u16::from(!listen));
    }

    /// Receive buffers that the driver has offered and the device has not used.
    pub(super) fn offered(&self, queue: usize) -> u16 {
        load::<u16>(self.rings[queue].available + 2).wrapping_sub(self.rings[queue].taken)
    }
}

/// The driver's side.
pub(super) struct Line(pub(super) Rc<RefCell<Device>>);

impl Transport for Line {
    fn device_type(&self) -> DeviceType {
        self.0.borrow().selected_type
    }
    fn read_device_features(&mut self) -> u64 {
        self.0.borrow().features
    }
    fn write_driver_features(&mut self, features: u64) {
        self.0.borrow_mut().accepted = features;
    }
    fn max_queue_size(&mut self, _: u16) -> u32 {
        256
    }
    fn notify(&mut self, queue: u16) {
        self.0.borrow_mut().notices.push(queue);
    }
    fn get_status(&self) -> DeviceStatus {
        self.0.borrow().status
    }
    fn set_status(&mut self, status: DeviceStatus) {
        self.0.borrow_mut().status = status;
    }
    fn set_guest_page_size(&mut self, _: u32) {}
    fn requires_legacy_layout(&self) -> bool {
        false
    }
    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver: PhysAddr,
        device: PhysAddr,
    ) {
        self.0.borrow_mut().rings[usize::from(queue)] = Ring {
            size: size as u16,
            descriptors: descriptors as usize,
            available: driver as usize,
            used: device as usize,
            taken: 0,
            done: 0,
        };
    }
    fn queue_unset(&mut self, _: u16) {}
    fn queue_used(&mut self, queue: u16) -> bool {
        self.0.borrow().rings[usize::from(queue)].size != 0
    }
    fn ack_interrupt(&mut self) -> InterruptStatus {
        self.0.borrow_mut().interrupt = false;
        InterruptStatus::QUEUE_INTERRUPT
    }
    fn read_config_generation(&self) -> u32 {
        0
    }
    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        let mac = self.0.borrow().mac;
        mac.get(offset..offset + size_of::<T>())
            .and_then(|bytes| T::read_from_bytes(bytes).ok())
            .ok_or(virtio_drivers::Error::ConfigSpaceTooSmall)
    }
    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> Result<()> {
        Ok(())
    }
}
