//! A peer that holds every key of its side and keeps to none of the rules: what it seals, the recipient's boxes and MACs
//! let through. The layout once more, as `docs/protocol.md` has it, so that the two are compared.

use chatterbox::crypto::dh::PublicKey;
use chatterbox::crypto::kdf::hmac;
use chatterbox::crypto::kem::{CIPHERTEXT_BYTES, Ciphertext, ENCAPSULATION_KEY_BYTES, EncapsulationKey};
use chatterbox::crypto::sealing::OneTimeMac;
use chatterbox::crypto::secretbox::ZERO_NONCE;
use chatterbox::limits::ENVELOPE_BYTES;
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::header::Opening;
use chatterbox::wire::sealing::Sealing;
use rand_core::RngCore as _;

use super::input::{Input, filled};
use super::rng::Rng;

const FRONT_BYTES: usize = 2_474;
const MAC_BYTES: usize = OneTimeMac::BYTES;
/// Opening, length, payload and padding.
const REST_BYTES: usize = ENVELOPE_BYTES - FRONT_BYTES - 16 - MAC_BYTES;
const LENGTH_AT: usize = 72;
const PAYLOAD_AT: usize = LENGTH_AT + 2;

/// What is inside the body's box but the MAC.
#[derive(Clone, PartialEq)]
pub struct Rest(Box<[u8; REST_BYTES]>);

impl Rest {
    pub fn new(opening: Option<&Opening>, payload: &[u8]) -> Self {
        let mut rest = Box::new([0; REST_BYTES]);
        if let Some(opening) = opening {
            rest[..LENGTH_AT].copy_from_slice(&opening.to_bytes());
        }
        rest[LENGTH_AT..PAYLOAD_AT].copy_from_slice(&u16::try_from(payload.len()).expect("short").to_le_bytes());
        rest[PAYLOAD_AT..PAYLOAD_AT + payload.len()].copy_from_slice(payload);
        Self(rest)
    }

    /// The payload that the rules see in it.
    pub fn payload(&self, opens: bool) -> Option<&[u8]> {
        if !opens && self.0[..LENGTH_AT] != [0; LENGTH_AT] {
            return None;
        }
        let length = usize::from(u16::from_le_bytes([self.0[LENGTH_AT], self.0[LENGTH_AT + 1]]));
        let (payload, padding) = self.0[PAYLOAD_AT..].split_at_checked(length)?;
        padding.iter().all(|byte| *byte == 0).then_some(payload)
    }

    pub fn edit(&mut self, input: &mut Input<'_>) {
        // A random place is nearly always in the padding; what matters stands in front, and at the very end.
        match input.byte() % 4 {
            0 => input.edit(&mut self.0[..PAYLOAD_AT]),
            1 => input.edit(&mut self.0[LENGTH_AT..PAYLOAD_AT + 64]),
            2 => input.edit(&mut self.0[REST_BYTES - 64..]),
            _ => input.edit(&mut self.0[..]),
        }
    }
}

/// Seals as a peer does that has the keys.
pub fn seal(sealing: &Sealing, header: &[u8], rest: &Rest, rng: &mut Rng) -> Envelope {
    let mut outside = [0; 56];
    rng.fill_bytes(&mut outside);
    let mut bytes = sealing.tag.to_vec();
    bytes.extend_from_slice(sealing.ephemeral.as_ref().map_or(&outside[..32], |key| &key.0));
    let nonce: &[u8; 24] = outside[32..].try_into().expect("24 bytes");
    bytes.extend_from_slice(nonce);
    sealing.header_key.seal(nonce, header, &mut bytes);
    assert_eq!(bytes.len(), FRONT_BYTES, "the layout is another than in the table");
    let auth = &sealing.auth;
    let key = hmac(
        auth.key.expose(),
        &[
            b"chatterbox 1 message auth\0",
            &auth.sender.to_bytes(),
            &auth.recipient.to_bytes(),
            &auth.recipient_auth.0,
            &bytes,
        ],
    );
    let body = [OneTimeMac::of(key, &rest.0[..]).as_bytes(), &rest.0[..]].concat();
    sealing.message_key.seal(&ZERO_NONCE, &body, &mut bytes);
    Envelope::from_vec(bytes).expect("the layout adds up to an envelope")
}

/// The points of order 8 (RFC 7748 leaves them to the reader; Bernstein lists them in "Curve25519", section 3).
const ORDER_8: [[u8; 32]; 2] = [
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
];

/// `2^255 - 19 + more`, which is `more` in other words, or -1.
fn around_p(more: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    (bytes[0], bytes[31]) = (0xec + more, 0x7f);
    bytes
}

/// A key as an attacker would choose it: points of small order, encodings that nobody writes, and any other.
pub fn public_key(input: &mut Input<'_>) -> PublicKey {
    let kind = input.byte();
    let (which, more) = (usize::from(kind >> 2 & 1), kind >> 2 & 3);
    let mut key = match kind % 4 {
        0 => filled(&[more]),
        1 => around_p(more),
        2 => ORDER_8[which],
        _ => input.array(),
    };
    // No part of the key (RFC 7748, section 5).
    key[31] ^= kind & 0x80;
    PublicKey(key)
}

/// Whether whatever is agreed on with it is known to everybody.
pub fn has_small_order(key: &PublicKey) -> bool {
    let mut key = key.0;
    key[31] &= 0x7f;
    ORDER_8.contains(&key) || [filled(&[0]), filled(&[1]), around_p(0), around_p(1), around_p(2)].contains(&key)
}

/// Whether all coefficients are below the modulus (FIPS 203, section 7.2).
pub fn is_encapsulation_key(key: &EncapsulationKey) -> bool {
    let (coefficients, _seed) = key.as_bytes().split_at(1_152);
    let mut pairs = coefficients.chunks_exact(3).map(|three| {
        let [low, middle, high] = [three[0], three[1], three[2]].map(u16::from);
        [low | (middle & 15) << 8, middle >> 4 | high << 4]
    });
    pairs.all(|pair| pair.iter().all(|coefficient| *coefficient < 3_329))
}

/// A key that is none, or another than it was.
pub fn encapsulation_key(key: &EncapsulationKey, input: &mut Input<'_>) -> EncapsulationKey {
    let mut bytes: [u8; ENCAPSULATION_KEY_BYTES] = *key.as_bytes();
    input.edit(&mut bytes);
    EncapsulationKey::from_slice(&bytes).expect("of its length")
}

/// A ciphertext that is none, or another than it was.
pub fn ciphertext(ciphertext: &Ciphertext, input: &mut Input<'_>) -> Ciphertext {
    let mut bytes: [u8; CIPHERTEXT_BYTES] = *ciphertext.as_bytes();
    input.edit(&mut bytes);
    Ciphertext::from_slice(&bytes).expect("of its length")
}
