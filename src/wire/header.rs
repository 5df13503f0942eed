//! The header of an envelope, before it is sealed: a fixed layout of 186 bytes (design, section 5).
//!
//! ```text
//! 0    1   suite, 1
//! 1    1   kind: 0 in a standing session, 1 in an opening
//! 2    8   counter in this chain, little-endian, from 0
//! 10   8   length of the sender's chain before this one, little-endian
//! 18   32  fresh random bytes that enter the message key
//! 50   32  the sender's ratchet key of this chain
//! 82   32  the sender's ratchet auth key of this chain
//! 114  8   generation of the session, little-endian   (opening; else zero)
//! 122  32  the sender's signing key                   (opening; else zero)
//! 154  32  the sender's long-term auth key            (opening; else zero)
//! ```

use super::Malformed;
use super::identity::Identity;
use super::prekey::SUITE;
use crate::crypto::dh::PublicKey;
use crate::crypto::sign::VerifyingKey;

/// The layout's length.
pub const HEADER_BYTES: usize = 186;

/// What the recipient must know before it can open the body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// In the first envelope of a session.
    pub opening: Option<Opening>,
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
}

/// What only an opening says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    /// Orders several sessions between the same two.
    pub generation: u64,
    /// Who opens. Claimed here, proved by the MAC in the body.
    pub identity: Identity,
}

impl Header {
    /// The layout above.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = SUITE;
        bytes[2..10].copy_from_slice(&self.counter.to_le_bytes());
        bytes[10..18].copy_from_slice(&self.previous.to_le_bytes());
        bytes[18..50].copy_from_slice(&self.random);
        bytes[50..82].copy_from_slice(&self.ratchet.0);
        bytes[82..114].copy_from_slice(&self.auth.0);
        if let Some(opening) = &self.opening {
            bytes[1] = 1;
            bytes[114..122].copy_from_slice(&opening.generation.to_le_bytes());
            bytes[122..186].copy_from_slice(&opening.identity.to_bytes());
        }
        bytes
    }

    /// Parses the layout above.
    ///
    /// # Errors
    /// [`Malformed`] for another length, suite or kind, or where a field that must be zero is not.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let bytes: &[u8; HEADER_BYTES] = bytes.try_into().map_err(|_| Malformed::new("header", "not 186 bytes"))?;
        if bytes[0] != SUITE {
            return Err(Malformed::new("header suite", "not one that this version knows"));
        }
        let opening = match bytes[1] {
            0 if bytes[114..].iter().any(|byte| *byte != 0) => {
                return Err(Malformed::new("header", "the fields of an opening are not zero"));
            }
            0 => None,
            1 => Some(Opening {
                generation: number(&bytes[114..122]),
                identity: Identity {
                    signing: VerifyingKey(key(&bytes[122..154])),
                    auth: PublicKey(key(&bytes[154..186])),
                },
            }),
            _ => return Err(Malformed::new("header kind", "unknown")),
        };
        Ok(Self {
            opening,
            counter: number(&bytes[2..10]),
            previous: number(&bytes[10..18]),
            random: key(&bytes[18..50]),
            ratchet: PublicKey(key(&bytes[50..82])),
            auth: PublicKey(key(&bytes[82..114])),
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

    #[test]
    fn headers_come_back_as_written() {
        let identity = Identity { signing: VerifyingKey([5; 32]), auth: PublicKey([6; 32]) };
        for opening in [None, Some(Opening { generation: 7, identity })] {
            let header = Header {
                opening,
                counter: 1,
                previous: 2,
                random: [3; 32],
                ratchet: PublicKey([4; 32]),
                auth: PublicKey([8; 32]),
            };
            assert_eq!(Header::from_bytes(&header.to_bytes()).unwrap(), header);
        }
    }

    #[test]
    fn another_suite_kind_or_dirty_zeros_are_refused() {
        let header = Header {
            opening: None,
            counter: 1,
            previous: 2,
            random: [3; 32],
            ratchet: PublicKey([4; 32]),
            auth: PublicKey([8; 32]),
        };
        for position in [0, 1, 114, 185] {
            let mut bytes = header.to_bytes();
            bytes[position] = 9;
            assert!(Header::from_bytes(&bytes).is_err(), "position {position}");
        }
        assert!(Header::from_bytes(&header.to_bytes()[1..]).is_err());
    }
}
