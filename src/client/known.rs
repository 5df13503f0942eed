//! What we remember of other people's identities: the newest profile that each sent us, which version of ours each was
//! sent, and who was last seen under each contact's name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use super::contacts::Contacts;
use super::root::{self, Root};
use super::state::{self, StateError};
use crate::limits::{KEPT_PROFILES_MAX, REMEMBERED_NAMES_MAX};
use crate::wire::identity::Fingerprint;
use crate::wire::known::{ProfileRecord, names_from_bytes, names_to_bytes};
use crate::wire::profile::SignedProfile;

/// Whoever has a profile of ours has this version at least: it is the one that an account begins with.
const FIRST_VERSION: u64 = 1;

/// All of it.
#[derive(Debug, Default)]
pub struct Known {
    records: HashMap<Fingerprint, ProfileRecord>,
    /// Records that changed since they were last taken.
    dirty: BTreeSet<Fingerprint>,
    /// Who was last seen under a contact's name, escaped.
    names: BTreeMap<String, Fingerprint>,
    names_changed: bool,
}

/// A name under which other keys stand than before.
#[derive(Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The contact's name, escaped.
    pub name: String,
    /// Whose it was.
    pub before: Fingerprint,
    /// Whose it is.
    pub now: Fingerprint,
}

impl Known {
    /// Reads `keys/profiles/` and `keys/names`.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(root: &Root) -> Result<Self, StateError> {
        let mut known = Self::default();
        for (path, name) in state::files(root.disk(), &root.join("keys/profiles"))? {
            let Some(peer) = Fingerprint::from_hex(&name) else { continue };
            let record = ProfileRecord::from_bytes(&state::read(root.disk(), &path)?)
                .map_err(|error| StateError::malformed(&path, error))?;
            known.records.insert(peer, record);
        }
        let path = root.join(root::names_file());
        if root.disk().stat(&path).is_ok() {
            known.names = names_from_bytes(&state::read(root.disk(), &path)?)
                .map_err(|error| StateError::malformed(&path, error))?;
        }
        Ok(known)
    }

    /// The profiles that others sent us.
    pub fn profiles(&self) -> impl Iterator<Item = &SignedProfile> {
        self.records.values().filter_map(|record| record.newest.as_ref())
    }

    /// Keeps a profile in place of an older one. False where that is one too many: contacts are always kept, as many as
    /// a person likes, and of others a bounded number.
    pub fn keep(&mut self, profile: &SignedProfile, is_contact: bool) -> bool {
        let peer = profile.identity().fingerprint();
        let has_one = self.records.get(&peer).is_some_and(|record| record.newest.is_some());
        if !is_contact && !has_one && self.profiles().count() >= KEPT_PROFILES_MAX {
            return false;
        }
        self.records.entry(peer).or_default().newest = Some(profile.clone());
        self.dirty.insert(peer);
        true
    }

    /// The version of our profile that a peer has, or is about to get, at least.
    pub fn told(&self, peer: &Fingerprint) -> u64 {
        self.records.get(peer).map_or(FIRST_VERSION, |record| record.told.max(FIRST_VERSION))
    }

    /// A version of our profile is on its way to a peer.
    pub fn tell(&mut self, peer: &Fingerprint, version: u64) {
        if version > self.told(peer) {
            self.records.entry(*peer).or_default().told = version;
            self.dirty.insert(*peer);
        }
    }

    /// A peer has lost state, and perhaps our profile with it.
    pub fn forget_told(&mut self, peer: &Fingerprint) {
        if let Some(record) = self.records.get_mut(peer).filter(|record| record.told > FIRST_VERSION) {
            record.told = FIRST_VERSION;
            self.dirty.insert(*peer);
        }
    }

    /// Remembers who stands under which name, and tells where that is somebody else than before. A name is remembered
    /// also when its card is gone: what comes in its place is compared with the last one. Beyond the bound those go that
    /// no contact has any more, and then no more are remembered.
    pub fn see(&mut self, contacts: &Contacts) -> Vec<Renewed> {
        let unseen = contacts.iter().filter(|contact| !self.names.contains_key(&contact.name)).count();
        if self.names.len() + unseen > REMEMBERED_NAMES_MAX {
            self.names.retain(|name, _| contacts.by_name(name).is_some());
        }
        let mut renewed = Vec::new();
        for contact in contacts.iter() {
            let now = contact.profile.identity().fingerprint();
            let before = self.names.get(&contact.name).copied();
            if before == Some(now) || (before.is_none() && self.names.len() >= REMEMBERED_NAMES_MAX) {
                continue;
            }
            self.names.insert(contact.name.clone(), now);
            self.names_changed = true;
            renewed.extend(before.map(|before| Renewed { name: contact.name.clone(), before, now }));
        }
        renewed
    }

    /// The files that changed since this was last asked, with their new content.
    pub fn take_dirty(&mut self) -> Vec<(PathBuf, Vec<u8>)> {
        let dirty = std::mem::take(&mut self.dirty);
        let content = |peer: Fingerprint| {
            let record = self.records.get(&peer)?;
            Some((root::profile_file(&peer), record.to_bytes()))
        };
        let mut files: Vec<_> = dirty.into_iter().filter_map(content).collect();
        if std::mem::take(&mut self.names_changed) {
            files.push((root::names_file(), names_to_bytes(&self.names)));
        }
        files
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::Account;
    use super::super::contacts::SUFFIX;
    use super::*;
    use crate::crypto::dh::SecretKey;
    use crate::wire::address::ServerAddress;
    use rand_core::OsRng;
    use std::fs;
    use std::path::Path;

    fn account(directory: &Path, name: &str) -> (Root, Account) {
        let root = Root::new(directory.join(name));
        let server = ServerAddress::new("localhost", 1, SecretKey::random(&mut OsRng).public()).unwrap();
        let account = Account::create(&root, name, server, "", &mut OsRng).unwrap();
        (root, account)
    }

    /// Writes what changed, and reads it all again.
    fn reload(root: &Root, known: &mut Known) -> Known {
        for (path, bytes) in known.take_dirty() {
            fs::write(root.join(path), bytes).unwrap();
        }
        Known::load(root).unwrap()
    }

    #[test]
    fn what_a_peer_was_told_only_rises_until_they_lose_it() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, _) = account(scratch.path(), "alice");
        let bob = Fingerprint([7; 32]);
        let mut known = Known::default();
        known.tell(&bob, FIRST_VERSION);
        assert!(known.take_dirty().is_empty(), "who was told nothing new costs no file");
        known.tell(&bob, 5);
        known.tell(&bob, 4);
        let mut known = reload(&root, &mut known);
        assert_eq!(known.told(&bob), 5);
        known.forget_told(&bob);
        assert_eq!(reload(&root, &mut known).told(&bob), FIRST_VERSION);
    }

    #[test]
    fn kept_profiles_come_back_and_of_no_contacts_there_is_a_bounded_number() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, _) = account(scratch.path(), "alice");
        let (_, bob) = account(scratch.path(), "bob");
        let (_, carol) = account(scratch.path(), "carol");
        let mut known = Known::default();
        assert!(known.keep(&bob.profile, false));
        let mut known = reload(&root, &mut known);
        assert_eq!(known.profiles().collect::<Vec<_>>(), [&bob.profile]);
        for number in 1..KEPT_PROFILES_MAX {
            let mut peer = [0; 32];
            peer[..8].copy_from_slice(&number.to_le_bytes());
            let record = ProfileRecord { newest: Some(bob.profile.clone()), told: 0 };
            known.records.insert(Fingerprint(peer), record);
        }
        assert!(!known.keep(&carol.profile, false));
        assert!(known.keep(&bob.profile, false), "a newer one takes no more room");
        assert!(known.keep(&carol.profile, true));
    }

    #[test]
    fn names_are_remembered_without_their_cards_and_the_bound_drops_those_first() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, alice) = account(scratch.path(), "alice");
        let [(_, bob), (_, other)] = ["bob", "other"].map(|name| account(scratch.path(), name));
        let card = |name: &str| root.contacts().join(format!("{name}{SUFFIX}"));
        let contacts = || Contacts::load(&root, &alice.profile, &Contacts::default()).unwrap();
        let fingerprint = |account: &Account| account.profile.identity().fingerprint();
        let mut known = Known::default();
        fs::write(card("bob"), bob.profile.to_string()).unwrap();
        assert_eq!(known.see(&contacts()), []);
        fs::remove_file(card("bob")).unwrap();
        assert_eq!(known.see(&contacts()), []);
        let mut known = reload(&root, &mut known);
        fs::write(card("bob"), other.profile.to_string()).unwrap();
        let renewed = Renewed { name: "bob".into(), before: fingerprint(&bob), now: fingerprint(&other) };
        assert_eq!(known.see(&contacts()), [renewed]);
        assert_eq!(known.see(&contacts()), [], "once");
        for number in known.names.len()..REMEMBERED_NAMES_MAX {
            known.names.insert(format!("gone {number}"), fingerprint(&bob));
        }
        fs::write(card("one more"), bob.profile.to_string()).unwrap();
        assert_eq!(known.see(&contacts()), []);
        assert_eq!(known.names.keys().collect::<Vec<_>>(), ["bob", "one more"]);
    }
}
