//! Messages of ours that nobody has acknowledged, although their recipient was heard since: the message or its acknowledgement
//! was lost where no later message tells of a gap (design, section 5, "Recovery"). They are sealed anew under their old ids,
//! which makes their recipient acknowledge them also where they are there already.
//!
//! Of somebody who is away nothing is heard, and nothing is sent to them again.

use std::collections::{HashMap, HashSet};

use super::engine::Engine;
use crate::clock::Timestamp;
use crate::limits::{
    RESCAN_INTERVAL_MS, RESENT_TIMES_MAX, UNCONFIRMED_FRACTION, UNCONFIRMED_HEARD_MS, UNCONFIRMED_MAX,
    UNCONFIRMED_PEER_MAX, UNCONFIRMED_RESENT_MAX,
};
use crate::wire::identity::{Fingerprint, MessageId};
use crate::wire::sent::{SentEntry, SentKey};

/// Who is heard and does not acknowledge something.
#[derive(Debug, Default)]
pub struct Unconfirmed {
    last: Option<Timestamp>,
    /// Since when that is so, as far as this run knows.
    since: HashMap<Fingerprint, Timestamp>,
}

impl Unconfirmed {
    /// True if it is time to look, often enough to see each moment at which something is due.
    fn is_due(&mut self, wait_ms: u64, now: Timestamp) -> bool {
        let interval_ms = RESCAN_INTERVAL_MS.min(wait_ms / 2);
        let is_due = self.last.is_none_or(|last| now < last || now.millis_since(last) >= interval_ms);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }

    /// Of those who were found this time, those who were found for so long that an acknowledgement would have come.
    fn silent(&mut self, found: &[Fingerprint], hold_ms: u64, now: Timestamp) -> Vec<Fingerprint> {
        self.since.retain(|peer, since| found.contains(peer) && *since <= now);
        let is_silent = |peer: &&Fingerprint| {
            let since = *self.since.entry(**peer).or_insert(now);
            now.millis_since(since) >= hold_ms
        };
        found.iter().filter(is_silent).copied().collect()
    }
}

impl Engine {
    /// Now and then: sends again what should have been acknowledged.
    pub(super) fn send_unconfirmed(&mut self, now: Timestamp) {
        let period_ms = u64::try_from(self.policy.retry_period.as_millis()).unwrap_or(u64::MAX);
        let wait_ms = period_ms / UNCONFIRMED_FRACTION;
        if !self.unconfirmed.is_due(wait_ms, now) {
            return;
        }
        let due = self.unconfirmed_for(wait_ms, now);
        let mut found: Vec<Fingerprint> = due.iter().map(|(peer, _)| *peer).collect();
        found.sort_unstable();
        found.dedup();
        let silent = self.unconfirmed.silent(&found, wait_ms.min(UNCONFIRMED_HEARD_MS), now);
        for (peer, message) in due.into_iter().filter(|(peer, _)| silent.contains(peer)) {
            self.asked_again.ask(peer, message);
        }
    }

