//! Everybody we know of, and what they are called here: contacts by their local names, ourselves by our own, and those
//! we only meet in conversations as `NAME~FINGERPRINT8` (design, section 2).

use std::collections::{HashMap, HashSet};

use thiserror::Error;

use super::contacts::Contacts;
use crate::name;
use crate::wire::identity::Fingerprint;
use crate::wire::profile::SignedProfile;

/// How many digits of a fingerprint stand in a name at least.
const SHORT_DIGITS: usize = 8;

/// Names and profiles.
#[derive(Debug)]
pub struct People {
    own: SignedProfile,
    contacts: Contacts,
    blocked: Contacts,
    /// Whoever was introduced in a conversation.
    introduced: HashMap<Fingerprint, Introduced>,
    /// Their names, so that no two have the same.
    taken: HashSet<String>,
}

#[derive(Debug)]
struct Introduced {
    profile: SignedProfile,
    /// It came from its owner.
    is_owners_word: bool,
    /// `NAME~FINGERPRINT8`, or longer where that was taken.
    name: String,
}

/// Nobody is meant by a name, or the wrong one.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum WhoFault {
    /// No contact has this name.
    #[error(
        "There is no contact called {0}.\nAdd the card with `chatterbox contact add {word} < CARD`, or correct the name.",
        word = name::shell_word(.0)
    )]
    Unknown(String),
    /// They are blocked.
    #[error(
        "{0} is blocked, so nothing is sent to them.\nMove their card from blocked/ to contacts/ to write to them (`chatterbox contact unblock`), or correct the name."
    )]
    Blocked(String),
    /// It is our own name.
    #[error("{0} is your own account.\nName only the others; you always take part.")]
    OwnName(String),
    /// No name at all.
    #[error("This names nobody.\nName the directory after one or several contacts, separated by commas.")]
    Nobody,
}

impl People {
    /// From our own profile, the contacts and those who are blocked; introductions are added as conversations are loaded.
    pub fn new(own: SignedProfile, contacts: Contacts, blocked: Contacts) -> Self {
        let none = Contacts::default;
        let (introduced, taken) = (HashMap::new(), HashSet::new());
        let mut people = Self { own, contacts: none(), blocked: none(), introduced, taken };
        people.replace_contacts(contacts, blocked);
        people
    }

    /// Takes newly read contacts in place of the old ones, and those who are blocked. True if anybody came or went.
    pub fn replace_contacts(&mut self, mut contacts: Contacts, blocked: Contacts) -> bool {
        contacts.leave_out(&blocked);
        let changed = !self.contacts.same_as(&contacts) || !self.blocked.same_as(&blocked);
        self.contacts = contacts;
        self.blocked = blocked;
        changed
    }

    /// Those whose cards are in `blocked/`. None of them is a contact.
    pub fn blocked(&self) -> &Contacts {
        &self.blocked
    }

    /// Whether nothing that somebody writes is to be seen.
    pub fn is_blocked(&self, fingerprint: &Fingerprint) -> bool {
        self.blocked.by_fingerprint(fingerprint).is_some()
    }

    /// Whether anybody is.
    pub fn has_blocked(&self) -> bool {
        self.blocked.iter().next().is_some()
    }

    /// The contacts.
    pub fn contacts(&self) -> &Contacts {
        &self.contacts
    }

    /// Ourselves.
    pub fn own(&self) -> &SignedProfile {
        &self.own
    }

    /// Our own fingerprint.
    pub fn own_fingerprint(&self) -> Fingerprint {
        self.own.identity().fingerprint()
    }

    /// Remembers a profile that somebody's introduction carried, of whom no other is known: what others say of somebody
    /// moves nobody's mail.
    pub fn introduce(&mut self, profile: &SignedProfile) {
        self.remember(profile);
    }

    /// Remembers a profile that its owner sent, if it is newer than what its owner said before.
    pub fn renew(&mut self, profile: &SignedProfile) {
        let known = self.remember(profile);
        if !known.is_owners_word || profile.profile().version > known.profile.profile().version {
            known.profile = profile.clone();
        }
        known.is_owners_word = true;
    }

