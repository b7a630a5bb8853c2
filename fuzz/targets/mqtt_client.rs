#![no_main]

#[allow(dead_code, reason = "a target calls one of the entries")]
#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::mqtt_client(data));
