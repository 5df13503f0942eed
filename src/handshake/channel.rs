//! The two directions of a connection after the ephemerals: `[frame](a<>b)`, nonces counting up by two.

use crate::crypto::secret::SecretBytes;

use super::HandshakeError;
use crate::crypto::dh::{PublicKey, SecretKey};
use crate::crypto::secretbox::{BoxKey, Forged, NonceBytes};

/// Seals the frames of our direction.
#[derive(Debug)]
pub struct Sealer(Direction);

/// Opens the frames of the other direction.
#[derive(Debug)]
pub struct Opener(Direction);

#[derive(Debug)]
struct Direction {
    key: BoxKey,
    counter: u64,
}

/// The key of both directions and where each begins to count: the side whose ephemeral is lower, compared as bytes,
/// from 1, the other from 0.
pub(super) fn directions(
    ephemeral: &SecretKey,
    their_ephemeral: &PublicKey,
) -> Result<(Sealer, Opener), HandshakeError> {
    if ephemeral.public() == *their_ephemeral {
        return Err(HandshakeError::EqualEphemerals);
    }
    let key = BoxKey::between(ephemeral, their_ephemeral)?;
    let ours_is_lower = ephemeral.public() < *their_ephemeral;
    let sealer = Sealer(Direction { key: key.clone(), counter: ours_is_lower.into() });
    let opener = Opener(Direction { key, counter: (!ours_is_lower).into() });
    Ok((sealer, opener))
}

impl Direction {
    /// The counter as the first 8 bytes, little-endian, of the 24. At one frame a nanosecond it lasts 292 years.
    fn next_nonce(&mut self) -> NonceBytes {
        let mut nonce = [0; 24];
        nonce[..8].copy_from_slice(&self.counter.to_le_bytes());
        self.counter = self.counter.checked_add(2).expect("2^63 frames do not fit into the age of a connection");
        nonce
    }
}

impl Sealer {
    /// The box of the next frame.
    pub fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let nonce = self.0.next_nonce();
        self.0.key.seal(&nonce, plaintext)
    }
}

impl Opener {
    /// The plaintext of the next frame. A frame that was dropped, repeated or swapped does not open.
    ///
    /// # Errors
    /// [`Forged`]; the connection is of no use after it.
    pub fn open(&mut self, boxed: &[u8]) -> Result<SecretBytes, Forged> {
        let nonce = self.0.next_nonce();
        self.0.key.open(&nonce, boxed)
    }
}
