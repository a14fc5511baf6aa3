//! Echo requests of the router's own, saving, and the console's bytes.

use super::*;
use crate::events::{Event, Stored};
use crate::wire::packet::{ETHERNET_BYTES, ICMP_BYTES, IPV4_BYTES};

impl Bench {
    /// What the console says to a line, as far as it is known at once.
    fn console(&mut self, line: &str) -> String {
        let mut out = String::new();
        for byte in line.bytes().chain([b'\r']) {
            self.router.on_console_byte(self.now, byte, &mut out);
        }
        out
    }

    /// What the console says without being asked.
    fn news(&mut self) -> String {
        let mut out = String::new();
        while self.router.console_is_ready(usize::MAX) {
            self.router.poll_console(self.now, usize::MAX, &mut out);
        }
        out
    }

    /// The echo request that the router has just sent to the WAN, turned into its answer.
    fn answer_to_ping(&mut self) -> Vec<u8> {
        self.router.poll(self.now, &mut self.out);
        let sent = self.out.take();
        let (port, mut frame) = sent
            .into_iter()
            .find(|(_, frame)| frame.get(ETHERNET_BYTES + 9) == Some(&PROTOCOL_ICMP))
            .expect("an echo request");
        assert_eq!(port, Port::Wan);
        assert!(checksums_hold(&frame));
        let (ip, icmp) = (ETHERNET_BYTES, ETHERNET_BYTES + IPV4_BYTES);
        assert_eq!(frame[icmp], icmp_type::ECHO_REQUEST);
        frame[0..6].copy_from_slice(&WAN_MAC.0);
        frame[6..12].copy_from_slice(&GATEWAY_MAC.0);
        let (src, dst) = (WAN.octets(), ORIGIN.octets());
        frame[ip + 12..ip + 16].copy_from_slice(&dst);
        frame[ip + 16..ip + 20].copy_from_slice(&src);
        frame[icmp] = icmp_type::ECHO_REPLY;
        frame[icmp + 2..icmp + 4].fill(0);
        let field = checksum::finish(checksum::sum(&frame[icmp..]));
        frame[icmp + 2..icmp + 4].copy_from_slice(&field.to_be_bytes());
        assert_eq!(frame.len(), icmp + ICMP_BYTES + crate::ping::PAYLOAD_BYTES);
        frame
    }
}

#[test]
fn a_ping_of_the_router_leaves_by_the_wan_and_its_answer_is_told() {
    let mut bench = Bench::new();
    bench.console("ping 198.51.100.10 1");
    let mut reply = bench.answer_to_ping();
    bench.now += smoltcp::time::Duration::from_millis(7);
    assert_eq!(bench.feed(Port::Wan, &mut reply), Verdict::Answer);
    let news = bench.news();
    assert!(
        news.contains("198.51.100.10: seq=1 ttl=64 time=7.000 ms"),
        "{news}"
    );
    assert!(news.ends_with("7.000/7.000/7.000 ms\r\ntandem> "), "{news}");
}

#[test]
fn an_echo_reply_that_nobody_waits_for_does_not_reach_the_router() {
    let mut bench = Bench::new();
    bench.console("ping 198.51.100.10 1");
    let reply = bench.answer_to_ping();
    bench.feed(Port::Wan, &mut reply.clone());
    bench.news();
    bench.dropped(Port::Wan, reply, Counter::NoFlow);
}

#[test]
fn a_damaged_echo_reply_is_no_answer() {
    let mut bench = Bench::new();
    bench.console("ping 198.51.100.10 1");
    let mut reply = bench.answer_to_ping();
    let last = reply.len() - 1;
    reply[last] ^= 1;
    bench.dropped(Port::Wan, reply, Counter::TransportChecksum);
    assert_eq!(bench.news(), "");
}

#[test]
fn settings_are_unsaved_until_the_store_says_so() {
    let mut bench = Bench::new();
    bench.console("set accel.threshold 1M");
    assert!(bench.console("status --kv").contains("saved=no"));
    bench.console("save");
    assert_eq!(bench.news(), "");
    bench
        .router
        .event(bench.now, Event::Stored(Stored::Settings));
    assert_eq!(bench.news(), "saved\r\ntandem> ");
    assert!(bench.console("status --kv").contains("saved=yes"));
}

#[test]
fn a_store_that_never_answers_is_told_as_a_failure() {
    let mut bench = Bench::new();
    bench.console("save");
    bench.now += crate::budget::SAVE_TIMEOUT;
    bench.router.poll(bench.now, &mut bench.out);
    let news = bench.news();
    assert!(news.starts_with("error: settings NOT stored: "), "{news}");
}

#[test]
fn every_answer_of_the_router_fits_80_columns_and_status_one_screen() {
    let mut bench = Bench::new();
    for command in [
        "help",
        "version",
        "status",
        "flows",
        "leases",
        "links",
        "counters",
        "log",
        "why",
        "get",
        "peers",
        "status --kv",
        "flows --kv",
        "links --kv",
        "log --kv",
        "get --kv",
    ] {
        let answer = bench.console(command);
        for line in answer.split("\r\n") {
            assert!(line.len() <= 80, "{command}: {line}");
        }
        assert!(
            command == "counters" || answer.lines().count() <= 26,
            "{command}"
        );
    }
}
