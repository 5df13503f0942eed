//! The rules by which both sides come to send in one session, whatever is lost, delayed, repeated or restored (design,
//! section 5, "Several sessions"). They are functions of what one side knows, without a clock or a store of their own:
//! the client calls them, and so does the model in `tests/convergence.rs`, which tries all orders of events.
//!
//! ```text
//! send in        the highest session that is here
//! open           with max(clock, highest known + 1)
//! an opening     below the highest is answered in its own session with the name of the highest
//! that answer    where the named one is not here: open above it
//! ```

use crate::limits::{
    ANNOUNCED_WAIT_S, CHAIN_ENVELOPES_MAX, CHAIN_EXCUSED_ENVELOPES, CHAIN_EXCUSED_S, CHAIN_LIFETIME_S,
    GENERATION_JUMP_MAX,
};
use crate::wire::control::Rank;
use crate::wire::session::{Invitation, Standing};

/// The generation of a session that we open now.
pub fn generation(standing: &Standing, highest: Option<Rank>, now_micros: u64) -> u64 {
    let known = highest.max(standing.announced);
    now_micros.max(known.map_or(0, |known| known.generation.saturating_add(1)))
}

/// Whether a generation can be honest: one far above both our clock and all that is known is not.
pub fn is_plausible(generation: u64, highest: Option<Rank>, now_s: u64) -> bool {
    let known = highest.map_or(0, |highest| highest.generation).max(now_s.saturating_mul(1_000_000));
    generation <= known.saturating_add(GENERATION_JUMP_MAX)
}

/// Whether the peer told us of a session above all that are here.
pub fn is_outranked(standing: &Standing, highest: Option<Rank>) -> bool {
    standing.announced > highest
}

/// Whether we are to open one above that now.
pub fn is_due(standing: &Standing, highest: Option<Rank>, now_s: u64) -> bool {
    is_outranked(standing, highest) && now_s >= standing.due
}

/// What an accepted opening is answered with: the highest session, if the opening is below it. To be called once for
/// each opening, before its session is added.
pub fn answer(standing: &mut Standing, opening: Rank, highest: Option<Rank>, now_s: u64) -> Option<Rank> {
    let above = highest.filter(|highest| *highest > opening)?;
    standing.invitation = Some(Invitation { rank: above, since: now_s });
    Some(above)
}

/// Hears an answer: the peer's highest session. `has` tells whether it is here.
pub fn heed(standing: &mut Standing, named: Rank, has: bool, highest: Option<Rank>, now_s: u64) {
    if has || Some(named) <= highest || !is_plausible(named.generation, highest, now_s) {
        return;
    }
    // What the peer opened because we named a lower one is on its way. Opening above it at once would go on for as long as
    // the servers let answers overtake openings. But it may be one that was here and is lost, so there is an end to waiting.
    let wait = if invited(standing, named, now_s) { ANNOUNCED_WAIT_S } else { 0 };
    standing.announced = standing.announced.max(Some(named));
    standing.due = now_s.saturating_add(wait);
}

/// Something other than an answer was received in a session: who has that one needs no invitation any more. An answer
/// shows that its author has the session, too, but by then it may have opened what it was invited to.
pub fn received(standing: &mut Standing, rank: Rank) {
    standing.invitation = standing.invitation.filter(|invitation| rank < invitation.rank);
}

/// Whether we know why the peer opens this session: it told us of it, or we told it of one below.
fn is_expected(standing: &Standing, opening: Rank, now_s: u64) -> bool {
    standing.announced == Some(opening) || invited(standing, opening, now_s)
}

fn invited(standing: &Standing, opening: Rank, now_s: u64) -> bool {
    let fresh = |invitation: &Invitation| now_s < invitation.since.saturating_add(CHAIN_LIFETIME_S);
    standing.invitation.filter(fresh).is_some_and(|invitation| opening > invitation.rank)
}

/// Whether a chain of ours is over that nobody has answered: its envelopes, and when the first was sealed (0 for never).
pub fn is_over(envelopes: u64, since_s: u64, now_s: u64) -> bool {
    envelopes >= CHAIN_ENVELOPES_MAX || (since_s > 0 && now_s >= since_s.saturating_add(CHAIN_LIFETIME_S))
}

/// Whether a chain of the peer's may have been over for it when it opened a session at `opened_s`. `answered_s` is when
/// its server first took an answer of ours, 0 for never. What is on the way when a chain ends is given a day.
fn may_be_over(envelopes: u64, since_s: u64, answered_s: u64, opened_s: u64) -> bool {
    let enough = since_s.saturating_add(CHAIN_EXCUSED_S);
    envelopes >= CHAIN_EXCUSED_ENVELOPES || (opened_s >= enough && (answered_s == 0 || answered_s >= enough))
}

