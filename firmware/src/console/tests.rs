//! Each command, each wrong argument, and a line full of noise.

use proptest::prelude::*;

use super::*;
use crate::router::upgrade::Transfer;
use crate::upgrade::Refusal;

mod editing;
mod screen;
mod working;

struct FakeHost {
    settings: Settings,
    saved: Settings,
    saving: bool,
    applied: usize,
    log: Log,
    ping: crate::ping::Ping,
    now: smoltcp::time::Instant,
    /// Rows of `flows`.
    flows: u32,
    /// Bytes that a transfer got; `Some` while it has the line.
    transfer: Option<Vec<u8>>,
}

impl FakeHost {
    fn new() -> Self {
        Self {
            settings: Settings::new(),
            saved: Settings::new(),
            saving: false,
            applied: 0,
            log: Log::new(),
            ping: crate::ping::Ping::new(),
            now: smoltcp::time::Instant::ZERO,
            flows: 2,
            transfer: None,
        }
    }

    fn event(&mut self, event: Event) {
        if matches!(
            event,
            Event::Stored(Stored::Settings) | Event::StoreFailed(Stored::Settings, _)
        ) {
            self.saving = false;
        }
        if event == Event::Stored(Stored::Settings) {
            self.saved = self.settings;
        }
        self.log.add(self.now, event);
    }
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

    fn is_saved(&self) -> bool {
        self.saved == self.settings
    }

    fn save(&mut self) {
        self.saving = true;
    }

    fn is_saving(&self) -> bool {
        self.saving
    }

    fn log(&self) -> &Log {
        &self.log
    }

    fn counters(&self, each: &mut dyn FnMut(&str, &str, u64)) {
        each("conntrack", "forwarded", 5);
        each("conntrack", "full", 0);
        each("classify", "not-get", u64::MAX);
    }

    fn write_status(&self, out: &mut dyn Write, kv: bool) -> fmt::Result {
        out.write_str(if kv { "flows=3\n" } else { "3 flows\n" })
    }

    fn write_row(&self, table: Table, kv: bool, at: u32, out: &mut dyn Write) -> Option<u32> {
        let written = match (table, at) {
            (Table::Flows, _) if at < self.flows => {
                let prefix = if kv { "flow=" } else { "" };
                writeln!(out, "{prefix}row {at:060}")
            }
            (Table::Links, 0) => writeln!(out, "uplink 8 Mbit/s"),
            (Table::Why, 0) => writeln!(out, "{} not-get", Escaped(b"h\x1b[2J\r\n\xff\\")),
            (Table::Why, 1) => writeln!(out, "raw \x1b[2J\r\u{e4}"),
            (Table::Why, 2) => writeln!(out, "{:x<200}", ""),
            (Table::Leases, 0) => write!(out, "a row that ends within a line"),
            (Table::Log, _) => {
                let entry = self.log.iter().nth(at as usize)?;
                writeln!(out, "{}", entry.event)
            }
            _ => return None,
        };
        written.ok().map(|()| at + 1)
    }

    fn ping(&mut self, target: Ipv4Addr, count: u32) -> Result<(), PingError> {
        if target == Ipv4Addr::new(192, 168, 1, 1) {
            return Err(PingError::Own);
        }
        self.ping.start(self.now, target, 61_000, count);
        Ok(())
    }

    fn ping_report(&mut self) -> Option<Report> {
        self.ping.poll_report()
    }

    fn has_ping_report(&self) -> bool {
        self.ping.has_report()
    }

    fn end_ping(&mut self) {
        self.ping.end();
    }

    fn upgrade(&mut self, transfer: Transfer, _force: bool) -> Result<(), Refusal> {
        if self.transfer.is_some() {
            return Err(Refusal::Busy);
        }
        if transfer == Transfer::Xmodem {
            self.transfer = Some(Vec::new());
        }
        Ok(())
    }

