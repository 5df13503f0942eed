//! A standing session: sending, and the step that begins a sending chain.

use std::fmt;

use rand_core::CryptoRngCore;

use super::derive::{self, Mixed};
use super::refused::BadPeerKey;
use crate::crypto::dh::{PublicKey, SecretKey};
use crate::crypto::kem::{DecapsulationKey, EncapsulationKey};
use crate::crypto::secret::Secret;
use crate::limits::{NEXT_TAG_WINDOW, TAG_WINDOW};
use crate::wire::header::Header;
use crate::wire::identity::Identity;
use crate::wire::sealing::{AuthKey, Sealing, Tag};
use crate::wire::session::{KeyPair, NextChain, SendingChain, SessionState};
use crate::wire::state::AccountKeys;

/// One ratchet with one peer.
#[derive(Clone, PartialEq)]
pub struct Session {
    pub(super) state: SessionState,
}

impl Session {
    /// From its state on disk.
    pub fn new(state: SessionState) -> Self {
        Self { state }
    }

    /// Its state, for the disk.
    pub fn state(&self) -> &SessionState {
        &self.state
    }

    /// Who it is with.
    pub fn peer(&self) -> &Identity {
        &self.state.peer
    }

    /// Both sides send only in the session with the highest; ties go to the lower [`Session::opening_hash`].
    pub fn generation(&self) -> u64 {
        self.state.generation
    }

    /// What its opening is known by.
    pub fn opening_hash(&self) -> &[u8; 32] {
        &self.state.opening
    }

    /// Steps the sending chain and hands out the keys of the next message. The state must be on disk before anything
    /// sealed with them leaves this machine.
    pub fn send(&mut self, ours: &Identity, rng: &mut impl CryptoRngCore) -> Sealing {
        let sending = &mut self.state.sending;
        let counter = sending.counter;
        let (seed, chain_key) = derive::advance(sending.chain_key.clone());
        let random = *Secret::<32>::random(rng).expose();
        sending.chain_key = chain_key;
        // No chain gets that far; a damaged disk may say that it did.
        sending.counter = sending.counter.saturating_add(1);
        Sealing {
            tag: derive::tag(&sending.tag_key, counter),
            ephemeral: None,
            header_key: sending.header_key.clone(),
            header: Header {
                opens: false,
                counter,
                previous: sending.previous,
                random,
                ratchet: self.state.ratchet.0.public(),
                auth: self.state.auth.0.public(),
                kem: self.state.kem.public().clone(),
                ciphertext: sending.ciphertext.clone(),
            },
            opening: None,
            message_key: derive::message_key(seed, &random),
            auth: AuthKey {
                key: sending.auth_key.clone(),
                sender: *ours,
                recipient: self.state.peer,
                recipient_auth: sending.peer_auth,
            },
        }
    }

    /// The tags that the peer's coming messages may carry: [`TAG_WINDOW`] of its open chain, [`NEXT_TAG_WINDOW`] of its
    /// next chain, and those of every message that was jumped over.
    pub fn expected_tags(&self) -> Vec<Tag> {
        let mut tags: Vec<Tag> =
            (0..NEXT_TAG_WINDOW).map(|counter| derive::tag(&self.state.next_receiving.tag_key, counter)).collect();
        for chain in &self.state.receiving {
            tags.extend(chain.skipped.keys().map(|counter| derive::tag(&chain.tag_key, *counter)));
            if chain.chain_key.is_some() {
                let window = chain.counter..chain.counter.saturating_add(TAG_WINDOW);
                tags.extend(window.map(|counter| derive::tag(&chain.tag_key, counter)));
            }
        }
        tags
    }
}

/// Where a session stood when its tags were announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    chain: Option<PublicKey>,
    counter: u64,
}

impl Session {
    /// Where it stands now.
    pub fn announced(&self) -> Announced {
        let open = self.state.receiving.iter().rev().find(|chain| chain.chain_key.is_some());
        Announced { chain: open.map(|chain| chain.peer_ratchet), counter: open.map_or(0, |chain| chain.counter) }
    }

    /// Whether the tags announced then no longer reach far enough: the peer began another chain, or half of the window
    /// is behind us. Making them anew for each message would cost more than all the rest of its ratchet.
    pub fn has_outrun(&self, before: &Announced) -> bool {
        let now = self.announced();
        now.chain != before.chain || now.counter >= before.counter.saturating_add(TAG_WINDOW / 2)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Session")
            .field("generation", &self.state.generation)
            .field("peer", &"_")
            .field("keys", &"_")
            .finish()
    }
}

/// What a sending chain begins with.
pub(super) struct SendingStart<'a> {
    pub(super) root: Secret<32>,
    pub(super) chain: NextChain,
    pub(super) peer_ratchet: PublicKey,
    pub(super) peer_auth: PublicKey,
    pub(super) peer_kem: &'a EncapsulationKey,
    pub(super) previous: u64,
}

/// What the step made.
pub(super) struct SendingStep {
    pub(super) root: Secret<32>,
    pub(super) ratchet: KeyPair,
    pub(super) auth: KeyPair,
    pub(super) kem: DecapsulationKey,
    pub(super) sending: SendingChain,
    pub(super) next_sending: NextChain,
}

impl SendingStart<'_> {
    /// Makes fresh ratchet, auth and KEM pairs, encapsulates to the peer, and begins a chain with all that.
    pub(super) fn step(self, ours: &AccountKeys, rng: &mut impl CryptoRngCore) -> Result<SendingStep, BadPeerKey> {
        let ratchet = SecretKey::random(rng);
        let (ciphertext, encapsulated) = self.peer_kem.encapsulate(rng)?;
        let mixed = Mixed {
            shared: ratchet.agree(&self.peer_ratchet)?,
            encapsulated,
            sender: &ratchet.public(),
            recipient: &self.peer_ratchet,
            kem: self.peer_kem,
            ciphertext: &ciphertext,
        };
        let stepped = derive::step(&self.root, &mixed);
        let auth_key = derive::auth_key(&ours.auth, &self.peer_auth, &ours.auth.public(), &self.peer_auth)?;
        Ok(SendingStep {
            root: stepped.root,
            ratchet: KeyPair(ratchet),
            auth: KeyPair(SecretKey::random(rng)),
            kem: DecapsulationKey::random(rng),
            sending: SendingChain {
                header_key: self.chain.header_key,
                tag_key: self.chain.tag_key,
                chain_key: stepped.chain_key,
                counter: 0,
                previous: self.previous,
                auth_key,
                peer_auth: self.peer_auth,
                ciphertext,
                since: 0,
                accepted: 0,
            },
            next_sending: stepped.next,
        })
    }
}
