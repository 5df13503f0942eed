//! What one courier has to do, in order. What is one of several things to different people waits for a random delay first,
//! and whatever is behind it waits with it: order within a recipient is kept.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rand_core::RngCore;
use tokio::time::Instant;

use super::event::Errand;
use super::pace;

/// A queue of errands, each not before its time. What was sent without an answer stays in it and is sent again: the server
/// knows a second copy.
#[derive(Debug)]
pub struct Errands {
    queue: VecDeque<Waiting>,
    /// How many of them are on their way, without an answer.
    under_way: usize,
    /// The longest random delay.
    delay: Duration,
}

#[derive(Debug)]
struct Waiting {
    errand: Errand,
    spreads: bool,
    /// It is not to be sent again.
    is_let_go: bool,
    /// Never earlier than that of the one before.
    due: Instant,
}

impl Errands {
    /// Nothing to do.
    pub fn new(delay: Duration) -> Self {
        Self { queue: VecDeque::new(), under_way: 0, delay }
    }

    /// Something more to do: after a random delay where it `spreads`.
    pub fn push(&mut self, errand: Errand, spreads: bool, now: Instant, rng: &mut impl RngCore) {
        let due = self.draw(spreads, now, rng);
        let due = self.queue.back().map_or(due, |last| last.due.max(due));
        self.queue.push_back(Waiting { errand, spreads, is_let_go: false, due });
    }

    /// Nothing could be done until now: draws the delays anew, so that what has waited does not leave to all people in
    /// one burst. `whatever` includes what does not spread by itself.
    pub fn draw_anew(&mut self, whatever: bool, now: Instant, rng: &mut impl RngCore) {
        let mut earliest = now;
        for place in 0..self.queue.len() {
            let spreads = whatever || self.queue[place].spreads;
            earliest = earliest.max(self.draw(spreads, now, rng));
            self.queue[place].due = earliest;
        }
    }

    fn draw(&self, spreads: bool, now: Instant, rng: &mut impl RngCore) -> Instant {
        if spreads { now + pace::delay(self.delay, rng) } else { now }
    }

    /// The errand in this place, if its time has come.
    pub fn due(&self, place: usize, now: Instant) -> Option<&Errand> {
        self.queue.get(place).filter(|waiting| waiting.due <= now).map(|waiting| &waiting.errand)
    }

    /// The first errand.
    pub fn first(&self) -> Option<&Errand> {
        self.queue.front().map(|waiting| &waiting.errand)
    }

    /// When the first is due; none if there is nothing to do.
    pub fn first_due(&self) -> Option<Instant> {
        self.queue.front().map(|waiting| waiting.due)
    }

    /// One more, the next in order, is about to be sent. False if it was taken back: then the one behind it is next.
    #[must_use]
    pub fn start(&mut self) -> bool {
        let next = self.queue.get(self.under_way);
        let may_leave = next.is_none_or(|next| next.errand.claim());
        match may_leave {
            true => self.under_way += 1,
            false => drop(self.queue.remove(self.under_way)),
        }
        may_leave
    }

