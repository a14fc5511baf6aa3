//! A day and more in virtual time: leases renewed, flows that come and go, downloads each half an hour, and a clock
//! made of the processor's 32-bit counter, which wraps all the while.
//!
//! Units: µs of virtual time. What must hold at the end is what must hold after an hour: the same addresses, every
//! download whole, no flow left behind, no buffer missing.

use smoltcp::wire::{DhcpMessageType, Ipv4Address};

use super::client::{Ask, End, FetchPlan};
use super::simulate;
use super::world::{Report, Setup, TraceTo};

/// A minute.
const MINUTE_US: u64 = 60_000_000;
/// Rate of the counter: that of the emulated board, Hz.
pub const COUNT_HERTZ: u32 = 166_700_000;
/// Lease of the internet lines, seconds.
pub const LEASE_S: u32 = 600;
/// Lease of the LAN, seconds.
pub const LAN_LEASE_S: u32 = 1800;
/// The first origin.
const ORIGIN: Ipv4Address = Ipv4Address::new(198, 51, 100, 10);

/// What a soak showed.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Length, µs.
    pub span_us: u64,
    /// Downloads that were whole.
    pub downloads: usize,
    /// Downloads that router a split.
    pub stitched: u64,
    /// Renewals of the internet lines' leases, by router.
    pub renewals: Vec<usize>,
    /// Wraps of the counter.
    pub wraps: u64,
    /// Flows that router a opened, and those it still knows.
    pub flows: (u64, u64),
    /// Router polls in each second of virtual time, on average, both routers.
    pub polls_per_s: u64,
}

/// The set-up of a soak of so many minutes: so many routers, a download behind each so often.
pub fn setup(minutes: u64, seed: u64, routers: usize, every_minutes: usize) -> Setup {
    let mut setup = Setup::new(seed);
    setup.lines.truncate(routers);
    setup.clients.truncate(routers);
    setup.provider_lease_s = Some(LEASE_S);
    setup.count_hertz = Some(COUNT_HERTZ);
    setup.guest = true;
    setup.console = vec![
        "set lan.pool auto".to_string(),
        format!("set lan.lease {LAN_LEASE_S}"),
    ];
    for (number, minute) in (2..minutes).step_by(every_minutes).enumerate() {
        for behind in 0..setup.clients.len() {
            let size = (1 + (number as u64 * 7 + behind as u64) % 5) << 20;
            let ask = Ask::get(number as u64, size, "film.mp4", "");
            let mut plan = FetchPlan::new(ORIGIN, vec![ask]);
            plan.start_us = (minute + 10 * behind as u64) * MINUTE_US;
            setup.clients[behind].push(plan);
        }
    }
    setup.limit_us = minutes * MINUTE_US;
    // The last half hour, and the last flows' timeouts: a closed connection is kept for four minutes.
    setup.rest_us = 30 * MINUTE_US;
    setup
}

/// Runs a soak and says what must hold.
///
/// # Errors
/// The first thing that does not.
pub fn run(minutes: u64, seed: u64) -> Result<Figures, String> {
    judged(&setup(minutes, seed, 2, 30))
}

/// Runs a set-up and says what must hold.
///
/// # Errors
/// The first thing that does not.
pub fn judged(setup: &Setup) -> Result<Figures, String> {
    let report = simulate(setup, &TraceTo::default());
    judge(setup, &report)
}

/// Runs a soak of so many hours and prints what it showed.
///
/// # Errors
/// The first thing that does not hold.
pub fn print(hours: u64, seed: u64) -> Result<(), String> {
    let figures = run(hours * 60, seed)?;
    println!(
        "{} h of virtual time: {} downloads whole ({} split), {:?} renewals, {} wraps of the counter,",
        figures.span_us / 60 / MINUTE_US,
        figures.downloads,
        figures.stitched,
        figures.renewals,
        figures.wraps,
    );
    println!(
        "{} flows opened, {} left; {} polls a second",
        figures.flows.0, figures.flows.1, figures.polls_per_s
    );
    Ok(())
}

fn judge(setup: &Setup, report: &Report) -> Result<Figures, String> {
    if let Some(violation) = report.violations.first() {
        return Err(violation.clone());
    }
    let asked: usize = setup.clients.iter().map(Vec::len).sum();
    let outcomes = || report.outcomes.iter().flatten().flatten();
    let whole = outcomes()
        .filter(|outcome| outcome.end == End::Whole)
        .count();
    if whole != asked {
        let broken = outcomes().find(|outcome| outcome.end != End::Whole);
        return Err(format!("{whole} of {asked} downloads whole: {broken:?}"));
    }
    let span_us = report.end_us + setup.rest_us;
    for (router, asked) in report.asked.iter().enumerate() {
        let discovers = asked
            .iter()
            .filter(|asked| asked.kind == DhcpMessageType::Discover)
            .count();
        if discovers != 1 {
            return Err(format!(
                "router {router} looked for an address {discovers} times"
            ));
        }
        // At half of the lease, unless the last one was lost.
        let due = span_us / 1_000_000 / u64::from(LEASE_S / 2);
        let renewals = asked.iter().filter(|asked| asked.renews).count() as u64;
        // Each lasts a round trip more than half a lease.
        let late = 1 + due / 1000;
        if renewals + late < due || renewals > due + 1 {
            return Err(format!(
                "router {router} renewed {renewals} times, {due} were due"
            ));
        }
    }
    for (router, guest) in report.guests.iter().enumerate() {
        let first = guest.leases.first();
        if first.is_none()
            || guest.losses > 0
            || guest.leases.iter().any(|lease| Some(lease) != first)
        {
            return Err(format!("the guest of router {router} had {guest:?}"));
        }
    }
    let value = |name: &str| report.counters[0].get(name).copied().unwrap_or(0);
    let flows = (value("conntrack.opened"), value("pool.flows"));
    if flows.0 < span_us / MINUTE_US || flows.1 > 4 {
        return Err(format!("{} flows opened, {} left", flows.0, flows.1));
    }
    let holes = value("exchange.holes");
    if holes > 0 {
        return Err(format!("{holes} holes in stitched streams"));
    }
    Ok(Figures {
        span_us,
        downloads: whole,
        stitched: value("exchange.stitched"),
        renewals: report
            .asked
            .iter()
            .map(|asked| asked.iter().filter(|asked| asked.renews).count())
            .collect(),
        wraps: u64::try_from((u128::from(span_us) * u128::from(COUNT_HERTZ) / 1_000_000) >> 32)
            .unwrap_or(u64::MAX),
        flows,
        polls_per_s: report.polls * 1_000_000 / span_us,
    })
}
