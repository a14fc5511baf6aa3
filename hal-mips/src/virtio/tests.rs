//! The driver against the model: bring-up, forwarding between two interfaces, wrap-around, full rings, bad devices.

use std::cell::RefCell;
use std::rc::Rc;

use virtio_drivers::transport::DeviceStatus;

use super::model::{Device, Line};
use super::*;
use crate::dma::RING_SLOTS;
use crate::dma::tests::pool;

const GOOD: u64 = FEATURE_MAC | FEATURE_VERSION_1 | 1 << 29 | 1 << 15 | 1;

fn nic(pool: &mut FramePool) -> (VirtioNet<Line>, Rc<RefCell<Device>>) {
    let device = Device::new(GOOD);
    let nic = VirtioNet::new(Line(device.clone()), pool).unwrap();
    (nic, device)
}

fn numbered(number: u32) -> Vec<u8> {
    let mut frame = vec![0x45; 60 + number as usize % 1400];
    frame[..4].copy_from_slice(&number.to_le_bytes());
    frame
}

#[test]
fn bring_up_takes_no_offload_and_fills_the_receive_ring() {
    let mut pool = pool(100);
    let (nic, device) = nic(&mut pool);
    let device = device.borrow();
    assert_eq!(device.accepted, FEATURE_MAC | FEATURE_VERSION_1);
    assert!(device.status.contains(DeviceStatus::DRIVER_OK));
    assert_eq!(nic.mac(), device.mac);
    assert_eq!(usize::from(device.offered(0)), RING_SLOTS);
    assert_eq!(pool.len(), 100 - RING_SLOTS);
}

#[test]
fn a_device_without_the_modern_interface_is_refused() {
    let device = Device::new(FEATURE_MAC);
    let error = VirtioNet::new(Line(device), &mut pool(1)).err();
    assert_eq!(error, Some(Error::Feature { found: FEATURE_MAC }));
}

#[test]
fn frames_move_between_interfaces_for_longer_than_the_indices_last() {
    let mut pool = pool(4 * RING_SLOTS + 8);
    let (mut lan, lan_device) = nic(&mut pool);
    let (mut wan, wan_device) = nic(&mut pool);
    let total = pool.len();
    let mut sent = 0u32;
    // 70,000 frames: the 16-bit ring indices wrap.
    while sent < 70_000 {
        let burst = sent % 37 + 1;
        for number in sent..sent + burst {
            assert!(lan_device.borrow_mut().deliver(&numbered(number)));
        }
        wan.reclaim(&mut pool);
        while let Ok(frame) = lan.receive(&mut pool) {
            wan.transmit(frame).unwrap();
        }
        lan.flush(&mut pool);
        wan.flush(&mut pool);
        let got = wan_device.borrow_mut().collect();
        assert_eq!(got.len(), burst as usize);
        assert!(
            got.iter()
                .zip(sent..)
                .all(|(frame, number)| *frame == numbered(number))
        );
        sent += burst;
    }
    wan.reclaim(&mut pool);
    assert_eq!(pool.len(), total, "a frame was lost or made up");
}

#[test]
fn a_burst_costs_one_notice_and_a_deaf_device_none() {
    let mut pool = pool(4 * RING_SLOTS);
    let (mut wan, device) = nic(&mut pool);
    device.borrow_mut().notices.clear();
    let send = |wan: &mut VirtioNet<Line>, pool: &mut FramePool| {
        for _ in 0..16 {
            let mut frame = pool.get().unwrap();
            frame.set_length(60);
            wan.transmit(frame).unwrap();
        }
        wan.flush(pool);
    };
    send(&mut wan, &mut pool);
    assert_eq!(device.borrow().notices, [QUEUE_TRANSMIT]);
    wan.flush(&mut pool);
    assert_eq!(
        device.borrow().notices,
        [QUEUE_TRANSMIT],
        "nothing new, nothing to tell"
    );
    device.borrow_mut().listen(1, false);
    send(&mut wan, &mut pool);
    assert_eq!(device.borrow().notices, [QUEUE_TRANSMIT]);
}

#[test]
fn a_full_transmit_ring_gives_the_frame_back() {
    let mut pool = pool(3 * RING_SLOTS);
    let (mut wan, device) = nic(&mut pool);
    for slot in 0..RING_SLOTS {
        assert_eq!(wan.room(), RING_SLOTS - slot);
        wan.transmit(pool.get().unwrap()).unwrap();
    }
    let mut extra = pool.get().unwrap();
    extra.set_length(77);
    let Err(Full(extra)) = wan.transmit(extra) else {
        panic!("the ring took a frame too many")
    };
    assert_eq!(extra.length(), 77);
    assert!(
        device.borrow_mut().collect().is_empty(),
        "shown before `flush`"
    );
    wan.flush(&mut pool);
    device.borrow_mut().collect();
    assert!(wan.has_work());
    wan.reclaim(&mut pool);
    assert_eq!(wan.room(), RING_SLOTS);
    assert!(wan.transmit(extra).is_ok());
}

