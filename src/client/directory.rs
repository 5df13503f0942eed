//! Which conversation an outbox directory means (design, section 2): by its `metadata.toml`, by the hidden `.id` that
//! travels with it when it is renamed, or by its name, which lists contacts.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use thiserror::Error;

use super::conversation::Conversations;
use super::metadata::{self, Metadata, MetadataFault};
use super::people::{People, WhoFault};
use super::root::Root;
use crate::disk::lease::LeaseRefused;
use crate::disk::open::{OpenError, RegularFile};
use crate::disk::system::Disk;
use crate::limits::{METADATA_FILE_BYTES_MAX, PARTICIPANTS_MAX};
use crate::name;
use crate::wire::identity::{ConversationId, Fingerprint};

pub use super::metadata::ID_FILE;

/// What an outbox directory means.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A conversation that we know.
    Known {
        /// Which.
        id: ConversationId,
        /// Whether the directory has no `.id` yet and was made by a person.
        needs_id: bool,
    },
    /// One that is to be opened.
    New {
        /// The hash of the participants; none where it is to be salted.
        id: Option<ConversationId>,
        /// Empty if there is none.
        subject: String,
        /// All participants, ours included, sorted.
        participants: Vec<Fingerprint>,
    },
}

/// Why files in a directory cannot be sent: what is wrong, and what to do.
#[derive(Debug, Error)]
pub enum DirectoryFault {
    /// Its name or its metadata names nobody, or the wrong ones.
    #[error("{0}")]
    Who(#[from] WhoFault),
    /// Its metadata is wrong.
    #[error("{0}")]
    Metadata(#[from] MetadataFault),
    /// Its metadata cannot be read.
    #[error("metadata.toml cannot be read: {0}.\nMake it a plain file that you may read.")]
    Unreadable(OpenError),
    /// Somebody writes its metadata.
    #[error("metadata.toml is open for writing")]
    Busy,
    /// Its name or metadata says another conversation than it was.
    #[error(
        "This directory belongs to another conversation than it {0}.\nMake a new directory for the new conversation, or give this one its old name back."
    )]
    Disagreement(&'static str),
    /// Too many contacts.
    #[error("This names {0} participants; at most {PARTICIPANTS_MAX} can take part.\nSplit the conversation.")]
    TooMany(usize),
    /// A conversation with this id has other participants.
    #[error(
        "A conversation with this id has other participants.\nRemove the id from metadata.toml to open a new conversation."
    )]
    OtherParticipants,
    /// Its files cannot be taken out of it.
    #[error("The daemon may not take files out of this directory.\nMake it yours and writable: chown, chmod u+wx.")]
    NotWritable,
    /// It lies on another filesystem.
    #[error("This directory is on another filesystem than the rest.\nMake a plain directory here instead.")]
    OtherFilesystem,
    /// The metadata gives an id that we have never seen.
    #[error(
        "There is no conversation with the id in metadata.toml.\nRemove the line to open a new conversation; if keys/ was lost, leave it, and the conversation goes on once somebody writes in it."
    )]
    UnknownId,
    /// We know the conversation, and have not accepted it.
    #[error("This conversation waits in requests/ for your decision.\nAdd the card of its sender to contacts/ first.")]
    NotAccepted,
}

impl DirectoryFault {
    /// Whether it goes away by itself.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy)
    }
}

/// Finds out what the directory at `path` (relative to the root) means.
///
/// # Errors
/// [`DirectoryFault`].
pub fn meaning(
    root: &Root,
    path: &Path,
    people: &People,
    conversations: &Conversations,
) -> Result<Meaning, DirectoryFault> {
    let tied = read_id(root.disk(), &root.join(path).join(ID_FILE)).filter(|id| conversations.get(id).is_some());
    let meaning = match read_metadata(root.disk(), &root.join(path).join(metadata::FILE), people)? {
        Some(metadata) => by_metadata(metadata, tied, conversations),
        None => by_name(path, tied, people, conversations),
    }?;
    if let Some(blocked) = blocked(&meaning, people, conversations) {
        return Err(WhoFault::Blocked(people.name(&blocked)).into());
    }
    match &meaning {
        Meaning::Known { id, .. } if !conversations.get(id).is_some_and(|record| record.accepted) => {
            Err(DirectoryFault::NotAccepted)
        }
        Meaning::New { participants, .. } if participants.len() > PARTICIPANTS_MAX => {
            Err(DirectoryFault::TooMany(participants.len()))
        }
        _ => Ok(meaning),
    }
}

