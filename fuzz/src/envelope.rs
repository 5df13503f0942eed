//! Envelopes from outside, from the network and from a peer, to somebody with a standing session and two prekeys. An input is
//! a byte that says which of three, and what follows:
//!
//! | byte modulo 3 | envelope | what must hold |
//! |---:|---|---|
//! | 0 | the bytes as they are, perhaps under a tag that is known | it is refused |
//! | 1 | a genuine one, or parts of two, then changed | it opens if it is genuine after all, else it is refused and the genuine one still opens |
//! | 2 | a conversation: envelopes lost, late, repeated, and sealed by a peer that has all keys and no manners | what is genuine opens, once; of the rest what the rules allow |
//!
//! And always what [`Receiver::receive`] checks.

use std::sync::OnceLock;

use chatterbox::envelope::{self, PAYLOAD_BYTES_MAX};
use chatterbox::limits::{ENVELOPE_BYTES, SKIPPED_KEYS_MAX};
use chatterbox::ratchet::{self, Session};
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::header::{HEADER_BYTES, Header, Opening};
use chatterbox::wire::prekey::{PrekeyKind, SignedPrekey};
use chatterbox::wire::sealing::Sealing;
use chatterbox::wire::state::{AccountKeys, PrekeySecret};

use super::hostile::{self, Rest};
use super::input::{Input, filled};
use super::receiver::{NOW, NotOpened, Receiver, account};
use super::rng::Rng;

/// Enough for a few turns of both sides; each costs up to a dozen agreements.
const STEPS_MAX: usize = 12;
const EDITS_MAX: u8 = 4;

/// Checks one input; says whether an envelope was taken.
///
/// # Panics
/// If something does not hold.
pub fn check(input: &[u8]) -> bool {
    let mut input = Input(input);
    match input.byte() % 3 {
        0 => as_it_is(input),
        1 => changed(input),
        _ => Conversation::new().run(input),
    }
}

/// Inputs to begin with.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("nothing", vec![]),
        ("raw-under-a-prekeys-tag", [&[0, 1][..], &[9; 64]].concat()),
        ("raw-under-a-sessions-tag", [&[0, 3][..], &[9; 64]].concat()),
        ("genuine-of-a-closed-chain", vec![1, 0]),
        ("genuine-of-the-open-chain", vec![1, 2]),
        ("genuine-of-the-next-chain", vec![1, 4]),
        ("genuine-opening", vec![1, 6]),
        ("genuine-last-resort-opening", vec![1, 7]),
        ("changed-tag", vec![1, 2, 1, 0, 0, 0, 0, 1]),
        ("changed-header", vec![1, 4, 1, 0, 1, 0, 0, 1]),
        ("changed-body", vec![1, 6, 1, 0, 0x20, 0, 0, 1]),
        ("spliced", vec![1, 2, 1, 5, 3, 0, 72, 9, 98]),
        ("all-that-flies", vec![2, 1, 0, 1, 1, 1, 2, 1, 3, 1, 4, 1, 5]),
        ("backwards-and-twice", vec![2, 1, 5, 1, 4, 1, 3, 1, 2, 4, 1, 0, 1, 0]),
        ("both-in-turns", vec![2, 0, 1, 6, 3, 0, 1, 7, 3, 4, 0, 1, 8]),
        ("far-ahead", vec![2, 6, 255, 6, 255, 0, 1, 6, 1, 2]),
        ("counter-lies", vec![2, 2, 1, 255, 2, 1, 235, 2, 1, 236, 0, 1, 6]),
        ("previous-lies", vec![2, 2, 2, 255, 2, 2, 100, 2, 0, 1, 2]),
        ("kind-lies", vec![2, 2, 4, 0, 1, 6, 1, 6, 2, 4]),
        ("stray-opening", vec![2, 2, 64, 0, 0, 0, 3, 9]),
        ("keys-of-small-order", vec![2, 2, 8, 4, 2, 32, 0, 4, 5, 0, 8, 4]),
        (
            "bad-kem-key",
            vec![2, 5, 0, 16, 2, 0, 0, 4, 255, 255, 255, 255, 2, 16, 2, 0, 0, 4, 255, 255, 255, 255, 0, 1, 6],
        ),
        ("dirty-padding", vec![2, 2, 64, 2, 0, 0, 63, 1, 2, 64, 0, 2, 0, 72, 2, 255, 255]),
        ("openings", vec![2, 5, 0, 0, 0, 5, 5, 1, 0, 0, 5, 5, 2, 0, 0, 5, 4, 5, 3, 0, 0, 7]),
        ("opening-that-is-not-the-first", vec![2, 5, 0, 1, 5, 5, 0, 2, 5, 5, 0, 0, 0]),
        ("opening-in-anothers-name", vec![2, 5, 0, 64, 5, 1, 0, 2, 0, 8, 32]),
    ]
}

