//! Which of several sessions with a peer counts, and when another one is needed. The rules are in `ratchet::rank`; here
//! they meet the sessions.

use crate::limits::{BATCH_BYTES_MAX, SESSIONS_SWEPT_MAX};
use crate::ratchet::{Session, rank};
use crate::wire::control::Rank;
use crate::wire::identity::Fingerprint;
use crate::wire::session::Standing;

use super::sessions::Sessions;

impl Sessions {
    /// What is known of a peer's sessions besides themselves.
    pub(super) fn standing(&self, peer: &Fingerprint) -> Standing {
        self.standings.get(peer).copied().unwrap_or_default()
    }

    /// The session that both sides are to send in.
    pub fn highest(&self, peer: &Fingerprint) -> Option<Rank> {
        self.by_peer.get(peer).into_iter().flatten().map(Session::rank).max()
    }

    /// Whether there is a session to send in, whose chain is not over.
    pub fn is_usable(&self, peer: &Fingerprint, now_s: u64) -> bool {
        let sessions = self.by_peer.get(peer).into_iter().flatten();
        sessions.max_by_key(|session| session.rank()).is_some_and(|session| !session.is_over(now_s))
    }

    /// Whether the peer told us of a higher session than we have, and we are not to wait for that any longer.
    pub fn is_outranked(&self, peer: &Fingerprint, now_s: u64) -> bool {
        self.outranked.contains(peer) && rank::is_due(&self.standing(peer), self.highest(peer), now_s)
    }

    /// Everybody who told us of a higher session than we have: they get a new one though nothing waits for them.
    pub fn outranked(&self) -> impl Iterator<Item = Fingerprint> {
        self.outranked.iter().copied()
    }

    /// We lost state, and the peer may know a higher session than one that has come about since: another is opened.
    pub fn renew(&mut self, peer: &Fingerprint, now_s: u64) {
        if let Some(highest) = self.highest(peer) {
            let above = Rank { opening: [0; 32], ..highest };
            self.change(peer, |standing| {
                // Not below what the peer has named meanwhile.
                (standing.announced, standing.due) = (standing.announced.max(Some(above)), now_s);
            });
        }
    }

    pub(super) fn note_outranked(&mut self, peer: &Fingerprint) {
        match rank::is_outranked(&self.standing(peer), self.highest(peer)) {
            true => self.outranked.insert(*peer),
            false => self.outranked.remove(peer),
        };
    }

    /// The peer names the highest session that it knows, in answer to an opening of ours.
    pub(super) fn heed(&mut self, peer: &Fingerprint, named: Rank, now_s: u64) {
        let mut sessions = self.by_peer.get(peer).into_iter().flatten();
        let has = sessions.any(|session| session.rank() == named);
        let highest = self.highest(peer);
        self.change(peer, |standing| rank::heed(standing, named, has, highest, now_s));
    }

    /// The peer's server took something that we sealed.
    pub fn accepted(&mut self, peer: &Fingerprint, now_s: u64) {
        let sessions = self.by_peer.get_mut(peer).into_iter().flatten();
        if sessions.max_by_key(|session| session.rank()).is_some_and(|session| session.accepted(now_s)) {
            self.dirty.insert(*peer);
        }
    }

    /// The opening of a session of ours was given up before the peer's server took it. Where nobody can have it the session is
    /// erased; where somebody may, it goes on receiving, and nothing more is sealed in it unless it is answered.
    pub fn abandon(&mut self, peer: &Fingerprint, opening: &[u8; 32], may_have_arrived: bool) {
        let Some(sessions) = self.by_peer.get_mut(peer) else { return };
        let is_it = |session: &Session| session.opening_hash() == opening && !session.has_received();
        let Some(place) = sessions.iter().position(is_it) else { return };
        match may_have_arrived {
            true => sessions[place].end_chain(),
            false => drop(sessions.remove(place)),
        }
        self.note_outranked(peer);
        self.dirty.insert(*peer);
        self.keep_up(peer);
    }

