//! The header of an envelope, before it is sealed: a fixed layout of 2,386 bytes (design, section 5). What only an opening
//! says stands in the body instead: the header of an opening is sealed under X25519 alone, for it carries the ciphertext that
//! everything behind it rests on.
//!
//! ```text
//! 0     1      suite, 2
//! 1     1      kind: 0 in a standing session, 1 in an opening
//! 2     8      counter in this chain, little-endian, from 0
//! 10    8      length of the sender's chain before this one, little-endian
//! 18    32     fresh random bytes that enter the message key
//! 50    32     the sender's ratchet key of this chain
//! 82    32     the sender's ratchet auth key of this chain
//! 114   1,184  the sender's encapsulation key of this chain
//! 1,298 1,088  the ciphertext that this chain begins with
//!
//! opening, in the body (72 bytes; zeros in a standing session):
//! 0     8      generation of the session, little-endian
//! 8     32     the sender's signing key
//! 40    32     the sender's long-term auth key
//! ```

use super::Malformed;
use super::identity::Identity;
use super::prekey::SUITE;
use crate::crypto::dh::PublicKey;
use crate::crypto::kem::{CIPHERTEXT_BYTES, Ciphertext, ENCAPSULATION_KEY_BYTES, EncapsulationKey};
use crate::crypto::sign::VerifyingKey;

const KEM_AT: usize = 114;
const CIPHERTEXT_AT: usize = KEM_AT + ENCAPSULATION_KEY_BYTES;

/// The layout's length.
pub const HEADER_BYTES: usize = CIPHERTEXT_AT + CIPHERTEXT_BYTES;

/// The length of what an opening says in the body.
pub const OPENING_BYTES: usize = 72;

/// What the recipient must know before it can open the body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Whether it is the first envelope of a session.
    pub opens: bool,
    /// Position in the chain, from 0.
    pub counter: u64,
    /// How many messages the sender's chain before this one had.
    pub previous: u64,
    /// Enter the message key, so that no rollback uses one twice.
    pub random: [u8; 32],
    /// The sender's ratchet key of this chain.
    pub ratchet: PublicKey,
    /// The sender's ratchet auth key of this chain.
    pub auth: PublicKey,
    /// The sender's encapsulation key of this chain.
    pub kem: EncapsulationKey,
    /// Made for the recipient's newest encapsulation key when this chain began.
    pub ciphertext: Ciphertext,
}

/// What only an opening says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    /// Orders several sessions between the same two.
    pub generation: u64,
    /// Who opens. Claimed here, proved by the MAC in front of it.
    pub identity: Identity,
}

impl Opening {
    /// The layout above.
    pub fn to_bytes(&self) -> [u8; OPENING_BYTES] {
        let mut bytes = [0; OPENING_BYTES];
        bytes[..8].copy_from_slice(&self.generation.to_le_bytes());
        bytes[8..].copy_from_slice(&self.identity.to_bytes());
        bytes
    }

    /// Parses the layout above.
    pub fn from_bytes(bytes: &[u8; OPENING_BYTES]) -> Self {
        let identity = Identity { signing: VerifyingKey(key(&bytes[8..40])), auth: PublicKey(key(&bytes[40..])) };
        Self { generation: number(&bytes[..8]), identity }
    }
}

impl Header {
    /// The layout above.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = SUITE;
        bytes[1] = self.opens.into();
        bytes[2..10].copy_from_slice(&self.counter.to_le_bytes());
        bytes[10..18].copy_from_slice(&self.previous.to_le_bytes());
        bytes[18..50].copy_from_slice(&self.random);
        bytes[50..82].copy_from_slice(&self.ratchet.0);
        bytes[82..KEM_AT].copy_from_slice(&self.auth.0);
        bytes[KEM_AT..CIPHERTEXT_AT].copy_from_slice(self.kem.as_bytes());
        bytes[CIPHERTEXT_AT..].copy_from_slice(self.ciphertext.as_bytes());
        bytes
    }

    /// Parses the layout above. The keys are not checked yet.
    ///
    /// # Errors
    /// [`Malformed`] for another length, suite or kind.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let malformed = || Malformed::new("header", "not 2,386 bytes");
        let bytes: &[u8; HEADER_BYTES] = bytes.try_into().map_err(|_| malformed())?;
        if bytes[0] != SUITE {
            return Err(Malformed::new("header suite", "not one that this version knows"));
        }
        let opens = match bytes[1] {
            0 => false,
            1 => true,
            _ => return Err(Malformed::new("header kind", "unknown")),
        };
        Ok(Self {
            opens,
            counter: number(&bytes[2..10]),
            previous: number(&bytes[10..18]),
            random: key(&bytes[18..50]),
            ratchet: PublicKey(key(&bytes[50..82])),
            auth: PublicKey(key(&bytes[82..KEM_AT])),
            kem: EncapsulationKey::from_slice(&bytes[KEM_AT..CIPHERTEXT_AT]).ok_or_else(malformed)?,
            ciphertext: Ciphertext::from_slice(&bytes[CIPHERTEXT_AT..]).ok_or_else(malformed)?,
        })
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("the layout's numbers have 8 bytes"))
}

fn key(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("the layout's keys have 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(opens: bool) -> Header {
        Header {
            opens,
            counter: 1,
            previous: 2,
            random: [3; 32],
            ratchet: PublicKey([4; 32]),
            auth: PublicKey([8; 32]),
            kem: EncapsulationKey::from_slice(&[9; ENCAPSULATION_KEY_BYTES]).unwrap(),
            ciphertext: Ciphertext::from_slice(&[10; CIPHERTEXT_BYTES]).unwrap(),
        }
    }

    #[test]
    fn headers_and_openings_come_back_as_written() {
        for opens in [false, true] {
            assert_eq!(Header::from_bytes(&header(opens).to_bytes()).unwrap(), header(opens));
        }
        let identity = Identity { signing: VerifyingKey([5; 32]), auth: PublicKey([6; 32]) };
        let opening = Opening { generation: 7, identity };
        assert_eq!(Opening::from_bytes(&opening.to_bytes()), opening);
        assert_eq!(HEADER_BYTES, 2_386);
    }

    #[test]
    fn another_suite_kind_or_length_is_refused() {
        for position in [0, 1] {
            let mut bytes = header(false).to_bytes();
            bytes[position] = 9;
            assert!(Header::from_bytes(&bytes).is_err(), "position {position}");
        }
        assert!(Header::from_bytes(&header(false).to_bytes()[1..]).is_err());
    }
}
