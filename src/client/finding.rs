//! From an envelope to its session.

use super::sessions::Sessions;
use super::trials::Tried;
use crate::envelope;
use crate::limits::TRIAL_STEPS;
use crate::ratchet::{ChainAt, Session};
use crate::wire::envelope::Envelope;
use crate::wire::header::Header;
use crate::wire::identity::Fingerprint;

/// Where an envelope belongs.
pub(super) struct Found {
    pub(super) peer: Fingerprint,
    /// Among the peer's sessions.
    pub(super) place: usize,
    pub(super) at: ChainAt,
    pub(super) header: Header,
}

impl Sessions {
    /// Finds the session of an envelope by its tag; else among those that were added since this was last asked for all
    /// that waits; else by trial, from where the last one ended and as far as the budget goes.
    ///
    /// # Errors
    /// How far the trial has come.
    pub(super) fn find(
        &mut self,
        envelope: &Envelope,
        added: &[Fingerprint],
        tried: Tried,
        now_s: u64,
    ) -> Result<Found, Tried> {
        let by_tag = self.tags.find(&envelope::tag(envelope));
        for peer in by_tag.iter().chain(added) {
            let Some(sessions) = self.by_peer.get(peer) else { continue };
            let trials: usize = sessions.iter().map(|session| session.header_keys().count()).sum();
            self.steps = self.steps.wrapping_add(u64::try_from(trials).unwrap_or(u64::MAX).wrapping_mul(TRIAL_STEPS));
            if let Some(found) = among(*peer, sessions, envelope) {
                return Ok(found);
            }
        }
        let rest = match tried {
            Tried::All => return Err(Tried::All),
            Tried::None => self.by_peer.range(..),
            Tried::Before(peer) => self.by_peer.range(peer..),
        };
        for (peer, sessions) in rest {
            let trials = sessions.iter().map(|session| session.header_keys().count()).sum();
            if !self.budget.take(trials, now_s) {
                return Err(Tried::Before(*peer));
            }
            if let Some(found) = among(*peer, sessions, envelope) {
                return Ok(found);
            }
        }
        Err(Tried::All)
    }
}

fn among(peer: Fingerprint, sessions: &[Session], envelope: &Envelope) -> Option<Found> {
    sessions.iter().enumerate().find_map(|(place, session)| {
        let mut keys = session.header_keys();
        keys.find_map(|(at, key)| Some(Found { peer, place, at, header: envelope::open_header(envelope, key)? }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::sessions::NotOpened;
    use crate::client::trials::Hints;
    use crate::crypto::dh::SecretKey;
    use crate::crypto::sign::SigningKey;
    use crate::limits::{TAG_WINDOW, TRIALS_PER_SECOND_MAX};
    use crate::wire::prekey::PrekeyKind;
    use crate::wire::state::{AccountKeys, PrekeySecret};
    use rand_core::OsRng;

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

        fn seal(&mut self, peer: &Self) -> Envelope {
            let sealed = self.sessions.seal(&self.keys, &peer.fingerprint(), b"text", 1, &mut OsRng);
            sealed.unwrap().unwrap()
        }

        fn open(&mut self, envelope: &Envelope, added: &[Fingerprint], tried: Tried) -> Result<(), NotOpened> {
            let hints = Hints { added, tried, ..Hints::NONE };
            self.sessions.open(&self.keys, envelope, hints, 1, &mut OsRng, |_, payload| {
                assert_eq!(payload, b"text");
                Ok(())
            })
        }
    }

    fn introduce(alice: &mut Party, bob: &mut Party) {
        let prekey = PrekeySecret::random(PrekeyKind::OneTime, u64::MAX, &bob.keys, &mut OsRng);
        let (peer, now) = (bob.keys.identity(), 1_000_000);
        let opened = alice.sessions.open_and_seal(&alice.keys, &peer, &prekey.prekey, b"text", now, &mut OsRng);
        let taken = bob.sessions.accept(&bob.keys, &prekey, &opened.unwrap(), 1, &mut OsRng, |_, _| Ok(()));
        taken.unwrap();
    }

    #[test]
    fn what_no_tag_finds_is_found_by_trial_as_far_as_the_budget_goes() {
        let mut bob = Party::new();
        let mut peers: Vec<Party> = (0..4).map(|_| Party::new()).collect();
        peers.iter_mut().for_each(|peer| introduce(peer, &mut bob));
        peers.sort_by_key(Party::fingerprint);
        let last = peers.last_mut().unwrap();
        let lost = 2 * TAG_WINDOW;
        let mut far: Vec<Envelope> = (0..=lost).map(|_| last.seal(&bob)).collect();
        let far = far.pop().unwrap();
        assert_eq!(bob.sessions.tags.find(&envelope::tag(&far)), None);

        assert!(bob.sessions.budget.take(TRIALS_PER_SECOND_MAX, 1));
        let first = peers[0].fingerprint();
        let stopped = NotOpened::NoSession(Tried::Before(first));
        assert_eq!(bob.open(&far, &[], Tried::None).unwrap_err(), stopped);
        let second = peers[1].fingerprint();
        let found = bob.sessions.find(&far, &[], Tried::Before(second), 2).ok().map(|found| found.peer);
        assert_eq!(found, Some(peers[3].fingerprint()), "the next second goes on where the last one stopped");
        assert_eq!(bob.open(&far, &[], Tried::All).unwrap_err(), NotOpened::NoSession(Tried::All));
        bob.open(&far, &[peers[3].fingerprint()], Tried::All).unwrap();
    }

    #[test]
    fn an_envelope_of_nobody_is_tried_once_in_every_session() {
        let mut bob = Party::new();
        let mut peers: Vec<Party> = (0..4).map(|_| Party::new()).collect();
        peers.iter_mut().for_each(|peer| introduce(peer, &mut bob));
        let garbage = Envelope::from_vec(vec![7; crate::limits::ENVELOPE_BYTES]).unwrap();
        assert_eq!(bob.open(&garbage, &[], Tried::None).unwrap_err(), NotOpened::NoSession(Tried::All));
    }

    #[test]
    fn tags_of_a_chain_in_order_are_always_known_ahead() {
        let (mut alice, mut bob) = (Party::new(), Party::new());
        introduce(&mut alice, &mut bob);
        for round in 0..4 {
            for _ in 0..3 * TAG_WINDOW {
                let sealed = alice.seal(&bob);
                assert_eq!(bob.sessions.tags.find(&envelope::tag(&sealed)), Some(alice.fingerprint()), "{round}");
                bob.open(&sealed, &[], Tried::All).unwrap();
            }
            let answer = bob.seal(&alice);
            alice.open(&answer, &[], Tried::All).unwrap();
        }
    }
}
