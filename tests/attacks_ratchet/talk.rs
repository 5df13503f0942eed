//! Two who talk, with everything kept that an attacker might get: all envelopes, the state of both sides at each step, and
//! every secret that either of them ever had.

use chatterbox::crypto::dh::{PublicKey, SecretKey};
use chatterbox::crypto::kem::DecapsulationKey;
use chatterbox::crypto::sign::SigningKey;
use chatterbox::envelope::{self, BodyError};
use chatterbox::ratchet::{OpeningKeys, Refused, Session, open};
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::prekey::PrekeyKind;
use chatterbox::wire::sealing::Sealing;
use chatterbox::wire::session::{Standing, sessions_to_bytes};
use chatterbox::wire::state::{AccountKeys, PrekeySecret};
use rand_core::OsRng;
use zeroize::Zeroizing;

/// Opens the session.
pub const ALICE: usize = 0;
/// Whose prekey it is opened with.
pub const BOB: usize = 1;

/// Why an envelope is no message.
#[derive(Debug, PartialEq)]
pub enum Fault {
    NothingOpensIt,
    Refused(Refused),
    Body(BodyError),
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

/// One of the two.
#[derive(Clone)]
pub struct Side {
    pub keys: AccountKeys,
    pub session: Session,
}

impl Side {
    /// The keys of the next message.
    pub fn sealing(&mut self) -> Sealing {
        self.session.send(&self.keys.identity(), &mut OsRng)
    }

    /// What the client does with an envelope.
    pub fn hear(&mut self, envelope: &Envelope) -> Result<Vec<u8>, Fault> {
        let opens = |key| envelope::open_header(envelope, key);
        let found = self.session.header_keys().find_map(|(at, key)| Some((at, opens(key)?)));
        let (at, header) = found.ok_or(Fault::NothingOpensIt)?;
        self.session.receive(&self.keys, at, &header, 1, &mut OsRng, |key, auth| {
            Ok(envelope::open_body(envelope, key)?.payload(envelope, auth, false)?.to_vec())
        })
    }

    /// The state as it lies on disk.
    pub fn bytes(&self) -> Zeroizing<Vec<u8>> {
        sessions_to_bytes([self.session.state()], &Standing::default())
    }
}

/// A message on its way.
pub struct Sent {
    pub by: usize,
    /// Which of its author's chains it is in, from 0.
    pub chain: usize,
    pub text: Vec<u8>,
    pub envelope: Envelope,
    received: bool,
}

/// One side's whole state at one step.
pub struct Snapshot {
    pub of: usize,
    pub bytes: Zeroizing<Vec<u8>>,
    /// Which of its chains it sent in.
    pub chain: usize,
    /// The messages that this side had sent or received by then.
    pub handled: Vec<usize>,
}

/// Secrets of both sides, of all times.
#[derive(Clone, Default)]
pub struct Secrets {
    pub x25519: Vec<SecretKey>,
    pub kem: Vec<DecapsulationKey>,
}

pub struct Talk {
    pub sides: [Side; 2],
    pub prekey: PrekeySecret,
    pub sent: Vec<Sent>,
    pub snapshots: Vec<Snapshot>,
    pub secrets: Secrets,
    chains: [Vec<PublicKey>; 2],
}

pub fn account() -> AccountKeys {
    AccountKeys {
        signing: SigningKey::random(&mut OsRng),
        auth: SecretKey::random(&mut OsRng),
        transport: SecretKey::random(&mut OsRng),
    }
}

impl Talk {
    /// Alice opens with a prekey of Bob's, and he hears it.
    pub fn open() -> Self {
        let (alice, bob) = (account(), account());
        let prekey = PrekeySecret::random(PrekeyKind::OneTime, u64::MAX, &bob, &mut OsRng);
        let (session, sealing) = open(&alice, bob.identity(), &prekey.prekey, 5, 1, &mut OsRng).unwrap();
        let text = b"opening".to_vec();
        let first = envelope::seal(sealing, &text, &mut OsRng).unwrap();
        let accepted = accept(&bob, &prekey, &first);
        let secrets = Secrets {
            x25519: vec![prekey.ratchet.clone(), prekey.auth.clone(), alice.auth.clone(), bob.auth.clone()],
            kem: vec![prekey.kem.clone()],
        };
        let sides = [Side { keys: alice, session }, Side { keys: bob, session: accepted }];
        let sent = vec![Sent { by: ALICE, chain: 0, text, envelope: first, received: true }];
        let mut talk = Self { sides, prekey, sent, snapshots: Vec::new(), secrets, chains: Default::default() };
        talk.look();
        talk
    }

    /// Rounds in which both write several, some at once, and one message of each comes a round late. With
    /// `all_arrive` nothing is missing at the end.
    pub fn of(rounds: usize, all_arrive: bool) -> Self {
        let mut talk = Self::open();
        let mut late = Vec::new();
        for round in 0..rounds {
            let before = std::mem::take(&mut late);
            for by in [ALICE, BOB] {
                late.push(talk.say(by));
                for _ in 0..2 {
                    let message = talk.say(by);
                    talk.hear(message);
                }
            }
            let crossing = [talk.say(ALICE), talk.say(BOB)];
            let waited = if all_arrive && round + 1 == rounds { std::mem::take(&mut late) } else { Vec::new() };
            crossing.into_iter().chain(before).chain(waited).for_each(|message| talk.hear(message));
        }
        talk
    }

    pub fn say(&mut self, by: usize) -> usize {
        let text = format!("message {}", self.sent.len()).into_bytes();
        let sealing = self.sides[by].sealing();
        let envelope = envelope::seal(sealing, &text, &mut OsRng).unwrap();
        self.sent.push(Sent { by, chain: self.chains[by].len() - 1, text, envelope, received: false });
        self.look();
        self.sent.len() - 1
    }

    pub fn hear(&mut self, message: usize) {
        let sent = &mut self.sent[message];
        assert_eq!(self.sides[1 - sent.by].hear(&sent.envelope).unwrap(), sent.text);
        sent.received = true;
        self.look();
    }

    pub fn envelopes(&self) -> Vec<&Envelope> {
        self.sent.iter().map(|sent| &sent.envelope).collect()
    }

    /// Keeps what there is to be had now.
    fn look(&mut self) {
        for (of, side) in self.sides.iter().enumerate() {
            let state = side.session.state();
            if self.chains[of].last() != Some(&state.ratchet.0.public()) {
                self.chains[of].push(state.ratchet.0.public());
                self.secrets.x25519.extend([state.ratchet.0.clone(), state.auth.0.clone()]);
                self.secrets.kem.push(state.kem.clone());
            }
            let handled = |(_, sent): &(usize, &Sent)| sent.by == of || sent.received;
            self.snapshots.push(Snapshot {
                of,
                bytes: side.bytes(),
                chain: self.chains[of].len() - 1,
                handled: self.sent.iter().enumerate().filter(handled).map(|(number, _)| number).collect(),
            });
        }
    }
}

/// What the recipient of a first message does.
fn accept(ours: &AccountKeys, prekey: &PrekeySecret, first: &Envelope) -> Session {
    let keys = OpeningKeys::derive(ours, prekey, envelope::ephemeral(first)).unwrap();
    let header = envelope::open_header(first, keys.header_key()).unwrap();
    let (key, body) = keys.body(&header).unwrap();
    let opened = envelope::open_body(first, key).unwrap();
    let author = body.author(opened.opening()).unwrap();
    opened.payload(first, author.auth_key(), true).unwrap();
    author.accept(1, &mut OsRng).unwrap()
}
