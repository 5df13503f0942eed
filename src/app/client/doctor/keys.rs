//! `keys/`: the daemon's state. Its files are replaced by rename, so they can be read at any time.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::checkup::{Checkup, Entry};
use crate::client::people::People;
use crate::client::root::transcript_file;
use crate::limits::STATE_FILE_BYTES_MAX;
use crate::wire::Malformed;
use crate::wire::acknowledgements::Acknowledgements;
use crate::wire::arriving::ArrivingRecord;
use crate::wire::author::AuthorRecord;
use crate::wire::conversation::ConversationRecord;
use crate::wire::counter::CounterState;
use crate::wire::dropped::DroppedFile;
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::known::{ProfileRecord, names_from_bytes};
use crate::wire::large::LargeRecord;
use crate::wire::recovery::RecoveryState;
use crate::wire::sent::SentRecord;
use crate::wire::session::sessions_from_bytes;
use crate::wire::state::prekeys_from_bytes;

const RESTORE: &str =
    "chatterboxd does not start with it. Restore the whole directory from a backup, or ask for help with this.";

/// What is kept of each envelope that was received.
const HASH_BYTES: u64 = 40;

/// What is kept of each who was told that state was lost here.
const FINGERPRINT_BYTES: u64 = 32;

/// What is kept of each recipient for whom something waits that nobody has sent.
const PLACE_BYTES: u64 = 40;

const ORPHAN: &str = "Nobody reads it. Move it away if you know it; only chatterboxd's own files belong here.";

/// What the daemon knows.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Conversations whose records can be read.
    pub(super) conversations: HashMap<ConversationId, Place>,
    /// Contacts, those who are blocked, and all who were introduced; none if that cannot be told.
    pub(super) people: Option<HashSet<Fingerprint>>,
    /// Names of the contents that arrive in parts.
    pub(super) arriving: HashSet<String>,
}

/// Where a conversation stands.
#[derive(Debug)]
pub(super) struct Place {
    /// The name of its directory when that was made.
    pub(super) directory: String,
    /// Whether it has one: else it waits in `requests/`.
    pub(super) accepted: bool,
}

pub(super) fn check(checkup: &mut Checkup<'_>, people: Option<&People>) -> Known {
    for entry in checkup.entries(Path::new("keys")) {
        match entry.text() {
            Some("prekeys") => check_parsed(checkup, &entry.path, prekeys_from_bytes),
            Some("counter") => check_parsed(checkup, &entry.path, CounterState::from_bytes),
            Some("names") => check_parsed(checkup, &entry.path, names_from_bytes),
            Some(
                "sessions" | "conversations" | "profiles" | "transcripts" | "large" | "acknowledgements" | "arriving",
            ) => {}
            Some("dropped") => check_parsed(checkup, &entry.path, DroppedFile::all_from_bytes),
            Some("unsent") => check_entries(checkup, &entry, PLACE_BYTES),
            Some("recovery") => check_parsed(checkup, &entry.path, RecoveryState::from_bytes),
            Some(name) if is_numbered(name, "received-") => check_entries(checkup, &entry, HASH_BYTES),
            Some(name) if is_numbered(name, "told-") => check_entries(checkup, &entry, FINGERPRINT_BYTES),
            Some(name) if is_numbered(name, "sent-") => check_parsed(checkup, &entry.path, SentRecord::all_from_bytes),
            _ => checkup.warning("orphan", &entry.path, "this is no file of chatterboxd", ORPHAN),
        }
    }
    for entry in checkup.entries(Path::new("keys/sessions")) {
        match entry.text().and_then(Fingerprint::from_hex) {
            Some(peer) => check_sessions(checkup, &entry.path, &peer),
            None => checkup.warning("orphan", &entry.path, "its name is no fingerprint", ORPHAN),
        }
    }
    for entry in checkup.entries(Path::new("keys/profiles")) {
        match entry.text().and_then(Fingerprint::from_hex) {
            Some(peer) => check_profile(checkup, &entry.path, &peer),
            None => checkup.warning("orphan", &entry.path, "its name is no fingerprint", ORPHAN),
        }
    }
    for entry in checkup.entries(Path::new("keys/transcripts")) {
        check_author(checkup, &entry);
    }
    for entry in checkup.entries(Path::new("keys/large")) {
        match entry.text().and_then(MessageId::from_hex) {
            Some(message) => check_large(checkup, &entry.path, &message),
            None => checkup.warning("orphan", &entry.path, "its name is no message's id", ORPHAN),
        }
    }
    for entry in checkup.entries(Path::new("keys/acknowledgements")) {
        match entry.text().and_then(Fingerprint::from_hex) {
            Some(_) => check_parsed(checkup, &entry.path, Acknowledgements::from_bytes),
            None => checkup.warning("orphan", &entry.path, "its name is no fingerprint", ORPHAN),
        }
    }
    let mut conversations = HashMap::new();
    let mut people = people.map(|people| {
        let cards = people.contacts().iter().chain(people.blocked().iter());
        cards.map(|contact| contact.profile.identity().fingerprint()).collect::<HashSet<_>>()
    });
    for entry in checkup.entries(Path::new("keys/conversations")) {
        let Some(id) = entry.text().and_then(ConversationId::from_hex) else {
            checkup.warning("orphan", &entry.path, "its name is no conversation's id", ORPHAN);
            continue;
        };
        match conversation(checkup, &entry.path, &id) {
            Some(record) => {
                people.iter_mut().for_each(|people| people.extend(record.participants()));
                let place = Place { directory: record.directory, accepted: record.accepted };
                conversations.insert(id, place);
            }
            // Who was introduced there is not known, so nobody can be called unknown.
            None => people = None,
        }
    }
    Known { conversations, people, arriving: arriving(checkup) }
}

