//! Signed prekeys: what somebody opens a session with while its owner is away (design, section 5).

use prost::Message as _;

use super::generated::profile as pb;
use super::identity::Identity;
use super::{Malformed, array, decode};
use crate::crypto::dh::PublicKey;
use crate::crypto::hash::{sha256, sha256_128};
use crate::crypto::kem::EncapsulationKey;
use crate::crypto::sign::SigningKey;
use crate::limits::PREKEY_BYTES_MAX;

/// The suite of this version: X25519 with ML-KEM-768, XChaCha20-Poly1305, HMAC-SHA-256. Suite 1 had no ML-KEM-768.
pub const SUITE: u8 = 2;

const SIGNATURE_LABEL: &[u8] = b"chatterbox 1 prekey\0";
const TAG_LABEL: &[u8] = b"chatterbox 1 prekey tag\0";

/// A prekey's random id, 16 bytes.
pub type PrekeyId = [u8; 16];

/// How often a prekey may serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrekeyKind {
    /// Handed out at most once.
    OneTime,
    /// Handed out when no one-time prekey is left, as often as need be.
    LastResort,
}

/// A signed prekey. Its signature is checked by [`SignedPrekey::verify`], against the identity it is meant for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedPrekey {
    /// Its id.
    pub id: PrekeyId,
    /// How often it may serve.
    pub kind: PrekeyKind,
    /// Not to be used from this second on (since 1970).
    pub expires: u64,
    /// X25519: the agreement that the first message's secrecy rests on.
    pub ratchet: PublicKey,
    /// X25519: the agreement that its authorship rests on.
    pub auth: PublicKey,
    /// ML-KEM-768: what its secrecy rests on as well.
    pub kem: EncapsulationKey,
    signature: [u8; 64],
}

impl SignedPrekey {
    /// Signs a prekey for `identity` with its signing key.
    pub fn sign(
        id: PrekeyId,
        kind: PrekeyKind,
        expires: u64,
        (ratchet, auth, kem): (PublicKey, PublicKey, EncapsulationKey),
        identity: &Identity,
        key: &SigningKey,
    ) -> Self {
        let mut prekey = Self { id, kind, expires, ratchet, auth, kem, signature: [0; 64] };
        prekey.signature = key.sign(&prekey.signed_bytes(identity));
        prekey
    }

    /// Whether `identity` made this prekey.
    ///
    /// # Errors
    /// [`Malformed`] if the signature is not good.
    pub fn verify(&self, identity: &Identity) -> Result<(), Malformed> {
        identity
            .signing
            .verify(&self.signed_bytes(identity), &self.signature)
            .map_err(|_| Malformed::new("prekey", "the signature is not good"))
    }

    /// What the opening of a session is bound to: SHA-256 of the signed bytes.
    pub fn hash(&self, identity: &Identity) -> [u8; 32] {
        sha256(&[&self.signed_bytes(identity)])
    }

    /// The tag that an opening made with this prekey carries: the first 16 bytes of
    /// `SHA-256("chatterbox 1 prekey tag" || 0 || id || ratchet)`.
    pub fn tag(&self) -> [u8; 16] {
        sha256_128(&[TAG_LABEL, &self.id, &self.ratchet.0])
    }

