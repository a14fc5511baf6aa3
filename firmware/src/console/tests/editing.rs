//! Keys: what the line holds, and that the terminal shows it.

use super::screen::Screen;
use super::*;

/// A session and the terminal at its other end.
struct Seat {
    session: Session,
    screen: Screen,
}

impl Seat {
    fn new() -> Self {
        let mut seat = Self {
            session: Session::new(),
            screen: Screen::new(),
        };
        seat.keys(b"\r");
        seat
    }

    fn keys(&mut self, bytes: &[u8]) -> &mut Self {
        let out = self.session.type_bytes(bytes).to_owned();
        self.screen.write(&out);
        self
    }

    /// The line as the editor has it, and the cursor.
    fn line(&self) -> (&str, usize) {
        let editor = &self.session.console.editor;
        (editor.line(), editor.before_cursor().len())
    }

    fn is(&mut self, keys: &[u8], line: &str, cursor: usize) -> &mut Self {
        self.keys(keys);
        assert_eq!(
            self.line(),
            (line, cursor),
            "after {:?}",
            keys.escape_ascii().to_string()
        );
        self.check();
        self
    }

    /// The terminal shows prompt, line and cursor.
    fn check(&self) {
        let (line, cursor) = self.line();
        let first = self.screen.row() - self.rows_above();
        let shown = self.screen.text_from(first);
        assert_eq!(shown, format!("{PROMPT}{line}").trim_end());
        assert_eq!(self.screen.cursor(first), PROMPT.len() + cursor);
    }

    fn rows_above(&self) -> usize {
        let at = PROMPT.len() + self.line().1;
        let end = PROMPT.len() + self.line().0.len();
        // At the very end of a full row the cursor waits on that row.
        if at == end && at.is_multiple_of(80) {
            at / 80 - 1
        } else {
            at / 80
        }
    }
}

#[test]
fn what_is_typed_at_the_end_is_echoed_and_nothing_else() {
    let mut session = Session::new();
    assert_eq!(session.type_bytes(b"get lan"), "get lan");
    assert_eq!(session.type_bytes(b"\x7f\x08"), "\x08 \x08\x08 \x08");
}

#[test]
fn keys_do_what_the_table_says() {
    Seat::new()
        .is(b"help mx", "help mx", 7)
        .is(b"\x1b[D", "help mx", 6)
        .is(b"e", "help mex", 7)
        .is(b"\x1b[3~", "help me", 7)
        .is(b"\x04", "help me", 7)
        .is(b"\x01", "help me", 0)
        .is(b"\x02", "help me", 0)
        .is(b"\x7f", "help me", 0)
        .is(b"\x1b[C\x06", "help me", 2)
        .is(b"\x08", "hlp me", 1)
        .is(b"e", "help me", 2)
        .is(b"\x1b[F", "help me", 7)
        .is(b"\x1b[1~", "help me", 0)
        .is(b"\x1bOF", "help me", 7)
        .is(b"\x1b[C", "help me", 7)
        .is(b"\x17", "help ", 5)
        .is(b"\x17", "", 0)
        .is(b"\x17", "", 0)
        .is(b"one two three", "one two three", 13)
        .is(b"\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x0b", "one two ", 8)
        .is(b"\x1b[D\x1b[D", "one two ", 6)
        .is(b"\x15", "o ", 0)
        .is(b"\x0c", "o ", 0)
        .is(b"\x05 t", "o  t", 4)
        .is(b"\x03", "", 0);
}

#[test]
fn the_whole_screen_is_cleared_by_control_l() {
    let mut seat = Seat::new();
    seat.keys(b"version\r").is(b"ver\x1b[D\x0c", "ver", 2);
    assert_eq!(seat.screen.text(), "tandem> ver");
}

