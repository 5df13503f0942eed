//! The attacks of the design's section 11 that the ratchet and the envelope withstand by themselves, by its public interface:
//! somebody stole one side's state, or single keys of it, or can break one of the two primitives. The table in the head of
//! `tests/attacks.rs` has all of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests panic as tests do")]

mod attacks_ratchet {
    pub mod talk;
    pub mod thief;
}

use attacks_ratchet::talk::{ALICE, BOB, Fault, Secrets, Side, Snapshot, Talk, account};
use attacks_ratchet::thief::{BODY_AT, Thief};
use chatterbox::crypto::dh::SecretKey;
use chatterbox::crypto::kdf::hmac;
use chatterbox::crypto::sealing::{OneTimeMac, SealKey};
use chatterbox::crypto::secret::Secret;
use chatterbox::crypto::secretbox::ZERO_NONCE;
use chatterbox::envelope::{self, BodyError};
use chatterbox::ratchet::Session;
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::header::Header;
use chatterbox::wire::sealing::{AuthKey, Sealing};
use chatterbox::wire::session::{SessionState, sessions_from_bytes};
use rand_core::OsRng;

/// A round trip behind a snapshot ends with the chain that this side begins next: the peer may answer once to the stolen
/// keys, but what this side answers has fresh ones of its own, and from there on of both. So of its own chains a thief reads the
/// one that it sent in, and of the peer's those up to the one that answers it.
fn reach(snapshot: &Snapshot, by: usize) -> usize {
    // Alice's chain n answers Bob's n - 1, Bob's n answers Alice's n.
    if snapshot.of == BOB && by == ALICE { snapshot.chain + 1 } else { snapshot.chain }
}

/// What the thief of each snapshot reads, with what is broken besides, against what he must and must not.
fn check_thefts(broken: impl Fn(&Talk) -> Secrets, reads_on: bool) {
    let talk = Talk::of(2, false);
    let broken = broken(&talk);
    let envelopes = talk.envelopes();
    let (mut earlier, mut within, mut beyond) = (0, 0, 0);
    for (step, snapshot) in talk.snapshots.iter().enumerate() {
        let read = Thief::of_state(&talk, snapshot, &broken).read(&envelopes);
        for (number, (sent, read)) in talk.sent.iter().zip(read).enumerate() {
            let is_earlier = snapshot.handled.contains(&number);
            let is_within = sent.chain <= reach(snapshot, sent.by);
            let count = match (is_earlier, is_within) {
                (true, _) => &mut earlier,
                (false, true) => &mut within,
                (false, false) => &mut beyond,
            };
            *count += 1;
            // What was jumped over is not handled yet: its kept seeds are the exception that the threat model names.
            let opens = !is_earlier && (is_within || reads_on);
            assert_eq!(read, opens.then(|| sent.text.clone()), "message {number}, state of {} at {step}", snapshot.of);
        }
    }
    assert!(earlier > 100 && within > 100 && beyond > 100, "{earlier} {within} {beyond}");
}

#[test]
fn a_stolen_state_opens_nothing_earlier_and_nothing_behind_the_next_round_trip() {
    check_thefts(|_| Secrets::default(), false);
}

#[test]
fn a_stolen_state_opens_no_more_where_the_kem_is_broken() {
    check_thefts(|talk| Secrets { kem: talk.secrets.kem.clone(), ..Secrets::default() }, false);
}

#[test]
fn a_stolen_state_opens_no_more_where_x25519_is_broken() {
    check_thefts(|talk| Secrets { x25519: talk.secrets.x25519.clone(), ..Secrets::default() }, false);
}

/// The check of the thief himself: what he fails at above is for lack of one secret only. And even so he goes forward alone.
#[test]
fn a_stolen_state_opens_all_that_follows_and_nothing_earlier_where_both_are_broken() {
    check_thefts(|talk| talk.secrets.clone(), true);
}

