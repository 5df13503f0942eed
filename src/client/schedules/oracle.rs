//! What must hold at the end of every schedule, once the network delivers and the server is honest.

use super::world::{OpeningHash, Sealed, Server, World};
use crate::limits::{CHAIN_LIFETIME_S, SESSIONS_PER_PEER_MAX};

/// After so many times of a week and an exchange, all must send in one session again, whatever was lost.
const ROUNDS_MAX: usize = 3;

/// Deliveries after which nobody has anything left to say: each opening causes an answer, and each answer an opening.
const DELIVERIES_MAX: usize = 64;

impl World {
    /// Whether a state that the session rests on was lost, at either end.
    pub(super) fn is_tainted(&self, session: &OpeningHash) -> bool {
        let begun = &self.begun[session];
        begun.pair.iter().any(|who| self.places[*who].rolled_back.is_some_and(|step| step > begun.step))
    }

    /// Whether anything has happened that a session between these two may not have survived.
    pub(super) fn is_troubled(&self, one: usize, other: usize) -> bool {
        let between = |pair: [usize; 2]| pair == [one, other] || pair == [other, one];
        let lost = [one, other].iter().any(|who| self.places[*who].rolled_back.is_some());
        let dropped = self.sealed.iter().any(|sealed| sealed.is_dropped && between([sealed.from, sealed.to]));
        let sessions = self.begun.values().filter(|begun| between(begun.pair));
        lost || dropped || sessions.into_iter().any(|begun| self.shared.contains(&begun.prekey))
    }

    /// Whether something that its author sealed later has opened before it. An opening that comes so looks like one of a
    /// thief whose clock is behind.
    pub(super) fn was_overtaken(&self, number: usize) -> bool {
        let Sealed { from, to, .. } = self.sealed[number];
        self.places[to].opened.range(number + 1..).any(|later| self.sealed[*later].from == from)
    }

    /// Whether an envelope must open, once it has arrived.
    fn must_open(&self, number: usize) -> bool {
        let sealed = &self.sealed[number];
        let begun = &self.begun[&sealed.session];
        let others = |pair: [usize; 2]| pair == begun.pair || pair == [begun.pair[1], begun.pair[0]];
        let sessions = self.begun.values().filter(|other| others(other.pair)).count();
        if !sealed.is_revealed
            || sealed.is_dropped
            || self.is_tainted(&sealed.session)
            || sessions > SESSIONS_PER_PEER_MAX
        {
            return false;
        }
        let opener_and_recipient = begun.pair;
        match sealed.opens {
            true => !self.shared.contains(&begun.prekey) && begun.pool == self.places[sealed.to].pool,
            // A session whose opening is lost is lost.
            false => self.places[opener_and_recipient[1]].opened.contains(&begun.opening),
        }
    }

    /// Delivers until nothing is under way.
    fn settle(&mut self) {
        for _ in 0..DELIVERIES_MAX {
            (0..self.places.len()).for_each(|who| self.commit(who));
            if self.places.iter().all(|place| place.mailbox.is_empty()) {
                return;
            }
            for who in 0..self.places.len() {
                self.now_s += 1;
                for number in std::mem::take(&mut self.places[who].mailbox) {
                    self.places[who].fetched.push(number);
                    self.offer(who, number);
                }
            }
        }
        panic!("they never stop to answer each other");
    }

    /// Goes on until everything has arrived, and then until all is as it should be again.
    pub(super) fn finish(mut self) {
        self.step += 1;
        self.server = Server::Honest;
        self.settle();
        for number in 0..self.sealed.len() {
            let sealed = &self.sealed[number];
            let has_opened = self.places[sealed.to].opened.contains(&number);
            assert!(has_opened || !self.must_open(number), "{:?} has not opened", sealed.text);
        }
        for (one, other) in self.pairs() {
            let agreed = self.agree(one, other);
            assert!(agreed || self.is_troubled(one, other), "{one} and {other} send in two sessions");
        }
        // Prekeys whose secrets went with a state serve nobody: who noticed nothing else will notice that.
        for who in 0..self.places.len() {
            if self.places[who].pool != self.pools[who].number {
                self.replace_pool(who);
            }
        }
        for round in 1.. {
            self.step += 1;
            self.now_s += CHAIN_LIFETIME_S + 1;
            let first = self.sealed.len();
            for (one, other) in self.pairs() {
                for (from, to) in [(one, other), (other, one)] {
                    self.last_number += 1;
                    self.write(from, to, self.last_number);
                }
            }
            self.settle();
            let arrived = |number: usize| self.places[self.sealed[number].to].opened.contains(&number);
            let agreed = self.pairs().into_iter().all(|(one, other)| self.agree(one, other));
            if agreed && (first..self.sealed.len()).all(arrived) {
                return;
            }
            assert!(round < ROUNDS_MAX, "after {round} weeks they still do not hear each other");
        }
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let all = 0..self.places.len();
        all.clone().flat_map(|one| (0..one).map(move |other| (one, other))).collect()
    }

    fn agree(&self, one: usize, other: usize) -> bool {
        let highest = |of: usize, with: usize| self.places[of].party.sessions.highest(&self.fingerprint(with));
        highest(one, other) == highest(other, one)
    }
}
