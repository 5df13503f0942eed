//! Messages on their way, one queue per recipient: first those that wait for a session, then, sealed once and for all,
//! those that wait for the recipient's server. Recipients do not wait for each other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::pending::Pending;
use super::root::{self, Root};
use super::state::{self, StateError};
use super::ticket::{Left, Ticket};
use super::unsent::Unsent;
use crate::clock::Timestamp;
use crate::disk::system::Disk;
use crate::limits::{COURIER_QUEUE_MAX, SPOOL_HELD_MAX};
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::sent::SentKey;
use crate::wire::spool::{Form, Spooled};

/// All queues.
#[derive(Debug, Default)]
pub struct Spool {
    queues: HashMap<Fingerprint, Queue>,
    /// What the run before this one knew of some of it is not to be relied on yet: there may be a newer state.
    is_unchecked: bool,
}

#[derive(Default)]
struct Queue {
    items: BTreeMap<u64, Item>,
    /// How many of them wait for a session.
    waiting: usize,
    /// How many of them are parts, for each large content.
    parts: HashMap<MessageId, usize>,
    /// Up to here the courier has them.
    handed_out: u64,
    next: u64,
}

/// One message, of which the bytes may be on the disk alone.
struct Item {
    message: MessageId,
    is_part: bool,
    conversation: ConversationId,
    file: String,
    is_waiting: bool,
    is_opening: bool,
    /// Whether it was written to a connection. What was sealed in a former run may have been, unless that knew better.
    ticket: Ticket,
    /// The run before this one knew that nobody had written it.
    is_trusted: bool,
    spreads: bool,
    /// When a look first found that its place is a time in the future: the clock was ahead when it was queued.
    ahead_since: Option<Timestamp>,
    held: Option<Spooled>,
}

/// A message's place in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose queue.
    pub recipient: Fingerprint,
    /// Its place there.
    pub sequence: u64,
    /// Where it belongs.
    pub conversation: ConversationId,
    /// Its file's name in the conversation's directory.
    pub file: String,
}

/// What a message was, for its `.delivery` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its id.
    pub message: MessageId,
    /// Whether it was one part of a large content.
    pub is_part: bool,
    /// Where it belongs.
    pub conversation: ConversationId,
    /// Its file's name in the conversation's directory.
    pub file: String,
    /// Whether it had not been sealed.
    pub was_waiting: bool,
    /// Whether its recipient's server may have it.
    pub may_have_arrived: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Queue").field("items", &self.items.len()).finish_non_exhaustive()
    }
}

impl Item {
    fn new(spooled: Spooled) -> Self {
        Self {
            message: spooled.message,
            is_part: spooled.is_part,
            conversation: spooled.conversation,
            file: spooled.file.clone(),
            is_waiting: matches!(spooled.form, Form::Waiting(_)),
            is_opening: matches!(spooled.form, Form::Sealed { opening: true, .. }),
            ticket: Ticket::new(),
            is_trusted: false,
            spreads: spooled.spreads,
            ahead_since: None,
            held: Some(spooled),
        }
    }

    fn removed(&self, may_have_arrived: bool) -> Removed {
        Removed {
            was_waiting: self.is_waiting,
            message: self.message,
            is_part: self.is_part,
            conversation: self.conversation,
            file: self.file.clone(),
            may_have_arrived,
        }
    }

    /// All of it, from memory or from the disk. None where the disk does not give it now: it is asked again later.
    fn whole(&self, root: &Root, recipient: &Fingerprint, sequence: u64) -> Option<Spooled> {
        if let Some(held) = &self.held {
            return Some(held.clone());
        }
        let path = root.join(root::spool_file(recipient, sequence));
        let read = state::read(root.disk(), &path).map_err(|error| error.to_string());
        let whole = read.and_then(|bytes| Spooled::from_bytes(&bytes).map_err(|error| error.to_string()));
        whole.inspect_err(|error| tracing::warn!(%error, "a message that waits cannot be read now")).ok()
    }
}

