//! The client's own files with keys in them: `config.pb` and `keys/prekeys`.

use prost::Message as _;
use rand_core::CryptoRngCore;
use zeroize::{Zeroize, Zeroizing};

use super::generated::state as pb;
use super::identity::{AccountId, Identity};
use super::prekey::{PrekeyKind, SignedPrekey};
use super::served::Served;
use super::{Malformed, decode, secret};
use crate::crypto::dh::SecretKey;
use crate::crypto::kem::DecapsulationKey;
use crate::crypto::sign::SigningKey;

/// An account's three long-term key pairs (design, section 3).
#[derive(Clone, Debug)]
pub struct AccountKeys {
    /// Signs the profile and prekeys.
    pub signing: SigningKey,
    /// Proves authorship inside the ratchet, deniably.
    pub auth: SecretKey,
    /// Is the account at its home server.
    pub transport: SecretKey,
}

impl AccountKeys {
    /// The public half that peers know.
    pub fn identity(&self) -> Identity {
        Identity { signing: self.signing.verifying_key(), auth: self.auth.public() }
    }

    /// The id at the home server.
    pub fn account(&self) -> AccountId {
        AccountId(self.transport.public())
    }

    /// Parses `config.pb`.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let account: pb::Account = decode("config.pb", bytes)?;
        if account.version != 1 {
            return Err(Malformed::new("config.pb", "not a version that this program knows"));
        }
        Ok(Self {
            signing: SigningKey::from_secret(&secret("config.pb signing key", account.signing)?),
            auth: SecretKey::from_secret(&secret("config.pb auth key", account.auth)?),
            transport: SecretKey::from_secret(&secret("config.pb transport key", account.transport)?),
        })
    }

    /// The serialized form.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut account = pb::Account {
            version: 1,
            signing: self.signing.to_secret().expose().to_vec(),
            auth: self.auth.to_secret().expose().to_vec(),
            transport: self.transport.to_secret().expose().to_vec(),
        };
        let bytes = Zeroizing::new(account.encode_to_vec());
        account.signing.zeroize();
        account.auth.zeroize();
        account.transport.zeroize();
        bytes
    }
}

/// A prekey with its secrets.
#[derive(Clone, Debug)]
pub struct PrekeySecret {
    /// What was published.
    pub prekey: SignedPrekey,
    /// Behind `prekey.ratchet`.
    pub ratchet: SecretKey,
    /// Behind `prekey.auth`.
    pub auth: SecretKey,
    /// Behind `prekey.kem`.
    pub kem: DecapsulationKey,
}

impl PrekeySecret {
    /// Makes a prekey of three fresh pairs, and signs it.
    pub fn random(kind: PrekeyKind, expires: u64, ours: &AccountKeys, rng: &mut impl CryptoRngCore) -> Self {
        let (ratchet, auth) = (SecretKey::random(rng), SecretKey::random(rng));
        let kem = DecapsulationKey::random(rng);
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        let publics = (ratchet.public(), auth.public(), kem.public().clone());
        let prekey = SignedPrekey::sign(id, kind, expires, publics, &ours.identity(), &ours.signing);
        Self { prekey, ratchet, auth, kem }
    }
}

/// Parses `keys/prekeys`.
///
/// # Errors
/// [`Malformed`], naming the field.
pub fn prekeys_from_bytes(bytes: &[u8]) -> Result<(Vec<PrekeySecret>, Served), Malformed> {
    let prekeys: pb::Prekeys = decode("prekeys", bytes)?;
    let served = Served::parse(prekeys.used, prekeys.last_resort)?;
    let secrets = prekeys
        .secrets
        .into_iter()
        .map(|entry| {
            let ratchet = SecretKey::from_secret(&secret("prekey ratchet secret", entry.ratchet)?);
            let auth = SecretKey::from_secret(&secret("prekey auth secret", entry.auth)?);
            let kem = DecapsulationKey::from_seed(secret("prekey KEM seed", entry.kem)?);
            let publics = (ratchet.public(), auth.public(), kem.public().clone());
            Ok(PrekeySecret { prekey: SignedPrekey::with_keys(&entry.prekey, publics)?, ratchet, auth, kem })
        })
        .collect::<Result<_, Malformed>>()?;
    Ok((secrets, served))
}

/// The serialized form of [`prekeys_from_bytes`].
pub fn prekeys_to_bytes<'a>(
    secrets: impl IntoIterator<Item = &'a PrekeySecret>,
    served: &Served,
) -> Zeroizing<Vec<u8>> {
    let (used, last_resort) = served.to_generated();
    let mut prekeys = pb::Prekeys {
        secrets: secrets
            .into_iter()
            .map(|entry| pb::PrekeySecret {
                prekey: entry.prekey.to_bytes_without_keys(),
                ratchet: entry.ratchet.to_secret().expose().to_vec(),
                auth: entry.auth.to_secret().expose().to_vec(),
                kem: entry.kem.seed().expose().to_vec(),
            })
            .collect(),
        used,
        last_resort,
    };
    let bytes = Zeroizing::new(prekeys.encode_to_vec());
    for entry in &mut prekeys.secrets {
        entry.ratchet.zeroize();
        entry.auth.zeroize();
        entry.kem.zeroize();
    }
    bytes
}
