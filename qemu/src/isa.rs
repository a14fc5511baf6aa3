//! Which instructions the image has, and whether the CPU has them.
//!
//! The router's CPU is MIPS32 release 1 without floating point. The compiler's target assumes release 2, so the image
//! itself is judged: every word of every executable section must be in [`RELEASE_1`], a list of what release 1 has; a
//! list of what it has not would miss what nobody thought of. Words of other instructions are named from [`LATER`].
//!
//! Follows: MIPS32 Architecture for Programmers, volume II (MD00086), revision 0.95 for release 1.

use anyhow::Context;
use object::read::elf::{ElfFile32, FileHeader as _};
use object::{
    Endianness, Object, ObjectSection, ObjectSymbol, SectionFlags, SectionKind, SymbolKind, elf,
};
use std::fmt;

/// Why an instruction is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Came with release 2 of the architecture or later.
    Release2,
    /// Works on floating-point registers, which the CPU has not.
    FloatingPoint,
    /// No instruction of MIPS32 at all; data, perhaps.
    Unknown,
}

/// An instruction that the CPU does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offender {
    /// Where it is.
    pub address: u64,
    /// The instruction.
    pub word: u32,
    /// Its mnemonic, or its opcode if it has none.
    pub name: &'static str,
    /// Why it is not allowed.
    pub fault: Fault,
    /// The function it is in, if a symbol covers it.
    pub function: Option<String>,
}

/// What was found in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Number of words looked at.
    pub words: usize,
    /// Those that the CPU does not have.
    pub offenders: Vec<Offender>,
}

