//! Each command, each wrong argument, and a line full of noise.

use proptest::prelude::*;

use super::*;

struct FakeHost {
    settings: Settings,
    applied: usize,
}

impl Host for FakeHost {
    fn version(&self) -> &str {
        "tandem 0.1.0"
    }

    fn uptime(&self) -> Duration {
        Duration::from_millis(((26 * 60 + 3) * 60 + 4) * 1000 + 5)
    }

    fn settings(&self) -> Settings {
        self.settings
    }

    fn apply(&mut self, settings: &Settings) {
        self.settings = *settings;
        self.applied += 1;
    }

    fn counters(&self, each: &mut dyn FnMut(&str, &str, u64)) {
        each("conntrack", "forwarded", 5);
        each("conntrack", "full", 0);
        each("classify", "not-get", u64::MAX);
    }

    fn write_status(&self, out: &mut dyn Write, kv: bool) -> fmt::Result {
        out.write_str(if kv { "flows=3\n" } else { "3 flows\n" })
    }

    fn write_flows(&self, out: &mut dyn Write) -> fmt::Result {
        out.write_str("one flow\nanother")
    }

    fn write_links(&self, out: &mut dyn Write) -> fmt::Result {
        out.write_str("uplink 8 Mbit/s\n")
    }

    fn write_why(&self, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "{} not-get", Escaped(b"h\x1b[2J\r\n\xff\\"))?;
        out.write_str("raw \x1b[2J\r\u{e4}\n")
    }
}

struct Session {
    console: Console,
    host: FakeHost,
    out: std::string::String,
    action: Action,
}

impl Session {
    fn new() -> Self {
        Self {
            console: Console::new(),
            host: FakeHost {
                settings: Settings::new(),
                applied: 0,
            },
            out: std::string::String::new(),
            action: Action::None,
        }
    }

    fn type_bytes(&mut self, bytes: &[u8]) -> &str {
        self.out.clear();
        for &byte in bytes {
            self.action = self.console.on_byte(byte, &mut self.host, &mut self.out);
        }
        &self.out
    }

    /// What a command answers, without echo and prompt.
    fn run(&mut self, command: &str) -> std::string::String {
        let typed = format!("{command}\r");
        let out = self.type_bytes(typed.as_bytes());
        let answer = out
            .strip_prefix(&format!("{command}\r\n"))
            .expect("the echo");
        answer
            .strip_suffix(PROMPT)
            .expect("the prompt")
            .replace("\r\n", "\n")
    }
}

#[test]
fn the_first_prompt_stands_at_the_start_of_a_line() {
    let mut session = Session::new();
    session.console.greet(&session.host, &mut session.out);
    assert_eq!(
        session.out,
        "\r\ntandem 0.1.0\r\n`help` lists the commands\r\ntandem> "
    );
}

#[test]
fn each_command_answers() {
    let mut session = Session::new();
    for (command, answer) in [
        ("", ""),
        ("   ", ""),
        ("version", "tandem 0.1.0\n"),
        ("status", "up 1 d 02:03:04\n3 flows\n"),
        ("status --kv", "uptime_ms=93784005\nflows=3\n"),
        (
            "counters",
            "conntrack.forwarded=5\nconntrack.full=0\nclassify.not-get=18446744073709551615\n",
        ),
        ("counters conntrack.fo", "conntrack.forwarded=5\n"),
        ("counters x", ""),
        ("links", "uplink 8 Mbit/s\n"),
        ("get accel.threshold", "262144\n"),
        ("  get   accel.enabled ", "on\n"),
        ("set accel.enabled off", "accel.enabled=off\n"),
        ("get accel.enabled", "off\n"),
        ("peers", ""),
        ("peer add 10.77.0.2", "peers=10.77.0.2\n"),
        ("peer add 10.77.0.3", "peers=10.77.0.2,10.77.0.3\n"),
        ("peers", "10.77.0.2\n10.77.0.3\n"),
        ("peer list", "10.77.0.2\n10.77.0.3\n"),
        ("peer remove 10.77.0.2", "peers=10.77.0.3\n"),
    ] {
        assert_eq!(session.run(command), answer, "{command}");
        assert_eq!(session.action, Action::None);
    }
    assert_eq!(session.host.applied, 4);
}

#[test]
fn get_shows_every_setting_as_set_takes_it() {
    let mut session = Session::new();
    session.run("set lan.address 192.168.1.1/24");
    let all = session.run("get");
    assert_eq!(all.lines().count(), crate::settings::KEYS.len());
    assert!(all.contains("lan.address=192.168.1.1/24\n"));
    for line in all.lines() {
        let (key, value) = line.split_once('=').unwrap();
        assert_eq!(
            session.run(&format!("set {key} {value}")),
            format!("{line}\n")
        );
    }
}

#[test]
fn the_labs_commands_set_the_router_up() {
    let mut session = Session::new();
    for command in [
        "set lan.address 192.168.1.1/24",
        "set wan.address 203.0.113.2/26",
        "set wan.gateway 203.0.113.1",
        "set air.address 10.77.0.1/24",
        "peer add 10.77.0.2",
        "set accel.enabled on",
    ] {
        let answer = session.run(command);
        assert!(!answer.starts_with("error"), "{command}: {answer}");
    }
}