struct Genuine {
    envelope: Envelope,
    payload: Vec<u8>,
}

struct World {
    bob: Receiver,
    alice: AccountKeys,
    session: Session,
    /// Two of a closed chain, two of the open one, two of the next, and two openings.
    flying: Vec<Genuine>,
    one_time: SignedPrekey,
    last_resort: SignedPrekey,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

impl World {
    fn new() -> Self {
        let mut rng = Rng::new(b"world");
        let (alice, bob) = (account("alice"), account("bob"));
        let mut prekey = |kind| PrekeySecret::random(kind, u64::MAX, &bob, &mut rng);
        let prekeys = vec![prekey(PrekeyKind::OneTime), prekey(PrekeyKind::LastResort), prekey(PrekeyKind::OneTime)];
        let [first, last_resort, one_time] = &prekeys[..] else { unreachable!() };
        let (first, last_resort, one_time) =
            (first.prekey.clone(), last_resort.prekey.clone(), one_time.prekey.clone());
        let mut bob = Receiver { keys: bob, prekeys, sessions: Vec::new(), rng: Rng::new(b"bob") };
        let opening = |prekey: &SignedPrekey, payload: &[u8], rng: &mut Rng| {
            let (session, sealing) =
                ratchet::open(&alice, bob.keys.identity(), prekey, NOW, NOW, rng).expect("the prekey is a good one");
            let envelope = envelope::seal(sealing, payload, rng).expect("short");
            (session, Genuine { envelope, payload: payload.to_vec() })
        };
        let (session, opened) = opening(&first, b"opened", &mut rng);
        let openings = [&one_time, &last_resort].map(|prekey| opening(prekey, b"opening", &mut rng).1);
        bob.receive(&opened.envelope).expect("it opens");

        let mut alice = Peer { keys: alice, session };
        let mut flying = Vec::new();
        for chain in 0..3 {
            let sent: [Genuine; 4] = std::array::from_fn(|place| alice.send(&[b'a' + chain, place as u8], &mut rng));
            let [early, received, late, _lost] = sent;
            if chain < 2 {
                bob.receive(&received.envelope).expect("it opens");
                let reply = bob.reply(&mut rng);
                alice.receive(&reply).expect("it opens");
            }
            flying.extend([early, late]);
        }
        flying.extend(openings);
        Self { bob, alice: alice.keys, session: alice.session, flying, one_time, last_resort }
    }
}

/// Bob's session with Alice: a closed chain and an open one, with skipped keys in both.
pub fn standing() -> &'static Session {
    &world().bob.sessions[0]
}

/// The other side, who does not check what it does not have to.
struct Peer {
    keys: AccountKeys,
    session: Session,
}

impl Peer {
    fn send(&mut self, payload: &[u8], rng: &mut Rng) -> Genuine {
        let sealing = self.session.send(&self.keys.identity(), rng);
        let envelope = envelope::seal(sealing, payload, rng).expect("short");
        Genuine { envelope, payload: payload.to_vec() }
    }

    fn receive(&mut self, envelope: &Envelope) -> Result<Vec<u8>, NotOpened> {
        let (keys, sessions) = (self.keys.clone(), vec![self.session.clone()]);
        let mut receiver = Receiver { keys, prekeys: Vec::new(), sessions, rng: Rng::new(envelope.as_bytes()) };
        let outcome = receiver.receive(envelope);
        self.session = receiver.sessions.remove(0);
        outcome
    }
}

impl Receiver {
    /// In the session that stood first.
    fn reply(&mut self, rng: &mut Rng) -> Envelope {
        let ours = self.keys.identity();
        envelope::seal(self.sessions[0].send(&ours, rng), b"reply", rng).expect("short")
    }
}

fn as_it_is(mut input: Input<'_>) -> bool {
    let World { bob, one_time, last_resort, .. } = world();
    let tag = match input.byte() % 4 {
        0 => input.array(),
        1 => one_time.tag(),
        2 => last_resort.tag(),
        _ => {
            let tags = bob.sessions[0].expected_tags();
            tags[input.place(tags.len())]
        }
    };
    let bytes: [u8; ENVELOPE_BYTES] = filled(&[&tag, input.0].concat());
    let envelope = Envelope::from_slice(&bytes).expect("of its size");
    assert!(bob.clone().receive(&envelope).is_err(), "what nobody sealed was taken");
    false
}

