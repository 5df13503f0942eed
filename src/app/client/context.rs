//! Which directory a command works on, and who is who in it.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::{causes, output};
use crate::app::failure::{Exit, Failure};
use crate::client::account;
use crate::client::blocked;
use crate::client::contacts::{Contact, Contacts, SUFFIX};
use crate::client::people::{People, WhoFault};
use crate::client::root::{self, Root};
use crate::client::state::{self, StateError};
use crate::disk::atomic;
use crate::disk::real::RealDisk;
use crate::name;
use crate::wire::known::ProfileRecord;
use crate::wire::profile::SignedProfile;

/// An account's directory as the command line sees it: our public half and everybody we hold a card of. The secret keys
/// stay closed.
#[derive(Debug)]
pub(super) struct Context {
    /// Where everything is.
    pub(super) root: Root,
    /// Who is who.
    pub(super) people: People,
}

impl Context {
    /// Opens an account.
    pub(super) fn open(root: Root) -> Result<Self, Failure> {
        let own = own_profile(&root)?;
        let doing = "reading the contacts";
        let contacts = match Contacts::load(&root, &own, &Contacts::default()) {
            Ok(contacts) => contacts,
            // A person removed the directory: nobody is in it.
            Err(error) if error.kind() == ErrorKind::NotFound => Contacts::default(),
            Err(error) => return Err(Failure::io(doing, &error, "Check that the directory contacts/ is yours.")),
        };
        let blocked = blocked::load(&root, &own, &Contacts::default()).map_err(|error| {
            Failure::io("reading who is blocked", &error, "Check that the directory blocked/ is yours.")
        })?;
        Ok(Self { root, people: People::new(own, contacts, blocked) })
    }

    /// The contact that a name means, as a person types it.
    pub(super) fn contact(&self, doing: &str, wanted: &str) -> Result<&Contact, Failure> {
        if let Some(contact) = self.people.contacts().by_name(wanted) {
            return Ok(contact);
        }
        let file = format!("{wanted}{SUFFIX}");
        if let Some((_, fault)) = self.people.contacts().faults().iter().find(|(faulty, _)| *faulty == *file) {
            return Err(causes::contact(format!("{doing}: reading contacts/{}", output::safe(&file)), fault));
        }
        let shown = output::safe(wanted).into_owned();
        let known = |name: &str| self.people.contacts().by_name(name).is_some();
        if wanted.contains(',') && wanted.split(',').all(known) {
            let cause = format!("there is no contact called {shown}");
            let remedy = format!("Names are separated by spaces here: {}.", shown.replace(',', " "));
            return Err(Failure::new(Exit::NoUser, doing, cause, remedy));
        }
        let fault = if wanted == self.people.own().profile().name {
            WhoFault::OwnName(shown)
        } else if self.people.blocked().by_name(wanted).is_some() {
            WhoFault::Blocked(shown)
        } else {
            WhoFault::Unknown(shown)
        };
        Err(causes::who(doing, &fault))
    }

    /// The newest profile of a contact: what the card says, or what they have sent since and the daemon has kept.
    pub(super) fn newest(&self, doing: &str, contact: &Contact) -> Result<SignedProfile, Failure> {
        let card = &contact.profile;
        let path = self.root.join(root::profile_file(&card.identity().fingerprint()));
        if self.root.disk().stat(&path).is_err() {
            return Ok(card.clone());
        }
        let record = state::read(self.root.disk(), &path)
            .and_then(|bytes| ProfileRecord::from_bytes(&bytes).map_err(|error| StateError::malformed(&path, error)));
        let sent = record.map_err(|error| causes::state(doing, &error))?.newest;
        let sent = sent.filter(|sent| sent.identity() == card.identity());
        Ok(sent.filter(|sent| sent.profile().version > card.profile().version).unwrap_or_else(|| card.clone()))
    }

    /// The contacts that names mean, sorted by name, each identity once.
    pub(super) fn contacts(&self, doing: &str, wanted: &[String]) -> Result<Vec<&Contact>, Failure> {
        let mut found: Vec<&Contact> = Vec::new();
        for name in wanted {
            let contact = self.contact(doing, name)?;
            if !found.iter().any(|other| other.profile.identity() == contact.profile.identity()) {
                found.push(contact);
            }
        }
        found.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(found)
    }

    /// Our scratch directory, made if somebody removed it.
    pub(super) fn scratch(&self, doing: &str) -> Result<PathBuf, Failure> {
        let scratch = self.root.tmp(super::PROGRAM);
        atomic::make_private_directory(&RealDisk, &scratch).map_err(|error| causes::disk(doing, &error))?;
        Ok(scratch)
    }

    /// The file of a contact's card. The way from a file's name to a local name is [`name::escape`].
    pub(super) fn card_file(&self, contact: &str) -> PathBuf {
        let mut file = name::unescape(contact);
        file.extend_from_slice(SUFFIX.as_bytes());
        self.root.contacts().join(OsString::from_vec(file))
    }
}

/// Our own profile; the secret keys only have to be there.
pub(super) fn own_profile(root: &Root) -> Result<SignedProfile, Failure> {
    let doing = format!("opening the account in {}", output::shown(root.path()));
    require(&doing, root.path(), "there is no such directory")?;
    require(&doing, &root.config(), "there is no account in it (no config.pb)")?;
    account::load_profile(root).map_err(|error| causes::state(doing, &error))
}

fn require(doing: &str, path: &Path, absent: &str) -> Result<(), Failure> {
    const REMEDY: &str = "Make an account with `chatterbox init NAME --server ADDRESS`, or name the \
                          directory that has one with --root DIR.";
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(Failure::new(Exit::NoInput, doing, absent, REMEDY))
        }
        Err(error) => Err(Failure::io(doing, &error, "Check that the directory is yours.")),
    }
}
