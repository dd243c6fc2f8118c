//! Environment files: whatever the bytes are, resolving them ends in a specification or in faults.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dbird_core::environment::fuzz_environment(bytes));