#[test]
fn what_is_recorded_on_the_wire_opens_only_to_who_breaks_both_x25519_and_the_kem() {
    let talk = Talk::of(2, false);
    let envelopes = talk.envelopes();
    let kem = Secrets { kem: talk.secrets.kem.clone(), ..Secrets::default() };
    assert!(Thief::of_recording(&talk, &kem).is_none());
    let x25519 = Secrets { x25519: talk.secrets.x25519.clone(), ..Secrets::default() };
    let mut thief = Thief::of_recording(&talk, &x25519).unwrap();
    // The header of an opening is as far as he comes, and it does not say who opens.
    let header = thief.opening_header(envelopes[0]).to_bytes();
    let identity = talk.sides[ALICE].keys.identity();
    for key in [identity.signing.0, identity.auth.0] {
        assert!(!header.windows(32).any(|window| window == key));
    }
    assert!(thief.read(&envelopes).iter().all(Option::is_none));
    let all = Thief::of_recording(&talk, &talk.secrets).unwrap().read(&envelopes);
    let texts: Vec<_> = talk.sent.iter().map(|sent| Some(sent.text.clone())).collect();
    assert_eq!(all, texts, "the check of the thief himself");
}

/// Bob hears a forgery, and is as he was.
fn refuses(bob: &mut Side, forged: &Envelope) -> Fault {
    let before = bob.bytes();
    let fault = bob.hear(forged).unwrap_err();
    assert!(bob.bytes() == before, "a forgery changed something");
    fault
}

/// `front` with another body: what stands behind the MAC, and the MAC itself.
fn with_body(front: &Envelope, key: &SealKey, mac: &[u8], rest: &[u8]) -> Envelope {
    let mut bytes = front.as_bytes()[..BODY_AT].to_vec();
    key.seal(&ZERO_NONCE, &[mac, rest].concat(), &mut bytes);
    Envelope::from_vec(bytes).unwrap()
}

fn mac(auth: &AuthKey, front: &Envelope, rest: &[u8]) -> OneTimeMac {
    let (sender, recipient) = (auth.sender.to_bytes(), auth.recipient.to_bytes());
    let label = b"chatterbox 1 message auth\0";
    let front = &front.as_bytes()[..BODY_AT];
    OneTimeMac::of(hmac(auth.key.expose(), &[label, &sender, &recipient, &auth.recipient_auth.0, front]), rest)
}

/// A message of Alice's with all its keys, before Bob has heard it.
struct Held {
    envelope: Envelope,
    key: SealKey,
    auth: AuthKey,
    body: Vec<u8>,
}

fn held(alice: &mut Side, text: &[u8]) -> Held {
    let sealing = alice.sealing();
    let (key, auth) = (sealing.message_key.clone(), sealing.auth.clone());
    let envelope = envelope::seal(sealing, text, &mut OsRng).unwrap();
    let body = key.open(&ZERO_NONCE, &envelope.as_bytes()[BODY_AT..]).unwrap().to_vec();
    Held { envelope, key, auth, body }
}

#[test]
fn who_has_one_message_key_makes_no_other_message_of_it() {
    let Talk { sides: [mut alice, mut bob], .. } = Talk::of(2, true);
    let Held { envelope, key, auth, body } = held(&mut alice, b"pay bob");
    let (old_mac, rest) = body.split_at(16);
    let mut changed = rest.to_vec();
    changed[72 + 2..][..7].copy_from_slice(b"pay eve");
    // The MAC that was there, one under the only key that he has, and none.
    let own = AuthKey { key: Secret::new(*key.expose()), ..auth.clone() };
    for tried in [old_mac, mac(&own, &envelope, &changed).as_bytes(), &[0; 16]] {
        let forged = with_body(&envelope, &key, tried, &changed);
        assert_eq!(refuses(&mut bob, &forged), Fault::Body(BodyError::NotTheAuthor));
    }
    let with_auth_key = with_body(&envelope, &key, mac(&auth, &envelope, &changed).as_bytes(), &changed);
    assert_eq!(bob.clone().hear(&with_auth_key).unwrap(), b"pay eve", "the check of the forger himself");
    assert_eq!(bob.hear(&envelope).unwrap(), b"pay bob");
}

