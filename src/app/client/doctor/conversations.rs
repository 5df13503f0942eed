//! `conversations/` and `requests/`, and the conversations that the daemon knows without them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::checkup::Checkup;
use super::keys::Known;
use crate::app::client::causes;
use crate::client::contacts::REQUEST_CARD;
use crate::client::delivery::{self, Delivery};
use crate::client::error_file;
use crate::client::metadata::{self, Metadata, MetadataFault};
use crate::disk::open::{self, OpenError};
use crate::disk::real::RealDisk;
use crate::limits::{CARD_FILE_BYTES_MAX, METADATA_FILE_BYTES_MAX};
use crate::wire::identity::ConversationId;
use crate::wire::profile::SignedProfile;

pub(super) fn check(checkup: &mut Checkup<'_>, known: &Known) {
    let mut places: HashMap<ConversationId, PathBuf> = HashMap::new();
    for entry in checkup.entries(Path::new("conversations")) {
        if entry.is_hidden() || !entry.kind.is_dir() {
            continue;
        }
        check_deliveries(checkup, &entry.path);
        check_settings(checkup, &entry.path);
        let Some(id) = id_of(checkup, &entry.path) else { continue };
        if !known.conversations.contains_key(&id) && !checkup.may_know(&id) {
            let remedy = "If keys/ was lost, leave it: chatterboxd goes on in it when the conversation does. If it is from a \
                          backup, restore that as a whole. If you only want to keep it, move it out of conversations/.";
            checkup.damaged_directory(
                "conversation",
                &entry.path,
                "chatterboxd knows no conversation with its id",
                remedy,
            );
        }
        match places.get(&id).filter(|other| is_there(checkup, other)) {
            Some(other) => {
                let problem = format!("it has the same id as {}", other.display());
                let remedy = "Only one of them gets new messages, and states are kept up there alone. Move the messages and .delivery/ of one into the \
                              other, and delete it.";
                checkup.warning("duplicate", &entry.path, problem, remedy);
            }
            None => drop(places.insert(id, entry.path)),
        }
    }
    check_records(checkup, known, &places);
    check_requests(checkup);
}

fn is_there(checkup: &Checkup<'_>, path: &Path) -> bool {
    std::fs::symlink_metadata(checkup.root.join(path)).is_ok()
}

/// The id in a directory's metadata. What is wrong with the file is said.
fn id_of(checkup: &mut Checkup<'_>, directory: &Path) -> Option<ConversationId> {
    let path = directory.join(metadata::FILE);
    let remedy = match twin(checkup, directory) {
        Some(twin) => format!("{} is the same file: copy it here.", twin.display()),
        None => {
            "Without it the next message makes another directory. Restore the file from a backup, or move what is here \
                 into that one."
                .to_owned()
        }
    };
    match describe(&checkup.root.join(&path)) {
        Ok(Some(id)) => return Some(id),
        Ok(None) => checkup.damaged_directory("metadata", &path, "it has no good `id`", &remedy),
        Err(Problem::Absent) => {
            // The daemon makes a directory first, and then what is in it.
            let is_new = checkup.is_busy() && checkup.entries(directory).next().is_none();
            if !is_new && is_there(checkup, directory) {
                checkup.damaged_directory("metadata", directory, "it has no metadata.toml", &remedy);
            }
        }
        Err(Problem::Bad(problem)) => checkup.damaged("metadata", &path, problem, &remedy),
    }
    None
}

enum Problem {
    Absent,
    Bad(String),
}

fn describe(path: &Path) -> Result<Option<ConversationId>, Problem> {
    let bytes = open::read_regular(&RealDisk, path, METADATA_FILE_BYTES_MAX).map_err(|error| match error {
        OpenError::Absent => Problem::Absent,
        other => Problem::Bad(other.to_string()),
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Problem::Bad("it is not UTF-8 text".to_owned()))?;
    let described = Metadata::describe(text).map_err(|fault| match fault {
        MetadataFault::Toml(problem) => Problem::Bad(problem),
        other => Problem::Bad(other.to_string()),
    })?;
    Ok(described.id)
}

/// The metadata of the directory's twin in the outbox, if that is good.
fn twin(checkup: &Checkup<'_>, directory: &Path) -> Option<PathBuf> {
    let path = Path::new("outbox").join(directory.file_name()?).join(metadata::FILE);
    describe(&checkup.root.join(&path)).ok()??;
    Some(path)
}

/// What the daemon says of a person's settings.
fn check_settings(checkup: &mut Checkup<'_>, directory: &Path) {
    let path = directory.join("settings.toml");
    if let Some(text) = error_file::read(checkup.root, &error_file::beside(&checkup.root.join(&path))) {
        let (problem, remedy) = causes::behind_a_colon(&text);
        checkup.error("settings", &path, problem, &remedy);
    }
}

fn check_deliveries(checkup: &mut Checkup<'_>, directory: &Path) {
    const REMEDY: &str = "It only tells how far a message is; the message itself is not touched. Remove it if you need \
                          no more of it.";
    for entry in checkup.entries(&directory.join(delivery::DIRECTORY)) {
        let Some(bytes) = checkup.read("delivery", &entry.path, METADATA_FILE_BYTES_MAX, REMEDY) else { continue };
        if std::str::from_utf8(&bytes).ok().and_then(Delivery::parse).is_none() {
            checkup.damaged("delivery", &entry.path, "it cannot be understood", REMEDY);
        }
    }
}

fn check_records(checkup: &mut Checkup<'_>, known: &Known, places: &HashMap<ConversationId, PathBuf>) {
    for (id, place) in known.conversations.iter().filter(|(id, place)| place.accepted && !places.contains_key(id)) {
        let directory = Path::new("conversations").join(&place.directory);
        // One that is there all the same was just made, or has been said to have no good metadata.
        if !is_there(checkup, &directory) {
            let problem = format!("the directory of conversation {id} is gone");
            let remedy = "If you have moved it, put it back before the next message: that makes another, and states in this one \
                          are not kept up then. If you have deleted it, there is nothing to do.";
            checkup.note("gone", &directory, problem, remedy);
        }
    }
}

fn check_requests(checkup: &mut Checkup<'_>) {
    for entry in checkup.entries(Path::new("requests")).filter(|entry| entry.kind.is_dir()) {
        check_deliveries(checkup, &entry.path);
        let path = entry.path.join(REQUEST_CARD);
        let remedy = "Ask the sender for the card; the request can be accepted with any copy of it.";
        let Some(bytes) = checkup.read("card", &path, CARD_FILE_BYTES_MAX, remedy) else { continue };
        let card = std::str::from_utf8(&bytes).ok().map(str::parse::<SignedProfile>);
        match card {
            Some(Ok(_)) => {}
            Some(Err(error)) => checkup.damaged("card", &path, error.to_string(), remedy),
            None => checkup.damaged("card", &path, "it is not text", remedy),
        }
    }
}
