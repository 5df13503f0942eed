//! Who gets the next slot of a schedule: of all errands whose turn it may be, the one that has waited longest.

use std::collections::{BTreeSet, HashMap, VecDeque};

use rand_core::RngCore;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::event::{Errand, Order};
use crate::wire::identity::Fingerprint;
use crate::wire::profile::SignedProfile;

/// Errands of all recipients. One of each recipient is under way at a time, so that their order is kept.
#[derive(Debug, Default)]
pub struct Line {
    people: HashMap<Fingerprint, Person>,
    /// Numbers of places in the line that were given out.
    places: u64,
    /// What each recipient's tries begin with.
    backoff: Backoff,
}

#[derive(Debug)]
struct Person {
    profile: SignedProfile,
    errands: VecDeque<Place>,
    is_under_way: bool,
    /// What is not to be tried again, if it is under way.
    let_go: BTreeSet<u64>,
    backoff: Backoff,
    /// After a failure: nothing is tried before.
    again: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    number: u64,
    errand: Errand,
}

/// What is done in a slot.
#[derive(Debug)]
pub struct Turn {
    /// For whom, by their newest profile.
    pub recipient: SignedProfile,
    /// What.
    pub errand: Errand,
}

impl Line {
    /// Nobody waits. Of `backoff` all take how long a failure makes them wait.
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, ..Self::default() }
    }

    /// Puts an order at the end.
    pub fn push(&mut self, order: Order) {
        let fingerprint = order.recipient.identity().fingerprint();
        let is_something = match &order.errand {
            Errand::NewProfile => false,
            Errand::LetGo { places, wants_prekey } => {
                self.let_go(&fingerprint, places, *wants_prekey);
                false
            }
            _ => true,
        };
        if !is_something {
            if let Some(person) = self.people.get_mut(&fingerprint) {
                person.profile = order.recipient;
            }
            return;
        }
        let place = Place { number: self.number(), errand: order.errand };
        let backoff = self.backoff;
        let person = self.people.entry(fingerprint).or_insert_with(|| Person {
            profile: order.recipient.clone(),
            errands: VecDeque::new(),
            is_under_way: false,
            let_go: BTreeSet::new(),
            backoff,
            again: None,
        });
        person.profile = order.recipient;
        person.errands.push_back(place);
    }

    /// Hands out what is to be done now, if anything is.
    pub fn next(&mut self, now: Instant) -> Option<Turn> {
        let may_be = |person: &&mut Person| !person.is_under_way && person.again.is_none_or(|again| again <= now);
        let ready = self.people.values_mut().filter(may_be).filter(|person| !person.errands.is_empty());
        let person = ready.min_by_key(|person| person.errands.front().map(|place| place.number))?;
        let errand = person.errands.pop_front()?.errand;
        person.is_under_way = true;
        Some(Turn { recipient: person.profile.clone(), errand })
    }

    /// It is done.
    pub fn done(&mut self, recipient: &Fingerprint) {
        let Some(person) = self.people.get_mut(recipient) else { return };
        (person.is_under_way, person.again) = (false, None);
        person.let_go.clear();
        person.backoff.succeeded();
        if person.errands.is_empty() {
            self.people.remove(recipient);
        }
    }

    /// It failed, and is the next of its recipient again. It has waited for nothing yet since it was tried: a few dead
    /// servers would otherwise take every slot.
    pub fn failed(&mut self, recipient: &Fingerprint, errand: Errand, now: Instant, rng: &mut impl RngCore) {
        let number = self.number();
        let Some(person) = self.people.get_mut(recipient) else { return };
        person.is_under_way = false;
        person.again = Some(now + person.backoff.failed(rng));
        let let_go = std::mem::take(&mut person.let_go);
        if !matches!(&errand, Errand::Deliver { sequence, .. } if let_go.contains(sequence)) {
            person.errands.push_front(Place { number, errand });
        }
    }

    /// These messages are done with, and perhaps prekeys are.
    fn let_go(&mut self, recipient: &Fingerprint, places: &BTreeSet<u64>, wants_prekey: bool) {
        let Some(person) = self.people.get_mut(recipient) else { return };
        person.errands.retain(|place| match &place.errand {
            Errand::Deliver { sequence, .. } => !places.contains(sequence),
            Errand::TakePrekey => wants_prekey,
            _ => true,
        });
        if person.is_under_way {
            person.let_go.extend(places);
        }
    }

    fn number(&mut self) -> u64 {
        self.places += 1;
        self.places
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::ticket::Ticket;
    use super::*;
    use crate::crypto::dh::SecretKey;
    use crate::crypto::sign::SigningKey;
    use crate::limits::{ENVELOPE_BYTES, RECONNECT_DELAY_MAX_MS};
    use crate::wire::address::ServerAddress;
    use crate::wire::envelope::Envelope;
    use crate::wire::profile::Profile;
    use crate::wire::state::AccountKeys;
    use rand_core::OsRng;

    fn keys() -> AccountKeys {
        AccountKeys {
            signing: SigningKey::random(&mut OsRng),
            auth: SecretKey::random(&mut OsRng),
            transport: SecretKey::random(&mut OsRng),
        }
    }

    fn person(name: &str) -> SignedProfile {
        person_at(&keys(), name, 1)
    }

    fn person_at(keys: &AccountKeys, name: &str, port: u16) -> SignedProfile {
        let server = ServerAddress::new("localhost", port, SecretKey::random(&mut OsRng).public()).unwrap();
        let profile =
            Profile { name: name.into(), server, account: keys.account(), identity: keys.identity(), version: 1 };
        SignedProfile::sign(profile, &keys.signing).unwrap()
    }

    fn order(recipient: &SignedProfile, sequence: u64) -> Order {
        let envelope = Envelope::from_slice(&[1; ENVELOPE_BYTES]).unwrap();
        let errand = Errand::Deliver { sequence, envelope, alone: false, ticket: Ticket::new() };
        Order { recipient: recipient.clone(), errand, spreads: false }
    }

    /// Who has the next turn, and with which of their messages.
    fn next(line: &mut Line, now: Instant) -> Option<(String, u64, Errand)> {
        let Turn { recipient, errand } = line.next(now)?;
        let Errand::Deliver { sequence, .. } = &errand else { panic!("{errand:?}") };
        Some((recipient.profile().name.clone(), *sequence, errand))
    }

    #[test]
    fn who_has_waited_longest_is_next_and_each_recipient_has_one_under_way() {
        let [alice, bob] = ["alice", "bob"].map(person);
        let (mut line, now) = (Line::default(), Instant::now());
        for order in [order(&alice, 1), order(&alice, 2), order(&bob, 7), order(&alice, 3)] {
            line.push(order);
        }
        let mut turns = Vec::new();
        while let Some((name, sequence, _)) = next(&mut line, now) {
            turns.push((name, sequence));
            if turns.len() == 2 {
                assert!(line.next(now).is_none(), "both are under way");
                line.done(&bob.identity().fingerprint());
            }
            if turns.len() != 1 {
                line.done(&alice.identity().fingerprint());
            }
        }
        let expected = [("alice", 1), ("bob", 7), ("alice", 2), ("alice", 3)];
        assert_eq!(turns, expected.map(|(name, sequence)| (name.to_owned(), sequence)));
        assert!(line.people.is_empty(), "nobody is remembered who has nothing to wait for");
    }

    #[test]
    fn what_failed_keeps_its_place_with_its_recipient_and_gives_way_to_others() {
        let [dead, bob] = ["dead", "bob"].map(person);
        let (mut line, now) = (Line::default(), Instant::now());
        for order in [order(&dead, 1), order(&dead, 2), order(&bob, 7)] {
            line.push(order);
        }
        let later = now + Duration::from_millis(RECONNECT_DELAY_MAX_MS);
        let (_, sequence, errand) = next(&mut line, now).unwrap();
        assert_eq!(sequence, 1);
        line.failed(&dead.identity().fingerprint(), errand, now, &mut OsRng);
        let (name, ..) = next(&mut line, later).unwrap();
        assert_eq!(name, "bob", "also when the failed one may be tried again");
        assert!(next(&mut line, now).is_none(), "not before its wait is over");
        let (name, sequence, _) = next(&mut line, later).unwrap();
        assert_eq!((name.as_str(), sequence), ("dead", 1));
        line.done(&dead.identity().fingerprint());
        assert_eq!(next(&mut line, now).unwrap().1, 2);
    }

    #[test]
    fn what_is_let_go_of_is_not_tried_again_even_where_it_was_under_way() {
        let bob = person("bob");
        let (mut line, now) = (Line::default(), Instant::now());
        (1..=4).for_each(|sequence| line.push(order(&bob, sequence)));
        let (_, sequence, errand) = next(&mut line, now).unwrap();
        assert_eq!(sequence, 1);
        let errand_of_all = Errand::LetGo { places: [1, 3].into(), wants_prekey: true };
        line.push(Order { recipient: bob.clone(), errand: errand_of_all, spreads: false });
        let who = bob.identity().fingerprint();
        line.failed(&who, errand, now, &mut OsRng);
        let later = now + Duration::from_millis(RECONNECT_DELAY_MAX_MS);
        for expected in [2, 4] {
            assert_eq!(next(&mut line, later).unwrap().1, expected);
            line.done(&who);
        }
        assert!(line.people.is_empty());
    }

    #[test]
    fn who_has_moved_is_visited_where_they_are_now() {
        let keys = keys();
        let (before, moved) = (person_at(&keys, "alice", 1), person_at(&keys, "alice", 2));
        let (mut line, now) = (Line::default(), Instant::now());
        let news =
            |profile: &SignedProfile| Order { recipient: profile.clone(), errand: Errand::NewProfile, spreads: false };
        line.push(news(&before));
        assert!(line.next(now).is_none(), "a profile alone is nothing to do");
        line.push(order(&before, 1));
        line.push(news(&moved));
        assert_eq!(line.next(now).unwrap().recipient.profile().server, moved.profile().server);
        assert!(line.next(now).is_none());
    }
}
