//! The router on QEMU's MIPS Malta board: wiring and main loop, no decision of its own.
//!
//! Network cards in slot order are LAN, WAN and air; COM1 is the console, COM2 the log.
//! Each turn: a burst from each card, the router, what it sends, a little console and log; then sleep until a
//! deadline or an interrupt. No work is done in an interrupt.
//!
//! Budget: the router's `Memory`, the `Store`, `dma`'s buffers, [`CONSOLE_OUTPUT_BYTES`].
#![no_std]
#![no_main]

use core::cell::RefCell;
use core::fmt::Write;

use firmware::budget::{
    CONSOLE_OUTPUT_BYTES, GOODBYE_US, JITTER_READINGS, Memory, PANEL_INTERVAL, RECEIVE_BURST,
    SERIAL_BURST_BYTES, STORE_ERASE_LOOK, STORE_SAVE_TIMEOUT, UPGRADE_TURN, WATCHDOG_US,
};
use firmware::button::{Press, ResetButton};
use firmware::events::{Event, Text};
use firmware::port::{Egress, Full, Port};
use firmware::random::{BootEntropy, Random, SEED_BYTES};
use firmware::router::{Action, Machine, Router, Verdict};
use firmware::store::{Kind, Layout, Store};
use firmware::upgrade::image::Board;
use firmware::upgrade::slot::SlotId;
use firmware::upgrade::{Boot, Turn};
use hal_mips::arch::cell::TakeCell;
use hal_mips::arch::keep::{self, Reason};
use hal_mips::arch::watchdog::CountWatchdog;
use hal_mips::arch::{boot, cp0, exception, stack, time};
use hal_mips::console::Console;
use hal_mips::dma::{Frame, FramePool, RING_SLOTS};
use hal_mips::frame_io::FrameIo;
use hal_mips::log;
use hal_mips::mmio::{Mmio, malta};
use hal_mips::panel::{Button, Buttons, Led, Leds, NoButtons};
use hal_mips::pci;
use hal_mips::soc::flash::{Bus32, Nor};
use hal_mips::soc::malta_panel::MaltaPanel;
use hal_mips::soc::uart::{Uart, WAIT_LOOKS};
use hal_mips::soc::{i8254, i8259};
use hal_mips::virtio::{Memory as VirtioMemory, VirtioNet};
use hal_mips::watchdog::Watchdog;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::EthernetAddress;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, PciRoot};

/// COM1 and COM2.
const SERIAL_LINES: u8 = 1 << 4 | 1 << 3;

type Terminal = Console<Mmio, CONSOLE_OUTPUT_BYTES>;

/// Form of the stored seed: its bytes.
const SEED_VERSION: u16 = 1;

static STORE: TakeCell<Store> = TakeCell::new(Store::new(Layout::MALTA));
static MEMORY: TakeCell<Memory> = TakeCell::new(Memory::new());

hal_mips::entry!(main);

