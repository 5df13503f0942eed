//! `blocked/NAME.card`: those who are to be heard no more. A card that is moved there, from `contacts/` or out of a
//! request, blocks its owner; moved away again, it does not.
//!
//! What somebody blocked writes is opened and dropped once its author is certain (the judgement between authentication and commit): no message, no request, no
//! alert comes of it, and nothing is answered. They cannot tell that from a person who does not write back.

use std::io;
use std::path::Path;

use super::contacts::{self, Contact, ContactFault, Contacts};
use super::root::Root;
use crate::disk::system::Disk;
use crate::wire::profile::SignedProfile;

/// Where the cards are, relative to the root.
pub const DIRECTORY: &str = "blocked";

/// Reads the directory, and of it only the files that are not as they were `before`. One that is missing blocks nobody.
///
/// # Errors
/// Only if the directory itself cannot be read.
pub fn load(root: &Root, own: &SignedProfile, before: &Contacts) -> io::Result<Contacts> {
    match Contacts::load_from(DIRECTORY, root, before, |path, name| read(root.disk(), path, name, own)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Contacts::default()),
        result => result,
    }
}

/// Anybody may be blocked under any name, also under ours: strangers call themselves what they like.
fn read(disk: &dyn Disk, path: &Path, name: &str, own: &SignedProfile) -> Result<Contact, ContactFault> {
    let profile = contacts::read_profile(disk, path)?;
    match profile.identity() == own.identity() {
        true => Err(ContactFault::OwnCard),
        false => Ok(Contact { name: name.to_owned(), profile }),
    }
}
