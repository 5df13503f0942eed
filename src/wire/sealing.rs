//! The keys of one message, as the ratchet hands them out and the envelope takes them. Neither ever leaves this
//! process: they stand here because both of those modules stand on this floor.

use super::header::{Header, Opening};
use super::identity::Identity;
use crate::crypto::dh::PublicKey;
use crate::crypto::sealing::SealKey;
use crate::crypto::secret::Secret;

/// What finds an envelope's session and tells an observer nothing, 16 bytes.
pub type Tag = [u8; 16];

/// Everything that one envelope is made with but its payload. The message key is used up by sealing.
#[derive(Debug)]
pub struct Sealing {
    /// Finds the session at the other side.
    pub tag: Tag,
    /// The ephemeral key of an opening.
    pub ephemeral: Option<PublicKey>,
    /// The chain's; seals the header.
    pub header_key: SealKey,
    /// What the recipient must know first.
    pub header: Header,
    /// What stands in the body of an opening.
    pub opening: Option<Opening>,
    /// Of this message alone; seals the body.
    pub message_key: SealKey,
    /// The chain's; proves the author.
    pub auth: AuthKey,
}

/// The key that proves a message's author to its reader, and to nobody else; and who the two are.
#[derive(Clone, Debug)]
pub struct AuthKey {
    /// From the author's long-term auth key and the reader's ratchet auth key.
    pub key: Secret<32>,
    /// The author.
    pub sender: Identity,
    /// The reader.
    pub recipient: Identity,
    /// The reader's ratchet auth key that `key` is made with.
    pub recipient_auth: PublicKey,
}