fn changed(mut input: Input<'_>) -> bool {
    let World { bob, flying, .. } = world();
    let mut bob = bob.clone();
    let genuine = &flying[usize::from(input.byte()) % flying.len()];
    let mut bytes = genuine.envelope.as_bytes().to_vec();
    for _ in 0..input.byte() % EDITS_MAX {
        let kind = input.byte();
        if kind % 6 == 5 {
            let other = &flying[usize::from(input.byte()) % flying.len()];
            let from = input.place(bytes.len());
            let to = bytes.len().min(from + input.place(bytes.len()));
            bytes[from..to].copy_from_slice(&other.envelope.as_bytes()[from..to]);
        } else if kind & 0x80 == 0 {
            // Tag, key, nonce, the front of the header, and the seam between header and body are worth more tries.
            let (seam, end) = if kind & 0x40 == 0 { (0, 512) } else { (2_400, 2_600) };
            input.edit(&mut bytes[seam..end]);
        } else {
            input.edit(&mut bytes);
        }
    }
    let envelope = Envelope::from_vec(bytes).expect("of its size");
    let outcome = bob.receive(&envelope);
    if let Some(known) = flying.iter().find(|known| known.envelope == envelope) {
        assert_eq!(outcome.expect("a genuine envelope opens"), known.payload);
        return true;
    }
    assert!(outcome.is_err(), "a changed envelope was taken");
    assert_eq!(bob.receive(&genuine.envelope).expect("the genuine one opens still"), genuine.payload);
    false
}

/// Alice and Bob, and whatever is under way from her to him.
struct Conversation {
    bob: Receiver,
    alice: Peer,
    flying: Vec<(Genuine, bool)>,
    /// Bob has believed nothing that was not true: so what is genuine must open.
    honest: bool,
    taken: bool,
    skipped: usize,
    rng: Rng,
}

impl Conversation {
    fn new() -> Self {
        let World { bob, alice, session, flying, .. } = world();
        let alice = Peer { keys: alice.clone(), session: session.clone() };
        let flying = flying[..6].iter().map(|one| {
            let genuine = Genuine { envelope: one.envelope.clone(), payload: one.payload.clone() };
            (genuine, false)
        });
        let flying = flying.collect();
        Self { bob: bob.clone(), alice, flying, honest: true, taken: false, skipped: 0, rng: Rng::new(b"script") }
    }

    fn run(mut self, mut input: Input<'_>) -> bool {
        for _ in 0..STEPS_MAX {
            if input.0.is_empty() {
                break;
            }
            match input.byte() % 7 {
                0 => {
                    let genuine = self.alice.send(input.chunk(), &mut self.rng);
                    self.flying.push((genuine, false));
                }
                1 => self.deliver(usize::from(input.byte()) % self.flying.len()),
                2 => self.lie(&mut input),
                3 => self.answer(),
                4 => self.bob.restart(),
                5 => self.open(&mut input),
                _ => self.skip(usize::from(input.byte())),
            }
        }
        (0..self.flying.len()).for_each(|place| self.deliver(place));
        self.taken
    }

    fn deliver(&mut self, place: usize) {
        let (genuine, delivered) = &mut self.flying[place];
        let outcome = self.bob.receive(&genuine.envelope);
        assert!(outcome.is_err() || !*delivered, "an envelope opened again, later");
        match outcome {
            Ok(payload) => {
                assert_eq!(payload, genuine.payload);
                *delivered = true;
                self.taken = true;
            }
            Err(error) => assert!(*delivered || !self.honest, "a genuine envelope is refused: {error}"),
        }
    }

    fn answer(&mut self) {
        let reply = self.bob.reply(&mut self.rng);
        let outcome = self.alice.receive(&reply);
        assert!(outcome.is_ok() || !self.honest, "a genuine answer is refused: {outcome:?}");
    }

    /// Messages that never arrive.
    fn skip(&mut self, count: usize) {
        let ours = self.alice.keys.identity();
        for _ in 0..count {
            self.alice.session.send(&ours, &mut self.rng);
        }
        self.skipped += count;
        // Then keys are given up.
        self.honest &= self.skipped < SKIPPED_KEYS_MAX - 100;
    }

    /// Alice seals what no honest program seals.
    fn lie(&mut self, input: &mut Input<'_>) {
        let sealing = self.alice.session.send(&self.alice.keys.identity(), &mut self.rng);
        let lie = Lie::new(sealing, None, b"lie", input, &mut self.rng);
        self.hand_over(&lie);
    }

