//! Messages on their way, one queue per recipient: first those that wait for a session, then, sealed once and for all,
//! those that wait for the recipient's server. Recipients do not wait for each other.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::pending::Pending;
use super::root;
use super::state::{self, StateError};
use crate::clock::Timestamp;
use crate::disk::system::Disk;
use crate::limits::COURIER_QUEUE_MAX;
use crate::wire::identity::Fingerprint;
use crate::wire::spool::{Form, Spooled};

/// All queues.
#[derive(Debug, Default)]
pub struct Spool {
    queues: HashMap<Fingerprint, Queue>,
}

#[derive(Default)]
struct Queue {
    items: BTreeMap<u64, Spooled>,
    /// Up to here the courier has them.
    handed_out: u64,
    next: u64,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Queue").field("items", &self.items.len()).finish_non_exhaustive()
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
            for (path, name) in state::files(disk, &path)? {
                let Ok(sequence) = name.parse() else { continue };
                let item = Spooled::from_bytes(&state::read(disk, &path)?)
                    .map_err(|error| StateError::malformed(&path, error))?;
                queue.items.insert(sequence, item);
                queue.next = queue.next.max(sequence + 1);
            }
            spool.queues.insert(recipient, queue);
        }
        Ok(spool)
    }

    /// Adds a message to the end of a recipient's queue. Its place is a time in microseconds, or one above the last, so
    /// that no place is given twice, across restarts too: a courier's late answer never means another message.
    pub fn push(&mut self, recipient: Fingerprint, item: Spooled, now: Timestamp, pending: &mut Pending) {
        let queue = self.queues.entry(recipient).or_default();
        let sequence = queue.next.max(now.micros());
        queue.next = sequence + 1;
        let path = root::spool_file(&recipient, sequence);
        match item.form {
            Form::Waiting(_) => pending.put_secret(path, item.to_bytes()),
            // What a server may hold is no secret on our own disk.
            Form::Sealed { .. } => pending.put(path, item.to_bytes().to_vec()),
        }
        queue.items.insert(sequence, item);
    }

    /// Replaces a waiting message by its sealed form.
    pub fn seal(&mut self, recipient: &Fingerprint, sequence: u64, form: Form, pending: &mut Pending) {
        let item = self.queues.get_mut(recipient).and_then(|queue| queue.items.get_mut(&sequence));
        if let Some(item) = item {
            item.form = form;
            pending.put_secret(root::spool_file(recipient, sequence), item.to_bytes());
        }
    }

    /// Takes a message out that was accepted or given up.
    pub fn remove(&mut self, recipient: &Fingerprint, sequence: u64, pending: &mut Pending) -> Option<Spooled> {
        let item = self.queues.get_mut(recipient)?.items.remove(&sequence)?;
        let path = root::spool_file(recipient, sequence);
        match item.form {
            Form::Waiting(_) => pending.erase(path),
            Form::Sealed { .. } => pending.remove(path),
        }
        Some(item)
    }

    /// The first messages of a recipient that wait for a session, at most `limit`, in order.
    pub fn waiting(&self, recipient: &Fingerprint, limit: usize) -> Vec<(u64, Spooled)> {
        let items = self.queues.get(recipient).into_iter().flat_map(|queue| &queue.items);
        let waiting = items.filter(|(_, item)| matches!(item.form, Form::Waiting(_)));
        waiting.take(limit).map(|(sequence, item)| (*sequence, item.clone())).collect()
    }

    /// Whether messages of a recipient wait for a session: later ones then wait behind them.
    pub fn has_waiting(&self, recipient: &Fingerprint) -> bool {
        let last = self.queues.get(recipient).and_then(|queue| queue.items.values().next_back());
        last.is_some_and(|item| matches!(item.form, Form::Waiting(_)))
    }

    /// The next sealed messages for a recipient's courier, at most [`COURIER_QUEUE_MAX`] ahead of what was accepted.
    pub fn hand_out(&mut self, recipient: &Fingerprint) -> Vec<(u64, Spooled)> {
        let Some(queue) = self.queues.get_mut(recipient) else { return Vec::new() };
        let under_way = queue.items.range(..=queue.handed_out).count();
        let ahead = queue.items.range(queue.handed_out + 1..);
        let sealed = ahead.take_while(|(_, item)| matches!(item.form, Form::Sealed { .. }));
        let next: Vec<(u64, Spooled)> = sealed
            .take(COURIER_QUEUE_MAX.saturating_sub(under_way))
            .map(|(sequence, item)| (*sequence, item.clone()))
            .collect();
        queue.handed_out = next.last().map_or(queue.handed_out, |(sequence, _)| *sequence);
        next
    }

    /// Everybody for whom something waits.
    pub fn recipients(&self) -> Vec<Fingerprint> {
        let busy = self.queues.iter().filter(|(_, queue)| !queue.items.is_empty());
        busy.map(|(recipient, _)| *recipient).collect()
    }

    /// Messages that wait, counted once for each recipient.
    pub fn len(&self) -> usize {
        self.queues.values().map(|queue| queue.items.len()).sum()
    }
}