    /// Parses; the signature is not checked yet.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > PREKEY_BYTES_MAX {
            return Err(Malformed::new("prekey", "too long"));
        }
        let prekey: pb::SignedPrekey = decode("prekey", bytes)?;
        let ratchet = PublicKey(array("prekey ratchet key", &prekey.ratchet_key)?);
        let auth = PublicKey(array("prekey auth key", &prekey.auth_key)?);
        let kem = EncapsulationKey::from_slice(&prekey.kem_key);
        let kem = kem.ok_or(Malformed::new("prekey KEM key", "wrong length"))?;
        Self::parse(&prekey, (ratchet, auth, kem))
    }

    /// The serialized form.
    pub fn to_bytes(&self) -> Vec<u8> {
        pb::SignedPrekey {
            ratchet_key: self.ratchet.0.to_vec(),
            auth_key: self.auth.0.to_vec(),
            kem_key: self.kem.as_bytes().to_vec(),
            ..self.to_generated()
        }
        .encode_to_vec()
    }

    /// Parses what [`SignedPrekey::to_bytes_without_keys`] made, of one with these keys.
    pub(super) fn with_keys(bytes: &[u8], keys: (PublicKey, PublicKey, EncapsulationKey)) -> Result<Self, Malformed> {
        Self::parse(&decode("prekey", bytes)?, keys)
    }

    /// The serialized form for whoever has the keys anyway: a fourteenth of the whole.
    pub(super) fn to_bytes_without_keys(&self) -> Vec<u8> {
        self.to_generated().encode_to_vec()
    }

    fn parse(
        prekey: &pb::SignedPrekey,
        (ratchet, auth, kem): (PublicKey, PublicKey, EncapsulationKey),
    ) -> Result<Self, Malformed> {
        if prekey.suite != u32::from(SUITE) {
            return Err(Malformed::new("prekey suite", "not one that this version knows"));
        }
        let kind = match prekey.kind() {
            pb::signed_prekey::Kind::OneTime => PrekeyKind::OneTime,
            pb::signed_prekey::Kind::LastResort => PrekeyKind::LastResort,
            pb::signed_prekey::Kind::Unknown => return Err(Malformed::new("prekey kind", "unknown")),
        };
        let (id, signature) = (array("prekey id", &prekey.id)?, array("prekey signature", &prekey.signature)?);
        Ok(Self { id, kind, expires: prekey.expires, ratchet, auth, kem, signature })
    }

    fn to_generated(&self) -> pb::SignedPrekey {
        let kind = match self.kind {
            PrekeyKind::OneTime => pb::signed_prekey::Kind::OneTime,
            PrekeyKind::LastResort => pb::signed_prekey::Kind::LastResort,
        };
        pb::SignedPrekey {
            suite: SUITE.into(),
            id: self.id.to_vec(),
            kind: kind.into(),
            expires: self.expires,
            signature: self.signature.to_vec(),
            ..Default::default()
        }
    }

    /// `label || suite (1) || fingerprint (32) || id (16) || kind (1) || expires (8, LE) || ratchet (32) || auth (32)
    /// || encapsulation key (1,184)`.
    fn signed_bytes(&self, identity: &Identity) -> Vec<u8> {
        let kind: u8 = match self.kind {
            PrekeyKind::OneTime => 1,
            PrekeyKind::LastResort => 2,
        };
        [
            SIGNATURE_LABEL,
            &[SUITE],
            &identity.fingerprint().0,
            &self.id,
            &[kind],
            &self.expires.to_le_bytes(),
            &self.ratchet.0,
            &self.auth.0,
            self.kem.as_bytes(),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::secret::Secret;

    #[test]
    fn a_prekey_is_bound_to_every_field_and_to_its_owner() {
        let key = SigningKey::from_secret(&Secret::new([1; 32]));
        let identity = Identity { signing: key.verifying_key(), auth: PublicKey([4; 32]) };
        let (ratchet, auth) = (PublicKey([2; 32]), PublicKey([3; 32]));
        let kem = |byte| EncapsulationKey::from_slice(&[byte; 1_184]).unwrap();
        let good = SignedPrekey::sign([5; 16], PrekeyKind::OneTime, 99, (ratchet, auth, kem(7)), &identity, &key);
        assert_eq!(SignedPrekey::from_bytes(&good.to_bytes()).unwrap(), good);
        assert_eq!(good.verify(&identity), Ok(()));
        let other = Identity { auth: PublicKey([6; 32]), ..identity };
        assert!(good.verify(&other).is_err());
        for changed in [
            SignedPrekey { id: [6; 16], ..good.clone() },
            SignedPrekey { kind: PrekeyKind::LastResort, ..good.clone() },
            SignedPrekey { expires: 100, ..good.clone() },
            SignedPrekey { ratchet: auth, ..good.clone() },
            SignedPrekey { auth: ratchet, ..good.clone() },
            SignedPrekey { kem: kem(8), ..good.clone() },
        ] {
            assert!(changed.verify(&identity).is_err());
        }
    }
}
