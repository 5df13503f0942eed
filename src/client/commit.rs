//! What a batch writes, and what may follow once that is recorded (design, section 9, rule 1).

use std::collections::BTreeSet;

use super::engine::Engine;
use super::event::{Errand, Order};
use super::pending;
use super::root;
use crate::clock::Timestamp;
use crate::wire::identity::Fingerprint;
use crate::wire::journal::Transaction;
use crate::wire::prekey::SignedPrekey;
use crate::wire::spool::Form;

/// What may happen once the transaction is recorded.
#[derive(Debug, Default)]
pub struct Consequences {
    /// Envelopes to delete at our server.
    pub deletions: Vec<u64>,
    /// Prekeys to upload.
    pub uploads: Vec<SignedPrekey>,
    /// Whether they replace all that are there.
    pub replaces: bool,
    /// A number to write in the counter's place at our server, with the record that says it.
    pub counter: Option<(u64, Vec<u8>)>,
    /// Whether our server is to count our prekeys now.
    pub count: bool,
    /// Errands for couriers.
    pub orders: Vec<Order>,
    /// Whether our mailbox is to be pushed anew.
    pub reconnect: bool,
}

impl Engine {
    /// Everything that changed since the last commit, as one transaction; none if nothing did. What explains comes
    /// before what it explains: who sees a message finds its `.delivery/` file, who sees an outbox file gone finds its
    /// copy.
    pub fn transaction(&mut self) -> Option<Transaction> {
        let steps = self.pending.take_steps().steps;
        for (peer, bytes) in self.sessions.take_dirty() {
            self.pending.put_secret_or_erase(root::sessions_file(&peer), bytes);
        }
        if let Some(bytes) = self.prekeys.take_dirty() {
            self.pending.put_secret_or_erase(root::prekeys_file(), bytes);
        }
        for (path, bytes) in self.conversations.take_dirty().into_iter().chain(self.known.take_dirty()) {
            self.pending.put(path, bytes);
        }
        match self.recovery.take_dirty() {
            Some(bytes) if bytes.is_empty() => self.pending.remove(root::recovery_file()),
            Some(bytes) => self.pending.put(root::recovery_file(), bytes),
            None => {}
        }
        if let Some(bytes) = self.counter.take_dirty() {
            self.pending.put(root::counter_file(), bytes);
        }
        let state = self.pending.take_steps().steps;
        for (path, delivery) in std::mem::take(&mut self.deliveries) {
            self.pending.put(path, delivery.to_string());
        }
        let deliveries = self.pending.take_steps().steps;
        let (takes, others): (Vec<_>, Vec<_>) = steps.into_iter().partition(pending::is_take);
        let (places, others): (Vec<_>, Vec<_>) = others.into_iter().partition(pending::is_place);
        let transaction =
            Transaction { steps: [state, others, deliveries, places, takes].into_iter().flatten().collect() };
        self.meanings.clear();
        (!transaction.steps.is_empty()).then_some(transaction)
    }

    /// The transaction is recorded, and will happen whatever crashes: what may follow it.
    pub fn recorded(&mut self, now: Timestamp) -> Consequences {
        let mut orders = Vec::new();
        let profiles_changed = std::mem::take(&mut self.profiles_changed);
        let recipients: BTreeSet<Fingerprint> =
            self.spool.recipients().into_iter().chain(self.sessions.outranked()).collect();
        for recipient in recipients {
            let Some(profile) = self.people.profile(&recipient).cloned() else { continue };
            if profiles_changed {
                orders.push(Order { recipient: profile.clone(), errand: Errand::NewProfile });
            }
            for (sequence, item) in self.spool.hand_out(&self.root, &recipient) {
                if let Form::Sealed { envelope, opening } = item.form {
                    let errand = Errand::Deliver { sequence, envelope, alone: opening };
                    orders.push(Order { recipient: profile.clone(), errand });
                }
            }
            let asked = self.asked.get(&recipient);
            let may_ask = self.counter.may_seal() && asked.is_none_or(|asked| asked.is_due(now));
            if may_ask && self.may_open(&recipient, now) {
                self.asked.entry(recipient).or_default().again = None;
                orders.push(Order { recipient: profile, errand: Errand::TakePrekey });
            }
        }
        Consequences {
            deletions: std::mem::take(&mut self.deletions),
            uploads: std::mem::take(&mut self.uploads),
            replaces: self.prekeys.take_replaces() || self.recovery.prekeys_due(),
            counter: self.counter.take_write(&self.account.keys, &mut self.rng),
            count: std::mem::take(&mut self.wants_count),
            reconnect: std::mem::take(&mut self.reconnect),
            orders,
        }
    }

    /// The transaction's files are in their places: lets go of what was held for them.
    pub fn applied(&mut self) {
        self.pending.applied();
        self.tidy_requests();
    }

    /// All of it is on the disk there, too.
    pub fn checkpointed(&mut self) {
        self.spool.checkpointed();
    }
}
