//! The fallback where no tag leads to a session: the header keys of all sessions are tried, within a budget, so that
//! strangers who fill the mailbox with garbage cost a fixed share of a core and no more (design, section 5).

use crate::limits::TRIALS_PER_SECOND_MAX;
use crate::wire::identity::Fingerprint;

/// How many more headers may be tried now.
#[derive(Debug, Default)]
pub(super) struct Budget {
    second: u64,
    spent: usize,
}

impl Budget {
    /// Takes so many trials, if any are left in this second: one peer's sessions are tried together, whatever they cost.
    pub(super) fn take(&mut self, trials: usize, now_s: u64) -> bool {
        if now_s != self.second {
            *self = Self { second: now_s, spent: 0 };
        }
        let left = self.spent < TRIALS_PER_SECOND_MAX;
        if left {
            self.spent += trials;
        }
        left
    }
}

/// How far the trial of one envelope has come, in the order of fingerprints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tried {
    /// No session yet.
    #[default]
    None,
    /// All before this peer's.
    Before(Fingerprint),
    /// All that were there.
    All,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_trials_and_the_next_has_them_anew() {
        let mut budget = Budget::default();
        for second in [7, 8, 6] {
            let taken = (0..TRIALS_PER_SECOND_MAX).filter(|_| budget.take(2, second)).count();
            assert_eq!(taken, TRIALS_PER_SECOND_MAX / 2);
        }
    }
}