fn main() -> ! {
    exception::set_crash_hooks(exception::CrashHooks {
        put,
        flush_log,
        reset: malta::reset,
    });
    let last = keep::begin();
    // Each is there once, and this is the only place that takes them.
    let (Some(mut blocks), Some(memory), Some(store)) =
        (malta::Blocks::take(), MEMORY.take(), STORE.take())
    else {
        malta::reset()
    };

    let mut console: Terminal = Console::new(Uart::new(blocks.uart0, 1));
    let mut log_line = Uart::new(blocks.uart1, 1);
    let rate = i8254::measure(&mut blocks.timer, cp0::count);
    if let Some(hertz) = rate {
        time::set_rate(hertz);
    }
    i8259::init(&mut blocks.pic, SERIAL_LINES | pci::IRQ_LINES);
    greet(&mut console, &last, rate);
    let mut jitter = [0; JITTER_READINGS];
    i8254::jitter(&mut blocks.timer, cp0::count, &mut jitter);

    let mut ports = Ports::bring_up(blocks.gt64120, &mut console);
    let macs = ports.macs();
    let mut keeper = Keeper::bring_up(store, blocks.flash, &mut console);
    let mut random = BootEntropy {
        stored: keeper.seed(),
        boots: last.boots,
        macs: &macs.map(|mac| mac.0),
        jitter: &jitter,
    }
    .generator();
    keeper.replace_seed(&mut random, &mut console);
    let mut router = Router::new(memory, macs, random);
    keeper.restore(&mut router);
    router.set_boot(
        now(),
        Boot {
            board: Board::MALTA,
            slots: Layout::MALTA.images,
            running: boot::slot().and_then(|slot| SlotId::ALL.get(slot).copied()),
        },
    );
    defmt::info!(
        "boot {=u32}, count at {=u32} Hz",
        last.boots + 1,
        rate.unwrap_or(0)
    );

    router.event(
        now(),
        Event::Reset {
            why: last.reason().text(),
            place: place_of(&last),
            crashes: last.crashes,
        },
    );
    // An empty line, for the first prompt.
    router.on_console_input(b'\n');
    let mut case = Case::new(blocks.panel);
    let mut watchdog = CountWatchdog::new();
    let _timeout_us = watchdog.start(WATCHDOG_US);
    loop {
        watchdog.feed();
        // One reading serves a turn: some 50 frames, well under a millisecond.
        let now = now();
        ports.turn(now, &mut router);
        if let Some(press) = case.turn(now, &router) {
            let action = router.on_press(press);
            act(action, &mut router, &mut keeper, &mut console);
        }
        let typed = serve_console(&mut router, &mut console);
        let action = router.poll_console(now, console.room(), &mut console);
        act(action, &mut router, &mut keeper, &mut console);
        let store_at = keeper.poll(now, &mut router);
        if keeper.upgrade(now, &mut router) == Turn::Reboot {
            reboot(&mut router, &mut keeper, &mut console)
        }
        let console_left = console.drain(SERIAL_BURST_BYTES);
        let log_left = log::drain(&mut log_line, SERIAL_BURST_BYTES);
        if !typed && !router.console_is_ready(console.room()) {
            console.wake_when_empty(console_left);
            log_line.wake_when_empty(log_left);
            ports.rest(&mut router, store_at);
        }
    }
}

fn now() -> Instant {
    // 2^63 us are not reached.
    Instant::from_micros(time::micros() as i64)
}

/// Hands typed bytes to the router, which has room for them; true when there were any.
fn serve_console(router: &mut Router<'_>, console: &mut Terminal) -> bool {
    let most = router.console_input_room().min(SERIAL_BURST_BYTES);
    for served in 0..most {
        let Some(byte) = console.read() else {
            return served > 0;
        };
        if matches!(byte, b'\r' | b'\n') {
            router.set_machine(Machine {
                // 256 KiB.
                stack_deepest: stack::deepest() as u32,
                stack_bytes: stack::size() as u32,
            });
        }
        router.on_console_input(byte);
    }
    most > 0
}

/// Does what was asked for on the console, or by the button.
fn act(action: Action, router: &mut Router<'_>, keeper: &mut Keeper, console: &mut Terminal) {
    match action {
        Action::None => {}
        Action::Reboot => reboot(router, keeper, console),
        Action::Panic => panic!("asked for on the console"),
        Action::Hang => {
            goodbye(console);
            hang()
        }
    }
}

/// A main loop that is stuck; the watchdog ends it.
#[inline(never)]
fn hang() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Sends what the console still has, for a second at most.
fn goodbye(console: &mut Terminal) {
    let end = time::micros() + GOODBYE_US;
    while console.drain(SERIAL_BURST_BYTES) && time::micros() < end {}
}

/// Lights, display, and the button that Malta lacks (its switches are no buttons, and QEMU reads them as 0).
struct Case {
    panel: MaltaPanel<Mmio>,
    buttons: NoButtons,
    reset: ResetButton,
    /// When it is looked at again; nothing wakes the machine for it.
    due: Instant,
}

impl Case {
    fn new(regs: Mmio) -> Self {
        let mut panel = MaltaPanel::new(regs);
        panel.set(Led::Power, true);
        let now = now();
        Self {
            panel,
            buttons: NoButtons,
            reset: ResetButton::new(now),
            due: now,
        }
    }

