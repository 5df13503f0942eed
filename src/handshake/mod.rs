//! The handshake of a connection and the boxes after it (design, section 6): a SIGMA-I variant, Krawczyk 2003, in
//! which a NaCl box stands where SIGMA has a signature.
//!
//! ```text
//! client -> server   a
//! server -> client   b
//! server -> client   [B, [b,a](B<>a)](a<>b)
//! client -> server   [A, [a,b](A<>b)](a<>b)
//! both directions    [frame](a<>b)
//! ```
//!
//! Symbols are X25519 public keys, capitals long-term; `[m](X<>y)` is a NaCl box. `a` and `b` go bare, 32 bytes each.
//! The client checks `B` before it shows `A`. No I/O here: each state takes the bytes that arrived and hands out the
//! next state with the bytes to send; a state that failed is gone.

mod channel;
mod client;
mod server;

pub use channel::{Opener, Sealer};
pub use client::{AwaitingEphemeral, AwaitingServerProof};
pub use server::AwaitingClientProof;

use thiserror::Error;

use crate::crypto::dh::{PublicKey, SecretKey, SmallOrder};
use crate::crypto::secretbox::{BoxKey, Forged, ZERO_NONCE};
use crate::limits::BOX_OVERHEAD_BYTES;

/// The plaintext of the two frames that carry proofs: a long-term key, and a box of two ephemerals.
pub const PROOF_FRAME_BYTES: usize = 32 + 64 + BOX_OVERHEAD_BYTES;

/// Why a handshake ended. The peer is told nothing but the end of the connection.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeError {
    /// The other side proved another long-term key than the one in its address.
    #[error("the server showed another key than its address has: it is not the server it claims to be")]
    WrongServer,
    /// A box did not open: the other side does not hold the key it showed, or somebody changed bytes on the way.
    #[error("the other side did not prove its key")]
    Forged,
    /// An ephemeral or long-term key of small order.
    #[error("the other side sent a key of small order")]
    SmallOrder,
    /// Both ephemerals are the same: somebody plays our own words back.
    #[error("the other side sent our own ephemeral key back")]
    EqualEphemerals,
    /// The peer shows our own long-term key.
    #[error("the other side showed our own key")]
    OwnKey,
}

impl From<SmallOrder> for HandshakeError {
    fn from(_: SmallOrder) -> Self {
        Self::SmallOrder
    }
}

impl From<Forged> for HandshakeError {
    fn from(_: Forged) -> Self {
        Self::Forged
    }
}

/// Our key pairs for one connection.
struct Ours<'a> {
    ephemeral: &'a SecretKey,
    long_term: &'a SecretKey,
}

/// `[LONG-TERM, [ours,theirs](LONG-TERM<>theirs)]`, the plaintext of a proof frame.
fn write_proof(ours: &Ours<'_>, their_ephemeral: &PublicKey) -> Result<Vec<u8>, HandshakeError> {
    let both = [ours.ephemeral.public().0, their_ephemeral.0].concat();
    let inner = BoxKey::between(ours.long_term, their_ephemeral)?.seal(&ZERO_NONCE, &both);
    Ok([&ours.long_term.public().0[..], &inner].concat())
}

/// The long-term key that a proof shows. Whether it is held is for [`check_proof`], after the caller knows that it
/// wants this key at all.
fn shown_key(proof: &[u8], ours: &Ours<'_>) -> Result<PublicKey, HandshakeError> {
    let shown = proof.get(..32).and_then(PublicKey::from_slice).ok_or(HandshakeError::Forged)?;
    if shown == ours.long_term.public() {
        return Err(HandshakeError::OwnKey);
    }
    Ok(shown)
}

/// Opens `[theirs,ours](shown<>ours)`.
fn check_proof(
    proof: &[u8],
    shown: &PublicKey,
    ours: &Ours<'_>,
    their_ephemeral: &PublicKey,
) -> Result<(), HandshakeError> {
    let inner = proof.get(32..).ok_or(HandshakeError::Forged)?;
    let both = BoxKey::between(ours.ephemeral, shown)?.open(&ZERO_NONCE, inner)?;
    if both[..] != [their_ephemeral.0, ours.ephemeral.public().0].concat() {
        return Err(HandshakeError::Forged);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
