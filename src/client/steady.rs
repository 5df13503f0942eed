//! Whether the clock can be believed: what is erased because it is old does not come back when a clock that ran ahead is put right.

use crate::clock::Timestamp;
use crate::limits::{CLOCK_DOUBT_LONG_MS, CLOCK_DOUBT_MS, CLOCK_JUMP_LONG_MS, CLOCK_STEP_MAX_MS};

/// What the clock has done in this run.
#[derive(Debug, Default)]
pub struct Steady {
    last: Option<Timestamp>,
    /// How long it must still go on steadily.
    doubt_ms: u64,
    /// A long jump, which nobody was told of.
    untold_ms: Option<u64>,
}

impl Steady {
    /// It is `now`. A clock that is set back makes nothing older.
    pub fn pass(&mut self, now: Timestamp) {
        let step_ms = now.millis_since(self.last.replace(now).unwrap_or(now));
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
    fn a_clock_that_is_put_right_is_doubted_no_less() {
        let (mut steady, now) = (Steady::default(), 1_790_000_000_000_000);
        for time in [now, now + 40 * 86_400_000_000, now] {
            steady.pass(Timestamp::from_micros(time));
        }
        assert!(!steady.is_trusted());
    }
}