/// One row of the opcode tables: the bits under `mask` equal `bits`.
struct Row(&'static str, u32, u32);

const OP: u32 = 0xfc00_0000;
const RS: u32 = 0x03e0_0000;
const RT: u32 = 0x001f_0000;
const RD: u32 = 0x0000_f800;
const SA: u32 = 0x0000_07c0;
const FUNCT: u32 = 0x0000_003f;
const SPECIAL2: u32 = 0x1c << 26;
const SPECIAL3: u32 = 0x1f << 26;
const COP0: u32 = 0x10 << 26;
/// Of COP0: an operation without registers.
const CO: u32 = COP0 | 1 << 25;

const fn op(opcode: u32) -> u32 {
    opcode << 26
}
const fn regimm(rt: u32) -> u32 {
    1 << 26 | rt << 16
}

/// Every instruction of MIPS32 release 1 with a soft-float ABI; fields that must be zero are in the mask.
/// (`nop`, `ssnop` and release 2's `ehb` are spelled `sll`, and do no harm on release 1.)
const RELEASE_1: &[Row] = &[
    Row("sll", OP | RS | FUNCT, 0x00),
    Row("srl", OP | RS | FUNCT, 0x02),
    Row("sra", OP | RS | FUNCT, 0x03),
    Row("sllv", OP | SA | FUNCT, 0x04),
    Row("srlv", OP | SA | FUNCT, 0x06),
    Row("srav", OP | SA | FUNCT, 0x07),
    Row("jr", OP | RT | RD | SA | FUNCT, 0x08),
    Row("jalr", OP | RT | SA | FUNCT, 0x09),
    Row("movz", OP | SA | FUNCT, 0x0a),
    Row("movn", OP | SA | FUNCT, 0x0b),
    Row("syscall", OP | FUNCT, 0x0c),
    Row("break", OP | FUNCT, 0x0d),
    Row("sync", !0, 0x0f),
    Row("mfhi", OP | RS | RT | SA | FUNCT, 0x10),
    Row("mthi", OP | RT | RD | SA | FUNCT, 0x11),
    Row("mflo", OP | RS | RT | SA | FUNCT, 0x12),
    Row("mtlo", OP | RT | RD | SA | FUNCT, 0x13),
    Row("mult", OP | RD | SA | FUNCT, 0x18),
    Row("multu", OP | RD | SA | FUNCT, 0x19),
    Row("div", OP | RD | SA | FUNCT, 0x1a),
    Row("divu", OP | RD | SA | FUNCT, 0x1b),
    Row("add", OP | SA | FUNCT, 0x20),
    Row("addu", OP | SA | FUNCT, 0x21),
    Row("sub", OP | SA | FUNCT, 0x22),
    Row("subu", OP | SA | FUNCT, 0x23),
    Row("and", OP | SA | FUNCT, 0x24),
    Row("or", OP | SA | FUNCT, 0x25),
    Row("xor", OP | SA | FUNCT, 0x26),
    Row("nor", OP | SA | FUNCT, 0x27),
    Row("slt", OP | SA | FUNCT, 0x2a),
    Row("sltu", OP | SA | FUNCT, 0x2b),
    Row("tge", OP | FUNCT, 0x30),
    Row("tgeu", OP | FUNCT, 0x31),
    Row("tlt", OP | FUNCT, 0x32),
    Row("tltu", OP | FUNCT, 0x33),
    Row("teq", OP | FUNCT, 0x34),
    Row("tne", OP | FUNCT, 0x36),
    Row("bltz", OP | RT, regimm(0x00)),
    Row("bgez", OP | RT, regimm(0x01)),
    Row("bltzl", OP | RT, regimm(0x02)),
    Row("bgezl", OP | RT, regimm(0x03)),
    Row("tgei", OP | RT, regimm(0x08)),
    Row("tgeiu", OP | RT, regimm(0x09)),
    Row("tlti", OP | RT, regimm(0x0a)),
    Row("tltiu", OP | RT, regimm(0x0b)),
    Row("teqi", OP | RT, regimm(0x0c)),
    Row("tnei", OP | RT, regimm(0x0e)),
    Row("bltzal", OP | RT, regimm(0x10)),
    Row("bgezal", OP | RT, regimm(0x11)),
    Row("bltzall", OP | RT, regimm(0x12)),
    Row("bgezall", OP | RT, regimm(0x13)),
    Row("j", OP, op(0x02)),
    Row("jal", OP, op(0x03)),
    Row("beq", OP, op(0x04)),
    Row("bne", OP, op(0x05)),
    Row("blez", OP | RT, op(0x06)),
    Row("bgtz", OP | RT, op(0x07)),
    Row("addi", OP, op(0x08)),
    Row("addiu", OP, op(0x09)),
    Row("slti", OP, op(0x0a)),
    Row("sltiu", OP, op(0x0b)),
    Row("andi", OP, op(0x0c)),
    Row("ori", OP, op(0x0d)),
    Row("xori", OP, op(0x0e)),
    Row("lui", OP | RS, op(0x0f)),
    // The three lowest bits select one of up to eight registers of one number.
    Row("mfc0", OP | RS | 0x7f8, COP0),
    Row("mtc0", OP | RS | 0x7f8, COP0 | 0x04 << 21),
    Row("tlbr", !0, CO | 0x01),
    Row("tlbwi", !0, CO | 0x02),
    Row("tlbwr", !0, CO | 0x06),
    Row("tlbp", !0, CO | 0x08),
    Row("eret", !0, CO | 0x18),
    Row("deret", !0, CO | 0x1f),
    Row("wait", OP | 1 << 25 | FUNCT, CO | 0x20),
    Row("beql", OP, op(0x14)),
    Row("bnel", OP, op(0x15)),
    Row("blezl", OP | RT, op(0x16)),
    Row("bgtzl", OP | RT, op(0x17)),
    Row("madd", OP | RD | SA | FUNCT, SPECIAL2),
    Row("maddu", OP | RD | SA | FUNCT, SPECIAL2 | 0x01),
    Row("mul", OP | SA | FUNCT, SPECIAL2 | 0x02),
    Row("msub", OP | RD | SA | FUNCT, SPECIAL2 | 0x04),
    Row("msubu", OP | RD | SA | FUNCT, SPECIAL2 | 0x05),
    Row("clz", OP | SA | FUNCT, SPECIAL2 | 0x20),
    Row("clo", OP | SA | FUNCT, SPECIAL2 | 0x21),
    Row("sdbbp", OP | FUNCT, SPECIAL2 | 0x3f),
    Row("lb", OP, op(0x20)),
    Row("lh", OP, op(0x21)),
    Row("lwl", OP, op(0x22)),
    Row("lw", OP, op(0x23)),
    Row("lbu", OP, op(0x24)),
    Row("lhu", OP, op(0x25)),
    Row("lwr", OP, op(0x26)),
    Row("sb", OP, op(0x28)),
    Row("sh", OP, op(0x29)),
    Row("swl", OP, op(0x2a)),
    Row("sw", OP, op(0x2b)),
    Row("swr", OP, op(0x2e)),
    Row("cache", OP, op(0x2f)),
    Row("ll", OP, op(0x30)),
    Row("pref", OP, op(0x33)),
    Row("sc", OP, op(0x38)),
];

/// Names for what a compiler or a person might have put in by mistake; looked at after [`RELEASE_1`].
const LATER: &[(Fault, Row)] = &[
    (
        Fault::Release2,
        Row("rotr", OP | RS | FUNCT, 1 << 21 | 0x02),
    ),
    (
        Fault::Release2,
        Row("rotrv", OP | SA | FUNCT, 1 << 6 | 0x06),
    ),
    (
        Fault::Release2,
        Row("jr.hb", OP | 1 << 10 | FUNCT, 1 << 10 | 0x08),
    ),
    (
        Fault::Release2,
        Row("jalr.hb", OP | 1 << 10 | FUNCT, 1 << 10 | 0x09),
    ),
    (Fault::Release2, Row("sync with a type", OP | FUNCT, 0x0f)),
    (Fault::Release2, Row("synci", OP | RT, regimm(0x1f))),
    (Fault::Release2, Row("mfhc0", OP | RS, COP0 | 0x02 << 21)),
    (Fault::Release2, Row("mthc0", OP | RS, COP0 | 0x06 << 21)),
    (Fault::Release2, Row("rdpgpr", OP | RS, COP0 | 0x0a << 21)),
    (Fault::Release2, Row("wrpgpr", OP | RS, COP0 | 0x0e << 21)),
    (
        Fault::Release2,
        Row("di", OP | RS | 0x20, COP0 | 0x0b << 21),
    ),
    (
        Fault::Release2,
        Row("ei", OP | RS | 0x20, COP0 | 0x0b << 21 | 0x20),
    ),
    (Fault::Release2, Row("ext", OP | FUNCT, SPECIAL3)),
    (Fault::Release2, Row("ins", OP | FUNCT, SPECIAL3 | 0x04)),
    (
        Fault::Release2,
        Row("wsbh", OP | SA | FUNCT, SPECIAL3 | 0x02 << 6 | 0x20),
    ),
    (
        Fault::Release2,
        Row("seb", OP | SA | FUNCT, SPECIAL3 | 0x10 << 6 | 0x20),
    ),
    (
        Fault::Release2,
        Row("seh", OP | SA | FUNCT, SPECIAL3 | 0x18 << 6 | 0x20),
    ),
    (Fault::Release2, Row("rdhwr", OP | FUNCT, SPECIAL3 | 0x3b)),
    (Fault::Release2, Row("special3", OP, SPECIAL3)),
    (Fault::FloatingPoint, Row("movf/movt", OP | FUNCT, 0x01)),
    (Fault::FloatingPoint, Row("cop1", OP, op(0x11))),
    (Fault::FloatingPoint, Row("cop1x", OP, op(0x13))),
    (Fault::FloatingPoint, Row("lwc1", OP, op(0x31))),
    (Fault::FloatingPoint, Row("ldc1", OP, op(0x35))),
    (Fault::FloatingPoint, Row("swc1", OP, op(0x39))),
    (Fault::FloatingPoint, Row("sdc1", OP, op(0x3d))),
];

/// Judges one instruction word.
///
/// # Errors
/// The CPU does not have it: why, and its name.
pub fn judge(word: u32) -> Result<&'static str, (Fault, &'static str)> {
    let fits = |row: &Row| word & row.1 == row.2;
    if let Some(row) = RELEASE_1.iter().find(|row| fits(row)) {
        return Ok(row.0);
    }
    match LATER.iter().find(|(_, row)| fits(row)) {
        Some((fault, row)) => Err((*fault, row.0)),
        None => Err((Fault::Unknown, "unknown word")),
    }
}

