//! `metadata.toml`: what a person or program reads of a conversation, and what a person gives to open one (design,
//! section 2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::people::{People, WhoFault};
use crate::clock::Timestamp;
use crate::limits::{PARTICIPANTS_MAX, SUBJECT_BYTES_MAX};
use crate::wire::conversation::ConversationRecord;
use crate::wire::identity::{ConversationId, Fingerprint};

/// The file's name.
pub const FILE: &str = "metadata.toml";

/// The hidden file that ties an outbox directory made by a person to its conversation.
pub const ID_FILE: &str = ".id";

/// The file's content. A person gives `participants` and perhaps `subject`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    participants: Vec<String>,
    /// Who the names were when the daemon wrote the file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    fingerprints: BTreeMap<String, String>,
}

impl File {
    fn parse(text: &str) -> Result<Self, MetadataFault> {
        toml::from_str(text).map_err(|error| MetadataFault::Toml(error.message().to_owned()))
    }
}

/// What a `metadata.toml` asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Given where the file is a copy of one that the daemon wrote.
    pub id: Option<ConversationId>,
    /// Empty if there is none.
    pub subject: String,
    /// All participants, ourselves included, sorted.
    pub participants: Vec<Fingerprint>,
}

/// What a `metadata.toml` says, for showing it: names as they stand there, whoever they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Given where the daemon wrote the file.
    pub id: Option<ConversationId>,
    /// Empty if there is none.
    pub subject: String,
    /// When the conversation was opened, where the daemon wrote the file.
    pub created: Option<Timestamp>,
    /// All participants that are named, and who the names were when the daemon wrote the file.
    pub participants: Vec<(String, Option<Fingerprint>)>,
}

/// What is wrong with a `metadata.toml`.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MetadataFault {
    /// No TOML, or a field is missing or of another type.
    #[error(
        "metadata.toml cannot be understood: {0}.\nIt needs a line like `participants = [\"bob\", \"carol\"]`, and may have `subject = \"…\"`."
    )]
    Toml(String),
    /// The id is no id.
    #[error("The id in metadata.toml is not 32 hex digits.\nRemove the line to open a new conversation.")]
    Id,
    /// A participant is nobody we know.
    #[error("{0}")]
    Who(#[from] WhoFault),
    /// Nobody but ourselves.
    #[error("metadata.toml names nobody but you.\nPut the contacts you write to into `participants`.")]
    Alone,
    /// Too many.
    #[error("metadata.toml names {0} participants; at most {PARTICIPANTS_MAX} can take part.\nSplit the conversation.")]
    TooMany(usize),
    /// The subject is too long or has control characters.
    #[error("The subject in metadata.toml is longer than {SUBJECT_BYTES_MAX} bytes, or of several lines.\nShorten it.")]
    Subject,
}

impl Metadata {
    /// Reads what a person wrote, or what the daemon did.
    ///
    /// # Errors
    /// [`MetadataFault`]: a sentence on what is wrong, one on what to do.
    pub fn parse(text: &str, people: &People) -> Result<Self, MetadataFault> {
        let file = File::parse(text)?;
        let id = match file.id {
            Some(text) => Some(ConversationId::from_hex(&text).ok_or(MetadataFault::Id)?),
            None => None,
        };
        if file.subject.len() > SUBJECT_BYTES_MAX || file.subject.chars().any(char::is_control) {
            return Err(MetadataFault::Subject);
        }
        let mut participants = vec![people.own_fingerprint()];
        for name in &file.participants {
            let written = file.fingerprints.get(name).and_then(|text| Fingerprint::from_hex(text));
            participants.push(match written {
                Some(fingerprint) if people.profile(&fingerprint).is_some() => fingerprint,
                _ => people.participant(name)?,
            });
        }
        participants.sort_unstable();
        participants.dedup();
        match participants.len() {
            1 => Err(MetadataFault::Alone),
            2..=PARTICIPANTS_MAX => Ok(Self { id, subject: file.subject, participants }),
            count => Err(MetadataFault::TooMany(count)),
        }
    }

    /// Reads the file without asking who the names are, so that it can be shown where somebody is no contact.
    ///
    /// # Errors
    /// [`MetadataFault::Toml`].
    pub fn describe(text: &str) -> Result<Described, MetadataFault> {
        let file = File::parse(text)?;
        let fingerprint = |name: &String| file.fingerprints.get(name).and_then(|text| Fingerprint::from_hex(text));
        let participants = file.participants.iter().map(|name| (name.clone(), fingerprint(name))).collect();
        Ok(Described {
            id: file.id.as_deref().and_then(ConversationId::from_hex),
            created: file.created.as_deref().and_then(Timestamp::parse_rfc3339),
            participants,
            subject: file.subject,
        })
    }

    /// What a person writes to open a conversation with these contacts.
    pub fn request(participants: &[String], subject: &str) -> String {
        let file = File { participants: participants.to_vec(), subject: subject.to_owned(), ..File::default() };
        toml::to_string(&file).expect("strings and lists of strings are TOML")
    }

    /// What the daemon writes for a conversation.
    pub fn render(record: &ConversationRecord, people: &People) -> String {
        let named = |fingerprint: &Fingerprint| (people.name(fingerprint), fingerprint.to_string());
        let fingerprints: BTreeMap<String, String> = record.participants().iter().map(named).collect();
        let file = File {
            id: Some(record.id.to_string()),
            subject: record.subject.clone(),
            created: Some(record.created.rfc3339()),
            participants: fingerprints.keys().cloned().collect(),
            fingerprints,
        };
        toml::to_string(&file).expect("strings and lists of strings are TOML")
    }

    /// The id in a file that the daemon wrote, without looking at the rest: how a renamed directory is known.
    pub fn id_of(text: &str) -> Option<ConversationId> {
        let file: File = toml::from_str(text).ok()?;
        ConversationId::from_hex(&file.id?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_asks_for_is_described_as_it_was_asked() {
        let names = ["bob".to_owned(), "a%2C b".to_owned()];
        let described = Metadata::describe(&Metadata::request(&names, "say \"hi\"")).unwrap();
        let participants = names.map(|name| (name, None)).to_vec();
        assert_eq!(described, Described { id: None, subject: "say \"hi\"".into(), created: None, participants });
    }

    #[test]
    fn strangers_are_described_with_who_they_were() {
        let who = Fingerprint([7; 32]);
        let text = format!("participants = [\"eve~07070707\"]\n[fingerprints]\n\"eve~07070707\" = \"{who}\"\n");
        assert_eq!(Metadata::describe(&text).unwrap().participants, [("eve~07070707".to_owned(), Some(who))]);
        assert!(matches!(Metadata::describe("participants ="), Err(MetadataFault::Toml(_))));
    }
}
