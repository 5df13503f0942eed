use rand_core::OsRng;

use super::*;
use crate::crypto::dh::{SecretKey, SmallOrder};
use crate::crypto::kem::{BadKey, EncapsulationKey};
use crate::crypto::sealing::SealKey;
use crate::crypto::secretbox::ZERO_NONCE;
use crate::crypto::sign::SigningKey;
use crate::limits::{CHAIN_JUMP_MAX, SKIPPED_KEY_LIFETIME_S, SKIPPED_KEYS_MAX};
use crate::wire::header::Opening;
use crate::wire::prekey::PrekeyKind;
use crate::wire::sealing::Sealing;
use crate::wire::session::{Standing, sessions_from_bytes, sessions_to_bytes};
use crate::wire::state::{AccountKeys, PrekeySecret};

#[derive(Debug, PartialEq)]
enum Fault {
    Refused(Refused),
    Unauthentic,
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

fn account() -> AccountKeys {
    AccountKeys {
        signing: SigningKey::random(&mut OsRng),
        auth: SecretKey::random(&mut OsRng),
        transport: SecretKey::random(&mut OsRng),
    }
}

fn prekey(owner: &AccountKeys) -> PrekeySecret {
    PrekeySecret::random(PrekeyKind::OneTime, u64::MAX, owner, &mut OsRng)
}

/// One side, with what it takes to speak.
struct Side {
    keys: AccountKeys,
    session: Session,
}

/// What travels: the header (in the clear here; sealing it is the envelope's) and a body that stands for its message.
struct Message {
    tag: [u8; 16],
    header: crate::wire::header::Header,
    header_key: SealKey,
    body: Vec<u8>,
    auth_key: crate::crypto::secret::Secret<32>,
    opening: Option<Opening>,
}

fn message(sealing: Sealing, text: &[u8]) -> Message {
    let mut body = Vec::new();
    sealing.message_key.seal(&ZERO_NONCE, text, &mut body);
    Message {
        tag: sealing.tag,
        header: sealing.header,
        header_key: sealing.header_key,
        body,
        auth_key: sealing.auth.key,
        opening: sealing.opening,
    }
}

impl Side {
    fn send(&mut self, text: &[u8]) -> Message {
        message(self.session.send(&self.keys.identity(), &mut OsRng), text)
    }

    fn receive(&mut self, message: &Message) -> Result<Vec<u8>, Fault> {
        let at = self.session.header_keys().find(|(_, key)| **key == message.header_key).map(|(at, _)| at);
        let Some(at) = at else { return Err(Fault::Refused(Refused::AlreadyUsed)) };
        self.session.receive(&self.keys, at, &message.header, 1, &mut OsRng, |key, auth| {
            let text = key.open(&ZERO_NONCE, &message.body).map_err(|_| Fault::Unauthentic)?;
            if auth.key != message.auth_key {
                return Err(Fault::Unauthentic);
            }
            Ok(text.to_vec())
        })
    }

