//! How a session begins: with a prekey and an ephemeral key on the opener's side, with the prekey's secrets on the
//! other.

use std::collections::BTreeMap;
use std::fmt;

use rand_core::CryptoRngCore;

use super::derive::{self, Roots};
use super::receiving::Refused;
use super::session::{SendingStart, Session};
use crate::crypto::dh::{PublicKey, SecretKey, SmallOrder};
use crate::crypto::hash::sha256;
use crate::crypto::secretbox::BoxKey;
use crate::wire::header::{Header, Opening};
use crate::wire::identity::Identity;
use crate::wire::prekey::SignedPrekey;
use crate::wire::sealing::{AuthKey, Sealing, Tag};
use crate::wire::session::{ReceivingChain, SessionState};
use crate::wire::state::{AccountKeys, PrekeySecret};

/// What an opening is known by: SHA-256 of its tag and ephemeral key, the first 48 bytes of its envelope.
fn opening_hash(tag: &Tag, ephemeral: &PublicKey) -> [u8; 32] {
    sha256(&[tag, &ephemeral.0])
}

/// Opens a session with `peer` through one of its prekeys, whose signature and expiry the caller has checked. Hands
/// out the session and the keys of its first message, which must leave before any other.
///
/// # Errors
/// [`SmallOrder`] if a key of the prekey has small order.
pub fn open(
    ours: &AccountKeys,
    peer: Identity,
    prekey: &SignedPrekey,
    generation: u64,
    now_s: u64,
    rng: &mut impl CryptoRngCore,
) -> Result<(Session, Sealing), SmallOrder> {
    let ephemeral = SecretKey::random(rng);
    let shared = ephemeral.agree(&prekey.ratchet)?;
    let Roots { root, opener, responder } = derive::opening(&shared, &prekey.hash(&peer), &ephemeral.public());
    let tag = prekey.tag();
    let start = SendingStart { root, chain: opener, peer_ratchet: prekey.ratchet, peer_auth: prekey.auth, previous: 0 };
    let stepped = start.step(ours, rng)?;
    let mut session = Session::new(SessionState {
        peer,
        generation,
        opening: opening_hash(&tag, &ephemeral.public()),
        created: now_s,
        root: stepped.root,
        ratchet: stepped.ratchet,
        auth: stepped.auth,
        sending: stepped.sending,
        next_sending: stepped.next_sending,
        next_receiving: responder,
        receiving: Vec::new(),
    });
    let mut first = session.send(&ours.identity(), rng);
    first.tag = tag;
    first.ephemeral = Some(ephemeral.public());
    first.header.opening = Some(Opening { generation, identity: ours.identity() });
    Ok((session, first))
}

/// The recipient's first look at an opening: what opens its header.
#[derive(Debug)]
pub struct OpeningKeys<'a> {
    ours: &'a AccountKeys,
    prekey: &'a PrekeySecret,
    ephemeral: PublicKey,
    roots: RootsOnce,
}

struct RootsOnce(Roots);

impl fmt::Debug for RootsOnce {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("_")
    }
}

impl<'a> OpeningKeys<'a> {
    /// From the prekey that the envelope's tag names and the envelope's ephemeral key.
    ///
    /// # Errors
    /// [`SmallOrder`].
    pub fn derive(ours: &'a AccountKeys, prekey: &'a PrekeySecret, ephemeral: PublicKey) -> Result<Self, SmallOrder> {
        let shared = prekey.ratchet.agree(&ephemeral)?;
        let roots = derive::opening(&shared, &prekey.prekey.hash(&ours.identity()), &ephemeral);
        Ok(Self { ours, prekey, ephemeral, roots: RootsOnce(roots) })
    }

    /// Opens the header.
    pub fn header_key(&self) -> &BoxKey {
        &self.roots.0.opener.header_key
    }

    /// What this opening is known by, to recognize a replay.
    pub fn opening_hash(&self) -> [u8; 32] {
        opening_hash(&self.prekey.prekey.tag(), &self.ephemeral)
    }

    /// Derives the session and the first message's keys, lets `authenticate` decide, and hands out the session with
    /// what it made. The caller then erases the prekey's secrets, in the transaction that stores the message.
    ///
    /// # Errors
    /// What `authenticate` says, or [`Refused`] turned into it.
    pub fn accept<T, E: From<Refused>>(
        self,
        header: &Header,
        now_s: u64,
        rng: &mut impl CryptoRngCore,
        authenticate: impl FnOnce(BoxKey, &AuthKey) -> Result<T, E>,
    ) -> Result<(Session, T), E> {
        let opening = header.opening.ok_or(Refused::Inconsistent)?;
        // A chain begins with its opening; a counter above zero would be a forgery by the opener itself.
        if header.counter != 0 || header.previous != 0 {
            return Err(Refused::Inconsistent.into());
        }
        let hash = self.opening_hash();
        let (our_auth, peer) = (self.prekey.auth.public(), opening.identity);
        let auth_key =
            derive::auth_key(&self.prekey.auth, &peer.auth, &peer.auth, &our_auth).map_err(|_| Refused::SmallOrder)?;
        let shared = self.prekey.ratchet.agree(&header.ratchet).map_err(|_| Refused::SmallOrder)?;
        let RootsOnce(Roots { root, opener, responder }) = self.roots;
        let stepped = derive::step(&root, &shared, &header.ratchet, &self.prekey.ratchet.public());
        let (seed, chain_key) = derive::advance(stepped.chain_key);
        let auth =
            AuthKey { key: auth_key.clone(), sender: peer, recipient: self.ours.identity(), recipient_auth: our_auth };
        let accepted = authenticate(derive::message_key(seed, &header.random), &auth)?;
        let receiving = ReceivingChain {
            header_key: opener.header_key,
            tag_key: opener.tag_key,
            chain_key: Some(chain_key),
            counter: 1,
            auth_key,
            peer_ratchet: header.ratchet,
            our_auth,
            skipped: BTreeMap::new(),
        };
        let start = SendingStart {
            root: stepped.root,
            chain: responder,
            peer_ratchet: header.ratchet,
            peer_auth: header.auth,
            previous: 0,
        };
        let sending = start.step(self.ours, rng).map_err(|_| Refused::SmallOrder)?;
        let session = Session::new(SessionState {
            peer,
            generation: opening.generation,
            opening: hash,
            created: now_s,
            root: sending.root,
            ratchet: sending.ratchet,
            auth: sending.auth,
            sending: sending.sending,
            next_sending: sending.next_sending,
            next_receiving: stepped.next,
            receiving: vec![receiving],
        });
        Ok((session, accepted))
    }
}
