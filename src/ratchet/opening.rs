//! How a session begins: with a prekey and an ephemeral key on the opener's side, with the prekey's secrets on the
//! other.

use std::collections::BTreeMap;

use rand_core::CryptoRngCore;

use super::derive::{self, Mixed, Roots, Stepped};
use super::refused::{BadPeerKey, Refused};
use super::session::{SendingStart, Session};
use crate::crypto::dh::{PublicKey, SecretKey};
use crate::crypto::hash::sha256;
use crate::crypto::sealing::SealKey;
use crate::crypto::secret::Secret;
use crate::wire::header::{Header, Opening};
use crate::wire::identity::Identity;
use crate::wire::prekey::SignedPrekey;
use crate::wire::sealing::{AuthKey, Sealing, Tag};
use crate::wire::session::{ReceivingChain, SessionState};
use crate::wire::state::{AccountKeys, PrekeySecret};

/// What an opening is known by: SHA-256 of its tag and ephemeral key, the first 48 bytes of its envelope.
pub fn opening_hash(tag: &Tag, ephemeral: &PublicKey) -> [u8; 32] {
    sha256(&[tag, &ephemeral.0])
}

/// Opens a session with `peer` through one of its prekeys, whose signature and expiry the caller has checked. Hands
/// out the session and the keys of its first message, which must leave before any other.
///
/// # Errors
/// [`BadPeerKey`] if a key of the prekey is a trap.
pub fn open(
    ours: &AccountKeys,
    peer: Identity,
    prekey: &SignedPrekey,
    generation: u64,
    now_s: u64,
    rng: &mut impl CryptoRngCore,
) -> Result<(Session, Sealing), BadPeerKey> {
    let ephemeral = SecretKey::random(rng);
    let shared = ephemeral.agree(&prekey.ratchet)?;
    let Roots { root, opener, responder } = derive::opening(&shared, &prekey.hash(&peer), &ephemeral.public());
    let tag = prekey.tag();
    let start = SendingStart {
        root,
        chain: opener,
        peer_ratchet: prekey.ratchet,
        peer_auth: prekey.auth,
        peer_kem: &prekey.kem,
        previous: 0,
    };
    let stepped = start.step(ours, rng)?;
    let mut session = Session::new(SessionState {
        peer,
        generation,
        opening: opening_hash(&tag, &ephemeral.public()),
        created: now_s,
        root: stepped.root,
        ratchet: stepped.ratchet,
        auth: stepped.auth,
        kem: stepped.kem,
        sending: stepped.sending,
        next_sending: stepped.next_sending,
        next_receiving: responder,
        receiving: Vec::new(),
        retired: 0,
    });
    let mut first = session.send(&ours.identity(), rng);
    first.tag = tag;
    first.ephemeral = Some(ephemeral.public());
    first.header.opens = true;
    first.opening = Some(Opening { generation, identity: ours.identity() });
    Ok((session, first))
}

/// The recipient's first look at an opening: what opens its header.
pub struct OpeningKeys<'a> {
    ours: &'a AccountKeys,
    prekey: &'a PrekeySecret,
    ephemeral: PublicKey,
    roots: Roots,
}

/// The second look: what opens its body, in which its author is named.
pub struct OpeningBody<'a> {
    keys: OpeningKeys<'a>,
    header: &'a Header,
    stepped: Stepped,
    /// Behind the first message's.
    chain_key: Secret<32>,
}

/// The third: what proves that author. Nothing is believed, and nothing has changed, before that.
pub struct OpeningAuthor<'a> {
    body: OpeningBody<'a>,
    opening: Opening,
    auth: AuthKey,
}

impl<'a> OpeningKeys<'a> {
    /// From the prekey that the envelope's tag names and the envelope's ephemeral key.
    ///
    /// # Errors
    /// [`Refused::BadKey`].
    pub fn derive(ours: &'a AccountKeys, prekey: &'a PrekeySecret, ephemeral: PublicKey) -> Result<Self, Refused> {
        let shared = prekey.ratchet.agree(&ephemeral)?;
        let roots = derive::opening(&shared, &prekey.prekey.hash(&ours.identity()), &ephemeral);
        Ok(Self { ours, prekey, ephemeral, roots })
    }