#[test]
fn who_has_several_message_keys_does_not_put_one_message_in_the_place_of_another() {
    let Talk { sides: [mut alice, mut bob], .. } = Talk::of(2, true);
    let all: Vec<Held> = (0..4u8).map(|number| held(&mut alice, &[number])).collect();
    for (place, front) in all.iter().enumerate() {
        for (number, other) in all.iter().enumerate() {
            let (mac, rest) = other.body.split_at(16);
            let moved = with_body(&front.envelope, &front.key, mac, rest);
            if number != place {
                assert_eq!(refuses(&mut bob, &moved), Fault::Body(BodyError::NotTheAuthor));
            }
        }
    }
    for (number, held) in (0..4u8).zip(&all) {
        assert_eq!(bob.hear(&held.envelope).unwrap(), [number]);
        assert!(bob.hear(&held.envelope).is_err(), "repeated");
    }
}

/// All keys of a chain but its auth key, so as to go on in its place.
struct ChainKeys {
    header_key: SealKey,
    tag_key: Secret<32>,
    chain_key: Secret<32>,
    header: Header,
}

impl ChainKeys {
    fn message(&self, auth: AuthKey, text: &[u8]) -> Envelope {
        let seed = hmac(self.chain_key.expose(), &[b"chatterbox 1 message seed\0"]);
        let tag = hmac(self.tag_key.expose(), &[b"chatterbox 1 tag\0", &self.header.counter.to_le_bytes()]);
        let random = &self.header.random;
        let sealing = Sealing {
            tag: tag.expose()[..16].try_into().unwrap(),
            ephemeral: None,
            header_key: self.header_key.clone(),
            header: self.header.clone(),
            opening: None,
            message_key: SealKey::new(hmac(seed.expose(), &[b"chatterbox 1 message key\0", random])),
            auth,
        };
        envelope::seal(sealing, text, &mut OsRng).unwrap()
    }
}

#[test]
fn who_has_the_keys_of_a_session_but_no_auth_key_writes_nothing_in_the_authors_name() {
    let Talk { sides: [mut alice, mut bob], .. } = Talk::of(2, true);
    let state = alice.session.state().clone();
    let genuine = alice.clone().sealing();
    let keys = ChainKeys {
        header_key: state.sending.header_key.clone(),
        tag_key: state.sending.tag_key.clone(),
        chain_key: state.sending.chain_key.clone(),
        header: genuine.header,
    };
    let auth = genuine.auth;
    // Other keys of the session, and what a forger with a long-term auth key of his own agrees on with Bob's ratchet auth key.
    let own = SecretKey::random(&mut OsRng).agree(&auth.recipient_auth).unwrap();
    let session_keys = [&state.root, &state.sending.chain_key, &state.sending.tag_key, &own];
    for key in session_keys.into_iter().cloned().chain([Secret::new(*state.sending.header_key.expose())]) {
        let forged = keys.message(AuthKey { key, ..auth.clone() }, b"forged");
        assert_eq!(refuses(&mut bob, &forged), Fault::Body(BodyError::NotTheAuthor));
    }
    let with_auth_key = keys.message(auth, b"forged");
    assert_eq!(bob.clone().hear(&with_auth_key).unwrap(), b"forged", "the check of the forger himself");
    let Held { envelope, .. } = held(&mut alice, b"genuine");
    assert_eq!(bob.hear(&envelope).unwrap(), b"genuine");
}