    fn turn(&mut self, now: Instant, router: &Router<'_>) -> Option<Press> {
        let is_pressed = self.buttons.is_pressed(Button::Reset);
        let press = self.reset.sample(now, is_pressed);
        if now < self.due {
            return press;
        }
        self.due = now + PANEL_INTERVAL;
        let shown = router.panel();
        self.panel.set(Led::Wan, shown.wan);
        self.panel.set(Led::Lan, shown.lan);
        self.panel.set(Led::Air, shown.air);
        self.panel.set(Led::Peer, shown.peer);
        self.panel.show(&shown.text);
        press
    }
}

/// Resets the machine when what waits to be stored is stored and the console has said everything.
fn reboot(router: &mut Router<'_>, keeper: &mut Keeper, console: &mut Terminal) -> ! {
    keeper.finish(router);
    goodbye(console);
    exception::reset(Reason::Requested)
}

/// What outlives a reset, and the chip it lies in.
struct Keeper {
    store: &'static mut Store,
    flash: Option<Nor<Bus32<Mmio>>>,
}

impl Keeper {
    /// Finds the chip; says on the console when there is none, and goes on without it.
    fn bring_up(store: &'static mut Store, flash: Mmio, console: &mut Terminal) -> Self {
        let flash = Nor::probe(Bus32(flash), malta::FLASH_BYTES, malta::FLASH_BOOT_BYTES)
            .map_err(|error| say(console, format_args!("flash: {error}")))
            .ok();
        let mut keeper = Self { store, flash };
        keeper.store.open(now(), &mut keeper.flash);
        keeper
    }

    /// The seed that the last boot left.
    fn seed(&mut self) -> Option<[u8; SEED_BYTES]> {
        match self.store.newest(now(), &mut self.flash, Kind::Seed)? {
            (SEED_VERSION, seed) => seed.try_into().ok(),
            _ => None,
        }
    }

    /// Replaces the stored seed, before anything drawn leaves the router.
    fn replace_seed(&mut self, random: &mut Random, console: &mut Terminal) {
        let seed = random.seed_for_next_boot();
        let saved = self
            .store
            .save_now(&mut now, &mut self.flash, Kind::Seed, SEED_VERSION, &seed);
        if let Err(error) = saved {
            say(console, format_args!("seed not stored: {error}"));
        }
    }

    fn restore(&mut self, router: &mut Router<'_>) {
        // What it found is an event of the router's.
        let _found = router.restore_all(now(), self.store, &mut self.flash);
    }

    /// A step of what the router wants stored; when the next one is due.
    fn poll(&mut self, now: Instant, router: &mut Router<'_>) -> Option<Instant> {
        self.store.poll(now, &mut self.flash, router)
    }

    /// Steps of an upgrade for [`UPGRADE_TURN`], or one of the confirmation of the image that runs.
    fn upgrade(&mut self, start: Instant, router: &mut Router<'_>) -> Turn {
        let mut at = start;
        loop {
            let turn = router.poll_upgrade(at, &mut self.flash);
            if turn != Turn::Busy {
                return turn;
            }
            at = now();
            if at >= start + UPGRADE_TURN {
                return turn;
            }
        }
    }

    /// Stores what waits.
    fn finish(&mut self, router: &mut Router<'_>) {
        let end = now() + STORE_SAVE_TIMEOUT;
        while now() < end {
            // An erase may take longer than the main loop may.
            CountWatchdog::new().feed();
            match self.poll(now(), router) {
                Some(at) if at <= now() + STORE_ERASE_LOOK => {}
                // Nothing, or leases that must wait longer than this.
                Some(_) | None => return,
            }
        }
    }
}

/// The cards, and the frames that are in none of them.
struct Ports {
    cards: [Option<VirtioNet<PciTransport>>; Port::ALL.len()],
    pool: FramePool,
}

