//! Contacts: `contacts/NAME.card`, one line of text each (design, section 2). A contact's name is local: whatever its
//! file is called. `blocked/` holds the same files, of those who are to be heard no more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::error_file;
use super::root::Root;
use crate::disk::lease::LeaseRefused;
use crate::disk::open::{self, FileIdentity, OpenError};
use crate::disk::system::Disk;
use crate::limits::CARD_FILE_BYTES_MAX;
use crate::name;
use crate::wire::Malformed;
use crate::wire::identity::Fingerprint;
use crate::wire::profile::SignedProfile;

/// The ending of a card's file.
pub const SUFFIX: &str = ".card";

/// Where the cards of contacts are, relative to the root.
pub const DIRECTORY: &str = "contacts";

/// A stranger's card in their request, `requests/NAME~FINGERPRINT8/card`.
pub const REQUEST_CARD: &str = "card";

/// Somebody whose card we hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Contact {
    /// The local name, escaped: how it stands in the names of directories and files.
    pub name: String,
    /// The card.
    pub profile: SignedProfile,
}

/// Why a file in `contacts/` is no contact.
#[derive(Debug, Error)]
pub enum ContactFault {
    /// The card is damaged.
    #[error("This is not a good card: {0}.\nAsk its owner for the card again and copy it whole.")]
    BadCard(#[from] Malformed),
    /// Our own card.
    #[error("This is your own card.\nAsk the other person for theirs (`chatterbox card` prints it).")]
    OwnCard,
    /// Our own account has this name.
    #[error(
        "Your own account is called {0}, so a contact cannot be.\nRename the file: the file's name is the name you use for the contact."
    )]
    OwnName(String),
    /// The file cannot be read.
    #[error("The card cannot be read: {0}.\nPut a plain file of one line here.")]
    Unreadable(#[from] OpenError),
    /// The same identity is in `blocked/`, under this name.
    #[error(
        "This is somebody you have blocked: blocked/{0}.card is of the same identity, and that counts.\nRemove one of the two: this one, or blocked/{0}.card if you want to hear from them."
    )]
    Blocked(String),
    /// Its name does not say that it is a card.
    #[error(
        "A card's file is called NAME.card, and this one is not.\nRename it: what stands before .card is the name you use for the contact."
    )]
    NoSuffix,
    /// Somebody is writing it; it is read when they are done.
    #[error("The card is being written.\nTry again when that is done.")]
    Busy,
    /// The file is no text.
    #[error("This is not a card: it is not text.\nA card is one line that starts with chatterbox:")]
    NotText,
}

/// All contacts, by their escaped local names.
#[derive(Debug, Default)]
pub struct Contacts {
    by_name: BTreeMap<String, Contact>,
    /// The file of each name, as it was read.
    files: HashMap<String, FileIdentity>,
    /// The first name of each identity.
    names: HashMap<Fingerprint, String>,
    faults: Vec<(OsString, ContactFault)>,
}

impl Contacts {
    /// Reads the directory, and of it only the files that are not as they were `before`. A file that is no contact becomes a fault of its own and bothers no other.
    ///
    /// # Errors
    /// Only if the directory itself cannot be read.
    pub fn load(root: &Root, own: &SignedProfile, before: &Self) -> io::Result<Self> {
        Self::load_from(DIRECTORY, root, before, |path, name| read(root.disk(), path, name, own))
    }

    /// The same of another directory of cards, relative to the root.
    pub(super) fn load_from(
        directory: &str,
        root: &Root,
        before: &Self,
        read: impl Fn(&Path, &str) -> Result<Contact, ContactFault>,
    ) -> io::Result<Self> {
        let mut contacts = Self::default();
        let directory = root.join(directory);
        for file in root.disk().entries(&directory)?.into_iter().map(|entry| entry.name) {
            if name::is_ignored(&file) {
                continue;
            }
            let Some(stem) = file.as_bytes().strip_suffix(SUFFIX.as_bytes()) else {
                contacts.faults.push((file, ContactFault::NoSuffix));
                continue;
            };
            if stem.is_empty() || stem.starts_with(b".") {
                continue;
            }
            let name = name::escape(stem);
            let path = directory.join(&file);
            let identity = open::RegularFile::open(root.disk(), &path).ok().and_then(|opened| opened.identity().ok());
            let unchanged = identity.is_some() && before.files.get(&name).copied() == identity;
            let known = before.by_name.get(&name).filter(|_| unchanged).cloned();
            match known.map_or_else(|| read(&path, &name), Ok) {
                Ok(contact) => {
                    contacts.files.extend(identity.map(|identity| (name, identity)));
                    contacts.by_name.insert(contact.name.clone(), contact);
                }
                Err(ContactFault::Busy) => {}
                Err(fault) => contacts.faults.push((file, fault)),
            }
        }
        contacts.note_names();
        Ok(contacts)
    }