    fn remember(&mut self, profile: &SignedProfile) -> &mut Introduced {
        let fingerprint = profile.identity().fingerprint();
        self.introduced.entry(fingerprint).or_insert_with(|| {
            let mut names = (SHORT_DIGITS..=64).step_by(8).map(|digits| stranger_name(profile, &fingerprint, digits));
            let name = names.find(|name| self.taken.insert(name.clone()));
            // Two fingerprints differ in 64 digits.
            let name = name.unwrap_or_else(|| fingerprint.to_string());
            Introduced { profile: profile.clone(), is_owners_word: false, name }
        })
    }

    /// The version of the newest profile that we have from its owner: by their card, or in a message of theirs.
    pub fn owners_version(&self, fingerprint: &Fingerprint) -> Option<u64> {
        let card = self.card(fingerprint);
        let sent = self.introduced.get(fingerprint).filter(|known| known.is_owners_word).map(|known| &known.profile);
        card.into_iter().chain(sent).map(|profile| profile.profile().version).max()
    }

    /// The newest profile we have of somebody; of a contact, only of what they have said themselves.
    pub fn profile(&self, fingerprint: &Fingerprint) -> Option<&SignedProfile> {
        if *fingerprint == self.own_fingerprint() {
            return Some(&self.own);
        }
        let card = self.card(fingerprint);
        let introduced = self.introduced.get(fingerprint).filter(|known| card.is_none() || known.is_owners_word);
        let introduced = introduced.map(|known| &known.profile);
        card.into_iter().chain(introduced).max_by_key(|profile| profile.profile().version)
    }

    /// Their card, also of somebody who is blocked: in a conversation of several they are written to.
    fn card(&self, fingerprint: &Fingerprint) -> Option<&SignedProfile> {
        let contact = self.contacts.by_fingerprint(fingerprint).or_else(|| self.blocked.by_fingerprint(fingerprint));
        contact.map(|contact| &contact.profile)
    }

    /// Whether we hold a card of somebody who is not blocked.
    pub fn is_contact(&self, fingerprint: &Fingerprint) -> bool {
        self.contacts.by_fingerprint(fingerprint).is_some()
    }

    /// What somebody is called here, escaped. Two strangers whose short forms are the same get longer ones.
    pub fn name(&self, fingerprint: &Fingerprint) -> String {
        if *fingerprint == self.own_fingerprint() {
            return self.own.profile().name.clone();
        }
        if let Some(contact) = self.contacts.by_fingerprint(fingerprint) {
            return contact.name.clone();
        }
        match (self.introduced.get(fingerprint), self.card(fingerprint)) {
            (Some(introduced), _) => introduced.name.clone(),
            (None, Some(blocked)) => stranger_name(blocked, fingerprint, SHORT_DIGITS),
            (None, None) => format!("unknown~{}", fingerprint.short(SHORT_DIGITS)),
        }
    }

    /// What the owner of a profile is called here, or would be once introduced.
    pub fn name_of(&self, profile: &SignedProfile) -> String {
        let fingerprint = profile.identity().fingerprint();
        match self.profile(&fingerprint) {
            Some(_) => self.name(&fingerprint),
            None => stranger_name(profile, &fingerprint, SHORT_DIGITS),
        }
    }

    /// The contacts that the name of an outbox directory lists, separated by commas.
    ///
    /// # Errors
    /// [`WhoFault`], for the first part that names nobody.
    pub fn listed(&self, directory: &str) -> Result<Vec<Fingerprint>, WhoFault> {
        let parts = directory.split(',').filter(|part| !part.is_empty());
        let mut fingerprints = parts.map(|part| self.contact(part)).collect::<Result<Vec<_>, _>>()?;
        if fingerprints.is_empty() {
            return Err(WhoFault::Nobody);
        }
        fingerprints.sort_unstable();
        fingerprints.dedup();
        Ok(fingerprints)
    }

