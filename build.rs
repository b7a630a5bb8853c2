//! The device image aborts on a panic, so nothing in it ever unwinds: the tables for that, a tenth of
//! the image, are left out when it is linked. Cargo tells a build script the profile's name only as a
//! folder of `OUT_DIR`.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=scripts/device/no-unwinding.ld");
    let out = env::var("OUT_DIR").unwrap_or_default();
    let is_image = Path::new(&out).iter().any(|part| part == "device");
    let is_linux = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    if is_image && is_linux {
        let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{root}/scripts/device/no-unwinding.ld");
    }
}
