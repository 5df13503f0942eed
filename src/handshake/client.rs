//! The client's side: it names the key it expects, and shows its own only to the holder of that one.

use rand_core::CryptoRngCore;

use super::channel::directions;
use super::{HandshakeError, Opener, Ours, Sealer, check_proof, shown_key, write_proof};
use crate::crypto::dh::{PublicKey, SecretKey};

/// `a` was sent.
#[derive(Debug)]
pub struct AwaitingEphemeral {
    ephemeral: SecretKey,
    long_term: SecretKey,
    server: PublicKey,
}

/// `b` arrived.
#[derive(Debug)]
pub struct AwaitingServerProof {
    ephemeral: SecretKey,
    long_term: SecretKey,
    server: PublicKey,
    their_ephemeral: PublicKey,
    sealer: Sealer,
    opener: Opener,
}

impl AwaitingEphemeral {
    /// Begins with a fresh ephemeral: the state, and `a` to send. `long_term` is the account's transport key to its
    /// home server, and a fresh key to any other.
    pub fn start(server: PublicKey, long_term: SecretKey, rng: &mut impl CryptoRngCore) -> (Self, PublicKey) {
        let ephemeral = SecretKey::random(rng);
        let public = ephemeral.public();
        (Self { ephemeral, long_term, server }, public)
    }

    /// Takes `b`.
    ///
    /// # Errors
    /// [`HandshakeError::EqualEphemerals`], [`HandshakeError::SmallOrder`].
    pub fn receive(self, their_ephemeral: PublicKey) -> Result<AwaitingServerProof, HandshakeError> {
        let (sealer, opener) = directions(&self.ephemeral, &their_ephemeral)?;
        let Self { ephemeral, long_term, server } = self;
        Ok(AwaitingServerProof { ephemeral, long_term, server, their_ephemeral, sealer, opener })
    }
}

impl AwaitingServerProof {
    /// Takes the box of the server's proof; hands out the box of ours, to be sent as the first frame, and the two
    /// directions.
    ///
    /// # Errors
    /// [`HandshakeError::WrongServer`] for another key than expected, and the others of [`HandshakeError`].
    pub fn receive(mut self, boxed: &[u8]) -> Result<(Vec<u8>, Sealer, Opener), HandshakeError> {
        let ours = Ours { ephemeral: &self.ephemeral, long_term: &self.long_term };
        let proof = self.opener.open(boxed)?;
        let shown = shown_key(&proof, &ours)?;
        if shown != self.server {
            return Err(HandshakeError::WrongServer);
        }
        check_proof(&proof, &shown, &ours, &self.their_ephemeral)?;
        let our_proof = self.sealer.seal(&write_proof(&ours, &self.their_ephemeral)?);
        Ok((our_proof, self.sealer, self.opener))
    }
}