/// What is noted of contents that arrive in parts.
fn arriving(checkup: &mut Checkup<'_>) -> HashSet<String> {
    let mut names = HashSet::new();
    for entry in checkup.entries(Path::new("keys/arriving")) {
        check_parsed(checkup, &entry.path, |bytes| {
            let record = ArrivingRecord::from_bytes(bytes)?;
            match entry.text() == Some(&HEXLOWER.encode(&record.hash())) {
                true => Ok(()),
                false => Err(Malformed::new("arriving content", "it has the name of another")),
            }
        });
        names.extend(entry.text().map(str::to_owned));
    }
    names
}

fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|number| number.parse::<u64>().is_ok())
}

/// A file that the daemon parses whole.
fn check_parsed<T>(checkup: &mut Checkup<'_>, path: &Path, parse: impl FnOnce(&[u8]) -> Result<T, Malformed>) {
    let Some(bytes) = state(checkup, path) else { return };
    if let Err(error) = parse(&bytes) {
        checkup.damaged("damaged", path, error.to_string(), RESTORE);
    }
}

/// Any bytes are hashes, if they are whole ones. The daemon reads them however many they are.
fn check_entries(checkup: &mut Checkup<'_>, entry: &Entry, each: u64) {
    match checkup.size("damaged", &entry.path, RESTORE) {
        Some(0) => checkup.damaged("damaged", &entry.path, "it is empty", RESTORE),
        Some(size) if size % each != 0 => {
            checkup.damaged("damaged", &entry.path, format!("its size is no multiple of {each}"), RESTORE);
        }
        _ => {}
    }
}

/// The content of a state file, none of which is ever empty.
fn state(checkup: &mut Checkup<'_>, path: &Path) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = checkup.read("damaged", path, STATE_FILE_BYTES_MAX, RESTORE)?;
    if bytes.is_empty() {
        checkup.damaged("damaged", path, "it is empty", RESTORE);
        return None;
    }
    Some(bytes)
}

fn check_sessions(checkup: &mut Checkup<'_>, path: &Path, peer: &Fingerprint) {
    let Some(bytes) = state(checkup, path) else { return };
    match sessions_from_bytes(&bytes) {
        Ok((sessions, _)) if sessions.iter().all(|session| session.peer.fingerprint() == *peer) => {}
        Ok(_) => checkup.damaged("damaged", path, "it holds sessions with somebody else", RESTORE),
        Err(error) => checkup.damaged("damaged", path, error.to_string(), RESTORE),
    }
}

fn check_profile(checkup: &mut Checkup<'_>, path: &Path, peer: &Fingerprint) {
    let Some(bytes) = state(checkup, path) else { return };
    match ProfileRecord::from_bytes(&bytes) {
        Ok(record) if record.newest.iter().all(|profile| profile.identity().fingerprint() == *peer) => {}
        Ok(_) => checkup.damaged("damaged", path, "it holds the profile of somebody else", RESTORE),
        Err(error) => checkup.damaged("damaged", path, error.to_string(), RESTORE),
    }
}

fn check_author(checkup: &mut Checkup<'_>, entry: &Entry) {
    let Some(bytes) = state(checkup, &entry.path) else { return };
    match AuthorRecord::from_bytes(&bytes) {
        Ok(record) if transcript_file(&record.conversation, &record.author) == entry.path => {}
        Ok(_) => checkup.damaged("damaged", &entry.path, "it is the record of another author", RESTORE),
        Err(error) => checkup.damaged("damaged", &entry.path, error.to_string(), RESTORE),
    }
}

fn check_large(checkup: &mut Checkup<'_>, path: &Path, message: &MessageId) {
    let Some(bytes) = state(checkup, path) else { return };
    match LargeRecord::from_bytes(&bytes) {
        Ok(record) if record.message == *message => {}
        Ok(_) => checkup.damaged("damaged", path, "it tells of another message", RESTORE),
        Err(error) => checkup.damaged("damaged", path, error.to_string(), RESTORE),
    }
}

fn conversation(checkup: &mut Checkup<'_>, path: &Path, id: &ConversationId) -> Option<ConversationRecord> {
    let bytes = state(checkup, path)?;
    match ConversationRecord::from_bytes(&bytes) {
        Ok(record) if record.id == *id => return Some(record),
        Ok(_) => checkup.damaged("damaged", path, "it is the record of another conversation", RESTORE),
        Err(error) => checkup.damaged("damaged", path, error.to_string(), RESTORE),
    }
    None
}
