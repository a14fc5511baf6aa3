//! A plugin for QEMU that counts the guest's instructions into a file that the lab reads while the machine runs.
//!
//! QEMU loads it with `-plugin libcounter.so,out=FILE`; FILE exists and has [`FILE_BYTES`]. It becomes 64-bit numbers in
//! the host's byte order: instructions executed, times the processor went to sleep, times it woke up, a spare one, and
//! then a table of translated blocks, each the address of its first instruction and the instructions executed in it; an
//! entry with address 0 is free. Blocks that find no room in the table are in the sum only.
//! Exact on code that no exception interrupts: a translated block is counted when it is entered.
//!
//! Follows: QEMU's `include/qemu/qemu-plugin.h`, interface version 1 (QEMU 4.2 to 8.2), whose few functions used are
//! declared here, for Debian ships no header. Another QEMU refuses to load it.

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The interface version that QEMU compares with its own.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 1;

/// Entries of the table of blocks; a power of two, several times the blocks of an image.
const BLOCKS: usize = 1 << 16;
/// Numbers in front of the table.
const NUMBERS_BEFORE: usize = 4;
/// Bytes of the file.
pub const FILE_BYTES: usize = (NUMBERS_BEFORE + 2 * BLOCKS) * 8;
/// Entries looked at for one block.
const PROBES: usize = 64;
/// `QEMU_PLUGIN_INLINE_ADD_U64`
const ADD_U64: c_int = 0;
/// `PROT_READ | PROT_WRITE`
const READ_WRITE: c_int = 3;
/// `MAP_SHARED`
const SHARED: c_int = 1;

type PluginId = u64;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(
        id: PluginId,
        callback: extern "C" fn(PluginId, *mut c_void),
    );
    fn qemu_plugin_tb_n_insns(block: *const c_void) -> usize;
    fn qemu_plugin_tb_vaddr(block: *const c_void) -> u64;
    fn qemu_plugin_register_vcpu_tb_exec_inline(
        block: *mut c_void,
        operation: c_int,
        to: *mut c_void,
        amount: u64,
    );
    fn qemu_plugin_register_vcpu_idle_cb(id: PluginId, callback: extern "C" fn(PluginId, c_uint));
    fn qemu_plugin_register_vcpu_resume_cb(id: PluginId, callback: extern "C" fn(PluginId, c_uint));
    fn mmap(
        at: *mut c_void,
        length: usize,
        protection: c_int,
        flags: c_int,
        file: c_int,
        offset: i64,
    ) -> *mut c_void;
}

/// The mapped file; null before [`qemu_plugin_install`] mapped it.
static NUMBERS: AtomicPtr<AtomicU64> = AtomicPtr::new(core::ptr::null_mut());

/// The number at `index` of the file.
fn number(index: usize) -> Option<&'static AtomicU64> {
    let first = NUMBERS.load(Ordering::Acquire);
    if first.is_null() {
        return None;
    }
    if index >= FILE_BYTES / 8 {
        return None;
    }
    // SAFETY: the mapping has FILE_BYTES, is aligned and never unmapped; the index is inside.
    Some(unsafe { &*first.add(index) })
}

/// The counter of the block at `address`, a new one if it has none yet.
fn counter_of(address: u64) -> Option<&'static AtomicU64> {
    // Instructions have four bytes; Fibonacci hashing spreads the rest.
    let hash = (address >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    for probe in 0..PROBES {
        let at = NUMBERS_BEFORE + 2 * ((hash as usize + probe) & (BLOCKS - 1));
        let key = number(at)?;
        // One processor translates: nobody else takes an entry meanwhile.
        match key.load(Ordering::Relaxed) {
            0 => key.store(address, Ordering::Relaxed),
            found if found == address => {}
            _other => continue,
        }
        return number(at + 1);
    }
    None
}

extern "C" fn on_translate(_id: PluginId, block: *mut c_void) {
    let first = NUMBERS.load(Ordering::Acquire);
    // SAFETY: the block is QEMU's and lives during this call; the counter is mapped for good.
    unsafe {
        let instructions = qemu_plugin_tb_n_insns(block) as u64;
        qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, first.cast(), instructions);
        if let Some(counter) = counter_of(qemu_plugin_tb_vaddr(block)) {
            let counter = core::ptr::from_ref(counter).cast_mut();
            qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, counter.cast(), instructions);
        }
    }
}

extern "C" fn on_idle(_id: PluginId, _processor: c_uint) {
    if let Some(number) = number(1) {
        number.fetch_add(1, Ordering::Release);
    }
}

extern "C" fn on_resume(_id: PluginId, _processor: c_uint) {
    if let Some(number) = number(2) {
        number.fetch_add(1, Ordering::Release);
    }
}

fn map(path: &str) -> Result<*mut AtomicU64, String> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| format!("{path}: {error}"))?;
    let length = file.metadata().map_or(0, |data| data.len());
    if length < FILE_BYTES as u64 {
        return Err(format!("{path} has {length} bytes, not {FILE_BYTES}"));
    }
    // SAFETY: a new shared mapping of a file that is long enough; nobody in this process has it yet.
    let at = unsafe {
        mmap(
            core::ptr::null_mut(),
            FILE_BYTES,
            READ_WRITE,
            SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if at as isize == -1 {
        return Err(format!("{path} cannot be mapped"));
    }
    Ok(at.cast())
}

/// QEMU's entry into the plugin; 0 when it is ready.
///
/// # Safety
/// `argv` has `argc` zero-terminated strings, as QEMU promises.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: PluginId,
    _info: *const c_void,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    let mut mapped = Err("no out=FILE given".to_owned());
    for at in 0..usize::try_from(argc).unwrap_or(0) {
        // SAFETY: see this function's promise.
        let argument = unsafe { CStr::from_ptr(*argv.add(at)) };
        if let Some(path) = argument
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("out="))
        {
            mapped = map(path);
        }
    }
    match mapped {
        Ok(numbers) => NUMBERS.store(numbers, Ordering::Release),
        Err(error) => {
            eprintln!("counter: {error}");
            return 1;
        }
    }
    // SAFETY: the callbacks are functions of this library, which QEMU keeps loaded.
    unsafe {
        qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
        qemu_plugin_register_vcpu_idle_cb(id, on_idle);
        qemu_plugin_register_vcpu_resume_cb(id, on_resume);
    }
    0
}
