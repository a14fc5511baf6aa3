//! What goes on over many polls: listings, pings, saving, notices, transfers; and room that is missing.

use super::*;
use smoltcp::time::Instant;

/// An output of 8 KiB that a slow line empties.
struct SlowLine {
    session: Session,
    waiting: usize,
    said: std::string::String,
}

impl SlowLine {
    const SIZE: usize = 8192;

    fn new() -> Self {
        Self {
            session: Session::new(),
            waiting: 0,
            said: std::string::String::new(),
        }
    }

    /// One turn of a main loop; `sent` bytes leave the buffer.
    fn turn(&mut self, sent: usize) {
        let room = Self::SIZE - self.waiting;
        self.session.out.clear();
        self.session.action =
            self.session
                .console
                .poll(&mut self.session.host, room, &mut self.session.out);
        let written = self.session.out.len();
        assert!(written <= room, "{written} bytes into room for {room}");
        self.waiting = (self.waiting + written).saturating_sub(sent);
        let out = core::mem::take(&mut self.session.out);
        self.said.push_str(&out);
    }

    /// Types as fast as the console takes it, and runs until nothing moves.
    fn paste(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.iter();
        for _ in 0..1_000_000 {
            for _ in 0..self.session.console.input_room().min(64) {
                let Some(&byte) = bytes.next() else { break };
                self.session.console.on_input(byte);
            }
            self.turn(16);
            if bytes.len() == 0
                && !self
                    .session
                    .console
                    .is_ready(&self.session.host, Self::SIZE)
            {
                return;
            }
        }
        panic!("it does not come to an end");
    }
}

#[test]
fn a_listing_of_2048_rows_comes_whole_through_8_kib() {
    let mut line = SlowLine::new();
    line.session.host.flows = 2048;
    line.paste(b"flows --kv\r");
    let rows: Vec<_> = line
        .said
        .lines()
        .filter(|row| row.starts_with("flow="))
        .collect();
    assert_eq!(rows.len(), 2048);
    assert!(
        rows.iter()
            .enumerate()
            .all(|(i, row)| *row == format!("flow=row {i:060}"))
    );
    assert!(line.said.ends_with(PROMPT));
}

#[test]
fn a_poll_of_a_listing_is_bounded() {
    let mut session = Session::new();
    session.host.flows = 2048;
    for &byte in b"flows --kv\r" {
        session.console.on_input(byte);
    }
    session
        .console
        .poll(&mut session.host, usize::MAX, &mut session.out);
    let rows = session.out.matches("flow=").count() as u32;
    assert!(
        rows <= CONSOLE_WORK / CONSOLE_ROW_WORK,
        "{rows} rows at once"
    );
    assert!(session.console.is_ready(&session.host, usize::MAX));
}

#[test]
fn s10_lines_pasted_as_fast_as_they_are_taken_are_all_answered() {
    let mut line = SlowLine::new();
    line.session.host.flows = 40;
    let mut script = std::string::String::new();
    for i in 0..300 {
        script.push_str(&format!(
            "get lan.lease\rset accel.threshold {}\nflows\r\n",
            100_000 + i
        ));
    }
    line.paste(script.as_bytes());
    assert_eq!(line.said.matches("accel.threshold=").count(), 300);
    assert_eq!(line.said.matches(&format!("row {:060}", 39)).count(), 300);
    assert_eq!(line.said.matches(PROMPT).count(), 900);
    assert_eq!(line.session.host.applied, 300);
    assert!(!line.said.contains("lost"));
}

#[test]
fn s10_what_is_typed_into_a_full_console_is_lost_and_told() {
    let mut session = Session::new();
    session.type_bytes(b"ping 198.51.100.10\r");
    for _ in 0..CONSOLE_INPUT_BYTES + 10 {
        session.console.on_input(b'x');
    }
    session.out.clear();
    session.settle();
    assert_eq!(
        session.out,
        "* 10 typed bytes were lost: no more than 1280 may wait\r\n"
    );
    assert!(
        session
            .type_bytes(b"\x03")
            .ends_with("0 sent, 0 received\r\ntandem> ")
    );
    assert_eq!(session.run("version"), "tandem 0.1.0\n");
}

#[test]
fn without_room_nothing_is_written_and_nothing_is_lost() {
    let mut session = Session::new();
    for &byte in b"version\r" {
        session.console.on_input(byte);
    }
    session.host.event(Event::LeaseLost("expired"));
    for room in [0, 1, CONSOLE_ROW_BYTES - 1] {
        assert!(!session.console.is_ready(&session.host, room));
        session
            .console
            .poll(&mut session.host, room, &mut session.out);
        assert_eq!(session.out, "", "room {room}");
    }
    // Enough for a row, not for an answer.
    session.console.poll(
        &mut session.host,
        CONSOLE_ANSWER_BYTES - 1,
        &mut session.out,
    );
    assert!(session.out.ends_with("version"), "{}", session.out);
    session.settle();
    assert!(session.out.ends_with("version\r\ntandem 0.1.0\r\ntandem> "));
}

#[test]
fn control_c_ends_a_listing_and_drops_what_was_typed_ahead() {
    let mut session = Session::new();
    session.host.flows = 2048;
    for &byte in b"flows\rreboot\r" {
        session.console.on_input(byte);
    }
    session
        .console
        .poll(&mut session.host, usize::MAX, &mut session.out);
    session.type_bytes(b"\x03");
    assert!(session.out.ends_with("^C\r\ntandem> "), "{}", session.out);
    assert!(session.out.len() < 200);
    assert_eq!(session.action, Action::None);
    assert_eq!(session.run("version"), "tandem 0.1.0\n");
}

