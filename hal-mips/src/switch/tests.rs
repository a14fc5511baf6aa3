//! The switch driver against its model, and frames through both and the tags between.

use core::convert::Infallible;
use std::collections::VecDeque;

use super::model::{PROCESSOR, RoboModel};
use super::*;
use crate::dma::tests::pool;
use crate::dma::{FRAME_BYTES_MAX, FRAME_OFFSET, Frame, FramePool};
use crate::frame_io::{FrameIo, Full};

struct Clock(u64);

impl Delay for Clock {
    fn us(&mut self, micros: u32) {
        self.0 += u64::from(micros);
    }
}

fn started(revision: u8, ports: Ports) -> (RoboModel, Robo) {
    let mut model = RoboModel::new(revision);
    let robo = Robo::start(&mut model, &mut Clock(0), ports).unwrap();
    (model, robo)
}

fn frame(number: u8) -> Vec<u8> {
    let mut frame = vec![number; 60];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame
}

fn ports_of(text: &str) -> Option<u8> {
    ports(text.as_bytes())
}

#[test]
fn lan_and_wan_are_apart_on_every_board_and_revision() {
    for ports in [Ports::BOARD_0467, Ports::BOARD_0708] {
        for revision in [0, 2, 3, 4] {
            let (model, robo) = started(revision, ports);
            assert_eq!(robo.revision(), revision);
            assert_eq!(model.changed_while_forwarding, 0, "I1");
            for jack in 0..JACKS {
                let is_wan = ports.wan >> jack & 1 != 0;
                let out = model.forward(jack, &frame(1));
                let (members, vlan) = if is_wan {
                    (ports.wan, 1)
                } else {
                    (ports.lan, 0)
                };
                for (port, frame) in &out {
                    if *port == PROCESSOR {
                        assert_eq!(frame[12..16], [0x81, 0, 0, vlan], "tagged");
                        assert_eq!(frame.len(), 64);
                    } else {
                        assert_ne!(members & 1 << port, 0, "{jack} reaches {port}");
                        assert_eq!(frame.len(), 60);
                    }
                }
                assert_eq!(out.len() as u32, members.count_ones());
                // A tag of the other side, made up outside.
                let other = [&frame(1)[..12], &[0x81, 0, 0, 1 - vlan], &frame(1)[12..]].concat();
                assert!(model.forward(jack, &other).is_empty(), "jack {jack}");
            }
        }
    }
}

#[test]
fn stuck_and_absent_switches_are_errors_in_bounded_time() {
    let start = |set: fn(&mut model::Faults)| {
        let mut model = RoboModel::new(0);
        set(&mut model.faults);
        let mut clock = Clock(0);
        let error = Robo::start(&mut model, &mut clock, Ports::BOARD_0708).err();
        assert!(clock.0 < 50_000);
        (error, model)
    };
    assert_eq!(
        start(|faults| faults.is_absent = true).0,
        Some(Error::NoSwitch)
    );
    let (page, register) = (PAGE_CONTROL, MODE);
    let (error, _) = start(|faults| faults.is_busy = true);
    assert_eq!(error, Some(Error::Busy { page, register }));
    let (error, _) = start(|faults| faults.bus_sticks = true);
    let timeout = eth::Error::Timeout(eth::Wait::Mdio);
    assert_eq!(error, Some(Error::Bus(timeout)));
    // Whatever does not keep its value, nothing is forwarded, but where it cannot be switched off.
    for (page, register) in [
        (PAGE_CONTROL, MII_OVERRIDE),
        (PAGE_VLAN, DEFAULT_TAG),
        (PAGE_CONTROL, MODE),
    ] {
        let mut model = RoboModel::new(0);
        model.faults.ignores = Some((page, register));
        let error = Robo::start(&mut model, &mut Clock(0), Ports::BOARD_0708).err();
        assert!(
            matches!(error, Some(Error::Refused { page: at, register: which, .. })
                if (at, which) == (page, register)),
            "{error:?}"
        );
        assert_eq!(
            model.forward(1, &frame(1)).is_empty(),
            register != MODE || page != PAGE_CONTROL
        );
    }
}

