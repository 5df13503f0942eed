//! Who somebody is: two long-term public keys, and the hashes that stand for one or several of them.

use std::fmt;

use data_encoding::HEXLOWER;

use super::Malformed;
use crate::crypto::dh::PublicKey;
use crate::crypto::hash::{sha256, sha256_128};
use crate::crypto::kdf::hkdf;
use crate::crypto::sign::VerifyingKey;

/// How often the hash behind a safety number is taken again. The same number must be as dear to whoever searches for a
/// pair of identities that shows it as two milliseconds are cheap to a person, who computes it once. Signal's number.
const SAFETY_NUMBER_ROUNDS: usize = 5_200;

/// Groups of five digits in a safety number: 60 digits, 199 bits.
const SAFETY_NUMBER_GROUPS: usize = 12;

/// What five bytes are reduced by to five digits. Of 2^40 values the digits favour some by one in ten million.
const GROUP_MODULUS: u64 = 100_000;

const RECEIVED_LABEL: &[u8] = b"chatterbox 1 received message\0";

/// An account's id at its home server: its X25519 transport key (design, section 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AccountId(pub PublicKey);

impl AccountId {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0.0
    }
}

/// The keys that make somebody who they are: Ed25519 for profiles and prekeys, X25519 for authorship.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// Signs profiles and prekeys.
    pub signing: VerifyingKey,
    /// Proves authorship inside the ratchet.
    pub auth: PublicKey,
}

impl Identity {
    /// `signing || auth`, 64 bytes.
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.signing.0);
        bytes[32..].copy_from_slice(&self.auth.0);
        bytes
    }

    /// `SHA-256("chatterbox 1 fingerprint" || 0 || signing || auth)`.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(sha256(&[b"chatterbox 1 fingerprint\0", &self.to_bytes()]))
    }
}

/// The hash of an [`Identity`], 32 bytes. Displays as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// From 64 lowercase hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }

    /// The first `digits` hex digits, for names like `NAME~FINGERPRINT8`.
    pub fn short(&self, digits: usize) -> String {
        self.to_string().chars().take(digits).collect()
    }

    /// Sixteen groups of four digits, as people compare them.
    pub fn groups(&self) -> String {
        let hex = self.to_string();
        let groups: Vec<&str> = (0..16).map(|group| &hex[group * 4..group * 4 + 4]).collect();
        groups.join(" ")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Fingerprint({self})")
    }
}

/// A conversation's id, 16 bytes. Displays as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId(pub [u8; 16]);

impl ConversationId {
    /// The id of the conversation opened through a directory named after contacts: the first 16 bytes of
    /// `SHA-256("chatterbox 1 conversation" || 0 || fingerprints, sorted)`, ours included, so that every side finds
    /// the same one (design, section 2).
    pub fn of_participants(fingerprints: &[Fingerprint]) -> Self {
        Self(sha256_128(&[b"chatterbox 1 conversation\0", &sorted_bytes(fingerprints)]))
    }

    /// The id of any other conversation: the first 16 bytes of
    /// `SHA-256("chatterbox 1 salted conversation" || 0 || salt (16) || fingerprints, sorted)`. As random as its salt, and
    /// yet of these participants and no others: nobody can squat on the conversation of others by introducing its id
    /// first.
    pub fn salted(salt: &[u8; 16], fingerprints: &[Fingerprint]) -> Self {
        Self(sha256_128(&[b"chatterbox 1 salted conversation\0", salt, &sorted_bytes(fingerprints)]))
    }

    /// Either, as an introduction gives it.
    pub fn of(salt: Option<&[u8; 16]>, fingerprints: &[Fingerprint]) -> Self {
        match salt {
            Some(salt) => Self::salted(salt, fingerprints),
            None => Self::of_participants(fingerprints),
        }
    }

    /// From 32 lowercase hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }

    /// From a slice of exactly 16 bytes.
    ///
    /// # Errors
    /// [`Malformed`] for any other length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Malformed> {
        super::array("conversation id", bytes).map(Self)
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ConversationId({self})")
    }
}

/// A message's id, 16 random bytes. Displays as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// From 32 lowercase hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MessageId({self})")
    }
}

