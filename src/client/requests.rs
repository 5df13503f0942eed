//! `requests/NAME~FINGERPRINT8/`: the card and the messages of somebody we hold no card of, until a person decides.
//! Adding the card to `contacts/` accepts: the messages move to their conversations. Moving it to `blocked/` erases them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::alerts;
use super::contacts::REQUEST_CARD;
use super::conversation::Conversations;
use super::delivery::{self, Delivery};
use super::engine::Engine;
use super::pending::Pending;
use super::places;
use super::root::Root;
use crate::clock::Timestamp;
use crate::disk::atomic;
use crate::disk::open::{self, OpenError};
use crate::disk::system::Stat;
use crate::limits::{
    CONTENT_BYTES_MAX, PART_BYTES, REJECTED_CONVERSATIONS_MAX, REQUEST_CONVERSATIONS_MAX, REQUEST_MESSAGES_MAX,
    REQUEST_NAME_TRIES_MAX, REQUESTS_MAX,
};
use crate::name;
use crate::wire::conversation::ConversationRecord;
use crate::wire::identity::{ConversationId, Fingerprint};

/// Where requests wait, relative to the root.
pub(super) const DIRECTORY: &str = "requests";

/// Said of an envelope that opens one conversation too many with strangers.
pub const NO_ROOM: &str = "requests/ holds as many messages of strangers as it may";

/// What the daemon has in a request beside its messages.
const OWN_NAMES: [&str; 2] = [REQUEST_CARD, delivery::DIRECTORY];

/// What to do about a directory that takes nothing.
const MEND_IT: &str = "make it a plain directory on the filesystem of the rest, yours and writable (chmod u+rwx)";

/// A message in `requests/`: its directory, relative to the root, and what is known of it.
pub(super) type Waiting = (PathBuf, Delivery);

/// How many more messages of this stranger may be kept, whose request is, or will be, the directory `name`. One loud
/// stranger silences no other. What comes in one batch with others is not on the disk yet, and counts too.
pub fn room(root: &Root, pending: &Pending, conversations: &Conversations, name: &str) -> usize {
    if conversations.iter().filter(|record| !record.accepted).count() >= REQUEST_CONVERSATIONS_MAX {
        return 0;
    }
    let Some(own) = place(root, pending, name) else { return 0 };
    match root.is_directory(&own) || pending.is_reserved(&own) {
        true => REQUEST_MESSAGES_MAX.saturating_sub(filled(root, &own) + pending.reserved_in(&own)),
        false if root.names(DIRECTORY).len() + pending.reserved_in(Path::new(DIRECTORY)) < REQUESTS_MAX => {
            REQUEST_MESSAGES_MAX
        }
        false => 0,
    }
}

/// Where the messages of this stranger go, whose request is, or will be, the directory `name`: under another name where a person
/// has made something of it that takes none. None where `requests/` itself takes none.
pub(super) fn place(root: &Root, pending: &Pending, name: &str) -> Option<PathBuf> {
    if !places::takes_files(root, Path::new(DIRECTORY)) {
        return None;
    }
    let mut tried =
        (1..=REQUEST_NAME_TRIES_MAX).map(|number| Path::new(DIRECTORY).join(name::numbered_directory(name, number)));
    tried.find(|place| {
        let takes = |found: Stat| places::takes_messages(root, place, &found);
        pending.is_reserved(place) || root.disk().stat(&root.join(place)).map_or(true, takes)
    })
}

/// How many messages a request holds; one that came in parts counts as many.
fn filled(root: &Root, directory: &Path) -> usize {
    let names = root.names(directory.join(delivery::DIRECTORY)).into_iter();
    let parts = |name| {
        let size = root.disk().stat(&root.join(directory.join(name))).map_or(0, |found| found.size);
        usize::try_from(size.div_ceil(PART_BYTES)).unwrap_or(usize::MAX).max(1)
    };
    names.map(parts).fold(0, usize::saturating_add)
}

impl Engine {
    /// Moves the requests of those who have become contacts to conversations, and what was left of others that are accepted.
    pub(super) fn accept_requests(&mut self, waiting: &[Waiting], now: Timestamp) {
        for (directory, delivery) in waiting {
            if self.is_full() {
                self.more_requests = true;
                return;
            }
            let Some(id) = delivery.conversation else { continue };
            if self.people.is_contact(&delivery.from) {
                self.accept(&id, &delivery.from, waiting, now);
            }
            if self.conversations.get(&id).is_some_and(|record| record.accepted) {
                self.move_message(directory, delivery.clone(), &id, now);
            }
        }
    }

    /// A conversation that waited is one of ours from now on, with what others wrote in it.
    pub(super) fn accept_conversation(&mut self, id: &ConversationId, opener: &Fingerprint, now: Timestamp) {
        if self.conversations.get(id).is_some_and(|record| !record.accepted) {
            let waiting = waiting(&self.root);
            self.accept(id, opener, &waiting, now);
        }
    }