impl Ports {
    /// Finds the cards; says on the console what is missing, and goes on without it.
    fn bring_up(bridge: Mmio, console: &mut Terminal) -> Self {
        let mut ports = Self {
            cards: [const { None }; Port::ALL.len()],
            pool: FramePool::take_all(),
        };
        let bridge = RefCell::new(bridge);
        let mut access = pci::Gt64120::new(&bridge);
        let mut root = PciRoot::new(access.clone());
        let window = malta::PCI_MEMORY..malta::PCI_MEMORY + malta::PCI_MEMORY_BYTES;
        match pci::bring_up::<_, { Port::ALL.len() }>(
            &mut root,
            &mut access,
            window,
            pci::is_virtio,
        ) {
            Ok(devices) => {
                for (port, device) in Port::ALL.into_iter().zip(devices) {
                    ports.cards[port.index()] = ports.card(&mut root, device, console);
                }
            }
            Err(error) => say(console, format_args!("PCI: {error:?}")),
        }
        for port in Port::ALL {
            match &ports.cards[port.index()] {
                Some(card) => say(
                    console,
                    format_args!("{port:?}: {}", EthernetAddress(card.mac())),
                ),
                None => say(console, format_args!("{port:?}: no network card")),
            }
        }
        ports
    }

    fn card<C: ConfigurationAccess>(
        &mut self,
        root: &mut PciRoot<C>,
        device: virtio_drivers::transport::pci::bus::DeviceFunction,
        console: &mut Terminal,
    ) -> Option<VirtioNet<PciTransport>> {
        let transport = match PciTransport::new::<VirtioMemory, C>(root, device) {
            Ok(transport) => transport,
            Err(error) => {
                say(console, format_args!("PCI slot {}: {error}", device.device));
                return None;
            }
        };
        VirtioNet::new(transport, &mut self.pool)
            .map_err(|error| {
                say(
                    console,
                    format_args!("PCI slot {}: {error:?}", device.device),
                )
            })
            .ok()
    }

    /// MAC addresses in [`Port::ALL`] order; a locally administered one where a card is missing.
    fn macs(&self) -> [EthernetAddress; Port::ALL.len()] {
        Port::ALL.map(|port| match &self.cards[port.index()] {
            Some(card) => EthernetAddress(card.mac()),
            None => EthernetAddress([2, 0, 0, 0, 0, port.index() as u8]),
        })
    }

    /// One turn of the data path: at most a burst from each card, the router, and what came of both.
    fn turn(&mut self, now: Instant, router: &mut Router<'_>) {
        for card in self.cards.iter_mut().flatten() {
            card.reclaim(&mut self.pool);
        }
        let mut arrived = false;
        for &port in &Port::ALL {
            for _ in 0..RECEIVE_BURST {
                let Some(mut frame) = self.receive(port) else {
                    break;
                };
                arrived = true;
                match router.on_frame(now, port, frame.bytes_mut(), self) {
                    Verdict::Forward(to) => self.send(to, frame),
                    Verdict::Intercept | Verdict::Answer | Verdict::Drop => self.pool.put(frame),
                }
            }
        }
        if arrived {
            router.on_arrival(now, cp0::count());
        }
        router.poll(now, self);
        for card in self.cards.iter_mut().flatten() {
            card.flush(&mut self.pool);
        }
    }

    #[inline]
    fn receive(&mut self, port: Port) -> Option<Frame> {
        self.cards[port.index()]
            .as_mut()?
            .receive(&mut self.pool)
            .ok()
    }

    /// Moves a frame to a card; one that finds no slot is dropped, as on any full line.
    #[inline]
    fn send(&mut self, port: Port, frame: Frame) {
        match &mut self.cards[port.index()] {
            Some(card) => {
                if let Err(full) = card.transmit(frame) {
                    self.pool.put(full.0);
                }
            }
            None => self.pool.put(frame),
        }
    }

    /// Sleeps until the router's next deadline or an interrupt, unless there is something to do already.
    ///
    /// A pending interrupt is acknowledged before the cards are looked at: what came before the acknowledgement is
    /// then seen by the next turn, and what comes after it ends the next sleep.
    fn rest(&mut self, router: &mut Router<'_>, store_at: Option<Instant>) {
        if !cp0::pending(cp0::IM_BOARD) {
            if self.has_work() {
                return;
            }
            let now = now();
            let mut wake = now + Duration::from_micros(u64::from(time::SLEEP_US_MAX));
            for at in [router.poll_at(now), store_at] {
                if let Some(at) = at
                    && at < wake
                {
                    wake = at;
                }
            }
            if wake <= now {
                return;
            }
            // At most `SLEEP_US_MAX`.
            time::sleep((wake - now).total_micros() as u32);
        }
        if cp0::pending(cp0::IM_BOARD) {
            for card in self.cards.iter_mut().flatten() {
                card.acknowledge();
            }
        }
    }

