//! Whatever the file of a session holds, it is refused, or is a session that harms nobody.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    chatterbox_fuzz::session::check(input);
});
