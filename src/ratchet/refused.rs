//! Why an envelope leads to no message, or a key to no session.

use thiserror::Error;

use crate::crypto::dh::SmallOrder;
use crate::crypto::kem::BadKey;

/// A public key that no honest peer sends.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum BadPeerKey {
    /// An X25519 key of small order.
    #[error("a key of small order")]
    SmallOrder(#[from] SmallOrder),
    /// An encapsulation key that fails its check.
    #[error("a bad encapsulation key")]
    Kem(#[from] BadKey),
}

/// Why a header that opened leads to no message.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The key of this message was used, or given up.
    #[error("the message was received before, or its key was given up")]
    AlreadyUsed,
    /// It jumps over more than [`crate::limits::CHAIN_JUMP_MAX`] messages.
    #[error("the message jumps too far ahead")]
    TooFarAhead,
    /// The header contradicts its chain or its session.
    #[error("the header contradicts its session")]
    Inconsistent,
    /// A key in it is a trap.
    #[error("the sender used {0}")]
    BadKey(#[from] BadPeerKey),
}

impl From<SmallOrder> for Refused {
    fn from(error: SmallOrder) -> Self {
        Self::BadKey(error.into())
    }
}
