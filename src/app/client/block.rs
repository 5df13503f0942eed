//! `chatterbox contact block` and `unblock`: cards that move to `blocked/` and back.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use super::causes;
use super::context::Context;
use super::conversations::{self, Directory};
use super::output::{self, Output};
use crate::app::failure::{Exit, Failure};
use crate::client::contacts::{Contact, SUFFIX};
use crate::client::people::WhoFault;
use crate::disk::atomic::{self, AtomicError};
use crate::disk::real::RealDisk;
use crate::disk::system::Disk as _;
use crate::name;
use crate::name::NAME_TRIES_MAX;
use crate::wire::identity::Fingerprint;

const REMEDY: &str = "Check that contacts/ and blocked/ are yours.";

/// Blocks a contact.
pub(super) fn block(context: &Context, name: &str, output: &mut Output) -> Result<(), Failure> {
    let shown = output::safe(name).into_owned();
    let doing = format!("blocking contact {shown}");
    let has_been = context.people.blocked().by_name(name).filter(|_| context.people.contacts().by_name(name).is_none());
    let contact = match has_been {
        Some(contact) => contact,
        None => {
            let contact = context.contact(&doing, name)?;
            add(context, &doing, &context.card_file(&contact.name), contact)?;
            contact
        }
    };
    let same = |other: &&Contact| other.profile.identity() == contact.profile.identity() && other.name != contact.name;
    if let Some(other) = context.people.contacts().iter().find(same) {
        output::note(format!(
            "note: they are your contact {} as well, and blocked all the same",
            output::safe(&other.name)
        ));
    }
    match has_been {
        Some(_) => output.text(&format!("{shown} is blocked already\n")),
        None => output.text(&format!("blocked {shown}\n")),
    }
}

/// Moves a card to `blocked/`, under a name that is free.
pub(super) fn add(context: &Context, doing: &str, card: &Path, contact: &Contact) -> Result<(), Failure> {
    let blocked = context.root.blocked();
    atomic::make_private_directory(&RealDisk, &blocked).map_err(|error| causes::disk(doing, &error))?;
    for number in 1..=NAME_TRIES_MAX {
        let file = blocked.join(file_name(&name::numbered_directory(&contact.name, number)));
        match RealDisk.rename_new(card, &file) {
            Ok(()) => return sync(doing, &[&blocked, card.parent().unwrap_or(card)]),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::io(doing, &error, REMEDY)),
        }
    }
    let cause = format!("{NAME_TRIES_MAX} names like {} are taken in blocked/", output::safe(&contact.name));
    Err(Failure::new(Exit::CannotCreate, doing, cause, "Tidy the directory blocked/ up."))
}

/// Gives somebody blocked their place among the contacts back or, with `remove`, forgets them.
pub(super) fn unblock(context: &Context, name: &str, remove: bool, output: &mut Output) -> Result<(), Failure> {
    let shown = output::safe(name).into_owned();
    let doing = format!("unblocking {shown}");
    let Some(contact) = context.people.blocked().by_name(name) else {
        let cause = format!("nobody called {shown} is blocked");
        return Err(Failure::new(Exit::NoUser, doing, cause, "See `chatterbox contact list`."));
    };
    let blocked = context.root.blocked();
    let card = blocked.join(file_name(&contact.name));
    if remove {
        RealDisk.unlink(&card).map_err(|error| Failure::io(&*doing, &error, REMEDY))?;
        sync(&doing, &[&blocked])?;
        note_conversations(context, &shown, &contact.profile.identity().fingerprint());
        return output.text(&format!("unblocked {shown}; they are a stranger now\n"));
    }
    if contact.name == context.people.own().profile().name {
        return Err(causes::who(doing, &WhoFault::OwnName(shown)));
    }
    match RealDisk.rename_new(&card, &context.card_file(&contact.name)) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let cause = format!("contacts/ has a card called {shown}");
            let remedy = "Rename one of the two, or forget this one: `chatterbox contact unblock --remove`.";
            return Err(Failure::new(Exit::CannotCreate, doing, cause, remedy));
        }
        Err(error) => return Err(Failure::io(doing, &error, REMEDY)),
    }
    sync(&doing, &[&context.root.contacts(), &blocked])?;
    output.text(&format!("unblocked {shown}; they are a contact now\n"))
}

/// Says where somebody who is a stranger now can write all the same. What cannot be read hinders nobody from becoming one.
pub(super) fn note_conversations(context: &Context, shown: &str, who: &Fingerprint) {
    let has =
        |directory: &&Directory| directory.others(&context.people).iter().any(|(_, other)| other.as_ref() == Some(who));
    let count = conversations::conversations(context).map_or(0, |all| all.iter().filter(has).count());
    if count > 0 {
        let few = if count == 1 { "a conversation".to_owned() } else { format!("{count} conversations") };
        output::note(format!(
            "note: {shown} takes part in {few} that you have: they can still write there, and what you put into its directory in \
             outbox/ still goes to them; to hear nothing more of them, add the card again and `chatterbox contact block {shown}`"
        ));
    }
}

fn file_name(name: &str) -> OsString {
    let mut file = name::unescape(name);
    file.extend_from_slice(SUFFIX.as_bytes());
    OsString::from_vec(file)
}

/// A request that a card was moved out of may be gone by now: chatterboxd was quick.
pub(super) fn sync(doing: &str, directories: &[&Path]) -> Result<(), Failure> {
    let mut directories = directories.iter();
    directories.try_for_each(|directory| match atomic::sync_directory(&RealDisk, directory) {
        Err(AtomicError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => Ok(()),
        result => result.map_err(|error| causes::disk(doing, &error)),
    })
}
