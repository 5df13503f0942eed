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

/// What is known beforehand of where an envelope may belong.
#[derive(Clone, Copy)]
pub struct Hints<'a> {
    /// With whom there are new sessions since it was last tried.
    pub added: &'a [Fingerprint],
    /// How far its trial has come.
    pub tried: Tried,
    /// Whether somebody may jump over more than [`crate::limits::STRANGER_JUMP_MAX`] messages. Asked of those who do.
    pub may_jump: &'a dyn Fn(&Fingerprint) -> bool,
}

impl Hints<'_> {
    /// Nothing, and everybody may jump: for who only wants to know that it opens.
    pub const NONE: Self = Self { added: &[], tried: Tried::None, may_jump: &|_| true };
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
