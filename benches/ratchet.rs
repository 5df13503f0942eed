//! The ratchet and the envelope beside vodozemac, Matrix's double ratchet, in one run: a session's beginning, a message
//! within a chain, and a message that steps the ratchet, each of as many bytes as an envelope holds.
//!
//! `cargo bench --bench ratchet` prints times; the last lines are the ratios that `docs/performance.md` keeps.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use chatterbox::crypto::dh::SecretKey;
use chatterbox::crypto::kem::DecapsulationKey;
use chatterbox::crypto::sign::SigningKey;
use chatterbox::envelope::{self, PAYLOAD_BYTES_MAX};
use chatterbox::ratchet::{self, OpeningKeys, Refused, Session};
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::prekey::PrekeyKind;
use chatterbox::wire::state::{AccountKeys, PrekeySecret};
use criterion::{BatchSize, Criterion, Throughput};
use rand_core::OsRng;
use vodozemac::olm::{Account, OlmMessage, Session as Olm, SessionConfig};

fn account() -> AccountKeys {
    AccountKeys {
        signing: SigningKey::random(&mut OsRng),
        auth: SecretKey::random(&mut OsRng),
        transport: SecretKey::random(&mut OsRng),
    }
}

/// Both ends of a session.
struct Pair {
    alice: (AccountKeys, Session),
    bob: (AccountKeys, Session),
}

fn open(alice: &AccountKeys, bob: &AccountKeys, prekey: &PrekeySecret, text: &[u8]) -> (Session, Envelope) {
    let (session, sealing) = ratchet::open(alice, bob.identity(), &prekey.prekey, 1, 1, &mut OsRng).unwrap();
    (session, envelope::seal(sealing, text, &mut OsRng).unwrap())
}

fn accept(bob: &AccountKeys, prekey: &PrekeySecret, sealed: &Envelope) -> Session {
    let keys = OpeningKeys::derive(bob, prekey, envelope::ephemeral(sealed)).unwrap();
    let header = envelope::open_header(sealed, keys.header_key()).unwrap();
    let (key, body) = keys.body(&header).unwrap();
    let opened = envelope::open_body(sealed, key).unwrap();
    let author = body.author(opened.opening()).unwrap();
    black_box(opened.payload(sealed, author.auth_key(), true).unwrap());
    author.accept(1, &mut OsRng).unwrap()
}

fn seal((keys, session): &mut (AccountKeys, Session), text: &[u8]) -> Envelope {
    let sealing = session.send(&keys.identity(), &mut OsRng);
    envelope::seal(sealing, text, &mut OsRng).unwrap()
}

#[derive(Debug)]
struct Unopened;

impl From<Refused> for Unopened {
    fn from(_: Refused) -> Self {
        Self
    }
}

fn receive((keys, session): &mut (AccountKeys, Session), sealed: &Envelope) -> usize {
    let mut found = session.header_keys();
    let (at, header) = found.find_map(|(at, key)| Some((at, envelope::open_header(sealed, key)?))).unwrap();
    drop(found);
    let opened = session.receive(keys, at, &header, 1, &mut OsRng, |key, auth| {
        let body = envelope::open_body(sealed, key).map_err(|_| Unopened)?;
        Ok::<_, Unopened>(body.payload(sealed, auth, false).map_err(|_| Unopened)?.len())
    });
    opened.unwrap()
}

impl Pair {
    fn new() -> Self {
        let (alice, bob) = (account(), account());
        let prekey = PrekeySecret::random(PrekeyKind::OneTime, u64::MAX, &bob, &mut OsRng);
        let (session, first) = open(&alice, &bob, &prekey, b"first");
        let accepted = accept(&bob, &prekey, &first);
        Self { alice: (alice, session), bob: (bob, accepted) }
    }
}

fn olm_open(alice: &Account, bob: &Account, text: &[u8]) -> (Olm, OlmMessage) {
    let one_time = *bob.one_time_keys().values().next().unwrap();
    let mut session = alice.create_outbound_session(SessionConfig::default(), bob.curve25519_key(), one_time).unwrap();
    let first = session.encrypt(text).unwrap();
    (session, first)
}

fn olm_accept(alice: &Account, bob: &mut Account, first: &OlmMessage) -> Olm {
    let OlmMessage::PreKey(first) = first else { panic!("the first message opens a session") };
    bob.create_inbound_session(SessionConfig::default(), alice.curve25519_key(), first).unwrap().session
}

fn olm_bob() -> Account {
    let mut bob = Account::new();
    bob.generate_one_time_keys(1);
    bob
}

