//! What was kept because nothing opened it, or because it was not taken then, is tried again: in rounds that take as many seconds as
//! they need, so that nobody who fills it with what is dear to try holds up the rest.

use super::engine::Engine;
use super::receive::Became;
use super::trials::Tried;
use super::unopened::Kept;
use crate::clock::Timestamp;
use crate::limits::{RETRIED_STEPS_EACH, RETRIED_STEPS_PER_SECOND_MAX};

impl Engine {
    /// Once a second: goes on with the round, or begins one. If something was added that may open what did not open before, all
    /// are tried by their tags and in the sessions that were added; else those whose trial has not come to its end, as far as
    /// this second's budget goes.
    pub(super) fn retry_unopened(&mut self, now: Timestamp) {
        if self.unopened.is_round_over() {
            let all = std::mem::take(&mut self.try_unopened);
            if !all && !self.unopened.is_trying() {
                return;
            }
            let added = self.sessions.take_added();
            self.unopened.begin_round(all || !added.is_empty(), added);
        }
        let added = self.unopened.take_added();
        let before = self.sessions.steps();
        let mut own_steps = 0;
        while !self.is_full() && self.sessions.steps().wrapping_sub(before) + own_steps < RETRIED_STEPS_PER_SECOND_MAX {
            let Some(kept) = self.unopened.next_of_round() else { return };
            own_steps += RETRIED_STEPS_EACH;
            match self.try_open(&kept.envelope, &added, kept.tried, now) {
                Became::Done => self.unopened.opened(kept.since, &kept.hash, &mut self.pending),
                Became::Kept(tried) => self.unopened.put_back(Kept { tried, ..kept }),
                // Its session is known: there is nothing to try.
                Became::Left | Became::PartLeft(_) => self.unopened.put_back(Kept { tried: Tried::All, ..kept }),
            }
        }
        self.unopened.put_back_added(added);
    }
}
