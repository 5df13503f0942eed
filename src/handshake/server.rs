//! The server's side: it shows its key first, and learns the client's.

use rand_core::CryptoRngCore;

use super::channel::directions;
use super::{HandshakeError, Opener, Ours, Sealer, check_proof, shown_key, write_proof};
use crate::crypto::dh::{PublicKey, SecretKey};

/// `b` and our proof were handed out.
#[derive(Debug)]
pub struct AwaitingClientProof {
    ephemeral: SecretKey,
    long_term: SecretKey,
    their_ephemeral: PublicKey,
    sealer: Sealer,
    opener: Opener,
}

impl AwaitingClientProof {
    /// Takes `a`; hands out `b`, and the box of our proof, to be sent as the first frame.
    ///
    /// # Errors
    /// [`HandshakeError::SmallOrder`], [`HandshakeError::EqualEphemerals`].
    pub fn start(
        their_ephemeral: PublicKey,
        long_term: SecretKey,
        rng: &mut impl CryptoRngCore,
    ) -> Result<(Self, PublicKey, Vec<u8>), HandshakeError> {
        let ephemeral = SecretKey::random(rng);
        let (mut sealer, opener) = directions(&ephemeral, &their_ephemeral)?;
        let ours = Ours { ephemeral: &ephemeral, long_term: &long_term };
        let proof = sealer.seal(&write_proof(&ours, &their_ephemeral)?);
        let public = ephemeral.public();
        Ok((Self { ephemeral, long_term, their_ephemeral, sealer, opener }, public, proof))
    }

    /// Takes the box of the client's proof; hands out its long-term key and the two directions.
    ///
    /// # Errors
    /// Those of [`HandshakeError`], except `WrongServer`.
    pub fn receive(mut self, boxed: &[u8]) -> Result<(PublicKey, Sealer, Opener), HandshakeError> {
        let ours = Ours { ephemeral: &self.ephemeral, long_term: &self.long_term };
        let proof = self.opener.open(boxed)?;
        let shown = shown_key(&proof, &ours)?;
        check_proof(&proof, &shown, &ours, &self.their_ephemeral)?;
        Ok((shown, self.sealer, self.opener))
    }
}
