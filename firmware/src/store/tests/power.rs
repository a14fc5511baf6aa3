//! S1: the power goes at every step of a save, and at random ones.

use super::*;

/// Every cut point of the save after `before` saves: what is there afterwards is old or new, and can be replaced.
fn cut_everywhere(part: &Part, before: u32) -> u64 {
    let regs = ModelRegs::new(part.clone());
    let mut life = Life::begin(&regs);
    for number in 0..before {
        assert_eq!(life.save(numbered(number)), Ok(Saved::Written));
    }
    let prepared = regs.0.borrow().clone();
    let old = before.checked_sub(1).map(numbered);
    let (new, next) = (numbered(1000), numbered(2000));
    let (mut olds, mut news) = (0, 0);
    for point in 0.. {
        *regs.0.borrow_mut() = prepared.clone();
        let mut life = Life::begin(&regs);
        regs.0.borrow_mut().seed(point);
        regs.0.borrow_mut().cut_after = Some(point);
        let result = life.save(new);
        let cut = regs.0.borrow().is_dead();
        assert_eq!(
            result == Ok(Saved::Written),
            !cut,
            "point {point}: {result:?}"
        );
        let mut life = Life::begin(&regs);
        let found = life.owner.settings;
        if found == new {
            assert!(matches!(life.boot, Boot::Loaded), "{:?}", life.boot);
            news += 1;
        } else {
            assert!(cut, "what was told to be written is there");
            olds += 1;
            match old {
                Some(old) => {
                    assert_eq!(found, old, "point {point}");
                    assert!(matches!(
                        life.boot,
                        Boot::Loaded | Boot::Earlier(Lost::Damaged)
                    ));
                }
                None => assert!(matches!(
                    life.boot,
                    Boot::Defaults(Lost::Empty | Lost::Damaged)
                )),
            }
        }
        assert_eq!(life.save(next), Ok(Saved::Written), "point {point}");
        let life = Life::begin(&regs);
        assert_eq!(
            (life.boot, life.owner.settings),
            (Boot::Loaded, next),
            "point {point}"
        );
        if !cut {
            assert!(olds > 0 && news > 0);
            return point;
        }
    }
    unreachable!("the save ends");
}

#[test]
fn s1_a_power_cut_at_every_step_of_a_save_leaves_the_old_or_the_new_settings() {
    for part in parts() {
        // The very first save; one that is appended; one that changes sectors, and one that changes back.
        for before in [0, 1, 32, 64] {
            let points = cut_everywhere(&part, before);
            // A chip with write buffers takes fewer steps, each of which is cut within.
            assert!(points > 30, "{points} points");
        }
    }
}

#[test]
fn s1_a_thousand_random_power_cuts_over_many_saves_leave_the_old_or_the_new_settings() {
    for (seed, part) in (1..).zip(parts()) {
        let regs = ModelRegs::new(part);
        assert_eq!(Life::begin(&regs).save(numbered(0)), Ok(Saved::Written));
        let mut random = crate::random::Random::repeatable(seed);
        let mut known = numbered(0);
        let mut cuts = 0;
        let mut number = 0;
        while cuts < 334 {
            number += 1;
            let mut life = Life::begin(&regs);
            assert_eq!(life.owner.settings, known, "save {number}");
            let new = numbered(number);
            regs.0.borrow_mut().seed(random.next_u64());
            regs.0.borrow_mut().cut_after = Some(u64::from(random.below(400)));
            let result = life.save(new);
            let cut = regs.0.borrow().is_dead();
            cuts += u32::from(cut);
            assert_eq!(
                result == Ok(Saved::Written),
                !cut,
                "save {number}: {result:?}"
            );
            let life = Life::begin(&regs);
            let found = life.owner.settings;
            assert!(
                found == new || (cut && found == known),
                "save {number}: {found:?}"
            );
            assert!(!matches!(life.boot, Boot::Defaults(_)), "save {number}");
            known = found;
        }
    }
}
