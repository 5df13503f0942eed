//! Receiving, by the number of contacts: from an envelope to its payload and the changed session's bytes, for 1, 100, 1,000
//! and 10,000 contacts who have a session with us, each message from another of them.
//!
//! `cargo bench --bench contacts`; the last line is the ratio that `docs/performance.md` keeps.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use chatterbox::client::sessions::Sessions;
use chatterbox::client::trials::Hints;
use chatterbox::crypto::dh::SecretKey;
use chatterbox::crypto::sign::SigningKey;
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::prekey::PrekeyKind;
use chatterbox::wire::state::{AccountKeys, PrekeySecret};
use rand_core::OsRng;

const CONTACTS: [usize; 4] = [1, 100, 1_000, 10_000];
const MESSAGES: usize = 1_000;
const ROUNDS: usize = 7;
const TARGET: f64 = 1.5;

fn account() -> AccountKeys {
    AccountKeys {
        signing: SigningKey::random(&mut OsRng),
        auth: SecretKey::random(&mut OsRng),
        transport: SecretKey::random(&mut OsRng),
    }
}

/// One contact's side.
struct Contact {
    keys: AccountKeys,
    sessions: Sessions,
}

struct Bob {
    keys: AccountKeys,
    sessions: Sessions,
    contacts: Vec<Contact>,
    next: usize,
}

impl Bob {
    fn with(contacts: usize) -> Self {
        let mut bob = Self { keys: account(), sessions: Sessions::default(), contacts: Vec::new(), next: 0 };
        for _ in 0..contacts {
            let mut contact = Contact { keys: account(), sessions: Sessions::default() };
            let prekey = PrekeySecret::random(PrekeyKind::OneTime, u64::MAX, &bob.keys, &mut OsRng);
            let peer = bob.keys.identity();
            let opened =
                contact.sessions.open_and_seal(&contact.keys, &peer, &prekey.prekey, b"first", 1_000_000, &mut OsRng);
            bob.sessions.accept(&bob.keys, &prekey, &opened.unwrap(), 1, &mut OsRng, |_, _| Ok(())).unwrap();
            bob.contacts.push(contact);
        }
        bob
    }

    /// Seconds a message.
    fn receive(&mut self) -> f64 {
        let peer = self.keys.identity().fingerprint();
        let sealed: Vec<Envelope> = (0..MESSAGES)
            .map(|_| {
                // A stride through all of them: no two in a row are neighbours.
                self.next = (self.next + 7_919) % self.contacts.len();
                let contact = &mut self.contacts[self.next];
                contact.sessions.seal(&contact.keys, &peer, b"text", 1, &mut OsRng).unwrap().unwrap()
            })
            .collect();
        let start = Instant::now();
        for envelope in &sealed {
            let opened = self.sessions.open(&self.keys, envelope, Hints::NONE, 1, &mut OsRng, |_, _| Ok(()));
            opened.unwrap();
            black_box(self.sessions.take_dirty());
        }
        start.elapsed().as_secs_f64() / MESSAGES as f64
    }
}

fn main() {
    let mut best = [f64::MAX; CONTACTS.len()];
    let mut bobs = CONTACTS.map(Bob::with);
    for _ in 0..ROUNDS {
        for (bob, best) in bobs.iter_mut().zip(&mut best) {
            *best = best.min(bob.receive());
        }
    }
    for (contacts, seconds) in CONTACTS.iter().zip(best) {
        println!("{contacts:>6} contacts: {:.1} us a message", seconds * 1e6);
    }
    let ratio = best[CONTACTS.len() - 1] / best[0];
    println!("10,000 contacts to 1: {ratio:.2} (target: at most {TARGET})");
}