/// `SHA-256("chatterbox 1 participants" || 0 || fingerprints, sorted)`: every message carries it, so that members who
/// were given different lists notice.
pub fn participants_hash(fingerprints: &[Fingerprint]) -> [u8; 32] {
    sha256(&[b"chatterbox 1 participants\0", &sorted_bytes(fingerprints)])
}

/// What two people compare in place of two fingerprints: 12 groups of five digits that both of them see alike.
///
/// `h = SHA-256("chatterbox 1 safety number" || 0 || lower || higher)`, then 5,200 times `h = SHA-256(h || lower ||
/// higher)`, with the two fingerprints in ascending order; the digits are
/// `HKDF(0, h, "chatterbox 1 safety number digits" || 0, 60)`, each five bytes, big-endian, modulo 100,000.
pub fn safety_number(one: &Fingerprint, other: &Fingerprint) -> String {
    let (lower, higher) = (one.min(other), one.max(other));
    let mut hash = sha256(&[b"chatterbox 1 safety number\0", &lower.0, &higher.0]);
    for _ in 0..SAFETY_NUMBER_ROUNDS {
        hash = sha256(&[&hash, &lower.0, &higher.0]);
    }
    let digits = hkdf::<{ 5 * SAFETY_NUMBER_GROUPS }>(&[0; 32], &hash, &[b"chatterbox 1 safety number digits\0"]);
    let group = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)) % GROUP_MODULUS;
    let groups: Vec<String> = digits.expose().chunks(5).map(|bytes| format!("{:05}", group(bytes))).collect();
    groups.join(" ")
}

fn sorted_bytes(fingerprints: &[Fingerprint]) -> Vec<u8> {
    let mut sorted = fingerprints.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.iter().flat_map(|fingerprint| fingerprint.0).collect()
}

/// `SHA-256(LABEL("received message") || author || conversation || message id)`.
pub fn message_hash(author: &Fingerprint, conversation: &ConversationId, message: &MessageId) -> [u8; 32] {
    sha256(&[RECEIVED_LABEL, &author.0, &conversation.0, &message.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_side_finds_the_same_conversation() {
        let (a, b, c) = (Fingerprint([1; 32]), Fingerprint([2; 32]), Fingerprint([3; 32]));
        assert_eq!(ConversationId::of_participants(&[a, b, c]), ConversationId::of_participants(&[c, a, b]));
        assert_ne!(ConversationId::of_participants(&[a, b]), ConversationId::of_participants(&[a, b, c]));
        assert_ne!(participants_hash(&[a, b]), participants_hash(&[a, c]));
        assert_eq!(ConversationId::salted(&[7; 16], &[a, b]), ConversationId::of(Some(&[7; 16]), &[b, a]));
        assert_ne!(ConversationId::salted(&[7; 16], &[a, b]), ConversationId::salted(&[7; 16], &[a, c]));
        assert_ne!(ConversationId::salted(&[7; 16], &[a, b]), ConversationId::salted(&[8; 16], &[a, b]));
    }

    /// Computed in Python, apart from this code, as are those of `tests/vectors/protocol.json`.
    #[test]
    fn both_sides_see_the_same_safety_number() {
        let fingerprint = |hex: &str| Fingerprint::from_hex(hex).unwrap();
        let alice = fingerprint("c4df2b9d56e826cb95508a8684fffd60e927d91d3f1c0797a1a93fe05c8ccd4f");
        let bob = fingerprint("7c07a3678a9c01e51abd88becbd04809095c2f8270ee54379c5d2f735934e2e4");
        let number = "79512 19594 72657 17911 34246 44484 18889 04130 94950 60021 23193 56917";
        assert_eq!(safety_number(&alice, &bob), number);
        assert_eq!(safety_number(&bob, &alice), number);
        assert_ne!(safety_number(&alice, &Fingerprint([1; 32])), number);
    }

    #[test]
    fn fingerprints_are_shown_in_groups() {
        assert_eq!(Fingerprint([0xab; 32]).groups(), ["abab"; 16].join(" "));
        assert_eq!(Fingerprint([0xab; 32]).short(8), "abababab");
        assert_eq!(Fingerprint::from_hex(&Fingerprint([7; 32]).to_string()), Some(Fingerprint([7; 32])));
    }
}
