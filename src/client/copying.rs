//! Copying a file too large for a record of the journal, a portion at a time, before anything tells of it (design, section 2,
//! "Taking").
//!
//! A file of the outbox is copied twice in one go: once to be sent from, which nobody else touches, and once to stand in the
//! conversation, where a person may change or delete it. Both are synced, with the directory that they are in, before the
//! record that tells of them; what no record tells of is swept away at the next start. The file itself is synced as well: after
//! a power failure it is there whole or not at all. It stays under its lease meanwhile, and whoever wants to write to it
//! ends the copy.
//!
//! A content that is asked for again is copied from the conversation, once, and its hash says whether it is what was sent.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::engine::Engine;
use super::progress;
use super::room;
use super::root::{self, Root};
use super::taking::{Held, NotSent, Taken, check_leaving};
use crate::clock::Timestamp;
use crate::crypto::hash::Hasher;
use crate::disk::atomic;
use crate::disk::open::RegularFile;
use crate::disk::system::{OpenFile, Stat};
use crate::limits::{COPY_RETRY_S, LARGE_PER_RECIPIENT_MAX, LARGE_TURN_BYTES};
use crate::wire::identity::MessageId;
use crate::wire::sent::SentEntry;

const PORTION_BYTES: usize = 64 * 1024;

/// Behind the message's id, in the name of what will stand in the conversation.
const SECOND: &str = ".copy";

/// The one copy that is being made, if one is.
#[derive(Debug, Default)]
pub struct Copying {
    under_way: Option<Copy>,
    /// After the disk was too full: seconds in which nothing is tried, and what it said.
    refused: Option<(u32, String)>,
}

#[derive(Debug)]
struct Copy {
    message: MessageId,
    purpose: Purpose,
    /// As it was when the copy began.
    stat: Stat,
    targets: Vec<(PathBuf, Box<dyn OpenFile>)>,
    hasher: Hasher,
    offset: u64,
}

#[derive(Debug)]
enum Purpose {
    Send(Taken),
    Resend(Box<SentEntry>, RegularFile),
}

impl Purpose {
    fn source(&self) -> &RegularFile {
        match self {
            Self::Send(taken) => &taken.file,
            Self::Resend(_, file) => file,
        }
    }
}

/// A copy that is whole and synced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    /// The id of its message.
    pub(super) message: MessageId,
    pub(super) size: u64,
    pub(super) sha256: [u8; 32],
}

impl Copied {
    /// Where the content lies that is sent, relative to the root.
    pub(super) fn sent(&self) -> PathBuf {
        root::large_copy(&self.message.to_string())
    }

    /// Where that lies which will stand in the conversation.
    pub(super) fn shown(&self) -> PathBuf {
        second(&self.message)
    }
}

fn second(message: &MessageId) -> PathBuf {
    root::large_copy(&format!("{message}{SECOND}"))
}

impl Copying {
    /// Why a file of the outbox is not copied now; none if it may be.
    pub(super) fn reason(&self, stat: &Stat) -> Option<String> {
        match (&self.under_way, &self.refused) {
            (Some(copy), _) if copy.stat.is_same(stat) => {
                Some(format!("it is being copied: {}", progress::of_whole(copy.offset, copy.stat.size)))
            }
            (Some(_), _) => Some("another large file is being copied".into()),
            (None, Some((_, said))) => Some(format!("it cannot be copied: {said}")),
            (None, None) => None,
        }
    }

    /// Whether a copy is being made.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// What is being copied to be sent again, if it is this message.
    pub(super) fn resent(&self, message: &MessageId) -> Option<&SentEntry> {
        match &self.under_way.as_ref().filter(|copy| copy.message == *message)?.purpose {
            Purpose::Resend(entry, _) => Some(entry),
            Purpose::Send(_) => None,
        }
    }

    /// Whether no copy is being made or wanted.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.refused.is_none()
    }

    /// A second has passed.
    pub(super) fn tick(&mut self) {
        if let Some((seconds, _)) = &mut self.refused {
            *seconds -= 1;
            if *seconds == 0 {
                self.refused = None;
            }
        }
    }

    fn begin(&mut self, root: &Root, message: MessageId, purpose: Purpose, stat: Stat) -> io::Result<()> {
        let mut paths = vec![root::large_copy(&message.to_string())];
        if matches!(purpose, Purpose::Send(_)) {
            paths.push(second(&message));
        }
        let make = |path: PathBuf| {
            atomic::make_private_directory(root.disk(), &root.join("journal/large")).map_err(io::Error::other)?;
            let file = root.disk().create_new(&root.join(&path))?;
            Ok((path, file))
        };
        let mut targets = Vec::new();
        let made = paths.into_iter().try_for_each(|path| make(path).map(|target| targets.push(target)));
        self.under_way = Some(Copy { message, purpose, stat, targets, hasher: Hasher::default(), offset: 0 });
        made
    }
}

impl Copy {
    /// Copies a portion. True when all is copied and synced.
    fn go_on(&mut self, root: &Root) -> io::Result<bool> {
        let mut buffer = Zeroizing::new(vec![0; PORTION_BYTES]);
        let end = self.offset + LARGE_TURN_BYTES;
        let mut at_end = false;
        while self.offset < end && !at_end {
            let read = self.purpose.source().read_at(self.offset, &mut buffer)?;
            for (_, target) in &self.targets {
                if read > 0 {
                    target.write_at(self.offset, &buffer[..read])?;
                }
            }
            self.hasher.add(&buffer[..read]);
            self.offset += read as u64;
            at_end = read < buffer.len();
        }
        // Each portion by itself, so that the last sync has no more to do than the others.
        self.targets.iter().try_for_each(|(_, target)| target.sync())?;
        if !at_end {
            return Ok(false);
        }
        if matches!(self.purpose, Purpose::Send(_)) {
            self.purpose.source().sync()?;
        }
        atomic::sync_directory(root.disk(), &root.join("journal/large")).map_err(io::Error::other)?;
        Ok(true)
    }

