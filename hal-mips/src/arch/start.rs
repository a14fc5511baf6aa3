//! From the boot loader's jump to `main`: caches, Status, exception vectors, `.bss`, stack and its guard.
//!
//! Follows: MIPS32 Architecture for Programmers volume III (release 1); 4K processor core family
//! software user's manual, chapters 5 (CP0) and 7 (caches).
//!
//! The loader's state is taken as unknown, save that the image lies in RAM, perhaps still in a
//! write-back data cache. So the data cache is written back, not merely invalidated. Until the
//! vectors stand, `Status.BEV` keeps exceptions with the boot ROM.

use core::arch::global_asm;

global_asm!(
    r#"
    .set push
    .set noreorder
    .set noat
    .section .text.start, "ax", @progbits
    .globl _start
_start:
    lui     $t0, 0x0040              # BEV=1; IE, EXL, ERL, every interrupt mask off
    mtc0    $t0, $12
    mtc0    $zero, $13               # Cause.IV=0: interrupts use the general vector
    mtc0    $zero, $18               # no watchpoints
    nop
    nop
    la      $t0, 1f                  # run uncached while the caches are in motion
    lui     $t1, 0x2000
    or      $t0, $t0, $t1
    jr      $t0
     nop
1:
    mfc0    $t0, $16, 1              # Config1: cache shapes
    # data cache: line bytes in $t3, total bytes in $t2; index write back and invalidate
    srl     $t1, $t0, 10
    andi    $t1, $t1, 7
    beqz    $t1, 3f
     li     $t3, 2
    sllv    $t3, $t3, $t1
    srl     $t1, $t0, 13
    andi    $t1, $t1, 7
    li      $t2, 64
    sllv    $t2, $t2, $t1
    srl     $t1, $t0, 7
    andi    $t1, $t1, 7
    addiu   $t1, $t1, 1
    mul     $t2, $t2, $t1
    mul     $t2, $t2, $t3
    lui     $t4, 0x8000
    addu    $t2, $t2, $t4
2:
    cache   0x01, 0($t4)
    addu    $t4, $t4, $t3
    bne     $t4, $t2, 2b
     nop
    sync
3:
    # instruction cache: index invalidate
    srl     $t1, $t0, 19
    andi    $t1, $t1, 7
    beqz    $t1, 5f
     li     $t3, 2
    sllv    $t3, $t3, $t1
    srl     $t1, $t0, 22
    andi    $t1, $t1, 7
    li      $t2, 64
    sllv    $t2, $t2, $t1
    srl     $t1, $t0, 16
    andi    $t1, $t1, 7
    addiu   $t1, $t1, 1
    mul     $t2, $t2, $t1
    mul     $t2, $t2, $t3
    lui     $t4, 0x8000
    addu    $t2, $t2, $t4
4:
    cache   0x00, 0($t4)
    addu    $t4, $t4, $t3
    bne     $t4, $t2, 4b
     nop
5:
    mfc0    $t0, $16                 # Config.K0=3: kseg0 cached, write back
    ori     $t0, $t0, 7
    xori    $t0, $t0, 4
    mtc0    $t0, $16
    nop
    nop
    nop
    la      $t0, 6f
    jr      $t0
     nop
6:
    la      $t0, __bss_start
    la      $t1, __bss_end
    beq     $t0, $t1, 8f
     nop
7:
    addiu   $t0, $t0, 32             # both ends are 32-byte aligned by link.x
    sw      $zero, -32($t0)
    sw      $zero, -28($t0)
    sw      $zero, -24($t0)
    sw      $zero, -20($t0)
    sw      $zero, -16($t0)
    sw      $zero, -12($t0)
    sw      $zero, -8($t0)
    bne     $t0, $t1, 7b
     sw     $zero, -4($t0)
8:
    # TLB: entry 0 is the stack, a pair of 256 KiB pages at 0xc0000000: the even one invalid, so that a stack
    # that runs over faults instead of writing on; the others match nothing
    mfc0    $t0, $16, 1              # Config1.MMUSize: entries - 1
    srl     $t0, $t0, 25
    andi    $t0, $t0, 63
    mtc0    $zero, $2
    mtc0    $zero, $3
    mtc0    $zero, $5
    lui     $t1, 0x8000              # an address of kseg0 is never looked up; each entry has its own
    addiu   $t2, $zero, 0x2000
9:
    mtc0    $t0, $0
    mtc0    $t1, $10
    ssnop
    ssnop
    ssnop
    tlbwi
    addu    $t1, $t1, $t2
    bnez    $t0, 9b
     addiu  $t0, $t0, -1
    li      $t0, 0x0007e000          # PageMask: 256 KiB
    mtc0    $t0, $5
    lui     $t0, 0xc000
    mtc0    $t0, $10
    li      $t0, 1                   # even page: global, invalid
    mtc0    $t0, $2
    la      $t0, __stack_physical
    srl     $t0, $t0, 6
    ori     $t0, $t0, 0x1f           # odd page: cached, writable, valid, global
    mtc0    $t0, $3
    mtc0    $zero, $0
    ssnop
    ssnop
    ssnop
    tlbwi
    li      $t0, 1
    mtc0    $t0, $6                  # wired: entry 0
    ssnop
    ssnop
    ssnop
    la      $sp, __stack_top - 32
    move    $gp, $zero
    move    $fp, $zero
    move    $ra, $zero
    la      $t9, hal_start
    jr      $t9
     nop
    .set pop
"#
);

unsafe extern "C" {
    /// The board's entry, written by [`entry!`](crate::entry).
    fn hal_main() -> !;
}

/// Second half of the start, in Rust: vectors, stack canary, then the board. The arguments are what the loader left in
/// `a0` and `a1`, which the first half does not touch.
#[unsafe(no_mangle)]
extern "C" fn hal_start(magic: usize, slot: usize) -> ! {
    super::boot::remember(magic, slot);
    super::stack::paint();
    super::exception::install_vectors();
    // SAFETY: the board defines it by `entry!` with exactly this signature.
    unsafe { hal_main() }
}