/// Judges every word of every executable section of an ELF.
///
/// # Errors
/// The file is no 32-bit little-endian MIPS ELF with code in it.
pub fn examine(file: &[u8]) -> anyhow::Result<Verdict> {
    let elf = ElfFile32::<Endianness>::parse(file).context("not a 32-bit ELF")?;
    anyhow::ensure!(
        elf.elf_header().e_machine(elf.endian()) == elf::EM_MIPS && elf.is_little_endian(),
        "not an ELF for little-endian MIPS"
    );
    let functions = functions_of(&elf);
    let mut verdict = Verdict::default();
    for section in elf
        .sections()
        .filter(|section| is_executable(section.kind(), section.flags()))
    {
        let bytes = section.data().context("section without bytes")?;
        for (index, word) in bytes.chunks(4).enumerate() {
            verdict.words += 1;
            let address = section.address() + 4 * index as u64;
            // A ragged end is no instruction; zeros make it an unknown word or harmless padding.
            let mut full = [0; 4];
            full[..word.len()].copy_from_slice(word);
            let word = u32::from_le_bytes(full);
            if let Err((fault, name)) = judge(word) {
                verdict.offenders.push(Offender {
                    address,
                    word,
                    name,
                    fault,
                    function: function_at(&functions, address),
                });
            }
        }
    }
    anyhow::ensure!(verdict.words > 0, "the ELF has no code");
    Ok(verdict)
}

