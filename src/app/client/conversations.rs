//! Reading `conversations/` and `requests/`, for `list` and `show`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::context::Context;
use super::output;
use crate::app::failure::Failure;
use crate::client::delivery::{self, Delivery, State};
use crate::client::gap_file::{self, GapLine};
use crate::client::metadata::{self, Described, Metadata};
use crate::client::people::People;
use crate::clock::Timestamp;
use crate::disk::open::{self, OpenError};
use crate::disk::real::RealDisk;
use crate::limits::{GAP_FILE_BYTES_MAX, METADATA_FILE_BYTES_MAX};
use crate::name;
use crate::wire::identity::Fingerprint;

/// A directory with messages in it.
#[derive(Debug)]
pub(super) struct Directory {
    /// Its name under `conversations/` or `requests/`.
    pub(super) name: String,
    /// Where it is.
    pub(super) path: PathBuf,
    /// What its `metadata.toml` says, if it has a good one.
    pub(super) described: Option<Described>,
    /// Its messages, by time.
    pub(super) messages: Vec<Message>,
}

/// A message's file.
#[derive(Debug)]
pub(super) struct Message {
    /// Its name.
    pub(super) name: String,
    /// The time in its name.
    pub(super) time: Timestamp,
}

/// Somebody in a conversation: the name, and who that is where it is known.
pub(super) type Participant = (String, Option<Fingerprint>);

/// All conversations, by name. A directory without a good `metadata.toml` is none.
pub(super) fn conversations(context: &Context) -> Result<Vec<Directory>, Failure> {
    let all = directories(&context.root.conversations(), "reading the conversations")?;
    Ok(all.into_iter().filter(|directory| directory.described.is_some()).collect())
}

/// All requests, by name: what strangers wrote.
pub(super) fn requests(context: &Context) -> Result<Vec<Directory>, Failure> {
    directories(&context.root.requests(), "reading the requests")
}

fn directories(parent: &Path, doing: &str) -> Result<Vec<Directory>, Failure> {
    let failed = |error: io::Error| Failure::io(doing, &error, "Check that the directory is yours.");
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || !entry.file_type().map_err(failed)?.is_dir() {
            continue;
        }
        let path = entry.path();
        // The daemon may remove or rename a directory while we read.
        let messages = match messages(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            messages => messages.map_err(failed)?,
        };
        found.push(Directory { name, described: describe(&path), path, messages });
    }
    found.sort_by(|left, right| name::natural_order(&left.name, &right.name));
    Ok(found)
}

fn describe(directory: &Path) -> Option<Described> {
    let path = directory.join(metadata::FILE);
    let said = |problem: String| output::note(format!("note: {}: {problem}", output::shown(&path)));
    match open::read_regular(&RealDisk, &path, METADATA_FILE_BYTES_MAX) {
        Ok(bytes) => {
            let described = Metadata::describe(&String::from_utf8_lossy(&bytes));
            described.map_err(|fault| said(output::safe(&fault.to_string()).into_owned())).ok()
        }
        Err(OpenError::Absent) => None,
        Err(error) => {
            said(error.to_string());
            None
        }
    }
}

/// Regular files whose names begin with a time: no other file is a message.
fn messages(directory: &Path) -> io::Result<Vec<Message>> {
    let mut messages = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Names of messages are escaped, so what is not UTF-8 is none.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if let Some(time) = Timestamp::of_name(&name).filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())) {
            messages.push(Message { name, time });
        }
    }
    let order = |message: &Message| message.time;
    messages.sort_by(|left, right| {
        order(left).cmp(&order(right)).then_with(|| name::natural_order(&left.name, &right.name))
    });
    Ok(messages)
}

impl Directory {
    /// Everybody in it but ourselves, by the names they have here now.
    pub(super) fn others(&self, people: &People) -> Vec<Participant> {
        let own = people.own_fingerprint();
        let all = self.described.iter().flat_map(|described| &described.participants);
        let others = all.filter(|(name, who)| match who {
            Some(fingerprint) => *fingerprint != own,
            None => *name != people.own().profile().name,
        });
        others.map(|(name, who)| (current_name(people, name, who.as_ref()), *who)).collect()
    }

    /// The subject, if there is one.
    pub(super) fn subject(&self) -> Option<&str> {
        self.described.as_ref().map(|described| described.subject.as_str()).filter(|subject| !subject.is_empty())
    }

    /// The time of the last message.
    pub(super) fn last(&self) -> Option<Timestamp> {
        self.messages.last().map(|message| message.time)
    }

    /// What is missing in it, by `.gaps`.
    pub(super) fn gaps(&self) -> Vec<GapLine> {
        let bytes = open::read_regular(&RealDisk, &self.path.join(gap_file::FILE), GAP_FILE_BYTES_MAX);
        bytes.map_or_else(|_| Vec::new(), |bytes| GapLine::parse_all(&String::from_utf8_lossy(&bytes)))
    }

    /// Messages of ours that have failed for somebody, and were not taken back.
    pub(super) fn failed(&self, people: &People) -> usize {
        // The name tells whose a message may be, without a look at each.
        let own = &people.own().profile().name;
        let is_ours = |message: &&Message| message.name.split_once("Z-").is_some_and(|(_, by)| by.starts_with(own));
        let ours = self.messages.iter().filter(is_ours);
        let has_failed = |delivery: &Delivery| {
            let mut states = delivery.recipients.iter().map(|recipient| &recipient.state);
            states.any(|state| matches!(state, State::Failed(_)) && !state.is_cancelled())
        };
        ours.filter_map(|message| self.delivery(message)).filter(has_failed).count()
    }

    /// What `.delivery/` says of a message.
    pub(super) fn delivery(&self, message: &Message) -> Option<Delivery> {
        let path = self.path.join(delivery::DIRECTORY).join(&message.name);
        let bytes = open::read_regular(&RealDisk, &path, METADATA_FILE_BYTES_MAX).ok()?;
        Delivery::parse(std::str::from_utf8(&bytes).ok()?)
    }
}

/// What somebody is called here: a contact's present name, else the name that was written.
pub(super) fn current_name(people: &People, written: &str, who: Option<&Fingerprint>) -> String {
    let contact = who.and_then(|fingerprint| people.contacts().by_fingerprint(fingerprint));
    contact.map_or_else(|| written.to_owned(), |contact| contact.name.clone())
}

/// A time as people read it: `2026-11-22 10:15:30 UTC`.
pub(super) fn readable(time: Timestamp) -> String {
    let text = time.rfc3339();
    format!("{} {} UTC", &text[..10], &text[11..19])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_begins_with_a_time_is_a_message() {
        let time = Timestamp::of_name("2026-11-22T101530.123456Z-alice").unwrap();
        assert_eq!(time.rfc3339(), "2026-11-22T10:15:30.123456Z");
        assert_eq!(readable(time), "2026-11-22 10:15:30 UTC");
        for other in ["notes.txt", "2026-11-22T101530.123456Z", "2026-11-22T101530.12345é-alice", "metadata.toml", ""]
        {
            assert_eq!(Timestamp::of_name(other), None, "{other}");
        }
    }
}
