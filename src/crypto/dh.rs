//! X25519 (RFC 7748). `shared = X25519(secret, public)`; an all-zero result is refused (RFC 7748, section 6.1).

use std::fmt;

use rand_core::CryptoRngCore;
use thiserror::Error;
use x25519_dalek::{PublicKey as DalekPublic, StaticSecret};

use super::secret::Secret;

/// What an agreement yields: 32 bytes that only ever go into a key derivation.
pub type SharedSecret = Secret<32>;

/// The peer's point has small order: the shared secret would be known to everybody.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("the peer's X25519 key has small order")]
pub struct SmallOrder;

/// An X25519 public key, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// From a slice of exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({})", data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// An X25519 secret key with its public key. Wipes itself.
#[derive(Clone)]
pub struct SecretKey {
    secret: StaticSecret,
    public: PublicKey,
}

impl SecretKey {
    /// A fresh pair.
    pub fn random(rng: &mut impl CryptoRngCore) -> Self {
        Self::from_secret(&Secret::random(rng))
    }

    /// The pair of these 32 secret bytes.
    pub fn from_secret(secret: &Secret<32>) -> Self {
        let secret = StaticSecret::from(*secret.expose());
        let public = PublicKey(DalekPublic::from(&secret).to_bytes());
        Self { secret, public }
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The secret bytes, for the state file.
    pub fn to_secret(&self) -> Secret<32> {
        Secret::new(self.secret.to_bytes())
    }

    /// `X25519(self, peer)`.
    ///
    /// # Errors
    /// [`SmallOrder`] if the result is all zeros.
    pub fn agree(&self, peer: &PublicKey) -> Result<SharedSecret, SmallOrder> {
        let shared = self.secret.diffie_hellman(&DalekPublic::from(peer.0));
        if !shared.was_contributory() {
            return Err(SmallOrder);
        }
        Ok(Secret::new(shared.to_bytes()))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SecretKey").field("public", &self.public).field("secret", &"_").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    fn bytes(hex: &str) -> [u8; 32] {
        HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
    }

    #[test]
    fn rfc_7748_section_6_1() {
        let alice = SecretKey::from_secret(&Secret::new(bytes(
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        )));
        let bob = SecretKey::from_secret(&Secret::new(bytes(
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        )));
        assert_eq!(alice.public().0, bytes("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
        assert_eq!(bob.public().0, bytes("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
        let shared = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        assert_eq!(alice.agree(&bob.public()).unwrap().expose(), &shared);
        assert_eq!(bob.agree(&alice.public()).unwrap().expose(), &shared);
    }

    #[test]
    fn a_point_of_small_order_is_refused() {
        let key = SecretKey::from_secret(&Secret::new([7; 32]));
        let mut one = [0; 32];
        one[0] = 1;
        assert_eq!(key.agree(&PublicKey([0; 32])), Err(SmallOrder));
        assert_eq!(key.agree(&PublicKey(one)), Err(SmallOrder));
    }

    #[test]
    fn debug_shows_only_the_public_half() {
        let shown = format!("{:?}", SecretKey::from_secret(&Secret::new([0x11; 32])));
        assert!(!shown.contains("1111") && shown.contains("secret: \"_\""));
    }
}