#[test]
fn lines_given_before_come_back_and_the_one_being_written_is_kept() {
    Seat::new()
        .is(b"\x1b[A", "", 0)
        .keys(b"version\rpeers\rpeers\r")
        .is(b"ge", "ge", 2)
        .is(b"\x1b[A", "peers", 5)
        .is(b"\x10", "version", 7)
        .is(b"\x1b[A", "version", 7)
        .is(b"\x1b[B", "peers", 5)
        .is(b"\x0e", "ge", 2)
        .is(b"\x1b[B", "ge", 2)
        .is(b"\x1b[A\x1b[A\r", "", 0)
        .is(b"\x1b[A", "version", 7);
}

#[test]
fn a_line_longer_than_a_row_is_edited_on_all_its_rows() {
    let mut seat = Seat::new();
    let long = "0123456789".repeat(20);
    seat.is(long.as_bytes(), &long, 200);
    let mut line = long.clone();
    line.insert(3, 'x');
    seat.is(b"\x01\x1b[C\x1b[C\x1b[Cx", &line, 4);
    line.remove(3);
    seat.is(b"\x08", &line, 3);
    seat.is(b"\x05", &line, 200);
    line.truncate(72);
    // The prompt and 72 bytes fill a row.
    seat.is(
        &[b"\x01".to_vec(), b"\x1b[C".repeat(72), b"\x0b".to_vec()].concat(),
        &line,
        72,
    );
    seat.is(b"\x1b[D", &line, 71);
    seat.is(b"\x1b[C", &line, 72);
    seat.is(b"\x7f", &line[..71], 71);
    seat.is(b"ab", &format!("{}ab", &line[..71]), 73);
    seat.is(b"\x7f", &format!("{}a", &line[..71]), 72);
}

#[test]
fn tab_completes_commands_keys_and_words() {
    Seat::new()
        .is(b"ver\t", "version ", 8)
        .is(b"\x15coun\t", "counters ", 9)
        .is(b"\x15peer r\t", "peer remove ", 12)
        .is(b"\x15get lan.l\t", "get lan.lease ", 14)
        .is(b"\x15set accel.e\tof\t", "set accel.enabled off ", 22)
        .is(b"\x15crash p\ty\t", "crash panic yes ", 16)
        .is(b"\x15help cra\t", "help crash ", 11)
        .is(b"\x15stat\t--\t", "status --kv ", 12)
        .is(b"\x15zzz\t", "zzz", 3)
        .is(b"\x15get nothing\t", "get nothing", 11)
        .is(b"\x15a b c d e f\t", "a b c d e f", 11)
        .is(b"\x15ver x\x1b[D\x1b[D\t", "version  x", 8);
}

#[test]
fn tab_lists_what_a_word_could_be() {
    let mut seat = Seat::new();
    seat.is(b"get acc\t", "get accel.", 10);
    seat.keys(b"\t");
    let shown = seat.screen.text();
    let rows: Vec<_> = shown.lines().rev().take(2).collect();
    assert_eq!(
        rows,
        [
            "tandem> get accel.",
            "accel.enabled  accel.threshold  accel.ports  accel.types  accel.probe"
        ]
    );
    seat.check();
    let mut seat = Seat::new();
    seat.keys(b"\t");
    let shown = seat.screen.text();
    for command in command::COMMANDS {
        assert!(shown.contains(command.name), "{shown}");
    }
    seat.check();
    assert_eq!(
        seat.session.type_bytes(b"version\r"),
        "version\r\ntandem 0.1.0\r\ntandem> "
    );
}

#[test]
fn a_row_of_candidates_has_at_most_80_columns() {
    let mut session = Session::new();
    let out = session.type_bytes(b"get \t").to_owned();
    assert!(
        out.split("\r\n")
            .all(|row| row.trim_start_matches("\x1b[J").trim_end().len() <= 96)
    );
    let mut screen = Screen::new();
    screen.write(&out);
    for key in crate::settings::KEYS {
        assert!(
            screen.text().contains(key),
            "{key} is torn: {}",
            screen.text()
        );
    }
}