    /// Erases sessions that have only received for long enough. The highest of a peer is never among them.
    pub fn erase_spent(&mut self, now_s: u64) {
        let spent = |sessions: &Vec<Session>| sessions.iter().any(|session| session.is_spent(now_s));
        let peers = self.by_peer.iter().filter(|(_, sessions)| spent(sessions)).map(|(peer, _)| *peer);
        for peer in peers.take(SESSIONS_SWEPT_MAX).collect::<Vec<_>>() {
            if self.dirty_bytes() > BATCH_BYTES_MAX {
                return;
            }
            let sessions = self.by_peer.remove(&peer).unwrap_or_default();
            let (gone, kept): (Vec<_>, Vec<_>) = sessions.into_iter().partition(|session| session.is_spent(now_s));
            gone.iter().for_each(|session| self.note_erased(&peer, session));
            self.by_peer.insert(peer, kept);
            self.dirty.insert(peer);
            self.keep_up(&peer);
        }
    }

    pub(super) fn note_erased(&mut self, peer: &Fingerprint, session: &Session) {
        if session.has_received() {
            self.change(peer, |standing| standing.heard = true);
        }
    }

    pub(super) fn received_in(&mut self, peer: &Fingerprint, rank: Rank) {
        self.change(peer, |standing| rank::received(standing, rank));
    }

    pub(super) fn answer(&mut self, peer: &Fingerprint, opening: Rank, now_s: u64) -> Option<Rank> {
        let highest = self.highest(peer);
        let mut answer = None;
        self.change(peer, |standing| answer = rank::answer(standing, opening, highest, now_s));
        answer
    }

    /// Whether nothing that we know of made the peer open another session.
    pub(super) fn is_unexplained(&self, peer: &Fingerprint, opening: Rank, opened_s: u64, now_s: u64) -> bool {
        let sessions = self.by_peer.get(peer).into_iter().flatten().filter(|session| session.has_received());
        let newest = sessions.max_by_key(|session| session.rank()).and_then(Session::peer_chain);
        rank::is_unexplained(&self.standing(peer), opening, newest, opened_s, now_s)
    }

