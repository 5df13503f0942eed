//! An attacker who holds all that was on the wire, and what he stole or can compute. Written from `docs/protocol.md`, not from
//! the code: he derives every key that follows from what he has, and where he lacks a secret he tries all others, and none,
//! in its place.

use std::collections::BTreeMap;

use chatterbox::crypto::dh::{PublicKey, SharedSecret};
use chatterbox::crypto::hash::sha256;
use chatterbox::crypto::kdf::{hkdf, hmac};
use chatterbox::crypto::kem::{EncapsulationKey, KemSecret};
use chatterbox::crypto::sealing::SealKey;
use chatterbox::crypto::secret::Secret;
use chatterbox::crypto::secretbox::ZERO_NONCE;
use chatterbox::envelope;
use chatterbox::limits::CHAIN_JUMP_MAX;
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::header::Header;
use chatterbox::wire::session::{SessionState, sessions_from_bytes};

use crate::attacks_ratchet::talk::{ALICE, BOB, Secrets, Snapshot, Talk};

/// Where the body's box begins.
pub const BODY_AT: usize = 2_474;
/// Inside that box: behind MAC and opening.
const LENGTH_AT: usize = 16 + 72;

struct Chain {
    header_key: SealKey,
    /// The chain key of this position, unless the chain is closed.
    at: Option<(Secret<32>, u64)>,
    skipped: BTreeMap<u64, Secret<32>>,
}

pub struct Thief {
    secrets: Secrets,
    root: Secret<32>,
    chains: Vec<Chain>,
    /// Header keys of the next chain of either side.
    next: [SealKey; 2],
    /// The newest ratchet and KEM key of either side, once seen.
    publics: [Option<(PublicKey, EncapsulationKey)>; 2],
}

impl Thief {
    /// With the whole state of one side, its long-term auth key, and what else is broken.
    pub fn of_state(talk: &Talk, snapshot: &Snapshot, broken: &Secrets) -> Self {
        let state: SessionState = sessions_from_bytes(&snapshot.bytes).unwrap().0.pop().unwrap();
        let mut secrets = broken.clone();
        let long_term = talk.sides[snapshot.of].keys.auth.clone();
        secrets.x25519.extend([state.ratchet.0.clone(), state.auth.0.clone(), long_term]);
        secrets.kem.push(state.kem.clone());
        let mut publics = [None, None];
        publics[snapshot.of] = Some((state.ratchet.0.public(), state.kem.public().clone()));
        let mut next = [state.next_sending.header_key.clone(), state.next_receiving.header_key.clone()];
        if snapshot.of == BOB {
            next.reverse();
        }
        let ours = Chain {
            header_key: state.sending.header_key.clone(),
            at: Some((state.sending.chain_key.clone(), state.sending.counter)),
            skipped: BTreeMap::new(),
        };
        let theirs = state.receiving.iter().map(|chain| Chain {
            header_key: chain.header_key.clone(),
            at: chain.chain_key.clone().map(|key| (key, chain.counter)),
            skipped: chain.skipped.iter().map(|(counter, skipped)| (*counter, skipped.seed.clone())).collect(),
        });
        let chains = theirs.chain([ours]).collect();
        Self { secrets, root: state.root.clone(), chains, next, publics }
    }

    /// With nothing but what was recorded from the opening on, and what is broken. `None` if he does not get as far as the
    /// opening's header.
    pub fn of_recording(talk: &Talk, broken: &Secrets) -> Option<Self> {
        let (opening, prekey) = (&talk.sent[0].envelope, &talk.prekey.prekey);
        let ephemeral = envelope::ephemeral(opening);
        let info = [&b"chatterbox 1 opening\0"[..], &prekey.hash(talk.sides[ALICE].session.peer()), &ephemeral.0];
        broken.x25519.iter().find_map(|secret| {
            let shared = secret.agree(&ephemeral).unwrap();
            let keys: Secret<160> = hkdf(&[0; 32], shared.expose(), &info);
            let next = [SealKey::new(part(&keys, 1)), SealKey::new(part(&keys, 3))];
            envelope::open_header(opening, &next[ALICE])?;
            let publics = [None, Some((prekey.ratchet, prekey.kem.clone()))];
            Some(Self { secrets: broken.clone(), root: part(&keys, 0), chains: Vec::new(), next, publics })
        })
    }

    /// The header of the recorded opening.
    pub fn opening_header(&self, opening: &Envelope) -> Header {
        envelope::open_header(opening, &self.next[ALICE]).unwrap()
    }