impl Queue {
    fn add(&mut self, sequence: u64, item: Item) {
        self.waiting += usize::from(item.is_waiting);
        if item.is_part {
            *self.parts.entry(item.message).or_default() += 1;
        }
        self.items.insert(sequence, item);
    }

    fn take(&mut self, sequence: u64) -> Option<Item> {
        let item = self.items.remove(&sequence)?;
        self.waiting -= usize::from(item.is_waiting);
        if let Some(count) = self.parts.get_mut(&item.message).filter(|_| item.is_part) {
            *count -= 1;
            if *count == 0 {
                self.parts.remove(&item.message);
            }
        }
        Some(item)
    }
}

impl Spool {
    /// Reads `journal/spool/`.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(disk: &dyn Disk, directory: &Path) -> Result<Self, StateError> {
        let mut spool = Self::default();
        for (path, name) in state::files(disk, directory)? {
            let Some(recipient) = Fingerprint::from_hex(&name) else { continue };
            let mut queue = Queue::default();
            let mut files: Vec<_> = state::files(disk, &path)?;
            files.sort();
            for (path, name) in files {
                let Ok(sequence) = name.parse() else { continue };
                let spooled = Spooled::from_bytes(&state::read(disk, &path)?)
                    .map_err(|error| StateError::malformed(&path, error))?;
                let mut item = Item::new(spooled);
                if !item.is_waiting {
                    item.ticket = Ticket::doubtful();
                }
                if queue.items.len() >= SPOOL_HELD_MAX {
                    item.held = None;
                }
                queue.next = queue.next.max(sequence + 1);
                queue.add(sequence, item);
            }
            spool.queues.insert(recipient, queue);
        }
        Ok(spool)
    }

    /// Of these the run before this one knew that nobody had written them. That counts once the state is known to be the newest:
    /// else it went on elsewhere, and they may have been written there.
    pub fn trust(&mut self, unsent: &Unsent) {
        for (recipient, from) in unsent {
            let items = self.queues.get_mut(recipient).into_iter().flat_map(|queue| queue.items.range_mut(*from..));
            for (_, item) in items.filter(|(_, item)| !item.is_waiting) {
                (item.ticket, item.is_trusted) = (Ticket::new(), true);
                self.is_unchecked = true;
            }
        }
    }

    /// This state is the newest.
    pub fn believe(&mut self) {
        self.is_unchecked = false;
    }

    /// Nobody knows whether this state is the newest, and nobody will: what it knew of messages that wait is worth nothing, unless
    /// it was believed before.
    pub fn distrust(&mut self) {
        if std::mem::take(&mut self.is_unchecked) {
            let items = self.queues.values().flat_map(|queue| queue.items.values());
            items.filter(|item| item.is_trusted).for_each(|item| item.ticket.doubt());
        }
    }

    /// This state is an old one: whatever was sealed may have been written.
    pub fn doubt(&self) {
        let items = self.queues.values().flat_map(|queue| queue.items.values());
        items.filter(|item| !item.is_waiting).for_each(|item| item.ticket.doubt());
    }

    /// Nobody sends anything from now on. Hands out from where on nobody has ever sent anything, for each recipient.
    pub fn withdraw_unsent(&self) -> Unsent {
        let last = |queue: &Queue| {
            let sealed = queue.items.iter().rev().filter(|(_, item)| !item.is_waiting);
            let unsent = sealed.take_while(|(_, item)| item.ticket.withdraw() == Left::Never);
            unsent.last().map(|(sequence, _)| *sequence)
        };
        self.queues.iter().filter_map(|(recipient, queue)| Some((*recipient, last(queue)?))).collect()
    }

    /// Everything is on the disk: lets go of the bytes of messages whose turn is not soon.
    pub fn checkpointed(&mut self) {
        for queue in self.queues.values_mut() {
            queue.items.values_mut().skip(SPOOL_HELD_MAX).for_each(|item| item.held = None);
        }
    }

    /// Adds a message to the end of a recipient's queue. Its place is a time in microseconds, or one above the last, so
    /// that no place is given twice, across restarts too: a courier's late answer never means another message.
    pub fn push(&mut self, recipient: Fingerprint, spooled: Spooled, now: Timestamp, pending: &mut Pending) {
        let queue = self.queues.entry(recipient).or_default();
        let sequence = queue.next.max(now.micros());
        queue.next = sequence + 1;
        let path = root::spool_file(&recipient, sequence);
        match spooled.form {
            Form::Waiting(_) => pending.put_secret(path, spooled.to_bytes()),
            // What a server may hold is no secret on our own disk.
            Form::Sealed { .. } => pending.put(path, spooled.to_bytes().to_vec()),
        }
        queue.add(sequence, Item::new(spooled));
    }

    /// Replaces a waiting message by its sealed form.
    pub fn seal(&mut self, recipient: &Fingerprint, sequence: u64, sealed: Spooled, pending: &mut Pending) {
        self.replace(recipient, sequence, sealed, pending);
    }

    /// Puts something else into the place of a waiting message, and hands out what that was.
    pub fn replace(
        &mut self,
        recipient: &Fingerprint,
        sequence: u64,
        by: Spooled,
        pending: &mut Pending,
    ) -> Option<Removed> {
        let queue = self.queues.get_mut(recipient)?;
        let item = queue.items.get_mut(&sequence)?;
        let removed = item.removed(false);
        queue.waiting -= usize::from(item.is_waiting);
        pending.put_secret(root::spool_file(recipient, sequence), by.to_bytes());
        *item = Item::new(by);
        queue.waiting += usize::from(item.is_waiting);
        Some(removed)
    }

    /// Whether a message waits for a session.
    pub fn is_waiting(&self, recipient: &Fingerprint, sequence: u64) -> bool {
        self.item(recipient, sequence).is_some_and(|item| item.is_waiting)
    }

    /// Whether something of a conversation stands in somebody's queue, in another place than these.
    pub fn has_more_of(&self, recipient: &Fingerprint, conversation: &ConversationId, places: &[u64]) -> bool {
        let items = self.queues.get(recipient).into_iter().flat_map(|queue| &queue.items);
        items.into_iter().any(|(place, item)| item.conversation == *conversation && !places.contains(place))
    }

    /// Takes a message out that was accepted or given up. Nobody sends it from now on.
    pub fn remove(&mut self, recipient: &Fingerprint, sequence: u64, pending: &mut Pending) -> Option<Removed> {
        let item = self.queues.get_mut(recipient)?.take(sequence)?;
        let may_have_arrived = self.take_back(&item) == Left::Perhaps;
        let path = root::spool_file(recipient, sequence);
        match item.is_waiting {
            true => pending.erase(path),
            false => pending.remove(path),
        }
        Some(item.removed(may_have_arrived))
    }

    fn item(&self, recipient: &Fingerprint, sequence: u64) -> Option<&Item> {
        self.queues.get(recipient)?.items.get(&sequence)
    }

    /// All of one message, if the disk gives it now.
    pub fn whole(&self, root: &Root, recipient: &Fingerprint, sequence: u64) -> Option<Spooled> {
        self.item(recipient, sequence)?.whole(root, recipient, sequence)
    }

    /// Whether a message was sealed as the opening of a session.
    pub fn is_opening(&self, recipient: &Fingerprint, sequence: u64) -> bool {
        self.item(recipient, sequence).is_some_and(|item| item.is_opening)
    }

    fn take_back(&self, item: &Item) -> Left {
        match item.ticket.withdraw() {
            Left::Never if self.is_unchecked && item.is_trusted => Left::Perhaps,
            left => left,
        }
    }

    /// Nobody sends this message from now on. True if nobody ever has.
    pub fn withdraw(&self, recipient: &Fingerprint, sequence: u64) -> bool {
        self.item(recipient, sequence).is_some_and(|item| self.take_back(item) == Left::Never)
    }

    /// Whether sealed messages are behind one, other than these.
    pub fn has_sealed_behind(&self, recipient: &Fingerprint, sequence: u64, others: &[u64]) -> bool {
        let Some(queue) = self.queues.get(recipient) else { return false };
        let mut behind = queue.items.range(sequence + 1..);
        behind.any(|(place, item)| !item.is_waiting && others.binary_search(place).is_err())
    }

    /// An envelope goes on its way as nobody's: its message is done with, and may arrive all the same. Hands out what it was, if
    /// it was anybody's.
    pub fn disown(
        &mut self,
        recipient: &Fingerprint,
        sequence: u64,
        whole: Spooled,
        pending: &mut Pending,
    ) -> Option<Removed> {
        let queue = self.queues.get_mut(recipient)?;
        let item = queue.items.get_mut(&sequence)?;
        let removed = item.removed(true);
        let nobodys = Spooled { conversation: ConversationId([0; 16]), file: String::new(), ..whole };
        if item.conversation == nobodys.conversation {
            return None;
        }
        pending.put(root::spool_file(recipient, sequence), nobodys.to_bytes().to_vec());
        *item = Item { ticket: item.ticket.clone(), is_trusted: item.is_trusted, ..Item::new(nobodys) };
        Some(removed)
    }

    /// The places of these messages, in order.
    pub fn places_of(&self, recipient: &Fingerprint, ids: &HashSet<(ConversationId, MessageId)>) -> Vec<u64> {
        let items = self.queues.get(recipient).filter(|_| !ids.is_empty()).into_iter().flat_map(|queue| &queue.items);
        let these = items.filter(|(_, item)| ids.contains(&(item.conversation, item.message)));
        these.map(|(sequence, _)| *sequence).collect()
    }

    /// Whether anything is queued for somebody.
    pub fn has_any(&self, recipient: &Fingerprint) -> bool {
        self.queues.get(recipient).is_some_and(|queue| !queue.items.is_empty())
    }

    /// The places of messages that were queued before a time, in order. What was queued while the clock was ahead counts from
    /// the first such look at it.
    pub fn places_before(&mut self, recipient: &Fingerprint, time: Timestamp, now: Timestamp) -> Vec<u64> {
        let Some(queue) = self.queues.get_mut(recipient) else { return Vec::new() };
        let mut places: Vec<u64> = queue.items.range(..time.micros()).map(|(sequence, _)| *sequence).collect();
        for (sequence, item) in queue.items.range_mut(now.micros().saturating_add(1)..) {
            let since = *item.ahead_since.get_or_insert(now);
            // The clock was set back once more.
            item.ahead_since = Some(since.min(now));
            if since < time {
                places.push(*sequence);
            }
        }
        places
    }

    /// The first messages of a recipient that wait for a session, at most `limit`, in order.
    pub fn waiting(&self, root: &Root, recipient: &Fingerprint, limit: usize) -> Vec<(u64, Spooled)> {
        let items = self.queues.get(recipient).into_iter().flat_map(|queue| &queue.items);
        let waiting = items.filter(|(_, item)| item.is_waiting).take(limit);
        waiting.map_while(|(sequence, item)| Some((*sequence, item.whole(root, recipient, *sequence)?))).collect()
    }

    /// Whether messages of a recipient wait for a session: later ones then wait behind them.
    pub fn has_waiting(&self, recipient: &Fingerprint) -> bool {
        self.queues.get(recipient).is_some_and(|queue| queue.waiting > 0)
    }

    /// Whether this message of a conversation waits for a recipient, or is on its way.
    pub fn holds(&self, recipient: &Fingerprint, conversation: &ConversationId, file: &str) -> bool {
        let items = self.queues.get(recipient).into_iter().flat_map(|queue| queue.items.values());
        items.into_iter().any(|item| item.conversation == *conversation && item.file == file)
    }

    /// The same by the message's id: what goes on its way as nobody's is not counted.
    pub fn holds_message(&self, SentKey { recipient, conversation, message }: &SentKey) -> bool {
        let items = self.queues.get(recipient).into_iter().flat_map(|queue| queue.items.values());
        items.into_iter().any(|item| item.message == *message && item.conversation == *conversation)
    }

    /// All messages that wait for a recipient, or are on their way.
    pub fn messages_for(&self, recipient: &Fingerprint) -> HashSet<MessageId> {
        let items = self.queues.get(recipient).into_iter().flat_map(|queue| queue.items.values());
        items.map(|item| item.message).collect()
    }

    /// Everywhere that a message stands, in all queues.
    pub fn find(&self, message: &MessageId) -> Vec<Found> {
        let mut all = Vec::new();
        for (recipient, queue) in &self.queues {
            let these = queue.items.iter().filter(|(_, item)| item.message == *message && !item.file.is_empty());
            all.extend(these.map(|(sequence, item)| Found {
                recipient: *recipient,
                sequence: *sequence,
                conversation: item.conversation,
                file: item.file.clone(),
            }));
        }
        all
    }

    /// How many parts of large contents stand in a recipient's queue.
    pub fn parts(&self, recipient: &Fingerprint) -> usize {
        self.queues.get(recipient).map_or(0, |queue| queue.parts.values().sum())
    }

    /// The same of one content.
    pub fn parts_of(&self, recipient: &Fingerprint, message: &MessageId) -> usize {
        self.queues.get(recipient).and_then(|queue| queue.parts.get(message)).copied().unwrap_or(0)
    }

    /// Whether the first message that waits for a session with a recipient is one of several to different people. Where none
    /// waits a session is wanted because of what our server has pushed to us, and by its moment servers could tell whose: that
    /// spreads.
    pub fn waiting_spreads(&self, recipient: &Fingerprint) -> bool {
        let items = self.queues.get(recipient).into_iter().flat_map(|queue| queue.items.values());
        items.filter(|item| item.is_waiting).map(|item| item.spreads).next().unwrap_or(true)
    }

    /// The next sealed messages for a recipient's courier, each with its place and its ticket, at most [`COURIER_QUEUE_MAX`] ahead
    /// of what was accepted.
    pub fn hand_out(&mut self, root: &Root, recipient: &Fingerprint) -> Vec<(u64, Spooled, Ticket)> {
        let Some(queue) = self.queues.get_mut(recipient) else { return Vec::new() };
        let under_way = queue.items.range(..=queue.handed_out).count();
        let ahead = queue.items.range(queue.handed_out + 1..);
        let sealed = ahead.take_while(|(_, item)| !item.is_waiting);
        let next: Vec<(u64, Spooled, Ticket)> = sealed
            .take(COURIER_QUEUE_MAX.saturating_sub(under_way))
            .map_while(|(sequence, item)| {
                Some((*sequence, item.whole(root, recipient, *sequence)?, item.ticket.clone()))
            })
            .collect();
        queue.handed_out = next.last().map_or(queue.handed_out, |(sequence, ..)| *sequence);
        next
    }

    /// Everybody for whom something waits.
    pub fn recipients(&self) -> Vec<Fingerprint> {
        let busy = self.queues.iter().filter(|(_, queue)| !queue.items.is_empty());
        busy.map(|(recipient, _)| *recipient).collect()
    }

    /// What waits for one recipient.
    pub fn len_of(&self, recipient: &Fingerprint) -> usize {
        self.queues.get(recipient).map_or(0, |queue| queue.items.len())
    }

    /// Envelopes that wait, or what becomes one.
    pub fn len(&self) -> usize {
        self.queues.values().map(|queue| queue.items.len()).sum()
    }

    /// The same without the parts of large contents.
    pub fn len_without_parts(&self) -> usize {
        let parts: usize = self.queues.values().flat_map(|queue| queue.parts.values()).sum();
        self.len().saturating_sub(parts)
    }
}

#[cfg(test)]
mod tests;
