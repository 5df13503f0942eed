//! The double ratchet with encrypted headers, and beside it the paper's chain of authentication keys (design,
//! section 5; Perrin and Marlinspike, "The Double Ratchet Algorithm", section 4; `chatterbox-paper`, "Message
//! Security").
//!
//! ```text
//! opening   root, header and tag keys of both first chains = HKDF(0, X25519(ephemeral, prekey))
//! step      root', chain key, header and tag key of the next chain = HKDF(root, X25519(ours, theirs) || KEM secret)
//! message   seed, chain key' = HMAC(chain key, …);   message key = HMAC(seed, … || 32 random bytes of the header)
//! author    auth key = HKDF(0, X25519(sender's long-term auth key, recipient's ratchet auth key))
//! ```
//!
//! The ratchet hands out keys and takes keys; what is sealed with them, and where it stands in an envelope, is the
//! business of the module `envelope`. The two meet in a closure: [`Session::receive`] derives on a copy, lets its
//! caller authenticate, and only then commits.
//!
//! It is hybrid: every root key behind an opening rests on X25519 and on ML-KEM-768, so that who breaks one of them has
//! nothing. The headers and tags of both first chains rest on X25519 alone; so they say nothing of who opens, but who has
//! recordings of both mailboxes and breaks X25519 can tell by them that the two talk.

mod age;
mod derive;
mod opening;
pub mod rank;
mod receiving;
mod refused;
mod session;

pub use opening::{OpeningAuthor, OpeningBody, OpeningKeys, open, opening_hash};
pub use receiving::ChainAt;
pub use refused::{BadPeerKey, Refused};
pub use session::{Announced, Session};

#[cfg(test)]
mod tests;
