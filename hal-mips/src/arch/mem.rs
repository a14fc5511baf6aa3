//! `memcpy`, `memmove`, `memset`, `memcmp` and `bcmp` in assembler, for every copy the compiler makes.
//!
//! The generic ones of `compiler_builtins` take 1.5 to 2.6 instructions a byte on this CPU, these
//! about 0.7 aligned and 1.05 misaligned; so the image is built without `compiler-builtins-mem`.
//!
//! Follows: MIPS32 release 1, little endian (`lwr` at the low address, `lwl` at the high one); o32 calls.
//! A destination is aligned first; a source that is then misaligned is read by `lwr`/`lwl` pairs.

core::arch::global_asm!(
    r#"
    .set push
    .set noreorder
    .set noat
    .section .text.hot.memcpy, "ax", @progbits
    .balign 16
    .globl memmove
    .type memmove, @function
memmove:
    subu    $t0, $a0, $a1
    sltu    $t0, $t0, $a2
    bnez    $t0, 50f               # source is before an overlapping destination: copy backwards
     nop
    .globl memcpy
    .type memcpy, @function
memcpy:
    sltiu   $t0, $a2, 16
    bnez    $t0, 40f
     move   $v0, $a0
    subu    $t1, $zero, $a0
    andi    $t1, $t1, 3
    beqz    $t1, 1f
     subu   $a2, $a2, $t1
    lwr     $t0, 0($a1)            # one to three head bytes; the word read is inside the source (>= 16 bytes)
    lwl     $t0, 3($a1)
    swr     $t0, 0($a0)
    addu    $a0, $a0, $t1
    addu    $a1, $a1, $t1
1:
    andi    $t1, $a1, 3
    bnez    $t1, 20f
     srl    $t9, $a2, 5
    # both aligned: 32 bytes a turn
    beqz    $t9, 3f
     sll    $t9, $t9, 5
    addu    $t9, $t9, $a0
2:
    lw      $t0, 0($a1)
    lw      $t1, 4($a1)
    lw      $t2, 8($a1)
    lw      $t3, 12($a1)
    lw      $t4, 16($a1)
    lw      $t5, 20($a1)
    lw      $t6, 24($a1)
    lw      $t7, 28($a1)
    addiu   $a1, $a1, 32
    sw      $t0, 0($a0)
    sw      $t1, 4($a0)
    sw      $t2, 8($a0)
    sw      $t3, 12($a0)
    sw      $t4, 16($a0)
    sw      $t5, 20($a0)
    sw      $t6, 24($a0)
    sw      $t7, 28($a0)
    addiu   $a0, $a0, 32
    bne     $a0, $t9, 2b
     nop
3:
    andi    $t9, $a2, 0x1c
    beqz    $t9, 5f
     addu   $t9, $t9, $a0
4:
    lw      $t0, 0($a1)
    addiu   $a0, $a0, 4
    addiu   $a1, $a1, 4
    bne     $a0, $t9, 4b
     sw     $t0, -4($a0)
5:
    b       40f
     andi   $a2, $a2, 3
20: # destination aligned, source not: 16 bytes a turn
    srl     $t9, $a2, 4
    beqz    $t9, 22f
     sll    $t9, $t9, 4
    addu    $t9, $t9, $a0
21:
    lwr     $t0, 0($a1)
    lwl     $t0, 3($a1)
    lwr     $t1, 4($a1)
    lwl     $t1, 7($a1)
    lwr     $t2, 8($a1)
    lwl     $t2, 11($a1)
    lwr     $t3, 12($a1)
    lwl     $t3, 15($a1)
    addiu   $a1, $a1, 16
    sw      $t0, 0($a0)
    sw      $t1, 4($a0)
    sw      $t2, 8($a0)
    addiu   $a0, $a0, 16
    bne     $a0, $t9, 21b
     sw     $t3, -4($a0)
22:
    andi    $t9, $a2, 0xc
    beqz    $t9, 24f
     addu   $t9, $t9, $a0
23:
    lwr     $t0, 0($a1)
    lwl     $t0, 3($a1)
    addiu   $a0, $a0, 4
    addiu   $a1, $a1, 4
    bne     $a0, $t9, 23b
     sw     $t0, -4($a0)
24:
    andi    $a2, $a2, 3
40: # up to 15 bytes, any alignment
    beqz    $a2, 42f
     addu   $t9, $a0, $a2
41:
    lbu     $t0, 0($a1)
    addiu   $a0, $a0, 1
    addiu   $a1, $a1, 1
    bne     $a0, $t9, 41b
     sb     $t0, -1($a0)
42:
    jr      $ra
     nop
50: # backwards; $t9 is the end of the destination
    move    $v0, $a0
    addu    $t9, $a0, $a2
    addu    $a1, $a1, $a2
    sltiu   $t0, $a2, 16
    bnez    $t0, 55f
     nop
    andi    $t1, $t9, 3
    beqz    $t1, 52f
     nop
51: # tail bytes until the destination's end is aligned
    lbu     $t0, -1($a1)
    addiu   $a1, $a1, -1
    addiu   $t9, $t9, -1
    addiu   $t1, $t1, -1
    bnez    $t1, 51b
     sb     $t0, 0($t9)
52:
    subu    $a2, $t9, $a0
53: # words; lwr/lwl read aligned and misaligned sources alike
    lwr     $t0, -4($a1)
    lwl     $t0, -1($a1)
    addiu   $a1, $a1, -4
    addiu   $t9, $t9, -4
    addiu   $a2, $a2, -4
    sltiu   $t1, $a2, 4
    beqz    $t1, 53b
     sw     $t0, 0($t9)
55:
    beqz    $a2, 57f
     nop
56:
    lbu     $t0, -1($a1)
    addiu   $a1, $a1, -1
    addiu   $t9, $t9, -1
    bne     $t9, $a0, 56b
     sb     $t0, 0($t9)
57:
    jr      $ra
     nop
    .size memcpy, . - memcpy
    .size memmove, . - memmove

    .section .text.hot.memset, "ax", @progbits
    .balign 16
    .globl memset
    .type memset, @function
memset:
    move    $v0, $a0
    sltiu   $t0, $a2, 16
    bnez    $t0, 4f
     andi   $a1, $a1, 0xff
    sll     $t0, $a1, 8
    or      $a1, $a1, $t0
    sll     $t0, $a1, 16
    or      $a1, $a1, $t0
    subu    $t1, $zero, $a0
    andi    $t1, $t1, 3
    beqz    $t1, 1f
     subu   $a2, $a2, $t1
    swr     $a1, 0($a0)
    addu    $a0, $a0, $t1
1:
    srl     $t9, $a2, 5
    beqz    $t9, 3f
     sll    $t9, $t9, 5
    addu    $t9, $t9, $a0
2:
    sw      $a1, 0($a0)
    sw      $a1, 4($a0)
    sw      $a1, 8($a0)
    sw      $a1, 12($a0)
    sw      $a1, 16($a0)
    sw      $a1, 20($a0)
    sw      $a1, 24($a0)
    addiu   $a0, $a0, 32
    bne     $a0, $t9, 2b
     sw     $a1, -4($a0)
3:
    andi    $t9, $a2, 0x1c
    beqz    $t9, 33f
     addu   $t9, $t9, $a0
32:
    addiu   $a0, $a0, 4
    bne     $a0, $t9, 32b
     sw     $a1, -4($a0)
33:
    andi    $a2, $a2, 3
4:
    beqz    $a2, 6f
     addu   $t9, $a0, $a2
5:
    addiu   $a0, $a0, 1
    bne     $a0, $t9, 5b
     sb     $a1, -1($a0)
6:
    jr      $ra
     nop
    .size memset, . - memset

    .section .text.hot.memcmp, "ax", @progbits
    .balign 16
    .globl memcmp
    .type memcmp, @function
    .globl bcmp
    .type bcmp, @function
memcmp:
bcmp:
    srl     $t9, $a2, 2
    beqz    $t9, 3f
     sll    $t9, $t9, 2
    addu    $t9, $t9, $a0
1: # a word a turn, any alignment, until one differs
    lwr     $t0, 0($a0)
    lwl     $t0, 3($a0)
    lwr     $t1, 0($a1)
    lwl     $t1, 3($a1)
    bne     $t0, $t1, 2f
     addiu  $a0, $a0, 4
    bne     $a0, $t9, 1b
     addiu  $a1, $a1, 4
    b       3f
     andi   $a2, $a2, 3
2: # the lowest byte that differs decides
    addiu   $a0, $a0, -4
    li      $a2, 4
3:
    beqz    $a2, 6f
     addu   $t9, $a0, $a2
4:
    lbu     $t0, 0($a0)
    lbu     $t1, 0($a1)
    addiu   $a0, $a0, 1
    subu    $v0, $t0, $t1
    bnez    $v0, 7f
     addiu  $a1, $a1, 1
    bne     $a0, $t9, 4b
     nop
6:
    move    $v0, $zero
7:
    jr      $ra
     nop
    .size memcmp, . - memcmp
    .set pop
"#
);
