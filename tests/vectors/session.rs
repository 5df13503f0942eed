//! Alice opens a session and writes, Bob answers: each made with the randomness of the file, and opened with its secrets.

use chatterbox::crypto::dh::PublicKey;
use chatterbox::crypto::hash::sha256;
use chatterbox::crypto::kdf::{hkdf, hmac};
use chatterbox::crypto::kem::DecapsulationKey;
use chatterbox::crypto::sealing::{OneTimeMac, SealKey};
use chatterbox::crypto::secret::Secret;
use chatterbox::crypto::secretbox::ZERO_NONCE;
use chatterbox::envelope::{self, BodyError};
use chatterbox::ratchet::{self, OpeningKeys, Refused, Session};
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::header::Header;
use chatterbox::wire::payload::Plaintext;
use chatterbox::wire::sealing::Sealing;
use chatterbox::wire::session::{Standing, sessions_from_bytes, sessions_to_bytes};
use chatterbox::wire::state::AccountKeys;
use rand_core::{CryptoRngCore, OsRng};

use super::file::{Part, Vectors};
use super::identity::{account, prekey_secret};
use super::script::{Script, public_key, secret_key};

const BODY_AT: usize = 2_474;

/// Whom a chain is made for: the keys that its step uses.
struct Peer {
    root: Secret<32>,
    ratchet: PublicKey,
    auth: PublicKey,
    kem: DecapsulationKey,
}

impl Peer {
    fn of(session: &Session) -> Self {
        let state = session.state();
        Self {
            root: state.root.clone(),
            ratchet: state.ratchet.0.public(),
            auth: state.auth.0.public(),
            kem: state.kem.clone(),
        }
    }
}

pub fn talk(vectors: &Vectors) {
    let (alice, bob) = (account(vectors, "alice"), account(vectors, "bob"));
    let group = |name: &str| (vectors.part(name).part("chain"), vectors.part(name).part("messages").parts());
    let (opening, first) = group("opening");
    let (answering, answer) = group("answer");
    let (second_chain, second) = group("second_chain");
    let (second_answering, last) = group("second_answer");

    let mut hers = open(vectors, &alice, &opening, &first[0]);
    make(&first[1], &mut hers, &alice);

    let mut his = accept(vectors, &bob, &answering, &first[0]);
    check_chain(&answering, &his, &bob, &Peer::of(&hers));
    make(&answer[0], &mut his, &bob);

    let his_keys = Peer::of(&his);
    read_first(&answer[0], &mut hers, &alice, &second_chain);
    check_chain(&second_chain, &hers, &alice, &his_keys);
    for message in &second {
        make(message, &mut hers, &alice);
    }

    read_first(&second[0], &mut his, &bob, &second_answering);
    check_chain(&second_answering, &his, &bob, &Peer::of(&hers));
    is_skipped(&his, 0, &first[1]);
    read(&second[2], &mut his, &bob);
    is_skipped(&his, 1, &second[1]);
    stored_and_loaded(&mut his);
    for late in [&first[1], &second[1]] {
        read(late, &mut his, &bob);
    }
    assert_eq!(his.state().receiving.len(), 1, "the chain that is closed and complete goes");
    assert!(his.state().receiving[0].skipped.is_empty());

    make(&last[0], &mut his, &bob);
    receive(&last[0], &mut hers, &alice, &mut OsRng);
}

/// Alice's opening, and its first message.
fn open(vectors: &Vectors, alice: &AccountKeys, chain: &Part<'_>, message: &Part<'_>) -> Session {
    let (group, prekey) = (vectors.part("opening"), prekey_secret(vectors));
    let peer = account(vectors, "bob").identity();
    let derived = group.part("derived");
    let mut randomness = Script::of(&[(&derived, "ephemeral_secret")])
        .and(Script::of_chain(chain))
        .and(Script::of(&[(message, "header_random")]));
    let generation = group.number("generation");
    let (session, sealing) = ratchet::open(alice, peer, &prekey.prekey, generation, 1, &mut randomness).unwrap();
    randomness.end();

    let ephemeral = secret_key(&derived, "ephemeral_secret");
    derived.is("ephemeral_key", ephemeral.public().0);
    let shared = ephemeral.agree(&prekey.prekey.ratchet).unwrap();
    derived.is("x25519", shared.expose());
    let info: [&[u8]; 3] = [b"chatterbox 1 opening\0", &prekey.prekey.hash(&peer), &ephemeral.public().0];
    let keys: Secret<160> = hkdf(&[0; 32], shared.expose(), &info);
    derived.is("root", &keys.expose()[..32]);
    let state = session.state();
    derived.is("opener_header_key", state.sending.header_key.expose());
    derived.is("opener_tag_key", state.sending.tag_key.expose());
    derived.is("responder_header_key", state.next_receiving.header_key.expose());
    derived.is("responder_tag_key", state.next_receiving.tag_key.expose());
    derived.is("hash", state.opening);

    let root = Secret::new(derived.array("root"));
    let to = Peer { root, ratchet: prekey.ratchet.public(), auth: prekey.auth.public(), kem: prekey.kem };
    check_chain(chain, &session, alice, &to);
    chain.is("chain_key", message.bytes("chain_key"));
    seal(message, sealing, &session);
    session
}