/// What is known of a peer's open chain in a session.
#[derive(Clone, Copy, Debug)]
pub struct PeerChain {
    /// How many envelopes it has had.
    pub envelopes: u64,
    /// When the peer began it.
    pub since_s: u64,
    /// When the peer's server first took an answer of ours; 0 for never.
    pub answered_s: u64,
}

/// Whether nothing that we know of made the peer open another session at `opened_s`. `newest` is its chain in the highest
/// session in which we have received something: there it sends until that chain is over for it, we told it of a higher
/// session, or it told us. That both sides open at once needs no rule of its own: where neither has heard the other there is
/// nothing to explain, and where they have, each has a reason of its own.
pub fn is_unexplained(
    standing: &Standing,
    opening: Rank,
    newest: Option<PeerChain>,
    opened_s: u64,
    now_s: u64,
) -> bool {
    let may_be_over = |chain: PeerChain| may_be_over(chain.envelopes, chain.since_s, chain.answered_s, opened_s);
    !is_expected(standing, opening, now_s) && newest.map_or(standing.heard, |chain| !may_be_over(chain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(generation: u64) -> Rank {
        Rank { generation, opening: [7; 32] }
    }

    #[test]
    fn an_opening_is_above_the_clock_and_above_all_that_is_known() {
        let mut standing = Standing::default();
        assert_eq!(generation(&standing, None, 50), 50);
        assert_eq!(generation(&standing, Some(rank(70)), 50), 71);
        standing.announced = Some(rank(90));
        assert_eq!(generation(&standing, Some(rank(70)), 50), 91);
    }

    #[test]
    fn what_is_taken_leaves_room_for_its_honest_successor() {
        let now_s = 1_790_000_000;
        let now = now_s * 1_000_000;
        assert!(is_plausible(now + GENERATION_JUMP_MAX, None, now_s));
        assert!(!is_plausible(now + GENERATION_JUMP_MAX + 1, None, now_s));
        let taken = Some(rank(now + GENERATION_JUMP_MAX));
        let next = generation(&Standing::default(), taken, now);
        assert!(is_plausible(next, taken, now_s), "who has the session takes what is opened above it");
        assert!(is_plausible(now, None, 0), "a clock that begins in 1970");
    }

    #[test]
    fn only_an_opening_below_the_highest_is_answered() {
        let mut standing = Standing::default();
        assert_eq!(answer(&mut standing, rank(5), None, 1), None);
        assert_eq!(answer(&mut standing, rank(5), Some(rank(4)), 1), None);
        assert_eq!(standing, Standing::default());
        assert_eq!(answer(&mut standing, rank(5), Some(rank(6)), 1), Some(rank(6)));
        assert!(is_expected(&standing, rank(7), 1) && !is_expected(&standing, rank(6), 1));
        assert!(!is_expected(&standing, rank(7), 1 + CHAIN_LIFETIME_S));
        received(&mut standing, rank(5));
        assert!(is_expected(&standing, rank(7), 1));
        received(&mut standing, rank(6));
        assert!(!is_expected(&standing, rank(7), 1));
    }

    #[test]
    fn an_answer_makes_us_open_only_above_an_unknown_higher_session() {
        let highest = Some(rank(5));
        for (named, has, outranked) in
            [(rank(9), false, true), (rank(9), true, false), (rank(4), false, false), (rank(u64::MAX), false, false)]
        {
            let mut standing = Standing::default();
            heed(&mut standing, named, has, highest, 1);
            assert_eq!(is_due(&standing, highest, 1), outranked, "{named:?}");
        }
        let mut inviting = Standing::default();
        answer(&mut inviting, rank(3), highest, 1);
        heed(&mut inviting, rank(9), false, highest, 1);
        assert!(!is_due(&inviting, highest, ANNOUNCED_WAIT_S), "it is the one that we asked for");
        assert!(is_due(&inviting, highest, 1 + ANNOUNCED_WAIT_S));
    }

    #[test]
    fn a_chain_is_over_after_a_week_or_ten_thousand_and_is_excused_a_little_earlier() {
        assert!(!is_over(0, 0, u64::MAX) && !is_over(9_999, 100, 99 + CHAIN_LIFETIME_S));
        assert!(is_over(10_000, 100, 100) && is_over(1, 100, 100 + CHAIN_LIFETIME_S));
        let six_days = 6 * 86_400;
        assert!(may_be_over(1, 100, 0, 100 + six_days) && !may_be_over(1, 100, 0, 99 + six_days));
        assert!(!may_be_over(1, 100, 200, 100 + six_days), "we had answered");
        assert!(may_be_over(1, 100, 100 + six_days, 100 + six_days), "too late");
        assert!(may_be_over(9_000, 100, 200, 100));
    }
}