    fn write_upgrade(&self, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "no upgrade")
    }

    fn has_line(&self) -> bool {
        self.transfer.is_some()
    }

    fn on_line_byte(&mut self, byte: u8, out: &mut dyn Write) {
        let got = self.transfer.as_mut().unwrap();
        got.push(byte);
        ignore(out.write_str("\x06"));
        if byte == 0x04 {
            self.transfer = None;
        }
    }

    fn poll_line(&mut self, out: &mut dyn Write) {
        ignore(out.write_str("C"));
    }
}

struct Session {
    console: Console,
    host: FakeHost,
    out: std::string::String,
    action: Action,
}

impl Session {
    /// A board that has just started.
    fn cold() -> Self {
        Self {
            console: Console::new(),
            host: FakeHost::new(),
            out: std::string::String::new(),
            action: Action::None,
        }
    }

    /// At the first prompt.
    fn new() -> Self {
        let mut session = Self::cold();
        session.type_bytes(b"\n");
        session.out.clear();
        session
    }

    /// Lets the console do all that it can.
    fn settle(&mut self) {
        while self.console.is_ready(&self.host, usize::MAX) {
            self.action = self.console.poll(&mut self.host, usize::MAX, &mut self.out);
        }
    }

    fn type_bytes(&mut self, bytes: &[u8]) -> &str {
        self.out.clear();
        for &byte in bytes {
            self.console.on_input(byte);
            self.settle();
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
    let mut session = Session::cold();
    assert_eq!(session.type_bytes(b"\n"), "\r\ntandem> ");
}

#[test]
fn each_command_answers() {
    let mut session = Session::new();
    for (command, answer) in [
        ("", ""),
        ("   ", ""),
        ("version", "tandem 0.1.0\n"),
        ("status", "3 flows\n"),
        ("status --kv", "flows=3\n"),
        (
            "counters",
            "conntrack.forwarded=5\nconntrack.full=0\nclassify.not-get=18446744073709551615\n",
        ),
        ("counters conntrack.fo", "conntrack.forwarded=5\n"),
        (
            "counters classify",
            "classify.not-get=18446744073709551615\n",
        ),
        (
            "counters classify.",
            "classify.not-get=18446744073709551615\n",
        ),
        ("counters x --kv", ""),
        ("counters x", "none\n"),
        ("counters classifyx", "none\n"),
        ("links --kv", "uplink 8 Mbit/s\n"),
        ("log", "none\n"),
        ("log --kv", ""),
        ("get accel.threshold", "262144\n"),
        ("  get   accel.enabled ", "on\n"),
        ("set accel.enabled off", "accel.enabled=off\n"),
        ("get accel.enabled", "off\n"),
        ("peers", "none\n"),
        ("peer add 10.77.0.2", "peers=10.77.0.2\n"),
        ("peer add 10.77.0.3", "peers=10.77.0.2,10.77.0.3\n"),
        ("peers", "10.77.0.2\n10.77.0.3\n"),
        ("peer list", "10.77.0.2\n10.77.0.3\n"),
        ("peers --kv", "peer=10.77.0.2\npeer=10.77.0.3\n"),
        ("peer remove 10.77.0.2", "peers=10.77.0.3\n"),
        ("get borrow.nat", "none\n"),
        ("peer add 10.77.0.3 nat", "peers=10.77.0.3\n"),
        ("get borrow.nat", "10.77.0.3\n"),
        ("peer add 10.77.0.4 nat", "peers=10.77.0.3,10.77.0.4\n"),
        ("peer add 10.77.0.3 relay", "peers=10.77.0.3,10.77.0.4\n"),
        ("get borrow.nat", "10.77.0.4\n"),
        ("peer remove 10.77.0.4", "peers=10.77.0.3\n"),
        ("get borrow.nat", "none\n"),
        ("get lend.nat", "off\n"),
        ("set lend.nat on", "lend.nat=on\n"),
    ] {
        assert_eq!(session.run(command), answer, "{command}");
        assert_eq!(session.action, Action::None);
    }
    assert_eq!(session.host.applied, 9);
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
        "help help help",
        "--kv",
        "version --kv",
        "status --kv --kv",
        "set --kv",
        "log x",
        "log 0",
        "log -1",
        "log 4294967296",
        "leases x",
        "ping",
        "ping here",
        "ping 198.51.100.10 0",
        "ping 198.51.100.10 101",
        "ping 198.51.100.10 +4",
        "ping 127.0.0.1",
        "ping 192.168.1.1",
        "ping 198.51.100.10 4 4",
        "save now",
        "defaults",
        "defaults no",
        "crash",
        "crash panic",
        "crash hang",
        "crash reboot yes",
        "crash panic no",
        "counters a-prefix-longer-than-any-name-of-a-counter",
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
fn every_command_has_its_help_of_80_columns_and_every_help_its_command() {
    let mut session = Session::new();
    let list = session.run("help");
    assert_eq!(list.lines().count(), command::COMMANDS.len());
    assert!(list.lines().all(|line| line.len() <= 80), "{list}");
    for (command, line) in command::COMMANDS.iter().zip(list.lines()) {
        assert!(line.starts_with(command.name), "{line}");
        let more = session.run(&format!("help {}", command.name));
        assert!(more.starts_with(command.usage), "{more}");
        assert!(more.lines().all(|line| line.len() <= 80), "{more}");
        let answer = session.run(&format!("{} too many words at all", command.name));
        assert_eq!(answer, format!("error: write `{}`\n", command.usage));
    }
}

#[test]
fn every_listing_has_a_form_for_programs() {
    let mut session = Session::new();
    for name in [
        "status", "flows", "leases", "links", "counters", "log", "why", "peers", "get",
    ] {
        let command = command::find(name).unwrap();
        assert!(command.usage.contains("--kv"), "{name}");
        let answer = session.run(&format!("{name} --kv"));
        assert!(!answer.starts_with("error"), "{name}: {answer}");
    }
    assert!(session.run("flows").starts_with("     client"));
    assert!(
        session
            .run("flows --kv")
            .lines()
            .all(|line| line.starts_with("flow="))
    );
}

#[test]
fn log_shows_the_newest_events_last() {
    let mut session = Session::new();
    session.host.event(Event::SettingsLoaded);
    session.host.event(Event::LeaseRenewed { seconds: 60 });
    let all = "stored settings are in force\nWAN address kept for 60 s\n";
    assert_eq!(session.run("log"), all);
    assert_eq!(session.run("log 1"), "WAN address kept for 60 s\n");
    assert_eq!(session.run("log 2"), all);
    assert_eq!(session.run("log 99 --kv"), all);
}

#[test]
fn settings_that_are_not_saved_are_told_by_get() {
    let mut session = Session::new();
    assert!(!session.run("get").contains('#'));
    session.run("set accel.enabled off");
    assert!(
        session
            .run("get")
            .ends_with("# not saved; `save` keeps them over a reboot\n")
    );
    assert!(!session.run("get --kv").contains('#'));
    session.run("set accel.enabled on");
    assert!(!session.run("get").contains('#'), "as it was");
}

#[test]
fn factory_settings_come_only_with_yes_and_are_not_saved() {
    let mut session = Session::new();
    session.run("set accel.enabled off");
    session.host.saved = session.host.settings;
    assert_eq!(session.run("defaults"), "error: write `defaults yes`\n");
    assert_eq!(session.host.applied, 1);
    assert_eq!(
        session.run("defaults yes"),
        "factory settings are in force; `save` keeps them\n"
    );
    assert_eq!(session.host.settings, Settings::new());
    assert!(!session.host.is_saved());
}

#[test]
fn a_crash_is_asked_for_twice() {
    for (command, action) in [("panic", Action::Panic), ("hang", Action::Hang)] {
        let mut session = Session::new();
        assert!(
            session
                .run(&format!("crash {command}"))
                .starts_with("error")
        );
        session.type_bytes(format!("crash {command} yes\r").as_bytes());
        assert_eq!(session.action, action);
    }
}

#[test]
fn output_that_ends_within_a_line_still_gives_the_prompt_its_own() {
    assert_eq!(
        Session::new().run("leases --kv"),
        "a row that ends within a line\n"
    );
}

#[test]
fn reboot_tells_the_board_and_gives_no_prompt() {
    let mut session = Session::new();
    assert_eq!(session.type_bytes(b"reboot\r"), "reboot\r\nrebooting\r\n");
    assert_eq!(session.action, Action::Reboot);
}

#[test]
fn a15_text_from_the_network_cannot_move_the_cursor_or_end_a_line() {
    let answer = Session::new().run("why --kv");
    let rows: Vec<_> = answer.lines().take(2).collect();
    assert_eq!(
        rows,
        [
            "h\\x1b[2J\\x0d\\x0a\\xff\\\\ not-get",
            "raw \\u{1b}[2J\\r\\u{e4}"
        ]
    );
}

#[test]
fn rows_for_people_are_cut_at_80_columns() {
    let answer = Session::new().run("why");
    assert_eq!(answer.lines().nth(2).unwrap(), format!("{:x<79}~", ""));
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
fn s10_a_line_of_4_kib_is_refused_whole_and_the_next_one_works() {
    let mut session = Session::new();
    let answer = session
        .type_bytes(&[&b"reboot "[..], &[b'x'; 4096], b"\r"].concat())
        .to_owned();
    assert!(answer.ends_with("\r\nerror: a line has at most 640 bytes\r\ntandem> "));
    assert!(
        answer.len() < 2 * CONSOLE_LINE_BYTES_MAX,
        "the rest is not echoed"
    );
    assert_eq!(session.run("version"), "tandem 0.1.0\n");
    let longest = format!("{:width$}", "version", width = CONSOLE_LINE_BYTES_MAX);
    assert_eq!(session.run(&longest), "tandem 0.1.0\n");
}

#[test]
fn every_place_of_a_list_can_be_set_by_one_line() {
    let mut session = Session::new();
    let list =
        |entry: &dyn Fn(usize) -> String| (100..116).map(entry).collect::<Vec<_>>().join(",");
    let reservations = list(&|n| format!("02:00:00:00:01:{n:02x}=192.168.1.{n}"));
    let forwards = list(&|n| format!("tcp:60{n}=192.168.1.{n}:60{n}"));
    for (key, value) in [
        ("lan.reservations", reservations),
        ("nat.forwards", forwards),
    ] {
        let said = session.run(&format!("set {key} {value}"));
        assert_eq!(said, format!("{key}={value}\n"));
        assert_eq!(session.run(&format!("get {key}")), format!("{value}\n"));
    }
}

#[test]
fn s10_binary_noise_does_nothing() {
    let mut session = Session::new();
    let noise: Vec<u8> = (0..=255)
        .filter(|byte| !matches!(byte, 0x08 | b'\n' | b'\r' | 0x1b))
        .collect();
    let echo = session.type_bytes(&noise).to_owned();
    assert!(
        echo.bytes()
            .all(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | 0x08 | 0x1b)),
        "{echo:?}"
    );
    assert_eq!(session.action, Action::None);
    session.type_bytes(b"\x15\x03");
    assert_eq!(session.run("version"), "tandem 0.1.0\n");
    assert_eq!(session.host.applied, 0);
}

#[test]
fn s10_a_million_characters_without_line_end_cost_no_memory_and_are_refused() {
    let mut session = Session::new();
    for _ in 0..1_000 {
        session.type_bytes(&[b'x'; 1_000]);
    }
    let answer = session.type_bytes(b"\r").to_owned();
    assert_eq!(
        answer,
        "\r\nerror: a line has at most 640 bytes\r\ntandem> "
    );
    assert_eq!(session.run("version"), "tandem 0.1.0\n");
}

proptest! {
    #[test]
    fn s10_any_bytes_give_plain_text_and_leave_a_working_console(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let mut session = Session::new();
        let out = session.type_bytes(&bytes);
        let plain = |byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | 0x08 | 0x1b);
        prop_assert!(out.bytes().all(plain));
        session.type_bytes(b"\x03");
        prop_assert_eq!(session.run("version"), "tandem 0.1.0\n");
    }
}
