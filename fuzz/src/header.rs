//! The header and the opening, as they are once their boxes are open. An input is a byte, and what follows: the first bytes
//! of a header of the right length if the byte is even, else the bytes as they are. What parses is written as it was.

use chatterbox::wire::header::{HEADER_BYTES, Header, OPENING_BYTES, Opening};

use super::input::{Input, filled};

/// Checks one input; says whether it is a header.
///
/// # Panics
/// If something does not hold.
pub fn check(input: &[u8]) -> bool {
    let mut input = Input(input);
    let as_it_is = input.byte() % 2 == 1;
    let opening: [u8; OPENING_BYTES] = filled(input.0);
    assert_eq!(Opening::from_bytes(&opening).to_bytes(), opening);
    let long: [u8; HEADER_BYTES] = filled(input.0);
    let bytes = if as_it_is { input.0 } else { &long };
    let header = Header::from_bytes(bytes);
    if let Ok(header) = &header {
        assert_eq!(header.to_bytes(), bytes);
    }
    header.is_ok()
}

/// Inputs to begin with.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("nothing", vec![]),
        ("of-a-session", [&[0, 2, 0][..], &[7; 2_383]].concat()),
        ("of-an-opening", vec![0, 2, 1, 5, 0, 0, 0, 0, 0, 0, 0, 6]),
        ("largest-numbers", [&[0, 2, 0][..], &[255; 80]].concat()),
        ("another-suite", vec![0, 1, 0, 7]),
        ("another-kind", vec![0, 2, 2, 7]),
        ("a-byte-short", [&[1, 2, 0][..], &[7; 2_383]].concat()),
        ("a-byte-long", [&[1, 2, 0][..], &[7; 2_385]].concat()),
    ]
}