    fn note_names(&mut self) {
        self.names.clear();
        for contact in self.by_name.values() {
            let fingerprint = contact.profile.identity().fingerprint();
            self.names.entry(fingerprint).or_insert_with(|| contact.name.clone());
        }
    }

    /// Who is blocked is no contact: their cards become faults.
    pub(super) fn leave_out(&mut self, blocked: &Self) {
        let is_blocked = |_: &String, contact: &mut Contact| blocked.names.contains_key(&fingerprint(contact));
        let left_out: Vec<(String, Contact)> = self.by_name.extract_if(.., is_blocked).collect();
        for (name, contact) in left_out {
            let by = blocked.names.get(&fingerprint(&contact)).cloned().unwrap_or_default();
            let file = [name::unescape(&name), SUFFIX.as_bytes().to_vec()].concat();
            self.faults.push((OsString::from_vec(file), ContactFault::Blocked(by)));
        }
        self.note_names();
    }

    /// Whether a file would be the contact of this name, were they not blocked.
    pub(super) fn has_left_out(&self, wanted: &str) -> bool {
        let is_it = |file: &OsString| {
            let stem = file.as_bytes().strip_suffix(SUFFIX.as_bytes());
            stem.is_some_and(|stem| stem == wanted.as_bytes() || name::escape(stem) == wanted)
        };
        self.faults.iter().any(|(file, fault)| matches!(fault, ContactFault::Blocked(_)) && is_it(file))
    }

    /// The contact of an escaped local name, or of the name as a person would type it.
    pub fn by_name(&self, wanted: &str) -> Option<&Contact> {
        self.by_name.get(wanted).or_else(|| self.by_name.get(&name::escape(wanted.as_bytes())))
    }

    /// The contact with this identity; the first name where it has several.
    pub fn by_fingerprint(&self, fingerprint: &Fingerprint) -> Option<&Contact> {
        self.by_name.get(self.names.get(fingerprint)?)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Contact> {
        self.by_name.values()
    }

    /// Whether both hold the same cards under the same names.
    pub fn same_as(&self, other: &Self) -> bool {
        self.by_name == other.by_name
    }

    /// Puts an `.error` beside every file that is no contact, and removes those whose cause is gone. `directory` is where
    /// they were read, relative to the root.
    pub fn write_errors(&self, root: &Root, directory: &str) {
        let all = root.join(directory);
        let wanted: HashMap<PathBuf, &ContactFault> =
            self.faults.iter().map(|(file, fault)| (all.join(file), fault)).collect();
        let beside: HashSet<PathBuf> = wanted.keys().map(|target| error_file::beside(target)).collect();
        for name in root.names(directory) {
            let path = all.join(&name);
            if name.as_bytes().ends_with(b".error") && !beside.contains(&path) {
                error_file::remove(root, &path);
            }
        }
        for (target, fault) in wanted {
            let text = fault.to_string();
            let there = error_file::text(root, &target).unwrap_or_default();
            if !there.starts_with(&text) {
                error_file::write(root, &target, &text);
            }
        }
    }

    /// Files that are no contacts, and why.
    pub fn faults(&self) -> &[(OsString, ContactFault)] {
        &self.faults
    }
}

/// Reads one card and checks that it may be a contact called `name`.
///
/// # Errors
/// [`ContactFault`].
pub fn read(disk: &dyn Disk, path: &Path, name: &str, own: &SignedProfile) -> Result<Contact, ContactFault> {
    check(name, read_profile(disk, path)?, own)
}

/// Reads one card.
///
/// # Errors
/// [`ContactFault`].
pub(super) fn read_profile(disk: &dyn Disk, path: &Path) -> Result<SignedProfile, ContactFault> {
    let opened = open::RegularFile::open(disk, path)?;
    if matches!(opened.take_lease(), Err(LeaseRefused::Busy)) {
        return Err(ContactFault::Busy);
    }
    let bytes = opened.read(CARD_FILE_BYTES_MAX)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| ContactFault::NotText)?;
    Ok(text.parse()?)
}

fn fingerprint(contact: &Contact) -> Fingerprint {
    contact.profile.identity().fingerprint()
}

/// Whether `profile` may be a contact called `name` (escaped).
///
/// # Errors
/// [`ContactFault::OwnCard`], [`ContactFault::OwnName`].
pub fn check(name: &str, profile: SignedProfile, own: &SignedProfile) -> Result<Contact, ContactFault> {
    if profile.identity() == own.identity() {
        return Err(ContactFault::OwnCard);
    }
    if name == own.profile().name {
        return Err(ContactFault::OwnName(name.to_owned()));
    }
    Ok(Contact { name: name.to_owned(), profile })
}
