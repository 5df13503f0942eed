//! The envelope: what servers store, of one size always (design, section 4).

use std::fmt;

use super::Malformed;
use crate::crypto::hash::sha256;
use crate::limits::ENVELOPE_BYTES;

/// 16,384 bytes of ciphertext. Its layout is the business of the module `envelope`.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope(Box<[u8; ENVELOPE_BYTES]>);

impl Envelope {
    /// From exactly 16,384 bytes.
    ///
    /// # Errors
    /// [`Malformed`] for any other length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::from_vec(bytes.to_vec())
    }

    /// Takes over exactly 16,384 bytes.
    ///
    /// # Errors
    /// [`Malformed`] for any other length.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let boxed = bytes.into_boxed_slice().try_into().map_err(|_| Malformed::new("envelope", "not 16,384 bytes"))?;
        Ok(Self(boxed))
    }

    /// All of it.
    pub fn as_bytes(&self) -> &[u8; ENVELOPE_BYTES] {
        &self.0
    }

    /// SHA-256 of all of it: how both ends know a second copy.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&[&self.0[..]])
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Envelope(_)")
    }
}
