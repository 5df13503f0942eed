//! What a batch writes, and what may follow once that is recorded (design, section 9, rule 1).

use std::collections::BTreeSet;

use super::engine::Engine;
use super::event::{Errand, Order};
use super::hooks::Occasion;
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
        self.write_gaps();
        let steps = self.pending.take_steps().steps;
        for (peer, bytes) in self.sessions.take_dirty() {
            self.pending.put_secret_or_erase(root::sessions_file(&peer), bytes);
        }
        if let Some(bytes) = self.prekeys.take_dirty() {
            self.pending.put_secret_or_erase(root::prekeys_file(), bytes);
        }
        let transcripts = self.transcripts.take_dirty();
        for (path, bytes) in
            self.conversations.take_dirty().into_iter().chain(self.known.take_dirty()).chain(transcripts)
        {
            self.pending.put(path, bytes);
        }
        for (path, bytes) in self.large.take_dirty().into_iter().chain(self.arriving.take_dirty()) {
            match bytes {
                Some(bytes) => self.pending.put(path, bytes),
                None => self.pending.remove(path),
            }
        }
        match self.recovery.take_dirty() {
            Some(bytes) if bytes.is_empty() => self.pending.remove(root::recovery_file()),
            Some(bytes) => self.pending.put(root::recovery_file(), bytes),
            None => {}
        }
        self.acknowledging.write_dirty(&mut self.pending);
        self.put_dropped();
        if let Some(bytes) = self.counter.take_dirty() {
            self.pending.put(root::counter_file(), bytes);
        }
        let state = self.pending.take_steps().steps;
        let (takes, others): (Vec<_>, Vec<_>) = steps.into_iter().partition(pending::is_take);
        let (places, others): (Vec<_>, Vec<_>) = others.into_iter().partition(pending::is_place);
        self.hooks.note_appearing(places.iter(), &self.deliveries);
        for (path, delivery) in std::mem::take(&mut self.deliveries) {
            self.pending.put(path, delivery.to_string());
        }
        let deliveries = self.pending.take_steps().steps;
        let transaction =
            Transaction { steps: [state, others, deliveries, places, takes].into_iter().flatten().collect() };
        self.meanings.clear();
        (!transaction.steps.is_empty()).then_some(transaction)
    }

    /// The transaction is recorded, and will happen whatever crashes: what may follow it.
    pub fn recorded(&mut self, now: Timestamp) -> Consequences {
        self.pending.alerts.recorded();
        let mut orders = self.released();
        self.large.take_gone().into_iter().for_each(|copy| self.sweeping.add(copy));
        self.arriving.set_aside(&self.root).into_iter().for_each(|content| self.sweeping.add(content));
        let profiles_changed = std::mem::take(&mut self.profiles_changed);
        // What has waited for the start leaves to all in the moment that our server's answer releases it: a server that is
        // in league with others could tell by that who is whose.
        let is_released_at_once = !self.has_sealed_before;
        self.has_sealed_before = self.counter.may_seal();
        let recipients: BTreeSet<Fingerprint> = self
            .spool
            .recipients()
            .into_iter()
            .chain(self.sessions.outranked())
            .chain(self.large.recipients())
            .collect();
        for recipient in recipients {
            let Some(profile) = self.people.profile(&recipient).cloned() else { continue };
            if profiles_changed {
                orders.push(Order { recipient: profile.clone(), errand: Errand::NewProfile, spreads: false });
            }
            for (sequence, item, ticket) in self.spool.hand_out(&self.root, &recipient) {
                let spreads = item.spreads || is_released_at_once;
                if let Form::Sealed { envelope, opening } = item.form {
                    let errand = Errand::Deliver { sequence, envelope, alone: opening, ticket };
                    orders.push(Order { recipient: profile.clone(), errand, spreads });
                }
            }
            let asked = self.asked.get(&recipient);
            let may_ask = self.counter.may_seal() && asked.is_none_or(|asked| asked.is_due(now));
            if may_ask && self.may_open(&recipient, now) {
                self.asked.entry(recipient).or_default().again = None;
                let spreads = self.spool.waiting_spreads(&recipient) || is_released_at_once;
                orders.push(Order { recipient: profile, errand: Errand::TakePrekey, spreads });
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

    /// The transaction's files are in their places: lets go of what was held for them, and hands out for what hooks are to
    /// be run now.
    pub fn applied(&mut self) -> Vec<Occasion> {
        self.pending.applied();
        self.arriving.applied();
        self.dropped_are_recorded();
        self.say_uncancelled();
        self.tidy_requests();
        self.sweep_set_aside();
        self.take_occasions()
    }

    /// All of it is on the disk there, too.
    pub fn checkpointed(&mut self) {
        self.spool.checkpointed();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::client::account::Account;
    use crate::client::event::Event;
    use crate::client::policy::Policy;
    use crate::client::root::Root;
    use crate::crypto::dh::SecretKey;
    use crate::disk::journal::Journal;
    use crate::disk::watch::Hint;
    use crate::net::dialer::Way;
    use crate::wire::address::ServerAddress;
    use rand_core::OsRng;

    /// What the couriers of Bob and Carol are told after files were dropped into these directories, one after the other:
    /// for each whether it is one of several things to different people, in this run and in the next.
    fn told(directories: &[&str], is_released_before: bool) -> [Vec<bool>; 2] {
        let scratch = tempfile::tempdir().unwrap();
        let account = |name: &str| {
            let root = Root::new(scratch.path().join(name));
            fs::create_dir(root.path()).unwrap();
            let server = ServerAddress::new("localhost", 1, SecretKey::random(&mut OsRng).public()).unwrap();
            (root.clone(), Account::create(&root, name, server, "", &mut OsRng).unwrap())
        };
        let (root, _) = account("alice");
        for name in ["bob", "carol"] {
            let card = format!("{}\n", account(name).1.profile);
            fs::write(root.contacts().join(format!("{name}.card")), card).unwrap();
        }
        let (mut journal, _) = Journal::open(root.shared_disk(), root.path()).unwrap();
        let mut engine = Engine::load(root.clone(), Policy::by_default(&Way::Direct)).unwrap();
        if is_released_before {
            engine.handle(Event::Counter(None), Timestamp::now()).unwrap();
            let transaction = engine.transaction();
            journal.commit(&mut transaction.into_iter().collect()).unwrap();
            assert!(engine.recorded(Timestamp::now()).orders.is_empty());
        }
        for name in directories {
            let directory = root.outbox().join(name);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("x"), "hello").unwrap();
            engine.handle(Event::Hint(Hint::Rescan), Timestamp::now()).unwrap();
            while engine.work_outbox(Timestamp::now()) {}
        }
        journal.commit(&mut vec![engine.transaction().unwrap()]).unwrap();
        journal.checkpoint().unwrap();
        let mut spreads = |engine: &mut Engine| {
            if !is_released_before || !engine.has_sealed_before {
                engine.handle(Event::Counter(None), Timestamp::now()).unwrap();
                let transaction = engine.transaction();
                journal.commit(&mut transaction.into_iter().collect()).unwrap();
            }
            let orders = engine.recorded(Timestamp::now()).orders;
            assert!(orders.iter().all(|order| matches!(order.errand, Errand::TakePrekey)));
            orders.iter().map(|order| order.spreads).collect()
        };
        [spreads(&mut engine), spreads(&mut Engine::load(root, Policy::by_default(&Way::Direct)).unwrap())]
    }

    #[test]
    fn what_a_message_to_several_asks_for_is_spread_and_what_one_to_one_person_does_is_not() {
        assert_eq!(told(&["bob,carol"], true)[0], [true, true]);
        assert_eq!(told(&["bob"], true)[0], [false]);
        assert_eq!(told(&["bob", "carol"], true)[0], [false, false]);
    }

    #[test]
    fn what_has_waited_for_the_start_is_spread_whoever_it_is_for() {
        for directories in [&["bob,carol"][..], &["bob", "carol"]] {
            assert_eq!(told(directories, false), [[true, true], [true, true]]);
            assert_eq!(told(directories, true)[1], [true, true], "in the next run");
        }
    }
}
