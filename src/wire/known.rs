//! What the client remembers of other people's identities: `keys/profiles/FINGERPRINT` and `keys/names`. Public keys and
//! names; no secrets.

use std::collections::BTreeMap;

use prost::Message as _;

use super::generated::state as pb;
use super::identity::Fingerprint;
use super::payload::update;
use super::profile::SignedProfile;
use super::{Malformed, array, decode};

/// How we and one peer stand with each other's profiles.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ProfileRecord {
    /// The newest that they sent us, if they sent one since their card or introduction.
    pub newest: Option<SignedProfile>,
    /// The highest version of ours that we sent them, as far as we have to remember it.
    pub told: u64,
}

impl ProfileRecord {
    /// Parses the file.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let record: pb::ProfileRecord = decode("profile record", bytes)?;
        Ok(Self { newest: update(&record.newest)?, told: record.told })
    }

    /// The serialized form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let newest = self.newest.as_ref().map_or_else(Vec::new, |profile| profile.as_bytes().to_vec());
        pb::ProfileRecord { newest, told: self.told }.encode_to_vec()
    }
}

/// Parses `keys/names`: who was last seen under each contact's name, escaped.
///
/// # Errors
/// [`Malformed`], naming the field.
pub fn names_from_bytes(bytes: &[u8]) -> Result<BTreeMap<String, Fingerprint>, Malformed> {
    let names: pb::Names = decode("names", bytes)?;
    let names = names.names.into_iter();
    names.map(|name| Ok((name.name, array("name fingerprint", &name.fingerprint).map(Fingerprint)?))).collect()
}

/// The serialized form of [`names_from_bytes`].
pub fn names_to_bytes(names: &BTreeMap<String, Fingerprint>) -> Vec<u8> {
    let name = |(name, fingerprint): (&String, &Fingerprint)| pb::Name {
        name: name.clone(),
        fingerprint: fingerprint.0.to_vec(),
    };
    pb::Names { names: names.iter().map(name).collect() }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_comes_back_as_written() {
        let record = ProfileRecord { newest: None, told: 7 };
        assert_eq!(ProfileRecord::from_bytes(&record.to_bytes()), Ok(record));
        let names: BTreeMap<_, _> =
            [("bob".to_owned(), Fingerprint([1; 32])), ("c%2Cd".to_owned(), Fingerprint([2; 32]))].into();
        assert_eq!(names_from_bytes(&names_to_bytes(&names)), Ok(names));
    }

    #[test]
    fn a_profile_that_nobody_signed_is_refused() {
        let record = pb::ProfileRecord { newest: vec![1, 2, 3], told: 0 };
        assert!(ProfileRecord::from_bytes(&record.encode_to_vec()).is_err());
    }
}
