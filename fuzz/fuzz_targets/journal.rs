//! Whatever a log holds, the journal reads what was written or says that it cannot.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    chatterbox_fuzz::journal::check(input);
});
