//! Tells the linker where the board's `link.x` lies.

fn main() {
    let dir = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets the manifest directory");
    println!("cargo:rustc-link-search={dir}/src/arch");
    println!("cargo:rerun-if-changed=src/arch/link.x");
}
