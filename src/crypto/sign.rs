//! Ed25519 signatures (RFC 8032), verified strictly: small-order keys and non-canonical encodings are refused, so
//! that a signature holds for one message under one key and no other.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey as DalekSigning, VerifyingKey as DalekVerifying};
use rand_core::CryptoRngCore;
use thiserror::Error;

use super::secret::Secret;

/// The signature does not fit the key and the message, or the key is not a good one.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("the signature is not good")]
pub struct BadSignature;

/// An Ed25519 public key, 32 bytes, not yet known to be a curve point: that is found out by [`VerifyingKey::verify`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifyingKey(pub [u8; 32]);

impl VerifyingKey {
    /// From a slice of exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Checks `signature` over `message`.
    ///
    /// # Errors
    /// [`BadSignature`], whatever the reason.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
        let key = DalekVerifying::from_bytes(&self.0).map_err(|_| BadSignature)?;
        key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).map_err(|_| BadSignature)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VerifyingKey({})", data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// An Ed25519 secret key. Wipes itself.
#[derive(Clone)]
pub struct SigningKey(DalekSigning);

impl SigningKey {
    /// A fresh key.
    pub fn random(rng: &mut impl CryptoRngCore) -> Self {
        Self::from_secret(&Secret::random(rng))
    }

    /// The key of this 32-byte seed (RFC 8032, section 5.1.5).
    pub fn from_secret(seed: &Secret<32>) -> Self {
        Self(DalekSigning::from_bytes(seed.expose()))
    }

    /// The seed, for the state file.
    pub fn to_secret(&self) -> Secret<32> {
        Secret::new(self.0.to_bytes())
    }

    /// The public key.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `message`; callers put a label of its kind in front.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("SigningKey").field(&"_").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    #[test]
    fn rfc_8032_section_7_1_test_3() {
        let seed = "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7";
        let key = SigningKey::from_secret(&Secret::from_slice(&HEXLOWER.decode(seed.as_bytes()).unwrap()).unwrap());
        assert_eq!(
            HEXLOWER.encode(&key.verifying_key().0),
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
        );
        let signature = key.sign(&[0xaf, 0x82]);
        assert_eq!(
            HEXLOWER.encode(&signature),
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
             18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        );
        assert_eq!(key.verifying_key().verify(&[0xaf, 0x82], &signature), Ok(()));
        assert_eq!(key.verifying_key().verify(&[0xaf, 0x83], &signature), Err(BadSignature));
    }

    #[test]
    fn a_key_of_small_order_verifies_nothing() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert_eq!(VerifyingKey(identity).verify(b"anything", &signature), Err(BadSignature));
    }
}
