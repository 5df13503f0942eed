//! Whatever an envelope holds, it is a payload within its bounds, or refused.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    chatterbox_fuzz::payload::check(input);
});