    /// What he reads of these envelopes, in any order, until he gets no further.
    pub fn read(&mut self, envelopes: &[&Envelope]) -> Vec<Option<Vec<u8>>> {
        let mut read: Vec<Option<Vec<u8>>> = vec![None; envelopes.len()];
        loop {
            let mut progress = false;
            for (envelope, read) in envelopes.iter().zip(&mut read) {
                if read.is_none() {
                    *read = self.open(envelope);
                    progress |= read.is_some();
                }
            }
            if !progress {
                return read;
            }
        }
    }

    fn open(&mut self, envelope: &Envelope) -> Option<Vec<u8>> {
        let in_chain = self.chains.iter().find_map(|chain| chain.open(envelope));
        in_chain.or_else(|| self.step(ALICE, envelope)).or_else(|| self.step(BOB, envelope))
    }

    /// Follows a step of `sender`'s, with every secret that may be the right one.
    fn step(&mut self, sender: usize, envelope: &Envelope) -> Option<Vec<u8>> {
        let header = envelope::open_header(envelope, &self.next[sender])?;
        let (ratchet, kem) = self.publics[1 - sender].clone()?;
        let publics = sha256(&[kem.as_bytes(), header.ciphertext.as_bytes()]);
        let info = [&b"chatterbox 1 step\0"[..], &header.ratchet.0, &ratchet.0, &publics];
        for shared in self.agreements(&ratchet, &header) {
            for encapsulated in self.encapsulated(&kem, &header) {
                let secrets = [*shared.expose(), *encapsulated.expose()].concat();
                let keys: Secret<128> = hkdf(self.root.expose(), &secrets, &[info[0], info[1], info[2], info[3]]);
                let header_key = self.next[sender].clone();
                let chain = Chain { header_key, at: Some((part(&keys, 1), 0)), skipped: BTreeMap::new() };
                if let Some(text) = chain.open(envelope) {
                    self.chains.push(chain);
                    self.root = part(&keys, 0);
                    self.next[sender] = SealKey::new(part(&keys, 2));
                    self.publics[sender] = Some((header.ratchet, header.kem.clone()));
                    return Some(text);
                }
            }
        }
        None
    }

    /// The agreement of the two ratchet keys, or, without either secret, of one of them with each secret that he has.
    fn agreements(&self, recipient: &PublicKey, header: &Header) -> Vec<SharedSecret> {
        let secrets = &self.secrets.x25519;
        for (one, other) in [(recipient, &header.ratchet), (&header.ratchet, recipient)] {
            if let Some(secret) = secrets.iter().find(|secret| secret.public() == *one) {
                return vec![secret.agree(other).unwrap()];
            }
        }
        let guesses =
            secrets.iter().flat_map(|secret| [recipient, &header.ratchet].map(|key| secret.agree(key).unwrap()));
        guesses.chain([Secret::new([0; 32])]).collect()
    }

    /// What the ciphertext holds, or, without the key for it, what each that he has makes of it.
    fn encapsulated(&self, recipient: &EncapsulationKey, header: &Header) -> Vec<KemSecret> {
        let pairs = &self.secrets.kem;
        match pairs.iter().find(|pair| pair.public() == recipient) {
            Some(pair) => vec![pair.decapsulate(&header.ciphertext)],
            None => {
                let guesses = pairs.iter().map(|pair| pair.decapsulate(&header.ciphertext));
                guesses.chain([Secret::new([0; 32])]).collect()
            }
        }
    }
}

impl Chain {
    fn open(&self, envelope: &Envelope) -> Option<Vec<u8>> {
        let header = envelope::open_header(envelope, &self.header_key)?;
        let seed = match (self.skipped.get(&header.counter), &self.at) {
            (Some(seed), _) => seed.clone(),
            (None, Some((key, counter))) if header.counter >= *counter => walk(key, header.counter - counter)?,
            _ => return None,
        };
        let message_key = SealKey::new(hmac(seed.expose(), &[b"chatterbox 1 message key\0", &header.random]));
        let body = message_key.open(&ZERO_NONCE, &envelope.as_bytes()[BODY_AT..]).ok()?;
        let length = usize::from(u16::from_le_bytes([body[LENGTH_AT], body[LENGTH_AT + 1]]));
        Some(body[LENGTH_AT + 2..][..length].to_vec())
    }
}

fn walk(key: &Secret<32>, steps: u64) -> Option<Secret<32>> {
    let mut key = key.clone();
    for _ in 0..Some(steps).filter(|steps| *steps <= CHAIN_JUMP_MAX)? {
        key = hmac(key.expose(), &[b"chatterbox 1 chain\0"]);
    }
    Some(hmac(key.expose(), &[b"chatterbox 1 message seed\0"]))
}

fn part<const N: usize>(keys: &Secret<N>, number: usize) -> Secret<32> {
    Secret::from_slice(&keys.expose()[number * 32..][..32]).unwrap()
}