/// The states of one side before the chain that it sends in now, that is before the last round trip.
fn former(talk: &Talk, of: usize) -> Vec<SessionState> {
    let newest = talk.snapshots.iter().filter(|snapshot| snapshot.of == of).map(|snapshot| snapshot.chain).max();
    let is_former = |snapshot: &&Snapshot| snapshot.of == of && snapshot.chain + 1 < newest.unwrap();
    let states: Vec<_> = talk
        .snapshots
        .iter()
        .filter(is_former)
        .map(|snapshot| sessions_from_bytes(&snapshot.bytes).unwrap().0.pop().unwrap())
        .collect();
    assert!(states.len() > 10);
    states
}

#[test]
fn who_has_all_former_keys_of_one_participant_writes_nothing_in_their_name() {
    let mut talk = Talk::of(4, true);
    for state in former(&talk, ALICE) {
        // With all that was Alice's then, her long-term keys included, he goes on from there as she would have.
        let mut thief = Side { keys: talk.sides[ALICE].keys.clone(), session: Session::new(state) };
        for _ in 0..3 {
            let Held { envelope, .. } = held(&mut thief, b"forged");
            assert_eq!(refuses(&mut talk.sides[BOB], &envelope), Fault::NothingOpensIt);
        }
    }
    let message = talk.say(ALICE);
    talk.hear(message);
}

#[test]
fn who_has_all_former_keys_of_all_participants_writes_nothing_in_their_name() {
    let mut talk = Talk::of(4, true);
    let [alice, bob] = [ALICE, BOB].map(|side| talk.sides[side].keys.identity());
    for (victim, author, ours) in [(BOB, alice, bob), (ALICE, bob, alice)] {
        let mut forged = 0;
        for state in former(&talk, victim) {
            // The recipient's own keys of the author's chain serve to go on in it, the auth key among them.
            for chain in &state.receiving {
                let Some(chain_key) = chain.chain_key.clone() else { continue };
                let pair = state.kem.clone();
                let keys = ChainKeys {
                    header_key: chain.header_key.clone(),
                    tag_key: chain.tag_key.clone(),
                    chain_key,
                    header: Header {
                        opens: false,
                        counter: chain.counter,
                        previous: 0,
                        random: [7; 32],
                        ratchet: chain.peer_ratchet,
                        auth: state.auth.0.public(),
                        kem: pair.public().clone(),
                        ciphertext: state.sending.ciphertext.clone(),
                    },
                };
                let auth = AuthKey {
                    key: chain.auth_key.clone(),
                    sender: author,
                    recipient: ours,
                    recipient_auth: chain.our_auth,
                };
                let envelope = keys.message(auth, b"forged");
                let mut then = Side { keys: talk.sides[victim].keys.clone(), session: Session::new(state.clone()) };
                assert_eq!(then.hear(&envelope).unwrap(), b"forged", "the check of the forger himself");
                assert_eq!(refuses(&mut talk.sides[victim], &envelope), Fault::NothingOpensIt);
                forged += 1;
            }
        }
        assert!(forged > 10, "{forged}");
    }
    for by in [ALICE, BOB] {
        let message = talk.say(by);
        talk.hear(message);
    }
}

#[test]
fn a_message_opens_neither_to_its_author_nor_in_a_session_with_somebody_else() {
    let Talk { sides: [mut alice, mut bob], .. } = Talk::of(2, true);
    let mut other = Talk::of(2, true);
    let Held { envelope, .. } = held(&mut alice, b"to bob");
    assert_eq!(refuses(&mut alice, &envelope), Fault::NothingOpensIt);
    for side in &mut other.sides {
        assert_eq!(refuses(side, &envelope), Fault::NothingOpensIt);
    }
    // Nor does Bob take it where his identity is another than that it was written to.
    let mut changed = Side { keys: account(), session: bob.session.clone() };
    assert_eq!(refuses(&mut changed, &envelope), Fault::Body(BodyError::NotTheAuthor));
    assert_eq!(bob.hear(&envelope).unwrap(), b"to bob");
}