    /// Whether the file is as it was when the copy began, and nobody waits to write to it.
    fn is_unchanged(&self, was_leased: bool) -> bool {
        let source = self.purpose.source();
        let same = source.stat().is_ok_and(|found| found.identity() == self.stat.identity());
        same && (!was_leased || source.is_leased())
    }
}

impl Engine {
    /// Begins to copy a file of the outbox; it waits meanwhile.
    pub(super) fn begin_copy(&mut self, taken: Taken) -> NotSent {
        let stat = taken.stat;
        if let Some(reason) = self.copying.reason(&stat) {
            return NotSent::Waits(reason.into());
        }
        if !room::has_disk_space(&self.root, &self.pending, stat.size.saturating_mul(2)) {
            return NotSent::Waits("the disk has no room for the two copies that are made of it".into());
        }
        let message = MessageId(self.random_16());
        if let Err(error) = self.copying.begin(&self.root, message, Purpose::Send(taken), stat) {
            self.abandon_copy(Some(&error));
        }
        NotSent::Waits(self.copying.reason(&stat).unwrap_or_default().into())
    }

    /// Begins to copy what is asked for again. False if it cannot be done now.
    pub(super) fn begin_copy_again(&mut self, entry: &SentEntry, file: RegularFile) -> bool {
        let path = root::large_copy(&entry.message.to_string());
        if self.copying.under_way.is_some() || self.copying.refused.is_some() || self.sweeping.has(&path) {
            return false;
        }
        let Ok(stat) = file.stat() else { return false };
        let purpose = Purpose::Resend(Box::new(entry.clone()), file);
        if let Err(error) = self.copying.begin(&self.root, entry.message, purpose, stat) {
            self.abandon_copy(Some(&error));
            return false;
        }
        true
    }

    /// A portion of the copy that is being made. True if there is more to do.
    pub(super) fn copy_on(&mut self, now: Timestamp) -> bool {
        let Some(copy) = &mut self.copying.under_way else { return false };
        let was_leased = matches!(&copy.purpose, Purpose::Send(taken) if taken.is_leased);
        let done = copy.go_on(&self.root);
        if !copy.is_unchanged(was_leased) {
            self.abandon_copy(None);
            return false;
        }
        match done {
            Ok(false) => return true,
            Ok(true) => {}
            Err(error) => {
                self.abandon_copy(Some(&error));
                return false;
            }
        }
        let Some(copy) = self.copying.under_way.take() else { return false };
        let copied = Copied { message: copy.message, size: copy.offset, sha256: copy.hasher.finish() };
        match copy.purpose {
            Purpose::Send(taken) => self.send_copy(taken, copied, now),
            Purpose::Resend(entry, _) => self.resend_copy(&entry, copied, now),
        }
        if !self.large.has(&copied.message) {
            self.sweeping.add(copied.sent());
            self.sweeping.add(copied.shown());
        }
        false
    }

    /// Gives a copy up. A file that was written to meanwhile is looked at again within a second.
    fn abandon_copy(&mut self, error: Option<&io::Error>) {
        if let Some(copy) = self.copying.under_way.take() {
            for (path, target) in copy.targets {
                // Room is wanted at once, and what is in it stands in the outbox, too.
                if error.is_some_and(atomic::is_disk_full)
                    && let Err(error) = target.set_length(0)
                {
                    tracing::warn!(%error, "a copy that was begun cannot be cut");
                }
                self.sweeping.add(path);
            }
        }
        if let Some(error) = error {
            tracing::warn!(%error, "a large file cannot be copied now");
            self.copying.refused = Some((COPY_RETRY_S, error.to_string()));
        }
    }

    /// The disk takes nothing more, not what is to be recorded either: copies of ours go before that waits.
    pub(super) fn make_room(&mut self) {
        if self.copying.is_under_way() {
            self.abandon_copy(Some(&io::Error::from_raw_os_error(libc::ENOSPC)));
        }
        self.sweeping.go_on(&self.root);
    }

    fn send_copy(&mut self, taken: Taken, copied: Copied, now: Timestamp) {
        let path = taken.path.clone();
        let is_there = self.root.disk().stat(&self.root.join(&path)).is_ok_and(|found| found.is_same(&taken.stat));
        let directory = path.parent().unwrap_or(&path);
        let result = match is_there && copied.size == taken.stat.size {
            // Copying took its time, in which a person may have made the directory read-only.
            true => check_leaving(directory, &taken, &self.root)
                .map_err(NotSent::Directory)
                .and_then(|()| self.send_taken(taken, Held::Copied(copied), now)),
            false => Err(NotSent::Waits("it was moved or written to while it was copied".into())),
        };
        self.note_result(&path, result);
    }

    /// A file that is too large for the journal.
    pub(super) fn copy_first(&mut self, taken: Taken, directory: &Path) -> Result<(), NotSent> {
        if self.large.is_full() {
            return Err(NotSent::Waits("as many large files as may be are on their way".into()));
        }
        // What is wrong with its directory is said before it is copied.
        let recipients = self.participants_of(directory)?;
        if recipients.iter().any(|recipient| self.large.count_for(recipient) >= LARGE_PER_RECIPIENT_MAX) {
            return Err(NotSent::Waits(
                "as many large files as may be are on their way to one of its recipients".into(),
            ));
        }
        Err(self.begin_copy(taken))
    }
}
