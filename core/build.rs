//! Tells the tests whether the reference files lie beside the checkout: those that need them report themselves as ignored
//! elsewhere.
#![expect(clippy::disallowed_methods, reason = "a build script asks cargo and the file system; core itself never does")]

use std::path::PathBuf;

fn main() {
    // Asked when it runs, not when it is compiled: a target folder may be shared by several checkouts.
    let beside = || PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../../shared");
    let shared = std::env::var_os("DBIRD_SHARED").map_or_else(beside, PathBuf::from);
    let environments = shared.join("environments");
    println!("cargo:rerun-if-env-changed=DBIRD_SHARED");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(dbird_shared)");
    println!("cargo:rustc-env=DBIRD_SHARED_ENVIRONMENTS={}", environments.display());
    // Only where it is there: cargo takes a path that is missing for changed, and would build everything anew each time.
    if environments.is_dir() {
        println!("cargo:rerun-if-changed={}", environments.display());
        println!("cargo:rustc-cfg=dbird_shared");
    }
}