#[test]
fn sequences_of_unknown_keys_leave_nothing_on_the_line() {
    let mut seat = Seat::new();
    seat.is(b"\x1b[Z\x1b[5~\x1bOP\x1bx\x1b\x1b[24~\x1b[200~", "", 0);
    seat.keys(b"\x1b[1;\r");
    assert_eq!(
        seat.session.run("version"),
        "tandem 0.1.0\n",
        "a line end ends a sequence too"
    );
}

#[test]
fn s10_a_full_line_stays_what_it_is() {
    let mut seat = Seat::new();
    let full = "x".repeat(CONSOLE_LINE_BYTES_MAX);
    seat.is(full.as_bytes(), &full, CONSOLE_LINE_BYTES_MAX).is(
        b"y\x1b[Dy",
        &full,
        CONSOLE_LINE_BYTES_MAX - 1,
    );
    assert!(
        seat.session
            .type_bytes(b"\r")
            .contains("error: a line has at most 640 bytes"),
        "it has lost bytes"
    );
    seat.session
        .type_bytes(&[full.as_bytes(), b"y\x15"].concat());
    assert_eq!(seat.session.run("version"), "tandem 0.1.0\n");
}

#[test]
fn s10_what_is_left_of_a_line_that_was_too_long_is_never_found_again() {
    let whole = "set wan.dns ".to_owned() + &"9".repeat(CONSOLE_LINE_BYTES_MAX);
    let mut seat = Seat::new();
    seat.keys(b"version\r").keys(whole.as_bytes());
    // Put aside for an earlier line, and taken up again.
    seat.is(b"\x1b[A", "version", 7).is(b"\x1b[B", "", 0);
    seat.keys(whole.as_bytes()).keys(b"\r");
    seat.is(b"\x1b[A", "version", 7);
    assert!(seat.session.type_bytes(b"\r").contains("tandem 0.1.0"));
    // An empty line has lost nothing, however it was emptied.
    seat.keys(whole.as_bytes()).is(b"\x01\x0b", "", 0);
    assert_eq!(seat.session.run("version"), "tandem 0.1.0\n");
}

/// Bytes as a person, a broken line and a program send them.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    let key = prop_oneof![
        6 => "[a-z .]{1,30}".prop_map(String::into_bytes),
        3 => prop::sample::select(vec![
            &b"\x1b[A"[..], b"\x1b[B", b"\x1b[C", b"\x1b[D", b"\x1b[H", b"\x1b[F", b"\x1b[3~",
            b"\x01", b"\x02", b"\x04", b"\x05", b"\x06", b"\x08", b"\x0b", b"\x0c", b"\x15", b"\x17",
        ]).prop_map(<[u8]>::to_vec),
        1 => Just(vec![b'\t']),
        1 => Just(vec![b'\r']),
    ];
    prop::collection::vec(key, 0..60).prop_map(|keys| keys.concat())
}

proptest! {
    #[test]
    fn whatever_is_typed_the_terminal_shows_the_line_and_the_cursor(keys in keys()) {
        let mut seat = Seat::new();
        for key in keys {
            seat.keys(&[key]);
            // Not in the middle of a sequence, which shows nothing anyway.
            seat.check();
        }
    }

    #[test]
    fn a_notice_leaves_line_and_cursor_as_they_were(keys in keys(), more in keys()) {
        let mut seat = Seat::new();
        seat.keys(&keys);
        let before = (seat.line().0.to_owned(), seat.line().1);
        seat.session.host.event(Event::LeaseLost("expired"));
        seat.keys(b"");
        seat.session.out.clear();
        seat.session.settle();
        let out = seat.session.out.clone();
        seat.screen.write(&out);
        prop_assert_eq!((seat.line().0.to_owned(), seat.line().1), before);
        prop_assert!(seat.screen.text().contains("* WAN address lost: expired"));
        seat.check();
        seat.keys(&more);
        seat.check();
    }
}
