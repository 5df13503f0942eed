//! Whatever is said to be a profile, it was signed and says what a profile may say, or is refused.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    chatterbox_fuzz::profile::check(input);
});