    /// What is not acknowledged `wait_ms` after it was sealed, and longer each time that it was sent again, by those who were heard
    /// since; the oldest first.
    fn unconfirmed_for(&self, wait_ms: u64, now: Timestamp) -> Vec<(Fingerprint, MessageId)> {
        let age_ms =
            |entry: &SentEntry| now.millis_since(Timestamp::from_micros(entry.sealed.saturating_mul(1_000_000)));
        let expects = |key: &SentKey| {
            !self.people.is_blocked(&key.recipient)
                && self.acknowledging.is_acknowledging(&key.recipient, &key.conversation)
        };
        let is_due = |entry: &SentEntry| {
            entry.resent < UNCONFIRMED_RESENT_MAX
                && age_ms(entry) >= wait_ms << entry.resent
                && self.acknowledging.was_heard_since(&entry.recipient, entry.sealed)
        };
        let mut due = self.sent.open(expects);
        // Whoever has got one as often as may be, and acknowledges nothing, may have turned it off: that is told of it in time.
        // What is gone here was not sent again so often, and says nothing of it.
        let is_in_vain = |entry: &&SentEntry| {
            (UNCONFIRMED_RESENT_MAX..=RESENT_TIMES_MAX).contains(&entry.resent) && age_ms(entry) >= wait_ms
        };
        let in_vain: HashSet<_> =
            due.iter().copied().filter(is_in_vain).map(|entry| (entry.recipient, entry.conversation)).collect();
        due.retain(|entry| is_due(entry) && !in_vain.contains(&(entry.recipient, entry.conversation)));
        due.sort_unstable_by_key(|entry| (entry.sealed, entry.time, entry.message));
        // What is on its way to one takes no place from the others.
        let mut peers: HashMap<Fingerprint, (HashSet<MessageId>, usize)> = HashMap::new();
        due.retain(|entry| {
            let (held, count) =
                peers.entry(entry.recipient).or_insert_with(|| (self.spool.messages_for(&entry.recipient), 0));
            let is_on_its_way = held.contains(&entry.message) || self.large.is_for(&entry.message, &entry.recipient);
            let is_taken = *count < UNCONFIRMED_PEER_MAX && !is_on_its_way;
            *count += usize::from(is_taken);
            is_taken
        });
        due.truncate(UNCONFIRMED_MAX);
        due.into_iter().map(|entry| (entry.recipient, entry.message)).collect()
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::client::assembling::tests::Bench;
    use crate::wire::control::Messages;
    use crate::wire::sent::{GONE, TAKEN_BACK};
    use crate::wire::spool::{Form, Spooled};

    const BOB: Fingerprint = Fingerprint([1; 32]);
    const CAROL: Fingerprint = Fingerprint([2; 32]);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn who_has_acknowledged_meanwhile_begins_anew() {
        let mut unconfirmed = Unconfirmed::default();
        assert_eq!(unconfirmed.silent(&[BOB], 60_000, at(100)), []);
        assert_eq!(unconfirmed.silent(&[BOB, CAROL], 60_000, at(159)), []);
        assert_eq!(unconfirmed.silent(&[BOB, CAROL], 60_000, at(160)), [BOB]);
        assert_eq!(unconfirmed.silent(&[CAROL], 60_000, at(170)), []);
        assert_eq!(unconfirmed.silent(&[BOB, CAROL], 60_000, at(220)), [CAROL]);
        assert_eq!(unconfirmed.silent(&[CAROL], 60_000, at(50)), [], "the clock was set back");
    }

    #[test]
    fn who_is_heard_and_acknowledges_others_is_sent_it_again_until_one_was_sent_in_vain() {
        let mut bench = Bench::new();
        let (alice, conversation, now) = (bench.alice, bench.conversation.id, bench.now);
        let add = |bench: &mut Bench, id: u8, resent: u32, age_s: u64| {
            let sealed = now.seconds() - age_s;
            let entry = SentEntry { sealed, resent, ..bench.sent_entry(id) };
            bench.engine.sent.add(entry, sealed, &mut bench.engine.pending);
        };
        let due = |bench: &Bench| -> Vec<u8> {
            let due = bench.engine.unconfirmed_for(100_000, now).into_iter();
            due.map(|(peer, message)| if peer == alice { message.0[0] } else { 0 }).collect()
        };
        for (id, resent, age_s) in [(1, 0, 500), (2, 0, 300), (3, 0, 99), (4, 1, 199), (5, 1, 200)] {
            add(&mut bench, id, resent, age_s);
        }
        bench.engine.acknowledging.note_heard(alice, now);
        assert_eq!(due(&bench), [0; 0], "she has never acknowledged anything");
        let acknowledged = [Messages { conversation, ids: vec![MessageId([1; 16])] }];
        bench.engine.heed_acknowledged(alice, &acknowledged, now);
        assert_eq!(due(&bench), [0; 0], "and was not heard since");
        bench.engine.acknowledging.note_heard(alice, now);
        assert_eq!(due(&bench), [2, 5]);
        let waiting = Spooled {
            message: MessageId([2; 16]),
            conversation,
            file: "file 2".to_owned(),
            is_part: false,
            spreads: false,
            form: Form::Waiting(Zeroizing::new(vec![1])),
        };
        bench.engine.spool.push(alice, waiting, now, &mut bench.engine.pending);
        assert_eq!(due(&bench), [5], "what is on its way is not lost");
        add(&mut bench, 8, GONE, 500);
        add(&mut bench, 9, TAKEN_BACK, 500);
        assert_eq!(due(&bench), [5], "what was erased was not sent in vain");
        add(&mut bench, 6, UNCONFIRMED_RESENT_MAX, 99);
        assert_eq!(due(&bench), [5]);
        add(&mut bench, 7, UNCONFIRMED_RESENT_MAX, 100);
        assert_eq!(due(&bench), [0; 0], "she may have turned it off");
    }

    #[test]
    fn it_is_looked_twice_in_each_wait_and_once_a_minute_at_least() {
        let mut unconfirmed = Unconfirmed::default();
        let looks = |unconfirmed: &mut Unconfirmed, wait_ms: u64, seconds: std::ops::Range<u64>| {
            seconds.filter(|second| unconfirmed.is_due(wait_ms, at(*second))).count()
        };
        assert_eq!(looks(&mut unconfirmed, 10_000, 0..100), 20);
        assert_eq!(looks(&mut unconfirmed, 86_400_000, 100..700), 10);
        assert!(unconfirmed.is_due(86_400_000, at(5)), "the clock was set back");
    }
}
