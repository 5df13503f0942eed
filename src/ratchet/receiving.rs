//! Receiving in a standing session: derive on the side, authenticate, then commit.

use std::collections::BTreeMap;

use rand_core::CryptoRngCore;

use super::derive::{self, Mixed};
use super::refused::Refused;
use super::session::{SendingStart, SendingStep, Session};
use crate::crypto::sealing::SealKey;
use crate::crypto::secret::Secret;
use crate::limits::{CHAIN_JUMP_MAX, RECEIVING_CHAINS_MAX, SKIPPED_KEY_LIFETIME_S, SKIPPED_KEYS_MAX};
use crate::wire::header::Header;
use crate::wire::sealing::AuthKey;
use crate::wire::session::{NextChain, ReceivingChain, SkippedKey};
use crate::wire::state::AccountKeys;

/// Which of the peer's chains a header key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainAt {
    /// One that began: its place among the session's receiving chains.
    Begun(usize),
    /// The one that the peer's next step begins.
    Next,
}

/// What committing a message changes.
enum Change {
    /// A skipped key was used.
    Used { chain: usize, counter: u64 },
    /// A chain went on.
    Advanced { chain: usize, walked: Walked },
    /// The peer stepped: its last chain is closed, a new one begins, and so does ours.
    Stepped(Box<Stepped>),
}

struct Stepped {
    /// Keys of the closed chain's messages that have not arrived.
    closed: BTreeMap<u64, SkippedKey>,
    begun: ReceivingChain,
    next_receiving: NextChain,
    sending: SendingStep,
}

/// A walk along a chain up to and including one message.
struct Walked {
    chain_key: Secret<32>,
    counter: u64,
    skipped: BTreeMap<u64, SkippedKey>,
}

impl Session {
    /// The header keys of the peer's chains, the likeliest first: the open one, the next, then closed ones of which
    /// messages are still missing.
    pub fn header_keys(&self) -> impl Iterator<Item = (ChainAt, &SealKey)> {
        let begun = self.state.receiving.iter().enumerate().rev();
        let mut begun = begun.map(|(place, chain)| (ChainAt::Begun(place), &chain.header_key));
        let open = begun.next();
        open.into_iter().chain([(ChainAt::Next, &self.state.next_receiving.header_key)]).chain(begun)
    }

    /// How many messages the one that `header` announces jumps over: what it costs to derive its keys, in steps of a chain. All that
    /// is certain before they are paid is that the header was sealed by somebody who has the session.
    pub fn jump(&self, at: ChainAt, header: &Header) -> u64 {
        let ahead = |chain: &ReceivingChain, counter: u64| match chain.chain_key {
            Some(_) => counter.saturating_sub(chain.counter),
            None => 0,
        };
        match at {
            ChainAt::Begun(place) => self.state.receiving.get(place).map_or(0, |chain| ahead(chain, header.counter)),
            ChainAt::Next => {
                let closed = self.state.receiving.last().map_or(0, |chain| ahead(chain, header.previous));
                closed.saturating_add(header.counter)
            }
        }
    }

    /// Derives the keys of the message that `header` announces, lets `authenticate` open and check the body, and
    /// commits only if it succeeds: a forged or damaged envelope changes nothing.
    ///
    /// # Errors
    /// What `authenticate` says, or [`Refused`] turned into it.
    pub fn receive<T, E: From<Refused>>(
        &mut self,
        ours: &AccountKeys,
        at: ChainAt,
        header: &Header,
        now_s: u64,
        rng: &mut impl CryptoRngCore,
        authenticate: impl FnOnce(SealKey, &AuthKey) -> Result<T, E>,
    ) -> Result<T, E> {
        let (seed, auth, change) = self.plan(ours, at, header, now_s, rng)?;
        let accepted = authenticate(derive::message_key(seed, &header.random), &auth)?;
        self.commit(change);
        Ok(accepted)
    }

