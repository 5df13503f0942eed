//! What the lower floors' errors mean to the person at the command line: which exit code, and which two sentences.

use std::fmt;

use crate::app::failure::{Exit, Failure};
use crate::client::contacts::ContactFault;
use crate::client::people::WhoFault;
use crate::client::state::StateError;
use crate::disk::atomic::AtomicError;
use crate::disk::open::OpenError;

/// The exit code of a file that could not be read.
pub(in crate::app) fn open_exit(error: &OpenError) -> Exit {
    match error {
        OpenError::Absent => Exit::NoInput,
        OpenError::Unreadable => Exit::NoPermission,
        OpenError::Symlink | OpenError::NotRegular(_) | OpenError::TooLarge { .. } => Exit::Data,
        OpenError::Io(_) => Exit::Io,
    }
}

/// A write that failed.
pub(in crate::app) fn disk(doing: impl Into<String>, error: &AtomicError) -> Failure {
    const REMEDY: &str = "Check that the disk has room and that the directory is yours; nothing was left half done.";
    match error {
        AtomicError::AlreadyExists { .. } => Failure::new(Exit::CannotCreate, doing, error, REMEDY),
        AtomicError::Io { cause, .. } => {
            let exit = Failure::io("", cause, "").exit();
            // What is missing where we write is not an input.
            let exit = if exit == Exit::NoInput { Exit::CannotCreate } else { exit };
            Failure::new(exit, doing, error, REMEDY)
        }
    }
}

/// A file of the account that cannot be read.
pub(in crate::app) fn state(doing: impl Into<String>, error: &StateError) -> Failure {
    let (exit, remedy) = match error {
        StateError::Io { source, .. } => (Failure::io("", source, "").exit(), "Check that the directory is yours."),
        StateError::Open { source, .. } => (open_exit(source), "Check that the directory is yours."),
        StateError::Malformed { .. } => (Exit::Config, "Restore the file from a backup."),
    };
    Failure::new(exit, doing, error, remedy)
}

/// A name that means nobody, or the wrong one.
pub(in crate::app) fn who(doing: impl Into<String>, fault: &WhoFault) -> Failure {
    two_sentences(Exit::NoUser, doing, fault)
}

/// A card that cannot be a contact.
pub(in crate::app) fn contact(doing: impl Into<String>, fault: &ContactFault) -> Failure {
    let exit = match fault {
        ContactFault::BadCard(_) | ContactFault::OwnCard | ContactFault::NotText | ContactFault::NoSuffix => Exit::Data,
        ContactFault::OwnName(_) | ContactFault::Blocked(_) => Exit::NoUser,
        ContactFault::Busy => Exit::TemporaryFailure,
        ContactFault::Unreadable(error) => open_exit(error),
    };
    two_sentences(exit, doing, fault)
}

/// The client's faults are written for `.error` files: a line on what is wrong, a line on what to do.
pub(in crate::app) fn two_sentences(exit: Exit, doing: impl Into<String>, fault: &impl fmt::Display) -> Failure {
    let (cause, remedy) = behind_a_colon(&fault.to_string());
    Failure::new(exit, doing, cause, remedy)
}

/// The first line of such a text as it stands behind a colon, and the lines after it as one.
pub(super) fn behind_a_colon(text: &str) -> (String, String) {
    let (cause, remedy) = text.split_once('\n').unwrap_or((text, ""));
    let mut letters = cause.trim_end_matches('.').chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    (first.into_iter().chain(letters).collect(), remedy.trim_end().replace('\n', " "))
}
