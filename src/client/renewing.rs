//! What a loss of state changes in all conversations (design, section 5, "Recovery"). There may be tens of thousands, and somebody
//! else can open most of them: so they change in portions, each in a batch of its own, and `keys/recovery` says how far that has
//! come. Until it is done the outbox waits.

use super::engine::Engine;
use crate::limits::BATCH_BYTES_MAX;
use crate::wire::identity::{ConversationId, Fingerprint};

impl Engine {
    /// A portion of it. True if more is to be done, for which this batch has no room.
    pub(super) fn renew_conversations(&mut self) -> bool {
        self.renew_incarnations() || self.introduce_again()
    }

    /// We have lost state: what we write in a conversation is counted anew, before anything more is written there.
    fn renew_incarnations(&mut self) -> bool {
        while let Some(from) = self.recovery.renewing() {
            if self.conversations.dirty_bytes() > BATCH_BYTES_MAX {
                return true;
            }
            let rest: Vec<ConversationId> = self.conversations.ids_from(from).take(2).collect();
            let incarnation = self.random_16();
            if let Some(record) = rest.first().and_then(|id| self.conversations.get_mut(id)) {
                record.incarnation = incarnation;
                record.counter = 0;
            }
            self.recovery.renew_from(rest.get(1).copied());
        }
        false
    }

    /// Others have lost state: they may not know our conversations any more.
    fn introduce_again(&mut self) -> bool {
        while let Some(peer) = self.recovery.introducing() {
            if self.forget_introductions(&peer) {
                return true;
            }
            self.recovery.introduced(&peer);
        }
        false
    }

    fn forget_introductions(&mut self, peer: &Fingerprint) -> bool {
        let shared = self.conversations.iter().filter(|record| record.introduced.contains(peer));
        let shared: Vec<ConversationId> = shared.map(|record| record.id).collect();
        for id in shared {
            if self.conversations.dirty_bytes() > BATCH_BYTES_MAX {
                return true;
            }
            if let Some(record) = self.conversations.get_mut(&id) {
                record.introduced.remove(peer);
            }
        }
        false
    }

    /// Whether somebody was introduced to a conversation, and knows it still for all we know.
    pub(super) fn is_introduced(&self, recipient: &Fingerprint, id: &ConversationId) -> bool {
        let is_noted = self.conversations.get(id).is_some_and(|record| record.introduced.contains(recipient));
        is_noted && !self.recovery.introduces(recipient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::assembling::tests::Bench;
    use crate::client::event::Event;
    use crate::wire::conversation::ConversationRecord;
    use crate::wire::counter::CounterRecord;
    use rand_core::OsRng;
    use std::fs;

    const OLD: [u8; 16] = [1; 16];

    /// Bob, with so many conversations, all of them introduced, that one batch does not take them.
    fn with_many() -> Bench {
        let mut bob = Bench::new();
        let profiles = vec![bob.conversation.profiles[0].clone(); 20];
        for number in 0..1_500u32 {
            let id = ConversationId(number.to_be_bytes().repeat(4).try_into().unwrap());
            let (directory, profiles) = (format!("no-{number}"), profiles.clone());
            let record = ConversationRecord { id, directory, profiles, counter: 5, ..bob.conversation.clone() };
            bob.engine.conversations.add(record);
        }
        bob.settle();
        bob
    }

    /// What is to be written, which is recorded then, and the daemon is killed.
    fn record(bob: &mut Bench) {
        let transaction = bob.engine.transaction();
        let bytes = transaction.as_ref().map_or(0, |transaction| transaction.to_bytes().len());
        assert!(bytes < 2 * BATCH_BYTES_MAX, "{bytes}");
        bob.commit(transaction);
        bob.restart();
        bob.engine.rescan(bob.now).unwrap();
    }

    fn all(bob: &Bench, is_so: impl Fn(&ConversationRecord) -> bool) -> bool {
        bob.engine.conversations.iter().all(is_so)
    }

    #[test]
    fn after_a_loss_all_conversations_are_counted_anew_in_portions_and_nothing_is_sent_before_that() {
        let mut bob = with_many();
        let outbox = bob.root.outbox().join("alice");
        fs::create_dir_all(&outbox).unwrap();
        fs::write(outbox.join("text"), "hello").unwrap();
        bob.engine.rescan(bob.now).unwrap();
        bob.settle();
        let counter = CounterRecord { number: 5, time: bob.now.seconds() };
        let counter = counter.seal(&bob.engine.account.keys, &mut OsRng);
        bob.engine.handle(Event::Counter(Some(counter)), bob.now).unwrap();
        let first = bob.engine.conversations.iter().next().unwrap().clone();
        assert!(first.incarnation != OLD && first.counter == 0);
        let mut batches = 0;
        while bob.engine.recovery.renewing().is_some() {
            batches += 1;
            assert!(!all(&bob, |record| record.incarnation != OLD));
            record(&mut bob);
            assert!(outbox.join("text").exists());
            bob.engine.work_outbox(bob.now);
        }
        assert!(batches > 1 && all(&bob, |record| record.incarnation != OLD && record.counter <= 1));
        assert_eq!(bob.engine.conversations.get(&first.id), Some(&first), "once");
        while bob.engine.work_outbox(bob.now) {}
        bob.settle();
        assert!(!outbox.join("text").exists());
    }

    #[test]
    fn whoever_has_lost_state_is_introduced_again_everywhere_in_portions_and_meanwhile_counts_as_one_who_knows_nothing()
    {
        let mut bob = with_many();
        let (alice, now) = (bob.alice, bob.now);
        let last = bob.engine.conversations.iter().last().unwrap().id;
        bob.engine.send_again(alice, 0, now);
        let mut batches = 0;
        while bob.engine.recovery.introduces(&alice) {
            batches += 1;
            assert!(!all(&bob, |record| !record.introduced.contains(&alice)));
            assert!(!bob.engine.is_introduced(&alice, &last));
            record(&mut bob);
            bob.engine.work_outbox(now);
        }
        assert!(batches > 1 && all(&bob, |record| !record.introduced.contains(&alice)));
    }
}