    /// The first one is done.
    pub fn done(&mut self) {
        self.queue.pop_front();
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// The connection is over: nothing is on its way any more.
    pub fn interrupted(&mut self) {
        self.under_way = 0;
        self.queue.retain(|waiting| !waiting.is_let_go);
    }

    /// These messages are done with, and perhaps prekeys are. What is under way is answered first.
    pub fn let_go(&mut self, places: &BTreeSet<u64>, wants_prekey: bool) {
        let mut number = 0;
        let under_way = self.under_way;
        self.queue.retain_mut(|waiting| {
            let goes = match &waiting.errand {
                Errand::Deliver { sequence, .. } => places.contains(sequence),
                Errand::TakePrekey => !wants_prekey,
                _ => false,
            };
            number += 1;
            waiting.is_let_go |= goes;
            number <= under_way || !waiting.is_let_go
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedules::Dice;
    use super::super::ticket::{Left, Ticket};
    use super::*;
    use crate::limits::ENVELOPE_BYTES;
    use crate::wire::envelope::Envelope;

    const DELAY: Duration = Duration::from_secs(10);

    fn due(errands: &Errands, since: Instant) -> Vec<Duration> {
        errands.queue.iter().map(|waiting| waiting.due - since).collect()
    }

    #[test]
    fn each_recipient_of_a_message_to_several_has_a_delay_of_its_own() {
        let (now, mut dice) = (Instant::now(), Dice::new(1));
        let mut delays: Vec<Duration> = (0..20)
            .map(|_| {
                let mut errands = Errands::new(DELAY);
                errands.push(Errand::TakePrekey, true, now, &mut dice);
                let due = errands.first_due().unwrap();
                assert!(errands.due(0, due).is_some() && errands.due(0, due - Duration::from_nanos(1)).is_none());
                due - now
            })
            .collect();
        assert!(delays.iter().all(|delay| *delay < DELAY));
        delays.sort();
        delays.dedup();
        assert_eq!(delays.len(), 20);
        assert!(delays[0] < DELAY / 2 && delays[19] > DELAY / 2, "{delays:?}");
    }

    #[test]
    fn a_message_to_one_person_leaves_at_once_and_never_before_one_that_is_ahead_of_it() {
        let (now, mut dice) = (Instant::now(), Dice::new(2));
        let mut errands = Errands::new(DELAY);
        errands.push(Errand::TakePrekey, false, now, &mut dice);
        assert!(errands.due(0, now).is_some());
        for place in 0..20 {
            errands.push(Errand::TakePrekey, place % 2 == 0, now, &mut dice);
        }
        let due = due(&errands, now);
        assert!(due.is_sorted() && due[0].is_zero() && !due[2].is_zero(), "{due:?}");
        errands.done();
        assert_eq!(errands.first_due().unwrap() - now, due[1]);
        let mut undelayed = Errands::new(Duration::ZERO);
        undelayed.push(Errand::TakePrekey, true, now, &mut dice);
        assert!(undelayed.due(0, now).is_some());
    }

    #[test]
    fn what_is_let_go_of_leaves_at_once_or_when_its_connection_is_over() {
        let (now, mut dice) = (Instant::now(), Dice::new(4));
        let envelope = Envelope::from_slice(&[1; ENVELOPE_BYTES]).unwrap();
        let mut errands = Errands::new(Duration::ZERO);
        errands.push(Errand::TakePrekey, false, now, &mut dice);
        for sequence in 1..=5 {
            let deliver = Errand::Deliver { sequence, envelope: envelope.clone(), alone: false, ticket: Ticket::new() };
            errands.push(deliver, false, now, &mut dice);
        }
        assert!((0..3).all(|_| errands.start()));
        errands.done();
        errands.let_go(&[1, 3, 5].into(), true);
        let left = |errands: &Errands| -> Vec<u64> {
            let sequence = |waiting: &Waiting| match waiting.errand {
                Errand::Deliver { sequence, .. } => sequence,
                _ => 0,
            };
            errands.queue.iter().map(sequence).collect()
        };
        assert_eq!(left(&errands), [1, 2, 4], "1 and 2 are under way");
        errands.interrupted();
        assert_eq!(left(&errands), [2, 4]);
        errands.push(Errand::TakePrekey, false, now, &mut dice);
        errands.let_go(&[2].into(), true);
        assert_eq!(left(&errands), [4, 0]);
        errands.let_go(&BTreeSet::new(), false);
        assert_eq!(left(&errands), [4]);
    }

    #[test]
    fn what_was_taken_back_does_not_leave_and_holds_up_nothing() {
        let (now, mut dice) = (Instant::now(), Dice::new(5));
        let envelope = Envelope::from_slice(&[1; ENVELOPE_BYTES]).unwrap();
        let mut errands = Errands::new(Duration::ZERO);
        let tickets: Vec<Ticket> = (0..4).map(|_| Ticket::new()).collect();
        for (sequence, ticket) in (0..).zip(&tickets) {
            let deliver =
                Errand::Deliver { sequence, envelope: envelope.clone(), alone: false, ticket: ticket.clone() };
            errands.push(deliver, false, now, &mut dice);
        }
        assert_eq!(tickets[1].withdraw(), Left::Never);
        let started: Vec<bool> = (0..4).map(|_| errands.start()).collect();
        assert_eq!(started, [true, false, true, true]);
        assert!(errands.due(3, now).is_none(), "nothing is behind these");
        assert!([0, 2, 3].iter().all(|left| tickets[*left].withdraw() == Left::Perhaps), "these have left");
    }

    #[test]
    fn what_has_waited_is_spread_from_the_time_when_it_can_leave() {
        let (start, mut dice) = (Instant::now(), Dice::new(3));
        let later = start + Duration::from_secs(3_600);
        let firsts = |whatever, dice: &mut Dice| -> Vec<Duration> {
            let mut recipients: Vec<Errands> = (0..20).map(|_| Errands::new(DELAY)).collect();
            for errands in &mut recipients {
                errands.push(Errand::TakePrekey, false, start, dice);
                errands.push(Errand::TakePrekey, true, start, dice);
                errands.draw_anew(whatever, later, dice);
                assert!(due(errands, later).is_sorted());
            }
            recipients.iter().map(|errands| errands.first_due().unwrap() - later).collect()
        };
        assert_eq!(firsts(false, &mut dice), [Duration::ZERO; 20]);
        let mut spread = firsts(true, &mut dice);
        spread.sort();
        spread.dedup();
        assert_eq!(spread.len(), 20);
    }
}