#[test]
fn a_ping_tells_each_answer_as_it_comes() {
    let mut session = Session::new();
    assert_eq!(
        session.type_bytes(b"ping 198.51.100.10 2\r"),
        "ping 198.51.100.10 2\r\n"
    );
    let target = Ipv4Addr::new(198, 51, 100, 10);
    for seq in 1..=2_u16 {
        let at = Instant::from_secs(i64::from(seq));
        assert!(session.host.ping.poll_transmit(at).is_some());
        session.host.ping.on_reply(at, target, seq, 60);
        session.out.clear();
        session.settle();
        assert!(
            session
                .out
                .starts_with(&format!("198.51.100.10: seq={seq} ttl=60"))
        );
    }
    assert!(
        session
            .out
            .ends_with(", min/mean/max 0.000/0.000/0.000 ms\r\ntandem> ")
    );
}

#[test]
fn s10_a_session_left_in_a_ping_ends_by_itself_and_what_was_typed_is_done_then() {
    let mut session = Session::new();
    session.type_bytes(b"ping 198.51.100.10 1\r");
    assert_eq!(session.type_bytes(b"version\r"), "", "it waits");
    assert!(session.host.ping.poll_transmit(Instant::ZERO).is_some());
    session.host.ping.poll(Instant::from_secs(2));
    session.settle();
    assert_eq!(
        session.out,
        "seq=1 no answer within 2 s\r\n1 sent, 0 received\r\ntandem> version\r\ntandem 0.1.0\r\ntandem> "
    );
}

#[test]
fn save_answers_with_the_outcome() {
    let mut session = Session::new();
    for (outcome, answer) in [
        (Event::Stored(Stored::Settings), "saved"),
        (
            Event::StoreFailed(Stored::Settings, "erase failed"),
            "error: settings NOT stored: erase failed",
        ),
    ] {
        assert_eq!(session.type_bytes(b"save\r"), "save\r\n");
        session.host.event(outcome);
        session.out.clear();
        session.settle();
        assert_eq!(session.out, format!("{answer}\r\ntandem> "));
    }
}

#[test]
fn control_c_leaves_the_store_alone_and_its_outcome_is_a_notice() {
    let mut session = Session::new();
    session.type_bytes(b"save\r");
    assert_eq!(session.type_bytes(b"\x03"), "^C\r\ntandem> ");
    assert_eq!(
        session.run("save"),
        "error: the settings are being stored already\n"
    );
    session.host.event(Event::Stored(Stored::Settings));
    session.out.clear();
    session.settle();
    assert_eq!(session.out, "\r\x1b[J* saved\r\ntandem> ");
}

#[test]
fn notices_come_between_the_rows_of_a_listing() {
    let mut session = Session::new();
    session.host.flows = 100;
    for &byte in b"flows --kv\r" {
        session.console.on_input(byte);
    }
    session
        .console
        .poll(&mut session.host, usize::MAX, &mut session.out);
    session
        .host
        .event(Event::PeerLost(Ipv4Addr::new(10, 77, 0, 2)));
    session
        .host
        .event(Event::PeerUp(Ipv4Addr::new(10, 77, 0, 2)));
    session.settle();
    let notices: Vec<_> = session
        .out
        .lines()
        .filter(|row| row.starts_with(NOTICE))
        .collect();
    assert_eq!(
        notices,
        ["* peer 10.77.0.2 is lost"],
        "what does not matter is for `log`"
    );
    assert_eq!(session.out.matches("\r\nflow=").count(), 100);
    assert_eq!(session.out.matches(PROMPT).count(), 1);
}

#[test]
fn a15_a_notice_is_one_line_of_80_columns_whatever_the_net_says() {
    let mut session = Session::new();
    let place = crate::events::Text::new(&[0x1b; 40]);
    session.host.event(Event::Reset {
        why: "panic",
        place,
        crashes: 1,
    });
    session.settle();
    let row = session.out.lines().next().unwrap();
    assert_eq!(row.trim_start_matches("\r\x1b[J").len(), 80);
    assert!(row.ends_with('~'));
    assert_eq!(row.matches('\x1b').count(), 1, "ours alone");
    assert_eq!(session.out.lines().count(), 2);
}

#[test]
fn more_events_than_are_held_are_told_as_far_as_they_are_held() {
    let mut session = Session::new();
    for _ in 0..200 {
        session.host.event(Event::LeaseLost("expired"));
    }
    session.settle();
    assert_eq!(session.out.matches(NOTICE).count(), crate::budget::EVENTS);
}

#[test]
fn a_transfer_gets_every_byte_and_no_notice_disturbs_it() {
    let mut session = Session::new();
    session.console.busy = Busy::Line;
    session.host.transfer = Some(Vec::new());
    session.host.event(Event::LeaseLost("expired"));
    assert_eq!(
        session.type_bytes(b"\x03\x1b\r\n\x00\xff"),
        "C\x06C\x06C\x06C\x06C\x06C\x06"
    );
    assert_eq!(
        session.host.transfer.as_deref(),
        Some(&b"\x03\x1b\r\n\x00\xff"[..])
    );
    let end = session.type_bytes(b"\x04").to_owned();
    assert_eq!(
        end,
        "C\x06tandem> \r\x1b[J* WAN address lost: expired\r\ntandem> "
    );
    assert_eq!(session.run("version"), "tandem 0.1.0\n");
}

proptest! {
    #[test]
    fn s10_noise_into_a_slow_line_overflows_nothing_and_ends(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        let mut line = SlowLine::new();
        line.session.host.flows = 300;
        line.paste(&bytes);
        line.session.console.on_input(3);
        line.paste(b"\x03version\r");
        prop_assert!(line.said.ends_with("version\r\ntandem 0.1.0\r\ntandem> "));
    }
}
