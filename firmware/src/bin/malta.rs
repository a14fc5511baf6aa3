//! The router on QEMU's MIPS Malta board: wiring and main loop.
#![no_std]
#![no_main]

hal_mips::entry!(main);

fn main() -> ! {
    let Some(blocks) = hal_mips::mmio::malta::Blocks::take() else {
        hal_mips::mmio::malta::reset()
    };
    // Until the router is wired in: a console that echoes.
    let mut uart = hal_mips::soc::uart::Uart::new(blocks.uart0, 1);
    for byte in b"tandem> " {
        let _ = uart.write_byte_blocking(*byte);
    }
    loop {
        if let Ok(byte) = uart.read_byte() {
            let _ = uart.write_byte_blocking(byte);
        }
    }
}
