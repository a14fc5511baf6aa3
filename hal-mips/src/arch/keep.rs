//! Memory that survives a reset: why the machine was reset, and the last lines it wrote.
//!
//! It lies at `__keep_start`, outside every section, so neither the loader nor `.bss` clearing touches it.
//! After power-up its content is noise: a magic word and a checksum tell.
//!
//! Budget: one page; the text ring takes half of it.

/// Bytes of text kept.
pub const TEXT_BYTES: usize = 2048;
/// Longest message kept of a crash, bytes.
pub const MESSAGE_BYTES: usize = 240;

const MAGIC: u32 = 0x7a4d_3e51;

/// Why the machine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Reason {
    /// Power-up: nothing was kept.
    Power,
    /// Somebody reset a running machine: the button, or the emulator.
    External,
    /// The firmware was asked to reboot.
    Requested,
    /// A Rust panic; the message holds its place.
    Panic,
    /// A processor exception.
    Exception,
    /// The main loop did not come round in its time; `epc` and the message hold where it was.
    Watchdog,
}

impl Reason {
    const ALL: [Reason; 6] = [
        Reason::Power,
        Reason::External,
        Reason::Requested,
        Reason::Panic,
        Reason::Exception,
        Reason::Watchdog,
    ];

    fn code(self) -> u32 {
        match self {
            Reason::Power => 0,
            Reason::External => 1,
            Reason::Requested => 2,
            Reason::Panic => 3,
            Reason::Exception => 4,
            Reason::Watchdog => 5,
        }
    }

    fn from_code(code: u32) -> Self {
        Self::ALL
            .into_iter()
            .find(|reason| reason.code() == code)
            .unwrap_or(Reason::External)
    }

    /// As told on the console.
    pub fn text(self) -> &'static str {
        match self {
            Reason::Power => "power-up",
            Reason::External => "reset from outside",
            Reason::Requested => "reboot was asked for",
            Reason::Panic => "panic",
            Reason::Exception => "processor exception",
            Reason::Watchdog => "watchdog",
        }
    }
}

/// What is kept of one life of the machine.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Record {
    magic: u32,
    reason: u32,
    /// Crashes since power-up.
    pub crashes: u32,
    /// Starts since power-up, this one included.
    pub boots: u32,
    /// Exception program counter, or the panic's return address.
    pub epc: u32,
    /// Cause register of the exception.
    pub cause: u32,
    /// Bad virtual address of the exception.
    pub bad_address: u32,
    message_length: u32,
    message: [u8; MESSAGE_BYTES],
    check: u32,
}

impl Record {
    /// The record of a machine that has just been powered up.
    pub const fn empty() -> Self {
        Self {
            magic: MAGIC,
            reason: 0,
            crashes: 0,
            boots: 0,
            epc: 0,
            cause: 0,
            bad_address: 0,
            message_length: 0,
            message: [0; MESSAGE_BYTES],
            check: 0,
        }
    }

    /// Why the life that this record describes ended.
    pub fn reason(&self) -> Reason {
        Reason::from_code(self.reason)
    }

    /// Sets why it ends.
    pub fn set_reason(&mut self, reason: Reason) {
        self.reason = reason.code();
    }

    /// The panic's text, cut to [`MESSAGE_BYTES`].
    pub fn message(&self) -> &str {
        let length = (self.message_length as usize).min(MESSAGE_BYTES);
        let bytes = &self.message[..length];
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            // A message cut inside a character keeps its whole characters.
            Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
        }
    }

    fn checksum(&self) -> u32 {
        let mut sum = 0x811c_9dc5u32;
        let words = [
            self.magic,
            self.reason,
            self.crashes,
            self.boots,
            self.epc,
            self.cause,
            self.bad_address,
            self.message_length,
        ];
        for byte in words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .chain(self.message)
        {
            sum = (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
        sum
    }

    /// Marks the content as whole.
    pub fn seal(&mut self) {
        self.check = self.checksum();
    }

    /// Whether memory really holds a record rather than noise.
    pub fn is_whole(&self) -> bool {
        self.magic == MAGIC && self.check == self.checksum()
    }
}

impl core::fmt::Write for Record {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for &byte in text.as_bytes() {
            if let Some(slot) = self.message.get_mut(self.message_length as usize) {
                *slot = byte;
                self.message_length += 1;
            }
        }
        Ok(())
    }
}