    /// The contact that a name means.
    ///
    /// # Errors
    /// [`WhoFault::Unknown`], [`WhoFault::OwnName`].
    pub fn contact(&self, wanted: &str) -> Result<Fingerprint, WhoFault> {
        if let Some(contact) = self.contacts.by_name(wanted) {
            return Ok(contact.profile.identity().fingerprint());
        }
        if wanted == self.own.profile().name {
            return Err(WhoFault::OwnName(wanted.to_owned()));
        }
        if self.contacts.has_left_out(wanted) || self.blocked.by_name(wanted).is_some() {
            return Err(WhoFault::Blocked(shown(wanted)));
        }
        Err(WhoFault::Unknown(shown(wanted)))
    }

    /// Somebody as `metadata.toml` names them: a contact, ourselves, or a stranger by the name shown here.
    ///
    /// # Errors
    /// [`WhoFault::Unknown`].
    pub fn participant(&self, wanted: &str) -> Result<Fingerprint, WhoFault> {
        match self.contact(wanted) {
            Ok(fingerprint) => Ok(fingerprint),
            Err(WhoFault::OwnName(_)) => Ok(self.own_fingerprint()),
            Err(fault) => {
                let mut known = self.introduced.iter();
                known.find(|(_, introduced)| introduced.name == wanted).map(|(found, _)| *found).ok_or(fault)
            }
        }
    }
}

fn stranger_name(profile: &SignedProfile, fingerprint: &Fingerprint, digits: usize) -> String {
    name::escape(format!("{}~{}", profile.profile().name, fingerprint.short(digits)).as_bytes())
}

/// A name as it may stand in a text for people: nothing in it steers a terminal or begins another line.
fn shown(name: &str) -> String {
    match name.chars().any(|character| name::is_unsafe(character) && !matches!(character, '/' | '%' | ',')) {
        true => name::escape(name.as_bytes()),
        false => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::dh::PublicKey;
    use crate::crypto::secret::Secret;
    use crate::crypto::sign::SigningKey;
    use crate::wire::address::ServerAddress;
    use crate::wire::identity::{AccountId, Identity};
    use crate::wire::profile::Profile;

    fn profile(name: &str, key: u8, version: u64) -> SignedProfile {
        let key = SigningKey::from_secret(&Secret::new([key; 32]));
        let profile = Profile {
            name: name.into(),
            server: ServerAddress::new("127.0.0.1", 1984, PublicKey([2; 32])).unwrap(),
            account: AccountId(PublicKey([3; 32])),
            identity: Identity { signing: key.verifying_key(), auth: PublicKey([4; 32]) },
            version,
        };
        SignedProfile::sign(profile, &key).unwrap()
    }

    #[test]
    fn strangers_are_named_by_fingerprint_and_known_by_their_newest_profile() {
        let mut people = People::new(profile("alice", 1, 1), Contacts::default(), Contacts::default());
        let bob = profile("bob", 2, 3);
        let fingerprint = bob.identity().fingerprint();
        people.introduce(&bob);
        people.introduce(&profile("bob", 2, 9));
        assert_eq!(people.profile(&fingerprint), Some(&bob), "what others say moves nobody");
        people.renew(&profile("bob", 2, 2));
        assert_eq!(people.owners_version(&fingerprint), Some(2), "their own word counts, whatever others said");
        people.renew(&bob);
        people.renew(&profile("bob", 2, 1));
        assert_eq!(people.name(&fingerprint), format!("bob~{}", fingerprint.short(8)));
        assert_eq!(people.profile(&fingerprint), Some(&bob));
        assert_eq!(people.participant(&people.name(&fingerprint)), Ok(fingerprint));
        assert_eq!(people.contact("bob"), Err(WhoFault::Unknown("bob".into())));
        assert_eq!(people.name(&people.own_fingerprint()), "alice");
    }

    #[test]
    fn a_name_that_is_taken_gets_longer() {
        let mut people = People::new(profile("alice", 1, 1), Contacts::default(), Contacts::default());
        let bob = profile("bob", 2, 1);
        let fingerprint = bob.identity().fingerprint();
        people.taken.insert(format!("bob~{}", fingerprint.short(8)));
        people.introduce(&bob);
        assert_eq!(people.name(&fingerprint), format!("bob~{}", fingerprint.short(16)));
    }
}
