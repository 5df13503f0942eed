//! What a person made or keeps: settings, keys, profile, contacts.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::checkup::{Checkup, READABLE};
use crate::app::client::causes;
use crate::app::settings::Settings;
use crate::client::account::{self, Account};
use crate::client::blocked;
use crate::client::contacts::{self, ContactFault, Contacts};
use crate::client::people::People;
use crate::client::root::Root;
use crate::client::state::StateError;
use crate::disk::open::OpenError;

/// Hands out the contacts and those who are blocked, if it can be said who is one.
pub(super) fn check(checkup: &mut Checkup<'_>) -> Option<People> {
    check_settings(checkup);
    check_keys(checkup);
    let own = account::load_profile(checkup.root);
    let own = own.map_err(|error| say(checkup, &error)).ok()?;
    let contacts = cards(checkup, contacts::DIRECTORY, |root| Contacts::load(root, &own, &Contacts::default()));
    let blocked = cards(checkup, blocked::DIRECTORY, |root| blocked::load(root, &own, &Contacts::default()));
    let (contacts, blocked) = (contacts?, blocked?);
    let people = People::new(own, contacts, blocked);
    say_faults(checkup, contacts::DIRECTORY, people.contacts());
    say_faults(checkup, blocked::DIRECTORY, people.blocked());
    Some(people)
}

fn check_settings(checkup: &mut Checkup<'_>) {
    if let Err(error) = Settings::load(checkup.root) {
        let remedy = "Correct that line, or remove it: each setting has a default.";
        checkup.error("settings", Path::new("chatterbox.toml"), error.fault.to_string(), remedy);
    }
}

/// The secret half. What is wrong with the public one alone is said where that is read.
fn check_keys(checkup: &mut Checkup<'_>) {
    let Err(error) = Account::load(checkup.root) else { return };
    if account::load_profile(checkup.root).is_ok() || path_of(&error) == checkup.root.config() {
        say(checkup, &error);
    }
}

fn path_of(error: &StateError) -> &Path {
    match error {
        StateError::Io { path, .. } | StateError::Open { path, .. } | StateError::Malformed { path, .. } => path,
    }
}

fn say(checkup: &mut Checkup<'_>, error: &StateError) {
    let problem = match error {
        StateError::Io { source, .. } => source.to_string(),
        StateError::Open { source, .. } => source.to_string(),
        StateError::Malformed { source, .. } => source.to_string(),
    };
    let path = path_of(error).strip_prefix(checkup.root.path()).unwrap_or(path_of(error)).to_owned();
    let remedy = match error {
        StateError::Open { source: OpenError::Unreadable, .. } => READABLE,
        _ if path == Path::new("profile.pb") => {
            "Restore the file from a backup: it holds the same bytes as the card that you gave to others."
        }
        _ => {
            "Restore the file from a backup. Without it this account is lost: make another in another directory, and \
             give its card to your contacts."
        }
    };
    checkup.error("account", &path, problem, remedy);
}

fn cards(
    checkup: &mut Checkup<'_>,
    directory: &str,
    load: impl FnOnce(&Root) -> io::Result<Contacts>,
) -> Option<Contacts> {
    match load(checkup.root) {
        Ok(cards) => Some(cards),
        // That it is missing is said where all directories are looked at.
        Err(error) if error.kind() == ErrorKind::NotFound => Some(Contacts::default()),
        Err(error) => {
            let remedy = "Make it a directory of yours: chown, chmod u+rwx.";
            checkup.error("unreadable", Path::new(directory), error.to_string(), remedy);
            None
        }
    }
}

fn say_faults(checkup: &mut Checkup<'_>, directory: &str, cards: &Contacts) {
    for (file, fault) in cards.faults() {
        let (problem, remedy) = causes::behind_a_colon(&fault.to_string());
        let path = Path::new(directory).join(file);
        match fault {
            // Perhaps a note of a person.
            ContactFault::NoSuffix => checkup.warning("contact", &path, problem, &remedy),
            _ => checkup.error("contact", &path, problem, &remedy),
        }
    }
}