/// Both ends of a session in which both have spoken.
fn olm_pair() -> (Olm, Olm) {
    let (alice, mut bob) = (Account::new(), olm_bob());
    let (mut opener, first) = olm_open(&alice, &bob, b"first");
    let mut responder = olm_accept(&alice, &mut bob, &first);
    let answer = responder.encrypt("answer").unwrap();
    opener.decrypt(&answer).unwrap();
    (opener, responder)
}

fn setup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session setup, both sides");
    group.bench_function("chatterbox", |bencher| {
        let (alice, bob) = (account(), account());
        let prekey = || PrekeySecret::random(PrekeyKind::OneTime, u64::MAX, &bob, &mut OsRng);
        bencher.iter_batched(
            prekey,
            |prekey| accept(&bob, &prekey, &open(&alice, &bob, &prekey, b"first").1),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("vodozemac", |bencher| {
        let alice = Account::new();
        bencher.iter_batched(
            olm_bob,
            |mut bob| {
                let (_, first) = olm_open(&alice, &bob, b"first");
                olm_accept(&alice, &mut bob, &first)
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn within_a_chain(criterion: &mut Criterion) {
    let text = vec![0x5a; PAYLOAD_BYTES_MAX];
    let mut group = criterion.benchmark_group("a full envelope within a chain");
    group.throughput(Throughput::Bytes(PAYLOAD_BYTES_MAX as u64));
    group.bench_function("chatterbox, encrypt", |bencher| {
        let mut pair = Pair::new();
        bencher.iter(|| seal(&mut pair.alice, &text));
    });
    group.bench_function("vodozemac, encrypt", |bencher| {
        let (mut alice, _) = olm_pair();
        bencher.iter(|| alice.encrypt(&text).unwrap());
    });
    group.bench_function("chatterbox, encrypt and decrypt", |bencher| {
        let mut pair = Pair::new();
        bencher.iter(|| {
            let sealed = seal(&mut pair.alice, &text);
            receive(&mut pair.bob, &sealed)
        });
    });
    group.bench_function("vodozemac, encrypt and decrypt", |bencher| {
        let (mut alice, mut bob) = olm_pair();
        bencher.iter(|| {
            let sealed = alice.encrypt(&text).unwrap();
            bob.decrypt(&sealed).unwrap()
        });
    });
    group.finish();
}

fn steps(criterion: &mut Criterion) {
    let text = vec![0x5a; PAYLOAD_BYTES_MAX];
    let mut group = criterion.benchmark_group("a round trip: two envelopes, two steps");
    group.bench_function("chatterbox", |bencher| {
        let mut pair = Pair::new();
        bencher.iter(|| {
            let sealed = seal(&mut pair.alice, &text);
            receive(&mut pair.bob, &sealed);
            let sealed = seal(&mut pair.bob, &text);
            receive(&mut pair.alice, &sealed)
        });
    });
    group.bench_function("vodozemac", |bencher| {
        let (mut alice, mut bob) = olm_pair();
        bencher.iter(|| {
            let sealed = alice.encrypt(&text).unwrap();
            bob.decrypt(&sealed).unwrap();
            let sealed = bob.encrypt(&text).unwrap();
            alice.decrypt(&sealed).unwrap()
        });
    });
    group.bench_function("of that, ML-KEM-768 (two of: make a pair, encapsulate, decapsulate)", |bencher| {
        bencher.iter(|| {
            for _ in 0..2 {
                let pair = DecapsulationKey::random(&mut OsRng);
                let (ciphertext, _) = pair.public().encapsulate(&mut OsRng).unwrap();
                black_box(pair.decapsulate(&ciphertext));
            }
        });
    });
    group.finish();
}

/// The shortest of many short runs: what the machine's other work does not touch.
fn shortest(mut run: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..300 {
        let start = Instant::now();
        for _ in 0..10 {
            run();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e5);
    }
    best
}

fn ratios() {
    let text = vec![0x5a; PAYLOAD_BYTES_MAX];
    let (mut pair, (mut alice, mut bob)) = (Pair::new(), olm_pair());
    let ours = shortest(|| {
        let sealed = seal(&mut pair.alice, &text);
        receive(&mut pair.bob, &sealed);
    });
    let theirs = shortest(|| {
        let sealed = alice.encrypt(&text).unwrap();
        bob.decrypt(&sealed).unwrap();
    });
    let ratio = ours / theirs;
    println!(
        "within a chain, encrypt and decrypt: {ours:.1} us, vodozemac {theirs:.1} us, ratio {ratio:.2} (target: 1)"
    );
}

fn main() {
    let mut criterion =
        Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    criterion = criterion.configure_from_args();
    setup(&mut criterion);
    within_a_chain(&mut criterion);
    steps(&mut criterion);
    ratios();
    criterion.final_summary();
}
