//! Tells the linker where the loader lies: above everything that it loads.

fn main() {
    println!("cargo:rustc-link-arg-bin=loader=--defsym=__loader_base=0x80f80000");
    println!("cargo:rerun-if-changed=build.rs");
}
