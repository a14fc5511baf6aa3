//! The receiver against bytes of hand, and against a sender over a line with noise.

use super::*;
use proptest::prelude::*;
use std::vec::Vec as List;

fn at(ms: i64) -> Instant {
    Instant::from_millis(ms)
}

fn block(number: u8, bytes: &[u8]) -> List<u8> {
    let mut frame = std::vec![
        if bytes.len() == SHORT_BYTES { SOH } else { STX },
        number,
        !number
    ];
    frame.extend(bytes);
    frame.extend(crc16(bytes).to_be_bytes());
    frame
}

/// What came of many bytes: the file's bytes, accepted as they come, and the last event.
fn feed(receiver: &mut Receiver, now: Instant, bytes: &[u8]) -> (List<u8>, Taken<'static>) {
    let mut file = List::new();
    let mut last = Taken::Nothing;
    for &byte in bytes {
        let taken = match receiver.on_byte(now, byte) {
            Taken::Block(bytes) => {
                file.extend(bytes);
                receiver.accept(now);
                continue;
            }
            Taken::Nothing => continue,
            Taken::Complete => Taken::Complete,
            Taken::Ended(ending) => Taken::Ended(ending),
        };
        last = taken;
    }
    (file, last)
}

#[test]
fn a_file_of_both_block_sizes_comes_through_and_two_eots_end_it() {
    let mut receiver = Receiver::new(at(0));
    let bytes = [block(1, &[1; 1024]), block(2, &[2; 128])].concat();
    let (file, last) = feed(&mut receiver, at(1), &bytes);
    assert_eq!(file, [&[1; 1024][..], &[2; 128]].concat());
    assert_eq!(
        (last, &receiver.take_answer()[..]),
        (Taken::Nothing, &[ACK, ACK][..])
    );
    assert_eq!(feed(&mut receiver, at(2), &[EOT]).1, Taken::Nothing);
    assert_eq!(receiver.take_answer(), [NAK]);
    assert_eq!(feed(&mut receiver, at(3), &[EOT]).1, Taken::Complete);
    assert_eq!(receiver.take_answer(), [ACK]);
    assert!(receiver.is_done());
}

#[test]
fn it_asks_every_three_seconds_for_two_minutes() {
    let mut receiver = Receiver::new(at(0));
    let mut asked = 0;
    for ms in 0..120_000 {
        assert_eq!(receiver.poll(at(ms)), Taken::Nothing);
        asked += receiver
            .take_answer()
            .iter()
            .filter(|&&byte| byte == ASK)
            .count();
    }
    assert_eq!(asked, 39);
    assert_eq!(receiver.poll(at(120_000)), Taken::Ended(Ending::NobodySent));
    assert!(receiver.is_done() && receiver.take_answer().starts_with(&[CAN; 5]));
}

#[test]
fn a_wrong_checksum_is_asked_for_again_once_the_line_is_silent() {
    let mut receiver = Receiver::new(at(0));
    let mut bad = block(1, &[5; 128]);
    bad[60] ^= 4;
    feed(&mut receiver, at(10), &bad);
    feed(&mut receiver, at(900), b"rest of the noise");
    assert_eq!(receiver.poll(at(1800)), Taken::Nothing);
    assert!(receiver.take_answer().is_empty());
    assert_eq!(receiver.poll(at(1900)), Taken::Nothing);
    // Nothing was received yet: it asks for a CRC again, and not by NAK, which would ask for the old checksum.
    assert_eq!(receiver.take_answer(), [ASK]);
    let (file, _) = feed(&mut receiver, at(2000), &block(1, &[5; 128]));
    assert_eq!(file, [5; 128]);
    receiver.take_answer();
    feed(&mut receiver, at(2100), &bad);
    receiver.poll(at(3100));
    assert_eq!(receiver.take_answer(), [NAK]);
}

#[test]
fn a_block_again_is_acknowledged_and_dropped() {
    let mut receiver = Receiver::new(at(0));
    feed(&mut receiver, at(1), &block(1, &[1; 128]));
    let (file, _) = feed(&mut receiver, at(2), &block(1, &[1; 128]));
    assert!(file.is_empty());
    assert_eq!(receiver.take_answer(), [ACK, ACK]);
    assert_eq!(feed(&mut receiver, at(3), &block(2, &[2; 128])).0, [2; 128]);
}

#[test]
fn a_block_that_was_skipped_ends_it() {
    let mut receiver = Receiver::new(at(0));
    feed(&mut receiver, at(1), &block(1, &[1; 128]));
    assert_eq!(
        feed(&mut receiver, at(2), &block(3, &[3; 128])).1,
        Taken::Ended(Ending::Protocol)
    );
}

#[test]
fn numbers_go_round_after_255() {
    let mut receiver = Receiver::new(at(0));
    let mut count = 0;
    for index in 1..=600usize {
        count += feed(
            &mut receiver,
            at(1),
            &block(index as u8, &[index as u8; 128]),
        )
        .0
        .len();
        receiver.take_answer();
    }
    assert_eq!(count, 600 * 128);
}

