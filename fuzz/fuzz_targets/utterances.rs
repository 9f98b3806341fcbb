#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    intentd_fuzz::utterances(bytes);
});