/// Bob opens Alice's opening with the prekey's secrets.
fn accept(vectors: &Vectors, bob: &AccountKeys, chain: &Part<'_>, message: &Part<'_>) -> Session {
    let (group, prekey, envelope) = (vectors.part("opening"), prekey_secret(vectors), envelope_of(message));
    assert_eq!(envelope::tag(&envelope), prekey.prekey.tag());
    let keys = OpeningKeys::derive(bob, &prekey, envelope::ephemeral(&envelope)).unwrap();
    group.part("derived").is("opener_header_key", keys.header_key().expose());
    group.part("derived").is("hash", keys.opening_hash());
    let header = header(message, keys.header_key()).unwrap();
    let (key, body) = keys.body(&header).unwrap();
    message.is("message_key", key.expose());
    let opened = envelope::open_body(&envelope, key).unwrap();
    let author = body.author(opened.opening()).unwrap();
    message.is("payload", opened.payload(&envelope, author.auth_key(), true).unwrap());
    let mut randomness = Script::of_chain(chain);
    let session = author.accept(1, &mut randomness).unwrap();
    randomness.end();
    assert_eq!(session.generation(), group.number("generation"));
    assert_eq!(*session.peer(), account(vectors, "alice").identity());
    session
}

/// The chain that the session has just begun to send on.
fn check_chain(chain: &Part<'_>, session: &Session, ours: &AccountKeys, peer: &Peer) {
    let state = session.state();
    chain.is("peer_ratchet_key", peer.ratchet.0);
    chain.is("peer_auth_key", peer.auth.0);
    chain.is("peer_kem_key_sha256", sha256(&[peer.kem.public().as_bytes()]));
    chain.is("root_before", peer.root.expose());
    chain.is("ratchet_key", state.ratchet.0.public().0);
    chain.is("auth_key", state.auth.0.public().0);
    chain.is("kem_seed", state.kem.seed().expose());
    chain.is("kem_key_sha256", sha256(&[state.kem.public().as_bytes()]));
    let ciphertext = &state.sending.ciphertext;
    chain.is("kem_ciphertext_sha256", sha256(&[ciphertext.as_bytes()]));
    chain.is("kem_secret", peer.kem.decapsulate(ciphertext).expose());
    chain.is("kem_hash", sha256(&[peer.kem.public().as_bytes(), ciphertext.as_bytes()]));
    chain.is("x25519", state.ratchet.0.agree(&peer.ratchet).unwrap().expose());
    chain.is("auth_x25519", ours.auth.agree(&public_key(chain, "peer_auth_key")).unwrap().expose());
    chain.is("root", state.root.expose());
    chain.is("header_key", state.sending.header_key.expose());
    chain.is("tag_key", state.sending.tag_key.expose());
    chain.is("next_header_key", state.next_sending.header_key.expose());
    chain.is("next_tag_key", state.next_sending.tag_key.expose());
    chain.is("message_auth_key", state.sending.auth_key.expose());
    if state.sending.counter == 0 {
        chain.is("chain_key", state.sending.chain_key.expose());
    }
}

/// The next message of a sending chain.
fn make(message: &Part<'_>, session: &mut Session, ours: &AccountKeys) {
    message.is("chain_key", session.state().sending.chain_key.expose());
    let mut randomness = Script::of(&[(message, "header_random")]);
    let sealing = session.send(&ours.identity(), &mut randomness);
    randomness.end();
    seal(message, sealing, session);
}

