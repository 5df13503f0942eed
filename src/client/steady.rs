//! Whether the clock can be believed: what is erased because it is old does not come back when a clock that ran ahead is put right.

use crate::clock::Timestamp;
use crate::limits::{CLOCK_DOUBT_LONG_MS, CLOCK_DOUBT_MS, CLOCK_JUMP_LONG_MS, CLOCK_STEP_MAX_MS};

/// What the clock has done in this run.
#[derive(Debug, Default)]
pub struct Steady {
    last: Option<Timestamp>,
    /// Of the machine, milliseconds, at its last event.
    uptime_ms: Option<u64>,
    /// That which passed since the last time.
    passed_ms: u64,
    /// How long it must still go on steadily.
    doubt_ms: u64,
    /// A long jump, which nobody was told of.
    untold_ms: Option<u64>,
}

impl Steady {
    /// The machine has run for so long, sleep included: by so much the clock may go on, and it is no jump.
    pub fn note_uptime(&mut self, uptime_ms: u64) {
        self.passed_ms += uptime_ms.saturating_sub(self.uptime_ms.replace(uptime_ms).unwrap_or(uptime_ms));
    }

    /// It is `now`. A clock that is set back makes nothing older.
    pub fn pass(&mut self, now: Timestamp) {
        let step_ms = now.millis_since(self.last.replace(now).unwrap_or(now));
        let passed_ms = std::mem::take(&mut self.passed_ms);
        // A sleep is no jump; nor does it end a doubt, since nobody puts a clock right meanwhile.
        let is_slept = step_ms > CLOCK_STEP_MAX_MS && step_ms <= passed_ms.saturating_add(CLOCK_STEP_MAX_MS);
        let step_ms = if is_slept { 0 } else { step_ms };
        if step_ms <= CLOCK_STEP_MAX_MS {
            self.doubt_ms = self.doubt_ms.saturating_sub(step_ms);
        } else if step_ms <= CLOCK_JUMP_LONG_MS {
            self.doubt_ms = self.doubt_ms.max(CLOCK_DOUBT_MS);
        } else {
            self.doubt_ms = CLOCK_DOUBT_LONG_MS;
            self.untold_ms = Some(step_ms);
        }
    }

    /// Whether what is old by it may go for good.
    pub fn is_trusted(&self) -> bool {
        self.doubt_ms == 0
    }

    /// How far it has jumped, if that keeps something from going and was not said yet.
    pub fn take_untold(&mut self) -> Option<u64> {
        self.untold_ms.take().filter(|_| !self.is_trusted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Second by second.
    fn go_on(steady: &mut Steady, now: &mut u64, for_ms: u64) {
        for _ in 0..for_ms / 1_000 {
            *now += 1_000_000;
            steady.pass(Timestamp::from_micros(*now));
        }
    }

    #[test]
    fn a_clock_that_jumped_ahead_is_believed_after_a_while() {
        for (jump_ms, doubt_ms, is_long) in
            [(3_600_000, CLOCK_DOUBT_MS, false), (CLOCK_JUMP_LONG_MS + 1, CLOCK_DOUBT_LONG_MS, true)]
        {
            let (mut steady, mut now) = (Steady::default(), 1_790_000_000_000_000);
            go_on(&mut steady, &mut now, 3_000);
            assert!(steady.is_trusted(), "from the start on");
            now += jump_ms * 1_000;
            steady.pass(Timestamp::from_micros(now));
            assert_eq!(steady.take_untold(), is_long.then_some(jump_ms));
            assert_eq!(steady.take_untold(), None, "once");
            go_on(&mut steady, &mut now, doubt_ms - 1_000);
            assert!(!steady.is_trusted());
            go_on(&mut steady, &mut now, 1_000);
            assert!(steady.is_trusted());
        }
    }

    #[test]
    fn a_sleep_is_no_jump_and_ends_no_doubt() {
        let (mut steady, mut now, mut uptime_ms) = (Steady::default(), 1_790_000_000_000_000, 5_000);
        let pass = |steady: &mut Steady, now: u64, uptime_ms: u64| {
            steady.note_uptime(uptime_ms);
            steady.pass(Timestamp::from_micros(now));
        };
        pass(&mut steady, now, uptime_ms);
        (now, uptime_ms) = (now + 3 * CLOCK_JUMP_LONG_MS * 1_000, uptime_ms + 3 * CLOCK_JUMP_LONG_MS);
        pass(&mut steady, now, uptime_ms);
        assert!(steady.is_trusted(), "three days of sleep");
        now += 3 * CLOCK_JUMP_LONG_MS * 1_000;
        pass(&mut steady, now, uptime_ms + 1_000);
        assert!(!steady.is_trusted(), "three days in a second");
        (now, uptime_ms) = (now + CLOCK_DOUBT_LONG_MS * 1_000, uptime_ms + 1_000 + CLOCK_DOUBT_LONG_MS);
        pass(&mut steady, now, uptime_ms);
        assert!(!steady.is_trusted(), "and nobody was there to put it right");
    }

    #[test]
    fn a_clock_that_is_put_right_is_doubted_no_less() {
        let (mut steady, now) = (Steady::default(), 1_790_000_000_000_000);
        for time in [now, now + 40 * 86_400_000_000, now] {
            steady.pass(Timestamp::from_micros(time));
        }
        assert!(!steady.is_trusted());
    }
}
