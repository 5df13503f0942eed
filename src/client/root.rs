//! Where everything is: the directory of the design's section 2.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;

use crate::disk::real::RealDisk;
use crate::disk::system::{Disk, Kind};
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};

/// The root directory (`$CHATTERBOX_ROOT`) and the disk that it is on. Only names; nothing is checked or made here.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Root {
    /// The root at `path` on this machine's disk.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::on(Arc::new(RealDisk), path)
    }

    /// The root at `path` on any disk.
    pub fn on(disk: Arc<dyn Disk>, path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), disk }
    }

    /// The disk.
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The disk, to be kept.
    pub fn shared_disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    /// Whether anything has this name, relative to the root.
    pub fn is_taken(&self, relative: &Path) -> bool {
        self.disk.stat(&self.join(relative)).is_ok()
    }

    /// Whether a directory itself has this name, relative to the root, and not a link to one.
    pub fn is_directory(&self, relative: &Path) -> bool {
        self.disk.stat(&self.join(relative)).is_ok_and(|found| found.kind == Kind::Directory)
    }

    /// The names in a directory, relative to the root; none where it cannot be read.
    pub fn names(&self, relative: impl AsRef<Path>) -> Vec<std::ffi::OsString> {
        let entries = self.disk.entries(&self.join(relative)).unwrap_or_default();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path relative to the root, made absolute.
    pub fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.path.join(relative)
    }

    /// `config.pb`: our long-term secret keys.
    pub fn config(&self) -> PathBuf {
        self.join("config.pb")
    }

    /// `profile.pb`: our signed profile.
    pub fn profile(&self) -> PathBuf {
        self.join("profile.pb")
    }

    /// `chatterbox.toml`: settings that a person edits.
    pub fn settings(&self) -> PathBuf {
        self.join("chatterbox.toml")
    }

    /// `status`: what the daemon says of itself.
    pub fn status(&self) -> PathBuf {
        self.join("status")
    }

    /// `contacts/`: one card a file.
    pub fn contacts(&self) -> PathBuf {
        self.join("contacts")
    }

    /// `blocked/`: the cards of those who are to be heard no more.
    pub fn blocked(&self) -> PathBuf {
        self.join("blocked")
    }

    /// `requests/`: messages from strangers.
    pub fn requests(&self) -> PathBuf {
        self.join("requests")
    }

    /// `conversations/`.
    pub fn conversations(&self) -> PathBuf {
        self.join("conversations")
    }

    /// `outbox/`.
    pub fn outbox(&self) -> PathBuf {
        self.join("outbox")
    }

    /// `alerts/`: what a person must know.
    pub fn alerts(&self) -> PathBuf {
        self.join("alerts")
    }

    /// `journal/`: the daemon's alone.
    pub fn journal(&self) -> PathBuf {
        self.join("journal")
    }

    /// `keys/`: the daemon's alone.
    pub fn keys(&self) -> PathBuf {
        self.join("keys")
    }

    /// `tmp/PROGRAM/`: scratch on the same filesystem.
    pub fn tmp(&self, program: &str) -> PathBuf {
        self.join("tmp").join(program)
    }

    /// `journal/lock`: held by the daemon.
    pub fn lock(&self) -> PathBuf {
        self.join("journal/lock")
    }

    /// All directories of a root, relative.
    pub const DIRECTORIES: &'static [&'static str] = &[
        "contacts",
        "blocked",
        "dropboxes",
        "requests",
        "conversations",
        "outbox",
        CANCEL_DIRECTORY,
        "alerts",
        "hooks",
        "journal",
        "journal/arriving",
        "journal/large",
        "journal/spool",
        "journal/unopened",
        "keys",
        "keys/acknowledgements",
        "keys/arriving",
        "keys/conversations",
        "keys/large",
        "keys/profiles",
        "keys/sessions",
        "keys/transcripts",
        "tmp",
        "tmp/chatterbox",
        "tmp/chatterboxd",
        "ui_info",
    ];
}

/// Where a person asks for messages to be taken back, relative to the root.
pub const CANCEL_DIRECTORY: &str = "outbox/.cancel";

/// What the daemon watches besides each directory of the outbox, relative to the root.
pub const WATCHED: [&str; 5] = ["contacts", "blocked", "dropboxes", "outbox", CANCEL_DIRECTORY];

/// The id that no message has. A request to take it back only goes away, behind all that the daemon had read before.
pub const NO_MESSAGE: MessageId = MessageId([0; 16]);

/// `keys/prekeys`, relative to the root.
pub fn prekeys_file() -> PathBuf {
    PathBuf::from("keys/prekeys")
}

/// `keys/counter`, relative to the root.
pub fn counter_file() -> PathBuf {
    PathBuf::from("keys/counter")
}

/// `keys/dropped`, relative to the root.
pub fn dropped_file() -> PathBuf {
    PathBuf::from("keys/dropped")
}

/// `keys/unsent`, relative to the root.
pub fn unsent_file() -> PathBuf {
    PathBuf::from("keys/unsent")
}

/// `keys/recovery`, relative to the root.
pub fn recovery_file() -> PathBuf {
    PathBuf::from("keys/recovery")
}

/// `keys/sessions/FINGERPRINT`, relative to the root.
pub fn sessions_file(peer: &Fingerprint) -> PathBuf {
    PathBuf::from(format!("keys/sessions/{peer}"))
}

/// `keys/conversations/ID`, relative to the root.
pub fn conversation_file(id: &ConversationId) -> PathBuf {
    PathBuf::from(format!("keys/conversations/{id}"))
}

/// `keys/transcripts/CONVERSATION-FINGERPRINT`, relative to the root.
pub fn transcript_file(conversation: &ConversationId, author: &Fingerprint) -> PathBuf {
    PathBuf::from(format!("keys/transcripts/{conversation}-{author}"))
}

/// `keys/profiles/FINGERPRINT`, relative to the root.
pub fn profile_file(peer: &Fingerprint) -> PathBuf {
    PathBuf::from(format!("keys/profiles/{peer}"))
}

/// `keys/acknowledgements/FINGERPRINT`, relative to the root.
pub fn acknowledgements_file(peer: &Fingerprint) -> PathBuf {
    PathBuf::from(format!("keys/acknowledgements/{peer}"))
}

/// `keys/names`, relative to the root.
pub fn names_file() -> PathBuf {
    PathBuf::from("keys/names")
}

/// `journal/spool/FINGERPRINT/SEQUENCE`, relative to the root.
pub fn spool_file(recipient: &Fingerprint, sequence: u64) -> PathBuf {
    PathBuf::from(format!("journal/spool/{recipient}/{sequence:020}"))
}

/// `keys/large/MESSAGE`, relative to the root.
pub fn large_file(message: &MessageId) -> PathBuf {
    PathBuf::from(format!("keys/large/{message}"))
}

/// `journal/large/NAME`, relative to the root.
pub fn large_copy(name: &str) -> PathBuf {
    PathBuf::from(format!("journal/large/{name}"))
}

/// `keys/arriving/HASH`, relative to the root.
pub fn arriving_file(hash: &[u8; 32]) -> PathBuf {
    PathBuf::from(format!("keys/arriving/{}", HEXLOWER.encode(hash)))
}

/// `journal/arriving/HASH`, relative to the root.
pub fn arriving_content(hash: &[u8; 32]) -> PathBuf {
    PathBuf::from(format!("journal/arriving/{}", HEXLOWER.encode(hash)))
}

/// The daemon's scratch directory, relative to the root.
pub fn scratch_file(name: &str) -> PathBuf {
    PathBuf::from(format!("tmp/chatterboxd/{name}"))
}