#[test]
fn links_are_told_by_side() {
    let (mut model, mut robo) = started(0, Ports::BOARD_0708);
    for (links, lan, wan) in [
        (0, 0, false),
        (0b0_0001, 0, true),
        (0b1_0010, 0b1_0010, false),
        (0xffff, 0b1_1110, true),
    ] {
        model.links = links;
        let found = robo.links(&mut model, &mut Clock(0)).unwrap();
        assert_eq!(found, Links { lan, wan });
    }
    model.faults.is_busy = true;
    assert!(robo.links(&mut model, &mut Clock(0)).is_err());
    model.faults.is_busy = false;
    assert!(robo.links(&mut model, &mut Clock(0)).is_ok());
}

#[test]
fn the_ports_are_those_of_the_boards_variables() {
    assert_eq!(ports_of("3 2 1 0 5*"), Some(0b0_1111));
    assert_eq!(ports_of("4 5"), Some(0b1_0000));
    assert_eq!(ports_of(" 1  2t 5u "), Some(0b0_0110));
    for text in ["", "5", "0 1", "6 5", "0 1x 5", "0 1tt 5", "-1 5", "0,1,5"] {
        assert_eq!(ports_of(text), None, "{text}");
    }
    let of = |texts: &str| Ports::of(&Nvram::defaults(texts.as_bytes()));
    assert_eq!(of("boardtype=0x0467\0\0"), Some(Ports::BOARD_0467));
    let turned = of("boardtype=0x0467\0vlan0ports=1 2 3 4 5*\0vlan1ports=0 5\0\0").unwrap();
    assert_eq!(
        (turned.lan, turned.wan, turned.is_external),
        (0b1_1110, 1, false)
    );
    // A socket cannot be of both sides.
    let both = of("boardtype=0x0708\0vlan0ports=0 1 5*\0vlan1ports=0 5\0\0");
    assert_eq!(both, Some(Ports::BOARD_0708));
    assert_eq!(of("boardtype=0x0101\0\0"), None);
    assert_eq!(of("boardnum=42\0\0"), None);
}

/// An interface that gives what it is told to, and keeps what it is given.
#[derive(Default)]
struct Wire {
    arriving: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    room: usize,
}

impl FrameIo for Wire {
    fn mac(&self) -> [u8; 6] {
        [2; 6]
    }
    fn receive(&mut self, pool: &mut FramePool) -> nb::Result<Frame, Infallible> {
        let bytes = self.arriving.pop_front().ok_or(nb::Error::WouldBlock)?;
        let mut frame = pool.get().unwrap();
        frame.set_length(bytes.len());
        frame.bytes_mut().copy_from_slice(&bytes);
        Ok(frame)
    }
    fn transmit(&mut self, frame: Frame) -> Result<(), Full> {
        if self.room == 0 {
            return Err(Full(frame));
        }
        self.room -= 1;
        self.sent.push(frame.bytes().to_vec());
        Ok(())
    }
    fn room(&self) -> usize {
        self.room
    }
    fn reclaim(&mut self, _: &mut FramePool) {}
    fn flush(&mut self, _: &mut FramePool) {}
    fn acknowledge(&mut self) {}
    fn wake_on_room(&mut self, _: bool) {}
}

#[test]
fn frames_pass_from_socket_to_socket_through_switch_and_tags() {
    let (model, _) = started(0, Ports::BOARD_0467);
    let mut pool = pool(8);
    let mut tagged = Tagged::new(Wire {
        room: 8,
        ..Wire::default()
    });
    for (jack, number) in [(4, 1), (0, 2), (4, 3), (2, 4)] {
        for (port, frame) in model.forward(jack, &frame(number)) {
            if port == PROCESSOR {
                tagged.nic().arriving.push_back(frame);
            }
        }
    }
    // The LAN's first: the WAN's wait meanwhile.
    for (side, number) in [
        (Side::Lan, 2),
        (Side::Lan, 4),
        (Side::Wan, 1),
        (Side::Wan, 3),
    ] {
        let got = tagged.receive(side, &mut pool).unwrap();
        assert_eq!(got.bytes(), frame(number));
        assert_eq!(got.bytes().as_ptr() as usize % 4, 2, "IP is aligned");
        // To the other side, by the same buffer.
        let other = Side::ALL[1 - usize::from(side.vlan())];
        tagged.transmit(other, got).unwrap();
    }
    assert!(tagged.receive(Side::Lan, &mut pool).is_err());
    for (sent, (number, wan)) in
        tagged
            .nic()
            .sent
            .iter()
            .zip([(2, true), (4, true), (1, false), (3, false)])
    {
        assert_eq!(sent.len(), 64);
        let out = model.forward(PROCESSOR, sent);
        let jacks = if wan { 1 } else { 4 };
        assert_eq!(out.len(), jacks);
        assert!(
            out.iter()
                .all(|(port, got)| *got == frame(number) && (*port == 4) == wan)
        );
    }
}

