//! Whatever stands in the box of a header, it is written as it was read, or refused.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    chatterbox_fuzz::header::check(input);
});