#[test]
fn two_cans_end_it_and_one_does_not() {
    let mut receiver = Receiver::new(at(0));
    feed(&mut receiver, at(1), &block(1, &[1; 128]));
    feed(&mut receiver, at(2), &[CAN]);
    assert_eq!(
        feed(&mut receiver, at(3), &block(2, &[2; 128])).0.len(),
        128
    );
    assert_eq!(
        feed(&mut receiver, at(4), &[CAN, CAN]).1,
        Taken::Ended(Ending::BySender)
    );
    assert!(receiver.is_done());
    // CANs within a block are its bytes.
    let mut receiver = Receiver::new(at(0));
    assert_eq!(
        feed(&mut receiver, at(1), &block(1, &[CAN; 128])).0,
        [CAN; 128]
    );
}

#[test]
fn a_person_ends_the_asking_by_an_interrupt() {
    let mut receiver = Receiver::new(at(0));
    assert_eq!(
        feed(&mut receiver, at(1), b"x\x03").1,
        Taken::Ended(Ending::Cancelled)
    );
}

#[test]
fn a_sender_that_falls_silent_is_given_up_within_two_minutes() {
    let mut receiver = Receiver::new(at(0));
    feed(&mut receiver, at(0), &block(1, &[1; 128]));
    feed(&mut receiver, at(0), &[SOH, 2]);
    let mut ended = None;
    for ms in 0..120_000 {
        if receiver.poll(at(ms)) != Taken::Nothing {
            ended = Some(ms);
            break;
        }
        receiver.take_answer();
    }
    // The broken block, then ten silences.
    assert_eq!(ended, Some(1_000 + 10_000 * i64::from(XMODEM_RETRIES)));
}

#[test]
fn ymodem_has_a_name_before_and_an_empty_one_behind() {
    let mut receiver = Receiver::new(at(0));
    let mut name = [0; 128];
    name[..11].copy_from_slice(b"x.img\x001024 ");
    assert!(feed(&mut receiver, at(1), &block(0, &name)).0.is_empty());
    assert_eq!(receiver.take_answer(), [ACK, ASK]);
    assert_eq!(
        feed(&mut receiver, at(2), &block(1, &[1; 1024])).0.len(),
        1024
    );
    assert_eq!(feed(&mut receiver, at(3), &[EOT, EOT]).1, Taken::Complete);
    assert_eq!(receiver.take_answer(), [ACK, NAK, ACK, ASK]);
    assert!(!receiver.is_done());
    assert_eq!(
        feed(&mut receiver, at(4), &block(0, &[0; 128])),
        (List::new(), Taken::Nothing)
    );
    assert_eq!(receiver.take_answer(), [ACK]);
    assert!(receiver.is_done());
    // A sender that does not send it is not waited for.
    let mut receiver = Receiver::new(at(0));
    feed(&mut receiver, at(1), &block(0, &name));
    feed(&mut receiver, at(2), &block(1, &[1; 1024]));
    feed(&mut receiver, at(3), &[EOT, EOT]);
    receiver.poll(at(3003));
    assert!(receiver.is_done());
}

proptest! {
    #[test]
    fn over_a_noisy_line_the_file_comes_whole_or_the_transfer_ends(
        blocks in 1usize..20, damage in proptest::collection::vec((0usize..4000, 1u8..=255), 0..25)
    ) {
        let file: List<u8> = (0..blocks * 128).map(|at| (at * 7 / 5) as u8).collect();
        let mut receiver = Receiver::new(at(0));
        let (mut got, mut complete, mut ended) = (List::new(), false, false);
        let mut damage = damage.into_iter().peekable();
        let (mut sending, mut sent_bytes, mut last) = (None, 0usize, at(-1));
        for ms in 0..900_000i64 {
            if complete || ended {
                break;
            }
            ended |= matches!(receiver.poll(at(ms)), Taken::Ended(_));
            // The sender's side: what an answer makes it send.
            let mut to_send = List::new();
            for answer in receiver.take_answer() {
                let next = match (answer, sending) {
                    (ASK, None) => Some(0),
                    (ACK, Some(index)) => Some(index + 1),
                    (NAK | ASK, Some(index)) => Some(index),
                    _ => None,
                };
                if let Some(index) = next {
                    sending = Some(index);
                    last = at(ms);
                    to_send = match file.chunks(128).nth(index) {
                        Some(bytes) => block(index as u8 + 1, bytes),
                        None => std::vec![EOT],
                    };
                }
            }
            // A sender that hears nothing for long sends again.
            if let Some(index) = sending && at(ms) > last + smoltcp::time::Duration::from_secs(15) {
                last = at(ms);
                to_send = file.chunks(128).nth(index).map_or(std::vec![EOT], |bytes| block(index as u8 + 1, bytes));
            }
            for mut byte in to_send {
                if let Some((_, mask)) = damage.next_if(|(position, _)| *position <= sent_bytes) {
                    byte ^= mask;
                }
                sent_bytes += 1;
                let (bytes, taken) = feed(&mut receiver, at(ms), &[byte]);
                got.extend(bytes);
                complete |= taken == Taken::Complete;
                ended |= matches!(taken, Taken::Ended(_));
            }
        }
        prop_assert!(complete || ended);
        prop_assert!(file.starts_with(&got));
        prop_assert!(!complete || got == file);
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let mut receiver = Receiver::new(at(0));
        for (ms, byte) in bytes.into_iter().enumerate() {
            if let Taken::Block(_) = receiver.on_byte(at(ms as i64), byte) {
                receiver.accept(at(ms as i64));
            }
            receiver.poll(at(ms as i64));
            prop_assert!(receiver.take_answer().len() <= XMODEM_ANSWER_BYTES);
        }
    }
}