    fn stored_and_loaded(&mut self) {
        let bytes = sessions_to_bytes([self.session.state()], &Standing::default());
        let loaded = sessions_from_bytes(&bytes).unwrap().0.pop().unwrap();
        assert!(&loaded == self.session.state());
        self.session = Session::new(loaded);
    }
}

/// Alice opens a session with Bob, who accepts her first message.
fn opened() -> (Side, Side) {
    let (alice, bob) = (account(), account());
    let prekey = prekey(&bob);
    let (session, sealing) = open(&alice, bob.identity(), &prekey.prekey, 5, 1, &mut OsRng).unwrap();
    let ephemeral = sealing.ephemeral.unwrap();
    assert_eq!(sealing.tag, prekey.prekey.tag());
    let first = message(sealing, b"first");
    let keys = OpeningKeys::derive(&bob, &prekey, ephemeral).unwrap();
    assert_eq!(*keys.header_key(), first.header_key);
    let (key, body) = keys.body(&first.header).unwrap();
    assert_eq!(*key.open(&ZERO_NONCE, &first.body).unwrap(), *b"first");
    let author = body.author(first.opening.unwrap()).unwrap();
    assert_eq!(author.auth_key().key, first.auth_key);
    assert_eq!(author.auth_key().sender, alice.identity());
    let accepted = author.accept(1, &mut OsRng).unwrap();
    assert_eq!(accepted.generation(), 5);
    assert_eq!(accepted.opening_hash(), session.opening_hash());
    (Side { keys: alice, session }, Side { keys: bob, session: accepted })
}

#[test]
fn both_sides_talk_in_turns_and_in_bursts_across_restarts() {
    let (mut alice, mut bob) = opened();
    for round in 0..6u8 {
        for burst in 0..3 {
            let text = [round, burst];
            let sent = alice.send(&text);
            assert!(bob.session.expected_tags().contains(&sent.tag));
            assert_eq!(bob.receive(&sent).unwrap(), text);
        }
        bob.stored_and_loaded();
        for burst in 0..2 {
            let text = [round, burst, 1];
            let sent = bob.send(&text);
            assert!(alice.session.expected_tags().contains(&sent.tag));
            assert_eq!(alice.receive(&sent).unwrap(), text);
        }
        alice.stored_and_loaded();
    }
}

#[test]
fn messages_cross_while_both_send() {
    let (mut alice, mut bob) = opened();
    for round in 0..5u8 {
        let (to_bob, to_alice) = (alice.send(&[round]), bob.send(&[round]));
        assert_eq!(bob.receive(&to_bob).unwrap(), [round]);
        assert_eq!(alice.receive(&to_alice).unwrap(), [round]);
    }
}

#[test]
fn any_order_opens_each_message_once_over_several_chains() {
    let (mut alice, mut bob) = opened();
    let mut sent: Vec<Message> = Vec::new();
    for chain in 0..4u8 {
        sent.extend((0..5).map(|number| alice.send(&[chain, number])));
        let reply = bob.send(b"reply");
        // Bob's replies arrive, so that Alice steps; hers arrive later, backwards, with one of each chain missing until
        // the end.
        if chain == 0 {
            assert_eq!(bob.receive(&sent[4]).unwrap(), [0, 4]);
        }
        alice.receive(&reply).unwrap();
        if chain > 0 {
            let newest = sent.last().unwrap();
            assert_eq!(bob.receive(newest).unwrap(), [chain, 4]);
        }
    }
    for (position, message) in sent.iter().enumerate().rev() {
        let expected = [u8::try_from(position / 5).unwrap(), u8::try_from(position % 5).unwrap()];
        if position % 5 == 4 {
            assert!(bob.receive(message).is_err(), "received before");
        } else {
            assert!(bob.session.expected_tags().contains(&message.tag));
            assert_eq!(bob.receive(message).unwrap(), expected);
        }
    }
    assert!(sent.iter().all(|message| bob.receive(message).is_err()), "repeated");
}

#[test]
fn forged_envelope_leaves_the_session_unchanged() {
    let (mut alice, mut bob) = opened();
    let reply = bob.send(b"reply");
    alice.receive(&reply).unwrap();
    let old_chain = bob.send(b"same chain");
    let good = alice.send(b"new chain");
    let _skipped = alice.send(b"skipped");
    let ahead = alice.send(b"ahead");
    for (victim, genuine) in [(&mut bob, &good), (&mut alice, &old_chain)] {
        let before = sessions_to_bytes([victim.session.state()], &Standing::default());
        let forged = Message {
            tag: genuine.tag,
            header: genuine.header.clone(),
            header_key: genuine.header_key.clone(),
            body: vec![0; 64],
            auth_key: genuine.auth_key.clone(),
            opening: None,
        };
        assert_eq!(victim.receive(&forged).unwrap_err(), Fault::Unauthentic);
        assert!(before == sessions_to_bytes([victim.session.state()], &Standing::default()));
        victim.receive(genuine).unwrap();
    }
    assert_eq!(bob.receive(&ahead).unwrap(), b"ahead");
}

#[test]
fn a_jump_beyond_the_bound_is_refused_and_one_within_keeps_the_newest_keys() {
    let (mut alice, mut bob) = opened();
    let first = alice.send(b"kept until the jump");
    let mut far = alice.send(b"far");
    far.header.counter += CHAIN_JUMP_MAX;
    assert_eq!(bob.receive(&far).unwrap_err(), Fault::Refused(Refused::TooFarAhead));
    let skipped: Vec<Message> = (0..SKIPPED_KEYS_MAX).map(|_| alice.send(b"skipped")).collect();
    assert_eq!(bob.receive(&alice.send(b"behind them")).unwrap(), b"behind them");
    assert_eq!(bob.receive(&first).unwrap_err(), Fault::Refused(Refused::AlreadyUsed), "the oldest went");
    assert_eq!(bob.receive(&skipped[0]).unwrap(), b"skipped");
    assert_eq!(bob.receive(skipped.last().unwrap()).unwrap(), b"skipped");
}

#[test]
fn what_a_step_jumps_over_in_both_chains_counts_together_and_before_anything_is_derived() {
    let (mut alice, mut bob) = opened();
    bob.receive(&alice.send(b"one")).unwrap();
    alice.receive(&bob.send(b"answer")).unwrap();
    let mut next = alice.send(b"next chain");
    let at = ChainAt::Next;
    assert_eq!((next.header.previous, next.header.counter, bob.session.jump(at, &next.header)), (2, 0, 0));
    (next.header.previous, next.header.counter) = (2 + CHAIN_JUMP_MAX - 5, 5);
    assert_eq!(bob.session.jump(at, &next.header), CHAIN_JUMP_MAX);
    // What is derived first is looked at first: with a bad key nothing would be said of the jump.
    next.header.ratchet = crate::crypto::dh::PublicKey([0; 32]);
    next.header.counter = 6;
    assert_eq!(bob.receive(&next).unwrap_err(), Fault::Refused(Refused::TooFarAhead));
    (next.header.previous, next.header.counter) = (u64::MAX, u64::MAX);
    assert_eq!(bob.receive(&next).unwrap_err(), Fault::Refused(Refused::TooFarAhead));
    (next.header.previous, next.header.counter) = (2, 0);
    assert_eq!(bob.receive(&next).unwrap_err(), Fault::Refused(SmallOrder.into()));
}

#[test]
fn seeds_of_what_was_jumped_over_expire_and_a_closed_chain_goes_with_its_last() {
    let (mut alice, mut bob) = opened();
    let late = alice.send(b"late");
    bob.receive(&alice.send(b"in time")).unwrap();
    alice.receive(&bob.send(b"answer")).unwrap();
    bob.receive(&alice.send(b"next chain")).unwrap();
    assert_eq!(bob.session.state().receiving.len(), 2);
    assert!(!bob.session.expire(SKIPPED_KEY_LIFETIME_S));
    assert!(bob.session.expire(SKIPPED_KEY_LIFETIME_S + 1), "it was skipped at second 1");
    assert_eq!(bob.session.state().receiving.len(), 1);
    assert_eq!(bob.receive(&late).unwrap_err(), Fault::Refused(Refused::AlreadyUsed));
}

#[test]
fn a_header_that_contradicts_its_session_is_refused() {
    let (mut alice, mut bob) = opened();
    let mut other_key = alice.send(b"x");
    other_key.header.ratchet = SecretKey::random(&mut OsRng).public();
    assert_eq!(bob.receive(&other_key).unwrap_err(), Fault::Refused(Refused::Inconsistent));
    let mut opening = alice.send(b"x");
    opening.header.opens = true;
    assert_eq!(bob.receive(&opening).unwrap_err(), Fault::Refused(Refused::Inconsistent));
    let mut small = bob.send(b"x");
    small.header.ratchet = crate::crypto::dh::PublicKey([0; 32]);
    assert_eq!(alice.receive(&small).unwrap_err(), Fault::Refused(SmallOrder.into()));
    let mut bad_kem = bob.send(b"x");
    bad_kem.header.kem = EncapsulationKey::from_slice(&[0xff; 1_184]).unwrap();
    assert_eq!(alice.receive(&bad_kem).unwrap_err(), Fault::Refused(BadPeerKey::from(BadKey).into()));
}

#[test]
fn no_message_key_repeats_when_an_old_state_is_restored() {
    let (mut alice, _) = opened();
    let backup = alice.session.clone();
    let one = alice.session.send(&alice.keys.identity(), &mut OsRng);
    alice.session = backup;
    let two = alice.session.send(&alice.keys.identity(), &mut OsRng);
    assert_eq!(one.header.counter, two.header.counter);
    assert!(one.message_key != two.message_key);
}

#[test]
fn an_opening_by_somebody_else_in_the_openers_name_does_not_authenticate() {
    let (alice, mallory, bob) = (account(), account(), account());
    let prekey = prekey(&bob);
    let (_, sealing) = open(&mallory, bob.identity(), &prekey.prekey, 5, 1, &mut OsRng).unwrap();
    let ephemeral = sealing.ephemeral.unwrap();
    let forged = message(sealing, b"in Alice's name");
    let keys = OpeningKeys::derive(&bob, &prekey, ephemeral).unwrap();
    let (_, body) = keys.body(&forged.header).unwrap();
    let author = body.author(Opening { generation: 5, identity: alice.identity() }).unwrap();
    assert_ne!(author.auth_key().key, forged.auth_key);
}

mod disorder {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Two sides and a network that delays, drops, repeats and reorders at will: what arrives opens exactly once.
        #[test]
        fn every_schedule_opens_what_arrives_exactly_once(script in proptest::collection::vec(any::<u8>(), 1..160)) {
            let (alice, bob) = opened();
            let mut sides = [alice, bob];
            let mut flying: [Vec<(u32, bool, Message)>; 2] = [Vec::new(), Vec::new()];
            let mut number = 0u32;
            for byte in script {
                let to = usize::from(byte & 1);
                if byte & 2 == 0 || flying[to].is_empty() {
                    number += 1;
                    let sent = sides[1 - to].send(&number.to_le_bytes());
                    flying[to].push((number, false, sent));
                } else {
                    let at = usize::from(byte >> 2) % flying[to].len();
                    let (number, received, message) = &mut flying[to][at];
                    match sides[to].receive(message) {
                        Ok(text) => {
                            prop_assert!(!*received);
                            prop_assert_eq!(text, number.to_le_bytes());
                            *received = true;
                        }
                        Err(_) => prop_assert!(*received),
                    }
                }
            }
        }
    }
}