#[test]
fn what_has_no_tag_of_ours_is_dropped_and_counted() {
    let mut pool = pool(4);
    let mut tagged = Tagged::new(Wire::default());
    for bytes in [
        frame(1),
        [&frame(1)[..12], &[0x81, 0, 0, 2], &frame(1)[12..]].concat(),
        vec![0x81; 17],
        vec![],
    ] {
        tagged.nic().arriving.push_back(bytes);
    }
    // Priority bits do not count.
    let mut urgent = [&frame(7)[..12], &[0x81, 0, 0xe0, 1], &frame(7)[12..]].concat();
    urgent.resize(80, 9);
    tagged.nic().arriving.push_back(urgent);
    let got = tagged.receive(Side::Wan, &mut pool).unwrap();
    assert_eq!(got.bytes()[..60], frame(7));
    assert_eq!(tagged.untagged(), 4);
    pool.put(got);
    assert_eq!(pool.len(), 4);
}

#[test]
fn a_side_that_nobody_fetches_holds_the_other_up_but_loses_nothing() {
    let mut pool = pool(100);
    let mut tagged = Tagged::new(Wire::default());
    for number in 0..90 {
        let bytes = [&frame(number)[..12], &[0x81, 0, 0, 1], &frame(number)[12..]].concat();
        tagged.nic().arriving.push_back(bytes);
    }
    for _ in 0..3 {
        assert!(tagged.receive(Side::Lan, &mut pool).is_err());
    }
    assert!(tagged.has_waiting());
    for number in 0..90 {
        let got = tagged.receive(Side::Wan, &mut pool).unwrap();
        assert_eq!(got.bytes(), frame(number));
        pool.put(got);
    }
    assert_eq!(pool.len(), 100);
}

#[test]
fn a_frame_that_finds_no_room_comes_back_as_it_was() {
    let mut pool = pool(2);
    let mut tagged = Tagged::new(Wire::default());
    let mut long = pool.get().unwrap();
    long.set_length(1514);
    long.bytes_mut().fill(5);
    let Err(Full(long)) = tagged.transmit(Side::Wan, long) else {
        panic!("taken")
    };
    assert_eq!(long.bytes(), [5; 1514]);
    tagged.nic().room = 1;
    tagged.transmit(Side::Wan, long).unwrap();
    assert_eq!(tagged.nic().sent[0].len(), 1518);
    let mut short = pool.get().unwrap();
    short.set_length(11);
    tagged.nic().room = 1;
    assert!(tagged.transmit(Side::Wan, short).is_err());
}

#[test]
fn a_buffer_begins_anew_in_the_pool() {
    let mut pool = pool(1);
    let mut frame = pool.get().unwrap();
    frame.set_length(100);
    let start = frame.bytes().as_ptr() as usize;
    frame.cut_front(40);
    assert_eq!(
        (frame.length(), frame.bytes().as_ptr() as usize),
        (60, start + 40)
    );
    frame.set_length(usize::MAX);
    assert_eq!(frame.length(), FRAME_BYTES_MAX - 40, "within the buffer");
    frame.cut_front(usize::MAX);
    assert_eq!(frame.length(), 0);
    assert!(!frame.grow_front(usize::MAX));
    pool.put(frame);
    let mut frame = pool.get().unwrap();
    frame.set_length(1);
    assert_eq!(frame.bytes().as_ptr() as usize, start);
    assert!(frame.grow_front(4));
    assert_eq!(frame.length(), 5);
    assert!(!frame.grow_front(FRAME_OFFSET));
}

#[test]
fn short_frames_are_padded_with_zeros_to_64_bytes_with_their_tag() {
    for length in [14, 55, 56, 59, 60, 61] {
        let mut pool = pool(1);
        let mut tagged = Tagged::new(Wire {
            room: 1,
            ..Wire::default()
        });
        let mut short = pool.get().unwrap();
        short.set_length(100);
        short.bytes_mut().fill(0xee);
        short.set_length(length);
        tagged.transmit(Side::Wan, short).unwrap();
        let sent = &tagged.nic().sent[0];
        assert_eq!(sent.len(), (length + 4).max(64));
        assert!(sent[length + 4..].iter().all(|byte| *byte == 0));
    }
}