    fn change(&mut self, peer: &Fingerprint, change: impl FnOnce(&mut Standing)) {
        let before = self.standing(peer);
        let mut after = before;
        change(&mut after);
        if after != before {
            self.standings.insert(*peer, after);
            self.note_outranked(peer);
            self.dirty.insert(*peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::sessions::{NotOpened, Opened, Taken};
    use crate::client::trials::Hints;
    use crate::crypto::dh::SecretKey;
    use crate::crypto::secret::Secret;
    use crate::crypto::sign::SigningKey;
    use crate::limits::{
        CHAIN_LIFETIME_S, SESSION_RETIRED_S, SESSIONS_PER_PEER_MAX, SKIPPED_KEY_LIFETIME_S, SKIPPED_KEYS_MAX,
    };
    use crate::wire::envelope::Envelope;
    use crate::wire::prekey::PrekeyKind;
    use crate::wire::session::SkippedKey;
    use crate::wire::state::{AccountKeys, PrekeySecret};
    use rand_core::OsRng;

    const DAY_S: u64 = 86_400;
    const START_S: u64 = 1_000 * DAY_S;

    /// A payload that tells when it was written, and perhaps of a session.
    struct Text(u64, Option<Rank>);

    impl Taken for Text {
        fn written_s(&self) -> Option<u64> {
            Some(self.0)
        }

        fn names(&self) -> Option<Rank> {
            self.1
        }
    }

    struct Party {
        keys: AccountKeys,
        sessions: Sessions,
    }

    impl Party {
        fn new() -> Self {
            let keys = AccountKeys {
                signing: SigningKey::random(&mut OsRng),
                auth: SecretKey::random(&mut OsRng),
                transport: SecretKey::random(&mut OsRng),
            };
            Self { keys, sessions: Sessions::default() }
        }

        fn fingerprint(&self) -> Fingerprint {
            self.keys.identity().fingerprint()
        }

        fn opening(&mut self, to: &Self, now_s: u64) -> (PrekeySecret, Envelope) {
            let prekey = PrekeySecret::random(PrekeyKind::OneTime, u64::MAX, &to.keys, &mut OsRng);
            let (peer, now) = (to.keys.identity(), now_s * 1_000_000);
            let sealed = self.sessions.open_and_seal(&self.keys, &peer, &prekey.prekey, b"text", now, &mut OsRng);
            (prekey, sealed.unwrap())
        }

        fn accept(&mut self, (prekey, envelope): &(PrekeySecret, Envelope), now_s: u64) -> Opened {
            let take = |_: &_, _: &_| Ok(Text(now_s, None));
            let accepted = self.sessions.accept(&self.keys, prekey, envelope, now_s, &mut OsRng, take);
            accepted.map(|(_, opened)| opened).unwrap()
        }

        fn seal(&mut self, to: &Self, now_s: u64) -> Option<Envelope> {
            self.sessions.seal(&self.keys, &to.fingerprint(), b"text", now_s, &mut OsRng).unwrap()
        }

        fn open(&mut self, envelope: &Envelope, now_s: u64) -> Result<Text, NotOpened> {
            let take = |_: &_, _: &_| Ok(Text(now_s, None));
            self.sessions.open(&self.keys, envelope, Hints::NONE, now_s, &mut OsRng, take)
        }

        /// A copy of all that it has, as a thief or a backup has it.
        fn copy(&mut self, peer: &Self) -> Self {
            let mut sessions = Sessions::default();
            sessions.by_peer = self.sessions.by_peer.clone();
            sessions.standings = self.sessions.standings.clone();
            assert!(sessions.highest(&peer.fingerprint()).is_some());
            Self { keys: self.keys.clone(), sessions }
        }
    }

    #[test]
    fn a_thief_of_the_keys_who_opens_a_session_does_not_stay_unseen() {
        let (mut alice, mut bob) = (Party::new(), Party::new());
        assert!(!bob.accept(&alice.opening(&bob, START_S), START_S).is_unexplained, "the first");
        let answer = bob.seal(&alice, START_S).unwrap();
        bob.sessions.accepted(&alice.fingerprint(), START_S);
        alice.open(&answer, START_S).unwrap();
        let mut thief = alice.copy(&bob);
        assert!(bob.accept(&thief.opening(&bob, START_S + DAY_S), START_S + DAY_S).is_unexplained);
        // Below the session that stands, too: the opening itself says something in her name.
        thief.sessions = Sessions::default();
        let below = thief.opening(&bob, START_S - DAY_S);
        let opened = bob.accept(&below, START_S + 2 * DAY_S);
        assert!(opened.is_unexplained && opened.answer.is_some());
    }

    #[test]
    fn a_chain_that_nobody_answers_ends_with_a_new_session_that_alarms_nobody() {
        let (mut alice, mut bob) = (Party::new(), Party::new());
        bob.accept(&alice.opening(&bob, START_S), START_S);
        let later_s = START_S + CHAIN_LIFETIME_S;
        assert!(alice.seal(&bob, later_s - 1).is_some());
        assert!(alice.seal(&bob, later_s).is_none());
        // He was away, and has answered just now.
        assert!(bob.seal(&alice, later_s).is_some());
        bob.sessions.accepted(&alice.fingerprint(), later_s);
        assert!(!bob.accept(&alice.opening(&bob, later_s), later_s).is_unexplained);
        assert!(alice.seal(&bob, later_s).is_some());
    }

    #[test]
    fn two_who_open_at_once_are_not_alarmed_and_send_in_the_higher_session() {
        let (mut alice, mut bob) = (Party::new(), Party::new());
        let (of_alice, of_bob) = (alice.opening(&bob, START_S), bob.opening(&alice, START_S));
        let (at_bob, at_alice) = (bob.accept(&of_alice, START_S), alice.accept(&of_bob, START_S));
        assert!(!at_bob.is_unexplained && !at_alice.is_unexplained);
        let highest = alice.sessions.highest(&bob.fingerprint());
        assert_eq!(highest, bob.sessions.highest(&alice.fingerprint()));
        assert_eq!(at_bob.answer.xor(at_alice.answer), highest, "one of them is told");
    }

    #[test]
    fn who_is_told_of_a_session_that_it_lost_opens_above_it() {
        let (mut alice, mut bob) = (Party::new(), Party::new());
        bob.accept(&alice.opening(&bob, START_S), START_S);
        alice.sessions = Sessions::default();
        let lower = alice.opening(&bob, START_S - DAY_S);
        let opened = bob.accept(&lower, START_S);
        let (named, peer) = (opened.answer.unwrap(), alice.fingerprint());
        let note = bob.sessions.seal_in(&bob.keys, &peer, opened.rank, b"text", START_S, &mut OsRng).unwrap().unwrap();
        let take = |_: &_, _: &_| Ok(Text(START_S, Some(named)));
        alice.sessions.open(&alice.keys, &note, Hints::NONE, START_S, &mut OsRng, take).unwrap();
        assert!(alice.sessions.is_outranked(&bob.fingerprint(), START_S));
        assert!(alice.sessions.is_usable(&bob.fingerprint(), START_S), "what she has serves until then");
        let opened = bob.accept(&alice.opening(&bob, START_S), START_S);
        assert!(!opened.is_unexplained && opened.answer.is_none() && opened.rank > named);
        assert!(!alice.sessions.is_outranked(&bob.fingerprint(), START_S));
    }

    #[test]
    fn older_sessions_receive_for_thirty_days_and_leave_a_trace() {
        let (mut alice, mut bob) = (Party::new(), Party::new());
        bob.accept(&alice.opening(&bob, START_S), START_S);
        let (old, late) = (alice.seal(&bob, START_S).unwrap(), alice.seal(&bob, START_S).unwrap());
        bob.opening(&alice, START_S + 1);
        bob.open(&old, START_S + SESSION_RETIRED_S).unwrap();
        bob.sessions.erase_spent(START_S + SESSION_RETIRED_S);
        assert_eq!(bob.sessions.by_peer[&alice.fingerprint()].len(), 2);
        bob.sessions.erase_spent(START_S + SESSION_RETIRED_S + 1);
        assert_eq!(bob.sessions.by_peer[&alice.fingerprint()].len(), 1);
        assert!(bob.open(&late, START_S).is_err());
        alice.sessions = Sessions::default();
        let opened = bob.accept(&alice.opening(&bob, START_S + 40 * DAY_S), START_S + 40 * DAY_S);
        assert!(opened.is_unexplained, "that she was heard once is not forgotten");
    }

    #[test]
    fn a_peer_who_opens_again_and_again_meets_a_bound_that_keeps_the_highest() {
        let (mut alice, mut bob) = (Party::new(), Party::new());
        for number in 0..2 * SESSIONS_PER_PEER_MAX as u64 {
            alice.sessions = Sessions::default();
            bob.accept(&alice.opening(&bob, START_S - number), START_S);
        }
        let ranks: Vec<u64> = bob.sessions.by_peer[&alice.fingerprint()].iter().map(Session::generation).collect();
        assert_eq!(ranks.len(), SESSIONS_PER_PEER_MAX);
        assert_eq!(ranks[0], START_S * 1_000_000, "the highest");
    }

    #[test]
    fn what_is_too_old_in_all_sessions_at_once_is_erased_in_portions_and_the_size_of_each_is_known_before() {
        let (mut alice, mut bob) = (Party::new(), Party::new());
        let opening = bob.opening(&alice, START_S);
        alice.accept(&opening, START_S);
        let mut state = alice.sessions.by_peer[&bob.fingerprint()][0].state().clone();
        let counters = 0..u64::try_from(SKIPPED_KEYS_MAX).unwrap();
        let skipped =
            counters.map(|counter| (counter, SkippedKey { seed: Secret::random(&mut OsRng), since: START_S }));
        state.receiving[0].skipped = skipped.collect();
        alice.sessions.take_dirty();
        for peer in 0..100 {
            alice
                .sessions
                .by_peer
                .insert(Fingerprint([peer; 32]), vec![Session::new(state.clone()), Session::new(state.clone())]);
        }
        // Some stay: what is written is nearly as much as before.
        let later = START_S + SKIPPED_KEY_LIFETIME_S;
        for session in alice.sessions.by_peer.values_mut().flatten() {
            let mut state = session.state().clone();
            state.receiving[0].skipped.iter_mut().skip(10).for_each(|(_, skipped)| skipped.since = later);
            *session = Session::new(state);
        }
        let mut looks = Vec::new();
        loop {
            alice.sessions.expire(later);
            let about = alice.sessions.dirty_bytes();
            let written = alice.sessions.take_dirty();
            if written.is_empty() {
                break;
            }
            let bytes: usize = written.iter().map(|(_, bytes)| bytes.len()).sum();
            assert!(bytes <= about && about <= BATCH_BYTES_MAX + BATCH_BYTES_MAX / 8, "{bytes} {about}");
            looks.push(written.len());
        }
        assert!(looks.len() > 2 && looks.iter().sum::<usize>() == 100, "{looks:?}");
    }
}
