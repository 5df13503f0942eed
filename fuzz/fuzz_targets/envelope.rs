//! Whatever comes from the network or from a peer, it is a message that was sealed, once, or changes nothing.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    chatterbox_fuzz::envelope::check(input);
});