fn seal(message: &Part<'_>, sealing: Sealing, session: &Session) {
    message.is("tag", sealing.tag);
    assert_eq!(sealing.header.counter, message.number("counter"));
    assert_eq!(sealing.header.previous, message.number("previous"));
    message.is("header", sealing.header.to_bytes());
    assert_eq!(Header::from_bytes(&message.bytes("header")).unwrap(), sealing.header);
    message.is("opening", sealing.opening.map_or([0; 72], |opening| opening.to_bytes()));
    message.is("message_key", sealing.message_key.expose());
    message.is("chain_key_after", session.state().sending.chain_key.expose());
    let chain_key = message.bytes("chain_key");
    message.is("chain_key_after", hmac(&chain_key, &[b"chatterbox 1 chain\0"]).expose());
    message.is("seed", hmac(&chain_key, &[b"chatterbox 1 message seed\0"]).expose());

    // What is drawn for an opening's bytes 16 to 47 must not be what stands there, so it is something else.
    let drawn = if sealing.opening.is_some() { "header_random" } else { "bytes_16_to_47" };
    let mut randomness = Script::of(&[(message, drawn), (message, "nonce")]);
    let (key, auth) = (sealing.message_key.clone(), sealing.auth.clone());
    let envelope = envelope::seal(sealing, &message.bytes("payload"), &mut randomness).unwrap();
    randomness.end();
    assert!(Plaintext::from_bytes(&message.bytes("payload")).is_ok());

    message.is("bytes_16_to_47", &envelope.as_bytes()[16..48]);
    let (front, body) = envelope.as_bytes().split_at(BODY_AT);
    let body = key.open(&ZERO_NONCE, body).unwrap();
    let covered: [&[u8]; 5] = [
        b"chatterbox 1 message auth\0",
        &auth.sender.to_bytes(),
        &auth.recipient.to_bytes(),
        &auth.recipient_auth.0,
        front,
    ];
    let mac_key = hmac(auth.key.expose(), &covered);
    message.is("mac_key", mac_key.expose());
    message.is("mac", OneTimeMac::of(mac_key, &body[OneTimeMac::BYTES..]).as_bytes());
    message.is("mac", &body[..OneTimeMac::BYTES]);
    message.is("body_sha256", sha256(&[&body]));
    message.is("envelope_sha256", envelope.sha256());
    assert!(*envelope.as_bytes() == *envelope_of(message).as_bytes());
}

fn envelope_of(message: &Part<'_>) -> Envelope {
    Envelope::from_vec(message.bytes("envelope_base64")).unwrap()
}

fn header(message: &Part<'_>, key: &SealKey) -> Option<Header> {
    envelope::open_header(&envelope_of(message), key)
}

/// Opens a message that begins a chain of the peer's, whereupon one of ours begins.
fn read_first(message: &Part<'_>, session: &mut Session, ours: &AccountKeys, chain: &Part<'_>) {
    let mut randomness = Script::of_chain(chain);
    receive(message, session, ours, &mut randomness);
    randomness.end();
}

/// Opens a message of a chain that is known.
fn read(message: &Part<'_>, session: &mut Session, ours: &AccountKeys) {
    receive(message, session, ours, &mut Script::none());
}

fn receive(message: &Part<'_>, session: &mut Session, ours: &AccountKeys, rng: &mut impl CryptoRngCore) {
    let envelope = envelope_of(message);
    assert!(session.expected_tags().contains(&envelope::tag(&envelope)));
    let found = session.header_keys().find_map(|(at, key)| Some((at, header(message, key)?)));
    let (at, header) = found.unwrap();
    let opened: Result<Vec<u8>, Failed> = session.receive(ours, at, &header, 1, rng, |key, auth| {
        message.is("message_key", key.expose());
        let opened = envelope::open_body(&envelope, key).map_err(Failed::Body)?;
        opened.payload(&envelope, auth, false).map(<[u8]>::to_vec).map_err(Failed::Body)
    });
    message.is("payload", opened.unwrap());
}

#[derive(Debug)]
#[allow(dead_code, reason = "shown where a test fails")]
enum Failed {
    Ratchet(Refused),
    Body(BodyError),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Ratchet(refused)
    }
}

/// The seed of a message that was jumped over is kept.
fn is_skipped(session: &Session, chain: usize, message: &Part<'_>) {
    let skipped = &session.state().receiving[chain].skipped;
    assert_eq!(skipped.len(), 1);
    message.is("seed", skipped[&message.number("counter")].seed.expose());
}

fn stored_and_loaded(session: &mut Session) {
    let bytes = sessions_to_bytes([session.state()], &Standing::default());
    *session = Session::new(sessions_from_bytes(&bytes).unwrap().0.pop().unwrap());
}