/// The last bytes of text, oldest overwritten.
#[repr(C)]
pub struct Text {
    magic: u32,
    /// Bytes ever written; the next one goes to `written % TEXT_BYTES`.
    written: u32,
    bytes: [u8; TEXT_BYTES],
}

impl Text {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            magic: MAGIC,
            written: 0,
            bytes: [0; TEXT_BYTES],
        }
    }

    /// Appends one byte.
    #[inline]
    pub fn push(&mut self, byte: u8) {
        self.bytes[self.written as usize % TEXT_BYTES] = byte;
        self.written = self.written.wrapping_add(1);
    }

    /// The bytes held, oldest first; at most `count`.
    pub fn last(&self, count: usize) -> impl Iterator<Item = u8> + '_ {
        let held = (self.written as usize).min(TEXT_BYTES).min(count);
        let start = self.written as usize - held;
        (0..held).map(move |index| self.bytes[(start + index) % TEXT_BYTES])
    }

    /// Whether memory really holds text rather than noise.
    pub fn is_whole(&self) -> bool {
        self.magic == MAGIC
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(target_arch = "mips")]
mod memory {
    use super::{MAGIC, Reason, Record, Text};
    use core::mem::size_of;

    unsafe extern "C" {
        static mut __keep_start: u8;
    }

    const _: () = assert!(size_of::<Record>() + size_of::<Text>() <= 4096);

    fn record() -> *mut Record {
        (&raw mut __keep_start).cast()
    }

    fn text() -> *mut Text {
        // SAFETY: one past the record, within the page (asserted above).
        unsafe { record().add(1).cast() }
    }

    /// Takes the record of the last life and starts that of this one; called once, at boot.
    pub fn begin() -> Record {
        // SAFETY: the page is RAM that nothing else uses; every bit pattern is a valid `Record`.
        let mut last = unsafe { record().read_volatile() };
        if !last.is_whole() {
            last = Record::empty();
            // SAFETY: as above.
            unsafe { text().write_volatile(Text::new()) };
        }
        let mut now = Record::empty();
        now.boots = last.boots.wrapping_add(1);
        now.crashes = last.crashes;
        now.set_reason(Reason::External); // until something else ends this life
        store(&mut now);
        last
    }

    /// The record of this life.
    pub fn current() -> Record {
        // SAFETY: as above.
        unsafe { record().read_volatile() }
    }

    /// Writes the record of this life.
    pub fn store(value: &mut Record) {
        value.seal();
        // SAFETY: as above.
        unsafe { record().write_volatile(*value) }
        super::super::cache::write_back_invalidate(record() as usize, size_of::<Record>());
    }

    /// Appends to the kept text.
    pub fn push_text(bytes: &[u8]) {
        // SAFETY: one core and no handler of ours, so no second reference exists while this one does.
        let text = unsafe { &mut *text() };
        if text.magic == MAGIC {
            bytes.iter().for_each(|&byte| text.push(byte));
        }
    }

    /// Gives the last `count` bytes of kept text to `sink`, oldest first.
    pub fn each_text(count: usize, mut sink: impl FnMut(u8)) {
        // SAFETY: as above.
        let text = unsafe { &*text() };
        if text.is_whole() {
            text.last(count).for_each(&mut sink);
        }
    }
}

#[cfg(target_arch = "mips")]
pub use memory::{begin, current, each_text, push_text, store};

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    #[test]
    fn noise_is_not_taken_for_a_record() {
        let mut record = Record::empty();
        assert!(!record.is_whole());
        record.seal();
        assert!(record.is_whole());
        record.epc ^= 1;
        assert!(!record.is_whole());
    }

    #[test]
    fn a_long_message_is_cut_at_a_whole_character() {
        let mut record = Record::empty();
        for _ in 0..MESSAGE_BYTES {
            write!(record, "aü").unwrap();
        }
        assert!(record.message().len() <= MESSAGE_BYTES);
        assert!(record.message().ends_with(['a', 'ü']));
        assert!(record.message().len() >= MESSAGE_BYTES - 1);
    }

    #[test]
    fn text_keeps_the_newest_bytes_in_order() {
        let mut text = Text::new();
        for index in 0..TEXT_BYTES + 3 {
            text.push((index % 251) as u8);
        }
        let last: Vec<u8> = text.last(4).collect();
        let want: Vec<u8> = (TEXT_BYTES - 1..TEXT_BYTES + 3)
            .map(|index| (index % 251) as u8)
            .collect();
        assert_eq!(last, want);
        assert_eq!(text.last(usize::MAX).count(), TEXT_BYTES);
    }
}