/// Who is blocked, where that is in the way. What stands goes on with all its members as long as somebody in it is to
/// be reached; nothing new is opened with them.
fn blocked(meaning: &Meaning, people: &People, conversations: &Conversations) -> Option<Fingerprint> {
    let is_blocked = |participant: &Fingerprint| people.is_blocked(participant);
    match meaning {
        Meaning::Known { id, .. } => {
            let own = people.own_fingerprint();
            let mut others = conversations.get(id)?.participants();
            others.retain(|participant| *participant != own);
            others.iter().all(is_blocked).then(|| others.first().copied())?
        }
        Meaning::New { participants, .. } => participants.iter().find(|participant| is_blocked(participant)).copied(),
    }
}

fn by_metadata(
    metadata: Metadata,
    tied: Option<ConversationId>,
    conversations: &Conversations,
) -> Result<Meaning, DirectoryFault> {
    if let (Some(given), Some(tied)) = (metadata.id, tied)
        && given != tied
    {
        return Err(DirectoryFault::Disagreement("did before: the id in metadata.toml is another"));
    }
    let known = metadata.id.or(tied).filter(|id| conversations.get(id).is_some());
    if let Some(id) = known {
        check_participants(&id, &metadata.participants, conversations)?;
        return Ok(Meaning::Known { id, needs_id: metadata.id.is_none() && tied.is_none() });
    }
    if metadata.id.is_some() {
        return Err(DirectoryFault::UnknownId);
    }
    Ok(Meaning::New { id: None, subject: metadata.subject, participants: metadata.participants })
}

fn by_name(
    path: &Path,
    tied: Option<ConversationId>,
    people: &People,
    conversations: &Conversations,
) -> Result<Meaning, DirectoryFault> {
    let raw = path.file_name().unwrap_or_default();
    let text = raw.to_str().map_or_else(|| name::escape(raw.as_bytes()), str::to_owned);
    let mut participants = match (people.listed(&text), tied) {
        (Ok(listed), _) => listed,
        (Err(fault @ WhoFault::Blocked(_)), _) => return Err(fault.into()),
        // A name that lists no contacts says nothing against the id: a person renamed the directory.
        (Err(_), Some(id)) => return Ok(Meaning::Known { id, needs_id: false }),
        (Err(fault), None) => return Err(fault.into()),
    };
    participants.push(people.own_fingerprint());
    participants.sort_unstable();
    let id = ConversationId::of_participants(&participants);
    if tied.is_some_and(|tied| tied != id) {
        return Err(DirectoryFault::Disagreement("names now"));
    }
    if conversations.get(&id).is_some() {
        check_participants(&id, &participants, conversations)?;
        return Ok(Meaning::Known { id, needs_id: tied.is_none() });
    }
    Ok(Meaning::New { id: Some(id), subject: String::new(), participants })
}

fn check_participants(
    id: &ConversationId,
    participants: &[Fingerprint],
    conversations: &Conversations,
) -> Result<(), DirectoryFault> {
    let mut known = conversations.get(id).map_or_else(Vec::new, |record| record.participants());
    known.sort_unstable();
    if known == participants { Ok(()) } else { Err(DirectoryFault::OtherParticipants) }
}

fn read_id(disk: &dyn Disk, path: &Path) -> Option<ConversationId> {
    let bytes = RegularFile::open(disk, path).ok()?.read(64).ok()?;
    ConversationId::from_hex(std::str::from_utf8(&bytes).ok()?.trim())
}

fn read_metadata(disk: &dyn Disk, path: &Path, people: &People) -> Result<Option<Metadata>, DirectoryFault> {
    let file = match RegularFile::open(disk, path) {
        Ok(file) => file,
        Err(OpenError::Absent) => return Ok(None),
        Err(error) => return Err(DirectoryFault::Unreadable(error)),
    };
    if matches!(file.take_lease(), Err(LeaseRefused::Busy)) {
        return Err(DirectoryFault::Busy);
    }
    let bytes = file.read(METADATA_FILE_BYTES_MAX).map_err(DirectoryFault::Unreadable)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| MetadataFault::Toml("it is not UTF-8".into()))?;
    Ok(Some(Metadata::parse(text, people)?))
}
