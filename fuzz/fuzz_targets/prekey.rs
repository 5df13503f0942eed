//! Whatever a server hands out, it is a prekey of its owner that opens a session, or refused.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    chatterbox_fuzz::prekey::check(input);
});