    fn plan(
        &self,
        ours: &AccountKeys,
        at: ChainAt,
        header: &Header,
        now_s: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Result<(Secret<32>, AuthKey, Change), Refused> {
        if header.opens {
            return Err(Refused::Inconsistent);
        }
        // Both walks of a step together, before the first is paid.
        if self.jump(at, header) > CHAIN_JUMP_MAX {
            return Err(Refused::TooFarAhead);
        }
        match at {
            ChainAt::Begun(place) => self.plan_begun(ours, place, header, now_s),
            ChainAt::Next => self.plan_next(ours, header, now_s, rng),
        }
    }

    fn plan_begun(
        &self,
        ours: &AccountKeys,
        place: usize,
        header: &Header,
        now_s: u64,
    ) -> Result<(Secret<32>, AuthKey, Change), Refused> {
        let chain = self.state.receiving.get(place).ok_or(Refused::Inconsistent)?;
        if header.ratchet != chain.peer_ratchet {
            return Err(Refused::Inconsistent);
        }
        let auth = AuthKey {
            key: chain.auth_key.clone(),
            sender: self.state.peer,
            recipient: ours.identity(),
            recipient_auth: chain.our_auth,
        };
        if header.counter < chain.counter {
            let skipped = chain.skipped.get(&header.counter).ok_or(Refused::AlreadyUsed)?;
            return Ok((skipped.seed.clone(), auth, Change::Used { chain: place, counter: header.counter }));
        }
        let chain_key = chain.chain_key.clone().ok_or(Refused::AlreadyUsed)?;
        let (seed, walked) = walk(chain_key, chain.counter, header.counter, now_s);
        Ok((seed, auth, Change::Advanced { chain: place, walked }))
    }

    fn plan_next(
        &self,
        ours: &AccountKeys,
        header: &Header,
        now_s: u64,
        rng: &mut impl CryptoRngCore,
    ) -> Result<(Secret<32>, AuthKey, Change), Refused> {
        let state = &self.state;
        let closed = match state.receiving.last() {
            Some(ReceivingChain { chain_key: Some(key), counter, .. }) if header.previous > *counter => {
                walk_to_end(key.clone(), *counter, header.previous, now_s)
            }
            _ => BTreeMap::new(),
        };
        let our_ratchet = &state.ratchet.0;
        let mixed = Mixed {
            shared: our_ratchet.agree(&header.ratchet)?,
            encapsulated: state.kem.decapsulate(&header.ciphertext),
            sender: &header.ratchet,
            recipient: &our_ratchet.public(),
            kem: state.kem.public(),
            ciphertext: &header.ciphertext,
        };
        let stepped = derive::step(&state.root, &mixed);
        let (seed, walked) = walk(stepped.chain_key, 0, header.counter, now_s);
        let our_auth = state.auth.0.public();
        let auth_key = derive::auth_key(&state.auth.0, &state.peer.auth, &state.peer.auth, &our_auth)?;
        let start = SendingStart {
            root: stepped.root,
            chain: state.next_sending.clone(),
            peer_ratchet: header.ratchet,
            peer_auth: header.auth,
            peer_kem: &header.kem,
            previous: state.sending.counter,
        };
        let sending = start.step(ours, rng)?;
        let auth =
            AuthKey { key: auth_key.clone(), sender: state.peer, recipient: ours.identity(), recipient_auth: our_auth };
        let begun = ReceivingChain {
            header_key: state.next_receiving.header_key.clone(),
            tag_key: state.next_receiving.tag_key.clone(),
            chain_key: Some(walked.chain_key),
            counter: walked.counter,
            auth_key,
            peer_ratchet: header.ratchet,
            our_auth,
            skipped: walked.skipped,
            since: 0,
        };
        let stepped = Stepped { closed, begun, next_receiving: stepped.next, sending };
        Ok((seed, auth, Change::Stepped(Box::new(stepped))))
    }

    fn commit(&mut self, change: Change) {
        let state = &mut self.state;
        match change {
            Change::Used { chain, counter } => {
                state.receiving[chain].skipped.remove(&counter);
            }
            Change::Advanced { chain, walked } => {
                let chain = &mut state.receiving[chain];
                chain.chain_key = Some(walked.chain_key);
                chain.counter = walked.counter;
                chain.skipped.extend(walked.skipped);
            }
            Change::Stepped(stepped) => {
                let Stepped { closed, begun, next_receiving, sending } = *stepped;
                if let Some(last) = state.receiving.last_mut() {
                    last.counter = last.counter.max(closed.keys().last().map_or(0, |counter| counter + 1));
                    last.chain_key = None;
                    last.skipped.extend(closed);
                }
                state.receiving.push(begun);
                state.next_receiving = next_receiving;
                state.root = sending.root;
                state.ratchet = sending.ratchet;
                state.auth = sending.auth;
                state.kem = sending.kem;
                state.sending = sending.sending;
                state.next_sending = sending.next_sending;
            }
        }
        self.give_up_oldest();
    }

    /// Erases the seeds of messages that were jumped over too long ago. True if there were any.
    pub fn expire(&mut self, now_s: u64) -> bool {
        let old = |skipped: &SkippedKey| skipped.since.saturating_add(SKIPPED_KEY_LIFETIME_S) <= now_s;
        let mut expired = false;
        for chain in &mut self.state.receiving {
            let before = chain.skipped.len();
            chain.skipped.retain(|_, skipped| !old(skipped));
            expired |= chain.skipped.len() != before;
        }
        self.give_up_oldest();
        expired
    }

    /// Keeps the bounds: a chain that is closed and complete goes, with its auth key; beyond the bounds the oldest
    /// skipped keys go, with a gap.
    fn give_up_oldest(&mut self) {
        let chains = &mut self.state.receiving;
        chains.retain(|chain| chain.chain_key.is_some() || !chain.skipped.is_empty());
        let surplus_chains = chains.len().saturating_sub(RECEIVING_CHAINS_MAX);
        chains.drain(..surplus_chains);
        let kept: usize = chains.iter().map(|chain| chain.skipped.len()).sum();
        let mut surplus = kept.saturating_sub(SKIPPED_KEYS_MAX);
        for chain in chains.iter_mut() {
            while surplus > 0 && chain.skipped.pop_first().is_some() {
                surplus -= 1;
            }
        }
        chains.retain(|chain| chain.chain_key.is_some() || !chain.skipped.is_empty());
    }
}

/// From the chain key of position `from` to the seed of `to` and the chain key behind it. Keys in between are kept,
/// the newest [`SKIPPED_KEYS_MAX`] of them. How far it is was looked at before.
fn walk(mut chain_key: Secret<32>, from: u64, to: u64, now_s: u64) -> (Secret<32>, Walked) {
    let mut skipped = BTreeMap::new();
    for counter in from..to {
        let (seed, next) = derive::advance(chain_key);
        chain_key = next;
        skipped.insert(counter, SkippedKey { seed, since: now_s });
        if skipped.len() > SKIPPED_KEYS_MAX {
            skipped.pop_first();
        }
    }
    let (seed, chain_key) = derive::advance(chain_key);
    // A peer cannot come near the end, a damaged disk can.
    (seed, Walked { chain_key, counter: to.saturating_add(1), skipped })
}

/// The keys of positions `from` to `end` (exclusive) of a chain that ends there.
fn walk_to_end(chain_key: Secret<32>, from: u64, end: u64, now_s: u64) -> BTreeMap<u64, SkippedKey> {
    let last = end - 1;
    let (seed, walked) = walk(chain_key, from, last, now_s);
    let mut skipped = walked.skipped;
    skipped.insert(last, SkippedKey { seed, since: now_s });
    skipped
}