/// The function of an image that an address is in.
///
/// # Errors
/// The file is no 32-bit ELF.
pub fn function_of(file: &[u8], address: u64) -> anyhow::Result<Option<String>> {
    let elf = ElfFile32::<Endianness>::parse(file).context("not a 32-bit ELF")?;
    Ok(function_at(&functions_of(&elf), address))
}

/// Address, size and name of each function, by address.
fn functions_of<'f>(elf: &ElfFile32<'f, Endianness>) -> Vec<(u64, u64, &'f str)> {
    let mut functions: Vec<(u64, u64, &str)> = elf
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
        .filter_map(|symbol| Some((symbol.address(), symbol.size(), symbol.name().ok()?)))
        .collect();
    functions.sort_unstable();
    functions
}

fn is_executable(kind: SectionKind, flags: SectionFlags) -> bool {
    match flags {
        SectionFlags::Elf { sh_flags, .. } => {
            sh_flags & elf::SHF_EXECINSTR == elf::SHF_EXECINSTR
                && kind != SectionKind::UninitializedData
        }
        _ => false,
    }
}

fn function_at(functions: &[(u64, u64, &str)], address: u64) -> Option<String> {
    let after = functions.partition_point(|(start, _, _)| *start <= address);
    functions[..after]
        .iter()
        .rev()
        .find(|(start, size, _)| address - start < *size)
        .map(|(_, _, name)| format!("{:#}", rustc_demangle::demangle(name)))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Release2 => "release 2",
            Self::FloatingPoint => "floating point",
            Self::Unknown => "not MIPS32",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for offender in &self.offenders {
            writeln!(
                f,
                "{:#010x}: {:08x} {:12} {:14} in {}",
                offender.address,
                offender.word,
                offender.name,
                offender.fault.to_string(),
                offender.function.as_deref().unwrap_or("no function")
            )?;
        }
        let count = |fault| {
            self.offenders
                .iter()
                .filter(|offender| offender.fault == fault)
                .count()
        };
        writeln!(
            f,
            "instructions    {} words: {} of release 2, {} of floating point, {} not MIPS32; all others are release 1",
            self.words,
            count(Fault::Release2),
            count(Fault::FloatingPoint),
            count(Fault::Unknown),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words as an assembler writes them.
    const GOOD: &[(u32, &str)] = &[
        (0x0000_0000, "sll"),                                   // nop
        (0x0000_00c0, "sll"),                                   // ehb
        (0x0004_2402, "srl"),                                   // srl a0, a0, 16
        (0x03e0_0008, "jr"),                                    // jr ra
        (0x0320_f809, "jalr"),                                  // jalr t9
        (0x27bd_ffe0, "addiu"),                                 // addiu sp, sp, -32
        (0xafbf_001c, "sw"),                                    // sw ra, 28(sp)
        (0x7000_0000 | 2 << 21 | 3 << 16 | 2 << 11 | 2, "mul"), // mul v0, v0, v1
        (0x7082_1020, "clz"),                                   // clz v0, a0
        (0x4200_0020, "wait"),
        (0x4200_0018, "eret"),
        (0x4008_4800, "mfc0"), // mfc0 t0, $9
        (0x4088_8001, "mtc0"), // mtc0 t0, $16, 1
        (0x0000_000f, "sync"),
        (0xbc81_0000, "cache"), // cache 1, 0(a0)
        (0x0064_100b, "movn"),  // movn v0, v1, a0
        (0x0086_01f4, "teq"),   // teq a0, a2, 7 (division by zero)
        (0xc082_0000, "ll"),
        (0x5082_0003, "beql"),
        (0x0411_0001, "bgezal"), // bal
    ];

    const BAD: &[(u32, Fault, &str)] = &[
        (0x7c82_3900, Fault::Release2, "ext"),   // ext v0, a0, 4, 8
        (0x7c82_5904, Fault::Release2, "ins"),   // ins v0, a0, 4, 8
        (0x7c04_1420, Fault::Release2, "seb"),   // seb v0, a0
        (0x7c04_1620, Fault::Release2, "seh"),   // seh v0, a0
        (0x7c04_10a0, Fault::Release2, "wsbh"),  // wsbh v0, a0
        (0x0024_1202, Fault::Release2, "rotr"),  // rotr v0, a0, 8
        (0x00a4_1046, Fault::Release2, "rotrv"), // rotrv v0, a0, a1
        (0x4160_6000, Fault::Release2, "di"),
        (0x4160_6020, Fault::Release2, "ei"),
        (0x7c03_e83b, Fault::Release2, "rdhwr"), // rdhwr v1, $29
        (0x049f_0000, Fault::Release2, "synci"), // synci 0(a0)
        (0x03e0_0408, Fault::Release2, "jr.hb"), // jr.hb ra
        (0x0320_fc09, Fault::Release2, "jalr.hb"), // jalr.hb t9
        (0x0000_040f, Fault::Release2, "sync with a type"),
        (0x4602_0000, Fault::FloatingPoint, "cop1"), // add.s f0, f0, f2
        (0x4482_0000, Fault::FloatingPoint, "cop1"), // mtc1 v0, f0
        (0xc480_0000, Fault::FloatingPoint, "lwc1"),
        (0xd480_0000, Fault::FloatingPoint, "ldc1"),
        (0xf480_0000, Fault::FloatingPoint, "sdc1"),
        (0x4c00_0000, Fault::FloatingPoint, "cop1x"),
        (0x0081_1001, Fault::FloatingPoint, "movf/movt"), // movt v0, a0, fcc0
        (0x6482_0001, Fault::Unknown, "unknown word"),    // daddiu: 64 bits
        (0xdc82_0000, Fault::Unknown, "unknown word"),    // ld: 64 bits
        (0xffff_ffff, Fault::Unknown, "unknown word"),
        (0x6f72_7245, Fault::Unknown, "unknown word"), // text
    ];

    #[test]
    fn instructions_of_release_1_are_accepted() {
        for (word, name) in GOOD {
            assert_eq!(judge(*word), Ok(*name), "{word:08x}");
        }
    }

    #[test]
    fn later_and_floating_point_instructions_are_refused_by_name() {
        for (word, fault, name) in BAD {
            assert_eq!(judge(*word), Err((*fault, *name)), "{word:08x}");
        }
    }

    #[test]
    fn no_word_is_claimed_by_two_rows() {
        for (index, row) in RELEASE_1.iter().enumerate() {
            assert_eq!(row.2 & !row.1, 0, "{} has bits outside its mask", row.0);
            for other in &RELEASE_1[index + 1..] {
                let common = row.1 & other.1;
                assert_ne!(
                    row.2 & common,
                    other.2 & common,
                    "{} and {}",
                    row.0,
                    other.0
                );
            }
        }
    }

    #[test]
    fn a_function_is_found_by_an_address_inside_it() {
        let functions = [(0x100, 0x10, "first"), (0x120, 0x8, "second")];
        assert_eq!(function_at(&functions, 0x10c).as_deref(), Some("first"));
        assert_eq!(function_at(&functions, 0x110), None);
        assert_eq!(function_at(&functions, 0x120).as_deref(), Some("second"));
        assert_eq!(function_at(&functions, 0x0), None);
    }

    #[test]
    fn what_is_no_elf_is_an_error() {
        assert!(examine(b"\x7fELF but not really").is_err());
        assert!(examine(b"").is_err());
    }
}