    /// Somebody opens a session, by the rules or not, and sends a second message in it.
    fn open(&mut self, input: &mut Input<'_>) {
        let World { one_time, last_resort, .. } = world();
        let which = input.byte();
        let opener = if which & 1 == 0 { self.alice.keys.clone() } else { account("carol") };
        let prekey = if which & 2 == 0 { one_time } else { last_resort };
        let available = self.bob.prekeys.iter().any(|entry| entry.prekey == *prekey);
        let known = self.bob.sessions.len();
        let (mut session, sealing) =
            ratchet::open(&opener, self.bob.keys.identity(), prekey, NOW, NOW, &mut self.rng).expect("a good prekey");
        let lie = Lie::new(sealing, Some(&opener), b"opening", input, &mut self.rng);
        if !self.hand_over(&lie) {
            assert!(!available || !lie.is_true, "a genuine opening is refused");
            return;
        }
        let Some(accepted) = self.bob.sessions.get(known) else { return };
        assert_eq!(accepted.peer().auth, opener.auth.public(), "somebody opened in another's name");
        if lie.is_true {
            let second = envelope::seal(session.send(&opener.identity(), &mut self.rng), input.chunk(), &mut self.rng);
            self.bob.receive(&second.expect("short")).expect("the second message of a session opens");
        }
    }

    /// Whether it was taken.
    fn hand_over(&mut self, lie: &Lie) -> bool {
        match self.bob.receive(&lie.envelope) {
            Ok(payload) => {
                assert_eq!(Some(payload), lie.payload, "what was taken is not what the rules see in it");
                self.honest &= lie.is_true;
                self.taken = true;
                true
            }
            Err(error) => {
                let genuine = lie.is_true && !lie.opens && self.honest;
                assert!(!genuine, "what is by the rules is refused: {error}");
                false
            }
        }
    }
}

/// An envelope by somebody who has its keys.
struct Lie {
    envelope: Envelope,
    opens: bool,
    /// What the rules see in it.
    payload: Option<Vec<u8>>,
    /// It is by the rules after all.
    is_true: bool,
}

impl Lie {
    fn new(
        mut sealing: Sealing,
        opener: Option<&AccountKeys>,
        payload: &[u8],
        input: &mut Input<'_>,
        rng: &mut Rng,
    ) -> Self {
        let opens = opener.is_some();
        let honest = sealing.header.to_bytes();
        let (tag, ephemeral, sender) = (sealing.tag, sealing.ephemeral, sealing.auth.sender);
        let genuine = Rest::new(sealing.opening.as_ref(), payload);
        let mut rest = genuine.clone();
        let lies = input.byte();
        let header = &mut sealing.header;
        if lies & 1 != 0 {
            header.counter = input.counter();
        }
        if lies & 2 != 0 {
            header.previous = input.counter();
        }
        if lies & 4 != 0 {
            header.opens = !header.opens;
        }
        if lies & 8 != 0 {
            header.auth = hostile::public_key(input);
        }
        if lies & 16 != 0 {
            header.kem = hostile::encapsulation_key(&header.kem, input);
        }
        if lies & 32 != 0 {
            match input.byte() % 3 {
                0 => header.ratchet = hostile::public_key(input),
                1 => header.ciphertext = hostile::ciphertext(&header.ciphertext, input),
                _ => header.random = input.array(),
            }
        }
        if lies & 64 != 0 {
            rest.edit(input);
        }
        let mut header: [u8; HEADER_BYTES] = sealing.header.to_bytes();
        if lies & 128 != 0 {
            match input.byte() % 4 {
                0 => sealing.tag = input.array(),
                1 => sealing.ephemeral = Some(hostile::public_key(input)),
                2 => input.edit(&mut header),
                _ => sealing.auth.sender.signing.0 = input.array(),
            }
        }
        if opens && sealing.auth.sender != sender {
            // Then the opening in the body names whom the MAC names.
            let identity = sealing.auth.sender;
            sealing.opening = sealing.opening.map(|opening| Opening { identity, ..opening });
            rest = Rest::new(sealing.opening.as_ref(), payload);
        }
        let is_true = header == honest
            && sealing.tag == tag
            && (sealing.ephemeral == ephemeral || !opens)
            && sealing.auth.sender == sender
            && (rest == genuine || (!opens && rest.payload(false).is_some()));
        let is_in_place = Header::from_bytes(&header).is_ok_and(|header| is_in_place(&header, opens));
        let seen = rest.payload(opens).filter(|_| is_in_place).map(<[u8]>::to_vec);
        assert!(seen.as_ref().is_none_or(|payload| payload.len() <= PAYLOAD_BYTES_MAX));
        let envelope = hostile::seal(&sealing, &header, &rest, rng);
        Self { envelope, opens, payload: seen, is_true }
    }
}

/// An opening is the first of its chain, says that it opens, and brings good keys; nothing else says that. In a standing
/// session keys are looked at where a chain begins.
fn is_in_place(header: &Header, opens: bool) -> bool {
    let is_first = (header.counter, header.previous) == (0, 0);
    let are_good = ![header.ratchet, header.auth].iter().any(hostile::has_small_order)
        && hostile::is_encapsulation_key(&header.kem);
    header.opens == opens && (!opens || (is_first && are_good))
}