#[test]
fn wrong_commands_and_arguments_are_one_line_of_error_and_change_nothing() {
    let mut session = Session::new();
    for command in [
        "hlep",
        "HELP",
        "help me",
        "status -x",
        "status --kv x",
        "counters a b",
        "get a b",
        "get nothing",
        "set lan.address",
        "set lan.address 1.2.3.4",
        "set a b",
        "set a b c",
        "set accel.enabled on off x y z",
        "peer",
        "peer add",
        "peer add x",
        "peer remove 1.2.3.4",
        "peer add 0.0.0.0",
        "peer drop 1.2.3.4",
        "peers x",
        "reboot now",
        "flows x",
        "why x",
        "links x",
        "version x",
    ] {
        let answer = session.run(command);
        assert!(answer.starts_with("error: "), "{command}: {answer}");
        assert_eq!(answer.lines().count(), 1, "{command}: {answer}");
        assert_eq!(session.action, Action::None, "{command}");
    }
    assert_eq!(session.host.applied, 0);
}

#[test]
fn every_command_of_the_help_exists_and_every_other_does_not() {
    let mut session = Session::new();
    let help = session.run("help");
    for line in help.lines() {
        let name = line.split(' ').next().unwrap();
        let answer = session.run(&format!("{name} too many words at all"));
        assert!(answer.starts_with("error: write `"), "{name}: {answer}");
    }
}

#[test]
fn output_that_ends_within_a_line_still_gives_the_prompt_its_own() {
    assert_eq!(Session::new().run("flows"), "one flow\nanother\n");
}

#[test]
fn reboot_tells_the_board_and_gives_no_prompt() {
    let mut session = Session::new();
    assert_eq!(session.type_bytes(b"reboot\r"), "reboot\r\nrebooting\r\n");
    assert_eq!(session.action, Action::Reboot);
}

#[test]
fn a15_text_from_the_network_cannot_move_the_cursor_or_end_a_line() {
    let answer = Session::new().run("why");
    assert_eq!(
        answer,
        "h\\x1b[2J\\x0d\\x0a\\xff\\\\ not-get\nraw \\u{1b}[2J\\r\\u{e4}\n"
    );
}

#[test]
fn the_line_can_be_edited() {
    let mut session = Session::new();
    assert_eq!(
        session.type_bytes(b"versiom\x7fn\x08n\r"),
        "versiom\x08 \x08n\x08 \x08n\r\ntandem 0.1.0\r\ntandem> "
    );
    assert_eq!(session.type_bytes(b"\x7f\x08"), "", "nothing left to erase");
    assert_eq!(session.type_bytes(b"ab\x15"), "ab\x08 \x08\x08 \x08");
    assert_eq!(session.type_bytes(b"\r"), "\r\ntandem> ");
    assert_eq!(session.type_bytes(b"reboot\x03"), "reboot^C\r\ntandem> ");
    assert_eq!(session.type_bytes(b"\r"), "\r\ntandem> ");
}

#[test]
fn cr_lf_and_crlf_each_end_one_line() {
    let mut session = Session::new();
    for end in ["\r", "\n", "\r\n"] {
        let typed = format!("get accel.enabled{end}get accel.enabled{end}");
        let out = session.type_bytes(typed.as_bytes());
        assert_eq!(out.matches(PROMPT).count(), 2, "{end:?}");
        session.type_bytes(b"\x15");
    }
}

#[test]
fn arrow_keys_and_other_sequences_leave_nothing_on_the_line() {
    let mut session = Session::new();
    assert_eq!(
        session.type_bytes(b"\x1b[A\x1b[1;5C\x1bOP\x1bx\x1b\x1b[B"),
        ""
    );
    assert_eq!(session.run("version"), "tandem 0.1.0\n");
    session.type_bytes(b"\x1b[1;\r");
    assert_eq!(
        session.run("version"),
        "tandem 0.1.0\n",
        "a line end ends a sequence too"
    );
}

#[test]
fn s10_a_line_of_4_kib_is_refused_whole_and_the_next_one_works() {
    let mut session = Session::new();
    let answer = session
        .type_bytes(&[&b"reboot "[..], &[b'x'; 4096], b"\r"].concat())
        .to_owned();
    assert!(answer.ends_with("\r\nerror: a line has at most 256 bytes\r\ntandem> "));
    assert!(
        answer.len() < 2 * CONSOLE_LINE_BYTES_MAX,
        "the rest is not echoed"
    );
    assert_eq!(session.run("version"), "tandem 0.1.0\n");
    let longest = format!("{:width$}", "version", width = CONSOLE_LINE_BYTES_MAX);
    assert_eq!(session.run(&longest), "tandem 0.1.0\n");
}

#[test]
fn s10_binary_noise_does_nothing() {
    let mut session = Session::new();
    let noise: Vec<u8> = (0..=255)
        .filter(|byte| !matches!(byte, 0x08 | b'\n' | b'\r' | 0x1b))
        .collect();
    session.type_bytes(&noise);
    assert_eq!(session.action, Action::None);
    session.type_bytes(b"\x15");
    assert_eq!(session.run("version"), "tandem 0.1.0\n");
    assert_eq!(session.host.applied, 0);
}

proptest! {
    #[test]
    fn s10_any_bytes_give_plain_text_and_leave_a_working_console(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let mut session = Session::new();
        let out = session.type_bytes(&bytes);
        let plain = |byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | 0x08);
        prop_assert!(out.bytes().all(plain));
        session.type_bytes(b"\x03");
        prop_assert_eq!(session.run("version"), "tandem 0.1.0\n");
    }
}