#[test]
fn sent_frames_interrupt_only_when_asked() {
    let mut pool = pool(2 * RING_SLOTS);
    let (mut wan, device) = nic(&mut pool);
    for (wake, want) in [(false, false), (true, true), (false, false)] {
        wan.wake_on_room(wake);
        wan.transmit(pool.get().unwrap()).unwrap();
        wan.flush(&mut pool);
        device.borrow_mut().collect();
        assert_eq!(device.borrow().interrupt, want);
        wan.acknowledge();
        wan.reclaim(&mut pool);
    }
    assert!(
        device.borrow_mut().deliver(&numbered(1)),
        "received frames always do"
    );
    assert!(device.borrow().interrupt);
}

#[test]
fn an_empty_pool_starves_the_device_and_nothing_else() {
    let mut pool = pool(RING_SLOTS);
    let (mut lan, device) = nic(&mut pool);
    assert!(pool.is_empty());
    let mut kept = Vec::new();
    for number in 0..RING_SLOTS as u32 {
        assert!(device.borrow_mut().deliver(&numbered(number)));
        kept.push(lan.receive(&mut pool).unwrap());
        lan.flush(&mut pool);
    }
    assert!(!device.borrow_mut().deliver(&numbered(0)));
    assert!(lan.receive(&mut pool).is_err());
    kept.drain(..).for_each(|frame| pool.put(frame));
    lan.flush(&mut pool);
    assert!(device.borrow_mut().deliver(&numbered(7)));
    assert_eq!(lan.receive(&mut pool).unwrap().bytes(), numbered(7));
}

#[test]
fn runts_are_counted_and_skipped() {
    let mut pool = pool(RING_SLOTS);
    let (mut lan, device) = nic(&mut pool);
    for frame in [&[1; 13][..], &[], &[2; 14], &[3; 1514]] {
        assert!(device.borrow_mut().deliver(frame));
    }
    assert_eq!(lan.receive(&mut pool).unwrap().bytes(), [2; 14]);
    assert_eq!(lan.receive(&mut pool).unwrap().bytes(), [3; 1514]);
    assert_eq!(lan.losses().runts, 2);
}

#[test]
fn a_device_that_names_a_wrong_slot_gets_nothing() {
    let mut pool = pool(RING_SLOTS);
    let (mut lan, device) = nic(&mut pool);
    device.borrow_mut().give_back(0, 9_999, 60);
    assert!(lan.receive(&mut pool).is_err());
    assert!(pool.is_empty());
    let (mut lan, device) = nic(&mut self::pool(RING_SLOTS));
    assert!(device.borrow_mut().deliver(&numbered(1)));
    device.borrow_mut().give_back(0, 0, 60); // slot 0, a second time
    assert!(lan.receive(&mut pool).is_ok());
    assert!(lan.receive(&mut pool).is_err());
}

#[test]
fn s9_a_device_that_stands_still_blocks_and_costs_no_frame_and_no_wait() {
    let mut pool = pool(3 * RING_SLOTS);
    let total = pool.len();
    let (mut nic, device) = nic(&mut pool);
    device.borrow_mut().listen(1, false);
    // It never takes a frame, never brings one, and never answers a notice.
    let mut refused = 0;
    for _ in 0..10 * RING_SLOTS {
        nic.reclaim(&mut pool);
        assert!(nic.receive(&mut pool).is_err());
        if let Some(frame) = pool.get()
            && let Err(Full(frame)) = nic.transmit(frame)
        {
            refused += 1;
            pool.put(frame);
        }
        nic.flush(&mut pool);
        assert!(!nic.has_work(), "a main loop that waits for work may sleep");
    }
    assert_eq!(
        refused,
        9 * RING_SLOTS,
        "a ring of them was taken, and no more"
    );
    assert_eq!(nic.room(), 0);
    assert_eq!(
        pool.len(),
        total - 2 * RING_SLOTS,
        "the device has its rings full"
    );
    // When it moves again nothing is missing.
    assert_eq!(device.borrow_mut().collect().len(), RING_SLOTS);
    nic.reclaim(&mut pool);
    assert_eq!((nic.room(), pool.len()), (RING_SLOTS, total - RING_SLOTS));
    assert!(device.borrow_mut().deliver(&numbered(3)));
    assert_eq!(nic.receive(&mut pool).unwrap().bytes(), numbered(3));
}

#[test]
fn s9_a_device_that_claims_frames_without_end_is_believed_once_a_slot() {
    let mut pool = pool(2 * RING_SLOTS);
    let (mut nic, device) = nic(&mut pool);
    // Its index runs ahead of all that was offered; every element names the same slot.
    for _ in 0..5 * RING_SLOTS {
        device.borrow_mut().give_back(0, 0, 60);
    }
    let mut got = Vec::new();
    for _ in 0..8 * RING_SLOTS {
        got.extend(nic.receive(&mut pool));
    }
    assert_eq!(got.len(), 1, "one slot, one frame");
    assert_eq!(pool.len(), RING_SLOTS);
}
