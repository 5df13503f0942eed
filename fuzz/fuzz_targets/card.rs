//! Whatever a card file holds, it is a card that was signed, or refused.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    chatterbox_fuzz::card::check(input);
});
