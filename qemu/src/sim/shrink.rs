//! Makes a failing set-up smaller: whatever can be taken away without the failure going away, is.

use super::client::{Ask, FetchPlan};
use super::world::{Lines, Setup};
use crate::line::Shape;

/// One way to make a set-up simpler; `None` when there is nothing to take away.
type Step = Box<dyn Fn(&Setup) -> Option<Setup>>;

/// The smallest set-up found that still fails, with what was taken away from it, in order.
///
/// `fails` runs a set-up; it is called some dozens of times.
pub fn shrink(setup: &Setup, fails: impl Fn(&Setup) -> bool) -> (Setup, Vec<String>) {
    let mut best = setup.clone();
    let mut taken = Vec::new();
    // Two rounds: a later step may make an earlier one possible.
    for _ in 0..2 {
        for (name, step) in steps(&best) {
            // A halving step may be repeated; bounded, for sizes have 64 bits.
            for _ in 0..24 {
                let Some(smaller) = step(&best) else { break };
                if !fails(&smaller) {
                    break;
                }
                best = smaller;
                taken.push(name.clone());
            }
        }
    }
    (best, taken)
}

fn steps(setup: &Setup) -> Vec<(String, Step)> {
    let mut steps: Vec<(String, Step)> = Vec::new();
    let mut step = |name: &str, change: fn(&mut Setup)| {
        let step: Step = Box::new(move |setup: &Setup| changed(setup, change));
        steps.push((name.to_string(), step));
    };
    step("half the size", |setup| with_first_ask(setup, halve));
    step("no loss", |setup| {
        each_shape(setup, |shape| shape.loss_ppm = 0)
    });
    step("no reordering", |setup| {
        each_shape(setup, |shape| shape.reorder_ppm = 0)
    });
    step("no duplicates", |setup| {
        each_shape(setup, |shape| shape.duplicate_ppm = 0)
    });
    step("no corruption", |setup| {
        each_shape(setup, |shape| shape.corrupt_ppm = 0)
    });
    step("default lines", |setup| {
        for lines in &mut setup.lines {
            let (fault, default) = (*lines, Lines::default());
            let take = |to: &mut Shape, from: Shape| {
                to.rate_bit_s = from.rate_bit_s;
                to.delay_us = from.delay_us;
                to.queue_bytes = from.queue_bytes;
            };
            *lines = fault;
            take(&mut lines.lan, default.lan);
            take(&mut lines.wan_up, default.wan_up);
            take(&mut lines.wan_down, default.wan_down);
            take(&mut lines.air, default.air);
        }
    });
    step("no wrap", |setup| setup.first_isns = (None, None));
    step("no oddity", |setup| setup.oddity = None);
    step("MTU 1500", |setup| setup.client_mtu = 1_500);
    step("one connection", |setup| setup.clients[0].truncate(1));
    step("no client at B", |setup| setup.clients[1].clear());
    step("one request", |setup| {
        each_plan(setup, |plan| plan.asks.truncate(1))
    });
    step("one request less", |setup| {
        each_plan(setup, |plan| {
            if plan.asks.len() > 1 {
                plan.asks.pop();
            }
        });
    });
    step("no options missing", |setup| {
        each_plan(setup, |plan| {
            plan.sack = true;
            plan.window_scale = true;
        });
    });
    step("no timestamps", |setup| {
        each_plan(setup, |plan| plan.timestamps = false)
    });
    step("in one piece", |setup| {
        each_plan(setup, |plan| plan.pieces.clear())
    });
    step("reads at once", |setup| {
        each_plan(setup, |plan| {
            plan.pace = None;
            plan.sleep = None;
        });
    });
    step("large buffers", |setup| {
        setup.origin.tx_bytes = 256 * 1024;
        each_plan(setup, |plan| plan.rx_bytes = 256 * 1024);
    });
    step("reno", |setup| setup.origin.reno = true);
    for index in 0..setup.acts.len() {
        let step: Step = Box::new(move |setup: &Setup| {
            changed(setup, |setup| {
                if index < setup.acts.len() {
                    setup.acts.remove(index);
                }
            })
        });
        steps.push((format!("not act {index}"), step));
    }
    for index in 0..setup.origin.rules.len() {
        let step: Step = Box::new(move |setup: &Setup| {
            changed(setup, |setup| {
                if index < setup.origin.rules.len() {
                    setup.origin.rules.remove(index);
                }
            })
        });
        steps.push((format!("not rule {index}"), step));
    }
    steps
}

/// The set-up with a change; `None` if that changed nothing.
fn changed(setup: &Setup, change: impl Fn(&mut Setup)) -> Option<Setup> {
    let mut smaller = setup.clone();
    change(&mut smaller);
    (format!("{smaller:?}") != format!("{setup:?}")).then_some(smaller)
}

fn each_shape(setup: &mut Setup, change: impl Fn(&mut Shape)) {
    for lines in &mut setup.lines {
        change(&mut lines.lan);
        change(&mut lines.wan_up);
        change(&mut lines.wan_down);
        change(&mut lines.air);
    }
}

fn each_plan(setup: &mut Setup, change: impl Fn(&mut FetchPlan)) {
    for plan in setup.clients.iter_mut().flatten() {
        change(plan);
    }
}

fn with_first_ask(setup: &mut Setup, change: impl Fn(&mut Ask)) {
    if let Some(ask) = setup.clients[0]
        .first_mut()
        .and_then(|plan| plan.asks.first_mut())
    {
        change(ask);
    }
}

/// Halves the size that a request names.
fn halve(ask: &mut Ask) {
    let object = ask.object;
    if object.size < 2 {
        return;
    }
    let old = format!("/o/{}/{}/", object.seed, object.size);
    let new = format!("/o/{}/{}/", object.seed, object.size / 2);
    let text = String::from_utf8_lossy(&ask.raw).replacen(&old, &new, 1);
    ask.raw = text.into_bytes();
    ask.object.size /= 2;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::scenario;

    #[test]
    fn what_does_not_matter_is_taken_away() {
        let fault = scenario::fault("keep-alive").expect("in the table");
        let setup = scenario::setup(fault, 3);
        let (small, _) = shrink(&setup, |setup| {
            setup.clients[0][0].asks[0].object.size > 1_000
        });
        let size = small.clients[0][0].asks[0].object.size;
        assert!((1_001..=2_001).contains(&size), "{size}");
        assert_eq!(small.clients[0][0].asks.len(), 1);
        assert_eq!(small.lines[0].wan_down.loss_ppm, 0);
        let raw = String::from_utf8_lossy(&small.clients[0][0].asks[0].raw).into_owned();
        assert!(raw.contains(&format!("/{size}/")));
    }
}