    /// Opens the header.
    pub fn header_key(&self) -> &SealKey {
        &self.roots.opener.header_key
    }

    /// What this opening is known by, to recognize a replay.
    pub fn opening_hash(&self) -> [u8; 32] {
        opening_hash(&self.prekey.prekey.tag(), &self.ephemeral)
    }

    /// Goes on with the header, and hands out the key of the body.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn body(self, header: &'a Header) -> Result<(SealKey, OpeningBody<'a>), Refused> {
        // A chain begins with its opening; a counter above zero would be a forgery by the opener itself.
        if !header.opens || header.counter != 0 || header.previous != 0 {
            return Err(Refused::Inconsistent);
        }
        let prekey = self.prekey;
        let mixed = Mixed {
            shared: prekey.ratchet.agree(&header.ratchet)?,
            encapsulated: prekey.kem.decapsulate(&header.ciphertext),
            sender: &header.ratchet,
            recipient: &prekey.prekey.ratchet,
            kem: &prekey.prekey.kem,
            ciphertext: &header.ciphertext,
        };
        let mut stepped = derive::step(&self.roots.root, &mixed);
        let (seed, chain_key) = derive::advance(std::mem::replace(&mut stepped.chain_key, Secret::new([0; 32])));
        Ok((derive::message_key(seed, &header.random), OpeningBody { keys: self, header, stepped, chain_key }))
    }
}

impl<'a> OpeningBody<'a> {
    /// Goes on with what the body claims.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn author(self, opening: Opening) -> Result<OpeningAuthor<'a>, Refused> {
        let (ours, prekey) = (self.keys.ours, self.keys.prekey);
        let (sender, recipient_auth) = (opening.identity, prekey.auth.public());
        let key = derive::auth_key(&prekey.auth, &sender.auth, &sender.auth, &recipient_auth)?;
        let auth = AuthKey { key, sender, recipient: ours.identity(), recipient_auth };
        Ok(OpeningAuthor { body: self, opening, auth })
    }
}

impl OpeningAuthor<'_> {
    /// Checks the MAC in the body.
    pub fn auth_key(&self) -> &AuthKey {
        &self.auth
    }

    /// The session, once the author is proved. The caller erases the prekey's secrets in the transaction that stores the
    /// message.
    ///
    /// # Errors
    /// [`Refused::BadKey`].
    pub fn accept(self, now_s: u64, rng: &mut impl CryptoRngCore) -> Result<Session, Refused> {
        let Self { body: OpeningBody { keys, header, stepped, chain_key }, opening, auth } = self;
        let hash = keys.opening_hash();
        let Roots { opener, responder, .. } = keys.roots;
        let receiving = ReceivingChain {
            header_key: opener.header_key,
            tag_key: opener.tag_key,
            chain_key: Some(chain_key),
            counter: 1,
            auth_key: auth.key,
            peer_ratchet: header.ratchet,
            our_auth: auth.recipient_auth,
            skipped: BTreeMap::new(),
            since: 0,
        };
        let start = SendingStart {
            root: stepped.root,
            chain: responder,
            peer_ratchet: header.ratchet,
            peer_auth: header.auth,
            peer_kem: &header.kem,
            previous: 0,
        };
        let sending = start.step(keys.ours, rng)?;
        Ok(Session::new(SessionState {
            peer: opening.identity,
            generation: opening.generation,
            opening: hash,
            created: now_s,
            root: sending.root,
            ratchet: sending.ratchet,
            auth: sending.auth,
            kem: sending.kem,
            sending: sending.sending,
            next_sending: sending.next_sending,
            next_receiving: stepped.next,
            receiving: vec![receiving],
            retired: 0,
        }))
    }
}
