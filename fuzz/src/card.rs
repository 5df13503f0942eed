//! The text of a card. An input is a byte that says which of four, and what follows:
//!
//! | byte modulo 4 | text | what must hold |
//! |---:|---|---|
//! | 0 | the bytes as they are | a card that parses comes back as written |
//! | 1 | a good card, changed | it says what it said, or is refused |
//! | 2 | a card of the bytes as somebody's Profile, signed by them | as for 0 |
//! | 3 | a good card, wrapped and indented | it is taken |

use chatterbox::limits::CARD_FILE_BYTES_MAX;
use chatterbox::wire::profile::SignedProfile;
use data_encoding::BASE64URL_NOPAD;

use super::input::Input;
use super::profile;

const EDITS_MAX: u8 = 4;
/// What `split_whitespace` takes for space, one of each length.
const SPACES: [char; 8] = [' ', '\n', '\r', '\t', '\u{b}', '\u{85}', '\u{a0}', '\u{3000}'];

/// Checks one input; says whether it is a card.
///
/// # Panics
/// If something does not hold.
pub fn check(input: &[u8]) -> bool {
    let mut input = Input(input);
    match input.byte() % 4 {
        0 => read(&String::from_utf8_lossy(input.0)).is_some(),
        1 => changed(input),
        2 => read(&format!("chatterbox:{}", BASE64URL_NOPAD.encode(&profile::signed(input.0)))).is_some(),
        _ => wrapped(input),
    }
}

fn read(text: &str) -> Option<SignedProfile> {
    let card: SignedProfile = text.parse().ok()?;
    profile::holds(&card, card.as_bytes());
    let line = card.to_string();
    assert!(line.len() as u64 <= CARD_FILE_BYTES_MAX && line.split_whitespace().eq([line.as_str()]));
    Some(card)
}

/// Bytes that are not covered by the signature may change (protobuf can say one thing in several ways); what the card
/// says may not.
fn changed(mut input: Input<'_>) -> bool {
    let good = profile::good();
    let mut bytes = good.as_bytes().to_vec();
    for _ in 0..input.byte() % EDITS_MAX {
        input.edit(&mut bytes);
    }
    let mut text = format!("chatterbox:{}", BASE64URL_NOPAD.encode(&bytes)).into_bytes();
    for _ in 0..input.byte() % EDITS_MAX {
        input.edit(&mut text);
    }
    let card = read(&String::from_utf8_lossy(&text));
    assert!(card.as_ref().is_none_or(|card| card.profile() == good.profile()), "a changed card says something else");
    card.is_some()
}

fn wrapped(mut input: Input<'_>) -> bool {
    let good = profile::good();
    let mut text = good.to_string();
    while !input.0.is_empty() {
        let place = input.place(text.len() + 1);
        let place = (place..).find(|place| text.is_char_boundary(*place)).expect("the end is a boundary");
        text.insert(place, SPACES[usize::from(input.byte()) % SPACES.len()]);
    }
    assert_eq!(read(&text), Some(good), "a wrapped card is refused");
    true
}

/// Inputs to begin with.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| [&[0], text.as_bytes()].concat();
    let card = profile::good().to_string();
    vec![
        ("nothing", vec![]),
        ("good", text(&card)),
        ("good-with-a-line-end", text(&format!("{card}\n"))),
        ("in-capitals", text(&card.to_uppercase())),
        ("padded", text(&format!("{card}="))),
        ("without-prefix", text(&card[11..])),
        ("prefix-alone", text("chatterbox:")),
        ("twice", text(&format!("{card}\n{card}"))),
        ("not-utf-8", vec![0, 0xff, 0xfe, b'c']),
        ("unchanged", vec![1]),
        ("typo", vec![1, 0, 1, 0, 0, 40, 1]),
        ("changed-name", vec![1, 1, 0, 0, 5, 1]),
        ("appended-field", vec![1, 1, 2, 0, 160, 3, 0x1a, 1, 1]),
        ("signed", [&[2], &profile::fields("bob", "127.0.0.1", 1)[..]].concat()),
        ("signed-bad-host", [&[2], &profile::fields("bob", "ho st", 1)[..]].concat()),
        ("wrapped", vec![3, 0, 70, 1, 0, 140, 1, 0, 0, 0, 255, 255, 1]),
        ("wrapped-inside-the-prefix", vec![3, 0, 5, 7]),
    ]
}
