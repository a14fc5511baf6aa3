//! The scoreboard against a plain array, and its judgement case by case.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Unheard,
    Sacked,
    Lost,
    Resent,
}

fn cells(board: &Scoreboard, una: u32, count: usize) -> std::vec::Vec<Cell> {
    let mut cells = std::vec![Cell::Unheard; count];
    for run in &board.runs {
        for cell in
            &mut cells[run.start.wrapping_sub(una) as usize..run.end.wrapping_sub(una) as usize]
        {
            *cell = match run.fate {
                Fate::Sacked => Cell::Sacked,
                Fate::Lost => Cell::Lost,
                Fate::Resent { .. } => Cell::Resent,
            };
        }
    }
    cells
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn runs_say_what_a_plain_array_says(una in any::<u32>(), ops in prop::collection::vec((0u8..4, 0usize..60, 1usize..30), 1..60)) {
        let mut board = Scoreboard::new();
        let mut model = std::vec![Cell::Unheard; 100];
        let mut low = 0;
        for (op, at, len) in ops {
            let start = at.max(low);
            let end = (start + len).min(100);
            let (from, to) = (una.wrapping_add(start as u32), una.wrapping_add(end as u32));
            match op {
                0 if start < end => {
                    board.on_sacked(from, to, 0, 0);
                    model[start..end].fill(Cell::Sacked);
                }
                1 if start < end => {
                    board.on_lost(from, to);
                    model[start..end].fill(Cell::Lost);
                }
                2 if start < end => {
                    board.on_resent(from, to, una.wrapping_add(100 + at as u32), 0);
                    model[start..end].fill(Cell::Resent);
                }
                _ => {
                    low = (low + len / 10).min(99);
                    board.advance(una.wrapping_add(low as u32), 0, 0);
                    model[..low].fill(Cell::Unheard);
                }
            }
            board.check(una.wrapping_add(low as u32), una.wrapping_add(100));
            prop_assert_eq!(&cells(&board, una, 100), &model);
            prop_assert_eq!(board.sacked() as usize, model.iter().filter(|&&cell| cell == Cell::Sacked).count());
            prop_assert_eq!(board.lost() as usize, model.iter().filter(|&&cell| cell == Cell::Lost).count());
            let unheard = model.iter().skip(low).position(|&cell| cell == Cell::Unheard).map(|i| una.wrapping_add((low + i) as u32));
            prop_assert_eq!(board.first_unheard(una.wrapping_add(low as u32), una.wrapping_add(100)), unheard);
        }
    }
}

#[test]
fn a_hole_is_lost_once_three_segments_above_it_arrived() {
    let mut board = Scoreboard::new();
    board.on_sacked(1000, 2000, 0, 0);
    assert!(!board.judge(0, 2000, 2000));
    board.on_sacked(2000, 3001, 0, 0);
    assert!(board.judge(0, 3001, 2000));
    assert_eq!(board.first_lost(), Some((0, 1000)));
}

#[test]
fn a_retransmission_is_lost_when_later_bytes_arrive_before_it() {
    let mut board = Scoreboard::new();
    board.on_sacked(1000, 4000, 0, 0);
    board.judge(0, 4000, 2000);
    board.on_resent(0, 1000, 5000, 0);
    board.on_sacked(4000, 5000, 0, 0);
    assert!(!board.judge(0, 5000, 2000));
    board.on_sacked(5000, 8000, 0, 0);
    assert!(board.judge(0, 8000, 2000));
    assert_eq!(board.first_lost(), Some((0, 1000)));
}

#[test]
fn a_retransmission_that_arrives_shows_what_was_lost_before_it() {
    let mut board = Scoreboard::new();
    board.on_sacked(1000, 4000, 0, 0);
    assert!(board.judge(0, 4000, 2000));
    board.on_resent(0, 1000, 9000, 500);
    // Its ACK: 4000 to 9000 had been sent before it, and did not come.
    board.advance(4000, 600, 100);
    assert_eq!(board.reached(), Some(9000));
    assert!(board.judge(4000, 9000, 2000));
    assert_eq!(board.first_lost(), Some((4000, 7000)));
    assert!(board.judge(4000, 9000, 0));
    assert_eq!(board.first_lost(), Some((4000, 9000)));
}

#[test]
fn an_ack_sooner_than_a_round_trip_is_of_the_first_sending() {
    let mut board = Scoreboard::new();
    board.on_sacked(1000, 4000, 0, 0);
    board.judge(0, 4000, 2000);
    board.on_resent(0, 1000, 9000, 500);
    board.advance(4000, 550, 100);
    assert_eq!(board.reached(), None);
}

#[test]
fn a7_a_full_list_refuses_and_stays_right() {
    let mut board = Scoreboard::new();
    for i in 0..200 {
        board.on_sacked(i * 20 + 10, i * 20 + 20, 0, 0);
    }
    board.check(0, 4000);
    assert_eq!(board.sacked(), STITCH_RUNS as u32 * 10);
    board.advance(100, 0, 0);
    board.check(100, 4000);
}