    /// Whether a card has something that will not interrupt again; asks for an interrupt where a full ring is in the way.
    fn has_work(&mut self) -> bool {
        self.cards.iter_mut().flatten().any(|card| {
            card.wake_on_room(card.room() == 0);
            card.has_work()
        })
    }
}

impl Egress for Ports {
    fn transmit<R>(
        &mut self,
        port: Port,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, Full> {
        let Some(card) = self.cards[port.index()]
            .as_mut()
            .filter(|card| card.room() > 0)
        else {
            return Err(Full);
        };
        let mut frame = self.pool.get().ok_or(Full)?;
        frame.set_length(len);
        let result = fill(frame.bytes_mut());
        match card.transmit(frame) {
            Ok(()) => Ok(result),
            Err(full) => {
                // `room` said otherwise a moment ago.
                self.pool.put(full.0);
                Err(Full)
            }
        }
    }

    fn room(&self, port: Port) -> usize {
        self.cards[port.index()]
            .as_ref()
            .map_or(0, |card| card.room().min(self.pool.len()))
    }

    fn queued(&self, port: Port) -> usize {
        self.cards[port.index()]
            .as_ref()
            .map_or(0, |card| RING_SLOTS.saturating_sub(card.room()))
    }
}

/// Where a crash was, for the log; all that is kept of it is told by [`greet`].
fn place_of(last: &keep::Record) -> Text {
    match last.reason() {
        Reason::Power | Reason::External | Reason::Requested | Reason::Watchdog => {
            Text::new(last.message().as_bytes())
        }
        Reason::Panic => Text::of_panic(last.message()),
        Reason::Exception => {
            let mut place = Text::EMPTY;
            // A text takes what it has room for.
            let _written: core::fmt::Result =
                write!(place, "at {:08x}, {}", last.epc, last.message());
            place
        }
    }
}

fn greet(console: &mut Terminal, last: &keep::Record, rate: Option<u32>) {
    say(
        console,
        format_args!("\nTandem {} on Malta", env!("CARGO_PKG_VERSION")),
    );
    let why = last.reason();
    match why {
        Reason::Power | Reason::External | Reason::Requested => {
            say(console, format_args!("start: {}", why.text()))
        }
        Reason::Panic => say(
            console,
            format_args!(
                "start: after a panic: {} ({} crashes)",
                last.message(),
                last.crashes
            ),
        ),
        Reason::Exception => say(
            console,
            format_args!(
                "start: after an exception: {}, epc {:08x}, address {:08x} ({} crashes)",
                last.message(),
                last.epc,
                last.bad_address,
                last.crashes
            ),
        ),
        Reason::Watchdog => say(
            console,
            format_args!(
                "start: after the watchdog: the main loop was {} ({} crashes)",
                last.message(),
                last.crashes
            ),
        ),
    }
    if rate.is_none() {
        say(
            console,
            format_args!("clock: the 8254 gives no rate, 100 MHz assumed"),
        );
    }
}

fn say(console: &mut Terminal, line: core::fmt::Arguments<'_>) {
    // The console's buffer takes everything: what does not fit is counted there.
    let _written: core::fmt::Result = writeln!(console, "{line}");
}

/// The crash path's way to the console.
fn put(byte: u8) {
    // A console that does not move is no reason not to reset.
    let _sent: Result<(), _> = Uart::adopt(malta::crash_uart()).write_byte_blocking(byte);
}

/// The crash path's last service to the log.
fn flush_log() {
    let mut line = Uart::adopt(malta::crash_log_uart());
    for _ in 0..WAIT_LOOKS {
        if !log::drain(&mut line, log::RING_BYTES) {
            return;
        }
    }
}
