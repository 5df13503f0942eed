//! ML-KEM-768 (FIPS 203), by `libcrux-ml-kem`: it is proved in F* to compute what the standard says, without a panic and
//! without a branch or an index that depends on a secret, and it is the one that Signal and Firefox run.
//!
//! A pair is kept as its 64-byte seed (`d || z`, FIPS 203, section 3.3), which is a fortieth of the expanded key, and is
//! expanded where it serves, once.

use std::fmt;

use libcrux_ml_kem::mlkem768::{self, MlKem768Ciphertext, MlKem768PublicKey};
use rand_core::CryptoRngCore;
use thiserror::Error;
use zeroize::Zeroize;

use super::secret::Secret;

/// Bytes of an encapsulation key.
pub const ENCAPSULATION_KEY_BYTES: usize = 1_184;

/// Bytes of a ciphertext.
pub const CIPHERTEXT_BYTES: usize = 1_088;

/// Bytes of a pair's seed.
pub const SEED_BYTES: usize = 64;

/// What both sides have after an encapsulation, 32 bytes.
pub type KemSecret = Secret<32>;

/// An encapsulation key that fails the check of FIPS 203, section 7.2.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("the encapsulation key is not a good one")]
pub struct BadKey;

/// A public key, not checked yet: that is done by [`EncapsulationKey::encapsulate`].
#[derive(Clone, PartialEq, Eq)]
pub struct EncapsulationKey(Box<[u8; ENCAPSULATION_KEY_BYTES]>);

impl EncapsulationKey {
    /// From a slice of exactly its length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        <&[u8; ENCAPSULATION_KEY_BYTES]>::try_from(bytes).ok().map(|bytes| Self(Box::new(*bytes)))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; ENCAPSULATION_KEY_BYTES] {
        &self.0
    }

    /// A fresh secret, and the ciphertext that takes it to the holder of the pair.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn encapsulate(&self, rng: &mut impl CryptoRngCore) -> Result<(Ciphertext, KemSecret), BadKey> {
        let key = MlKem768PublicKey::from(&*self.0);
        if !mlkem768::validate_public_key(&key) {
            return Err(BadKey);
        }
        let randomness = Secret::<32>::random(rng);
        let (ciphertext, mut shared) = mlkem768::encapsulate(&key, *randomness.expose());
        let secret = Secret::new(shared);
        shared.zeroize();
        Ok((Ciphertext(Box::new(*ciphertext.as_slice())), secret))
    }
}

impl fmt::Debug for EncapsulationKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EncapsulationKey")
    }
}

/// A secret on its way. One that was not made for the key that opens it yields a secret that nobody else has (implicit
/// rejection): what is derived from it then fails to authenticate.
#[derive(Clone, PartialEq, Eq)]
pub struct Ciphertext(Box<[u8; CIPHERTEXT_BYTES]>);

impl Ciphertext {
    /// From a slice of exactly its length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        <&[u8; CIPHERTEXT_BYTES]>::try_from(bytes).ok().map(|bytes| Self(Box::new(*bytes)))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; CIPHERTEXT_BYTES] {
        &self.0
    }
}

impl fmt::Debug for Ciphertext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ciphertext")
    }
}

/// A key pair. Wipes itself.
#[derive(Clone)]
pub struct DecapsulationKey {
    seed: Secret<SEED_BYTES>,
    public: EncapsulationKey,
}

impl DecapsulationKey {
    /// A fresh pair.
    pub fn random(rng: &mut impl CryptoRngCore) -> Self {
        Self::from_seed(Secret::random(rng))
    }

    /// The pair of this seed (FIPS 203, algorithm 16).
    pub fn from_seed(seed: Secret<SEED_BYTES>) -> Self {
        let (mut private, public) = mlkem768::generate_key_pair(*seed.expose()).into_parts();
        private[0..].zeroize();
        Self { seed, public: EncapsulationKey(Box::new(*public.as_slice())) }
    }

    /// The seed, for the state file.
    pub fn seed(&self) -> &Secret<SEED_BYTES> {
        &self.seed
    }

    /// The public key.
    pub fn public(&self) -> &EncapsulationKey {
        &self.public
    }

    /// The secret that a ciphertext brings.
    pub fn decapsulate(&self, ciphertext: &Ciphertext) -> KemSecret {
        let (mut private, _) = mlkem768::generate_key_pair(*self.seed.expose()).into_parts();
        let mut shared = mlkem768::decapsulate(&private, &MlKem768Ciphertext::from(&*ciphertext.0));
        private[0..].zeroize();
        let secret = Secret::new(shared);
        shared.zeroize();
        secret
    }
}

impl PartialEq for DecapsulationKey {
    fn eq(&self, other: &Self) -> bool {
        self.seed == other.seed
    }
}

impl fmt::Debug for DecapsulationKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DecapsulationKey(_)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::OsRng;

    #[test]
    fn a_secret_reaches_the_holder_of_the_pair_and_nobody_else() {
        let (pair, other) = (DecapsulationKey::random(&mut OsRng), DecapsulationKey::random(&mut OsRng));
        let (ciphertext, secret) = pair.public().encapsulate(&mut OsRng).unwrap();
        assert_eq!(pair.decapsulate(&ciphertext), secret);
        assert_ne!(other.decapsulate(&ciphertext), secret);
        let again = DecapsulationKey::from_seed(pair.seed().clone());
        assert_eq!(again.decapsulate(&ciphertext), secret, "the seed is the whole pair");
        let mut changed = *ciphertext.as_bytes();
        changed[7] ^= 1;
        assert_ne!(pair.decapsulate(&Ciphertext::from_slice(&changed).unwrap()), secret);
    }

    #[test]
    fn a_coefficient_out_of_range_is_refused() {
        let mut bytes = *DecapsulationKey::random(&mut OsRng).public().as_bytes();
        bytes[..2].copy_from_slice(&[0xff, 0x0f]);
        let key = EncapsulationKey::from_slice(&bytes).unwrap();
        assert_eq!(key.encapsulate(&mut OsRng).map(|_| ()), Err(BadKey));
        assert!(EncapsulationKey::from_slice(&bytes[1..]).is_none());
        assert!(Ciphertext::from_slice(&bytes).is_none());
    }

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        let pair = DecapsulationKey::from_seed(Secret::new([0x11; 64]));
        assert_eq!(format!("{pair:?}"), "DecapsulationKey(_)");
    }
}
