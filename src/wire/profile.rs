//! Profiles and cards (design, section 3).

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use prost::Message as _;

use super::address::ServerAddress;
use super::generated::profile as pb;
use super::identity::{AccountId, Identity};
use super::{Malformed, array, decode};
use crate::crypto::dh::PublicKey;
use crate::crypto::sign::{SigningKey, VerifyingKey};
use crate::limits::PROFILE_BYTES_MAX;
use crate::name;

const SIGNATURE_LABEL: &[u8] = b"chatterbox 1 profile\0";
const CARD_PREFIX: &str = "chatterbox:";

/// What an account says of itself in public.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// The account's own name: 1 to 64 of `a-z 0-9 . _ -`.
    pub name: String,
    /// Its home server.
    pub server: ServerAddress,
    /// Its id there.
    pub account: AccountId,
    /// The keys that make it who it is.
    pub identity: Identity,
    /// Rises with every update.
    pub version: u64,
}

/// A [`Profile`] whose signature was checked, with the bytes that were signed. There is no other way to have one.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedProfile {
    profile: Profile,
    bytes: Vec<u8>,
}

impl SignedProfile {
    /// Signs `profile` with the key that its identity names.
    ///
    /// # Errors
    /// [`Malformed`] if the name is not an account's name.
    pub fn sign(profile: Profile, key: &SigningKey) -> Result<Self, Malformed> {
        let inner = pb::Profile {
            name: profile.name.clone(),
            server_host: profile.server.host().to_owned(),
            server_port: profile.server.port().into(),
            server_key: profile.server.key().0.to_vec(),
            account: profile.account.as_bytes().to_vec(),
            signing_key: profile.identity.signing.0.to_vec(),
            auth_key: profile.identity.auth.0.to_vec(),
            version: profile.version,
        }
        .encode_to_vec();
        let signature = key.sign(&[SIGNATURE_LABEL, &inner].concat());
        Self::from_bytes(&pb::SignedProfile { profile: inner, signature: signature.to_vec() }.encode_to_vec())
    }

    /// Parses and verifies.
    ///
    /// # Errors
    /// [`Malformed`], naming the field, or saying that the signature is not good.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > PROFILE_BYTES_MAX {
            return Err(Malformed::new("profile", "too long"));
        }
        let signed: pb::SignedProfile = decode("profile", bytes)?;
        let inner: pb::Profile = decode("profile", &signed.profile)?;
        let identity = Identity {
            signing: VerifyingKey(array("profile signing key", &inner.signing_key)?),
            auth: PublicKey(array("profile auth key", &inner.auth_key)?),
        };
        identity
            .signing
            .verify(&[SIGNATURE_LABEL, &signed.profile].concat(), &array("profile signature", &signed.signature)?)
            .map_err(|_| Malformed::new("profile", "the signature is not good"))?;
        if !name::is_account_name(&inner.name) {
            return Err(Malformed::new("profile name", "not 1 to 64 of a-z 0-9 . _ -"));
        }
        let port =
            u16::try_from(inner.server_port).map_err(|_| Malformed::new("profile server port", "above 65535"))?;
        let server_key = PublicKey(array("profile server key", &inner.server_key)?);
        let profile = Profile {
            name: inner.name,
            server: ServerAddress::new(&inner.server_host, port, server_key)?,
            account: AccountId(PublicKey(array("profile account", &inner.account)?)),
            identity,
            version: inner.version,
        };
        Ok(Self { profile, bytes: bytes.to_vec() })
    }

    /// What was signed.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The keys that make this account who it is.
    pub fn identity(&self) -> &Identity {
        &self.profile.identity
    }

    /// The serialized form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for SignedProfile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.profile.fmt(formatter)
    }
}

/// A card: `chatterbox:` and base64url of the signed profile, on one line.
impl fmt::Display for SignedProfile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{CARD_PREFIX}{}", BASE64URL_NOPAD.encode(&self.bytes))
    }
}

impl FromStr for SignedProfile {
    type Err = Malformed;

    /// Reads a card. Space around it and line breaks inside it, as mail programs make them, are passed over.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let joined: String = text.split_whitespace().collect();
        let encoded =
            joined.strip_prefix(CARD_PREFIX).ok_or(Malformed::new("card", "does not start with chatterbox:"))?;
        let bytes = BASE64URL_NOPAD
            .decode(encoded.as_bytes())
            .map_err(|_| Malformed::new("card", "a character is wrong or missing"))?;
        Self::from_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::secret::Secret;

    fn signed() -> SignedProfile {
        let key = SigningKey::from_secret(&Secret::new([1; 32]));
        let profile = Profile {
            name: "alice".into(),
            server: ServerAddress::new("127.0.0.1", 1984, PublicKey([2; 32])).unwrap(),
            account: AccountId(PublicKey([3; 32])),
            identity: Identity { signing: key.verifying_key(), auth: PublicKey([4; 32]) },
            version: 1,
        };
        SignedProfile::sign(profile, &key).unwrap()
    }

    #[test]
    fn a_card_comes_back_even_when_a_mail_program_wrapped_it() {
        let card = signed().to_string();
        let wrapped = format!("  {}\r\n {}\n", &card[..70], &card[70..]);
        assert_eq!(wrapped.parse::<SignedProfile>().unwrap(), signed());
    }

    #[test]
    fn every_single_typo_in_a_card_is_noticed() {
        let card = signed().to_string();
        for position in 0..card.len() {
            let mut typo = card.clone().into_bytes();
            typo[position] = if typo[position] == b'A' { b'B' } else { b'A' };
            let typo = String::from_utf8(typo).unwrap();
            assert!(typo.parse::<SignedProfile>().is_err(), "position {position}");
            let mut short = card.clone();
            short.remove(position);
            assert!(short.parse::<SignedProfile>().is_err(), "without position {position}");
        }
    }

    #[test]
    fn a_profile_signed_by_another_key_is_refused() {
        let other = SigningKey::from_secret(&Secret::new([9; 32]));
        let refused = SignedProfile::sign(signed().profile().clone(), &other).unwrap_err();
        assert_eq!(refused.problem, "the signature is not good");
    }
}