    /// The same. Its directory gets the name that it would have had, had we known its opener.
    fn accept(&mut self, id: &ConversationId, opener: &Fingerprint, waiting: &[Waiting], now: Timestamp) {
        let Some(waiting_record) = self.conversations.get(id).filter(|record| !record.accepted).cloned() else {
            return;
        };
        let (participants, subject) = (waiting_record.participants(), &waiting_record.subject);
        let directory = self.free_directory(id, opener, &participants, subject, waiting_record.created);
        self.conversations.add(ConversationRecord { accepted: true, directory, ..waiting_record });
        self.conversations.make_directories(id, &self.people, &mut self.pending);
        self.transcripts.note_changed(id);
        self.alert_untold_forks(now);
        self.notice_other_list(id, opener, now);
        for (directory, delivery) in waiting {
            if delivery.conversation == Some(*id) {
                self.move_message(directory, delivery.clone(), id, now);
            }
        }
    }

    /// Whether messages can be moved out of a request: a person may have made it read-only. Then they stay there, and `status`
    /// says so; the look behind its mending makes up for it.
    fn lets_go(&mut self, directory: &Path) -> bool {
        let lets_go = takes_messages(&self.root, directory);
        match lets_go {
            true => self.holding.remove(directory),
            false => self.holding.insert(directory.to_owned()),
        };
        lets_go
    }

    /// Once a second: whether messages can be moved now that could not.
    pub(super) fn look_at_holding(&mut self) {
        let is_mended = |directory: &PathBuf| takes_messages(&self.root, directory) || !self.root.is_taken(directory);
        if self.holding.iter().any(is_mended) {
            self.holding.clear();
            self.more_requests = true;
        }
    }

    /// What a person has made of a directory of ours so that work there stands still, and what to do; none where all is well.
    pub(super) fn odd_place(&self) -> Option<String> {
        let mut own = [alerts::DIRECTORY, DIRECTORY].iter().map(Path::new);
        let odd = own.find(|directory| !places::takes_files(&self.root, directory));
        if let Some(odd) = odd {
            let lost = if odd == Path::new(DIRECTORY) { "strangers' messages" } else { "alerts" };
            return Some(format!("{}/ takes no files, so that {lost} are not written: {MEND_IT}", odd.display()));
        }
        let holding = self.holding.iter().find(|directory| self.root.is_taken(directory))?;
        let shown = name::escape_path(holding);
        Some(format!("messages cannot be moved out of {shown}, and stay there: {MEND_IT}"))
    }

    /// Moves one message with its `.delivery/` file, and acknowledges it. A message that a person deleted stays deleted.
    fn move_message(&mut self, directory: &Path, mut delivery: Delivery, id: &ConversationId, now: Timestamp) {
        let old = directory.join(&delivery.file);
        let old_delivery = directory.join(delivery::DIRECTORY).join(&delivery.file);
        if !self.lets_go(directory) || !self.moved.insert(old_delivery.clone()) {
            return;
        }
        if self.unremoved.contains(&old_delivery) {
            self.pending.remove(old);
            self.pending.remove(old_delivery);
            return;
        }
        let limit = u64::try_from(CONTENT_BYTES_MAX).unwrap_or(u64::MAX);
        let Some(place) = self.conversations.place(&self.root, id, &self.people, &mut self.pending) else { return };
        let read = open::read_regular(self.root.disk(), &self.root.join(&old), limit);
        if let Err(error @ (OpenError::Io(_) | OpenError::Unreadable)) = &read {
            tracing::warn!(%error, "a message in requests/ stays there; the next look makes up for it");
            self.moved.remove(&old_delivery);
            return;
        }
        if matches!(read, Ok(_) | Err(OpenError::TooLarge { .. })) {
            let author = self.people.name(&delivery.from);
            let wanted = name::renamed_message(&delivery.file, &delivery.from_name, &author);
            let file = self.free_message_name(&place, &wanted, &delivery.id);
            match read {
                Ok(bytes) => {
                    self.pending.place(place.join(&file), Zeroizing::new(bytes.to_vec()));
                    self.pending.remove(old);
                }
                // It came in parts, and was synced before it appeared.
                Err(_) => self.pending.move_in(place.join(&file), old),
            }
            delivery.from_name = author;
            delivery.file = file;
            delivery.conversation = None;
            self.owe_acknowledgement(delivery.from, id, delivery.id, now);
            self.deliveries.insert(place.join(delivery::DIRECTORY).join(&delivery.file), delivery);
        }
        self.pending.remove(old_delivery);
    }

    /// Forgets the oldest conversations of strangers of which nothing waits any more: a person has rejected them. The others
    /// are known, so that who was rejected can write again.
    pub(super) fn forget_rejected(&mut self, waiting: &[Waiting]) {
        if self.pending.bytes() > 0 {
            // What was placed in this batch is not on the disk yet; the next look makes up for it.
            return;
        }
        let waiting: BTreeSet<ConversationId> =
            waiting.iter().filter_map(|(_, delivery)| delivery.conversation).collect();
        let is_rejected = |record: &&ConversationRecord| !record.accepted && !waiting.contains(&record.id);
        let rejected = self.conversations.iter().filter(is_rejected);
        let mut rejected: Vec<(Timestamp, ConversationId)> =
            rejected.map(|record| (record.created, record.id)).collect();
        rejected.sort_unstable();
        let too_many = rejected.len().saturating_sub(REJECTED_CONVERSATIONS_MAX);
        for (_, id) in rejected.into_iter().take(too_many) {
            self.conversations.forget(&id, &mut self.pending);
            self.transcripts.forget(&id, &mut self.pending);
        }
    }

    /// Erases what waits in `requests/` of those who are blocked now.
    pub(super) fn drop_requests_of_blocked(&mut self, waiting: &[Waiting]) {
        for (directory, waiting) in waiting {
            let about = directory.join(delivery::DIRECTORY).join(&waiting.file);
            if self.people.is_blocked(&waiting.from) && self.lets_go(directory) && self.moved.insert(about.clone()) {
                let path = directory.join(&waiting.file);
                if let Ok(found) = self.root.disk().stat(&self.root.join(&path)) {
                    self.erase_message(path, &found);
                }
                self.pending.remove(about);
            }
        }
    }

    /// Removes the directories of requests that have been accepted, or whose authors are blocked: they hold nothing but perhaps the card.
    pub(super) fn tidy_requests(&mut self) {
        let moved = std::mem::take(&mut self.moved);
        // What could not be removed must not be moved once more, and again with every look.
        self.unremoved.extend(moved.iter().filter(|path| self.root.is_taken(path)).cloned());
        self.unremoved.retain(|path| self.root.is_taken(path));
        let emptied: BTreeSet<PathBuf> =
            moved.iter().filter_map(|path| path.parent()?.parent().map(Path::to_owned)).collect();
        for directory in emptied.iter().map(|directory| self.root.join(directory)) {
            // A directory that is not empty stays, which is why none of these may fail loudly; the card may go once no
            // message is left beside it.
            let disk = self.root.disk();
            if disk.remove_directory(&directory.join(delivery::DIRECTORY)).is_ok() {
                let _ = disk.unlink(&directory.join(REQUEST_CARD));
                let _ = disk.remove_directory(&directory);
            }
        }
    }
}

/// Removes what a replay has made anew of requests that were rejected or accepted before the crash: a directory goes by no step
/// of the journal, and while the log still has the steps that made it, these are done again, without the message. Only those that the
/// replay has `made`: who removes messages of a request by hand keeps its card.
pub(super) fn remove_ghosts(root: &Root, made: &[PathBuf]) {
    let directories = made.iter().filter(|directory| directory.parent() == Some(Path::new(DIRECTORY)));
    for directory in directories.filter(|directory| takes_messages(root, directory)) {
        if let Err(error) = remove_ghost(root, directory) {
            // It may be decided about once more.
            tracing::warn!(%error, "what is left of a request cannot be removed");
        }
    }
}

fn unless_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if atomic::is_absent(&error) => Ok(()),
        result => result,
    }
}

/// Removes a request without a message, if nothing else of anybody is in it.
fn remove_ghost(root: &Root, directory: &Path) -> io::Result<()> {
    let (disk, deliveries) = (root.disk(), directory.join(delivery::DIRECTORY));
    let told = root.names(&deliveries);
    let is_there =
        |name| !matches!(disk.stat(&root.join(directory).join(name)), Err(error) if atomic::is_absent(&error));
    if told.iter().any(is_there) || root.names(directory).iter().any(|name| !OWN_NAMES.iter().any(|own| name == own)) {
        return Ok(());
    }
    for path in told.iter().map(|name| root.join(deliveries.join(name))) {
        let text = open::read_text(disk, &path, delivery::BYTES_MAX);
        if text.as_deref().and_then(Delivery::parse).is_some() {
            disk.unlink(&path)?;
        }
    }
    // The card stays where anything else does.
    unless_absent(disk.remove_directory(&root.join(&deliveries)))?;
    unless_absent(disk.unlink(&root.join(directory).join(REQUEST_CARD)))?;
    unless_absent(disk.remove_directory(&root.join(directory)))
}

/// Whether a request stands, and messages can be moved there and out of it.
fn takes_messages(root: &Root, directory: &Path) -> bool {
    let found = root.disk().stat(&root.join(directory));
    found.is_ok_and(|found| places::takes_messages(root, directory, &found))
}

/// All messages in `requests/`, by name, so that each author's are in order.
pub(super) fn waiting(root: &Root) -> Vec<Waiting> {
    let mut found = Vec::new();
    for name in root.names(DIRECTORY) {
        let relative = Path::new(DIRECTORY).join(name);
        let deliveries = relative.join(delivery::DIRECTORY);
        let mut names: Vec<_> =
            root.names(&deliveries).into_iter().filter_map(|name| name.into_string().ok()).collect();
        names.sort_by(|left, right| name::natural_order(left, right));
        for file in names {
            let text = open::read_text(root.disk(), &root.join(deliveries.join(file)), delivery::BYTES_MAX);
            found.extend(text.as_deref().and_then(Delivery::parse).map(|delivery| (relative.clone(), delivery)));
        }
    }
    found
}
